"""Prompts × combinations of modifiers × generators: which modifier helps which generator, and how consistently.

    axes = parse_axes("style,booster=highly detailed|8k|masterpiece")
    study(load_prompts("partiprompts:200"), make_design(axes), [reward], "results/modifiers")

Every combination of the modifiers (or a balanced fraction: `design`) is drawn for every prompt, with the same
seeds, and scored; `effects` says what the numbers mean. The folder gets

- ``settings.json``: what the numbers depend on, but for the generators. A folder takes up its own study and no other.
- for each generator a folder with its settings, and ``records.jsonl``: a line for each prompt, as they are made, with
  the raw score of every picture. A generator can be added to a study later.
- ``results.json``, ``results.csv`` (a row for each effect), ``table.md`` and ``report.html``, as soon as all prompts
  are there.

A prompt on a generator is the unit of work (see `experiments`). So the prompts can be shared out (shards): between
processes or machines that write to one folder, of which the last to end makes the tables; or to folders of their own,
which `merge` puts together. The numbers are the same to the last bit, whoever did which prompt and however often they
were killed, on machines that draw alike.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import chain
from pathlib import Path

from neuroprompt.experiments import (
    RESULTS,
    Experiment,
    check_prompts,
    check_settings,
    hold_shard,
    measure,
    prompt_settings,
    read_settings,
    settings_difference,
    write_results,
    write_whole,
)
from neuroprompt.files import BusyError, sole_writer
from neuroprompt.prompt_files import KEYS
from neuroprompt.scoring import PromptReward
from neuroprompt.study.design import Design
from neuroprompt.study.effects import ALL, effect_rows, read_generators, summarise
from neuroprompt.study.report import study_html, study_tables


def study(
    prompts: Sequence[str],
    design: Design,
    rewards: Iterable[PromptReward],
    folder: str | Path,
    *,
    classes: Mapping[str, str] | None = None,
    shard: tuple[int, int] = (1, 1),
    title: str = "",
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict | None:
    """Measure what modifiers do.

    Args:
        prompts: Plain prompts, all different.
        design: The combinations of modifiers to try.
        rewards: One for each generator, with the same components and seeds. They are asked for one after another, so
            an iterator that makes them needs memory for one generator.
        folder: Where everything goes; made where missing. Where it holds the same study, that is taken up.
        classes: The class of each prompt (see `load_classes`); effects are told for each class then, too.
        shard: (i, n): do the i-th of n shards of the prompts, from 1 to n.
        title: The report's title.
        on_progress: Gets the generator's name, and how many of the shard's prompts are done and how many there are.

    Returns:
        What ``results.json`` holds (see `effects.summarise`), or None where prompts of other shards are missing.

    Raises:
        ValueError: A prompt is empty or there twice, has no class while others do, there is no such shard, or the
            folder holds another study.
        BusyError: Another process does this shard.
        DrawingError: A prompt cannot be drawn or scored.
    """
    prompts, folder = list(prompts), Path(folder)
    classes = dict(classes or {})
    check_prompts(prompts)
    _check_classes(prompts, classes)
    common = {
        "prompts": prompt_settings([[prompt, classes.get(prompt)] for prompt in prompts]),
        "axes": {axis.name: axis.levels for axis in design.axes},
        "combinations": design.rows,
    }
    with hold_shard(folder, shard):
        for reward in rewards:
            settings, name = reward.settings(), reward.generator.name
            place, own = folder / _folder_name(name), {"generator": settings.pop("generator")}
            check_settings(folder, common | settings, "study")
            check_settings(place, own, "study")
            with Experiment(place, dict.fromkeys(range(len(prompts)), 1)).shard(shard) as part:
                for done, i in enumerate(part.todo, 1 + len(part.units) - len(part.todo)):
                    record = {"index": i, "class": classes.get(prompts[i], ALL)}
                    part.write([record | _measure(prompts[i], design, reward)])
                    if on_progress:
                        on_progress(name, done, len(part.units))
            del reward  # before the next one is made
    if shard[1] > 1 and any(experiment.missing() for experiment in read_generators(folder).values()):
        return None
    with suppress(BusyError):  # another process may have come to its end as well
        return _end(folder, title)
    return None


def merge(folders: Sequence[str | Path], folder: str | Path, *, title: str = "") -> dict:
    """Put shards of a study together that were written to several folders.

    Args:
        folders: Of the shards.
        folder: Where the whole study goes; it may be one of them. `study` can take it up.
        title: The report's title.

    Returns:
        What ``results.json`` holds: that of the study done in one go.

    Raises:
        ValueError: The folders hold different studies (the setting that differs is named), or prompts are missing.
    """
    if not folders:
        raise ValueError("there are no folders to merge")
    folder, settings = Path(folder), read_settings(folders[0], "study")
    parts: dict[str, list[Experiment]] = {}  # by the generator's folder
    for source in folders:
        _check_same(folders[0], source)
        for part in read_generators(source).values():
            same = parts.setdefault(part.folder.name, [])
            same.append(part)
            _check_same(same[0].folder, part.folder)
    with hold_shard(folder):
        check_settings(folder, settings, "study")
        for name, found in parts.items():
            check_settings(folder / name, read_settings(found[0].folder, "study"), "study")
            with Experiment(folder / name, found[0].units).shard() as whole:
                missing = set(whole.todo)
                for record in chain.from_iterable(part.records() for part in found):
                    if record["index"] in missing:
                        whole.write([record])
                        missing.remove(record["index"])
        return _end(folder, title)


def load_classes(spec: str) -> dict[str, str]:
    """The class of each prompt, where the file of `prompt_sets.load_prompts` has them: a column `class` of a .csv file,
    a key `class` of a .jsonl file; nothing otherwise.

    Raises:
        ValueError: A prompt has two classes, or the file is broken.
    """
    path = Path(re.sub(r":\d+$", "", spec.strip()))
    if path.suffix.lower() not in (".csv", ".jsonl") or not path.is_file():  # but of a set by name, as geneval:x.jsonl
        return {}
    classes: dict[str, str] = {}
    table = path.suffix.lower() == ".csv"
    with path.open(encoding="utf-8-sig", newline="" if table else "\n") as file:
        try:
            rows = list(csv.DictReader(file) if table else map(json.loads, filter(str.strip, file)))
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{path} is broken: {error}") from error
    for row in rows:
        if isinstance(row, dict) and row.get("class") not in (None, ""):
            prompt, kind = next(row[key] for key in KEYS if key in row), str(row["class"]).strip()
            if classes.setdefault(prompt, kind) != kind:
                raise ValueError(f"{path}: {prompt[:60]!r} is of class {classes[prompt]!r}, and of class {kind!r}")
    return classes


def _measure(prompt: str, design: Design, reward: PromptReward) -> dict:
    """A prompt's record: of each combination, and of each seed, the raw scores; None where it is not drawn."""
    texts = design.texts(prompt, reward.window)
    drawn = [text for text in texts if text is not None]
    scores, flagged, _ = measure(reward, [prompt] * len(drawn), drawn)

    def by_combination(rows: list) -> list:
        left = iter(rows)
        return [None if text is None else next(left) for text in texts]

    scores = {name: by_combination(raw) for name, raw in scores.items()}
    return {"original": prompt, "scores": scores, "flagged": by_combination(flagged)}


def _end(folder: Path, title: str) -> dict:
    """Gather the records, and write what they come to."""
    with sole_writer(folder / RESULTS):
        for experiment in read_generators(folder).values():
            experiment.gather()
        results = summarise(folder) | {"title": title}
        heading = title or "Study of modifiers"
        write_results(folder, results, heading, study_tables(results), effect_rows(results))
        write_whole(folder / "report.html", study_html(results, folder))
        return results


def _check_classes(prompts: list[str], classes: Mapping[str, str]) -> None:
    for i, prompt in enumerate(prompts, 1) if classes else ():
        if prompt not in classes:
            raise ValueError(f"prompt {i} ({prompt[:60]!r}) has no class, and others have one")
        if classes[prompt] == ALL:
            raise ValueError(f"prompt {i} is of class {ALL!r}: that is what all prompts together are called")


def _check_same(first: str | Path, other: str | Path) -> None:
    if difference := settings_difference(read_settings(first, "study"), read_settings(other, "study")):
        raise ValueError(f"{other} is no shard of the study in {first}: {difference}")


def _folder_name(generator: str) -> str:
    """A folder for a name that may be a path or a hub id: readable, and no other's."""
    digest = blake2b(generator.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', generator).strip('-.')[-60:]}-{digest}"
