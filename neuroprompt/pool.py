"""`Pool`: servers that do the same share the work, and one that fails is left out for a while.

    pool = Pool("image generator", members, admit)       # each a `Member`: how such a server is asked what it is
    pool.connect()
    answers = pool.share(jobs, ask)                      # ask(member, job), in threads

Each server has a job at a time (or `Member.connections`) and takes the next when that is done, so faster ones do more.
Where one fails, its job goes back to the others at once, and it pauses: 1, 2, 4, … seconds, or as long as it asks for.
One that fails `retries` times in a row, hangs, or answers what cannot be read is left out, and tried again after 30,
60, … seconds, when it must say the same of itself as before.
"""

import random
import time
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Condition, Lock, Thread
from typing import Any, Generic, TypeVar

from neuroprompt.wire import RemoteError, Trouble, Unavailable

_T, _Job, _Answer = TypeVar("_T"), TypeVar("_Job"), TypeVar("_Answer")
_M = TypeVar("_M", bound="Member")


class Member(ABC):
    """A server of a pool, and how it has been doing.

    Args:
        url: Its address.
        retries: How often in a row it may fail before it is left out.

    Attributes:
        alive: Whether it is asked: it has said what it is, and is not left out.
        reason: Why it is left out; empty where it is not.
        refuses: Whether it is left out for what it refuses, or is: to ask it again is of little use.
        out_until: When it is tried again, by the monotonic clock.
    """

    connections = 1
    """How many jobs it has at a time."""

    def __init__(self, url: str, retries: int):
        self.url, self._retries = url, retries
        self.alive, self.reason, self.refuses, self.out_until = False, "", False, 0.0
        self.failures, self._told, self._times_out = 0, False, 0

    @abstractmethod
    def greet(self) -> Any:
        """Ask the server what it is.

        Raises:
            RemoteError: It refuses.
            Trouble: It fails.
        """

    @property
    def due(self) -> bool:
        return not self.alive and time.monotonic() >= self.out_until

    def meet(self) -> Any:
        """What it says of itself, or what it refuses; None where it does not answer, and is left out."""
        try:
            said = readable(self.greet)
        except RemoteError as error:
            return error
        except Trouble as trouble:
            self.leave_out(str(trouble), trouble.wait)
            return None
        self.alive, self.reason, self.refuses, self._told, self.failures = True, "", False, False, 0
        return said

    def stumble(self, trouble: Trouble) -> float | None:
        """How many seconds it should pause after a failure; None where it is left out."""
        if not self.alive:
            return None
        self.failures += 1
        if trouble.lasting or self.failures > self._retries:
            self.leave_out(str(trouble), trouble.wait)
            return None
        if trouble.wait is not None:
            return min(_LONGEST_PAUSE, trouble.wait)
        return min(_LONGEST_PAUSE, 2.0 ** (self.failures - 1)) * random.uniform(0.75, 1.25)

    def leave_out(self, reason: str, wait: float | None = None, refuses: bool = False) -> None:
        self.alive, self.reason, self.refuses = False, reason, refuses
        self.out_until = time.monotonic() + max(wait or 0.0, min(_LONGEST_OUT, 30.0 * 2**self._times_out))
        self._times_out += 1

    def tell(self) -> None:
        """Warn, once, that it is left out."""
        if self.reason and not self._told:
            self._told = True
            warnings.warn(f"going on without {self.url}: {self.reason}", stacklevel=4)


class Pool(Generic[_M]):
    """Servers that do the same, as one. Nothing is asked of them before `connect` or `share`.

    Args:
        what: What they are to whoever waits for them: "image generator".
        members: The servers.
        admit: Called with each server, and what it says of itself, before it gets work; raises `RemoteError` where it
            is not what the others are.
        patience: Seconds for which work waits while no server answers.
    """

    def __init__(self, what: str, members: Sequence[_M], admit: Callable[[_M, Any], None], patience: float = 0.0):
        self.members, self._what, self._admit, self._patience = tuple(members), what, admit, patience
        self._met = False
        self._lock = Lock()

    @property
    def left_out(self) -> dict[str, str]:
        """The servers that are left out now, and why."""
        return {member.url: member.reason for member in self.members if member.reason}

    @property
    def alive(self) -> list[_M]:
        return [member for member in self.members if member.alive]

    def connect(self, until: float = 0.0) -> None:
        """Ask the servers that were not asked yet, or are due again, what they are.

        Args:
            until: Until when, by the monotonic clock, all are asked again and again where none answers.

        Raises:
            Unavailable: None of them answers.
            RemoteError: One refuses, or is not what the others are; and nothing has been done by them yet.
        """
        with self._lock:
            self._greet([member for member in self.members if member.due])
            if not self.alive:
                self._wait(until)

    def share(self, jobs: Sequence[_Job], ask: Callable[[_M, _Job], _Answer]) -> list[_Answer]:
        """What `ask`, called in threads, answers to each job, in order.

        Raises:
            Unavailable: No server is left that answers.
            RemoteError: A server refuses what it is asked.
        """
        work = _Work(jobs)
        until = time.monotonic() + self._patience
        while True:
            self.connect(until)
            left = work.left
            helpers = [member for member in self.alive for _ in range(member.connections)]
            work.begin(len(helpers))
            for member in helpers:  # daemons: a process that ends does not wait for answers
                Thread(target=_help, args=(work, member, ask), daemon=True).start()
            work.wait()
            for member in self.members if self.alive else ():
                member.tell()
            if work.error:
                raise work.error
            if not work.left:
                return [work.answers[place] for place in range(len(jobs))]
            if work.left < left:
                until = time.monotonic() + self._patience
            elif time.monotonic() >= until:
                raise self._unavailable()

    # --- details ---------------------------------------------------------------------------------------------------

    def _greet(self, members: Sequence[_M]) -> None:
        if not members:
            return
        first = not self._met
        with ThreadPoolExecutor(len(members)) as threads:
            found = list(threads.map(Member.meet, members))
        for member, said in zip(members, found, strict=True):
            if said is None:  # it does not answer, and is left out
                continue
            try:
                if isinstance(said, RemoteError):
                    raise said
                self._admit(member, said)
                self._met = True
            except RemoteError as wrong:
                member.leave_out(str(wrong).removeprefix(member.url).strip(), refuses=True)
                if first:
                    raise
        for member in members if self.alive else ():
            member.tell()

    def _wait(self, until: float) -> None:
        """Ask all, again and again, until one answers."""
        pause, rest = 1.0, until - time.monotonic()
        while not self.alive:
            if rest <= 0 or all(member.refuses for member in self.members):
                raise self._unavailable()
            if pause == 1.0:
                warnings.warn(f"{self._unavailable()}; waiting for one, for {rest:.0f} s at most", stacklevel=4)
            time.sleep(min(pause, rest))
            pause, rest = min(_LONGEST_WAIT, 2 * pause), until - time.monotonic()
            self._greet(self.members)
        for member in self.members:  # the others may be about to come back, too
            member.out_until = min(member.out_until, time.monotonic() + _LONGEST_WAIT)

    def _unavailable(self) -> Unavailable:
        reasons = "; ".join(f"{url} ({why})" for url, why in self.left_out.items())
        now = time.monotonic()
        wait = min((max(0.0, member.out_until - now) for member in self.members), default=0.0)
        return Unavailable(f"no {self._what} answers: {reasons}", wait)


def readable(ask: Callable[[], _T]) -> _T:
    """What is read of an answer, which may be anything.

    Raises:
        Trouble: It is not what the API says.
    """
    try:
        return ask()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Trouble(f"its answer is none ({type(error).__name__}: {error})", lasting=True) from error


def _help(work: "_Work", member: Member, ask: Callable[[Any, Any], Any]) -> None:
    """A server's part of the work; in a thread of its own."""
    while (taken := work.take()) is not None:
        place, job = taken
        try:
            if not member.alive:  # another of its connections has just failed
                raise Trouble(member.reason)
            work.finish(place, readable(lambda job=job: ask(member, job)))
            member.failures = 0
        except Trouble as trouble:
            pause = member.stumble(trouble)
            work.give_back(place, job)
            if pause is None:
                break
            work.pause(pause)
        except BaseException as error:
            work.fail(error)
            break
    work.leave()


class _Work:
    """The jobs of a call. Each helper, a thread that stands for a connection to a server, takes one after another."""

    def __init__(self, jobs: Sequence[Any]):
        self.answers: dict[int, Any] = {}
        self.error: BaseException | None = None
        self._open, self.left, self._helpers = deque(enumerate(jobs)), len(jobs), 0
        self._changed = Condition()

    def begin(self, helpers: int) -> None:
        """So many set to work."""
        self._helpers = helpers

    def take(self) -> tuple[int, Any] | None:
        """The next job and its place; None once nothing is left to do. While others are at the last ones, these may
        come back."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or self._over)
            return None if self._over else self._open.popleft()

    def finish(self, place: int, answer: Any) -> None:
        with self._changed:
            self.answers[place] = answer
            self.left -= 1
            self._changed.notify_all()

    def give_back(self, place: int, job: Any) -> None:
        """Leave a job to others."""
        with self._changed:
            self._open.appendleft((place, job))
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
        """Wait for the end, or until no helper is left; a Ctrl-C is an end."""
        with self._changed:
            try:
                self._changed.wait_for(lambda: self._over)
            except BaseException as stop:
                self.fail(stop)
                raise

    @property
    def _over(self) -> bool:
        return self.error is not None or not self.left or not self._helpers


_LONGEST_PAUSE, _LONGEST_OUT, _LONGEST_WAIT = 60.0, 600.0, 30.0  # seconds
