"""Prompts to evaluate on: the field's sets by name, or a file; all of them, or a subset that anybody gets again.

    load_prompts("partiprompts:200")                # 200 of PartiPrompts' prompts, the same 200 on every machine
    load_prompts("prompts.txt")
    load_entries("geneval:downloads/geneval")       # with all that the set says of each, from a copy of its repository

A known set is read from where its authors keep it, and kept in the cache of `datasets`. Where there is no network, its
own files do: behind the name comes the folder (a clone of the repository will do) or the file.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from neuroprompt.models import check_hub
from neuroprompt.prompt_files import SUFFIXES, read_lines
from neuroprompt.prompts import Prompt

_LARGEST = 100_000
_NAME = re.compile(r"[\w-]{1,100}", re.ASCII)


@dataclass(frozen=True)
class PromptSet:
    """Where a set is, which of its texts are the prompts, and what else it says.

    Attributes:
        column: With the prompts; a column of lists (captions of one picture) gives the first of each. In files of lines
            or of a list of texts, which have no columns, the name that it gets.
        reader: Of `datasets`: parquet, or the id of a data set on the hub; none for `files` that are read here.
        home: What the addresses of all files begin with.
        files: The files to read, as they lie in the set's repository; none for the id's own.
        split: Of the id's own files.
        options: Of the reader.
        plain: What makes a plain prompt of an entry; entries that come to nothing are passed over.
        keys: What every record must have besides its prompt.
        name: The key whose value names a prompt, of sets that number them themselves. Records with the same one belong
            to one prompt.
        questions: Whether its file says what to ask of the pictures, too (see `question_file`).
        about: What it is, where its prompts come from, and their licence where that is known.
    """

    column: str
    reader: str = ""
    home: str = ""
    files: tuple[str, ...] = ()
    split: str = "train"
    options: tuple[tuple[str, object], ...] = ()
    plain: Callable[[str], str] = str.strip
    keys: tuple[str, ...] = ()
    name: str = ""
    questions: bool = False
    about: str = ""


class Entry(NamedTuple):
    """A prompt where a set has it; the same prompt may stand in several places.

    Attributes:
        prompt: Without what surrounds it.
        group: The file that it stands in, without its ending: a style, a category.
        index: Its place in that file, from 0.
        name: What the set calls it; its index where it calls it nothing.
        record: All that the set says of it.
    """

    prompt: str
    group: str = ""
    index: int = 0
    name: str = ""
    record: Mapping[str, Any] = {}


def _subject(text: str) -> str:
    return Prompt.parse(text).subject


_GITHUB = "https://raw.githubusercontent.com"

PROMPT_SETS = {
    "partiprompts": PromptSet(
        "Prompt", "nateraw/parti-prompts", about="1,632 prompts of 12 categories (Yu et al. 2022), Apache-2.0"
    ),
    "drawbench": PromptSet("Prompts", "sayakpaul/drawbench", about="200 hard prompts (Saharia et al. 2022)"),
    "geneval": PromptSet(
        "prompt",
        home=f"{_GITHUB}/djghosh13/geneval/main/",
        files=("prompts/evaluation_metadata.jsonl",),
        keys=("tag", "include"),
        questions=True,
        about="553 prompts about objects, counts, colours and places (Ghosh et al. 2023), MIT",
    ),
    "geneval2": PromptSet(
        "prompt",
        home=f"{_GITHUB}/facebookresearch/GenEval2/main/",
        files=("geneval2_data.jsonl",),
        keys=("vqa_list", "atom_count", "skills"),
        questions=True,
        about="800 prompts of 3 to 10 atoms (Kamath et al. 2025), CC BY-NC 4.0",
    ),
    "dpg-bench": PromptSet(
        "text",
        home=f"{_GITHUB}/TencentQQGYLab/ELLA/main/dpg_bench/",
        files=("dpg_bench.csv",),
        name="item_id",
        questions=True,
        about="1,065 dense prompts of a paragraph each (Hu et al. 2024), Apache-2.0",
    ),
    "t2i-compbench": PromptSet(
        "prompt",
        home=f"{_GITHUB}/Karine-Huang/T2I-CompBench/main/examples/dataset/",
        files=tuple(
            f"{category}_val.txt"
            for category in ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex")
        ),
        about="300 prompts of each of eight kinds of composition (Huang et al. 2023, 2025), MIT",
    ),
    "unigenbench": PromptSet(
        "prompt_en",
        home=f"{_GITHUB}/CodeGoat24/UniGenBench/main/data/",
        files=("test_prompts_en.csv",),
        keys=("sub_dims_en",),
        name="index",
        about="600 prompts with 1 to 10 test points each (Wang et al. 2025), CC BY 4.0",
    ),
    "hpsv2": PromptSet(
        "prompt",
        home="hf://datasets/zhwang/HPDv2/benchmark/",
        files=("anime.json", "concept-art.json", "paintings.json", "photo.json"),
        about="800 prompts of each of four styles (Wu et al. 2023), Apache-2.0",
    ),
    "coco": PromptSet(
        "captions",
        "phiyodr/coco2017",
        split="validation",
        about="the first caption of each of 5,000 pictures of COCO 2017's validation set (Lin et al. 2014), CC BY 4.0",
    ),
    "diffusiondb": PromptSet(
        "prompt",
        "parquet",
        home="hf://datasets/poloclub/diffusiondb/",
        files=("metadata.parquet",),
        options=(("columns", ["prompt"]),),
        plain=_subject,
        about="what users of Stable Diffusion asked for (Wang et al. 2022), cut to its first clause, CC0-1.0",
    ),
}
"""The sets that are known by name."""


class Source(NamedTuple):
    """What a spec such as ``geneval:downloads/geneval:200`` names: a set, a file or folder, or both; and how many."""

    name: str | None
    path: str | None
    count: int | None

    @classmethod
    def parse(cls, spec: str) -> "Source":
        """Read a spec; what it names need not be there."""
        match = re.fullmatch(r"(.+):(\d+)", spec.strip())
        rest, count = (match[1], int(match[2])) if match else (spec.strip(), None)
        name, _, path = rest.partition(":")
        return cls(name, path or None, count) if name in PROMPT_SETS else cls(None, rest, count)

    def __str__(self) -> str:
        return ":".join(part for part in (self.name, self.path) if part)


def load_prompts(spec: str, count: int | None = None, seed: int = 0) -> list[str]:
    """The distinct prompts of a set, in its order: those of `load_entries`."""
    return prompts_of(load_entries(spec, count, seed))


def load_entries(spec: str, count: int | None = None, seed: int = 0) -> list[Entry]:
    """The prompts of a set with all that it says of them, in its order.

    Args:
        spec: A name of `PROMPT_SETS`, and behind it, with a colon, a folder or file of the set where it is here; or any
            .txt, .csv or .jsonl file of prompts (see `prompt_files.read_lines`). With ``:200`` at its end a subset of
            so many distinct prompts.
        count: Size of the subset; in the place of ``:200``.
        seed: Another seed, another subset. A subset of 100 lies within the one of 200.

    Raises:
        ValueError: There is no such set or file, it cannot be read, a record of it is broken, or it has fewer prompts
            than are asked for.
    """
    source = Source.parse(spec)
    if count is not None and source.count is not None:
        raise ValueError(f"{spec} says how many prompts, and so does the count of {count}: give one of the two")
    wanted = source.count if count is None else count
    if wanted is not None and wanted < 1:
        raise ValueError(f"{wanted} prompts are asked for: it must be at least 1")
    if source.name:
        entries = read_prompt_set(PROMPT_SETS[source.name], source.name, source.path)
    elif Path(source.path).suffix.lower() in SUFFIXES:
        lines = read_lines(source.path)
        if broken := next((line for line in lines if line.prompt is None), None):
            raise ValueError(f"{source}, line {broken.number}: {broken.error}")
        entries = [Entry(line.prompt, index=i) for i, line in enumerate(lines)]
    else:
        raise ValueError(
            f"there is no prompt set {source.path!r}: choose from {', '.join(PROMPT_SETS)}, or give a file "
            f"({', '.join(SUFFIXES)})"
        )
    prompts = prompts_of(entries)
    if not prompts:
        raise ValueError(f"{source} holds no prompt")
    if wanted is None:
        return entries
    if wanted > len(prompts):
        raise ValueError(f"{source} has {len(prompts)} distinct prompts, and {wanted} are asked for")
    chosen = set(subset(prompts, wanted, seed))
    return [entry for entry in entries if entry.prompt in chosen]


def prompts_of(entries: Iterable[Entry]) -> list[str]:
    """The distinct prompts, in the order of their first places."""
    return list(dict.fromkeys(entry.prompt for entry in entries))


def subset(prompts: Iterable[str], count: int, seed: int = 0) -> list[str]:
    """`count` of the prompts, in their order: those with the smallest hash of the seed and the prompt.

    So a prompt is in or out by itself, whatever the order of the file, and smaller subsets lie within larger ones.
    """
    prompts = list(prompts)
    chosen = set(sorted(range(len(prompts)), key=lambda i: (_rank(prompts[i], seed), i))[:count])
    return [prompt for i, prompt in enumerate(prompts) if i in chosen]


def question_file(spec: str) -> Path | None:
    """The file of a set that says what to ask of its pictures, for `questions.read_questions`; None where none does.

    Raises:
        ValueError: It cannot be read.
    """
    name, path, _ = Source.parse(spec)
    return _files(PROMPT_SETS[name], name, path)[0] if name and PROMPT_SETS[name].questions else None


def read_prompt_set(prompt_set: PromptSet, name: str, path: str | None = None) -> list[Entry]:
    """The prompts of a set, of which `path` is a folder or file where it is here; of very large ones the first 100,000.

    Raises:
        ValueError: It cannot be read, or a record of it is broken.
    """
    if prompt_set.reader and path is None:
        with _reached(prompt_set, name):
            return _read_with_datasets(prompt_set)
    return [entry for file in _files(prompt_set, name, path) for entry in _read_file(prompt_set, file)]


def _rank(prompt: str, seed: int) -> bytes:
    return blake2b(f"{seed}:{prompt}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


# --- where sets are ----------------------------------------------------------------------------------------------


@contextmanager
def _reached(prompt_set: PromptSet, name: str) -> Iterator[None]:
    """Whatever goes wrong with the network, the hub or what they give, of which there are dozens, is a line."""
    place = f"{prompt_set.home}{prompt_set.files[0]}" if prompt_set.files else prompt_set.reader
    try:
        if hub := re.fullmatch(r"(?:hf://datasets/)?([\w.-]+/[\w.-]+)(/.*)?", place):
            check_hub(hub[1], "dataset")
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"cannot read the prompt set {name} ({place}): {reason}; where there is no network, give a file of its "
            f"prompts, or a copy of the set as {name}:PATH"
        ) from error


def _files(prompt_set: PromptSet, name: str, path: str | None) -> list[Path]:
    """The set's own files: from where its authors keep them; in a folder; or the one that is given."""
    if path is None:
        with _reached(prompt_set, name):
            return _download([f"{prompt_set.home}{file}" for file in prompt_set.files])
    if not Path(path).is_dir():
        return [Path(path)]
    if not prompt_set.files:
        raise ValueError(f"{path} is a folder: give the file with the column {prompt_set.column!r}")
    found = []
    for file in prompt_set.files:
        parts = f"{prompt_set.home}{file}".split("/")
        places = (Path(path, *parts[i:]) for i in range(1, len(parts)))  # a clone, a folder of it, or the files alone
        if (place := next((place for place in places if place.is_file()), None)) is None:
            raise ValueError(f"there is no {parts[-1]} in {path}")
        found.append(place)
    return found


def _download(addresses: list[str]) -> list[Path]:
    """The files, from the cache of `datasets` where it has them; there each gets its own name back."""
    from datasets import DownloadManager

    found = []
    for address, kept in zip(addresses, DownloadManager().download(addresses), strict=True):
        named = Path(f"{kept}.named", address.rpartition("/")[2])
        named.parent.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            named.symlink_to(Path(kept).absolute())
        found.append(named)
    return found


# --- records -----------------------------------------------------------------------------------------------------


def _read_with_datasets(prompt_set: PromptSet) -> list[Entry]:
    from datasets import load_dataset

    # Streamed, so that two million prompts (or the pictures beside them) are not fetched for a few thousand.
    rows = load_dataset(
        prompt_set.reader,
        data_files=[f"{prompt_set.home}{file}" for file in prompt_set.files] or None,
        split=prompt_set.split,
        streaming=True,
        **dict(prompt_set.options),
    )
    found: dict[str, Entry] = {}
    for index, row in enumerate(rows):
        if prompt_set.column not in row:
            raise ValueError(f"it has no column {prompt_set.column!r} but {', '.join(row)}")
        if prompt := _prompt(prompt_set, row):
            found.setdefault(prompt, Entry(prompt, index=index))
            if len(found) == _LARGEST:
                break
    return list(found.values())


def _read_file(prompt_set: PromptSet, file: Path) -> list[Entry]:
    """The entries of one of the set's own files."""
    found: dict[str, Entry] = {}  # by their names
    for index, record in _records(file, prompt_set.column):
        where = f"{file}, record {index + 1}"
        for key in filter(None, (prompt_set.column, prompt_set.name, *prompt_set.keys)):
            if record.get(key) in (None, ""):
                raise ValueError(f"{where}: there is no {key!r}")
        if not (prompt := _prompt(prompt_set, record)):
            raise ValueError(f"{where}: {prompt_set.column!r} is no text")
        name = str(record[prompt_set.name] if prompt_set.name else index)
        if not _NAME.fullmatch(name):
            raise ValueError(f"{where}: {prompt_set.name!r} is {name[:40]!r}, which cannot name a file")
        if found.setdefault(name, Entry(prompt, file.stem, index, name, record)).prompt != prompt:
            raise ValueError(f"{where}: {prompt_set.name!r} is {name}, as of another prompt")
    return list(found.values())


def _prompt(prompt_set: PromptSet, record: Mapping[str, Any]) -> str:
    """The plain prompt of a record; nothing where it has none."""
    entry = record[prompt_set.column]
    entry = entry[0] if isinstance(entry, list) and entry else entry
    return prompt_set.plain(entry) if isinstance(entry, str) else ""


def _records(file: Path, column: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The records of a .csv, .tsv, .json, .jsonl or .txt file and their places, from 0; a bare text gets a column."""
    suffix = file.suffix.lower()
    try:
        text = file.read_text("utf-8-sig")
        if suffix in (".csv", ".tsv"):
            found = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ",")
        elif suffix == ".json":
            found = json.loads(text)
        elif suffix in (".jsonl", ".txt"):
            read = json.loads if suffix == ".jsonl" else str
            found = (read(line) if line.strip() else None for line in text.split("\n"))
        else:
            raise ValueError("it is no .csv, .tsv, .json, .jsonl or .txt file")
        for index, record in enumerate(found):
            if record is not None:
                record = {column: record} if isinstance(record, str) else record
                if not isinstance(record, dict):
                    raise ValueError(f"record {index + 1} is {json.dumps(record)[:40]}")
                yield index, record
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError, csv.Error) as error:  # what is no JSON, no UTF-8, no table
        raise ValueError(f"cannot read {file}: {' '.join(str(error).split())[:200]}") from error
