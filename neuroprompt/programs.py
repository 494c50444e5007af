"""A program's frame, for the command line and for scripts: what the user can mend is one line, and an exit code."""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType, TracebackType
from typing import NoReturn

import typer

import neuroprompt.threads  # noqa: F401 (before a program loads torch)
from neuroprompt.extras import MissingExtra, explained, need
from neuroprompt.models import is_out_of_memory
from neuroprompt.terminal import errors, say


class Stopped(Exception):
    """Ctrl-C, with what there is to say about it: what was done, what stays, how to go on."""


def run(program: typer.Typer | Callable[[], object]) -> NoReturn:
    """Run an app, or a script's `main`, and exit with what it returns.

    What the user can mend is one line on standard error, and exit code 2; with NEUROPROMPT_TRACEBACK set it is what
    Python says of it. A Ctrl-C is one line, too, and exit code 130.
    """
    _open_closed_streams()
    sys.excepthook = _show_fault
    with warnings.catch_warnings(), _interruptible():
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning) * (not sys.warnoptions):
            warnings.simplefilter("ignore", category)  # which are for whoever writes the libraries
        warnings.showwarning = lambda message, *_: say(_line(message), "warning:", "yellow")
        try:
            with explained():
                code = program(standalone_mode=False) if isinstance(program, typer.Typer) else program()
            if code == _INTERRUPTED:  # as Typer returns it
                raise KeyboardInterrupt
            sys.exit(code or 0)
        except (KeyboardInterrupt, typer.Abort, Stopped) as stop:
            say(str(stop) or "stopped")
            sys.exit(_INTERRUPTED)
        except Exception as error:
            line = mendable(error)
            if line is None or os.environ.get("NEUROPROMPT_TRACEBACK"):
                raise
            if line:
                say(line, "error:", "bold red")
            sys.exit(2)


def mendable(error: Exception) -> str | None:
    """What there is to say of an error that the user can mend, in a line; None of a fault of ours."""
    return _line(error) if isinstance(error, _MENDABLE) or is_out_of_memory(error) else None


def wants(*extras: str) -> None:
    """End a script, with a line, where an extra is missing of which it is about to import packages."""
    try:
        need(*extras)
    except MissingExtra as missing:
        say(str(missing), "error:", "bold red")
        sys.exit(2)


def quiet_libraries() -> None:
    """Hold back what the libraries say to whoever writes programs with them: warnings, bars for each loaded model."""
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
    else:  # it reads them as it is imported, which takes seconds, if at all
        os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    warnings.filterwarnings("ignore", "The `local_dir_use_symlinks` argument", UserWarning)  # diffusers' own call


_INTERRUPTED = 130


(_UsageError,) = typer.BadParameter.__bases__  # by version, Typer has Click beside it or within


_MENDABLE = (_UsageError, MissingExtra, ValueError, TypeError, OSError, OverflowError, RecursionError, MemoryError)


def _line(error: Exception | Warning) -> str:
    if isinstance(error, _UsageError):
        text = error.format_message().rstrip(".")
        if not text:  # the help was shown instead
            return ""
        text += f" (see {error.ctx.command_path} --help)" if error.ctx else ""
    elif isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}"  # without Python's "[Errno 28]"
    elif isinstance(error, MemoryError) or is_out_of_memory(error):
        text = f"there is not enough memory ({error})" if str(error) else "there is not enough memory"
    else:
        text = str(error)
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a Ctrl-C end the process at once where a library is being imported.

    Nothing is half done there, and it could not end otherwise: libraries in C++ know of no `KeyboardInterrupt`, and
    abort, swallow it, or say that they cannot be imported.
    """

    def interrupt(_: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                say("stopped")
                errors.show_cursor()
                os._exit(_INTERRUPTED)
            frame = frame.f_back
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    # Nobody else's, and not to be ignored, as with nohup; only the main thread may set one.
    mine = before is signal.default_int_handler and current_thread() is main_thread()
    if mine:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGINT, before)


def _show_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A fault of ours, as Python shows it, but for the control characters of a prompt that it may quote."""
    for line in "".join(traceback.format_exception(kind, error, trace)).splitlines():
        errors.print_line(line)


def _open_closed_streams() -> None:
    """Python has None for a stream that the shell closed (`>&-`), and the next file opened would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))
