"""Advantages against loops in Python's own floats, which are float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.ppo.advantages import RunningMoments, against_others, explained_variance, gae, token_rewards, whiten

number = st.floats(-3, 3, width=32)


@st.composite
def episodes(draw):
    """Rewards and values of rows of different lengths, with rubbish behind their ends."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    longest = max(lengths) + draw(st.integers(0, 2))
    table = st.lists(st.lists(number, min_size=longest, max_size=longest), min_size=len(lengths), max_size=len(lengths))
    return lengths, draw(table), draw(table)


@given(st.integers(2, 5), st.lists(number, min_size=20, max_size=20))
def test_a_score_is_compared_with_the_others_of_its_prompt(completions, scores):
    scores = scores[: 20 // completions * completions]
    found = against_others(torch.tensor(scores), completions).tolist()
    for i, score in enumerate(scores):
        first = i - i % completions
        others = [scores[j] for j in range(first, first + completions) if j != i]
        assert found[i] == pytest.approx(score - sum(others) / len(others), abs=1e-5)
    assert against_others(torch.tensor(scores), 1).tolist() == pytest.approx(scores)


def mask_of(lengths, width):
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def naive_gae(rewards, values, gamma, lam):
    """Backwards through one episode, as in every text book."""
    advantages, ahead = [0.0] * len(rewards), 0.0
    for t in reversed(range(len(rewards))):
        following = values[t + 1] if t + 1 < len(rewards) else 0.0
        ahead = rewards[t] + gamma * following - values[t] + gamma * lam * ahead
        advantages[t] = ahead
    return advantages


@given(episodes(), st.sampled_from([(1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (0.99, 0.0), (0.0, 0.5)]))
def test_gae_is_the_recursion(episodes, discounts):
    lengths, rewards, values = episodes
    mask = mask_of(lengths, len(rewards[0]))
    found, returns = gae(torch.tensor(rewards), torch.tensor(values), mask, *discounts)
    for row, n in enumerate(lengths):
        expected = naive_gae(rewards[row][:n], values[row][:n], *discounts)
        assert found[row, :n].tolist() == pytest.approx(expected, abs=1e-4)
        assert returns[row, :n].tolist() == pytest.approx(
            [a + v for a, v in zip(expected, values[row][:n], strict=True)], abs=1e-4
        )
        assert not found[row, n:].any() and not returns[row, n:].any()


def test_gae_of_long_episodes_is_as_exact():
    torch.manual_seed(0)
    rewards, values = torch.randn(3, 400), torch.randn(3, 400)
    found, _ = gae(rewards, values, torch.ones(3, 400), 0.99, 0.95)
    for row in range(3):
        expected = naive_gae(rewards[row].double().tolist(), values[row].double().tolist(), 0.99, 0.95)
        assert found[row].tolist() == pytest.approx(expected, abs=1e-4)


@given(episodes(), number)
def test_the_score_is_paid_at_the_last_token(episodes, coef):
    lengths, kl, _ = episodes
    mask, scores = mask_of(lengths, len(kl[0])), torch.arange(1.0, len(lengths) + 1)
    rewards = token_rewards(scores, torch.tensor(kl), mask, coef)
    for row, n in enumerate(lengths):
        for t in range(len(kl[0])):
            expected = (-coef * kl[row][t] + (row + 1) * (t == n - 1)) if t < n else 0.0
            assert rewards[row, t].item() == pytest.approx(expected, abs=1e-5)


@given(episodes())
def test_whitening_looks_at_tokens_only(episodes):
    lengths, values, _ = episodes
    mask = mask_of(lengths, len(values[0]))
    found = whiten(torch.tensor(values, dtype=torch.float64), mask.double())
    tokens = [v for row, n in zip(values, lengths, strict=True) for v in row[:n]]
    mean = sum(tokens) / len(tokens)
    variance = sum((v - mean) ** 2 for v in tokens) / len(tokens)
    for row, n in enumerate(lengths):
        expected = [(v - mean) / math.sqrt(variance + 1e-8) for v in values[row][:n]]
        assert found[row, :n].tolist() == pytest.approx(expected, abs=1e-6)
        assert not found[row, n:].any()


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=5), min_size=1, max_size=5))
def test_moments_are_those_of_everything_so_far(batches):
    moments = RunningMoments()
    for batch in batches:
        moments.update(torch.tensor(batch))
    everything = torch.tensor([v for batch in batches for v in batch], dtype=torch.float64)
    assert moments.mean == pytest.approx(everything.mean().item(), abs=1e-6)
    spread = everything.std(unbiased=False).item()
    if spread > 1e-3:
        assert moments.std == pytest.approx(spread, rel=1e-6)
        assert moments.normalise(everything).std(unbiased=False).item() == pytest.approx(1, rel=1e-6)


def test_rewards_that_are_all_alike_are_centred_and_left_in_their_unit():
    moments = RunningMoments()
    moments.update(torch.full((4,), 21.5))
    assert moments.std == 1.0 and moments.normalise(torch.tensor([21.5, 22.0])).tolist() == [0.0, 0.5]


def test_explained_variance():
    returns = torch.tensor([[1.0, 2.0, 3.0], [4.0, 99.0, 99.0]])
    mask = mask_of([3, 1], 3)
    assert explained_variance(returns, returns, mask) == 1
    assert explained_variance(torch.zeros(2, 3), returns, mask) == 0
    assert explained_variance(torch.tensor([[1.0, 2.0, 3.0], [2.0, 0.0, 0.0]]), returns, mask) == pytest.approx(0.4)
    assert math.isnan(explained_variance(returns, torch.ones(2, 3), mask))
