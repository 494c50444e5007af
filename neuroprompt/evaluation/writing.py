"""What methods write of an evaluation's prompts, chunk by chunk; what others are made of is written once, and kept."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from neuroprompt.evaluation.methods import Method
from neuroprompt.experiments import write_whole

WRITTEN = "written.json"
"""Texts of which methods that need all prompts at once are made: a search's are dear, and a kill should cost none."""


class Texts:
    """The methods' texts, before any gate.

    Args:
        prompts: All of them.
        methods: The columns.
        chunk_size: Prompts that are written together.

    Raises:
        ValueError: A file has another number of prompts.
    """

    def __init__(self, prompts: Sequence[str], methods: Sequence[Method], chunk_size: int):
        self.prompts, self.chunk_size = prompts, chunk_size
        self._made_of = {of.name: of for method in methods for of in _chain(method)[1:]}
        self._needs_all = [method for method in methods if any(one.whole and one.of for one in _chain(method))]
        self._whole: dict[str, list[str]] = {}
        self._chunks: dict[str, dict[int, tuple[list[str], float]]] = {}
        self._path: Path | None = None
        for method in [*methods, *self._made_of.values()]:
            if method.whole and not method.of:
                self._of_all(method)

    def __call__(self, method: Method, start: int) -> tuple[list[str], float]:
        """A chunk's texts, and the seconds that each took when it was written."""
        known = self._chunks.get(method.name, {}).get(start)
        if known:
            return known
        chunk = self.prompts[start : start + self.chunk_size]
        if method.whole:
            texts, seconds = self._of_all(method)[start : start + self.chunk_size], 0.0
        else:
            behind = [self(method.of, start)[0]] if method.of else []
            began = time.perf_counter()
            texts = method.rewrite(chunk, *behind)
            seconds = (time.perf_counter() - began) / len(chunk)
        if method.name in self._made_of and not method.whole:
            self._chunks.setdefault(method.name, {})[start] = texts, seconds
            self._save()
        return texts, seconds

    def prepare(self, folder: Path) -> None:
        """Write what methods need that are made of all prompts' texts, or read it, as far as a killed run has come."""
        if not self._needs_all:
            return
        self._path = folder / WRITTEN
        if self._path.exists():
            self._read(json.loads(self._path.read_text("utf-8")))
        for method in self._needs_all:
            self(method, 0)

    def _of_all(self, method: Method) -> list[str]:
        """What a method writes of all prompts."""
        if not method.whole:
            return [text for start in range(0, len(self.prompts), self.chunk_size) for text in self(method, start)[0]]
        if method.name not in self._whole:
            behind = [self._of_all(method.of)] if method.of else []
            self._whole[method.name] = method.rewrite(self.prompts, *behind)
        return self._whole[method.name]

    def _read(self, content: Mapping) -> None:
        for name, chunks in content.items():
            self._chunks[name] = {int(start): (texts, seconds) for start, (texts, seconds) in chunks.items()}

    def _save(self) -> None:
        if self._path:
            write_whole(self._path, json.dumps(self._chunks))


def _chain(method: Method) -> list[Method]:
    """A method, and those that it is made of."""
    return [method, *(_chain(method.of) if method.of else ())]
