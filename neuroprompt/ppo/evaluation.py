"""What a policy makes of held-out prompts, beside the policy that training began with and the prompts as they are."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from neuroprompt.statistics import compare


class Rewrite(NamedTuple):
    """What became of a prompt."""

    prompt: str
    completion: str
    reward: float
    length: int  # tokens
    ended: bool
    judges: Mapping[str, float] = {}  # what they say of the batch that it was scored in


class Sample(NamedTuple):
    """One prompt: as it is, rewritten by the reference, and by the policy."""

    plain: Rewrite
    sft: Rewrite
    policy: Rewrite


def evaluation_metrics(samples: Sequence[Sample]) -> dict[str, float]:
    """Mean rewards and gains, these with their 95 % bootstrap intervals: differences are of pairs, prompt by prompt."""
    plain, sft, policy = (list(rewrites) for rewrites in zip(*samples, strict=True))
    metrics = {
        "reward": _mean(r.reward for r in policy),
        "reward_sft": _mean(r.reward for r in sft),
        "reward_plain": _mean(r.reward for r in plain),
        "completion_length": _mean(r.length for r in policy),
        "eos_rate": _mean(r.ended for r in policy),
    }
    for name, baseline in (("sft", sft), ("plain", plain)):
        pairs = [(a.reward, b.reward) for a, b in zip(policy, baseline, strict=True)]
        pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
        if pairs:
            compared = compare(*zip(*pairs, strict=True))
            for end, value in zip(("", "_low", "_high"), compared.difference, strict=True):
                if value is not None:  # a few prompts have no interval
                    metrics[f"gain_over_{name}{end}"] = value
            metrics[f"win_rate_over_{name}"] = compared.win_rate
    return metrics


def judged(samples: Sequence[Sample]) -> dict[str, float]:
    """What each judge says of the policy's rewrites, and as ``…_sft`` and ``…_plain`` of the others; it may have said
    nothing of some batches."""
    metrics = {}
    for ending, rewrites in zip(("_plain", "_sft", ""), zip(*samples, strict=True), strict=True):
        for name in sorted({name for rewrite in rewrites for name in rewrite.judges}):
            said = [r.judges[name] for r in rewrites if math.isfinite(r.judges.get(name, math.nan))]
            metrics[name + ending] = _mean(said) if said else math.nan
    return metrics


def _mean(values) -> float:
    values = [float(v) for v in values]
    return sum(values) / len(values)
