"""Intervals and tests, against SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuroprompt.statistics import FEWEST, SequentialTest, bootstrap, compare, sign_test, student_t


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


NOISE = {
    "gaussian": lambda rng, shape: rng.standard_normal(shape),
    "heavy-tailed": lambda rng, shape: rng.standard_cauchy(shape),
    "skewed scores": lambda rng, shape: rng.lognormal(0, 1.5, shape) - rng.lognormal(0, 1.5, shape),
    "ties": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.6),
    "no spread known": lambda rng, shape: rng.standard_normal(shape) * np.logspace(-2, 2, shape[1]),
    "two values": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "three values": lambda rng, shape: rng.choice([-1.0, 0.0, 1.0], shape, p=[0.425, 0.15, 0.425]),
    "it loses": lambda rng, shape: rng.standard_normal(shape) - 0.3,
}


def answered(test, differences):
    """Whether the test said yes, and after how many pairs it said what it said."""
    answers = test(differences)
    assert (answers != 0).any(1).all()
    first = (answers != 0).argmax(1)
    return np.take_along_axis(answers, first[:, None], 1)[:, 0] > 0, first + 1


@pytest.mark.parametrize("pairs", [2, 4, 5, 8])
@pytest.mark.parametrize("noise", NOISE)
def test_noise_passes_as_seldom_as_the_level_says(noise, pairs):
    """Whatever its distribution, from five pairs on; with fewer, noise of a few values may pass in 2^-pairs."""
    rng = np.random.default_rng(pairs)
    size = 3000
    yes, _ = answered(SequentialTest(pairs), NOISE[noise](rng, (size, pairs)))
    level = 2.0**-pairs if pairs < 5 and "values" in noise else 0.05
    assert stats.binomtest(int(yes.sum()), size, level, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize(("pairs", "least", "pairs_of_noise"), [(4, 0.97, 1.95), (6, 0.92, 3.5), (8, 0.90, 5.5)])
def test_gains_pass_about_as_often_as_the_best_test_of_gaussians_lets_them(pairs, least, pairs_of_noise):
    """Gains of a standard deviation: most of what Student's test of all pairs finds; and noise costs few pairs."""
    rng = np.random.default_rng(0)
    differences = rng.standard_normal((8000, pairs))
    yes, _ = answered(SequentialTest(pairs), differences + 1)
    best = student_t(differences + 1) > stats.t.ppf(0.95, pairs - 1)
    assert yes.mean() > least * best.mean() - 0.01
    assert answered(SequentialTest(pairs), differences)[1].mean() < pairs_of_noise
    if pairs > 6:  # what is plain to see does not take all of them
        assert answered(SequentialTest(pairs), differences + 4)[1].mean() < pairs - 0.9


def test_an_early_no_is_one_that_nothing_could_have_changed():
    rng = np.random.default_rng(0)
    for pairs in (4, 6, 8):
        test, differences = SequentialTest(pairs), rng.standard_normal((300, pairs))
        for k in range(test.first, pairs):
            settled = test(differences)[:, k - 1] < 0
            for gains in (1e6 * 10.0 ** np.arange(pairs - k), 1.0, 1e-6):  # all that is still to come
                rescued = np.concatenate([differences[:, :k], np.broadcast_to(gains, (300, pairs - k))], 1)
                assert settled.any() and (test(rescued)[settled, -1] == -1).all()


def test_what_is_always_the_same_is_no_noise():
    assert SequentialTest(4)(np.ones(4)).tolist() == [0, 0, 0, 1]
    assert SequentialTest(8)(np.zeros(8)).tolist()[:4] == [0, 0, 0, -1]
    assert SequentialTest(4)(np.array([[0.1] * 4, [-0.1] * 4]))[:, -1].tolist() == [1, -1]


@pytest.mark.parametrize(
    ("pairs", "level", "message"), [(1, 0.05, "2 to 16 pairs"), (17, 0.05, "2 to 16"), (4, 1.0, "between 0 and 1")]
)
def test_what_cannot_be_tested_is_refused(pairs, level, message):
    with pytest.raises(ValueError, match=message):
        SequentialTest(pairs, level)
