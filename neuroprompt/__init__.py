"""neuroprompt: plain image prompts in, expert ones out.

What it offers is in `__init__.pyi`, and imported on first use: the command line answers `--help` without PyTorch.
"""

from typing import Any

from neuroprompt.extras import attach_stub

_offered, __dir__, __all__ = attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    return _version() if name == "__version__" else _offered(name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("neuroprompt")
    except PackageNotFoundError:  # a checkout that was not installed
        return "unknown"
