"""The objective and its gradient, against formulas written out token by token in Python floats (float64)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.ppo.kl import estimate_kl, steer
from neuroprompt.ppo.losses import ppo_loss, token_logprobs

EPSILON, EPSILON_VALUE = 0.2, 0.3


def naive(token):
    """Losses of one token, and their derivatives by its log-probability and by its value."""
    logprob, old, advantage, value, old_value, target = token
    ratio = math.exp(logprob - old)
    clipped_ratio = min(max(ratio, 1 - EPSILON), 1 + EPSILON)
    if -advantage * ratio >= -advantage * clipped_ratio:
        policy, by_logprob = -advantage * ratio, -advantage * ratio
    else:
        policy, by_logprob = -advantage * clipped_ratio, 0.0
    near = old_value + min(max(value - old_value, -EPSILON_VALUE), EPSILON_VALUE)
    inside = abs(value - old_value) < EPSILON_VALUE
    if (value - target) ** 2 >= (near - target) ** 2:
        loss, by_value = 0.5 * (value - target) ** 2, value - target
    else:
        loss, by_value = 0.5 * (near - target) ** 2, (near - target) * inside
    approx_kl = ratio - 1 - (logprob - old)
    return policy, by_logprob, loss, by_value, approx_kl


tokens = st.lists(
    st.tuples(st.floats(-4, 0), st.floats(-4, 0), *[st.floats(-2, 2)] * 4).filter(
        # where a derivative jumps, either side is right
        lambda t: (
            all(abs(math.exp(t[0] - t[1]) - edge) > 1e-3 for edge in (1 - EPSILON, 1 + EPSILON))
            and abs(abs(t[3] - t[4]) - EPSILON_VALUE) > 1e-3
            and abs(abs(t[3] - t[5]) - abs(t[4] - t[5])) > 1e-3
        )
    ),
    min_size=1,
    max_size=8,
)


@given(tokens)
def test_losses_and_gradients(tokens):
    columns = [torch.tensor(c, dtype=torch.float64) for c in zip(*tokens, strict=True)]
    columns[0].requires_grad_(), columns[3].requires_grad_()
    loss = ppo_loss(*columns, EPSILON, EPSILON_VALUE)
    (loss.policy + loss.value).backward()
    expected = [sum(c) for c in zip(*map(naive, tokens), strict=True)]
    found = (loss.policy, columns[0].grad.sum(), loss.value, columns[3].grad.sum(), loss.approx_kl)
    assert [v.item() for v in found] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert columns[0].grad.tolist() == pytest.approx([naive(t)[1] for t in tokens], abs=1e-9)
    assert columns[3].grad.tolist() == pytest.approx([naive(t)[3] for t in tokens], abs=1e-9)


def test_clip_fractions_count_what_was_clipped():
    loss = ppo_loss(
        logprobs=torch.log(torch.tensor([1.5, 1.5, 0.5, 0.5, 1.0])),
        old_logprobs=torch.zeros(5),
        advantages=torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]),
        values=torch.tensor([1.0, 0.1, 0.0, 0.0, 0.0]),
        old_values=torch.zeros(5),
        returns=torch.full((5,), 2.0),
        cliprange=0.2,
        cliprange_value=0.2,
    )
    assert loss.clip_fraction == 2  # the gain beyond 1 + ε, and the loss beyond 1 − ε
    assert loss.value_clip_fraction == 1
    assert loss.policy.item() == pytest.approx(-1.2 + 1.5 - 0.5 + 0.8 - 1.0)


@given(st.integers(0, 99), st.sampled_from([0.5, 1.0, 1.7]), st.booleans())
def test_logprobs_and_entropy(seed, temperature, closes):
    torch.manual_seed(seed)
    logits, tokens = torch.randn(6, 7, dtype=torch.float32) * 3, torch.randint(1, 7, (6,))
    closed = torch.rand(6) < 0.5 if closes else None
    tokens, never = tokens.clamp_max(4), torch.tensor([5, 6] if closes else [], dtype=torch.long)
    logprobs, entropies = token_logprobs(logits.clone(), tokens, temperature, closed, 0, never, entropy=True)
    alone, nothing = token_logprobs(logits.clone(), tokens, temperature, closed, 0, never)
    assert nothing is None and torch.allclose(alone, logprobs, atol=1e-6)
    for row in range(6):
        allowed = [v for v in range(7) if not (closes and closed[row] and v == 0) and v not in never.tolist()]
        weights = {v: math.exp(logits[row, v].item() / temperature) for v in allowed}
        total = sum(weights.values())
        assert logprobs[row].item() == pytest.approx(math.log(weights[tokens[row].item()] / total), abs=1e-5)
        entropy = -sum(w / total * math.log(w / total) for w in weights.values())
        assert entropies[row].item() == pytest.approx(entropy, abs=1e-5)


@given(st.integers(0, 99), st.sampled_from([1.0, 30.0, 3000.0]), st.sampled_from([0.5, 1.0]), st.booleans())
def test_gradient_of_logprobs(seed, spread, temperature, closes):
    """Against torch's own in float64, also where a probability is too small for a float."""
    torch.manual_seed(seed)
    leaf, tokens = (torch.randn(6, 7) * spread).requires_grad_(), torch.randint(1, 7, (6,))
    closed = torch.rand(6) < 0.5 if closes else torch.zeros(6, dtype=torch.bool)
    weights = torch.randn(6)
    logprobs, _ = token_logprobs(leaf * 1.0, tokens, temperature, closed, 0)
    (gradient,) = torch.autograd.grad((logprobs * weights).sum(), leaf)
    exact = leaf.detach().double().requires_grad_()
    allowed = (exact / temperature).index_put((closed, torch.tensor(0)), torch.tensor(-math.inf).double())
    expected = allowed.log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1)
    (expected_gradient,) = torch.autograd.grad((expected * weights.double()).sum(), exact)
    assert torch.allclose(logprobs.double(), expected, rtol=1e-6, atol=1e-5)
    assert torch.allclose(gradient.double(), expected_gradient, atol=1e-5)


def test_the_gradient_of_logprobs_is_taken_once():
    logits = torch.randn(3, 5, requires_grad=True)
    total = token_logprobs(logits * 1.0, torch.tensor([2, 3, 4]))[0].sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace operation"):  # its memory is used up: no wrong second answer
        total.backward()


@pytest.mark.parametrize("entropy", [True, False])
def test_a_closed_token_gets_no_gradient(entropy):
    logits = torch.randn(3, 5, requires_grad=True)
    closed = torch.tensor([True, False, True])
    never, chosen = torch.tensor([1]), torch.tensor([2, 3, 4])
    logprobs, entropies = token_logprobs(logits * 1.0, chosen, 0.8, closed, 0, never, entropy=entropy)
    (logprobs.sum() + (entropies.sum() if entropy else 0)).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[closed, 0].tolist() == [0, 0] and logits.grad[1, 0] != 0
    assert logits.grad[:, 1].tolist() == [0, 0, 0]


def test_both_estimators_of_kl_are_unbiased():
    torch.manual_seed(0)
    policy, reference = torch.randn(6).log_softmax(0), torch.randn(6).log_softmax(0)
    exact = (policy.exp() * (policy - reference)).sum()
    for estimator in ("k1", "k3"):
        values = estimate_kl(policy, reference, estimator)
        assert (policy.exp() * values).sum().item() == pytest.approx(exact.item(), abs=1e-6)
    assert (estimate_kl(policy, reference, "k3") >= 0).all()
    with pytest.raises(ValueError, match="k2"):
        estimate_kl(policy, reference, "k2")


def test_the_coefficient_is_steered_to_its_target():
    assert steer(0.1, 100.0, None, 0.1) == 0.1
    assert steer(0.1, 6.0, 6.0, 0.1) == 0.1
    assert steer(0.1, 60.0, 6.0, 0.1) == pytest.approx(0.1 * 1.02)  # clipped to +0.2
    assert steer(0.1, 0.0, 6.0, 0.1) == pytest.approx(0.1 * 0.98)
    coef = 0.1  # a system whose KL falls with the coefficient comes to rest where it should
    for _ in range(2000):
        coef = steer(coef, 0.9 / coef, 6.0, 0.1)
    assert 0.9 / coef == pytest.approx(6.0, rel=0.05)
