"""From a study's records to its numbers: what each modifier does, where, and whether generators agree about it.

The effect of a modifier is its main effect: what it adds to a picture's score, against nothing on its axis, averaged
over what else the prompt says. It is estimated prompt by prompt, by least squares over the combinations and with an
intercept for each seed, so that only pictures of one prompt with one seed are set against each other. Prompts are then
the unit, as in every table of the project: intervals are bootstrap percentiles over them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neuroprompt.experiments import REWARD, SETTINGS, Experiment, read_settings, results_head
from neuroprompt.scoring import Term, combined, read_terms
from neuroprompt.statistics import FEWEST, Interval, sign_test
from neuroprompt.study.design import Axis, Design

ALL = "all"
"""What all prompts together are called beside their classes."""

_RESAMPLES = 10_000
_SPLITS = 200


def summarise(folder: str | Path) -> dict:
    """The numbers of a study, from its folder alone, whatever the order and the files its records stand in.

    Args:
        folder: That of `harness.study` or `harness.merge`: with ``settings.json``, and for each generator a folder of
            records.

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
    settings, experiments = read_settings(folder, "study"), read_generators(folder)
    count, measures, design = settings["prompts"]["count"], [REWARD, *settings["rewards"]], read_design(settings)
    unfinished = []
    for name, experiment in experiments.items():
        if missing := [str(i + 1) for i in experiment.missing()]:
            shown = ", ".join(missing[:8]) + ", …" * (len(missing) > 8)
            unfinished.append(f"{name} lacks {len(missing)} of {count} prompts ({shown})")
    if unfinished:
        raise ValueError(f"{folder} is not finished: {'; '.join(unfinished)}")
    classes: list[str] = []
    effects: dict[str, np.ndarray] = {}
    for name, experiment in experiments.items():
        effects[name], classes = _effects_by_prompt(experiment.records(), design, settings)
    groups = {ALL: np.arange(count)}
    if any(classes):
        groups |= {kind: np.flatnonzero(np.array(classes) == kind) for kind in sorted(set(classes))}
    generators = [read_settings(experiment.folder, "study")["generator"] for experiment in experiments.values()]
    return results_head("study", settings | {"generators": generators}) | {
        "prompts": count,
        "classes": {kind: len(rows) for kind, rows in groups.items()},
        "combinations": {"tried": len(design.rows), "possible": design.possible},
        "measures": measures,
        **_compare(effects, groups, measures, design),
    }


def effect_rows(results: Mapping) -> Iterator[list]:
    """The columns' names, and a row for each effect."""
    keys, numbers = ["generator", "class", "measure", "axis", "modifier"], ["helps", "p_value", "prompts"]
    yield [*keys, "effect", "low", "high", *numbers]
    for row in results["effects"]:
        interval = row["effect"] or dict.fromkeys(Interval._fields)
        yield ["" if v is None else v for v in (*map(row.get, keys), *interval.values(), *map(row.get, numbers))]


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
    a, b = _ranks(a), _ranks(b)
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


# --- records -------------------------------------------------------------------------------------------------------


def read_design(settings: Mapping) -> Design:
    """The design of a study's settings."""
    axes = tuple(Axis(name, tuple(levels)) for name, levels in settings["axes"].items())
    return Design(axes, tuple(map(tuple, settings["combinations"])))


def read_generators(folder: str | Path) -> dict[str, Experiment]:
    """Each generator's part of a study, by its name: a unit is the record of a prompt.

    Raises:
        ValueError: There is no study, or no generator has begun.
    """
    units = dict.fromkeys(range(read_settings(folder, "study")["prompts"]["count"]), 1)
    places = sorted(path.parent for path in Path(folder).glob(f"*/{SETTINGS}"))
    if not places:
        raise ValueError(f"{folder} holds no study: there are no records in it")
    return {read_settings(place, "study")["generator"]["name"]: Experiment(place, units) for place in places}


def _effects_by_prompt(records: Iterable[dict], design: Design, settings: Mapping) -> tuple[np.ndarray, list[str]]:
    """Each modifier's effect on each prompt, (prompts, measures, modifiers), and the prompts' classes."""
    terms = read_terms(settings)
    indicators, effects, classes = design.indicators, [], []
    for record in records:
        values = _values(record, terms, settings)
        effects.append([main_effects(indicators, scores) for scores in values.values()])
        classes.append(record["class"])
    return np.array(effects), classes


def _values(record: Mapping, terms: Mapping[str, Term], settings: Mapping) -> dict[str, np.ndarray]:
    """The reward and each component's score of every picture, (combinations, seeds); NaN where there is none."""
    nothing = [None] * settings["images_per_prompt"]
    scores = {
        name: np.array([seeds or nothing for seeds in record["scores"][name]], np.float64)  # None becomes NaN
        for name in terms
    }
    drawn = np.array([seeds is not None for seeds in record["flagged"]])[:, None]
    flagged = np.array([seeds or [False] * len(nothing) for seeds in record["flagged"]])
    plain = {name: raw[0] for name, raw in scores.items()}  # the first combination is the plain prompt
    total = combined(terms, scores, flagged, plain, flagged[0], settings["flagged_reward"])
    return {
        REWARD: np.where(drawn, total, np.nan),
        **{name: np.where(flagged, np.nan, raw) for name, raw in scores.items()},
    }


# --- numbers -------------------------------------------------------------------------------------------------------


def _compare(
    effects: Mapping[str, np.ndarray], groups: Mapping[str, np.ndarray], measures: Sequence[str], design: Design
) -> dict[str, list[dict]]:
    """``effects`` and ``agreement`` of `summarise`."""
    rows, agreement = [], []
    for m, measure in enumerate(measures):
        samples: dict[tuple[str, str], _Sample] = {}
        for g, (kind, members) in enumerate(groups.items()):
            for name, by_prompt in effects.items():
                # The generators have the same prompts, and so the same resamples of them.
                sample = samples[name, kind] = _Sample.draw(by_prompt[members, m], np.random.default_rng(g))
                place = {"generator": name, "class": kind, "measure": measure}
                rows += [
                    place | {"axis": axis, "modifier": modifier} | numbers
                    for (axis, modifier), numbers in zip(design.modifiers, _effects(sample), strict=True)
                ]
                agreement.append(
                    {"measure": measure, "class": kind, "a": name, "b": name}
                    | {"rank_correlation": _between_halves(sample.values, np.random.default_rng(g))}
                )
            agreement += [
                {"measure": measure, "class": kind, "a": a, "b": b}
                | {"rank_correlation": _correlation(samples[a, kind], samples[b, kind])}
                for a, b in combinations(effects, 2)
            ]
        agreement += [
            {"measure": measure, "generator": name, "a": a, "b": b}
            | {"rank_correlation": _correlation(samples[name, a], samples[name, b])}
            for name in effects
            for a, b in combinations([kind for kind in groups if kind != ALL], 2)
        ]
    return {"effects": rows, "agreement": agreement}


class _Sample(NamedTuple):
    """The effects on some prompts.

    Attributes:
        values: (prompts, modifiers)
        means: Over the prompts. (modifiers,)
        resampled: Means of bootstrap resamples of the prompts. (resamples, modifiers)
    """

    values: np.ndarray
    means: np.ndarray
    resampled: np.ndarray

    @classmethod
    def draw(cls, values: np.ndarray, rng: np.random.Generator) -> "_Sample":
        return cls(values, _mean(values), _resample(values, rng))


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


def _effects(sample: _Sample) -> Iterator[dict]:
    for column, mean, resampled in zip(sample.values.T, sample.means, sample.resampled.T, strict=True):
        there = column[np.isfinite(column)]
        if not len(there):
            yield {"effect": None, "helps": None, "p_value": None, "prompts": 0}
            continue
        wins, losses = int((there > 0).sum()), int((there < 0).sum())
        yield {
            "effect": _interval(mean, resampled, len(there)),
            "helps": (wins + (len(there) - wins - losses) / 2) / len(there),
            "p_value": sign_test(wins, losses),
            "prompts": len(there),
        }


def _correlation(a: _Sample, b: _Sample) -> dict | None:
    both = np.isfinite(a.means) & np.isfinite(b.means)
    if both.sum() < 3:  # two are always perfectly correlated
        return None
    resampled = spearman(a.resampled[:, both], b.resampled[:, both])
    return _interval(spearman(a.means[both], b.means[both]).item(), resampled, min(len(a.values), len(b.values)))


def _between_halves(values: np.ndarray, rng: np.random.Generator) -> float | None:
    """Mean rank correlation of the effects on one half of the prompts and on the other."""
    n = len(values)
    if n < 4 or values.shape[1] < 3:
        return None
    orders = (rng.permutation(n) for _ in range(_SPLITS))
    halves = [(_mean(values[order[: n // 2]]), _mean(values[order[n // 2 :]])) for order in orders]
    found = spearman(*(np.array(half) for half in zip(*halves, strict=True)))
    return float(found[np.isfinite(found)].mean()) if np.isfinite(found).any() else None


def _interval(mean: float, resampled: np.ndarray, prompts: int) -> dict | None:
    """A mean over so many prompts and its interval, as `statistics.Interval` has it."""
    resampled = resampled[np.isfinite(resampled)]
    if not np.isfinite(mean) or not len(resampled):
        return None
    low, high = np.percentile(resampled, [2.5, 97.5]).tolist() if prompts >= FEWEST else (None, None)
    return Interval(float(mean), low, high)._asdict()


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 0 up, ties at their mean rank; NaN where a value is. (…, n)"""
    above = (values[..., :, None] > values[..., None, :]).sum(-1)
    equal = (values[..., :, None] == values[..., None, :]).sum(-1)
    return np.where(np.isfinite(values), above + (equal - 1) / 2, np.nan)
