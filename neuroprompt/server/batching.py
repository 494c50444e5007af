"""Requests that wait, and how they are put together: those that can be worked at once are taken at once.

A request says which others it can go with (`group`, whatever can be a key) and how much of a batch it is (`size`). Who
is idle takes as many of one group as a batch holds, and the groups take turns, so that none waits for another's end:
prompts under constraints, which take longer, are a group of their own.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol


class Request(Protocol):
    group: Hashable
    size: int


class Job(NamedTuple):
    """A request, and where its answer goes. Whoever no longer waits has cancelled the answer."""

    request: Request
    answer: "asyncio.Future[Any]"


class Queue:
    """Jobs that wait for a worker.

    Args:
        most: The size of a batch, at most; a single request may be larger.
    """

    def __init__(self, most: int):
        self.most = most
        self._groups: OrderedDict[Hashable, deque[Job]] = OrderedDict()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def put(self, request: Request) -> "asyncio.Future[Any]":
        """Where the answer will be; cancel it, and the request is dropped if nobody has taken it yet."""
        job = Job(request, asyncio.get_running_loop().create_future())
        self._groups.setdefault(request.group, deque()).append(job)
        self._filled.set()
        return job.answer

    async def take(self) -> list[Job]:
        """The next batch, as soon as there is one. Cancelled, it takes nothing."""
        while True:
            await self._filled.wait()
            if batch := self._pop():
                return batch

    def fail(self, error: Exception) -> None:
        """Give everybody who waits this answer."""
        while batch := self._pop():
            for job in batch:
                job.answer.set_exception(error)

    def _pop(self) -> list[Job]:
        batch: list[Job] = []
        while self._groups and not batch:
            key, jobs = self._groups.popitem(last=False)  # the group whose turn it is
            room = self.most
            while jobs and (jobs[0].answer.done() or not batch or jobs[0].request.size <= room):
                if not (job := jobs.popleft()).answer.done():
                    batch.append(job)
                    room -= job.request.size
            if jobs:
                self._groups[key] = jobs  # until all others have had theirs
        if not self._groups:
            self._filled.clear()
        return batch
