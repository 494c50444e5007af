"""What the dialects have in common: a text, a seed and settings go out, pictures come back."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from PIL import Image

from neuroprompt.image_files import decode_image
from neuroprompt.images.config import RemoteConfig
from neuroprompt.prompts import Window
from neuroprompt.wire import Server, Trouble


class Picture(NamedTuple):
    """A picture that a server drew.

    Attributes:
        data: The file, as it came: a PNG, JPEG or WebP; empty where the server withheld it.
        image: The same, decoded (RGB); None likewise.
        flagged: Whether the server's safety check objected.
        model: The server's word for what drew it; None where it does not say.
    """

    data: bytes
    image: Image.Image | None
    flagged: bool = False
    model: str | None = None

    @classmethod
    def of(cls, data: bytes, **said: Any) -> "Picture":
        """Decode a file.

        Raises:
            Trouble: It is no picture, damaged, or of more than `image_files.MAX_PIXELS`.
        """
        try:
            return cls(data, decode_image(data, "its picture"), **said)
        except ValueError as error:
            raise Trouble(str(error), lasting=True) from error

    @classmethod
    def of_base64(cls, text: Any, **said: Any) -> "Picture":
        """Decode a file that stands in JSON; raises as `of`."""
        try:
            data = base64.b64decode(text.rpartition(",")[2], validate=True)  # Forge's older ones have "data:…;base64,"
        except (ValueError, AttributeError) as error:
            raise Trouble("its picture is no base64", lasting=True) from error
        return cls.of(data, **said)


@dataclass(frozen=True)
class Model:
    """What a server says of what it draws with.

    Attributes:
        name: For people.
        identity: What tells it from others: a hash where the server knows one, and the settings on the server's side
            that change pictures.
        seeded: Whether a seed makes a picture repeatable.
        window: What is read of a prompt; None where it does not say.
        takes_negative: Whether it is sent negative prompts.
        defaults: The settings that it draws with where none are given, by the names of `GeneratorConfig`.
    """

    name: str
    identity: tuple[str, ...]
    seeded: bool = True
    window: Window | None = None
    takes_negative: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


class Dialect(Protocol):
    """How a kind of server is spoken to. Made for one server, it may keep what it has learnt of it.

    Whatever a method asks the server raises `RemoteError` and `Trouble`, as `Server.get`.
    """

    title: ClassVar[str]
    """What such servers are called."""

    connections: ClassVar[int]
    """How many requests such a server is sent at a time: more than one where it draws them together."""

    most: int
    """How many pictures of one text, with seeds that follow each other, are drawn for one request."""

    def __init__(self, server: Server, config: RemoteConfig): ...

    @classmethod
    def found(cls, server: Server) -> bool:
        """Whether the server speaks it."""

    def model(self) -> Model:
        """What the server draws with now.

        Raises:
            RemoteError: It has no such model, or no use for a setting.
        """

    def draw(self, text: str, seeds: Sequence[int], config: RemoteConfig) -> list[Picture]:
        """A picture for each seed."""


def listed(answer: Any, key: str, count: int) -> list[Any]:
    """The list of so many things under a key of an answer.

    Raises:
        Trouble: There is none, or it has another length.
    """
    found = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(found, list) or len(found) != count:
        had = len(found) if isinstance(found, list) else "none"
        raise Trouble(f"it answers with {had} pictures where {count} are due", lasting=True)
    return found
