"""What a command shows while it works, and what it says where Ctrl-C ends it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from neuroprompt.programs import Stopped, quiet_libraries
from neuroprompt.terminal import counted, errors

RESUMES = "the same command goes on from there"


class Work:
    """How far a command is, as a line on the terminal.

    Args:
        progress: The line.
        noun: What is counted: "prompt".
    """

    def __init__(self, progress: Progress, noun: str):
        self._progress, self._noun = progress, noun
        self._done, self._total = 0, None
        self._task = progress.add_task("loading", total=None, count="")

    def stage(self, description: str) -> None:
        """Something begins of which nobody knows how long it takes."""
        self._progress.update(self._task, description=description)

    def update(self, done: int, total: int | None, description: str | None = None) -> None:
        """So many are done, of so many where that is known."""
        self._done, self._total = done, total
        self._progress.update(self._task, completed=done, total=total, count=str(self), description=description)

    def __str__(self) -> str:
        """ "48 of 300 prompts"; nothing before the first."""
        if not self._done:
            return ""
        if self._total is None:
            return counted(self._done, self._noun)
        return f"{self._done:,} of {counted(max(self._done, self._total), self._noun)}"

    def hide(self) -> None:
        """Take the line away, before results are printed where it stands."""
        self._progress.stop()


@contextmanager
def working(noun: str, kept: str = "") -> Iterator[Work]:
    """The time in which models are loaded and at work; the libraries are quiet in it.

    Args:
        noun: What is counted: "prompt".
        kept: What a Ctrl-C leaves, to be said after the count.

    Raises:
        Stopped: Instead of a `KeyboardInterrupt`, with what is to be said of it.
    """
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[count]}")
    hidden = not sys.stderr.isatty() or int(os.environ.get("RANK", 0)) > 0  # of several processes one shows it
    # Results on standard output are for a pipe, or printed when the line is gone: Rich would send them here.
    with Progress(
        *columns, TimeRemainingColumn(), console=errors, transient=True, redirect_stdout=False, disable=hidden
    ) as progress:
        work = Work(progress, noun)
        try:
            quiet_libraries()
            yield work
        except KeyboardInterrupt:
            stopped = f"stopped after {work}" if str(work) else "stopped"
            raise Stopped("; ".join(filter(None, (stopped, kept)))) from None
