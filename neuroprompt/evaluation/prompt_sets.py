"""Prompts to evaluate on: the field's sets by name, or a file; all of them, or a subset that anybody gets again.

    load_prompts("partiprompts:200")        # 200 of PartiPrompts' prompts, the same 200 on every machine
    load_prompts("prompts.txt")

A known set is read from the hub (or where its authors keep it) with `datasets`, which caches it. Where there is no
network, save its prompts in a file and give the path.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from neuroprompt.models import check_hub
from neuroprompt.prompt_files import SUFFIXES, read_lines
from neuroprompt.prompts import Prompt

_LARGEST = 100_000


@dataclass(frozen=True)
class PromptSet:
    """Where a set is and which of its texts are the prompts.

    Attributes:
        reader: Of `datasets`: csv, json, parquet, or the id of a data set on the hub.
        files: The files to read, by address or path; none for the id's own.
        column: With the prompts; a column of lists (captions of one picture) gives the first of each.
        split: Of the id's own files.
        options: Of the reader.
        plain: What makes a plain prompt of an entry; entries that come to nothing are passed over.
        about: What it is, where its prompts come from, and their licence where that is known.
    """

    reader: str
    column: str
    files: tuple[str, ...] = ()
    split: str = "train"
    options: tuple[tuple[str, object], ...] = ()
    plain: Callable[[str], str] = str.strip
    about: str = ""


def _subject(text: str) -> str:
    return Prompt.parse(text).subject


PROMPT_SETS = {
    "partiprompts": PromptSet(
        "nateraw/parti-prompts", "Prompt", about="1,632 prompts of 12 categories (Yu et al. 2022), Apache-2.0"
    ),
    "drawbench": PromptSet("sayakpaul/drawbench", "Prompts", about="200 hard prompts (Saharia et al. 2022)"),
    "geneval": PromptSet(
        "json",
        "prompt",
        ("https://raw.githubusercontent.com/djghosh13/geneval/main/prompts/evaluation_metadata.jsonl",),
        about="553 prompts about objects, counts, colours and places (Ghosh et al. 2023), MIT",
    ),
    "hpsv2": PromptSet(
        "json",
        "text",  # what `datasets` calls the only column of a list of strings
        tuple(
            f"hf://datasets/zhwang/HPDv2/benchmark/{style}.json"
            for style in ("anime", "concept-art", "paintings", "photo")
        ),
        about="800 prompts of each of four styles (Wu et al. 2023)",
    ),
    "coco": PromptSet(
        "phiyodr/coco2017",
        "captions",
        split="validation",
        about="the first caption of each of 5,000 pictures of COCO 2017's validation set (Lin et al. 2014), CC BY 4.0",
    ),
    "diffusiondb": PromptSet(
        "parquet",
        "prompt",
        ("hf://datasets/poloclub/diffusiondb/metadata.parquet",),
        options=(("columns", ["prompt"]),),
        plain=_subject,
        about="what users of Stable Diffusion asked for (Wang et al. 2022), cut to its first clause, CC0-1.0",
    ),
}
"""The sets that `load_prompts` knows by name."""


def load_prompts(spec: str, count: int | None = None, seed: int = 0) -> list[str]:
    """The distinct prompts of a set, in its order.

    Args:
        spec: A name of `PROMPT_SETS`, or a .txt, .csv or .jsonl file (see `prompt_files.read_lines`); with ``:200`` at
            its end a subset of so many.
        count: Size of the subset; in the place of ``:200``.
        seed: Another seed, another subset. A subset of 100 lies within the one of 200.

    Raises:
        ValueError: There is no such set or file, it cannot be read, a line of it is broken, or it has fewer prompts
            than are asked for.
    """
    source, wanted = _split(spec)
    if count is not None and wanted is not None:
        raise ValueError(f"{spec} says how many prompts, and so does the count of {count}: give one of the two")
    wanted = count if wanted is None else wanted
    if wanted is not None and wanted < 1:
        raise ValueError(f"{wanted} prompts are asked for: it must be at least 1")
    if source in PROMPT_SETS:
        prompts = read_prompt_set(PROMPT_SETS[source], source)
    elif Path(source).suffix.lower() in SUFFIXES:
        lines = read_lines(source)
        if broken := next((line for line in lines if line.prompt is None), None):
            raise ValueError(f"{source}, line {broken.number}: {broken.error}")
        prompts = list(dict.fromkeys(line.prompt for line in lines))
    else:
        raise ValueError(
            f"there is no prompt set {source!r}: choose from {', '.join(PROMPT_SETS)}, or give a file "
            f"({', '.join(SUFFIXES)})"
        )
    if not prompts:
        raise ValueError(f"{source} holds no prompt")
    if wanted is None:
        return prompts
    if wanted > len(prompts):
        raise ValueError(f"{source} has {len(prompts)} distinct prompts, and {wanted} are asked for")
    return subset(prompts, wanted, seed)


def subset(prompts: Iterable[str], count: int, seed: int = 0) -> list[str]:
    """`count` of the prompts, in their order: those with the smallest hash of the seed and the prompt.

    So a prompt is in or out by itself, whatever the order of the file, and smaller subsets lie within larger ones.
    """
    prompts = list(prompts)
    chosen = set(sorted(range(len(prompts)), key=lambda i: (_rank(prompts[i], seed), i))[:count])
    return [prompt for i, prompt in enumerate(prompts) if i in chosen]


def read_prompt_set(prompt_set: PromptSet, name: str) -> list[str]:
    """The distinct prompts of a set that `datasets` reads; of very large ones the first 100,000.

    Raises:
        ValueError: It cannot be read.
    """
    from datasets import load_dataset

    # Streamed, so that two million prompts (or the pictures beside them) are not fetched for a few thousand.
    try:
        place = prompt_set.files[0] if prompt_set.files else prompt_set.reader
        if hub := re.fullmatch(r"(?:hf://datasets/)?([\w.-]+/[\w.-]+)(/.*)?", place):
            check_hub(hub[1], "dataset")
        rows = load_dataset(
            prompt_set.reader,
            data_files=list(prompt_set.files) or None,
            split=prompt_set.split,
            streaming=True,
            **dict(prompt_set.options),
        )
        prompts: dict[str, None] = {}
        for row in rows:
            if prompt_set.column not in row:
                raise ValueError(f"it has no column {prompt_set.column!r} but {', '.join(row)}")
            entry = row[prompt_set.column]
            entry = entry[0] if isinstance(entry, list) and entry else entry
            if isinstance(entry, str) and (prompt := prompt_set.plain(entry)):
                prompts[prompt] = None
                if len(prompts) == _LARGEST:
                    break
    except Exception as error:  # network, hub and file errors of a dozen types
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"cannot read the prompt set {name} ({', '.join(prompt_set.files[:1]) or prompt_set.reader}): {reason}; "
            "where there is no network, give a file of its prompts"
        ) from error
    return list(prompts)


def _split(spec: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.+):(\d+)", spec.strip())
    return (match[1], int(match[2])) if match else (spec.strip(), None)


def _rank(prompt: str, seed: int) -> bytes:
    return blake2b(f"{seed}:{prompt}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
