"""The leash to the reference policy: estimates of the divergence from it, and how their weight is steered."""

import torch
from torch import Tensor

KL_ESTIMATORS = ("k1", "k3")


def estimate_kl(logprobs: Tensor, reference: Tensor, estimator: str) -> Tensor:
    """Per token, an estimate of KL(policy ‖ reference) in nats from tokens that the policy sampled.

    Schulman 2020, "Approximating KL divergence". ``k1 = log π − log ρ`` is unbiased and may be negative;
    ``k3 = ρ/π − 1 − log(ρ/π)`` is unbiased, too, never negative and of lower variance. As a *reward*, only k1 has the
    gradient of the sequence's KL in expectation; k3's is bounded below for tokens that the policy makes less likely.

    Args:
        logprobs, reference: Of the sampled tokens, any shape.
        estimator: k1 or k3.
    """
    difference = logprobs - reference
    if estimator == "k1":
        return difference
    if estimator == "k3":
        return torch.expm1(-difference) + difference
    raise ValueError(f"kl_estimator is {estimator!r}: choose from {', '.join(KL_ESTIMATORS)}")


def steer(coef: float, kl: float, target: float | None, gain: float) -> float:
    """The coefficient β after a batch of rollouts: steered towards a target KL (Ziegler et al. 2019, section 2.2).

    ``e = clip(KL / target − 1, −0.2, 0.2)``, then ``β (1 + gain · e)``.

    Args:
        coef: β so far.
        kl: Mean KL of a completion of this batch, in nats.
        target: Likewise; None keeps β as it is.
        gain: K_β of the paper.
    """
    if target is None:
        return coef
    return coef * (1 + gain * min(max(kl / target - 1, -0.2), 0.2))
