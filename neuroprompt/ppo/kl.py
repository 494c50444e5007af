"""The leash to the reference policy: estimates of the divergence from it, and the controller of their weight."""

from dataclasses import dataclass

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


@dataclass
class KLController:
    """The KL coefficient β: fixed, or steered towards a target (Ziegler et al. 2019, section 2.2).

    ``e = clip(KL / target − 1, −0.2, 0.2)``, then ``β ← β (1 + gain · e)`` after each batch of rollouts.

    Attributes:
        coef: β.
        target: Nats per completion; None keeps β as it is.
        gain: K_β of the paper.
    """

    coef: float
    target: float | None = None
    gain: float = 0.1

    def update(self, kl: float) -> None:
        """Take in the mean KL of a completion, in nats."""
        if self.target is not None:
            self.coef *= 1 + self.gain * min(max(kl / self.target - 1, -0.2), 0.2)
