"""`ImageGenerator`: pictures from prompts, whatever draws them: a pipeline in this process, or a server behind a URL.

A picture depends on (generator, prompt, negative prompt, seed) alone. Two prompts drawn with the same seed start from
the same noise (common random numbers), which takes most of the luck out of a comparison.

Pictures stay tensors on the device; files are the business of `neuroprompt.image_files`.
"""

import operator
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from neuroprompt import images
from neuroprompt.families import Family, family_of
from neuroprompt.images.config import GeneratorConfig, read_urls
from neuroprompt.prompts import Window, join_negatives

if TYPE_CHECKING:
    from neuroprompt.images.encoder import PromptEncoder


class Drawing(NamedTuple):
    """Pictures, and which of them the safety checker objected to (those are black).

    Attributes:
        images: float32 in [0, 1], on the generator's device. (n, 3, height, width)
        flagged: bool, on the same device. (n,)
    """

    images: Tensor
    flagged: Tensor


class ImageGenerator(ABC):
    """Draws a picture for each prompt and seed.

    Attributes:
        name: What the model is called, in files and reports.
        config: How pictures are drawn, with no None left where what the generator has by default is known.
        device: Where pictures are.
        fingerprint: A hash of everything that a picture depends on besides prompt and seed, for use as a cache key:
            the weights' identity and the settings that change pictures. Settings that only cost time or memory do not
            count.

    Examples:
        >>> generator = ImageGenerator.from_pretrained("embedded", device="cpu")
        >>> tuple(generator(["a castle", "a castle"], seeds=[0, 1]).shape)
        (2, 3, 64, 64)
    """

    name: str
    config: GeneratorConfig
    device: torch.device
    fingerprint: str

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "embedded",
        *,
        device: str | torch.device | None = None,
        config: GeneratorConfig | None = None,
        **overrides: Any,
    ) -> "ImageGenerator":
        """Load a generator.

        Args:
            name: ``embedded``, a folder that a diffusers pipeline was saved to, a hub id, or the URL of a server that
                draws; several of these, with commas, share the work.
            device: Such as ``cuda``; by default the accelerator if there is one.
            config: How to draw: a `RemoteConfig` for a URL.
            **overrides: Fields of the config to replace.

        Raises:
            ModelError: The model cannot be loaded, or a part is not what its config says; pickled weights are refused,
                and no code that comes with a model is run.
            RemoteError: A server does not answer, or refuses.
            ValueError: A setting is out of range, or this model has no use for it.
        """
        # Each is imported when it is asked for: who draws by a URL needs no diffusers.
        kind = images.RemoteGenerator if read_urls(str(name)) else images.PipelineGenerator
        return kind.from_pretrained(name, device=device, config=config, **overrides)

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """The pictures alone: ``draw(prompts, seeds).images``."""
        return self.draw(prompts, seeds).images

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], negatives: Sequence[str | None] | None = None
    ) -> Drawing:
        """Draw a picture for each prompt.

        Args:
            prompts: Texts.
            seeds: A seed for each prompt, from 0 up.
            negatives: A negative prompt for each prompt, in the place of the config's; None is the config's. Where the
                generator takes none they are left out, which is warned of once.

        Raises:
            TypeError: A prompt or a negative prompt is no string, or a seed no whole number.
            ValueError: Not as many seeds or negative prompts as prompts, or a negative seed.
        """
        prompts, seeds = _checked(prompts, seeds)
        against = self._against(negatives, len(prompts))
        if not prompts:
            width, height = self.config.size or (0, 0)
            none = torch.zeros(0, 3, height, width, device=self.device)
            return Drawing(none, torch.zeros(0, dtype=torch.bool, device=self.device))
        return self._draw(prompts, seeds, against)

    @abstractmethod
    def _draw(self, prompts: list[str], seeds: list[int], negatives: list[str | None]) -> Drawing:
        """`draw`, of one prompt or more."""

    def _against(self, negatives: Sequence[str | None] | None, count: int) -> list[str | None]:
        """A negative prompt for each of `count` prompts, or None where the config's is due."""
        if isinstance(negatives, str):
            raise TypeError(f"negatives is the text {negatives[:40]!r}: give a list, with one for each prompt")
        given = [None] * count if negatives is None else list(negatives)
        if len(given) != count:
            raise ValueError(f"{len(given)} negative prompts for {count} prompts: give one for each, or None")
        for negative in given:
            if not isinstance(negative, str | None):
                raise TypeError(f"a negative prompt is {negative!r}: give texts, or None")
        return given if not any(given) or self._heeds_negatives() else [None] * count

    def negative_for(self, *parts: str | None) -> str | None:
        """What `draw` is to be given for a prompt of which the picture must not show these: the config's own negative
        prompt, and they; None where they say nothing, or are left out as in `draw`."""
        return join_negatives(self.config.negative, *parts) if any(parts) and self._heeds_negatives() else None

    def _heeds_negatives(self) -> bool:
        """`takes_negative`, with a warning, once, where that is false."""
        if not self.takes_negative and not self._told:
            self._told = True
            warnings.warn(f"{self.name} takes no negative prompt as it is drawn with: it is left out", stacklevel=4)
        return self.takes_negative

    _told = False

    def encode(self, prompts: Sequence[str]) -> Tensor | None:
        """What the generator reads of each prompt, as one vector: (n, d), float32; None where that is not known."""
        return None

    @property
    def encoder(self) -> "PromptEncoder | None":
        """What reads its prompts, for vectors of texts and of their beginnings; None where that is not known."""
        return None

    @property
    def family(self) -> Family | None:
        """What is known of its kind; None where neither its pipeline nor its name says it."""
        return family_of(self)

    @property
    def window(self) -> Window | None:
        """What is read of a prompt; None where that is not known."""
        return self.family and self.family.window

    @property
    @abstractmethod
    def takes_negative(self) -> bool:
        """Whether a negative prompt changes what is drawn: there is guidance, and it leads away from something."""


def _checked(prompts: Sequence[str], seeds: Sequence[int]) -> tuple[list[str], list[int]]:
    if isinstance(prompts, str):
        raise TypeError(f"prompts is the text {prompts[:40]!r}: give a list of texts")
    texts = list(prompts)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a prompt is {text!r}: give texts")
    try:
        numbers = [operator.index(seed) for seed in seeds]
    except TypeError as error:
        raise TypeError(f"seeds must be whole numbers, one for each prompt: {error}") from None
    if len(texts) != len(numbers):
        raise ValueError(f"{len(numbers)} seeds for {len(texts)} prompts: give one for each")
    if any(number < 0 for number in numbers):
        raise ValueError(f"a seed is {min(numbers)}: give numbers from 0 up")
    return texts, numbers
