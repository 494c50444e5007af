"""The command line: `neuroprompt …`. Commands parse, call the library and print; models are imported when needed."""

import os
import sys

from rich.markup import escape

# isort: off
from neuroprompt.cli import rewriting, pictures, experiments, study  # noqa: F401 (commands join the app, in this order)
from neuroprompt.cli.options import app, errors
# isort: on

__all__ = ["main"]


def main() -> None:
    """Run a command; what the user can mend is one line on standard error, exit code 2."""
    try:
        app()
    except (ValueError, TypeError, OSError) as error:
        if os.environ.get("NEUROPROMPT_TRACEBACK"):
            raise
        errors.print(f"[bold red]error:[/] {escape(_line(error))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("stopped")
        sys.exit(130)


def _line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}"  # without Python's "[Errno 28]"
    return " ".join(text.split())
