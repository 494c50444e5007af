"""neuroprompt: plain image prompts in, expert ones out.

What it offers is in `__init__.pyi`, and imported on first use: the command line answers `--help` without PyTorch.
"""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

from neuroprompt.extras import explained

try:
    __version__ = version("neuroprompt")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "unknown"

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    with explained():
        return _load(name)
