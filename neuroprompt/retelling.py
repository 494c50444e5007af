"""A retelling as text: what an answer must say, and how it becomes the finished prompt.

What `completions.py` is to policies that continue a prompt, this is to those that replace it: the user's words are in
the result because the search was made to write them (`locked.py`), as they were typed, and the whole fits the window.
No model is touched here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from neuroprompt.completions import shortest_rewrite
from neuroprompt.decoding import Constraints, check, occurrences
from neuroprompt.decoding.constraints import MAX_CLAUSES
from neuroprompt.formats import Answer, PromptFormat
from neuroprompt.locked import Locked, in_other_script, lock
from neuroprompt.prompts import Window


@dataclass(frozen=True)
class Retelling:
    """What one prompt's retelling must say.

    Attributes:
        original: The user's text.
        wish: What the user wants and does not want besides; None for nothing.
        locked: What of the text stays.
        prose: Whether the answer is prose, which is shortened by sentences, or tags.
        before_artists: See `PromptFormat`.
    """

    original: str
    wish: Constraints | None
    locked: Locked
    prose: bool
    before_artists: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, original: str, wish: Constraints | None, keep: Sequence[str], keep_words: bool, asked: PromptFormat
    ) -> "Retelling":
        """For the arguments of `locked.lock` and a policy's format; of `keep`, what the text has."""
        named = [phrase for phrase in keep if check(original, Constraints(require=[[phrase]]))]
        return cls(original, wish, lock(original, named, keep_words), asked.prose, asked.before_artists)

    @cached_property
    def constraints(self) -> Constraints | None:
        """All that the answer must meet: the user's wish, and what is locked; None for nothing."""
        wish = self.wish or Constraints()
        wants_artist = wish.artist or "artist" in wish.auto or _ARTIST.search(self.original)
        unasked = () if wants_artist else self.before_artists
        never = [p for p in (*wish.never_add, *unasked) if not any(occurrences(self.original, p))]  # the user may
        wish = replace(wish, never_add=tuple(never))
        locked = self.locked.clauses[: MAX_CLAUSES - len(wish.named_clauses)]
        return replace(wish, require=(*wish.require, *locked), anywhere=True) or None

    def is_long(self, window: Window) -> bool:
        """Whether the prompt takes most of the window: there is no room to tell it again, but for a sentence more."""
        return 2 * window.room(self.locked.asked) < (window.tokens or 0)

    @property
    def begun(self) -> str:
        """An answer that begins with the user's own words, for a policy that does not come to them by itself."""
        asked = self.locked.asked.rstrip(" .,;|")
        return asked[:1].upper() + asked[1:] if self.prose else asked

    @property
    def own_words(self) -> str:
        """The user's text, and what is required besides: what stands in for an answer that there is none of."""
        return shortest_rewrite(self.original, self.wish) if self.wish else self.original

    def finish(self, answer: Answer, window: Window) -> Answer:
        """The finished prompt: what is locked as the user typed it, inside the window; or why there is none."""
        text = self._as_typed(answer.text)
        if not text:
            return Answer("", answer.problem or "it wrote nothing")
        if in_other_script(self.locked.asked, text):
            return Answer("", "it answered in another script")
        if (missing := self._missing(text)) is not None:
            return Answer("", f"it left out {missing!r}")
        if not self._meets(text):
            return Answer("", "it says what is forbidden")
        for part in (_SENTENCE, _CLAUSE) if self.prose else (_TAG,):
            text = self._shortened(text, part, window)
        if not window.holds(text):
            return Answer("", "what must be said does not fit the window")
        return Answer(text, answer.problem)

    def _as_typed(self, text: str) -> str:
        text = self.locked.restore(text) if text else text
        if not self.wish:
            return text
        for match in sorted(filter(None, check(text, self.wish).matches), key=lambda m: m.start, reverse=True):
            if match.phrase != match.phrase.lower():  # a name, or what stands on a sign
                text = text[: match.start] + match.phrase + text[match.end :]
        return text

    def _shortened(self, text: str, part: re.Pattern, window: Window) -> str:
        """The text without as many of its parts, from the last on, as it takes to fit; what is needed stays."""
        parts = part.findall(text)
        for i in reversed(range(len(parts))):
            if window.holds("".join(parts).strip()):
                break
            fewer = _ended("".join([*parts[:i], *parts[i + 1 :]]).strip(), self.prose)
            if fewer and self._meets(fewer) and self._holds_notation(fewer):
                parts = [*parts[:i], *parts[i + 1 :]]
        shorter = "".join(parts).strip()
        return shorter if len(shorter) == len(text) else _ended(shorter, self.prose)

    def _holds_notation(self, text: str) -> bool:
        return all(typed in text for typed in self.locked.verbatim)

    def _meets(self, text: str) -> bool:
        return not self.constraints or bool(check(text, self.constraints))

    def _missing(self, text: str) -> str | None:
        if not self.constraints:
            return None
        met = check(text, self.constraints).matches
        return next((p[0] for p, match in zip(self.constraints.clauses, met, strict=True) if not match), None)


def kept(original: str, text: str, keep: Sequence[str] = ()) -> list[tuple[int, int]]:
    """Where `text`, a retelling of `original`, says what it keeps of it: (start, end), in order."""
    clauses = lock(original, keep).clauses
    matches = check(text, Constraints(require=clauses)).matches if clauses else ()
    return sorted({(match.start, match.end) for match in matches if match})


def _ended(text: str, prose: bool) -> str:
    """Without the mark that stood before what was left out, and with a full stop behind prose."""
    text = text.rstrip(" ,;:|")
    return f"{text}." if prose and text and (text[-1].isalnum() or text[-1] in "\"'”’)") else text


# Parts of a text, with the marks and blanks behind them.
_SENTENCE = re.compile(r".+?(?:[.!?。！？][\"”'’)]*(?:\s+|\Z)|\Z)", re.DOTALL)
_CLAUSE = re.compile(r".+?(?:[,;:.!?]\s+|\Z)", re.DOTALL)
_TAG = re.compile(r".+?(?:[,;|]\s*|\Z)", re.DOTALL)
_ARTIST = re.compile(r"\b(?:by|style of|manner of)\b", re.IGNORECASE)
