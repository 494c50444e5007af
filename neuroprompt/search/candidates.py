"""What a search may draw: the user's text as it is, modifiers behind it, inside the window and the constraints; and, if
that is searched, too, a negative prompt beside it.

A candidate is a text. One that has a negative prompt of its own is written as A1111 writes the two.
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from neuroprompt.completions import finish
from neuroprompt.decoding import Constraints, check
from neuroprompt.decoding.constraints import occurrences
from neuroprompt.prompts import (
    CLIP_WINDOW,
    SEPARATORS,
    Prompt,
    Window,
    WindowLike,
    join_negatives,
    modifier_key,
    normalise,
)

from .negatives import choose


class Drawn(NamedTuple):
    """What is drawn of a candidate: the prompt, its modifiers, and its negative prompt, or None."""

    text: str
    modifiers: tuple[str, ...] = ()
    negative: str | None = None


class Space:
    """The rewrites of one prompt that may be drawn.

    Args:
        original: The user's text; every rewrite begins with it, verbatim.
        constraints: What every rewrite must and must not say.
        window: What a rewrite must fit: a `prompts.Window`, or a number of CLIP tokens.
        coherent: Leave out modifiers that a person would not sign (see `judge`).
        against: Makes a negative prompt of what must not be shown (see `ImageGenerator.negative_for`); it is asked for
            what the constraints forbid, and for what is searched.
        negatives: Whether negative prompts are searched, too (see `negatives.choose`).

    Attributes:
        drawn: What every candidate made so far is. The original is drawn without a negative prompt.
        open: Whether there is anything to search: room for modifiers, or negative prompts.
    """

    def __init__(
        self,
        original: str,
        constraints: Constraints | None = None,
        window: WindowLike = CLIP_WINDOW,
        coherent: bool = True,
        against: Callable[..., str | None] = join_negatives,
        negatives: bool = False,
    ):
        self.original, self.constraints, self.window = original, constraints or None, Window.of(window)
        self.coherent, self.against, self.negatives = coherent, against, negatives
        self.drawn: dict[str, Drawn] = {original: Drawn(original)}
        self._room = self.window.room(original) > 0
        self.open = self._room or negatives
        # A text that does not meet the constraints is drawn to be compared with, and cannot win.
        self.original_allowed = not self.constraints or bool(check(original, self.constraints))

    def text(self, modifiers: Sequence[str], rng: random.Random) -> str | None:
        """The candidate with these modifiers, and a negative prompt drawn at random if these are searched; None where
        nothing allowed comes of it."""
        text, added = self._rewrite(modifiers, rng)
        if text is None:
            return None
        phrases = choose(text, rng) if self.negatives else ()
        forbidden = self.constraints.forbid if self.constraints else ()
        if text == self.original and not phrases:
            return text
        drawn = Drawn(text, added, self.against(*forbidden, *phrases) if forbidden or phrases else None)
        candidate = f"{text}\nNegative prompt: {drawn.negative}" if phrases else text
        self.drawn[candidate] = drawn
        return candidate

    def _rewrite(self, modifiers: Sequence[str], rng: random.Random) -> tuple[str | None, tuple[str, ...]]:
        """The rewrite with these modifiers, and those that stayed: none twice, none forbidden, what does not fit left
        off at the end.

        A phrase is added for each clause that is not met; of a long clause one of the first, which for a whole
        vocabulary are the most frequent.
        """
        unchanged = (self.original if self.original_allowed else None), ()
        if not self._room:
            return unchanged
        wish = self.constraints
        kept = [segment for m in modifiers for segment in Prompt.parse(normalise(m)).segments]
        if wish:
            kept = [m for m in kept if not any(True for phrase in wish.forbidden for _ in occurrences(m, phrase))]
            met = check(", ".join([self.original.rstrip(SEPARATORS), *kept]), wish).matches
            kept += [rng.choice(phrases[:8]) for phrases, match in zip(wish.clauses, met, strict=True) if not match]
        text, added = finish(self.original, ", " + ", ".join(kept), True, self.window, wish, self.coherent)
        if not added or not self.window.holds(text) or (wish and not check(text, wish)):
            return unchanged if text == self.original else (None, ())
        return text, tuple(added)


def keys(modifiers: Sequence[str]) -> frozenset[str]:
    """What a set of modifiers is, spelling aside."""
    return frozenset(map(modifier_key, modifiers))
