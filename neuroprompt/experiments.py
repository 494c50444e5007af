"""An experiment's folder: its settings, its records as they are made, and its results.

    check_settings(folder, settings, "evaluation")
    experiment = Experiment(folder, units)
    with experiment.shard((2, 4)) as shard:
        for unit in shard.todo:
            shard.write(…)
    if not experiment.missing():
        experiment.gather()
        write_results(folder, …)

A folder takes up its own experiment and no other. Records are lines of JSON, written in whole units as these are done:
a unit is what a kill costs. No unit depends on another, so processes share them out, each with a file of its own
(``records-2-of-4.jsonl``), and the last to end makes one file of them (``records.jsonl``). Whoever did which unit, and
however often they were killed, the records are the same.
"""

import csv
import io
import json
import math
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neuroprompt import __version__
from neuroprompt.completions import check_prompt
from neuroprompt.files import sole_writer, write_file
from neuroprompt.image_files import current_settings
from neuroprompt.pages.tables import Table, csv_text, markdown_text
from neuroprompt.scoring import PromptReward

if TYPE_CHECKING:
    from torch import Tensor

SETTINGS, RECORDS, RESULTS = "settings.json", "records.jsonl", "results.json"

REWARD = "reward"
"""What the combined reward is called beside its components."""


# --- records -----------------------------------------------------------------------------------------------------


class Experiment:
    """The records that a folder has and is to have.

    Args:
        folder: Where they are.
        units: All units, in order: how many records each is, by the ``index`` of its first one.
    """

    def __init__(self, folder: str | Path, units: Mapping[int, int]):
        self.folder, self.units = Path(folder), units

    def missing(self) -> list[int]:
        """The units that no file has whole.

        Raises:
            ValueError: A line is broken, which no kill does; so for all that reads records.
        """
        found = self._find()
        return [unit for unit in self.units if unit not in found]

    def records(self) -> Iterator[dict]:
        """The records of all whole units, in the units' order, whatever the files they stand in."""
        found = self._find()
        with ExitStack() as stack:
            files = {path: stack.enter_context(path.open("rb")) for path in {part.path for part in found.values()}}
            for unit in filter(found.__contains__, self.units):
                path, begin, end = found[unit]
                files[path].seek(begin)
                yield from map(json.loads, files[path].read(end - begin).split(b"\n")[:-1])

    @contextmanager
    def shard(self, shard: tuple[int, int] = (1, 1)) -> Iterator["Shard"]:
        """Do the i-th of n shards of the units, as the only one who does: see `hold_shard`.

        What a killed run has left of a unit in the shard's file is cut off.
        """
        with hold_shard(self.folder, shard) as path:
            if path.exists():
                os.truncate(path, max((part.end for _, part in self._whole_units(path)), default=0))
            units, missing = list(self.units)[shard[0] - 1 :: shard[1]], set(self.missing())
            with path.open("a", encoding="utf-8", newline="") as file:

                def write(records: Iterable[dict]) -> None:
                    file.writelines(json.dumps(record) + "\n" for record in records)
                    file.flush()
                    os.fsync(file.fileno())

                yield Shard(units, [unit for unit in units if unit in missing], write)

    def gather(self) -> None:
        """Make one file of what several processes have written, in the units' order, and nothing else in it.

        Where units are missing, nothing is done.

        Raises:
            BusyError: Another process gathers them, or does the whole experiment by itself.
        """
        whole, unfinished = self.folder / RECORDS, self.folder / f".{RECORDS}.part"
        with sole_writer(whole):
            found = self._find()
            if found.keys() != self.units.keys():
                return
            parts = [found[unit] for unit in self.units]
            gathered = parts == sorted(parts) and {part.path for part in parts} <= {whole}
            if not gathered or sum(part.end - part.begin for part in parts) != whole.stat().st_size:
                try:
                    with unfinished.open("wb") as file:
                        for path, begin, end in parts:
                            with path.open("rb") as part:
                                part.seek(begin)
                                file.write(part.read(end - begin))
                        file.flush()
                        os.fsync(file.fileno())
                    unfinished.replace(whole)
                finally:
                    unfinished.unlink(missing_ok=True)
            for path in self.folder.glob("records-*-of-*.jsonl"):
                path.unlink(missing_ok=True)

    def _find(self) -> dict[int, "_Part"]:
        """The whole units, over the files of all processes."""
        found: dict[int, _Part] = {}
        for path in sorted(self.folder.glob("records*.jsonl")):
            with suppress(FileNotFoundError):  # another process has just gathered them
                found |= self._whole_units(path)
        return found

    def _whole_units(self, path: Path) -> Iterator[tuple[int, "_Part"]]:
        """The units of a file, up to the first that is not whole, as a kill leaves it."""
        begin, end, count, unit = 0, 0, 0, None
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    index = json.loads(line)["index"]
                    unit = unit if count else index
                    size = self.units[unit]
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"{path}, line {number} is broken ({type(error).__name__}: {error}): cut the file off before "
                        "it, and what is missing is made again"
                    ) from error
                end, count = end + len(line), count + 1
                if count == size:
                    yield unit, _Part(path, begin, end)
                    begin, count = end, 0


class Shard(NamedTuple):
    """What one process does of an experiment.

    Attributes:
        units: The shard's own.
        todo: Those of them that nobody has done yet.
        write: Adds the records of a unit, all at once; they are on the disk when it returns.
    """

    units: list[int]
    todo: list[int]
    write: Callable[[Iterable[dict]], None]


class _Part(NamedTuple):
    """Where a unit stands, in bytes."""

    path: Path
    begin: int
    end: int


@contextmanager
def hold_shard(folder: str | Path, shard: tuple[int, int] = (1, 1)) -> Iterator[Path]:
    """Let no other process do this shard, the i-th of n from 1 to n, of an experiment; its folder is made if missing.

    Yields:
        The file for the shard's records: with one shard, that of the whole.

    Raises:
        ValueError: There is no such shard.
        BusyError: One does it already.
    """
    number, shards = shard
    if not 1 <= number <= shards:
        raise ValueError(f"there is no shard {number}/{shards}: give one from 1/{max(1, shards)} up to the last")
    path = Path(folder, RECORDS if shards == 1 else f"records-{number}-of-{shards}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(path):
        yield path


# --- prompts -----------------------------------------------------------------------------------------------------


def check_prompts(prompts: Sequence[str]) -> None:
    """What every experiment wants of its prompts.

    Raises:
        ValueError: There are none, or one is empty or there twice.
    """
    if not prompts:
        raise ValueError("there are no prompts")
    first: dict[str, int] = {}
    for i, prompt in enumerate(prompts, 1):
        check_prompt(prompt)
        if first.setdefault(prompt, i) != i:
            raise ValueError(
                f"prompt {i} ({prompt[:60]!r}) is prompt {first[prompt]} again: each counts once, or intervals would "
                "be too narrow"
            )


def prompt_settings(prompts: Sequence) -> dict:
    """How many prompts there are (with whatever belongs to each), and what tells them from others."""
    return {
        "count": len(prompts),
        "digest": blake2b(json.dumps(prompts).encode(), digest_size=16).hexdigest(),
    }


def measure(
    reward: PromptReward,
    originals: Sequence[str],
    texts: Sequence[str],
    negative: str | None = None,
    on_image: "Callable[[int, int, Tensor], None] | None" = None,
) -> "Pictures":
    """Draw each text with its original's seeds, all with one negative prompt, and score the pictures.

    `on_image` gets each picture, (3, height, width), with the places of its text and its seed.
    """
    k = reward.images_per_prompt
    measured = reward.measure(
        [text for text in texts for _ in range(k)],
        [original for original in originals for _ in range(k)],
        [seed for original in originals for seed in reward.seeds(original)],
        [negative] * len(texts) * k,
        on_image=(lambda i, image: on_image(*divmod(i, k), image)) if on_image else None,
        use_cache=False,
    )

    def by_text(values: list) -> list[list]:
        return [values[i : i + k] for i in range(0, len(values), k)]

    def finite(values: Iterable[float]) -> list[float | None]:
        return [value if math.isfinite(value) else None for value in values]

    return Pictures(
        {name: by_text(finite(raw.tolist())) for name, raw in measured.scores.items()},
        by_text(measured.flagged.tolist()),
        {name: by_text([finite(soft) for soft in own]) for name, own in measured.answers.items()},
    )


class Pictures(NamedTuple):
    """What is known of pictures, as records have it: (texts, seeds), and None for a number that is not finite.

    Attributes:
        scores: The raw scores, by reward.
        flagged: Whether the safety checker flagged the picture.
        answers: The soft scores of the prompt's questions, by each reward that asks some. (texts, seeds, questions)
    """

    scores: dict[str, list[list[float | None]]]
    flagged: list[list[bool]]
    answers: dict[str, list[list[list[float | None]]]]


# --- settings ----------------------------------------------------------------------------------------------------


def check_settings(folder: str | Path, settings: Mapping, kind: str) -> None:
    """Write the settings of an experiment that begins in this folder (made where missing), or compare with those there.

    Args:
        folder: Of the experiment.
        settings: All that its numbers depend on: what JSON can hold.
        kind: What it is called in errors: evaluation, study.

    Raises:
        ValueError: The folder holds an experiment with other settings (the first that differs is named), or records
            without any.
    """
    folder, settings = Path(folder), json.loads(json.dumps(settings))
    if (folder / SETTINGS).exists():
        if difference := settings_difference(read_settings(folder, kind), settings):
            raise ValueError(f"{folder} holds another {kind}: {difference}; give another folder, or remove this one")
        return
    if (folder / RECORDS).exists():
        raise ValueError(f"{folder} holds records and no {SETTINGS}: give another folder, or remove {RECORDS}")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")


def read_settings(folder: str | Path, kind: str) -> dict:
    """What `check_settings` wrote, under the names of today.

    Raises:
        ValueError: There is nothing, or it is broken.
    """
    path = Path(folder, SETTINGS)
    try:
        settings = json.loads(path.read_text("utf-8"))
        if generator := settings.get("generator"):
            generator["config"] = current_settings(generator["config"])
        return settings
    except OSError as error:
        raise ValueError(f"{folder} holds no {kind}: cannot read {path.name} ({error.strerror})") from error
    except (ValueError, AttributeError, KeyError) as error:
        raise ValueError(f"{path} is broken: give another folder, or remove this one") from error


def settings_difference(was: Mapping, now: Mapping) -> str | None:
    """The first setting that differs, in words; None where all are the same, in the same order."""
    known, wanted = _flat(was), _flat(now)
    for key in [*known, *(key for key in wanted if key not in known)]:
        if key not in known or key not in wanted or known[key] != wanted[key]:
            before, after = (str(values.get(key, "not there"))[:60] for values in (known, wanted))
            return f"{key} was {before}, and now it is {after}"
    if moved := next((key for key, other in zip(known, wanted, strict=True) if key != other), None):
        return f"{moved.partition('.')[0]} are in another order"
    return None


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with keys such as ``rewards.clip.weight``."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    parts = (_flat(inner, f"{prefix}.{key}" if prefix else key) for key, inner in value.items())
    return {key: inner for part in parts for key, inner in part.items()}


# --- results -----------------------------------------------------------------------------------------------------


def results_head(kind: str, settings: Mapping) -> dict:
    """What all results begin with: what they are, and what made them."""
    return {
        "kind": kind,
        "neuroprompt": __version__,
        "commit": repository_commit(),
        "versions": {p: version(p) for p in ("torch", "transformers", "diffusers", "open_clip_torch", "numpy")},
        "settings": settings,
    }


def write_results(
    folder: str | Path, results: Mapping, title: str, tables: Iterable[Table], rows: Iterable[Sequence[object]]
) -> None:
    """Write ``results.json``, ``table.md`` and ``results.csv``, each whole or not at all.

    Args:
        folder: Of the experiment.
        results: JSON types.
        title: Above the tables.
        tables: The results as a person reads them.
        rows: The results as a spreadsheet reads them: the columns' names first.
    """
    folder = Path(folder)
    write_whole(folder / RESULTS, json.dumps(results, indent=2, allow_nan=False) + "\n")
    file = io.StringIO(newline="")
    writer = csv.writer(file)  # RFC 4180: lines end in \r\n, and either in a text is quoted
    writer.writerows([csv_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    write_whole(folder / "results.csv", file.getvalue())
    parts = [f"## {markdown_text(table.title)}\n\n{table.markdown()}" for table in tables]
    write_whole(folder / "table.md", "\n\n".join([f"# {markdown_text(title)}", *parts]) + "\n")


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

    if git("ls-files", "--error-unmatch", here.name) is None:  # a package may lie in somebody else's repository
        return None
    return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")
