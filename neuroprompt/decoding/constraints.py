"""What a prompt must and must not say: clauses of phrases, forbidden phrases, and when a text meets them.

A *clause* is a disjunction of phrases; a text satisfies a `Constraints` when it has at least one phrase of every clause
(conjunctive normal form, as in NeuroLogic Decoding, Lu et al. 2021, arXiv 2010.12884) and no forbidden phrase. Both
are about the text, never about tokens:

- **Folding.** Text and phrases are compared after full Unicode case folding and canonical decomposition, character by
  character (`fold`): "Café", "CAFE\u0301" and "café" are one; "straße" is "strasse". Any run of whitespace is one
  space; variation selectors are dropped ("☀️" is "☀"). Compatibility forms stay apart ("²" is not "2"), and the order
  of several marks on one letter is kept as written.
- **Boundaries.** A phrase that begins (ends) with a word character must not follow (precede) another one: "art" is not
  in "artist". Word characters are letters, digits and "_" of scripts that put spaces between words. Han, kana, Thai,
  Lao, Khmer and Burmese do not, so there, as beside punctuation and emoji, a phrase needs no boundary: "富士" is in
  "富士山". A combining mark belongs to the character before it and is never cut from it: "か" is not in "が".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache

from neuroprompt.modifiers import CATEGORIES, vocabulary

CONNECTIVES = ("by ", "in the style of ")
"""What a phrase may stand behind within a modifier: "digital painting by alphonse mucha"."""
MAX_CLAUSES = 62  # the decoder keeps the set of satisfied clauses in one int64, with one bit for "forbidden"

NONWORD, WORD, MARK = 0, 1, 2  # classes of a folded character

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)


class ConstraintError(ValueError):
    """Constraints that no text can satisfy, or that are not well formed. One line, with the phrase that is at fault."""


@dataclass(frozen=True)
class Constraints:
    """Phrases that a prompt must have, by category or free, and phrases that it must not have.

    Every value is a phrase, "a|b" for either, or a sequence of phrases for either; strings are kept as written and
    compared folded. `Constraints()` is falsy: it asks for nothing.

    Args:
        artist, style, format, perspective, booster, vibe: one clause each, where given.
        require: further clauses, e.g. `["fog", "golden hour|sunset", ["oil on canvas", "oil painting"]]`.
        forbid: phrases that must not appear.
        never_add: phrases that must not appear in what is added, such as an operator's block list; those that the
            prompt itself has stay, and are no error.
        auto: categories from whose whole vocabulary the model picks a term by itself: one clause each.
        anywhere: required phrases may be written anywhere between word boundaries, as prose has them, and not only as
            modifiers of their own.

    Raises:
        ConstraintError: a value is no phrase (empty, no string, a NUL, a leading combining mark), there are more than
            62 clauses, or every phrase of a clause is forbidden or contains a forbidden one.
    """

    artist: str | Sequence[str] | None = None
    style: str | Sequence[str] | None = None
    format: str | Sequence[str] | None = None
    perspective: str | Sequence[str] | None = None
    booster: str | Sequence[str] | None = None
    vibe: str | Sequence[str] | None = None
    require: str | Sequence[str | Sequence[str]] = ()
    forbid: str | Sequence[str] = ()
    auto: str | Sequence[str] = ()
    never_add: str | Sequence[str] = ()
    anywhere: bool = False

    def __post_init__(self):
        for category in CATEGORIES:  # tuples throughout, so that equal constraints are equal and hashable
            value = getattr(self, category)
            object.__setattr__(self, category, None if value is None else _alternatives(value, category))
        require = (self.require,) if isinstance(self.require, str) else self.require
        object.__setattr__(self, "require", tuple(_alternatives(value, "require") for value in require or ()))
        for name in ("forbid", "never_add"):
            value = getattr(self, name)
            object.__setattr__(self, name, _alternatives(value, name) if value else ())
        object.__setattr__(self, "auto", (self.auto,) if isinstance(self.auto, str) else tuple(self.auto or ()))
        for category in self.auto:
            if category not in CATEGORIES:
                raise ConstraintError(f"auto: {category!r} is no category; choose from {', '.join(CATEGORIES)}")
        given = sum(getattr(self, category) is not None for category in CATEGORIES)
        if (count := given + len(self.require) + len(self.auto)) > MAX_CLAUSES:
            raise ConstraintError(f"{count} clauses are more than the {MAX_CLAUSES} that one prompt can have")
        for name, phrases in self._written_clauses():
            self._possible(name, phrases)

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self) if field.name != "anywhere")

    @cached_property
    def named_clauses(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The clauses with what they are about: a category, or "require". Phrases that are forbidden, or contain a
        forbidden one, are left out. `auto` reads the category's vocabulary here."""
        named = [(name, self._possible(name, phrases)) for name, phrases in self._written_clauses()]
        for category in self.auto:
            named.append((category, self._possible(category, tuple(dict.fromkeys(vocabulary(category))))))
        return tuple(named)

    @property
    def clauses(self) -> tuple[tuple[str, ...], ...]:
        """Every clause's phrases, in the order of `named_clauses`."""
        return tuple(phrases for _, phrases in self.named_clauses)

    @cached_property
    def written(self) -> tuple[tuple[str, ...], ...]:
        """Every clause's phrases as a modifier may write them: an artist also behind a connective. (What may stand
        `anywhere` may do so without its connective.)"""
        if self.anywhere:
            return self.clauses
        given = len(self.named_clauses) - len(self.auto)
        written = []
        for number, (name, phrases) in enumerate(self.named_clauses):
            before = () if name != "artist" else CONNECTIVES if number < given else CONNECTIVES[:1]
            written.append(tuple(start + phrase for start in ("", *before) for phrase in phrases))
        return tuple(written)

    @property
    def forbidden(self) -> tuple[str, ...]:
        """Phrases that must not be written; of these, `forbid` must not be in the prompt either."""
        return self.forbid + self.never_add

    def refuse(self, text: str) -> None:
        """Raises `ConstraintError` if `text`, the user's own, already has a forbidden phrase."""
        folded = _folded(text)
        for phrase in self.forbid:
            if span := next(_spans(folded, fold_phrase(phrase)), None):
                found = text[span[0] : span[1]]
                raise ConstraintError(f"the prompt itself says {found!r}, which is forbidden: {text!r}")

    def _written_clauses(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        for category in CATEGORIES:
            if (phrases := getattr(self, category)) is not None:
                yield category, phrases
        for phrases in self.require:
            yield "require", phrases

    def _possible(self, name: str, phrases: tuple[str, ...]) -> tuple[str, ...]:
        blockers = {}
        for phrase in phrases:
            folded = fold_phrase(phrase)
            for forbidden in self.forbidden:
                if next(_spans((folded, range(len(folded))), fold_phrase(forbidden)), None):
                    blockers.setdefault(phrase, forbidden)
        if len(blockers) == len(phrases):
            phrase, forbidden = next(iter(blockers.items()))
            same = fold_phrase(phrase) == fold_phrase(forbidden)
            why = "is also forbidden" if same else f"contains the forbidden {forbidden!r}"
            others = f" (and so for its {len(phrases) - 1} alternatives)" if len(phrases) > 1 else ""
            raise ConstraintError(f"{name}: the required {phrase!r} {why}{others}")
        return tuple(phrase for phrase in phrases if phrase not in blockers)


@dataclass(frozen=True)
class Match:
    """An occurrence: `text[start:end]` is the phrase, as the text writes it."""

    phrase: str
    start: int
    end: int


@dataclass(frozen=True)
class Satisfaction:
    """How a text stands to its constraints. Truthy when it meets them all.

    Args:
        names: what each clause is about (a category, or "require").
        matches: each clause's first occurrence in the text, or None where it is unmet.
        forbidden: every occurrence of a forbidden phrase.
    """

    names: tuple[str, ...]
    matches: tuple[Match | None, ...]
    forbidden: tuple[Match, ...]

    def __bool__(self) -> bool:
        return all(self.matches) and not self.forbidden

    @property
    def satisfied(self) -> int:
        """The number of clauses met."""
        return sum(match is not None for match in self.matches)


def one_each(constraints: Constraints | Sequence[Constraints | None] | None, count: int) -> list[Constraints | None]:
    """The constraints of each of `count` prompts, where one may be given for all.

    Raises:
        ValueError: there is another number of them.
    """
    if constraints is None or isinstance(constraints, Constraints):
        return [constraints] * count
    if len(constraints) != count:
        raise ValueError(f"{len(constraints)} constraints for {count} prompts: give one, or one for each")
    return list(constraints)


def check(text: str, constraints: Constraints) -> Satisfaction:
    """Reads `text` against `constraints`, by plain search; knows nothing of tokens or automata.

    Examples:
        >>> check("a boy, by Alphonse Mucha", Constraints(artist="alphonse mucha", forbid="blurry")).matches
        (Match(phrase='alphonse mucha', start=10, end=24),)
    """
    folded = _folded(text)

    def first(phrases: tuple[str, ...]) -> Match | None:
        found = (Match(phrase, *span) for phrase in phrases for span in _spans(folded, fold_phrase(phrase)))
        return min(found, key=lambda match: (match.start, -match.end), default=None)

    return Satisfaction(
        names=tuple(name for name, _ in constraints.named_clauses),
        matches=tuple(first(phrases) for phrases in constraints.clauses),
        forbidden=tuple(Match(p, *span) for p in constraints.forbid for span in _spans(folded, fold_phrase(p))),
    )


def occurrences(text: str, phrase: str) -> Iterator[tuple[int, int]]:
    """Yields (start, end) of every occurrence of `phrase` in `text`, in characters of `text`."""
    return _spans(_folded(text), fold_phrase(phrase))


def fold(text: str) -> str:
    """`text` as it is compared: case-folded, decomposed, whitespace as single spaces. fold(a) + fold(b) is
    fold(a + b), but for a space at the seam, which is what lets an automaton fold as it reads."""
    folded = text.translate(_FOLD)
    return re.sub(" {2,}", " ", folded) if "  " in folded else folded


@lru_cache(maxsize=1 << 16)
def fold_phrase(phrase: str) -> str:
    """A phrase as it is looked for: folded, without outer whitespace."""
    return fold(phrase).strip(" ")


def char_class(char: str) -> int:
    """`NONWORD`, `WORD` or `MARK`: what a folded character is to word boundaries."""
    return _CLASS[char]


class _Fold(dict):
    def __missing__(self, code: int) -> str:
        char = chr(code)
        if char.isspace():
            folded = " "
        elif 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF:
            folded = ""
        else:
            folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", char).casefold())
        self[code] = folded
        return folded


class _Class(dict):
    def __missing__(self, char: str) -> int:
        if unicodedata.category(char).startswith("M"):
            kind = MARK
        else:
            kind = WORD if (char.isalnum() or char == "_") and not _UNSPACED.match(char) else NONWORD
        self[char] = kind
        return kind


_FOLD, _CLASS = _Fold(), _Class()


def _folded(text: str) -> tuple[str, Sequence[int]]:
    """The folded text, and for each of its characters the index of the character of `text` that it comes from."""
    chars, origin = [], []
    for index, char in enumerate(text):
        for part in _FOLD[ord(char)]:
            if part != " " or chars[-1:] != [" "]:
                chars.append(part)
                origin.append(index)
    return "".join(chars), origin


def _spans(folded: tuple[str, Sequence[int]], phrase: str) -> Iterator[tuple[int, int]]:
    text, origin = folded
    start = text.find(phrase)
    ends_word = start >= 0 and _last_class(phrase) == WORD
    while start >= 0:
        end = start + len(phrase)
        after = _CLASS[text[end]] if end < len(text) else NONWORD
        joined_before = _CLASS[phrase[0]] == WORD and _last_class(text[:start]) == WORD
        joined_after = after == MARK or (ends_word and after == WORD)
        if not joined_before and not joined_after:
            yield origin[start], origin[end - 1] + 1
        start = text.find(phrase, start + 1)


def _last_class(text: str) -> int:
    """The class of the last character of `text` that is not a mark."""
    return next((kind for char in reversed(text) if (kind := _CLASS[char]) != MARK), NONWORD)


def _alternatives(value: object, name: str) -> tuple[str, ...]:
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, Sequence | set | frozenset):
        raise ConstraintError(f"{name}: {value!r} is no phrase; give a string, or a list of strings for either")
    phrases = []
    for part in parts:
        if not isinstance(part, str):
            raise ConstraintError(f"{name}: {part!r} is no phrase; give a string, or a list of strings for either")
        phrases.extend(phrase.strip() for phrase in part.split("|"))
    for phrase in phrases or [""]:
        if not (folded := fold_phrase(phrase)):
            raise ConstraintError(f"{name}: an empty phrase in {value!r}")
        if "\0" in phrase:
            raise ConstraintError(f"{name}: {phrase!r} has a NUL character")
        if not phrase.isprintable() and any(0xD800 <= ord(char) <= 0xDFFF for char in phrase):
            raise ConstraintError(f"{name}: {phrase!r} has half of a surrogate pair, which no text can hold")
        if _CLASS[folded[0]] == MARK:
            raise ConstraintError(f"{name}: {phrase!r} begins with a combining mark")
    return tuple(dict.fromkeys(phrases))
