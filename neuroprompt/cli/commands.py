"""All commands: they join the app as their modules are imported, in the order of the help."""

# isort: off
from neuroprompt.cli import rewriting, pictures, questions, experiments, study, serving, votes, mcp  # noqa: F401
from neuroprompt.cli.app import app
# isort: on

__all__ = ["app"]
