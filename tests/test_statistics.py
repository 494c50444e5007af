"""Intervals and tests, against SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuroprompt.statistics import FEWEST, bootstrap, compare, sign_test


@pytest.mark.parametrize(("size", "kind"), [(30, "normal"), (300, "skewed"), (12, "skewed")])
def test_intervals_are_scipys(size, kind):
    rng = np.random.default_rng(size)
    values = rng.normal(3, 2, size) if kind == "normal" else rng.lognormal(0, 1, size)
    ours = bootstrap(values)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=10_000, random_state=rng
    ).confidence_interval
    noise = 0.15 * values.std() / np.sqrt(size)  # four Monte Carlo errors of a 2.5 % point of 10,000 means
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=noise) and ours.high == pytest.approx(theirs.high, abs=noise)


def test_a_handful_of_values_has_a_mean_and_no_interval():
    """With fewer than six, not even all of one sign are evidence at 5 %."""
    assert sign_test(FEWEST - 1, 0) > 0.05 > sign_test(FEWEST, 0)
    for size in range(1, FEWEST):
        values = [float(i) for i in range(size)]
        assert bootstrap(values) == compare(values, [0.0] * size).difference == (np.mean(values), None, None)
    assert str(bootstrap([1.0, 2.0])) == "1.500"
    assert bootstrap([1.0] * FEWEST) == (1.0, 1.0, 1.0) and str(bootstrap([1.0] * FEWEST)) == "1.000 [1.000, 1.000]"


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = [i.low <= 5 <= i.high for i in (bootstrap(rng.normal(5, 1, 60), resamples=500, seed=s) for s in range(400))]
    assert 0.90 <= np.mean(held) <= 0.98


@given(st.integers(0, 400), st.integers(0, 400))
def test_sign_test_is_scipys(wins, losses):
    wanted = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(wanted, rel=1e-6, abs=1e-12)


def test_comparison_is_paired():
    rng = np.random.default_rng(1)
    subject = rng.normal(0, 10, 200)  # prompts differ much more than methods do
    a, b = subject + 0.5 + rng.normal(0, 0.5, 200), subject + rng.normal(0, 0.5, 200)
    result = compare(a, b)
    assert result.difference.low > 0.3 and result.win_rate > 0.6 and result.p_value < 1e-6
    back = compare(b, a)
    assert back.win_rate == pytest.approx(1 - result.win_rate)
    assert back.difference.mean == pytest.approx(-result.difference.mean)


def test_ties_are_half_wins():
    result = compare([1, 2, 3, 5], [1, 2, 4, 4])
    assert result.win_rate == 0.5 and result.p_value == 1.0


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(2).normal(size=50)
    assert bootstrap(values) == bootstrap(values) != bootstrap(values, seed=1)


@pytest.mark.parametrize(
    ("values", "message"), [([], "no values"), ([1.0, float("nan")], "1 of 2 values are not finite")]
)
def test_bad_values(values, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(values)


def test_different_prompts_cannot_be_paired():
    with pytest.raises(ValueError, match="2 values against 3"):
        compare([1, 2], [1, 2, 3])
