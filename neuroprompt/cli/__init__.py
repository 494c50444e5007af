"""The command line: `neuroprompt …`. Commands parse, call the library and print; models are imported when needed."""

import sys
from typing import NoReturn

import neuroprompt.threads  # noqa: F401 (before a command loads torch)

__all__ = ["main"]


def main() -> NoReturn:
    try:  # a Ctrl-C is one line from the first import on
        from neuroprompt.programs import run
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    run(_commands)


def _commands() -> int | None:
    from neuroprompt.cli.commands import app

    return app(standalone_mode=False, prog_name="neuroprompt")
