"""A rewrite as text: what may be asked, and how what a policy wrote becomes a finished prompt.

The user's words stay as they are, at the head of the result; what follows are whole modifiers, none twice and none
that a person would not sign (`judge.py`), and the whole fits the text encoder's window. No model is touched here:
training, search, study and evaluation all make their prompts by these functions.
"""

import re
from collections.abc import Sequence
from itertools import compress

from neuroprompt.coherence import controls, described, fits_anything
from neuroprompt.decoding import ConstraintError, Constraints, check, occurrences
from neuroprompt.judge import Judge
from neuroprompt.modifiers import categorise, spelling_key
from neuroprompt.prompts import CLIP_WINDOW, SEPARATORS, Prompt, Window, WindowLike, modifier_key


def check_prompt(text: object, constraints: Constraints | None = None, window: WindowLike = CLIP_WINDOW) -> None:
    """Raise what a prompt cannot be rewritten for.

    Raises:
        TypeError: It is no string.
        ValueError: It is empty, or holds a NUL character or half a one.
        ConstraintError: (a ValueError) It says what is forbidden, or what is required does not fit the window.
    """
    if not isinstance(text, str):
        raise TypeError(f"a prompt must be a string, not {type(text).__name__}")
    if not text.strip(SEPARATORS):
        raise ValueError(f"the prompt is empty: {text!r}" if text else "the prompt is empty")
    if "\0" in text:
        raise ValueError(f"the prompt holds a NUL character: {text[:60]!r}")
    if any("\ud800" <= character <= "\udfff" for character in text):  # JSON can spell one
        raise ValueError(f"the prompt holds half a character: {text[:60]!r}")
    if not constraints:
        return
    constraints.refuse(text)
    shortest, window = shortest_rewrite(text, constraints), Window.of(window)
    if shortest != text and not window.holds(shortest):
        raise ConstraintError(
            f"with what is required {text[:60]!r} takes {window.count(shortest)} {window.counter} tokens, and the "
            f"window has {window.tokens}: require less, or allow more"
        )


def why_left(text: str) -> str | None:
    """Why a prompt is better left as it is, nothing that is added could fit; None where it can be rewritten."""
    if not _SUBSTANCE.search(described(text)):
        return "there is nothing in it to be described"
    if _CODE.search(text):
        return "it is code, and describes no picture"
    return None


def finish(
    head: str,
    tail: str,
    ended: bool,
    window: WindowLike,
    constraints: Constraints | None = None,
    coherent: bool = True,
    understood: bool = True,
    usual: bool = False,
) -> tuple[str, list[str]]:
    """Make a result of what the policy wrote: whole modifiers, none twice, inside the window, after the user's text.

    Args:
        head: The user's text; the result starts with it, verbatim.
        tail: The policy's continuation.
        ended: Whether the policy ended by itself; if not, its last modifier may be half a one and goes.
        window: What the result must fit; a number is one of CLIP tokens, and None any length.
        constraints: Met by `head` and `tail` together; modifiers that they need are kept.
        coherent: Whether modifiers go that `judge.Judge` objects to: that contradict the text or what is required, say
            the same again, are about something else, or hold what is no word.
        understood: Whether the policy could know what the text is about (`coherence.is_understood`). If not, and
            `coherent`, nothing is added but what fits any picture of the medium that the text or a requirement names.
        usual: Whether, if `coherent`, modifiers go that people seldom write behind such prompts (see `fit`), and
            those that say nothing new (see `judge.Judge`).

    Returns:
        The result and the modifiers added.
    """
    window = Window.of(window)
    added = _whole(head, _as_typed(head, tail, constraints), ended, constraints)
    if coherent:
        added = _coherent(head, added, constraints, understood, usual)
    needed = _needed(head, added, constraints)
    keep = [True] * len(added.segments)

    def result() -> Prompt:
        kept = added.keep(keep)
        separators = kept.separators[:-1]
        if separators and head != head.rstrip(SEPARATORS):  # "a castle, ": the user has set the first one
            separators = ("" if head[-1].isspace() else " ", *separators[1:])
        return Prompt(kept.segments, (*separators, ""))

    for i in reversed(range(len(keep))):
        if window.holds(head + str(result())):
            break
        keep[i] = needed[i]
    finished = result()
    if constraints and not (check(head + str(finished), constraints) and window.holds(head + str(finished))):
        # What the policy wrote around the required phrases does not fit: the phrases by themselves do.
        finished = Prompt.parse(shortest_rewrite(head, constraints)[len(head) :])
    return head + str(finished), list(finished.segments)


def append(
    head: str, modifiers: Sequence[str], window: WindowLike = CLIP_WINDOW, constraints: Constraints | None = None
) -> tuple[str, list[str]]:
    """The text, what is required, and what of the modifiers it does not have already and the window has room for.

    Returns:
        The result, and what was added; `head` as it is where the window is full.
    """
    if (window := Window.of(window)).room(head) <= 0:
        return head, []
    tail = ""
    if constraints:
        tail = shortest_rewrite(head, constraints)[len(head) :]
        modifiers = [m for m in modifiers if not any(any(occurrences(m, phrase)) for phrase in constraints.forbidden)]
    tail += "".join(f", {modifier}" for modifier in modifiers)
    return finish(head, tail, True, window, constraints, coherent=False)


def shortest_rewrite(head: str, constraints: Constraints) -> str:
    """The shortest rewrite that meets the clauses: the text, and a phrase for each that it leaves open."""
    missing = [
        min(phrases, key=len)
        for phrases, match in zip(constraints.clauses, check(head, constraints).matches, strict=True)
        if not match
    ]
    gap = ", " if head == head.rstrip(SEPARATORS) else "" if head[-1].isspace() else " "
    return head + gap * bool(missing) + ", ".join(missing)


def _as_typed(head: str, tail: str, constraints: Constraints | None) -> Prompt:
    """What the policy wrote as one would type it: single blanks and separators, a blank behind each, and required
    phrases as the user spells them ("Straße", "OPEN")."""
    tail = re.sub(r"([,;|])(?: ?[,;|])+", r"\1", re.sub(r"\s+", " ", tail))
    matches = [m for m in check(head + tail, constraints).matches if m] if constraints else []
    for match in sorted(matches, key=lambda m: m.start, reverse=True):
        start, end = match.start - len(head), match.end - len(head)
        spelt = f"{tail[:start]}{match.phrase}{tail[end:]}" if start >= 0 else tail
        if check(head + spelt, constraints):  # phrases may overlap
            tail = spelt
    parsed = Prompt.parse(tail)
    separators = (s if not s or s[-1].isspace() else f"{s} " for s in parsed.separators)
    return Prompt(parsed.segments, tuple(separators))


def _whole(head: str, added: Prompt, ended: bool, constraints: Constraints | None) -> Prompt:
    """The modifiers that are whole and not there yet, and those that the constraints need."""
    needed = _needed(head, added, constraints)
    seen = {modifier_key(s) for s in Prompt.parse(head).segments}
    keep = []
    for i, segment in enumerate(added.segments):
        key = modifier_key(segment)
        half = not ended and i == len(added.segments) - 1
        keep.append(needed[i] or (key not in seen and not half and not _DANGLING.search(segment)))
        seen.add(key)
    return added.keep(keep)


def _coherent(head: str, added: Prompt, constraints: Constraints | None, understood: bool, usual: bool) -> Prompt:
    """The modifiers that nothing speaks against, and those that the constraints need; these go before the others."""
    if constraints:
        added = _said_once(head, _set_free(head, added, constraints), constraints)
    needed = _needed(head, added, constraints)
    judge = Judge(head, compress(added.segments, needed), usual=usual)
    family = controls(", ".join([head, *compress(added.segments, needed)]))
    keep = []
    for i, (segment, is_needed) in enumerate(zip(added.segments, needed, strict=True)):
        fits = understood or fits_anything(segment, family)
        if i == 0 and head == head.rstrip(SEPARATORS) and not _SET_APART.match(str(added)):
            fits = False  # with it the user's last word would be another one: "truck" + "engine"
        keep.append(is_needed or (fits and not judge.objection(segment)))
        if keep[-1]:
            judge.add(segment)
    return added.keep(keep)


def _set_free(head: str, added: Prompt, constraints: Constraints) -> Prompt:
    """With nothing but the required phrase, and a connective before it, of what is no modifier by itself: "Mount Fuji"
    of "Mount Fuji runway portrayed"."""
    matches = [m for m in check(head + str(added), constraints).matches if m]
    segments, at = [], len(head)
    for separator, segment in zip(added.separators, added.segments, strict=False):
        start, at = at + len(separator), at + len(separator) + len(segment)
        inside = [m for m in matches if start <= m.start and m.end <= at]
        if len(inside) == 1 and categorise(segment) is None:
            before, after = segment[: inside[0].start - start], segment[inside[0].end - start :]
            if _LETTER.search(after) or (_LETTER.search(before) and not _CONNECTIVE.search(before)):
                segment = inside[0].phrase
        segments.append(segment)
    freed = Prompt(tuple(segments), added.separators)
    return freed if check(head + str(freed), constraints) else added


def _said_once(head: str, added: Prompt, constraints: Constraints) -> Prompt:
    """Without the required phrases that stand by themselves and are part of a good modifier besides: "oil painting"
    where there is "highly detailed oil painting"."""
    needed = _needed(head, added, constraints)
    judge = Judge(head, compress(added.segments, needed))
    keep = [n or not judge.flaw(segment) for segment, n in zip(added.segments, needed, strict=True)]
    words = [f" {spelling_key(segment)} " for segment in added.segments]
    for i, phrase in enumerate(words):
        if needed[i] and any(phrase != longer and phrase in longer for longer in compress(words, keep)):
            without = [*keep[:i], False, *keep[i + 1 :]]
            if check(head + str(added.keep(without)), constraints):
                keep = without
    return added.keep(keep)


def _needed(head: str, added: Prompt, constraints: Constraints | None) -> list[bool]:
    """Which of the added segments hold (a part of) a phrase that meets a clause."""
    if not constraints:
        return [False] * len(added.segments)
    matches = [m for m in check(head + str(added), constraints).matches if m]
    needed, at = [], len(head)
    for separator, segment in zip(added.separators, added.segments, strict=False):
        start, at = at + len(separator), at + len(separator) + len(segment)
        needed.append(any(m.start < at and m.end > start for m in matches))
    return needed


# Two letters in a row, a letter of a script without case (a Han character is a word), or a picture.
_SUBSTANCE = re.compile(r"[^\W\d_]{2}|[\u0590-\u1fff\u2e80-\ud7ff\uf900-\ufdff\U00020000-\U0003ffff]|[☀-➿🀀-🫿]")
_CODE = re.compile(
    r"[=!]=|\bdef \w+\(|\bfunction\b[^,]*\([^,]*\{|\bSELECT\b.+\bFROM\b|#include\b|\w\([^()]*\) ?[;{]|"
    r"\b[a-z]\w*\.[a-z]\w*\(|\+\+ ?[);]|\bimport \w+ as \w+"
)
_LETTER = re.compile(r"[^\W\d_]")
_CONNECTIVE = re.compile(r"\b(?:by|with|of|in|on|at|from) (?:an? |the )?$", re.IGNORECASE)
# What may follow the user's last word: a separator, or a connective.
_SET_APART = re.compile(r"\s*[,;|.]|\s+(?:by|in|with|at|on|during)\s|\s*BREAK", re.IGNORECASE)
# A modifier cut off after its connective, or before it ("art by …"), or inside a bracket.
_DANGLING = re.compile(
    r"(?:^|\s)(?:by|and|of|in|the|a|an|with|from|style of|on|at|to)$|^(?:art|style|trending|painted|drawn|inspired)$|"
    r"[(\[{][^)\]}]*$",
    re.IGNORECASE,
)
