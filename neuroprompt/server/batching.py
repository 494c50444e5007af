"""Requests that wait, and how they are put together: those that can be worked at once are taken at once.

A request says which others it can go with (`group`, whatever can be a key) and how much of a batch it is (`size`). Who
is idle takes as many of one group as a batch holds, and the groups take turns, so that none waits for another's end:
prompts under constraints, which take longer, are a group of their own.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple, Protocol


class Request(Protocol):
    group: Hashable
    size: int


class Job(NamedTuple):
    """A request, and where its answer goes."""

    request: Request
    answer: "asyncio.Future[Any]"

    def settle(self, answer: Any) -> None:
        """Give the answer, or what there is instead of one, to whoever still waits for it."""
        if not self.answer.done():
            (self.answer.set_exception if isinstance(answer, Exception) else self.answer.set_result)(answer)


class Queue:
    """Jobs that wait for a worker.

    Args:
        most: The size of a batch, at most; a single request may be larger.
    """

    def __init__(self, most: int):
        self.most = most
        self._groups: OrderedDict[Hashable, OrderedDict[asyncio.Future, Job]] = OrderedDict()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def put(self, request: Request) -> "asyncio.Future[Any]":
        """Where the answer will be. Cancel it, and the request is dropped, unless somebody has taken it."""
        job = Job(request, asyncio.get_running_loop().create_future())
        job.answer.add_done_callback(partial(self._drop, request.group))
        self._groups.setdefault(request.group, OrderedDict())[job.answer] = job
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
                job.settle(error)

    def _pop(self) -> list[Job]:
        if not self._groups:
            self._filled.clear()
            return []
        group, jobs = self._groups.popitem(last=False)  # whose turn it is
        batch, room = [], self.most
        while jobs and (not batch or next(iter(jobs.values())).request.size <= room):
            _, job = jobs.popitem(last=False)
            batch.append(job)
            room -= job.request.size
        if jobs:
            self._groups[group] = jobs  # until all others have had theirs
        return batch

    def _drop(self, group: Hashable, answer: asyncio.Future) -> None:
        jobs = self._groups.get(group, {})
        if jobs.pop(answer, None) and not jobs:
            del self._groups[group]
