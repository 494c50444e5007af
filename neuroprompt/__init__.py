"""neuroprompt: plain image prompts in, expert ones out.

What it offers is in `__init__.pyi`, and imported on first use: the command line answers `--help` without PyTorch.
"""

from importlib.metadata import PackageNotFoundError, version

from neuroprompt.extras import attach_stub

try:
    __version__ = version("neuroprompt")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "unknown"

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
