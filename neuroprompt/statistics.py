"""Means with intervals, paired comparisons and win rates: what every table of the project is made of.

Intervals are bootstrap percentiles over prompts (Efron 1979): prompts are the unit that is drawn, since the pictures
of one prompt belong together. Two methods are compared prompt by prompt (paired), on the same seeds. A handful of
prompts has a mean and no interval: see `FEWEST`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FEWEST = 6
"""Values that it takes for an interval or a verdict: with fewer, not even all of one sign would be evidence at 5 %."""


class Interval(NamedTuple):
    """A mean and its 95 % bootstrap interval, whose ends are None where there are fewer than `FEWEST` values."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]")


def bootstrap(values: Sequence[float], confidence: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """The mean of `values`, (n,), one per prompt, and its percentile bootstrap interval.

    Raises:
        ValueError: There are no values, or not all are finite.
    """
    values = _checked(values)
    if len(values) < FEWEST:
        return Interval(float(values.mean()), None, None)
    rng = np.random.default_rng(seed)
    # A resample's mean needs only how often each value was drawn; chunks bound the memory.
    means = np.empty(resamples)
    chunk = max(1, 4_000_000 // len(values))
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        means[start : start + count] = values[rng.integers(0, len(values), (count, len(values)))].mean(1)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(values.mean()), float(low), float(high))


class Comparison(NamedTuple):
    """Method a against method b on the same prompts.

    Attributes:
        difference: Mean of a − b, with its interval.
        win_rate: Share of prompts on which a is better; a tie is half a win.
        p_value: Of the two-sided sign test: how likely so uneven a split of the untied prompts is by chance.
    """

    difference: Interval
    win_rate: float
    p_value: float


def compare(a: Sequence[float], b: Sequence[float], confidence: float = 0.95, seed: int = 0) -> Comparison:
    """Compare two methods by one value per prompt each, in the same order.

    Raises:
        ValueError: Their numbers differ, or as for `bootstrap`.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values against {len(b)}: a paired comparison needs the same prompts on both sides")
    difference = _checked(a) - _checked(b)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    ties = len(difference) - wins - losses
    return Comparison(
        bootstrap(difference, confidence, seed=seed), (wins + ties / 2) / len(difference), sign_test(wins, losses)
    )


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p-value of the sign test (Dixon and Mood 1946): exact binomial, ties left out by the caller."""
    n, fewer = wins + losses, min(wins, losses)
    if not n:
        return 1.0
    # log C(n, k) − n log 2, summed over the lower tail; exact enough for any n.
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(fewer + 1)
    ]
    tail = math.fsum(math.exp(v) for v in logs)
    return min(1.0, 2 * tail)


def _checked(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"there are no values to average (shape {array.shape})")
    if not np.isfinite(array).all():
        raise ValueError(f"{int((~np.isfinite(array)).sum())} of {len(array)} values are not finite")
    return array
