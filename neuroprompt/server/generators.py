"""What draws, as a part of `Workers`: a pipeline in a process of its own, or servers behind URLs.

The process runs `generator`, which `work.PARTS` has; `RemotePart` asks the servers from threads of the front, and keeps
their files as they came.
"""

import asyncio
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from neuroprompt.image_files import PictureInfo, encode_png
from neuroprompt.images import GeneratorConfig, config_of, read_setting, read_urls
from neuroprompt.images.config import noise_seed
from neuroprompt.images.remote.pool import Pool
from neuroprompt.models import locate
from neuroprompt.prompts import Window, join_negatives
from neuroprompt.server.batching import Job, Queue
from neuroprompt.server.errors import Problem, fault, refusal
from neuroprompt.server.settings import ServeSettings, shown_name
from neuroprompt.wire import RemoteError, Unavailable

if TYPE_CHECKING:
    from neuroprompt.server.metrics import Metrics

_T = TypeVar("_T")


@dataclass(frozen=True)
class Draw:
    """A picture to be drawn.

    Attributes:
        original: The user's prompt, which the file says.
        text: What is drawn.
        settings: Of `GeneratorConfig`, where they are not the operator's; what is drawn at once has the same.
        negative: What the picture must not show, beside what the settings say; left out by what takes none.

    Answer:
        `Drawn`.
    """

    original: str
    text: str
    seed: int
    settings: tuple[tuple[str, Any], ...] = ()
    negative: str | None = None
    size: int = 1

    @property
    def group(self) -> Hashable:
        return self.settings


@dataclass(frozen=True)
class Describe:
    """A question about what draws, or writes.

    Answer:
        dict: Its ``name`` and ``fingerprint``; of what draws the ``config``, ``window`` and ``takes_negative``, too, as
        of `ImageGenerator`, in JSON's types.
    """

    group: Hashable = "describe"
    size: int = 1


class Drawn(NamedTuple):
    """A picture file, and whether a safety checker of the generator's own objected to it."""

    file: bytes
    flagged: bool


class Progress:
    """How many pictures are asked for, and drawn, of the requests that are in the house."""

    def __init__(self):
        self.asked = self.drawn = 0

    @contextmanager
    def expecting(self, count: int) -> Iterator[Callable[[], None]]:
        """Count so many as asked for meanwhile; what it gives is called for each that is drawn."""
        done = 0

        def drawn() -> None:
            nonlocal done
            done += 1
            self.drawn += 1

        self.asked += count
        try:
            yield drawn
        finally:
            self.asked -= count
            self.drawn -= done


def is_remote(settings: ServeSettings) -> bool:
    """Whether servers draw.

    Raises:
        ValueError: The generator is a URL that is none.
    """
    return bool(read_urls(settings.generator))


def drawing_config(settings: ServeSettings) -> GeneratorConfig:
    """How the operator has it drawn.

    Raises:
        ValueError: A setting is unknown or out of range.
    """
    given: dict[str, Any] = {}
    for text in settings.generator_settings or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text!r}: write name=value, such as scheduler=DPMSolverMultistepScheduler")
        given[name.strip()] = read_setting(name.strip(), value)
    given |= {name: getattr(settings, name) for name in ("steps", "guidance", "size", "negative")}
    if is_remote(settings):  # whoever waits for one that hangs is told when to come again, before his own time is up
        given = {"timeout": 0.8 * settings.timeout, "retries": 1} | given
    return config_of(settings.generator, **given)


def generator(settings: ServeSettings) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """The part that draws with a pipeline; see `work.Answers`."""
    locate(settings.generator, "stable-diffusion")
    from neuroprompt.images import ImageGenerator, PipelineGenerator

    own = ImageGenerator.from_pretrained(settings.generator, device=settings.device, config=drawing_config(settings))
    name = shown_name(settings.generator)

    @lru_cache(maxsize=64)
    def drawing_with(given: tuple[tuple[str, Any], ...]) -> PipelineGenerator:
        """The same pipeline with other settings."""
        return PipelineGenerator(own.pipeline, replace(own.config, compile=False, **dict(given))) if given else own

    def answer(batch: Sequence[Any]) -> list[Any]:
        if isinstance(batch[0], Describe):
            said = _description(name, own.fingerprint, own.config, own.window, own.takes_negative)
            return [said] * len(batch)
        try:
            drawing = drawing_with(batch[0].settings)
        except ValueError as error:
            return [refusal(error)] * len(batch)
        negatives = [drawing.negative_for(asked.negative) for asked in batch]
        made = drawing.draw([asked.text for asked in batch], [asked.seed for asked in batch], negatives)
        config = asdict(drawing.config)
        configs = [config | ({"negative": negative} if negative else {}) for negative in negatives]
        return [
            Drawn(encode_png(image, PictureInfo(asked.original, asked.text, asked.seed, name, config)), flagged)
            for asked, config, image, flagged in zip(batch, configs, made.images, made.flagged.tolist(), strict=True)
        ]

    return answer


class RemotePart:
    """Servers behind URLs, as `workers.Part` is for processes.

    Where none answers, whoever waits is told so (503, and when to ask again), and so is whoever comes until then.

    Raises:
        ValueError: A URL or a setting is none.
    """

    name = "generator"

    def __init__(self, settings: ServeSettings, metrics: "Metrics"):
        config = drawing_config(settings)
        self.pool = Pool(settings.generator, config)
        # as many as the servers are at together, a few times over: a server of A1111's kind draws several at once
        self.queue = Queue(4 * len(self.pool.urls) * (config.connections or 1))
        self.state, self.metrics = "loading", metrics
        self._down = "it has not been asked yet", 1
        self._task: asyncio.Task | None = None
        metrics.watch(self)

    @property
    def states(self) -> list[str]:
        return [self.state]

    async def ask(self, request: Any) -> Any:
        if self.state == "failed":
            raise _unavailable(*self._down)
        return await self.queue.put(request)

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            try:
                await _in_thread(self.pool.connect)
                self.state = "ready"
                while True:
                    await self._work()
            except Exception as error:
                wait = error.retry_after if isinstance(error, Unavailable) else 10
                why = str(error) if isinstance(error, RemoteError) else fault(error).message
                self.state, self._down = "failed", (why, max(1, math.ceil(wait)))
                self.queue.fail(_unavailable(*self._down))
                await asyncio.sleep(self._down[1])

    async def _work(self) -> None:
        jobs: list[Job] = await self.queue.take()
        self.metrics.batch_sizes.labels(self.name).observe(len(jobs))
        try:
            for job, answer in zip(jobs, await _in_thread(self._answer, [job.request for job in jobs]), strict=True):
                job.settle(answer)
        except Exception as error:
            for job in jobs:
                job.settle(_unavailable(str(error) if isinstance(error, RemoteError) else type(error).__name__, 1))
            raise

    def _answer(self, batch: Sequence[Any]) -> list[Any]:
        if isinstance(batch[0], Describe):
            model, config = self.pool.connect(), self.pool.config.drawing()
            return [_description(model.name, self.pool.fingerprint, config, model.window, model.takes_negative)]
        try:
            config = replace(self.pool.config, **dict(batch[0].settings)) if batch[0].settings else self.pool.config
            seeds = [noise_seed(asked.seed) for asked in batch]
            guides = any(asked.negative for asked in batch) and self.pool.connect().takes_negative
            negatives = [join_negatives(config.negative, asked.negative) if guides else None for asked in batch]
            pictures = self.pool.draw([asked.text for asked in batch], seeds, config, negatives)
            return [Drawn(picture.data, picture.flagged) for picture in pictures]
        except Unavailable:
            raise
        except RemoteError as error:
            if len(batch) > 1:  # so that only the one at fault gets none
                return [answer for asked in batch for answer in self._answer([asked])]
            return [Problem(424, str(error), "generator_refused")]
        except ValueError as error:
            return [refusal(error)] * len(batch)


def _unavailable(why: str, wait: int) -> Problem:
    return Problem(503, f"generator: {why}", "generator_unavailable", wait)


def _description(
    name: str, fingerprint: str, config: GeneratorConfig, window: Window | None, takes_negative: bool
) -> dict[str, Any]:
    said = {"name": name, "fingerprint": fingerprint, "config": asdict(config), "takes_negative": takes_negative}
    return said | {"window": window and window.setting}


async def _in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    """As `asyncio.to_thread`, and a server that ends does not wait for it, however long the generator takes."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not answer.done():
            answer.set_exception(error) if error else answer.set_result(result)

    def run() -> None:
        try:
            outcome = function(*arguments), None
        except BaseException as error:
            outcome = None, error
        try:
            loop.call_soon_threadsafe(settle, *outcome)
        except RuntimeError:  # the loop has ended meanwhile
            pass

    Thread(target=run, daemon=True).start()
    return await answer
