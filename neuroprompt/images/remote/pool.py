"""`Pool`: servers that draw with the same model share the work, and one that fails is left out for a while.

Each server has a request at a time (or `RemoteConfig.connections`) and takes the next when that is answered, so faster
ones do more. Where one fails, its request goes back to the others at once, and it pauses: 1, 2, 4, … seconds, or as
long as it asks for. One that fails `RemoteConfig.retries` times in a row, hangs, or answers what is no picture is left
out, and tried again after 30, 60, … seconds, when it must say the same model as before.
"""

import json
import os
import random
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import blake2b
from math import ceil
from threading import Condition, Lock, Thread
from typing import NamedTuple, TypeVar

from neuroprompt.images.config import RemoteConfig, config_of, read_urls, shown_size
from neuroprompt.images.remote.a1111 import A1111
from neuroprompt.images.remote.comfyui import ComfyUI, Workflow
from neuroprompt.images.remote.dialect import Dialect, Model, Picture
from neuroprompt.images.remote.openai import NeuroPrompt, OpenAI
from neuroprompt.wire import RemoteError, Server, Trouble, Unavailable

_T = TypeVar("_T")
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
        self._members = [_Member(url, self.config, key) for url in self.urls]
        self._size = self.config.size
        self._lock = Lock()

    @property
    def left_out(self) -> dict[str, str]:
        """The servers that are left out now, and why."""
        return {member.url: member.reason for member in self._members if member.reason}

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
        with self._lock:
            due = [member for member in self._members if member.dialect is None and member.due]
            if due:
                with ThreadPoolExecutor(len(due)) as threads:
                    found = list(threads.map(_Member.connect, due))
                first = self.model is None
                for member, model in zip(due, found, strict=True):
                    self._admit(member, model, first)
                self._warn()
            if not self._alive:
                raise self._unavailable()
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
        helpers = [member for member in self._alive for _ in range(config.connections or member.connections)]
        if not helpers:  # another call has just lost the last one
            raise self._unavailable()
        most = min(ceil(len(texts) / len(helpers)), *(member.most for member in helpers))
        own = config is self.config
        work = _Work(
            _share(texts, negatives or [None] * len(texts), seeds, most),
            self._size if own else config.size,
            len(helpers),
        )
        for member in helpers:  # daemons: a process that ends does not wait for answers
            Thread(target=_help, args=(work, member, config), daemon=True).start()
        work.wait()
        if own:
            self._size = work.size
        self._warn()
        if work.error:
            raise work.error
        if work.left:
            raise self._unavailable()
        return [work.pictures[place] for place in range(len(texts))]

    # --- details ---------------------------------------------------------------------------------------------------

    @property
    def _alive(self) -> list["_Member"]:
        return [member for member in self._members if member.dialect]

    def _admit(self, member: "_Member", found: Model | RemoteError | None, first: bool) -> None:
        """Let a server that was asked draw, if it draws with the model that the others have.

        Raises:
            RemoteError: It does not, or refuses; and nothing has been drawn yet.
        """
        if found is None or self.model == found:  # it did not answer, and is left out; or it fits
            return
        if isinstance(found, RemoteError):
            wrong = found
        elif self.model is not None:
            other = f"another {found.name}" if found.name == self.model.name else found.name
            wrong = RemoteError(f"{member.url} draws with {other}, and the others with {self.model.name}")
        elif not found.seeded and self.config.seeds != "none":
            wrong = RemoteError(
                f"{member.url} takes no seeds, so that its pictures are not repeatable and no two are drawn from the "
                "same noise: set seeds=none to put up with that"
            )
        else:
            self._adopt(found)
            return
        member.leave_out(str(wrong).removeprefix(member.url).strip())
        if first:
            raise wrong

    def _adopt(self, model: Model) -> None:
        """Take the first server's model for that of all."""
        if not model.seeded:
            warnings.warn(f"{model.name} takes no seeds: pictures are neither repeatable nor paired", stacklevel=4)
        told = {name: value for name, value in model.defaults.items() if getattr(self.config, name) is None}
        self.model, self.config = model, replace(self.config, **told)
        self._size = self.config.size

    def _unavailable(self) -> Unavailable:
        reasons = "; ".join(f"{url} ({why})" for url, why in self.left_out.items())
        now = time.monotonic()
        wait = min((max(0.0, member.out_until - now) for member in self._members), default=0.0)
        return Unavailable(f"no image generator answers: {reasons}", wait)

    def _warn(self) -> None:
        """Say once which servers are left out, while others go on."""
        for member in self._members:
            if member.reason and not member.told and self._alive:
                member.told = True
                warnings.warn(f"going on without {member.url}: {member.reason}", stacklevel=3)


class _Member:
    """A server of a pool, and how it has been doing.

    Attributes:
        dialect: How it is spoken to; None while it is left out, or has not been asked.
        reason: Why it is left out; empty where it is not.
        out_until: When it is tried again, by the monotonic clock.
        failures: In a row.
        told: Whether somebody was told that it is left out.
    """

    def __init__(self, url: str, config: RemoteConfig, key: str | None):
        self.url, self._config = url, config
        self._server = Server(url, key, config.timeout)
        self.dialect: Dialect | None = None
        self.reason, self.out_until, self.failures, self.told = "", 0.0, 0, False
        self._times_out, self._drew_with = 0, None

    @property
    def due(self) -> bool:
        return time.monotonic() >= self.out_until

    def connect(self) -> Model | RemoteError | None:
        """What it draws with, or what it refuses; None where it does not answer, and is left out."""
        try:
            dialect = self._kind()(self._server, self._config)
            model = _readable(dialect.model)
        except RemoteError as error:
            return error
        except Trouble as trouble:
            self.leave_out(str(trouble), trouble.wait)
            return None
        self.dialect, self.reason, self.told, self.failures = dialect, "", False, 0
        return model

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

    @property
    def most(self) -> int:
        return self.dialect.most if self.dialect else 1

    @property
    def connections(self) -> int:
        return self.dialect.connections if self.dialect else 1

    def draw(self, job: "_Job", config: RemoteConfig) -> list[Picture]:
        dialect = self.dialect
        if dialect is None:  # another of its connections has just failed
            raise Trouble(self.reason, lasting=True)
        if job.negative is not None:
            config = replace(config, negative=job.negative)
        pictures = _readable(lambda: dialect.draw(job.text, job.seeds, config))
        for picture in pictures:
            self._drew_with = self._drew_with or picture.model
            if picture.model not in (None, self._drew_with):
                raise Trouble("somebody has changed its model meanwhile", lasting=True)
        return pictures

    def stumble(self, trouble: Trouble) -> float | None:
        """How many seconds it should pause after a failure; None where it is left out."""
        self.failures += 1
        if trouble.lasting or self.failures > self._config.retries:
            self.leave_out(str(trouble), trouble.wait)
            return None
        if trouble.wait is not None:
            return min(_LONGEST_PAUSE, trouble.wait)
        return min(_LONGEST_PAUSE, 2.0 ** (self.failures - 1)) * random.uniform(0.75, 1.25)

    def leave_out(self, reason: str, wait: float | None = None) -> None:
        self.dialect, self.reason = None, reason
        self.out_until = time.monotonic() + max(wait or 0.0, min(_LONGEST_OUT, 30.0 * 2**self._times_out))
        self._times_out += 1


def _help(work: "_Work", member: _Member, config: RemoteConfig) -> None:
    """A server's part of the work; in a thread of its own."""
    while (job := work.take()) is not None:
        try:
            work.finish(job, member.draw(job, config))
            member.failures = 0
        except Trouble as trouble:
            pause = member.stumble(trouble)
            work.give_back(job)
            if pause is None:
                break
            work.pause(pause)
        except BaseException as error:
            work.fail(error)
            break
    work.leave()


class _Job(NamedTuple):
    """A request: one text, and seeds that follow each other, for the pictures at these places."""

    text: str
    negative: str | None
    seeds: list[int]
    places: list[int]


class _Work:
    """The jobs of a call. Each helper, a thread that stands for a connection to a server, takes one after another."""

    def __init__(self, jobs: Sequence[_Job], size: tuple[int, int] | None, helpers: int):
        self.pictures: dict[int, Picture] = {}
        self.error: BaseException | None = None
        self.size, self._helpers = size, helpers
        self._open, self.left = deque(jobs), len(jobs)
        self._stopped = False
        self._changed = Condition()

    def take(self) -> _Job | None:
        """The next job; None once nothing is left to do. While others are at the last ones, these may come back."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or self._over)
            return None if self._over else self._open.popleft()

    def finish(self, job: _Job, pictures: Sequence[Picture]) -> None:
        """Keep a job's pictures.

        Raises:
            Trouble: One has another size than was asked for, or than its sisters.
        """
        with self._changed:
            for picture in filter(lambda picture: picture.image, pictures):
                self.size = self.size or picture.image.size
                if picture.image.size != self.size:
                    drawn, due = shown_size(picture.image.size), shown_size(self.size)
                    raise Trouble(f"it draws {drawn} pixels where {due} are due", lasting=True)
            self.pictures |= zip(job.places, pictures, strict=True)
            self.left -= 1
            self._changed.notify_all()

    def give_back(self, job: _Job) -> None:
        """Leave a job to others."""
        with self._changed:
            self._open.appendleft(job)
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._over, seconds)

    def fail(self, error: BaseException) -> None:
        """End it all with an error."""
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()

    def leave(self) -> None:
        """A helper goes."""
        with self._changed:
            self._helpers -= 1
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait for the end; a Ctrl-C is one."""
        with self._changed:
            try:
                self._changed.wait_for(lambda: self._over)
            finally:
                self._stopped = True
                self._changed.notify_all()

    @property
    def _over(self) -> bool:
        return self._stopped or self.error is not None or not self.left or not self._helpers


_DECISIVE = ("steps", "guidance", "true_cfg", "size", "negative", "scheduler")
_LONGEST_PAUSE, _LONGEST_OUT = 60.0, 600.0  # seconds


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


def _readable(ask: Callable[[], _T]) -> _T:
    """What a dialect reads of an answer, which may be anything.

    Raises:
        Trouble: It is not what the API says.
    """
    try:
        return ask()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Trouble(f"its answer is none ({type(error).__name__}: {error})", lasting=True) from error


def _read_key(place: str | None) -> str | None:
    """The key that is in the environment.

    Raises:
        ValueError: The variable that was named is not set, or no HTTP header can hold the key.
    """
    name = place.removeprefix("env:") if place else "NEUROPROMPT_GENERATOR_API_KEY"
    key = os.environ.get(name)
    if place and not key:
        raise ValueError(f"api_key is {place}, and there is no environment variable {name}")
    if key and not (key.isascii() and key.isprintable()):
        raise ValueError(f"the key in {name} has characters that no HTTP header can hold")
    return key
