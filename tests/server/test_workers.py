"""Workers and their queue, with processes that speak as a worker does and load no model."""

import asyncio
import sys

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.server import workers
from neuroprompt.server.batching import Queue
from neuroprompt.server.errors import Problem
from neuroprompt.server.metrics import Metrics
from neuroprompt.server.settings import ServeSettings
from neuroprompt.server.work import Rewrite
from neuroprompt.server.workers import Part

WORKER = """
import os, sys, time
from neuroprompt.server.work import _read, _write
orders, answers = sys.stdin.buffer, sys.stdout.buffer
_read(orders)
_write(answers, os.environ.get("WRONG"))
while batch := _read(orders):
    if "hang" in [asked.prompt for asked in batch]:
        time.sleep(60)
    _write(answers, [(asked.prompt, len(batch), os.getpid()) for asked in batch])
"""


@pytest.fixture
def part(monkeypatch):
    async def spawn(name):
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        return await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, **pipes)

    monkeypatch.setattr(workers, "_spawn", spawn)
    return Part("policy", ServeSettings(timeout=2), Metrics(), batch=160)


def run(part, use):
    async def use_it():
        part.start()
        try:
            return await asyncio.wait_for(use(), 60)
        finally:
            await part.stop()

    return asyncio.run(use_it())


def test_those_who_wait_for_one_worker_go_together_by_their_settings(part):
    async def use():
        first = await part.ask(Rewrite("first"))
        wishes = [{"style": "x"} if i % 3 == 0 else {} for i in range(12)]
        asked = [Rewrite(str(i), i, wish, {"num_beams": i % 2 + 1}) for i, wish in enumerate(wishes)]
        return first, await asyncio.gather(*map(part.ask, asked))

    first, answers = run(part, use)
    assert first[:2] == ("first", 1)
    assert [answer[:2] for answer in answers] == [(str(i), 2 if i % 3 == 0 else 4) for i in range(12)]


def test_a_worker_that_hangs_is_replaced_and_the_others_requests_are_answered(part):
    async def use():
        _, _, old = await part.ask(Rewrite("first"))
        hangs = asyncio.create_task(part.ask(Rewrite("hang")))
        await asyncio.sleep(0.1)
        _, _, new = await part.ask(Rewrite("waits"))
        with pytest.raises(Problem) as lost:
            await hangs
        return old, new, lost.value

    old, new, lost = run(part, use)
    assert old != new and not psutil.pid_exists(old) and not psutil.pid_exists(new)
    assert (lost.status, lost.code, lost.retry_after) == (503, "worker_died", 1)


def test_what_cannot_be_loaded_is_said_at_once_and_tried_again(part, monkeypatch):
    monkeypatch.setenv("WRONG", "there is no such model")

    async def use():
        for _ in range(2):  # the first waits while it is loaded, the second is not let in
            with pytest.raises(Problem) as down:
                await part.ask(Rewrite("early"))
            assert down.value.code == "policy_unavailable" and down.value.retry_after
        monkeypatch.delenv("WRONG")
        while part.state != "ready":
            await asyncio.sleep(0.05)
        return await part.ask(Rewrite("late"))

    assert run(part, use)[0] == "late"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.booleans()), max_size=30), st.integers(1, 9))
def test_a_queue_loses_and_mixes_nothing_and_groups_take_turns(asked, most):
    class Request:
        def __init__(self, group, size):
            self.group, self.size = group, size

    async def use():
        queue, stays = Queue(most), []
        for group, size, leaves in asked:
            request = Request(group, size)
            answer = queue.put(request)
            if leaves:
                answer.cancel()
            else:
                stays.append(request)
        await asyncio.sleep(0)  # that they have gone is heard of
        assert len(queue) == len(stays)
        taken, turns = [], []
        while len(queue):
            batch = [job.request for job in await queue.take()]
            assert len({request.group for request in batch}) == 1
            assert len(batch) == 1 or sum(request.size for request in batch) <= most
            taken += batch
            turns.append(batch[0].group)
        groups = len(set(turns))
        assert len(set(turns[:groups])) == groups  # nobody's second turn is before another's first
        for group in "abc":
            assert [r for r in taken if r.group == group] == [r for r in stays if r.group == group]

    asyncio.run(use())
