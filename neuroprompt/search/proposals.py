"""Where new modifiers come from: a policy that continues the user's text, and what is good behind any text.

A proposer is any function from a list of `Ask` and a seed to as many lists of proposals, each of `count` lists of
modifiers.
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from neuroprompt.decoding import Constraints
from neuroprompt.enhancer import TEMPERATURE, PromptEnhancer
from neuroprompt.models import identify
from neuroprompt.prompts import CLIP_WINDOW, WindowLike


class Ask(NamedTuple):
    """A wish for modifiers.

    Attributes:
        original: The user's text, which they are to follow.
        count: Proposals wanted.
        constraints: To be met by text and proposal together, where the proposer can; the search mends the rest.
    """

    original: str
    count: int
    constraints: Constraints | None = None


Proposer = Callable[[Sequence[Ask], int], list[list[tuple[str, ...]]]]


class PolicyProposals:
    """Samples of a policy.

    Args:
        enhancer: The policy.
        window: What a prompt must fit: a `prompts.Window`, or a number of CLIP tokens.
        sampling: `temperature`, `top_k`, `top_p`, `num_beams`, `batch_size` and the like of `PromptEnhancer.rewrite`.

    Raises:
        ValueError: The policy writes no modifiers: it tells prompts again.
    """

    def __init__(self, enhancer: PromptEnhancer, window: WindowLike = CLIP_WINDOW, **sampling):
        if enhancer.format.replaces:
            raise ValueError(
                f"{enhancer.name} tells prompts again, and a search adds modifiers to them: choose among its samples "
                f"(best-of-8:{enhancer.name}), or search with a policy that continues"
            )
        self.enhancer, self.window, self.sampling = enhancer, window, sampling
        source = enhancer.model.name_or_path  # nothing for a model that was made in memory
        self.name = identify(source, "policy") if source else type(enhancer.model).__name__

    def __call__(self, asks: Sequence[Ask], seed: int) -> list[list[tuple[str, ...]]]:
        made: dict[Ask, list[tuple[str, ...]]] = {}
        for count in dict.fromkeys(ask.count for ask in asks):
            group = [ask for ask in asks if ask.count == count]
            results = self.enhancer.rewrite(
                [ask.original for ask in group],
                [ask.constraints for ask in group],
                num_return_sequences=count,
                do_sample=True,
                seed=seed,
                window=self.window,
                output_scores=False,
                **{"temperature": TEMPERATURE} | self.sampling,
            )
            for ask, variants in zip(group, results, strict=True):
                made[ask] = [tuple(m.text for m in variant.modifiers) for variant in variants]
        return [made[ask] for ask in asks]


class AroundSuffix:
    """Of each proposal of another proposer some modifiers, behind some of a suffix that is good behind any prompt; and
    that suffix itself.

    So a search begins where all that can be had without reading the prompt is had already.

    Args:
        propose: The other one.
        suffix: As `find_suffix` finds it.
    """

    def __init__(self, propose: PolicyProposals, suffix: Sequence[str]):
        self.propose, self.suffix = propose, tuple(suffix)
        self.name = [propose.name, ", ".join(self.suffix)]

    def __call__(self, asks: Sequence[Ask], seed: int) -> list[list[tuple[str, ...]]]:
        return [
            [
                self.suffix,
                *(self._crossed(own, random.Random(f"{seed} {i} {ask.original}")) for i, own in enumerate(made)),
            ]
            for ask, made in zip(asks, self.propose(asks, seed), strict=True)
        ]

    def _crossed(self, own: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
        share = rng.uniform(0.5, 1.0)
        kept = tuple(modifier for modifier in self.suffix if rng.random() < share)
        return kept + tuple(modifier for modifier in own if rng.random() < 0.5)
