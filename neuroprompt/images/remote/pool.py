"""`Pool`: servers that draw with the same model share the work, as `neuroprompt.pool` has it."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from math import ceil
from threading import Lock
from typing import NamedTuple

from neuroprompt import pool
from neuroprompt.images.config import RemoteConfig, config_of, read_urls, shown_size
from neuroprompt.images.remote.a1111 import A1111
from neuroprompt.images.remote.comfyui import ComfyUI, Workflow
from neuroprompt.images.remote.dialect import Dialect, Model, Picture
from neuroprompt.images.remote.openai import NeuroPrompt, OpenAI
from neuroprompt.wire import RemoteError, Server, Trouble, read_key

DIALECTS: dict[str, type[Dialect]] = {"neuroprompt": NeuroPrompt, "openai": OpenAI, "a1111": A1111, "comfyui": ComfyUI}
"""By the names of `RemoteConfig.api`, in the order in which a server is asked which it speaks."""


class Pool:
    """Servers behind URLs, as one that draws. Nothing is asked of them before `connect` or `draw`.

    Args:
        name: A URL, or several with commas.
        config: How to draw, and how they are spoken to.

    Attributes:
        config: With what the servers say of settings that are None, once they have been asked.
        urls: The servers'.
        model: What they draw with; None before they have been asked.

    Raises:
        ValueError: It is no URL, the workflow is none, or the key's variable is not set.
    """

    def __init__(self, name: str, config: RemoteConfig | None = None):
        self.config = config or config_of(name)
        self.urls, self.model = read_urls(name), None
        if self.config.workflow:
            Workflow(self.config.workflow)
        key = _read_key(self.config.api_key)
        self._given = self.config
        self._servers = pool.Pool("image generator", [_Member(url, self.config, key) for url in self.urls], self._admit)
        self._size = self.config.size

    @property
    def left_out(self) -> dict[str, str]:
        """The servers that are left out now, and why."""
        return self._servers.left_out

    @property
    def fingerprint(self) -> str:
        """A hash of all that a picture depends on besides text and seed, wherever the servers are: what they say of
        their model, and the settings that are asked for."""
        assert self.model is not None, "connect first"
        matters = {name: getattr(self._given, name) for name in _DECISIVE}
        parts = json.dumps([self.model.identity, matters], sort_keys=True)
        return blake2b(parts.encode(), digest_size=16).hexdigest()

    def connect(self) -> Model:
        """Ask the servers that are not left out, or are due again, what they draw with.

        Raises:
            Unavailable: None of them answers.
            RemoteError: One refuses, speaks no known API, or draws with another model than the others; or seeds are
                not taken, and the config does not put up with that.
        """
        self._servers.connect()
        assert self.model is not None
        return self.model

    def draw(
        self,
        texts: Sequence[str],
        seeds: Sequence[int],
        config: RemoteConfig | None = None,
        negatives: Sequence[str | None] | None = None,
    ) -> list[Picture]:
        """A picture for each text and seed (below 2^32), of one size.

        Args:
            config: Other settings for these pictures; by default the pool's.
            negatives: A negative prompt for each text, or None where the config's is due.

        Raises:
            Unavailable: No server is left that answers.
            RemoteError: A server refuses what it is asked.
        """
        self.connect()
        config = config or self.config
        own = config is self.config
        alive = self._servers.alive
        helpers = sum(member.connections for member in alive)
        most = min([ceil(len(texts) / max(1, helpers)), *(member.most for member in alive)])
        jobs = _share(texts, negatives or [None] * len(texts), seeds, most)
        size = _Size(self._size if own else config.size)

        def ask(member: _Member, job: _Job) -> list[Picture]:
            pictures = member.draw(job, config)
            size.check(pictures)
            return pictures

        drawn = self._servers.share(jobs, ask)
        if own:
            self._size = size.due
        pictures = {
            place: picture
            for job, made in zip(jobs, drawn, strict=True)
            for place, picture in zip(job.places, made, strict=True)
        }
        return [pictures[place] for place in range(len(texts))]

    # --- details ---------------------------------------------------------------------------------------------------

    def _admit(self, member: "_Member", found: Model) -> None:
        """Let a server draw, if it draws with the model that the others have.

        Raises:
            RemoteError: It does not; or it takes no seeds, and the config does not put up with that.
        """
        if self.model == found:
            return
        if self.model is not None:
            other = f"another {found.name}" if found.name == self.model.name else found.name
            raise RemoteError(f"{member.url} draws with {other}, and the others with {self.model.name}")
        if not found.seeded and self.config.seeds != "none":
            raise RemoteError(
                f"{member.url} takes no seeds, so that its pictures are not repeatable and no two are drawn from the "
                "same noise: set seeds=none to put up with that"
            )
        self._adopt(found)

    def _adopt(self, model: Model) -> None:
        """Take the first server's model for that of all."""
        if not model.seeded:
            warnings.warn(f"{model.name} takes no seeds: pictures are neither repeatable nor paired", stacklevel=6)
        told = {name: value for name, value in model.defaults.items() if getattr(self.config, name) is None}
        self.model, self.config = model, replace(self.config, **told)
        self._size = self.config.size


class _Member(pool.Member):
    """A server, and how it is spoken to."""

    def __init__(self, url: str, config: RemoteConfig, key: str | None):
        super().__init__(url, config.retries)
        self._server, self._config = Server(url, key, config.timeout), config
        self._dialect: Dialect | None = None
        self._drew_with: str | None = None

    def greet(self) -> Model:
        dialect = self._kind()(self._server, self._config)
        model = dialect.model()
        self._dialect = dialect
        return model

    @property
    def connections(self) -> int:
        return self._config.connections or (self._dialect.connections if self._dialect else 1)

    @property
    def most(self) -> int:
        return self._dialect.most if self._dialect else 1

    def draw(self, job: "_Job", config: RemoteConfig) -> list[Picture]:
        assert self._dialect is not None, "connect first"
        if job.negative is not None:
            config = replace(config, negative=job.negative)
        pictures = self._dialect.draw(job.text, job.seeds, config)
        for picture in pictures:
            self._drew_with = self._drew_with or picture.model
            if picture.model not in (None, self._drew_with):
                raise Trouble("somebody has changed its model meanwhile", lasting=True)
        return pictures

    def _kind(self) -> type[Dialect]:
        api = "comfyui" if self._config.workflow else self._config.api
        kinds = [DIALECTS[api]] if api else DIALECTS.values()
        found = next((kind for kind in kinds if api or kind.found(self._server)), None)
        if found is None:
            raise RemoteError(
                f"{self.url} is none of {', '.join(kind.title for kind in kinds)}: start it with its API (for "
                f"AUTOMATIC1111 and Forge --api), or set api to one of {', '.join(DIALECTS)}"
            )
        return found


class _Job(NamedTuple):
    """A request: one text, and seeds that follow each other, for the pictures at these places."""

    text: str
    negative: str | None
    seeds: list[int]
    places: list[int]


class _Size:
    """The size of all pictures of a call: what is asked for, or that of the first."""

    def __init__(self, due: tuple[int, int] | None):
        self.due = due
        self._lock = Lock()

    def check(self, pictures: Sequence[Picture]) -> None:
        """Raise the `Trouble` of a picture that has another."""
        with self._lock:
            for picture in filter(lambda picture: picture.image, pictures):
                self.due = self.due or picture.image.size
                if picture.image.size != self.due:
                    drawn, due = shown_size(picture.image.size), shown_size(self.due)
                    raise Trouble(f"it draws {drawn} pixels where {due} are due", lasting=True)


_DECISIVE = ("steps", "guidance", "true_cfg", "size", "negative", "scheduler")


def _share(texts: Sequence[str], negatives: Sequence[str | None], seeds: Sequence[int], most: int) -> list[_Job]:
    """Jobs for all pictures, in order: what follows each other of one text and seeds that count up, so many at most."""
    jobs: list[_Job] = []
    for place, (text, negative, seed) in enumerate(zip(texts, negatives, seeds, strict=True)):
        last = jobs[-1] if jobs else None
        if (
            last
            and (last.text, last.negative) == (text, negative)
            and seed == last.seeds[-1] + 1
            and len(last.seeds) < most
        ):
            last.seeds.append(seed)
            last.places.append(place)
        else:
            jobs.append(_Job(text, negative, [seed], [place]))
    return jobs


def _read_key(place: str | None) -> str | None:
    """The key that is in the environment.

    Raises:
        ValueError: The variable that was named is not set, or no HTTP header can hold the key.
    """
    name = place.removeprefix("env:") if place else "NEUROPROMPT_GENERATOR_API_KEY"
    key = read_key(name)
    if place and not key:
        raise ValueError(f"api_key is {place}, and there is no environment variable {name}")
    return key
