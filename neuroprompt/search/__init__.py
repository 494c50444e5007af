"""The training-free optimiser: search for the rewrite of a prompt whose pictures are worth most.

    reward = PromptReward(generator, load_rewards("pickscore:1.0,clip:0,aesthetic:0"))
    result = optimize("boy on a horse", reward, PromptEnhancer.from_pretrained(), SearchConfig())
    result.text, result.held_out, result.curve, result.front

The policy proposes and real pictures decide, as automatic prompt engineering does for language models (Zhou et al.
2023). See `strategies` for how a budget is spent, and `results` for what comes back.
"""

from .chat import Chat
from .loop import Round, SearchConfig, optimize
from .proposals import AroundSuffix, Ask, PolicyProposals, Proposer
from .results import Measurement, SearchResult, pareto_front, to_pairs
from .strategies import STRATEGIES
from .suffix import FoundSuffix, SuffixConfig, find_suffix, frequent_suffix, read_suffix

__all__ = [
    "STRATEGIES",
    "AroundSuffix",
    "Ask",
    "Chat",
    "FoundSuffix",
    "Measurement",
    "PolicyProposals",
    "Proposer",
    "Round",
    "SearchConfig",
    "SearchResult",
    "SuffixConfig",
    "find_suffix",
    "frequent_suffix",
    "optimize",
    "pareto_front",
    "read_suffix",
    "to_pairs",
]
