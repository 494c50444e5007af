"""Rewards into advantages: generalised advantage estimation, whitening, and a running scale of rewards.

Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation"
(arXiv 1506.02438). An episode is a completion: contiguous from the first column, padded on the right.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def against_others(scores: Tensor, completions: int) -> Tensor:
    """Each score less the mean score of the same prompt's other completions (Kool et al. 2019; 1: as they are).

    What a prompt and its seed make of any picture is no merit of the rewrite, and no critic can foresee the seed's
    part; the other rewrites of the prompt, drawn with that seed, show it. Not to be correlated with the rewrite that is
    judged, the mean leaves that one out, so the gradient's expectation stays what it was.

    Args:
        scores: (rows,), those of a prompt side by side.
        completions: Of each prompt.
    """
    if completions == 1:
        return scores
    groups = scores.view(-1, completions)
    return ((groups - groups.mean(1, keepdim=True)) * (completions / (completions - 1))).view(-1)


def win_rates(scores: Tensor, completions: int) -> Tensor:
    """The share of the same prompt's other completions that each beats, a tie half (Pref-GRPO, arXiv 2508.20751).

    It says who wins and not by how much, so that what is far ahead by some flaw of the reward earns no more for it.

    Args:
        scores: (rows,), those of a prompt side by side. What is not finite is no score: it has no win rate, NaN, and
            is none of the others; a completion without others wins half.
        completions: Of each prompt.
    """
    groups = scores.view(-1, completions)
    known = groups.isfinite()
    met = known[:, :, None] & known[:, None] & ~torch.eye(completions, dtype=torch.bool, device=scores.device)
    difference = torch.where(met, groups[:, :, None] - groups[:, None], 0.0)  # (prompts, each, other)
    others = met.sum(2)
    rates = 0.5 + difference.sign().sum(2) / (2 * others.clamp_min(1))
    return rates.masked_fill(~known, math.nan).view(-1).to(scores.dtype)


def flat_groups(scores: Tensor, completions: int) -> Tensor:
    """Whether all finite scores of a completion's prompt are the same, of (rows,) as in `win_rates`: then its group
    says nothing of how to write."""
    groups = scores.view(-1, completions)
    known = groups.isfinite()
    most = groups.masked_fill(~known, -math.inf).amax(1)
    least = groups.masked_fill(~known, math.inf).amin(1)
    return (most <= least).repeat_interleave(completions)


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """What each token earns: the penalty for leaving the reference, and on the last token the score of the whole text.

    Ziegler et al. 2019 (arXiv 1909.08593), eq. 2, spread over the tokens as in Ouyang et al. 2022.

    Args:
        scores: (rows,)
        kl: Estimates of the divergence from the reference, in nats. (rows, length)
        mask: Which columns hold a token. (rows, length)
        kl_coef: β.
    """
    rewards = -kl_coef * kl * mask
    last = mask.sum(1, keepdim=True) - 1  # (rows, 1)
    return rewards.scatter_add(1, last, scores[:, None].to(rewards.dtype))


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantages and value targets, both (rows, length) and 0 where there is no token.

    ``A_t = Σ_{l ≥ 0} (γλ)^l δ_{t+l}`` with ``δ_t = r_t + γ V(s_{t+1}) − V(s_t)`` (eq. 16), as one product with the
    triangular matrix of discounts. Every episode ends with its last token, whether that is the end token or the last
    one of the budget: the score is that of the text as it stands, and nothing comes after it.

    Args:
        rewards, values: (rows, length); `values[:, t]` is that of the state in which token t was chosen.
        mask: Which columns hold a token. (rows, length)
    """
    rewards, values = rewards * mask, values * mask
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)  # 0 after the last token
    deltas = rewards + gamma * following - values
    steps = torch.arange(values.shape[1], device=values.device)
    ahead = steps[:, None] - steps[None]  # (from, to): how far `from` lies ahead of `to`
    discounts = torch.where(ahead >= 0, torch.pow(gamma * lam, ahead.clamp_min(0).to(values.dtype)), 0.0)
    advantages = (deltas @ discounts) * mask
    return advantages, advantages + values


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """`values` with mean 0 and variance 1 over the tokens of the mask; 0 elsewhere."""
    count = mask.sum()
    mean = (values * mask).sum() / count
    variance = ((values - mean).square() * mask).sum() / count
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """``1 − Var(returns − values) / Var(returns)`` over the tokens: 1 for a perfect critic, 0 for a constant one."""
    keep = mask.bool()
    spread = returns[keep].var(unbiased=False)
    if spread == 0:
        return math.nan
    return float(1 - (returns[keep] - values[keep]).var(unbiased=False) / spread)


@dataclass
class RunningMoments:
    """Mean and variance of all scores so far, to bring rewards of any unit to one (Chan et al.'s parallel update).

    Attributes:
        count: Scores seen.
        mean: Theirs.
        squares: Sum of squared deviations from the mean.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def std(self) -> float:
        """1 until there are two scores that differ."""
        return math.sqrt(self.squares / self.count) if self.squares > 0 else 1.0

    def update(self, scores: Tensor) -> None:
        """Take (n,) finite scores in."""
        scores = scores.double()
        n, mean = len(scores), float(scores.mean())
        delta, total = mean - self.mean, self.count + n
        self.squares += float((scores - mean).square().sum()) + delta * delta * self.count * n / total
        self.mean += delta * n / total
        self.count = total

    def normalise(self, scores: Tensor) -> Tensor:
        """(n,) scores in units of the spread around the mean of all so far."""
        return (scores - self.mean) / self.std
