"""The processes behind the server: what they are asked, and what becomes of them.

    workers = Workers(settings, metrics)
    workers.start()
    variants = await workers.ask("policy", Rewrite("boy on a horse"))
    await workers.stop()

A part (see `work.PARTS`) has one process or more, and one queue. A process that dies is started again, and only what it
was at is lost (503, and worth asking again); so is one that takes longer for a batch than any request may take. While a
part is being loaded, requests wait; where it could not be loaded they get 503 at once, and it is tried again.
"""

import asyncio
import io
import os
import pickle
import signal
import sys
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from neuroprompt.server.batching import Job, Queue, Request
from neuroprompt.server.errors import Problem
from neuroprompt.server.generators import Draw, Drawn, Progress, RemotePart, drawing_config, is_remote
from neuroprompt.server.safety import Safety
from neuroprompt.server.settings import ServerSettings, ServeSettings
from neuroprompt.terminal import say

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from neuroprompt.server.metrics import Metrics

_T = TypeVar("_T")
LONGEST_PAUSE = 60
"""Seconds between two attempts to load a part, at most."""


class Workers:
    """All parts that the settings name.

    Attributes:
        parts: The `Part` of each name of `ServerSettings.parts`.
        safety: What the operator lets through.
        progress: Of the pictures.
    """

    def __init__(self, settings: ServerSettings, metrics: "Metrics"):
        self.settings, self.progress = settings, Progress()
        self.safety = Safety.of(settings) if isinstance(settings, ServeSettings) else Safety()
        self.parts: dict[str, Part | RemotePart] = {name: _part(name, settings, metrics) for name in settings.parts}

    def start(self) -> None:
        for part in self.parts.values():
            part.start()

    async def stop(self) -> None:
        await asyncio.gather(*(part.stop() for part in self.parts.values()))

    async def ask(self, part: str, request: Request) -> Any:
        """The answer to a request. Cancelled, it is dropped, unless a process is at it already.

        Raises:
            Problem: The part is not served here, could not be loaded, or died of this; or it refuses the request.
        """
        if part not in self.parts:
            raise Problem(503, f"this server has no {part}", "not_served")
        return await self.parts[part].ask(request)

    async def ask_all(self, part: str, requests: Iterable[Request]) -> list[Any]:
        """The answers, in order. Where one has none, or whoever asked is gone, the others are dropped."""
        return await together(self.ask(part, request) for request in requests)

    async def draw(self, wanted: Draw) -> Drawn:
        """A picture; one that the operator does not let through is flagged, too. Raises what `ask` does."""
        made = await self.ask("generator", wanted)
        check = self.safety.pictures
        if made.flagged or not check:
            return made
        return Drawn(made.file, await asyncio.to_thread(lambda: check.flags(Image.open(io.BytesIO(made.file)))))


async def together(wanted: Iterable[Awaitable[_T]]) -> list[_T]:
    """What each gives, in order. Where one fails, or whoever waits is gone, the others are cancelled."""
    begun = [asyncio.ensure_future(one) for one in wanted]
    try:
        return await asyncio.gather(*begun)
    finally:
        for one in begun:
            one.cancel()


class Part:
    """Processes that do the same, and the queue that they share.

    Args:
        processes: How many.
        batch: The size of what one does at once, as requests count theirs.

    Attributes:
        name: Of `work.PARTS`.
        queue: What waits.
        states: Of each process: loading, ready, restarting, or failed.
    """

    def __init__(self, name: str, settings: ServerSettings, metrics: "Metrics", processes: int = 1, batch: int = 1):
        self.name, self.settings, self.metrics = name, settings, metrics
        self.queue = Queue(batch)
        self.states = ["loading"] * processes
        self._tasks: list[asyncio.Task] = []
        metrics.watch(self)

    @property
    def state(self) -> str:
        """Of the whole: that of the process which is nearest to being ready."""
        return next(state for state in ("ready", "loading", "restarting", "failed") if state in self.states)

    async def ask(self, request: Request) -> Any:
        if self.state == "failed":
            raise _unavailable(self)
        return await self.queue.put(request)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep(number)) for number in range(len(self.states))]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, number: int) -> None:
        """One process after the other, for as long as the server runs."""
        pause = 0
        while True:
            process = None
            try:
                process = await _spawn(self.name)
                await _send(process, self.settings)
                if wrong := await _receive(process):
                    raise _Lost(wrong)
                self.states[number], pause = "ready", 0
                while True:
                    await self._work(process)
            except Exception as error:
                why = str(error) if isinstance(error, _Lost | OSError) else type(error).__name__  # no prompt in it
                say(f"{self.name}: {why}; starting it again", "warning:", "yellow")
                self.metrics.restarts.labels(self.name).inc()
                if self.states[number] == "ready":
                    self.states[number] = "restarting"
                else:
                    self.states[number] = "failed"
                    pause = min(2 * pause or 1, LONGEST_PAUSE)
                if self.state == "failed":
                    self.queue.fail(_unavailable(self))
            finally:
                if process:
                    await _end(process)
            await asyncio.sleep(pause)

    async def _work(self, process: "Process") -> None:
        """One batch, from the queue and back to those who asked."""
        reply = asyncio.create_task(_receive(process))  # comes unasked, as an error, when the process dies
        batch_taken = asyncio.create_task(self.queue.take())
        jobs: list[Job] = []
        try:
            await asyncio.wait({reply, batch_taken}, return_when=asyncio.FIRST_COMPLETED)
            if not batch_taken.done():
                await reply
            jobs = batch_taken.result()
            self.metrics.batch_sizes.labels(self.name).observe(len(jobs))
            await _send(process, [job.request for job in jobs])
            try:
                answers = await asyncio.wait_for(reply, self.settings.timeout)
            except asyncio.TimeoutError:
                raise _Lost(f"its process took more than {self.settings.timeout:g} s") from None
            for job, answer in zip(jobs, answers, strict=True):
                job.settle(answer)
        finally:
            reply.cancel()
            batch_taken.cancel()
            for job in jobs:  # that have none by now
                job.settle(Problem(503, f"{self.name}: its process died meanwhile, ask again", "worker_died", 1))


def _part(name: str, settings: Any, metrics: "Metrics") -> Part | RemotePart:
    if name == "policy":
        return Part(name, settings, metrics, settings.workers, settings.batch_size)
    if name == "generator":
        if is_remote(settings):
            return RemotePart(settings, metrics)
        return Part(name, settings, metrics, batch=drawing_config(settings).batch_size)
    return Part(name, settings, metrics)


class _Lost(Exception):
    """A process that is no more, or no use."""


def _unavailable(part: Part) -> Problem:
    return Problem(503, f"{part.name}: it could not be loaded, and is tried again", f"{part.name}_unavailable", 10)


async def _spawn(part: str) -> "Process":
    # It imports what this process does, from where it does, and the folder that it is started in is no such place.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "neuroprompt.server.work", part),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )


async def _send(process: "Process", value: object) -> None:
    data = pickle.dumps(value)
    process.stdin.write(len(data).to_bytes(8, "big") + data)
    await process.stdin.drain()


async def _receive(process: "Process") -> Any:
    try:
        length = await process.stdout.readexactly(8)
        return pickle.loads(await process.stdout.readexactly(int.from_bytes(length, "big")))
    except asyncio.IncompleteReadError:
        raise _Lost("its process died") from None


async def _end(process: "Process") -> None:
    """It writes nothing, and so needs no time to end."""
    if process.returncode is None:
        with suppress(ProcessLookupError):  # `process.kill` would take its exit code away from asyncio
            os.kill(process.pid, signal.SIGKILL)
    await process.wait()
