"""Prompts × combinations of modifiers × generators: which modifier helps which generator, and how consistently.

    axes = parse_axes("style,booster=highly detailed|8k|masterpiece")
    study(load_prompts("partiprompts:200"), make_design(axes), [reward], "results/modifiers")

Every combination of the modifiers (or a balanced fraction: `study_design`) is drawn for every prompt, with the same
seeds, and scored; `study_effects` says what the numbers mean. The folder gets

- ``settings.json``: what the numbers depend on, but for the generators. A folder takes up its own study and no other.
- for each generator a folder with its settings, and ``records-….jsonl``: a line for each prompt, as they are made,
  with the raw score of every picture. A generator can be added to a study later.
- ``results.json``, ``results.csv`` (a row for each effect), ``table.md`` and ``report.html``, as soon as all prompts
  are there.

A prompt on a generator is the unit of work, and depends on no other. So the prompts can be shared out (shards):
between processes or machines that write to one folder, of which the last to end makes the tables; or to folders of
their own, which `merge` puts together. The numbers are the same to the last bit, whoever did which prompt and however
often they were killed, on machines that draw alike.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from neuroprompt.completions import check_prompt
from neuroprompt.experiments import Records, check_settings, hold_share, reward_settings, settings_difference
from neuroprompt.files import BusyError, sole_writer
from neuroprompt.prompt_files import KEYS
from neuroprompt.scoring import PromptReward
from neuroprompt.study.design import Design
from neuroprompt.study.effects import ALL, find_records, generator_folders, read_records, read_settings, summarise
from neuroprompt.study.report import write_study


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
        shard: (i, n): do the i-th of n shares of the prompts, from 1 to n.
        title: Of the report.
        on_progress: Gets the generator's name, and how many of the share's prompts are done and how many there are.

    Returns:
        What ``results.json`` holds (see `study_effects.summarise`), or None where prompts of other shards are missing.

    Raises:
        ValueError: A prompt is empty or there twice, has no class while others do, there is no such shard, or the
            folder holds another study.
        BusyError: Another process does this shard.
        DrawingError: A prompt cannot be drawn or scored.
    """
    prompts, folder = list(prompts), Path(folder)
    classes = dict(classes or {})
    number, shards = shard
    _check(prompts, classes, number, shards)
    share = range(number - 1, len(prompts), shards)
    with hold_share(folder, shard):
        for reward in rewards:
            settings, own = _settings(prompts, classes, design, reward)
            check_settings(folder, settings, "a study")
            place = folder / _folder_name(reward.generator.name)
            check_settings(place, own, "a study")
            known = find_records(place)
            todo = [i for i in share if i not in known]
            done = len(share) - len(todo)
            with Records(place / f"records-{number}-of-{shards}.jsonl", lambda _: 1) as records:
                for i in todo:
                    record = {"index": i, "class": classes.get(prompts[i], ALL)}
                    records.write([record | _measure(prompts[i], design, reward)])
                    done += 1
                    if on_progress:
                        on_progress(reward.generator.name, done, len(share))
            del reward  # before the next one is made
    if shards > 1 and not _is_finished(folder, len(prompts)):
        return None
    try:
        return _write(folder, title)
    except BusyError:  # another process has come to its end as well
        return None


def merge(folders: Sequence[str | Path], folder: str | Path, *, title: str = "") -> dict:
    """Put shards of a study together that were written to several folders.

    Args:
        folders: Of the shards.
        folder: Where the whole study goes; it may be one of them. `study` can take it up.
        title: Of the report.

    Returns:
        What ``results.json`` holds: that of the study done in one go.

    Raises:
        ValueError: The folders hold different studies (the setting that differs is named), or prompts are missing.
    """
    folders, folder = [Path(of) for of in folders], Path(folder)
    if not folders:
        raise ValueError("there are no folders to merge")
    settings = read_settings(folders[0])
    places: dict[str, list[Path]] = {}  # by generator
    for of in folders:
        _check_same(folders[0], settings, of)
        for place in generator_folders(of):
            same = places.setdefault(place.name, [])
            same.append(place)
            _check_same(same[0], read_settings(same[0]), place)
    with hold_share(folder):
        check_settings(folder, settings, "a study")
        for name, parts in places.items():
            check_settings(folder / name, read_settings(parts[0]), "a study")
            known = find_records(folder / name)
            with Records(folder / name / "records-1-of-1.jsonl", lambda _: 1) as records:
                for part in parts:
                    new = {i: at for i, at in find_records(part).items() if i not in known}
                    for record in read_records(new):
                        records.write([record])
                    known |= new
        return _write(folder, title)


def load_classes(spec: str) -> dict[str, str]:
    """The class of each prompt, where the file of `prompt_sets.load_prompts` has them: a column `class` of a .csv file,
    a key `class` of a .jsonl file; nothing otherwise.

    Raises:
        ValueError: A prompt has two classes, or the file is broken.
    """
    path = Path(re.sub(r":\d+$", "", spec.strip()))
    if path.suffix.lower() not in (".csv", ".jsonl"):
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
    k = reward.images_per_prompt
    measured = reward.measure(
        [text for text in drawn for _ in range(k)],
        [prompt] * (len(drawn) * k),
        reward.seeds(prompt) * len(drawn),
        # All are drawn, also what a cache knows: the batches, and so the last bits, do not depend on what was before.
        on_image=lambda index, image: None,
    )

    def by_combination(values: list) -> list:
        parts = iter(values[i : i + k] for i in range(0, len(values), k))
        return [None if text is None else next(parts) for text in texts]

    scores = {
        # A score that is not finite is none.
        name: by_combination([value if abs(value) < float("inf") else None for value in of.tolist()])
        for name, of in measured.scores.items()
    }
    return {"prompt": prompt, "scores": scores, "flagged": by_combination(measured.flagged.tolist())}


def _write(folder: Path, title: str) -> dict:
    with sole_writer(folder / "results.json"):
        results = summarise(folder) | {"title": title}
        write_study(results, folder)
        return results


def _is_finished(folder: Path, count: int) -> bool:
    return all(len(find_records(place)) == count for place in generator_folders(folder))


# --- settings ------------------------------------------------------------------------------------------------------


def _check(prompts: list[str], classes: Mapping[str, str], number: int, shards: int) -> None:
    if not prompts:
        raise ValueError("there are no prompts to study")
    if not 1 <= number <= shards:
        raise ValueError(f"there is no shard {number}/{shards}: give one from 1/{max(1, shards)} up to the last")
    seen: set[str] = set()
    for i, prompt in enumerate(prompts, 1):
        check_prompt(prompt)
        if prompt in seen:
            raise ValueError(f"prompt {i} ({prompt[:60]!r}) is there twice: each counts once")
        seen.add(prompt)
        if classes and prompt not in classes:
            raise ValueError(f"prompt {i} ({prompt[:60]!r}) has no class, and others have one")
        if classes and classes[prompt] == ALL:
            raise ValueError(f"prompt {i} is of class {ALL!r}: that is what all prompts together are called")


def _settings(
    prompts: list[str], classes: Mapping[str, str], design: Design, reward: PromptReward
) -> tuple[dict, dict]:
    """What the numbers depend on, as JSON types: what all generators have in common, and this one's own."""
    of_reward = reward_settings(reward)
    own = {"generator": of_reward.pop("generator")}
    digest = blake2b(json.dumps([[p, classes.get(p)] for p in prompts]).encode(), digest_size=16).hexdigest()
    common = {
        "prompts": {"count": len(prompts), "digest": digest},
        "axes": {axis.name: axis.levels for axis in design.axes},
        "combinations": design.rows,
        **of_reward,
    }
    return json.loads(json.dumps(common)), json.loads(json.dumps(own))


def _check_same(first: Path, settings: dict, other: Path) -> None:
    if difference := settings_difference(settings, read_settings(other)):
        raise ValueError(f"{other} is no shard of the study in {first}: {difference}")


def _folder_name(generator: str) -> str:
    """A folder for a name that may be a path or a hub id: readable, and no other's."""
    digest = blake2b(generator.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', generator).strip('-.')[-60:]}-{digest}"
