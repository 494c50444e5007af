"""An experiment's folder: its settings, its records as they are made, and whose they are.

Records are written as they come and taken up after a kill; a folder takes up its own experiment and no other; processes
share an experiment out, each with a file of its own, and the last to end gathers them.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuroprompt.files import sole_writer, write_file
from neuroprompt.scoring import PromptReward

SETTINGS, RECORDS = "settings.json", "records.jsonl"


REWARD = "reward"
"""What the combined reward is called beside its components."""


@contextmanager
def hold_share(folder: str | Path, share: tuple[int, int] = (1, 1)) -> Iterator[Path]:
    """Let no other process do this share, the i-th of n, of an experiment, whose folder is made where missing.

    Yields:
        The file for the share's records: with one share, that of the whole.

    Raises:
        BusyError: One does it already.
    """
    number, shares = share
    path = Path(folder, RECORDS if shares == 1 else f"records-{number}-of-{shares}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(path):
        yield path


class Records:
    """The lines of an evaluation, appended as they are made; a context manager, for the one who may write the file.

    Args:
        path: The file. Where a killed run has left one, its whole chunks are kept, and the rest is cut off.
        size: Lines of the chunk that begins with this record.
    """

    def __init__(self, path: Path, size: Callable[[dict], int]):
        if path.exists():
            os.truncate(path, max((end for _, _, end in whole_chunks(path, size)), default=0))
        self._file = path.open("a", encoding="utf-8", newline="")

    def write(self, records: Iterable[dict]) -> None:
        self._file.writelines(json.dumps(record) + "\n" for record in records)
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


def whole_chunks(path: Path, size: Callable[[dict], int]) -> Iterator[tuple[dict, int, int]]:
    """The chunks of a file of records, up to the first that is not whole, as a kill leaves it: its first record, and
    where it begins and ends, in bytes. `size` is that of `Records`.

    Raises:
        ValueError: A whole line is broken, which no kill does.
    """
    begin, end, chunk = 0, 0, []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            chunk.append(_parse(line, path, number))
            if len(chunk) == size(chunk[0]):
                yield chunk[0], begin, end
                begin, chunk = end, []


def find_chunks(folder: Path, size: Callable[[dict], int]) -> dict[int, tuple[Path, int, int]]:
    """The whole chunks of an evaluation, over the files of all its processes: by the index of their first prompt, the
    file, and where in it they begin and end."""
    found: dict[int, tuple[Path, int, int]] = {}
    for path in sorted(folder.glob("records*.jsonl")):
        with suppress(FileNotFoundError):  # another process has just gathered them
            found |= {first["index"]: (path, begin, end) for first, begin, end in whole_chunks(path, size)}
    return found


def gather_records(folder: Path, chunks: Mapping[int, tuple[Path, int, int]]) -> None:
    """Make one file of what several processes have written, in the order of the prompts, and nothing else in it.

    Args:
        folder: Of the evaluation; its `RECORDS` are the caller's to write.
        chunks: All of them, as `find_chunks` finds them.
    """
    records, unfinished = folder / RECORDS, folder / f".{RECORDS}.part"
    ordered = [at for _, at in sorted(chunks.items())]
    length = sum(end - begin for _, begin, end in ordered)
    if ordered != sorted(ordered) or {path for path, _, _ in ordered} != {records} or length != records.stat().st_size:
        try:
            with unfinished.open("wb") as whole:
                for path, begin, end in ordered:
                    with path.open("rb") as part:
                        part.seek(begin)
                        whole.write(part.read(end - begin))
                whole.flush()
                os.fsync(whole.fileno())
            unfinished.replace(records)
        finally:
            unfinished.unlink(missing_ok=True)
    for path in folder.glob("records-*-of-*.jsonl"):
        path.unlink(missing_ok=True)


def read_records(folder: str | Path) -> Iterator[dict]:
    """The records of an evaluation, one after another.

    Raises:
        ValueError: A line is broken.
    """
    path = Path(folder, RECORDS)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield _parse(line, path, number)


def _parse(line: bytes, path: Path, number: int) -> dict:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{path}, line {number} is broken ({error}): cut the file off before it, and what is missing is made again"
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Write a file beside and rename it, so that there is never half of one."""
    write_file(path, text.encode("utf-8", "replace"))


def repository_commit() -> str | None:
    """The commit of this package's own repository, with a + where files were changed since; None outside of one."""
    here = Path(__file__)

    def git(*arguments: str) -> str | None:
        try:
            made = subprocess.run(["git", "-C", here.parent, *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return made.stdout.strip() if made.returncode == 0 else None

    # An installed package may lie in somebody else's repository.
    if git("ls-files", "--error-unmatch", here.parent.joinpath("__init__.py").name) is None:
        return None
    commit = git("rev-parse", "HEAD")
    return commit and commit + "+" * bool(git("status", "--porcelain", "--untracked-files=no"))


def reward_settings(reward: PromptReward) -> dict:
    """Everything that a picture's scores depend on besides its texts."""
    return {
        "rewards": {
            c.reward.name: reward.terms[c.reward.name]._asdict() | {"fingerprint": c.reward.fingerprint}
            for c in reward.rewards.components
        },
        "generator": {
            "name": reward.generator.name,
            "fingerprint": reward.generator.fingerprint,
            "config": asdict(reward.generator.config),
        },
        "images_per_prompt": reward.images_per_prompt,
        "seed": reward.seed,
        "window": reward.window,
        "flagged_reward": reward.flagged_reward,
    }


def check_settings(folder: Path, settings: dict, kind: str) -> None:
    """Write the settings of an experiment that begins in this folder (made where missing), or compare with those there.

    Args:
        folder: Of the experiment.
        settings: What its numbers depend on, as JSON types.
        kind: What it is called in errors, with its article.

    Raises:
        ValueError: The folder holds an experiment with other settings (the first that differs is named), or records
            without any.
    """
    path = folder / SETTINGS
    if not path.exists():
        if (folder / RECORDS).exists():
            raise ValueError(f"{folder} holds records and no {SETTINGS}: give another folder, or remove {RECORDS}")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(settings, indent=2) + "\n")
        return
    try:
        known = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is broken: give another folder, or remove it and {RECORDS}") from error
    if difference := settings_difference(known, settings):
        raise ValueError(
            f"{folder} holds {kind} with other settings: {difference}; give another folder, or remove this one"
        )


def settings_difference(was: dict, now: dict) -> str | None:
    """The first setting that differs, in words; None where all are the same, in the same order."""
    known, wanted = _flat(was), _flat(now)
    for key in [*known, *(k for k in wanted if k not in known)]:
        if key not in known or key not in wanted or known[key] != wanted[key]:
            before, after = (str(of.get(key, "not there"))[:60] for of in (known, wanted))
            return f"{key} was {before}, and now it is {after}"
    if moved := next((k for k, other in zip(known, wanted, strict=True) if k != other), None):
        return f"{moved.partition('.')[0]} are in another order"
    return None


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with keys such as ``rewards.clip.weight``."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    return {k: v for key, of in value.items() for k, v in _flat(of, f"{prefix}.{key}" if prefix else key).items()}
