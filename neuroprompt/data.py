"""Raw prompts in, training pairs out: cleaned, de-duplicated, decontaminated, split by hash.

Two data sets are made from one source of prompts that people wrote:

- **pairs** (`prompt`, `completion`): an expert prompt, cut where its subject ends. A policy trained on the completions
  continues a plain prompt the way experts do (the supervised stage of Promptist, arXiv 2212.09611, and NeuroPrompts,
  arXiv 2311.12229; they needed a second model to make plain prompts, a cut needs none and keeps the subject).
- **plain** (`prompt`): short prompts without any modifier, the queries of reinforcement learning.

For a policy that retells (`format: retell`) the completion is the expert prompt itself, prose or tags, and its plain
prompts are made of it by leaving out (`neuroprompt.degrading`); or both are the user's own. Either way all that a plain
prompt says is in its expert prompt, for that is what the policy will be held to: `check_said`.

Every step is a function from `Dataset` to `Dataset` and the counts at each are written into the data card. What of a
completion is worth learning is decided modifier by modifier in `neuroprompt.targets`.
"""

import hashlib
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path

import ftfy
from datasets import Dataset, DatasetDict, load_dataset
from datasets.exceptions import DatasetsError
from rich.console import Console

from neuroprompt.artists import names_celebrity
from neuroprompt.coherence import controls
from neuroprompt.degrading import core, degrade, unsaid
from neuroprompt.files import sole_writer
from neuroprompt.formats import NAMED
from neuroprompt.judge import ARTISTS, Judge
from neuroprompt.models import ModelError, check_hub
from neuroprompt.modifiers import categorise
from neuroprompt.prompts import Prompt, count_clip_tokens, modifier_key, normalise
from neuroprompt.targets import KEPT, REASONS, mend

SPLITS = ("train", "validation", "test")
_PAIRS = (("short", "long"), ("plain", "expert"), ("prompt", "completion"), ("prompt", "text"))

# Hub data sets whose files cannot be found by their id alone (loading scripts are gone from `datasets`).
_HUB_FILES = {
    ("poloclub/diffusiondb", "2m_text_only"): "hf://datasets/poloclub/diffusiondb/metadata.parquet",
    ("poloclub/diffusiondb", "large_text_only"): "hf://datasets/poloclub/diffusiondb/metadata-large.parquet",
}
_READERS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json", ".txt": "text"}


@dataclass
class DataConfig:
    """What to read and what to keep.

    Args:
        format: What is learnt: to `continue` a plain prompt, or to `retell` it (`neuroprompt.formats.NAMED`).
        source: A .parquet, .csv, .jsonl or .txt file, or the id of a hub data set.
        source_config: The configuration of the hub data set, such as `2m_text_only` of `poloclub/diffusiondb`.
        column: The column with the prompts; by default `prompt`, `Prompt`, `text` or `caption`, whichever is there. To
            retell, two columns `short` and `long` (or `plain` and `expert`, `prompt` and `completion` or `text`) are
            taken as pairs as they are; those whose long text leaves out what the short one says are dropped.
        limit: Read that many rows only; 0 reads all.
        min_words: Prompts of fewer words are dropped.
        max_clip_tokens: Prompts of more CLIP tokens are dropped, begin and end tokens included. Experts are imitated in
            what the text encoder reads: 77.
        max_nsfw: The highest score of adult content, where the source has one (DiffusionDB's `prompt_nsfw`).
        near_duplicate: The Jaccard similarity of word sets from which two prompts count as one.
        max_per_prefix: At most so many prompts share their first six words.
        max_per_tail: At most so many pairs share their completion's last four modifiers: the habit of one suffix for
            everything is learnt from data.
        mend: Leave out of the targets what a person would not sign (`neuroprompt.targets`): sites, broken words, what
            is said twice or contradicts, a face for a teapot. Prompts about celebrities are dropped; to retell, where
            texts stay whole, every prompt that names a site, or an artist whom `artists` does not allow.
        artists: Whose names stay in mended targets: `historical` (dead before 1954, studios), `all` or `none`.
        min_modifiers: Pairs whose completion has fewer modifiers are dropped; not of those to retell.
        evaluation_files: Text files of evaluation prompts; prompts that equal or extend one of them are dropped.
        late_cuts: The share of pairs cut after some modifiers, so that half-written prompts are continued, too.
        num_proc: How many processes work at it.

    There is no seed: cuts and splits are drawn from a hash of the text, so that they never move.
    """

    format: str = "continue"
    source: str = ""
    source_config: str | None = None
    column: str | None = None
    limit: int = 0
    min_words: int = 2
    max_clip_tokens: int = 77
    max_nsfw: float = 0.5
    near_duplicate: float = 0.8
    max_per_prefix: int = 5
    max_per_tail: int = 50
    mend: bool = True
    artists: str = "historical"
    min_modifiers: int = 2
    evaluation_files: list[str] = field(default_factory=list)
    late_cuts: float = 0.15
    num_proc: int = 2


@dataclass
class PromptData:
    """What `prepare` made: two `DatasetDict`s with the splits train, validation and test, the counts per step, and what
    became of the modifiers of the targets (`neuroprompt.targets.REASONS`).

    Pairs have the columns `prompt`, `completion` and, to be continued, `medium` (`neuroprompt.coherence.controls` of
    both).
    """

    pairs: DatasetDict
    plain: DatasetDict
    counts: dict[str, int]
    modifiers: dict[str, int] = field(default_factory=dict)

    def save(self, folder: str | Path, config: DataConfig) -> None:
        """Write `pairs/`, `plain/`, `config.json` and a data card; the folder appears whole or not at all.

        Raises:
            ValueError: The folder is there, and holds no prepared data.
            BusyError: Another process writes it.
        """
        folder = Path(folder)
        check_folder(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with sole_writer(folder):
            beside, before = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "before"))
            for stale in (beside, before):  # of a killed run
                shutil.rmtree(stale, ignore_errors=True)
            self.pairs.save_to_disk(beside / "pairs")
            self.plain.save_to_disk(beside / "plain")
            made = {**asdict(config), "counts": self.counts, "modifiers": self.modifiers}
            (beside / "config.json").write_text(json.dumps(made, indent=2) + "\n")
            (beside / "README.md").write_text(data_card(self, config), encoding="utf-8")
            if folder.exists():
                folder.rename(before)
            beside.rename(folder)
            shutil.rmtree(before, ignore_errors=True)

    @classmethod
    def load(cls, folder: str | Path) -> "PromptData":
        """What `save` wrote.

        Raises:
            FileNotFoundError: There is nothing.
            ValueError: It is broken.
        """
        folder = Path(folder)
        try:
            known = json.loads((folder / "config.json").read_text())
            counts, modifiers = known["counts"], known.get("modifiers", {})
        except OSError as error:
            raise FileNotFoundError(f"no prepared data in {folder}: run scripts/prepare_data.py first") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / 'config.json'} is none of prepared data: prepare it again") from error
        pairs, plain = (DatasetDict.load_from_disk(folder / name) for name in ("pairs", "plain"))
        return cls(pairs, plain, counts, modifiers)


def check_folder(folder: str | Path, sources: Iterable[str | Path] = ()) -> None:
    """Stop where `PromptData.save` would delete what it should not: it replaces the folder.

    Raises:
        ValueError: The folder is there, and holds something other than prepared data, or one of the sources.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / "plain").is_dir())):
        raise ValueError(f"{folder} is there, and is no prepared data, which could be replaced: give another folder")
    for source in sources:
        if Path(source).exists() and Path(source).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{source} is in {folder}, which would be replaced: give another folder")


def prepare(config: DataConfig, console: Console | None = None) -> PromptData:
    """Run all steps on `config.source`.

    Raises:
        ValueError: A setting is out of range, a file is missing or broken, the source has no prompt column, or nothing
            is left of it.
    """
    _check(config)
    say = (console or Console(stderr=True)).print
    if config.format == "retell":
        return pair_prompts(config, say)
    prompts, counts = clean_prompts(config, say)
    return cut_prompts(prompts, counts, config, say)


def clean_prompts(config: DataConfig, say: Callable[[str], None] = print) -> tuple[Dataset, dict[str, int]]:
    """The prompts of `config.source` that are worth learning from, and how many were left after each step."""
    data = read_prompts(config)
    counts = {"read": len(data)}
    steps: list[tuple[str, Callable[[Dataset], Dataset]]] = [
        ("clean text, English, 2+ words, fits CLIP", lambda d: _clean(d, config)),
        ("no exact duplicates", _drop_duplicates),
        ("not in an evaluation set", lambda d: _decontaminate(d, config.evaluation_files)),
        (f"at most {config.max_per_prefix} per six-word prefix", lambda d: _cap_prefixes(d, config.max_per_prefix)),
        (f"no near-duplicates (Jaccard {config.near_duplicate})", lambda d: _drop_near_duplicates(d, config)),
    ]
    for name, step in steps:
        data = step(data)
        counts[name] = len(data)
        say(f"{len(data):>9,} {name}")
        if not len(data):
            raise ValueError(f"nothing left of {config.source} after the step '{name}'")
    return data, counts


def cut_prompts(
    prompts: Dataset, counts: dict[str, int], config: DataConfig, say: Callable[[str], None] = print
) -> PromptData:
    """Pairs and plain prompts of what `clean_prompts` gives; `counts` is gone on with."""
    counts = dict(counts)
    if config.mend:
        prompts = _drop_celebrities(prompts)
        counts["not about a celebrity"] = len(prompts)
        say(f"{len(prompts):>9,} not about a celebrity")
    cut = _mapped(prompts, lambda batch: _pairs_and_plain(batch, config), config, "cutting")
    kinds, became = cut["kind"][:], Counter(reason for reasons in cut["became"][:] for reason in reasons)
    cut = cut.remove_columns(["kind", "became"])
    pairs = cut.select([i for i, kind in enumerate(kinds) if kind == "pair"])
    plain = cut.select([i for i, kind in enumerate(kinds) if kind == "plain"]).remove_columns(["completion", "medium"])
    counts["cut where the subject ends"] = len(pairs)
    for name, step in (
        (f"{config.min_modifiers}+ modifiers to learn", lambda d: _enough_modifiers(d, config.min_modifiers)),
        (f"at most {config.max_per_tail} per tail of four modifiers", lambda d: _cap_tails(d, config.max_per_tail)),
    ):
        pairs = step(pairs)
        counts[name] = len(pairs)
        say(f"{len(pairs):>9,} {name}")
    counts |= {"pairs": len(pairs), "plain prompts": len(plain)}
    say(f"{len(pairs):>9,} pairs, {len(plain):,} plain prompts")
    if not len(pairs):
        raise ValueError(f"{config.source} holds no prompt with two or more modifiers: nothing to learn from")
    return PromptData(_split(pairs), _split(plain), counts, {r: became[r] for r in (KEPT, *REASONS)})


def pair_prompts(config: DataConfig, say: Callable[[str], None] = print) -> PromptData:
    """Pairs for a policy that retells, of the source's own or of its expert prompts made worse; and the plain prompts
    among them."""
    pairs = read_pairs(config)
    if pairs is None:
        experts, counts = clean_prompts(config, say)
        if config.mend:
            experts = _drop_names(experts, config.artists)
            counts["names no celebrity, living artist or site"] = len(experts)
        pairs = _mapped(experts, _degraded, config, "degrading")
    else:
        counts = {"read": len(pairs)}
        pairs = pairs.filter(_is_pair, num_proc=_others(config), load_from_cache_file=False)
        counts["pairs whose long text says all of the short one, and more"] = len(pairs)
    for column in ("prompt", "completion"):
        pairs = _decontaminate(pairs, config.evaluation_files, column)
    splits = _split_by_subject(pairs)
    if not splits:
        raise ValueError(f"{config.source} holds no prompt that a plain one could be made of: nothing to learn from")
    check_said(splits)
    plain = {name: Dataset.from_dict({"prompt": list(dict.fromkeys(s["prompt"][:]))}) for name, s in splits.items()}
    counts |= {"pairs": sum(map(len, splits.values())), "plain prompts": sum(map(len, plain.values()))}
    say("\n".join(f"{count:>9,} {name}" for name, count in list(counts.items())[-3:]))
    return PromptData(splits, DatasetDict(plain), counts)


def check_said(pairs: DatasetDict) -> None:
    """Stop where a plain prompt says what its expert prompt does not: a policy that learns this leaves words out.

    Raises:
        ValueError: One does; it is shown.
    """
    for split, rows in pairs.items():
        for number, (plain, expert) in enumerate(zip(rows["prompt"][:], rows["completion"][:], strict=True)):
            if left_out := unsaid(plain, expert):
                raise ValueError(f"{split} pair {number}: {left_out[0]!r} of {plain!r} is not in {expert!r}")


def read_pairs(config: DataConfig) -> Dataset | None:
    """The source as a `Dataset` with the columns `prompt` and `completion`, or None where it holds no pairs."""
    data = _load(config)
    columns = next((c for c in _PAIRS if not config.column and set(c) <= set(data.column_names)), None)
    if columns is None:
        return None
    data = data.select_columns(list(columns)).rename_columns(
        {column: new for column, new in zip(columns, ("prompt", "completion"), strict=True) if column != new}
    )
    return data.select(range(min(config.limit, len(data)))) if config.limit else data


def read_prompts(config: DataConfig) -> Dataset:
    """The source as a `Dataset` with the column `prompt`, and `nsfw` where the source scores it."""
    data = _load(config)
    names = [config.column] if config.column else ["prompt", "Prompt", "text", "caption"]
    column = next((n for n in names if n in data.column_names), None)
    if column is None:
        raise ValueError(f"{config.source} has no column {' or '.join(names)}; it has {', '.join(data.column_names)}")
    if config.limit:
        data = data.select(range(min(config.limit, len(data))))
    keep = {column: "prompt", "prompt_nsfw": "nsfw"}
    data = data.select_columns([c for c in keep if c in data.column_names])
    return data.rename_columns({c: new for c, new in keep.items() if c in data.column_names and c != new})


def _load(config: DataConfig) -> Dataset:
    path = Path(config.source)
    hub = _HUB_FILES.get((config.source, config.source_config or ""))
    if path.suffix.lower() in _READERS:
        if not path.is_file():
            raise ValueError(f"no such file: {path}")
        extra = {"delimiter": "\t"} if path.suffix == ".tsv" else {}
        arguments = {"path": _READERS[path.suffix.lower()], "data_files": str(path), **extra}
    elif path.is_file():
        raise ValueError(f"{path}: prompts are read from {', '.join(_READERS)} files")
    elif hub:
        arguments = {"path": "parquet", "data_files": hub}
    else:
        arguments = {"path": config.source, "name": config.source_config}
    try:
        if not path.exists():
            check_hub(config.source, "dataset")
        return load_dataset(**arguments, split="train")
    except ModelError as error:
        raise ValueError(str(error)) from error
    except (DatasetsError, ValueError) as error:
        raise ValueError(f"cannot read {config.source}: {error.__cause__ or error}") from error


def clean(text: str) -> str | None:
    """A repaired prompt on one line, or `None` where there is nothing to learn from it.

    Mojibake and spacing are repaired, generator flags (``--ar 16:9``, ``- n 9``), repeated clauses and trailing
    punctuation cut off; texts that are not mostly Latin letters, not English, or explicit are refused.
    """
    text = normalise(ftfy.fix_text(text.replace("\0", " ")).replace("\n", ", "))
    text = _FLAGS.sub("", text).strip(" ,;|-")
    if text.startswith("[") and text.endswith("]") and text.count("[") == 1:
        text = text[1:-1].strip()
    prompt = Prompt.parse(text)
    keys = [modifier_key(s) for s in prompt.segments]
    if len(set(keys)) < len(keys):
        text = str(prompt.keep([key not in keys[:i] for i, key in enumerate(keys)]))
    letters = len(_NOT_LETTERS.sub("", text))
    if letters < 0.6 * len(text.replace(" ", "")) or len(_NOT_LATIN.sub("", text)) < 0.9 * letters:
        return None
    if is_adult(text) or not _is_english(text):
        return None
    return text


def is_adult(text: str) -> bool:
    """Whether a word of `text` is explicit."""
    return bool(_ADULT.search(text))


def cut_points(text: str) -> tuple[list[int], list[int]]:
    """Character offsets where `text` may be cut into a plain prompt and its continuation.

    Returns:
        The cuts up to the end of the subject, then the later ones, between modifiers. A cut stands right before a
        separator or connective (", highly detailed"; " by alphonse mucha"), and at least two recognised modifiers
        follow it.
    """
    prompt = Prompt.parse(text)
    offsets, position = [], 0
    for separator, segment in zip(prompt.separators, prompt.segments, strict=False):
        offsets.append(position)
        position += len(separator) + len(segment)
    known = [categorise(s) is not None for s in prompt.segments]
    subject = known.index(False) if False in known else len(known)  # some open with "full body" or "tattoo design"
    first = next((i for i in range(subject + 1, len(known)) if known[i]), len(known))
    early, late = offsets[subject + 1 : first + 1], offsets[first + 1 :]
    followers = {o: sum(known[i:]) for i, o in enumerate(offsets)}
    connective = _CONNECTIVE.search(prompt.subject)
    if connective:
        at = len(prompt.separators[0]) + connective.start()
        followers[at] = sum(known[1:]) + 1
        early = [at]
    return [o for o in early if followers[o] >= 2], [o for o in late if followers[o] >= 2]


def is_plain(text: str) -> bool:
    """Whether `text` is what a beginner types: 3 to 12 words, one clause, no modifier."""
    prompt = Prompt.parse(text)
    return (
        len(prompt.segments) == 1
        and 3 <= len(text.split()) <= 12
        and not _CONNECTIVE.search(text)
        and categorise(text) is None
    )


def split_of(prompt: str) -> str:
    """The split that a prompt belongs to, by its first four words alone: 98 % train, 1 % validation, 1 % test."""
    bucket = _hash(" ".join(modifier_key(prompt).split()[:4])) % 100
    return "validation" if bucket == 98 else "test" if bucket == 99 else "train"


def data_card(data: PromptData, config: DataConfig) -> str:
    """The README.md that is written beside prepared data."""
    rows = "\n".join(f"| {name} | {count:,} |" for name, count in data.counts.items())
    sizes = "\n".join(f"| {s} | {len(data.pairs.get(s, [])):,} | {len(data.plain.get(s, [])):,} |" for s in SPLITS)
    held_out = "validation" if "validation" in data.pairs else "train"
    between = " → " if config.format == "retell" else ""
    pairs = "\n".join(f"- {row['prompt']}{between}**{row['completion']}**" for row in data.pairs[held_out].take(12))
    plain = "\n".join(f"- {row['prompt']}" for row in data.plain.get(held_out, Dataset.from_dict({})).take(12))
    return (
        f"# Prompt data\n\nMade by `scripts/prepare_data.py` from `{Path(config.source).name}`; "
        f"all settings are in `config.json`.\n\n| step | prompts left |\n|---|---|\n{rows}\n\n"
        f"{_mended(data.modifiers)}| split | pairs | plain |\n|---|---|---|\n{sizes}\n\n"
        f"## Pairs (the first of the {held_out} split; the completion is bold)\n\n{pairs}\n\n"
        f"## Plain prompts (likewise)\n\n{plain}\n"
    )


def _mended(modifiers: dict[str, int]) -> str:
    if not any(modifiers.values()):
        return ""
    rows = "\n".join(f"| {reason} | {REASONS.get(reason, '')} | {n:,} |" for reason, n in modifiers.items())
    return f"| a target's modifier | when it | modifiers |\n|---|---|---|\n{rows}\n\n"


# --- steps -------------------------------------------------------------------------------------------------------


def _mapped(data: Dataset, step: Callable[[dict], dict], config: DataConfig, desc: str) -> Dataset:
    """Never from the cache, which knows nothing of the rules that a step follows in other modules."""
    names = data.column_names
    return data.map(
        step, batched=True, num_proc=_others(config), remove_columns=names, desc=desc, load_from_cache_file=False
    )


def _others(config: DataConfig) -> int | None:
    """Processes beside this one, as `datasets` counts them: one of them would cost more than it does."""
    return config.num_proc if config.num_proc > 1 else None


def _clean(data: Dataset, config: DataConfig) -> Dataset:
    def step(batch):
        scores = batch.get("nsfw") or [None] * len(batch["prompt"])
        kept = []
        for text, score in zip(batch["prompt"], scores, strict=True):
            if not isinstance(text, str) or len(text) > 2000 or (score is not None and score > config.max_nsfw):
                continue
            whole = config.format == "retell" and text.rstrip().endswith(".")
            text = clean(text)
            if text and len(text.split()) >= config.min_words and _fits(text, config.max_clip_tokens):
                kept.append(f"{text}." if whole else text)
        return {"prompt": kept}

    return _mapped(data, step, config, "cleaning")


def _drop_duplicates(data: Dataset) -> Dataset:
    return _keep_first(data, (modifier_key(p) for p in data["prompt"][:]), 1)


def _cap_prefixes(data: Dataset, limit: int) -> Dataset:
    return _keep_first(data, (" ".join(modifier_key(p).split()[:6]) for p in data["prompt"][:]), limit)


def _cap_tails(pairs: Dataset, limit: int) -> Dataset:
    tails = (", ".join(modifier_key(s) for s in Prompt.parse(c).segments[-4:]) for c in pairs["completion"][:])
    return _keep_first(pairs, tails, limit)


def _keep_first(data: Dataset, keys: Iterable[str], limit: int) -> Dataset:
    """The first `limit` rows of each key; memory holds a 64-bit hash per key."""
    seen: Counter[int] = Counter()
    kept = []
    for i, key in enumerate(keys):
        key = _hash(key)
        seen[key] += 1
        if seen[key] <= limit:
            kept.append(i)
    return data.select(kept)


def _decontaminate(data: Dataset, files: list[str], column: str = "prompt") -> Dataset:
    """Drop what repeats or extends an evaluation prompt.

    An evaluation prompt of one to three words ("a cat") must be a whole clause to count: as a bare prefix it would take
    every prompt about cats away.
    """
    evaluation = {modifier_key(line) for f in files for line in Path(f).read_text("utf-8").split("\n") if line.strip()}
    longest = max((len(e.split()) for e in evaluation), default=0)

    def extends(prompt: str) -> bool:
        words = modifier_key(prompt).split()
        clauses = set(accumulate(len(modifier_key(s).split()) for s in Prompt.parse(prompt).segments))
        return any(
            (n >= 4 or n in clauses) and " ".join(words[:n]) in evaluation
            for n in range(1, min(len(words), longest) + 1)
        )

    return data.select([i for i, p in enumerate(data[column][:]) if not extends(p)]) if evaluation else data


def _drop_near_duplicates(data: Dataset, config: DataConfig) -> Dataset:
    from rensa import RMinHashDeduplicator

    index = RMinHashDeduplicator(threshold=config.near_duplicate, num_perm=64, use_lsh=True, num_bands=8, seed=1)
    kept: list[bool] = []
    for start in range(0, len(data), 50_000):
        prompts = data[start : start + 50_000]["prompt"]
        kept += index.add_pairs((str(start + i), modifier_key(p).split()) for i, p in enumerate(prompts))
    return data.select([i for i, keep in enumerate(kept) if keep])


def _drop_celebrities(data: Dataset) -> Dataset:
    kept = [i for i, p in enumerate(data["prompt"][:]) if not names_celebrity(Prompt.parse(p).subject)]
    return data.select(kept)


def _drop_names(data: Dataset, artists: str) -> Dataset:
    """Drop prompts that name a celebrity, an artist whom `artists` does not allow, or a site."""
    judge = Judge("", artists=artists)

    def names(text: str) -> bool:
        flaws = (judge.flaw(segment) for segment in Prompt.parse(text).segments)
        return names_celebrity(text) or any(flaw in ("name", "site") for flaw in flaws)

    return data.select([i for i, text in enumerate(data["prompt"][:]) if not names(text)])


def _degraded(batch: dict) -> dict:
    pairs = [(plain, expert) for expert in batch["prompt"] for plain in degrade(expert)]
    return {"prompt": [plain for plain, _ in pairs], "completion": [expert for _, expert in pairs]}


def _is_pair(row: dict) -> bool:
    plain, expert = row["prompt"], row["completion"]
    return (
        isinstance(plain, str)
        and isinstance(expert, str)
        and bool(plain.strip())
        and modifier_key(plain) != modifier_key(expert)
        and not unsaid(plain, expert)
    )


def _split_by_subject(pairs: Dataset) -> DatasetDict:
    """The splits that have any rows. Expert prompts about the same thing are in one of them, with all their plain
    prompts; a plain prompt that is in the training split is in no other."""
    splits = [split_of(core(expert)) for expert in pairs["completion"][:]]
    keys = [modifier_key(plain) for plain in pairs["prompt"][:]]
    learnt = {key for key, split in zip(keys, splits, strict=True) if split == "train"}
    kept = {
        name: [i for i, split in enumerate(splits) if split == name and (name == "train" or keys[i] not in learnt)]
        for name in SPLITS
    }
    return DatasetDict({name: pairs.select(rows) for name, rows in kept.items() if rows})


def _enough_modifiers(pairs: Dataset, least: int) -> Dataset:
    kept = [i for i, c in enumerate(pairs["completion"][:]) if len(Prompt.parse(c).segments) >= least]
    return pairs.select(kept)


def _pairs_and_plain(batch: dict, config: DataConfig) -> dict:
    rows: dict[str, list] = {"prompt": [], "completion": [], "medium": [], "kind": [], "became": []}
    for text in batch["prompt"]:
        if is_plain(text):
            row = (text, "", "", "plain", [])
        else:
            early, late = cut_points(text)
            if not early:
                continue
            dice = _hash(text)
            cuts = late if late and dice % 1000 < 1000 * config.late_cuts else early
            cut = cuts[(dice // 1000) % len(cuts)]
            if text[:cut].endswith((" by", " of", " in", " and", " the", " a", " with")):
                continue
            prompt, completion, became = text[:cut], text[cut:], []
            if config.mend:
                completion, became = mend(prompt, completion, config.artists)
            row = (prompt, completion, controls(prompt + completion), "pair", became)
        for column, value in zip(rows, row, strict=True):
            rows[column].append(value)
    return rows


def _split(data: Dataset) -> DatasetDict:
    """The splits that have any rows (an empty one could be saved, but not loaded again)."""
    splits = [split_of(p) for p in data["prompt"][:]]
    return DatasetDict({s: data.select([i for i, of in enumerate(splits) if of == s]) for s in SPLITS if s in splits})


def _check(config: DataConfig) -> None:
    if not config.source:
        raise ValueError("there is no source: give a .parquet, .csv, .jsonl or .txt file, or a hub data set")
    if config.format not in NAMED:
        raise ValueError(f"format is {config.format!r}: give one of {', '.join(NAMED)}")
    if config.artists not in ARTISTS:
        raise ValueError(f"artists is {config.artists!r}: give one of {', '.join(ARTISTS)}")
    for name, low, high in (
        ("limit", 0, math.inf),
        ("min_modifiers", 1, math.inf),
        ("min_words", 1, math.inf),
        ("max_clip_tokens", 3, math.inf),
        ("max_nsfw", 0, math.inf),
        ("near_duplicate", 0, 1),
        ("max_per_prefix", 1, math.inf),
        ("max_per_tail", 1, math.inf),
        ("late_cuts", 0, 1),
        ("num_proc", 1, math.inf),
    ):
        if not low <= getattr(config, name) <= high:
            most = "up" if high == math.inf else f"to {high}"
            raise ValueError(f"{name} is {getattr(config, name)}: give a number from {low} {most}")
    for file in config.evaluation_files:
        if not Path(file).is_file():
            raise ValueError(f"there is no evaluation file {file}")


# --- words -------------------------------------------------------------------------------------------------------

_CONNECTIVE = re.compile(
    r"\s(?:(?:(?:digital |concept |fan)?(?:art|artwork|painting|illustration|drawing|photo|photograph)|painted|drawn|"
    r"illustrated|designed|directed|style|render(?:ed)?|made) by|by(?! (?:the|a|an|my|his|her|its|their|our|your|side|"
    r"night|day|moonlight|candlelight|sea|hand|train|car|foot)\b)|in (?:the )?(?:\w+ ){0,2}style of)\s",
    re.IGNORECASE,
)
# Midjourney's and the Discord bot's options; with a single hyphen ("- n 9") only where a number follows.
_FLAGS = re.compile(
    r"(?:^|\s)(?:(?:--|—|- -)\s?(?:ar|aspect|test|creative|q|quality|hd|stop|iw|no|stylize|s|w|h|n|c|g|i|u|seed|steps?|"
    r"uplight|v|video|chaos|cfg|width|height|number)\b(?:[\s=:]*\d+(?:[.:x] ?\d+)*)?|"
    r"-\s?(?:ar|q|s|w|h|n|c|g|i|seed|steps?|v|cfg|width|height)[\s=:]*\d+(?:[.:x] ?\d+)*)(?=\s|$)",
    re.IGNORECASE,
)
_ADULT = re.compile(
    r"\b(?:nsfw|nud(?:e|es|ity|ist)|naked|topless|bottomless|porn\w*|hentai|erotic\w*|sexy?|sexual\w*|sexiest|boob\w*|"
    r"breasts?|nipples?|tits?|titties|penis|vagina\w*|genital\w*|dick|cock|pussy|cum|orgasm\w*|bdsm|bondage|fetish\w*|"
    r"futa\w*|milf|thong|lingerie|underwear|panties|bikini|busty|cleavage|voluptuous|lewd|ahegao|rape\w*|loli\w*|shota\w*|"
    r"whore|slut\w*|fuck\w*|blowjob|masturbat\w*|ass|butt(?:ocks)?|buttcrack|anus|semen|stripper|striptease|seductive\w*|"
    r"gore|gory|beheaded|decapitat\w*|nigg\w+|faggot\w*|hitler|nazis?)\b",
    re.IGNORECASE,
)  # fmt: skip
_WORDS_AND_MARKS = re.compile(r"\w+|[^\w\s]+")
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_NOT_LATIN = re.compile(r"[^a-zA-Z]+")
_COMMON = re.compile(
    r"\b(?:a|an|the|of|in|with|and|on|at|by|from|as|is|for|to|style|art|portrait|painting|photo|highly|detailed|"
    r"realistic|render|light|lighting|dark|digital|concept|cinematic|illustration|drawing|background)\b",
    re.IGNORECASE,
)
# Languages that prompts are written in; rarer ones only draw English prompts full of names away.
_LANGUAGES = ["en", "de", "fr", "es", "it", "pt", "nl", "pl", "tr", "sv", "ro", "cs", "hu", "id", "vi", "fi"]


def _is_english(text: str) -> bool:
    common = len(_COMMON.findall(text))
    # "a" and "in" are words of other languages, too; two different hints or a dense one settle it without the model.
    if common >= 2 and 5 * common >= len(text.split()):
        return True
    return _english_probability(text) > 0.02


def _english_probability(text: str) -> float:
    global _IDENTIFIER
    if _IDENTIFIER is None:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        _IDENTIFIER = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        _IDENTIFIER.set_languages(_LANGUAGES)
    return dict(_IDENTIFIER.rank(text))["en"]


_IDENTIFIER = None


def _fits(text: str, window: int) -> bool:
    # Every word and every mark is at least one token: most of what is too long need not be encoded.
    return len(_WORDS_AND_MARKS.findall(text)) + 2 <= window and count_clip_tokens(text) <= window


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
