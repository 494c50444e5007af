"""A reward of the user's own: a function in a file or module of theirs, named where rewards are named.

    # my_file.py
    def brightness(prompts, images):        # a prompt for each picture; floats (n, 3, H, W) in [0, 1]
        return images.mean((1, 2, 3))       # a number for each, in a tensor or a list

    def brevity(prompts, images, texts):    # `texts`, where it is asked for, is what was drawn
        return [-len(text) for text in texts]

    load_rewards("pickscore:1.0,my_file.py:brightness:0.5")

The file runs as any script of the user's would: it is named by them, and never by a model or a data set.
"""

import difflib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

NAME = re.compile(r"(?:[^:\[\]]+\.py|[^\W\d][\w.]*):[^\W\d]\w*")
"""``FILE.py:FUNCTION`` or ``package.module:FUNCTION``."""


class OwnReward:
    """A function as an `ImageReward`.

    Args:
        source: ``FILE.py:FUNCTION`` or ``package.module:FUNCTION``.

    Attributes:
        name: The function's name.
        fingerprint: A hash of that name and of the file's content; what the function reads besides does not count.
        reads_text: Whether the function has a parameter `texts`.

    Raises:
        ValueError: There is no such file, module or function, or it cannot be loaded.
    """

    def __init__(self, source: str):
        self._source, self._function = source, load_function(source)
        place, _, self.name = source.rpartition(":")
        self.reads_text = "texts" in _parameters(self._function)
        self._file = _file(place) or getattr(sys.modules[place], "__file__", None)
        content = Path(self._file).read_bytes() if self._file else place.encode()
        self.fingerprint = blake2b(content + self.name.encode(), digest_size=16).hexdigest()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], images: Tensor, texts: Sequence[str] | None = None) -> Tensor:
        """The function's scores (n,), float32, on the pictures' device.

        Raises:
            ValueError: It fails, or gives something else than a number for each picture.
        """
        try:
            given = {"texts": list(texts or prompts)} if self.reads_text else {}
            made = self._function(list(prompts), images, **given)
        except Exception as error:
            raise ValueError(f"{self._source} fails{_told(error, self._file)}") from error
        try:
            scores = torch.as_tensor(made, dtype=torch.float32, device=images.device)
        except (TypeError, ValueError, RuntimeError):
            scores = None
        if scores is None or scores.shape != (len(images),):
            shown = f"a {type(made).__name__}" + (f" of shape {tuple(scores.shape)}" if scores is not None else "")
            wanted = f"a tensor or list of shape ({len(images)},)"
            raise ValueError(f"{self._source} gives {shown} for {len(images)} pictures: it must give {wanted}")
        return scores


def load_function(source: str) -> Callable[..., Any]:
    """The function that ``FILE.py:FUNCTION`` or ``package.module:FUNCTION`` names.

    A module may lie in the current folder, as for `python -m`, and what a file imports beside it.

    Raises:
        ValueError: There is none, or its file is at fault: in one line, with the file's.
    """
    check_function(source)
    place, _, name = source.rpartition(":")
    file = _file(place)
    try:
        module = _run(file) if file else importlib.import_module(place)
    except Exception as error:
        raise ValueError(f"{place} cannot be loaded{_told(error, file)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value)]
        close = "".join(f": {key!r}?" for key in difflib.get_close_matches(name, known, 1))
        raise ValueError(f"{place} has no function {name!r}{close}")
    return function


def check_function(source: str) -> None:
    """Refuse what names no function, and a file or module that is not there, without running any.

    Raises:
        ValueError: It is one of these.
    """
    if not NAME.fullmatch(source):
        raise ValueError(f"{source!r} names no function: write FILE.py:FUNCTION or package.module:FUNCTION")
    place = source.rpartition(":")[0]
    if file := _file(place):
        if not os.path.isfile(file):
            raise ValueError(f"there is no file {place}")
        return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.util.find_spec(place)
    except (ImportError, ValueError):  # of a package that is not there, or is none
        found = None
    if found is None:
        raise ValueError(f"there is no module {place!r}")


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # of what is built in
        return []


def _file(place: str) -> str | None:
    """The path of a ``FILE.py``; None of a module's name."""
    return os.path.abspath(os.path.expanduser(place)) if place.endswith(".py") else None


def _run(file: str) -> ModuleType:
    if (folder := os.path.dirname(file)) not in sys.path:
        sys.path.append(folder)  # behind all others: what lies beside the file takes no library's place
    spec = importlib.util.spec_from_file_location(f"own_reward_{Path(file).stem}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pickles look for it
    spec.loader.exec_module(module)
    return module


def _told(error: Exception, file: str | None) -> str:
    """Where in the file an error comes from, and what it says: the end of a line."""
    if isinstance(error, SyntaxError):
        line, text = error.lineno, error.msg
    else:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line, text = (lines or [None])[-1], str(error)
    return f"{f' in line {line}' if line else ''}: {type(error).__name__}: {' '.join(text.split())}"
