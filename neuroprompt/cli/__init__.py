"""The command line: `neuroprompt …`. Commands parse, call the library and print; models are imported when needed."""

from typing import NoReturn

import neuroprompt.threads  # noqa: F401 (before a command loads torch)

# isort: off
from neuroprompt.cli import rewriting, pictures, experiments, study  # noqa: F401 (commands join the app, in this order)
from neuroprompt.cli.options import app
from neuroprompt.programs import run
# isort: on

__all__ = ["main"]


def main() -> NoReturn:
    run(app)
