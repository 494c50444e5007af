"""From a study's records to its numbers: what each modifier does, where, and whether generators agree about it.

The effect of a modifier is its main effect: what it adds to a picture's score, against nothing on its axis, averaged
over what else the prompt says. It is estimated prompt by prompt, by least squares over the combinations and with an
intercept for each seed, so that only pictures of one prompt with one seed are set against each other. Prompts are then
the unit, as in every table of the project: intervals are bootstrap percentiles over them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np

from neuroprompt import __version__
from neuroprompt.experiments import REWARD, SETTINGS, repository_commit
from neuroprompt.scoring import Term, combined
from neuroprompt.statistics import Interval, sign_test
from neuroprompt.study.design import Axis, Design

ALL = "all"
"""What all prompts together are called beside their classes."""
RECORDS = "records-*.jsonl"

_RESAMPLES = 10_000
_SPLITS = 200


def summarise(folder: str | Path) -> dict:
    """The numbers of a study, from its folder alone, whatever the order and the files its records stand in.

    Args:
        folder: Of `study.study` or `study.merge`: with ``settings.json``, and for each generator a folder of records.

    Returns:
        JSON types; an interval is ``{"mean", "low", "high"}`` at 95 %, and None where nothing can be said. Among them

        - ``measures``: ``reward`` (the combined one of `PromptReward`) and each component, as in what follows.
        - ``effects``: for each generator, class, measure, axis and modifier the ``effect`` (an interval, in the
          measure's units), ``helps`` (share of prompts that it makes better; a tie is half a one), the ``p_value`` of
          a sign test of that share, and the number of ``prompts`` that it could be estimated on.
        - ``agreement``: Spearman's ``rank_correlation`` (an interval) of all modifiers' effects between generators
          ``a`` and ``b`` of a class and a measure, and between classes of a generator. Where a is b, it is the mean
          correlation between two halves of the prompts, without an interval: what noise alone leaves of 1.

    Raises:
        ValueError: The folder is no study's, or a prompt is missing; the message says what.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    generators = [read_settings(of) for of in generator_folders(folder)]
    names = [of["generator"]["name"] for of in generators]
    design = read_design(settings)
    measures = [REWARD, *settings["rewards"]]
    unfinished = []
    effects: dict[str, np.ndarray] = {}
    for name, place in zip(names, generator_folders(folder), strict=True):
        records = find_records(place)
        count = settings["prompts"]["count"]
        if missing := [str(i + 1) for i in range(count) if i not in records]:
            shown = ", ".join(missing[:8]) + ", …" * (len(missing) > 8)
            unfinished.append(f"{name} lacks {len(missing)} of {count} prompts ({shown})")
        elif not unfinished:
            effects[name], classes = _effects_by_prompt(read_records(records), design, settings, count)
    if unfinished:
        raise ValueError(f"{folder} is not finished: {'; '.join(unfinished)}")
    groups = {ALL: np.arange(len(classes))}
    if any(classes):
        groups |= {kind: np.flatnonzero(np.array(classes) == kind) for kind in sorted(set(classes))}
    return {
        "kind": "study",
        "neuroprompt": __version__,
        "commit": repository_commit(),
        "versions": {p: version(p) for p in ("torch", "transformers", "diffusers", "open_clip_torch", "numpy")},
        "settings": settings | {"generators": [of["generator"] for of in generators]},
        "prompts": len(classes),
        "classes": {kind: len(rows) for kind, rows in groups.items()},
        "combinations": {"tried": len(design.rows), "possible": design.possible},
        "measures": measures,
        **_compare(effects, groups, measures, design),
    }


def main_effects(indicators: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What each modifier adds on one prompt: least squares with an intercept for each seed.

    Args:
        indicators: Which modifiers a combination has. (combinations, modifiers)
        values: A score for each combination and seed; what is not finite is left out. (combinations, seeds)

    Returns:
        Effects, (modifiers,); NaN for a modifier without a picture, and for all where too few are left to tell them
        apart.
    """
    there = np.isfinite(values)
    effects = np.full(indicators.shape[1], np.nan)
    if not there.any():
        return effects
    if there.all():  # the seeds' intercepts come to that of their mean
        design = np.column_stack([indicators, np.ones(len(indicators))])
        return np.linalg.lstsq(design, (values - values[0]).mean(1), rcond=None)[0][:-1]
    combination, seed = np.nonzero(there)
    used = indicators[combination].any(0)
    intercepts = np.eye(values.shape[1])[seed][:, there.any(0)]
    design = np.concatenate([indicators[combination][:, used], intercepts], 1)
    solution, _, rank, _ = np.linalg.lstsq(design, values[there] - values[there].mean(), rcond=None)
    if rank == design.shape[1]:
        effects[used] = solution[: used.sum()]
    return effects


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rank correlation along the last axis, ties at their mean rank; NaN where one side is constant.

    Args:
        a, b: (…, n)
    """
    a, b = (_ranks(of) for of in (a, b))
    a, b = (of - of.mean(-1, keepdims=True) for of in (a, b))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


# --- records -------------------------------------------------------------------------------------------------------


def read_settings(folder: Path) -> dict:
    """What `harness.check_settings` wrote.

    Raises:
        ValueError: There is nothing, or it is broken.
    """
    path = folder / SETTINGS
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{folder} holds no study: cannot read {path.name} ({error.strerror})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is broken: {error}") from error


def read_design(settings: Mapping) -> Design:
    """The design of a study's settings."""
    axes = tuple(Axis(name, tuple(levels)) for name, levels in settings["axes"].items())
    return Design(axes, tuple(map(tuple, settings["combinations"])))


def generator_folders(folder: Path) -> list[Path]:
    """Where each generator's records are.

    Raises:
        ValueError: There is no study.
    """
    found = sorted(path.parent for path in folder.glob(f"*/{SETTINGS}"))
    if not found:
        raise ValueError(f"{folder} holds no study: there are no records in it")
    return found


def find_records(folder: Path) -> dict[int, tuple[Path, int]]:
    """The file and the offset of each prompt's record.

    The last line of a file may be half a one, which a kill has left or another process is just writing: it does not
    count. Where shards overlap, one record of a prompt is as good as the other.

    Raises:
        ValueError: A line is broken.
    """
    found: dict[int, tuple[Path, int]] = {}
    for path in sorted(folder.glob(RECORDS)):
        offset = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    found.setdefault(json.loads(line)["index"], (path, offset))
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{path}, line {number} is broken: remove the line") from error
                offset += len(line)
    return found


def read_records(records: Mapping[int, tuple[Path, int]]) -> Iterator[dict]:
    """Those that `find_records` found, in the order of the prompts, one after another."""
    with ExitStack() as stack:
        files = {path: stack.enter_context(path.open("rb")) for path in sorted({path for path, _ in records.values()})}
        for _, (path, offset) in sorted(records.items()):
            files[path].seek(offset)
            yield json.loads(files[path].readline())


def _effects_by_prompt(
    records: Iterator[dict], design: Design, settings: Mapping, count: int
) -> tuple[np.ndarray, list[str]]:
    """Each modifier's effect on each prompt, (prompts, measures, modifiers), and the prompts' classes."""
    indicators = design.indicators
    terms = {name: Term(**{field: of[field] for field in Term._fields}) for name, of in settings["rewards"].items()}
    effects = np.full((count, 1 + len(terms), indicators.shape[1]), np.nan)
    classes = []
    for i, record in enumerate(records):
        values = _values(record, terms, settings)
        effects[i] = [main_effects(indicators, of) for of in values.values()]
        classes.append(record["class"])
    return effects, classes


def _values(record: Mapping, terms: Mapping[str, Term], settings: Mapping) -> dict[str, np.ndarray]:
    """The reward and each component's score of every picture, (combinations, seeds); NaN where there is none."""
    nothing = [None] * settings["images_per_prompt"]
    scores = {
        name: np.array([of or nothing for of in record["scores"][name]], np.float64)  # None becomes NaN
        for name in terms
    }
    drawn = np.array([of is not None for of in record["flagged"]])[:, None]
    flagged = np.array([of or [False] * len(nothing) for of in record["flagged"]])
    plain = {name: of[0] for name, of in scores.items()}  # the first combination is the plain prompt
    total = combined(terms, scores, flagged, plain, flagged[0], settings["flagged_reward"])
    return {
        REWARD: np.where(drawn, total, np.nan),
        **{name: np.where(flagged, np.nan, of) for name, of in scores.items()},
    }


# --- numbers -------------------------------------------------------------------------------------------------------


def _compare(
    effects: Mapping[str, np.ndarray], groups: Mapping[str, np.ndarray], measures: Sequence[str], design: Design
) -> dict[str, list[dict]]:
    """``effects`` and ``agreement`` of `summarise`."""
    rows, agreement = [], []
    for m, measure in enumerate(measures):
        means: dict[tuple[str, str], np.ndarray] = {}  # (modifiers,)
        resampled: dict[tuple[str, str], np.ndarray] = {}  # (resamples, modifiers)
        for g, (kind, members) in enumerate(groups.items()):
            for name, of in effects.items():
                values = of[members, m]  # (prompts, modifiers)
                means[name, kind] = _mean(values)
                # The generators have the same prompts, and so the same resamples of them.
                resampled[name, kind] = _resample(values, np.random.default_rng(g))
                rows += [
                    {
                        "generator": name,
                        "class": kind,
                        "measure": measure,
                        "axis": axis,
                        "modifier": modifier,
                        **numbers,
                    }
                    for (axis, modifier), numbers in zip(
                        design.modifiers, _effects(values, means[name, kind], resampled[name, kind]), strict=True
                    )
                ]
                agreement.append(
                    {"measure": measure, "class": kind, "a": name, "b": name}
                    | {"rank_correlation": _between_halves(values, np.random.default_rng(g))}
                )
            agreement += [
                {"measure": measure, "class": kind, "a": a, "b": b}
                | {"rank_correlation": _correlation(*((of[a, kind], of[b, kind]) for of in (means, resampled)))}
                for a, b in combinations(effects, 2)
            ]
        agreement += [
            {"measure": measure, "generator": name, "a": a, "b": b}
            | {"rank_correlation": _correlation(*((of[name, a], of[name, b]) for of in (means, resampled)))}
            for name in effects
            for a, b in combinations([kind for kind in groups if kind != ALL], 2)
        ]
    return {"effects": rows, "agreement": agreement}


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the prompts that have a value, (modifiers,); NaN where none has."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0.0).sum(0) / there.sum(0)


def _resample(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of bootstrap resamples of the prompts, (resamples, modifiers)."""
    n = len(values)
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    means = np.empty((_RESAMPLES, values.shape[1]))
    chunk = max(1, 4_000_000 // n)
    for start in range(0, _RESAMPLES, chunk):
        count = min(chunk, _RESAMPLES - start)
        # How often each prompt was drawn is all that a mean needs. (resamples, prompts)
        draws = rng.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
        times = np.bincount(draws.ravel(), minlength=count * n).reshape(count, n).astype(float)
        with np.errstate(invalid="ignore"):
            means[start : start + count] = (times @ filled) / (times @ there)
    return means


def _effects(values: np.ndarray, means: np.ndarray, resampled: np.ndarray) -> Iterator[dict]:
    for column, mean, of in zip(values.T, means, resampled.T, strict=True):
        there = column[np.isfinite(column)]
        if not len(there):
            yield {"effect": None, "helps": None, "p_value": None, "prompts": 0}
            continue
        wins, losses = int((there > 0).sum()), int((there < 0).sum())
        yield {
            "effect": format_interval(mean, of),
            "helps": (wins + (len(there) - wins - losses) / 2) / len(there),
            "p_value": sign_test(wins, losses),
            "prompts": len(there),
        }


def _correlation(means: tuple[np.ndarray, np.ndarray], resampled: tuple[np.ndarray, np.ndarray]) -> dict | None:
    both = np.isfinite(means[0]) & np.isfinite(means[1])
    if both.sum() < 3:  # two are always perfectly correlated
        return None
    return format_interval(spearman(*(of[both] for of in means)).item(), spearman(*(of[:, both] for of in resampled)))


def _between_halves(values: np.ndarray, rng: np.random.Generator) -> float | None:
    """Mean rank correlation of the effects on one half of the prompts and on the other."""
    n = len(values)
    if n < 4 or values.shape[1] < 3:
        return None
    orders = (rng.permutation(n) for _ in range(_SPLITS))
    halves = [(_mean(values[order[: n // 2]]), _mean(values[order[n // 2 :]])) for order in orders]
    found = spearman(*(np.array(half) for half in zip(*halves, strict=True)))
    return float(found[np.isfinite(found)].mean()) if np.isfinite(found).any() else None


def format_interval(mean: float, resampled: np.ndarray) -> dict | None:
    resampled = resampled[np.isfinite(resampled)]
    if not np.isfinite(mean) or not len(resampled):
        return None
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(float(mean), float(low), float(high))._asdict()


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 0 up, ties at their mean rank; NaN where a value is. (…, n)"""
    above = (values[..., :, None] > values[..., None, :]).sum(-1)
    equal = (values[..., :, None] == values[..., None, :]).sum(-1)
    return np.where(np.isfinite(values), above + (equal - 1) / 2, np.nan)
