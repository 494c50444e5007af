"""Prompts from a file or a pipe, results to a file: as they come, resumable, and never half a file.

Results are written to a hidden file beside the wanted one, which is renamed when it is whole. A run that was killed
leaves the hidden file; the same command takes it up where it stopped.
"""

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from io import BufferedReader, TextIOWrapper
from itertools import chain, count, islice
from pathlib import Path
from typing import TextIO

from neuroprompt.files import sole_writer
from neuroprompt.terminal import finite

SUFFIXES = (".txt", ".csv", ".jsonl")
KEYS = ("prompt", "original")
"""Where prompts stand in a .csv or .jsonl file: in the first of these that it has, so that results can be input."""


@dataclass(frozen=True)
class Line:
    """One record of an input file: its line number (from 1), and its prompt or what is wrong with it."""

    number: int
    prompt: str | None = None
    error: str | None = None

    @classmethod
    def of(cls, number: int, prompt: object) -> "Line":
        """The record of a prompt, or of what is none: halves of characters are no text, and no model reads them."""
        if not isinstance(prompt, str):
            return cls(number, error='no "prompt" with a string')
        if half := _HALF.search(prompt):
            byte = ord(half[0]) - 0xDC00  # as Python reads what is no UTF-8
            return cls(number, error=f"no UTF-8 text (byte {byte:#x})" if 0x80 <= byte < 0x100 else "half a character")
        return cls(number, prompt)


def read_lines(path: str, keys: Iterable[str] = KEYS) -> list[Line]:
    """The prompts of a .txt (one a line), .csv or .jsonl (objects, or bare strings) file.

    ``-`` reads lines from standard input: JSON where they start with ``{``, text otherwise. Blank lines are passed
    over. A broken line becomes a `Line` with an error; the rest goes on.

    Args:
        path: The file.
        keys: Of a .csv file's columns and an object's keys the first that is there has the prompt.

    Raises:
        ValueError: The file is missing, has another ending, or (.csv) has none of these columns.
    """
    return list(chain.from_iterable(read_chunks(path, 1024, keys)))


def read_chunks(path: str, size: int, keys: Iterable[str] = KEYS) -> Iterator[list[Line]]:
    """`read_lines` by up to `size`, no further than they are asked for; of a pipe what has arrived, to wait for none.

    Raises:
        ValueError: As `read_lines`, at once.
    """
    keys = tuple(keys)
    if path == "-":
        numbers = count(1)
        return _cut((_read(lines, numbers, _read_either, keys) for lines in _arrivals(sys.stdin.buffer)), size)
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: prompts are read from {', '.join(SUFFIXES)} files, or from - for a pipe")
    try:
        file = open(path, "rb")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if suffix == ".csv":
        return _cut([_read_csv(file, path, keys)], size)
    return _cut([_read(file, count(1), _read_json if suffix == ".jsonl" else _read_text, keys)], size)


class ResultFile:
    """A .jsonl, .csv or .txt file that results go to; a context manager.

    Nothing else may write it meanwhile. It is put in its place at the end, if no error ended it and there are results;
    what was there before is there until then.

    Args:
        path: The file. Its folder must exist.
        settings: What the results depend on beside their prompts. What a killed run left is taken up if it is the same.
        each: Records of a prompt.

    Attributes:
        taken_up: Prompts of which a killed run had written all records.

    Raises:
        ValueError: It has another ending, it is a folder, or (when the context is entered) its folder is not there.
        BusyError: Another process writes it (likewise).
        OSError: Nothing can be written there (likewise).
    """

    def __init__(self, path: str, settings: str, each: int = 1):
        self.path, self.each, self.taken_up = Path(path), each, 0
        if self.path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path}: results are written to {', '.join(SUFFIXES)} files, or to - for a pipe")
        if self.path.is_dir():
            raise ValueError(f"{path} is a folder: results are written to a file")
        digest = blake2b(settings.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        self.part = self.path.with_name(f".{self.path.name}.{digest}.part")
        self._size = 0  # bytes of the part that stay

    def __enter__(self) -> "ResultFile":
        with ExitStack() as stack:
            stack.enter_context(sole_writer(self.path))
            self._file = stack.enter_context(open(self.part, "ab", buffering=0))
            self._old = self._whole()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, error, *_) -> None:
        with self._stack:
            if error is None:
                self._begin()
                os.fsync(self._file.fileno())
            if not self.part.stat().st_size:
                self.part.unlink()
            elif error is None:
                self._put_in_place()

    def take_up(self, prompt: str) -> bool:
        """Whether a killed run has written the records of this prompt, the next of the input."""
        known, end = next(self._old, (None, 0))
        if known != prompt:
            self._begin()
            return False
        self._size, self.taken_up = end, self.taken_up + 1
        return True

    def write(self, records: Iterable[dict]) -> None:
        """Append records: dicts with `original`, `text` and more.

        Raises:
            OSError: The disk is full or gone. What was written before stays whole.
        """
        data = "".join(map(json_line, records)).encode()
        try:
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            os.truncate(self.part, self._size)
            raise
        self._size += len(data)

    def _whole(self) -> Iterator[tuple[str, int]]:
        """The prompts whose records are all there, and where these end: a kill may have left some of them, or half a
        line."""
        with open(self.part, "rb") as file:
            while all(lines := [file.readline() for _ in range(self.each)]) and lines[-1].endswith(b"\n"):
                try:
                    (prompt,) = {json.loads(line)["original"] for line in lines}
                except (ValueError, KeyError, TypeError):  # a power cut may leave anything
                    return
                yield prompt, file.tell()

    def _begin(self) -> None:
        """Cut off what is not taken up: the rest is written anew."""
        if self._old is not _NOTHING:
            self._old = _NOTHING
            os.truncate(self.part, self._size)

    def _put_in_place(self) -> None:
        write = {".csv": _write_csv, ".txt": _write_text}.get(self.path.suffix.lower())
        if write is None:
            os.replace(self.part, self.path)
            return
        final = self.part.with_suffix(".final")
        try:
            with (
                open(self.part, encoding="utf-8", newline="\n") as lines,
                open(final, "w", encoding="utf-8", newline="") as file,
            ):
                write(map(json.loads, lines), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(final, self.path)
        finally:
            final.unlink(missing_ok=True)
        self.part.unlink()


def json_line(record: dict) -> str:
    """The record as a line of a .jsonl file: to be read by people, and one line for every program."""
    return json.dumps(finite(record), ensure_ascii=False).translate(_LINE_ENDS) + "\n"


def one_line(text: str) -> str:
    """The text without what any program takes for the end of a line."""
    return " ".join(text.splitlines())


# --- reading -----------------------------------------------------------------------------------------------------

_HALF = re.compile("[\ud800-\udfff]")


def _cut(parts: Iterable[Iterable[Line]], size: int) -> Iterator[list[Line]]:
    for part in map(iter, parts):
        while chunk := list(islice(part, size)):
            yield chunk


def _arrivals(pipe: BufferedReader) -> Iterator[list[bytes]]:
    """The lines that each read finds, so that none waits for the next."""
    while data := pipe.read1(2**16):
        *lines, begun = data.split(b"\n")
        yield lines
        if begun:
            yield [begun + pipe.readline()]


def _read(
    lines: Iterable[bytes],
    numbers: Iterator[int],
    read: Callable[[int, str, tuple[str, ...]], Line],
    keys: tuple[str, ...],
) -> Iterator[Line]:
    for line in lines:
        number, text = next(numbers), line.decode("utf-8", "surrogateescape")
        if text := (text.removeprefix("\ufeff") if number == 1 else text).strip():
            yield read(number, text, keys)


def _read_text(number: int, text: str, _: tuple[str, ...]) -> Line:
    return Line.of(number, text)


def _read_json(number: int, text: str, keys: tuple[str, ...]) -> Line:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return Line(number, error=f"broken JSON ({error.msg.lower()} at column {error.colno})")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets in brackets
        return Line(number, error=f"broken JSON ({str(error).lower()})")
    if isinstance(value, dict):
        value = next((value[key] for key in keys if key in value), None)
    return Line.of(number, value)


def _read_either(number: int, text: str, keys: tuple[str, ...]) -> Line:
    return _read_json(number, text, keys) if text.startswith("{") else Line.of(number, text)


def _read_csv(file: BufferedReader, path: str, keys: tuple[str, ...]) -> Iterator[Line]:
    rows = csv.reader(TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline=""))

    def read() -> list[str] | None:
        limit = csv.field_size_limit(2**31 - 1)  # of the whole process, so for this row alone
        try:
            return next(rows, None)
        finally:
            csv.field_size_limit(limit)

    def lines() -> Iterator[Line]:
        while True:
            try:
                if (row := read()) is None:
                    return
            except csv.Error as error:
                yield Line(rows.line_num, error=f"broken CSV ({error})")
                continue
            if row:
                prompt = row[column] if column < len(row) else ""
                yield Line.of(rows.line_num, prompt) if prompt else Line(rows.line_num, error="no prompt")

    header = read() or []
    column = next((header.index(key) for key in keys if key in header), None)
    if column is None:
        raise ValueError(f"{path} has no column {keys[0]!r}; it has {', '.join(header)[:200] or 'none'}")
    return lines()


# --- writing -----------------------------------------------------------------------------------------------------

_NOTHING: Iterator[tuple[str, int]] = iter(())
_LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}  # JSON need not escape them; many split at them


def _write_csv(records: Iterator[dict], file: TextIO) -> None:
    writer = csv.DictWriter(file, ["original", "text", "score", "seed", "warning"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(records)


def _write_text(records: Iterator[dict], file: TextIO) -> None:
    file.writelines(one_line(r["text"]) + "\n" for r in records)
