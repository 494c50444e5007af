"""Where new modifiers come from: a policy that continues what is kept, and the vocabularies of `neuroprompt.modifiers`.

A proposer is any function from a list of `Ask` and a seed to as many lists of proposals, each of `count` lists of
modifiers that are to stand behind those kept.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from neuroprompt.decoding import Constraints
from neuroprompt.enhancer import TEMPERATURE, PromptEnhancer
from neuroprompt.models import fingerprint
from neuroprompt.modifiers import CATEGORIES, vocabulary
from neuroprompt.prompts import CLIP_WINDOW


class Ask(NamedTuple):
    """A wish for modifiers.

    Attributes:
        original: The user's text.
        head: The text that they are to follow: the user's, and the modifiers kept.
        count: Proposals wanted.
        constraints: To be met by head and proposal together, where the proposer can; the search mends the rest.
        max_new_tokens: How long a proposal may be, in the policy's tokens; None for what the window holds.
    """

    original: str
    head: str
    count: int
    constraints: Constraints | None = None
    max_new_tokens: int | None = None


Proposer = Callable[[Sequence[Ask], int], list[list[tuple[str, ...]]]]


class PolicyProposals:
    """Samples of a policy.

    Args:
        enhancer: The policy.
        window: CLIP tokens that a prompt may have.
        sampling: `temperature`, `top_k`, `top_p`, `num_beams`, `batch_size` and the like of `PromptEnhancer.__call__`.
    """

    def __init__(self, enhancer: PromptEnhancer, window: int = CLIP_WINDOW, **sampling):
        self.enhancer, self.window, self.sampling = enhancer, window, sampling
        # By its content, wherever the folder lies: that of an embedded policy may be another in each process.
        source = Path(enhancer.model.name_or_path)
        self.name = fingerprint(source) if source.is_dir() else str(source)

    def __call__(self, asks: Sequence[Ask], seed: int) -> list[list[tuple[str, ...]]]:
        # A head and a seed give the same samples again, so all that a prompt asks of a head is drawn at once and dealt
        # out. Another prompt with the same head gets the same: it does not depend on the prompts beside it.
        wanted: dict[Ask, int] = {}
        for ask in asks:
            wanted[ask._replace(count=0)] = wanted.get(ask._replace(count=0), 0) + ask.count
        dealt: dict[Ask, list[tuple[str, ...]]] = {}
        groups: dict[tuple[int, int | None], list[Ask]] = {}
        for ask, count in wanted.items():
            groups.setdefault((count, ask.max_new_tokens), []).append(ask)
        for (count, max_new_tokens), group in groups.items():
            results = self.enhancer(
                [ask.head for ask in group],
                [ask.constraints for ask in group] if any(ask.constraints for ask in group) else None,
                num_return_sequences=count,
                do_sample=True,
                seed=seed,
                max_new_tokens=max_new_tokens,
                window=self.window,
                output_scores=False,
                **{"min_modifiers": 1 if max_new_tokens else 4, "temperature": TEMPERATURE} | self.sampling,
            )
            for ask, of in zip(group, results, strict=True):
                dealt[ask] = [tuple(m.text for m in e.modifiers) for e in ([of] if count == 1 else of)]
        return [[dealt[ask._replace(count=0)].pop(0) for _ in range(ask.count)] for ask in asks]


class Terms:
    """Single modifiers, drawn by their frequency.

    Args:
        counts: Every term and how often people write it; by default the six vocabularies. Of those only terms of two
            words and more, since the count of a single word holds the prompts where it belongs to the subject.
    """

    def __init__(self, counts: Mapping[str, int] | None = None):
        counts = _frequencies() if counts is None else counts
        if not counts:
            raise ValueError("the vocabulary is empty: give some terms, or None for the project's own")
        self.terms = list(counts)
        self._cumulated = list(accumulate(counts.values()))

    def draw(self, rng: random.Random) -> str:
        """One term."""
        return rng.choices(self.terms, cum_weights=self._cumulated)[0]


@cache
def _frequencies() -> dict[str, int]:
    terms = ((c, term, count) for c in CATEGORIES for term, count in vocabulary(c).items() if " " in term)
    return {f"by {term}" if category == "artist" else term: count for category, term, count in terms}
