"""Prompts from a file or a pipe, results to one: line by line, resumable, and never half a file.

Results are written to a hidden file beside the wanted one, which is renamed when it is whole. A run that was killed
leaves the hidden file; the same command with the same input takes it up where it stopped.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

SUFFIXES = (".txt", ".csv", ".jsonl")


@dataclass(frozen=True)
class Line:
    """One record of an input file: its line number (from 1), and its prompt or what is wrong with it."""

    number: int
    prompt: str | None = None
    error: str | None = None


def read_lines(path: str) -> list[Line]:
    """The prompts of a .txt (one a line), .csv (column `prompt`) or .jsonl (key `prompt`, or bare strings) file.

    ``-`` reads lines from standard input: JSON where they start with ``{``, text otherwise. Blank lines are passed
    over. A broken line becomes a `Line` with an error; the rest goes on.

    Raises:
        ValueError: The file is missing, is no text, has another ending, or (.csv) has no column `prompt`.
    """
    suffix = Path(path).suffix.lower()
    if path != "-" and suffix not in SUFFIXES:
        raise ValueError(f"{path}: prompts are read from {', '.join(SUFFIXES)} files, or from - for a pipe")
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{path} is no UTF-8 text: byte {error.start} in line {line}") from error
    if suffix == ".csv":
        return list(_read_csv(text, path))
    lines = ((i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip())
    if suffix == ".jsonl":
        return [_read_json(i, line) for i, line in lines]
    if path == "-":
        return [_read_json(i, line) if line.lstrip().startswith("{") else Line(i, line.strip()) for i, line in lines]
    return [Line(i, line.strip()) for i, line in lines]


class ResultFile:
    """Where results go: a .jsonl, .csv or .txt file, written whole or not at all, or ``-`` for standard output.

    Args:
        path: The file. Its folder must exist.
        fingerprint: Everything that the results depend on. What a killed run left is taken up if this is the same.

    Attributes:
        done: Records that a killed run had written already.
    """

    def __init__(self, path: str, fingerprint: str):
        self.path = None if path == "-" else Path(path)
        self.format = ".txt" if self.path is None else self.path.suffix.lower()
        if self.format not in SUFFIXES:
            raise ValueError(f"{path}: results are written to {', '.join(SUFFIXES)} files, or to - for a pipe")
        self.done = 0
        if self.path is None:
            self.part, self._file = None, sys.stdout
            return
        if not self.path.parent.is_dir():
            raise ValueError(f"there is no folder {self.path.parent}")
        digest = blake2b(fingerprint.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        self.part = self.path.with_name(f".{self.path.name}.{digest}.part")
        if self.part.exists():
            written = self.part.read_bytes()
            whole = written[: written.rfind(b"\n") + 1]  # a kill may have left half a line
            os.truncate(self.part, len(whole))
            self.done = whole.count(b"\n")
        self._file = open(self.part, "a", encoding="utf-8", newline="")

    def write(self, records: list[dict]) -> None:
        """Append records: dicts with `original`, `text` and more.

        Raises:
            OSError: The disk is full or gone. What was written before stays whole.
        """
        kept = self._file.tell() if self.part else 0
        try:
            self._file.write("".join(self._line(r) for r in records))
            self._file.flush()
        except OSError:
            if self.part:
                os.truncate(self.part, kept)
            raise

    def close(self) -> None:
        """Put the whole file in its place."""
        if self.part is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self.format == ".jsonl":
            os.replace(self.part, self.path)
            return
        beside = self.part.with_suffix(".final")
        records = [json.loads(line) for line in self.part.read_text("utf-8").splitlines()]
        try:
            with open(beside, "w", encoding="utf-8", newline="") as file:
                if self.format == ".csv":
                    writer = csv.DictWriter(
                        file, ["original", "text", "score", "seed", "warning"], extrasaction="ignore"
                    )
                    writer.writeheader()
                    writer.writerows(records)
                else:
                    file.writelines(_one_line(r["text"]) + "\n" for r in records)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        os.replace(beside, self.path)
        self.part.unlink()

    def _line(self, record: dict) -> str:
        if self.part is None:
            return _one_line(record["text"]) + "\n"
        return json.dumps(record, ensure_ascii=False) + "\n"


def _read_json(number: int, line: str) -> Line:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return Line(number, error=f"broken JSON ({error.msg.lower()} at column {error.colno})")
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(prompt, str):
        return Line(number, error='no "prompt" with a string')
    return Line(number, prompt)


def _read_csv(text: str, path: str) -> Iterator[Line]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if "prompt" not in (reader.fieldnames or []):
        raise ValueError(f"{path} has no column 'prompt'; it has {', '.join(reader.fieldnames or ['none'])}")
    try:
        for row in reader:
            prompt = row["prompt"]
            yield Line(reader.line_num, prompt) if prompt else Line(reader.line_num, error="no prompt")
    except csv.Error as error:
        yield Line(reader.line_num, error=f"broken CSV ({error})")


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())
