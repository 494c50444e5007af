"""The clipped surrogate objective (Schulman et al. 2017, "Proximal Policy Optimization Algorithms", arXiv 1707.06347).

All functions take the tokens of a minibatch in one row, without padding, so that padding cannot leak; all sums are over
tokens, so that a minibatch cut into parts (for accumulation, or over processes) gives the same gradient as the whole.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CLOSED = -1e9  # logit of a token that may not be chosen: its probability is 0, and 0 · logit is 0 and not NaN


def token_logprobs(
    logits: Tensor,
    tokens: Tensor,
    temperature: float = 1.0,
    closed: Tensor | None = None,
    eos_token_id: int | None = None,
    suppressed: Tensor | None = None,
    entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities of the chosen tokens under softmax(logits / temperature).

    Args:
        logits: (tokens, vocab); not to be read afterwards, since they may have been changed in place.
        tokens: (tokens,)
        temperature: That of the sampler.
        closed: Where the end token could not be chosen. (tokens,)
        eos_token_id: The end token.
        suppressed: Tokens that are never chosen.
        entropy: Whether the entropy is wanted, too; it needs another (tokens, vocab) tensor.

    Returns:
        Log-probabilities and entropies (or None) in nats, float32, (tokens,) each.
    """
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    if closed is not None:
        logits[:, eos_token_id].masked_fill_(closed, CLOSED)
    if suppressed is not None and len(suppressed):
        logits.index_fill_(1, suppressed, CLOSED)
    if not entropy:
        return _ChosenLogprobs.apply(logits, tokens), None
    # The same arithmetic, so that a policy that is its reference is found to be so to the last bit.
    below = logits - logits.detach().amax(dim=-1, keepdim=True)
    odds = below.exp()
    total = odds.sum(dim=-1, keepdim=True)
    chosen = below.gather(-1, tokens[:, None]) - total.log()
    return chosen.squeeze(-1), (total.log() - (odds * below).sum(dim=-1, keepdim=True) / total).squeeze(-1)


class _ChosenLogprobs(torch.autograd.Function):
    """log softmax(logits)[token], which is −`F.cross_entropy`, with one exponential an entry instead of two.

    Of a small policy's update the vocabulary is the most, in time and in memory: the gradient is formed where the
    probabilities are, and these where the logits were, instead of in two more tensors of that size.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, tokens: Tensor) -> Tensor:
        top = logits.amax(dim=-1, keepdim=True)
        chosen = logits.gather(-1, tokens[:, None]) - top
        odds = logits.sub_(top).exp_()  # of each token to the likeliest one
        total = odds.sum(dim=-1, keepdim=True)
        ctx.save_for_backward(odds, total, tokens)
        return (chosen - total.log()).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        odds, total, tokens = ctx.saved_tensors  # torch refuses a second pass, since the first has changed them
        gradient = gradient[:, None]
        return odds.mul_(-gradient / total).scatter_add_(-1, tokens[:, None], gradient), None


@dataclass
class PPOLoss:
    """Sums over the tokens of a minibatch, as tensors of shape ().

    Attributes:
        policy: ``Σ max(−A ρ, −A clip(ρ, 1 − ε, 1 + ε))``, eq. 7 with the sign turned.
        value: ``½ Σ max((V − R)², (clip(V, V_old − ε_v, V_old + ε_v) − R)²)``.
        approx_kl: ``Σ ρ − 1 − log ρ``, Schulman's estimate of KL(old ‖ new).
        clip_fraction: Tokens whose ratio was clipped to their disadvantage.
        value_clip_fraction: Tokens whose clipped value error was the larger one.
    """

    policy: Tensor
    value: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor
    value_clip_fraction: Tensor


def ppo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    cliprange: float,
    cliprange_value: float,
) -> PPOLoss:
    """The parts of the objective; all tensors are (tokens,)."""
    log_ratio = logprobs - old_logprobs
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    near = old_values + (values - old_values).clamp(-cliprange_value, cliprange_value)
    error, near_error = (values - returns).square(), (near - returns).square()
    with torch.no_grad():
        approx_kl = (torch.expm1(log_ratio) - log_ratio).sum()
        clip_fraction = (clipped > unclipped).sum().to(ratio.dtype)
        value_clip_fraction = (near_error > error).sum().to(ratio.dtype)
    return PPOLoss(
        policy=torch.maximum(unclipped, clipped).sum(),
        value=0.5 * torch.maximum(error, near_error).sum(),
        approx_kl=approx_kl,
        clip_fraction=clip_fraction,
        value_clip_fraction=value_clip_fraction,
    )
