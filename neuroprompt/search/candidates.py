"""What a search may draw: the user's text as it is, modifiers behind it, inside the window and the constraints."""

import random
from collections.abc import Sequence

from neuroprompt.completions import finish
from neuroprompt.decoding import Constraints, check
from neuroprompt.decoding.constraints import occurrences
from neuroprompt.prompts import CLIP_WINDOW, SEPARATORS, Prompt, count_clip_tokens, modifier_key, normalise


class Space:
    """The rewrites of one prompt that may be drawn.

    Args:
        original: The user's text; every rewrite begins with it, verbatim.
        constraints: What every rewrite must and must not say.
        window: CLIP tokens that a rewrite may have.
        coherent: Leave out modifiers that a person would not sign (see `judge`).

    Attributes:
        modifiers: By text, of every rewrite made so far.
        open: Whether there is room for modifiers at all.
    """

    def __init__(
        self, original: str, constraints: Constraints | None = None, window: int = CLIP_WINDOW, coherent: bool = True
    ):
        self.original, self.constraints, self.window, self.coherent = original, constraints or None, window, coherent
        self.modifiers: dict[str, tuple[str, ...]] = {original: ()}
        self.open = count_clip_tokens(original) < window
        # A text that does not meet the constraints is drawn to be compared with, and cannot win.
        self.original_allowed = not self.constraints or bool(check(original, self.constraints))

    def text(self, modifiers: Sequence[str], rng: random.Random) -> str | None:
        """The rewrite with these modifiers: none twice, none forbidden, what does not fit left off at the end.

        A phrase is added for each clause that is not met; of a long clause one of the first, which for a whole
        vocabulary are the most frequent. None where nothing allowed comes of it.
        """
        if not self.open:
            return None
        wish = self.constraints
        kept = [segment for m in modifiers for segment in Prompt.parse(normalise(m)).segments]
        if wish:
            kept = [m for m in kept if not any(True for phrase in wish.forbidden for _ in occurrences(m, phrase))]
            met = check(", ".join([self.original.rstrip(SEPARATORS), *kept]), wish).matches
            kept += [rng.choice(phrases[:8]) for phrases, match in zip(wish.clauses, met, strict=True) if not match]
        text, added = finish(self.original, ", " + ", ".join(kept), True, self.window, wish, self.coherent)
        if not added or count_clip_tokens(text) > self.window or (wish and not check(text, wish)):
            return text if text == self.original and self.original_allowed else None
        self.modifiers[text] = tuple(added)
        return text


def keys(modifiers: Sequence[str]) -> frozenset[str]:
    """What a set of modifiers is, spelling aside."""
    return frozenset(map(modifier_key, modifiers))
