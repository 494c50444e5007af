"""Means with intervals, paired comparisons and win rates: what every table of the project is made of.

Intervals are bootstrap percentiles over prompts (Efron 1979): prompts are the unit that is drawn, since the pictures
of one prompt belong together. Two methods are compared prompt by prompt (paired), on the same seeds. A handful of
prompts has a mean and no interval: see `FEWEST`. `SequentialTest` asks of one prompt's pictures, as they are drawn,
whether a rewrite gains.
"""

import math
from collections.abc import Sequence
from functools import cache
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


class SequentialTest:
    """Is what paired differences gain more than chance? Asked pair by pair, and answered as soon as that is known.

    A sign-flip test (Fisher 1935, Pitman 1937) with the sum as its statistic: where noise alone makes the differences,
    each is as likely as its negative, so all ways to flip their signs are equally likely, whatever their sizes. The
    answer is yes where the sum is among the largest of those flips, `level` of all in the end, and before that the
    share level · (k / pairs)³ after k pairs (Kim and DeMets 1987; flips that have had a yes count for good). It is no
    where no further pairs, however they came out, could lead to a yes: that costs no power at all.

    Guaranteed: where the differences are symmetric about zero, or about anything below it, a yes comes with a
    probability of at most `level`, whatever their distribution, ties included; they need not even be alike. That holds
    from as many pairs on as 2^-pairs ≤ level, five at 5 %. With fewer the sum must be the largest of all, which all
    differences above zero are, with a chance of 2^-pairs; and so Student's t must reach a bound, too, with which noise
    passes in `level` of the cases if it is Gaussian, in fewer if its tails are heavier, and never in more than 2^-pairs
    (6.25 % for four pairs, where the scores are two-valued).

    Not guaranteed: anything of a mean of zero that many small gains and few large losses make; most pictures do gain
    then, and no test of a handful of values can rule the losses out.

    Args:
        pairs: How many there are at most.
        level: How often noise alone may pass.

    Attributes:
        first: The pairs before which there is no answer.

    Raises:
        ValueError: There are too few pairs to decide anything, or too many to go through all flips of their signs.
    """

    MOST = 16

    def __init__(self, pairs: int, level: float = 0.05):
        if not 2 <= pairs <= self.MOST:
            raise ValueError(f"{pairs} cannot be decided by: give 2 to {self.MOST} pairs")
        if not 0 < level < 1:
            raise ValueError(f"the level is {level}: it must lie between 0 and 1")
        self.pairs, self.level = pairs, level
        flips = math.floor(level * 2**pairs * (1 + 1e-12))
        self._flips, self._least_t = max(1, flips), -math.inf if flips else _least_t(pairs, level)
        self.first = self._flips.bit_length()

    def __call__(self, differences: np.ndarray) -> np.ndarray:
        """The answers after each of the pairs: 1 for yes, -1 for no, 0 where it goes on; the first that is not 0 holds.

        Args:
            differences: Those of the pairs so far. (…, n)

        Returns:
            int, (…, n).

        Raises:
            ValueError: There are more than `pairs`, or not all are finite.
        """
        differences = np.asarray(differences, np.float64)
        *shape, n = differences.shape
        rows = differences.reshape(-1, n)
        if n > self.pairs or not np.isfinite(rows).all():
            raise ValueError(f"{n} differences for {self.pairs} pairs, or not all of them are finite")
        slack = 1e-9 * np.abs(rows).sum(1, keepdims=True)  # equal sums, added in another order
        sums, said_yes = np.zeros((len(rows), 1)), np.zeros((len(rows), 1), bool)  # (rows, flips); 0 flips none
        answers = np.zeros(rows.shape, int)
        for k in range(n):
            sums = np.concatenate([sums + rows[:, k, None], sums - rows[:, k, None]], 1)
            said_yes = np.concatenate([said_yes, said_yes], 1)
            each = 2 ** (self.pairs - k - 1)  # what a flip of these pairs is worth, in flips of all pairs
            used = said_yes.sum(1)
            left = np.where(said_yes, -np.inf, sums)
            may = int(self._flips * ((k + 1) / self.pairs) ** 3) // each - used
            bound = np.take_along_axis(-np.sort(-left, 1), may[:, None], 1)  # the largest that may not
            said_yes |= left > bound + slack
            as_good = (left >= sums[:, :1] - slack).sum(1)
            answers[:, k] = np.where(said_yes[:, 0], 1, -(used * each + as_good > self._flips).astype(int))
        if n == self.pairs:
            answers[student_t(rows) < self._least_t, -1] = -1
        return answers.reshape(*shape, n)


def student_t(values: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """The mean over the last axis, of the values `among` which it is, by its standard error.

    It is infinite where all are alike, or one is all there is; and 0 where all are 0.
    """
    among = np.ones(values.shape, bool) if among is None else among
    n = among.sum(-1)
    mean = np.where(among, values, 0.0).sum(-1) / n
    squares = np.square(np.where(among, values - mean[..., None], 0.0)).sum(-1)
    # Of values that are all alike rounding could leave a spread.
    alike = np.where(among, values, -np.inf).max(-1) == np.where(among, values, np.inf).min(-1)
    error = np.sqrt(np.where(alike, 1.0, squares) / np.maximum(n * (n - 1), 1))
    return np.where(alike, np.where(mean == 0, 0.0, np.copysign(np.inf, mean)), mean / error)


@cache
def _least_t(pairs: int, level: float) -> float:
    """What Student's t of so many Gaussian values reaches, all of them above zero, in `level` of the cases."""
    values = np.random.default_rng(0).standard_normal((400_000, pairs))
    t = np.where((values > 0).all(1), student_t(values), -np.inf)
    return float(np.quantile(t, 1 - level))


def _checked(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"there are no values to average (shape {array.shape})")
    if not np.isfinite(array).all():
        raise ValueError(f"{int((~np.isfinite(array)).sum())} of {len(array)} values are not finite")
    return array
