"""What a person would not sign: the modifiers of a prompt, judged one by one.

The same judge reads what users wrote, so that a policy does not learn it (`targets.py`), and what a policy writes, so
that it does not reach the user (`completions.py`).
"""

import re
from collections.abc import Container, Iterable, Mapping
from functools import cache, lru_cache
from typing import NamedTuple

from neuroprompt.artists import names_celebrity, names_in, names_somebody
from neuroprompt.coherence import (
    MAX_LIGHTS,
    MEDIA,
    concepts,
    concepts_in,
    contradictions,
    fits_subject,
    groups_in,
    is_lighting,
    is_word,
    repeated_groups,
    table,
    unknown_words,
)
from neuroprompt.fit import is_generic, is_unusual
from neuroprompt.modifiers import spelling_key
from neuroprompt.prompts import Prompt, modifier_key

MAX_NAMES = 2
"""Artists in whose manner one picture may be."""
MAX_GENERIC = 2
"""Modifiers that fit any picture, where the others are to be usual: left to themselves, policies write little else."""
ARTISTS = ("historical", "all", "none")
"""Who may be named: long dead artists and studios, everybody, or nobody."""

REASONS = {
    "name": "names an artist or a celebrity who must not be named, or one too many",
    "site": "names a site or a contest",
    "jargon": "says what must not be there, a watermark, or what means nothing by itself",
    "no words": "has a word that none is, or one twice in a row, or is a lone letter or number, or cut off",
    "not of the subject": "is about a person or a creature, and the subject is neither",
    "said before": "says what another modifier says, or the prompt",
    "contradiction": "contradicts what another modifier says, or the prompt",
    "unusual": "is seldom written behind such prompts",
    "booster": "is a third one of those that fit any picture (“8k”, “highly detailed”)",
}
"""Why a modifier goes."""


class Judge:
    """Reads a prompt and the modifiers that are added to it, and says what is wrong with the next one.

    Args:
        prompt: The user's text. It is never judged: its words are words and its names may be named.
        required: Modifiers that stand in the result wherever they come, and are not judged either.
        artists: One of `ARTISTS`.
        spared: Modifiers that are no jargon and no site, whatever the table says; as `spelling_key` has them.
        usual: Whether more is wrong: what people seldom write behind such prompts (see `fit`), a third booster, a word
            for the second time, a second view of the subject, a second artist.
    """

    def __init__(
        self,
        prompt: str,
        required: Iterable[str] = (),
        artists: str = "historical",
        spared: Container[str] = (),
        usual: bool = False,
    ):
        self._prompt, self._artists, self._spared, self._usual = prompt, artists, spared, usual
        required = tuple(required)
        self._given = ", ".join([prompt, *required])
        self._keys: set[str] = set()
        self._groups: set[str] = set()
        self._concepts: set[str] = set()
        self._lights = self._names = self._grounds = self._generic = 0
        self._words: set[str] = set()
        self._framed = False
        self._text = " "  # all clauses, as `spelling_key` has them
        for segment in (*Prompt.parse(prompt).segments, *required):
            self.add(segment)
        self._own = frozenset(self._text.split())

    def add(self, modifier: str) -> None:
        """Take note of what stands in the prompt."""
        self._keys.add(modifier_key(modifier))
        self._groups |= groups_in(modifier)
        self._lights += is_lighting(modifier)
        self._names += len(names_in(modifier))
        self._grounds += _is_ground(modifier)
        self._generic += is_generic(modifier)
        self._words.update(_telling(modifier))
        self._framed |= _is_framing(modifier)
        self._concepts |= concepts_in(modifier)
        self._text += f"{spelling_key(modifier)} | "

    def objection(self, modifier: str) -> str:
        """What is wrong with `modifier` where the prompt has come to: one of `REASONS`, or ""."""
        if reason := self.flaw(modifier):
            return reason
        if f" {spelling_key(modifier)} " in self._text or modifier_key(modifier) in self._keys:
            return "said before"
        if groups_in(modifier) & self._groups or (is_lighting(modifier) and self._lights >= MAX_LIGHTS):
            return "said before"
        if _is_ground(modifier) and self._grounds:
            return "said before"
        if (names := len(names_in(modifier))) and self._names + names > MAX_NAMES:
            return "name"
        named = concepts_in(modifier)
        if any(concepts()[name].excludes & (self._concepts | named) for name in named):
            return "contradiction"
        return self._unmeant(modifier) if self._usual else ""

    def _unmeant(self, modifier: str) -> str:
        """What is wrong with `modifier` for a reader who wants every word to be meant: one of `REASONS`, or ""."""
        media = {name for name in concepts_in(modifier) if concepts()[name].family in MEDIA}
        if media & self._concepts or any(_alike(w, said) for w in _telling(modifier) for said in self._words):
            return "said before"
        if self._framed and _is_framing(modifier):
            return "contradiction"
        if self._names and names_in(modifier):
            return "name"
        if self._generic >= MAX_GENERIC and is_generic(modifier):
            return "booster"
        return "unusual" if is_unusual(self._given, modifier) else ""

    def flaw(self, modifier: str) -> str:
        """What is wrong with `modifier` whatever stands beside it: one of `REASONS`, or ""."""
        key = spelling_key(modifier)
        words = key.split()
        if self._artists != "all" and (names_somebody(modifier) or names_celebrity(modifier)):
            return "name"
        names = names_in(modifier)
        if self._artists == "none" and names:
            return "name"
        if key not in self._spared and (reason := _unlearned(key)):
            return reason
        named = {i for name in names for i in range(name.start, name.end)}
        known = (i in named or w in self._own or is_word(w, in_dictionary=True) for i, w in enumerate(words))
        lone = any(len(w) == 1 and w in _LETTERS and i not in named and w not in self._own for i, w in enumerate(words))
        doubled = any(map(str.__eq__, words, words[1:])) or len(telling := _telling(key)) > len(set(telling))
        if lone or doubled or not all(known) or key.isdigit() or all(len(word) < 2 for word in words):
            return "no words"
        if words[-1] in _CUT_OFF:
            return "no words"
        return "" if fits_subject(modifier, self._prompt) else "not of the subject"


class Faults(NamedTuple):
    """What a person would object to in a rewrite, whoever wrote it; what the plain prompt says itself is left out.

    Attributes:
        contradictions: Pairs of phrases that exclude each other: ("pencil sketch", "8k").
        repetitions: Modifiers that say the same, by what they say: ("4k", "8k", "uhd").
        broken_words: Words that neither prompts are made of nor anybody required, and no artist's name.
        living_artists: Artists of the vocabulary who are not long dead.
    """

    contradictions: tuple[tuple[str, ...], ...]
    repetitions: tuple[tuple[str, ...], ...]
    broken_words: tuple[str, ...]
    living_artists: tuple[str, ...]


def faults(original: str, text: str, required: Iterable[str] = ()) -> Faults:
    """The faults of `text`, a rewrite of `original`.

    Args:
        original: The plain prompt.
        text: The rewrite, which need not begin with it.
        required: Phrases that the rewrite had to hold; their words and names are no fault.
    """
    given = ", ".join([original, *required])
    own = repeated_groups(given)
    words, living = [], []
    for segment in Prompt.parse(text).segments:  # no name goes over a comma: "psychedelic art, green", and Art Green
        own_words, named = spelling_key(segment).split(), names_in(segment)
        for name in named:
            own_words[name.start : name.end] = [""] * (name.end - name.start)
        words += own_words
        living += [name.term for name in named if not name.historical]
    allowed = {name.term for name in names_in(given)}
    return Faults(
        contradictions=tuple(pair for pair in contradictions(text) if pair not in set(contradictions(given))),
        repetitions=tuple(
            tuple(said) for group, said in repeated_groups(text).items() if len(said) > len(own.get(group, ()))
        ),
        broken_words=tuple(unknown_words(" ".join(words), known=[given])),
        living_artists=tuple(dict.fromkeys(name for name in living if name not in allowed)),
    )


def _is_ground(modifier: str) -> bool:
    return spelling_key(modifier).endswith(" background")


_LETTERS = frozenset("bcdefghjklmnopqrsuvwyz")  # "amazing d art"; not those of "a castle", "t shirt", "x ray"
_CUT_OFF = frozenset("a an the of in on at by with and or for to from as is are very into his her their its my".split())

# What may come twice; the rest of a modifier's words tell what it is about.
_COMMON = frozenset(
    "a an the of in on at by with and or for to from as is are very into his her their its my who that this "
    "high highly very ultra extremely hyper super insanely detail details detailed quality resolution award winning "
    "color colors colour colours colored coloured style art beautiful background".split()
)
# From where, or how near, a picture sees its subject.
_FRAMING = re.compile(
    r"\b(?:views?|viewed|shots?|angle|perspective|profile|isometric|aerial|overhead|closeup|close|macro|panorama|"
    r"panoramic|portrait|headshot|full body|full length|bust|pov|birds eye|top down|"
    r"from (?:above|below|behind|afar|the side))\b"
)


def _alike(word: str, other: str) -> bool:
    """Whether two words say one thing: "fog" and "foggy", "photo" and "photorealistic"."""
    short, long = sorted((word, other), key=len)
    return (long.startswith(short) and len(long) <= len(short) + 4) or word[:5] == other[:5] == "photo"


def _telling(text: str) -> list[str]:
    """The words of a text that are not to come again."""
    return [w for w in spelling_key(text).split() if len(w) > 2 and w not in _COMMON and w.isalpha()]


@lru_cache(maxsize=1 << 16)
def _is_framing(modifier: str) -> bool:
    return bool(_FRAMING.search(spelling_key(modifier)))


@lru_cache(maxsize=1 << 16)
def _unlearned(key: str) -> str:
    anywhere, alone = _unlearned_phrases()
    if key in alone:
        return alone[key]
    words = key.split()
    phrases = (" ".join(words[i : i + n]) for i in range(len(words)) for n in range(1, min(3, len(words) - i) + 1))
    return next((anywhere[phrase] for phrase in phrases if phrase in anywhere), "")


@cache
def _unlearned_phrases() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """phrase → reason, for phrases that may stand anywhere in a modifier, and for those that must be all of it"""
    rows = [(reason, where, phrases.split(" | ")) for reason, where, phrases in table("unlearned.tsv")]
    anywhere, alone = (
        {spelling_key(p): reason for reason, where, phrases in rows if where == wanted for p in phrases}
        for wanted in ("in", "alone")
    )
    return anywhere, alone
