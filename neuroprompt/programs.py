"""A program's frame, for the command line and for scripts: what the user can mend is one line, and an exit code."""

import os
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

import typer

import neuroprompt.threads  # noqa: F401 (before a program loads torch)
from neuroprompt.models import is_out_of_memory
from neuroprompt.terminal import say


def run(program: typer.Typer | Callable[[], object]) -> NoReturn:
    """Run an app, or a script's `main`, and exit with what it returns.

    What the user can mend is one line on standard error, and exit code 2; with NEUROPROMPT_TRACEBACK set it is what
    Python says of it.
    """
    _open_closed_streams()
    with warnings.catch_warnings():
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning) * (not sys.warnoptions):
            warnings.simplefilter("ignore", category)  # which are for whoever writes the libraries
        warnings.showwarning = lambda message, *_: say(_line(message), "warning:", "yellow")
        try:
            code = program(standalone_mode=False) if isinstance(program, typer.Typer) else program()
            if code == _INTERRUPTED:  # as Typer returns it
                raise KeyboardInterrupt
            sys.exit(code or 0)
        except (KeyboardInterrupt, typer.Abort):
            say("stopped")
            sys.exit(_INTERRUPTED)
        except Exception as error:
            mendable = isinstance(error, _MENDABLE) or is_out_of_memory(error)
            if not mendable or os.environ.get("NEUROPROMPT_TRACEBACK"):
                raise
            if line := _line(error):
                say(line, "error:", "bold red")
            sys.exit(2)


_INTERRUPTED = 130


(_UsageError,) = typer.BadParameter.__bases__  # by version, Typer has Click beside it or within


_MENDABLE = (_UsageError, ValueError, TypeError, OSError, OverflowError, RecursionError, MemoryError)


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


def _open_closed_streams() -> None:
    """Python has None for a stream that the shell closed (`>&-`), and the next file opened would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))
