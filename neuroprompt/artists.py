"""Artists' names in prompts: whom a text names, and whose names a policy may learn.

The category `artist` knows some 2,600 names, most of them of people who live. `modifiers/artists.tsv` says who is long
dead, and which names are studios, schools and movements rather than persons, each with its reason;
`modifiers/people.tsv` lists whom users draw most of all, and whom no shipped model should learn to draw.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

from neuroprompt.modifiers import spelling_key
from neuroprompt.modifiers import spellings as written


class Name(NamedTuple):
    """A name in a text: words `start` to `end` of `spelling_key(text)`; `term` is its usual spelling."""

    start: int
    end: int
    term: str
    historical: bool


@cache
def historical() -> Mapping[str, str]:
    """The names that may be learnt, in every spelling, each with the reason: "died 1939", "studio", "school"."""
    reasons = {}
    for name, reason, *others in _lines("artists.tsv"):
        reasons |= {spelling_key(s): reason for s in (name, *(s for other in others for s in other.split(" | ")))}
    terms = written("artist")
    of_term = {terms[name]: reason for name, reason in reasons.items() if name in terms}
    return MappingProxyType({s: of_term[term] for s, term in terms.items() if term in of_term} | reasons)


@cache
def spellings() -> Mapping[str, str]:
    """Every known spelling of an artist or a studio to the usual one: "mucha" to "alphonse mucha"."""
    return MappingProxyType({**{name: name for name in historical()}, **written("artist")})


@lru_cache(maxsize=1 << 16)
def names_in(text: str) -> tuple[Name, ...]:
    """The artists that `text` names, from left to right; of names that begin at one word, the longest."""
    words, known, allowed = spelling_key(text).split(), spellings(), historical()
    found, position = [], 0
    while position < len(words):
        for end in range(min(len(words), position + _LONGEST), position, -1):
            name = " ".join(words[position:end])
            if name in known:
                found.append(Name(position, end, known[name], name in allowed))
                position = end - 1
                break
        position += 1
    return tuple(found)


@lru_cache(maxsize=1 << 16)
def names_somebody(modifier: str) -> bool:
    """Whether a modifier names an artist who is not historical: one of the list, or whoever stands behind "by" or
    "style of" and is neither a historical name nor what else stands there ("by candlelight", "style of the 1980s")."""
    names, words = names_in(modifier), spelling_key(modifier).split()
    if not all(name.historical for name in names):
        return True
    for name in reversed(names):
        words[name.start : name.end] = [_NAME]
    maker = _MAKER.search(" ".join(words))
    return bool(maker) and not _NO_PERSON.match(maker[1]) and any(w not in _BETWEEN for w in maker[1].split())


def names_celebrity(text: str) -> bool:
    """Whether `text` names one of `modifiers/people.tsv`."""
    words = spelling_key(text).split()
    return any(
        " ".join(words[i : i + n]) in _people() for i in range(len(words)) for n in range(1, min(5, len(words) - i) + 1)
    )


_LONGEST = 6
_NAME = "\0"
_BETWEEN = frozenset((_NAME, *"and & by with the art style of in x + meets mixed".split()))
_MAKER = re.compile(r"(?:^|\s)(?:by|style of|manner of) (.+)$")
_NO_PERSON = re.compile(
    r"(?:the )?(?:night|day|moonlight|candlelight|starlight|firelight|lamplight|sunlight|sea|seaside|lake|river|window|"
    r"fire|fireplace|light|candles?|moon|sun|neon|water|a|an|stars|lanterns?|torch(?:es)?|side|hand|nature|clouds|fog|"
    r"mist|trees|flowers|mountains|shadows?|darkness|(?:\w+ ){0,2}(?:style|period|era|school|movement|lights?|lighting|"
    r"culture|mythology|folklore|[12]\d\d0'?s))\b"
)


@cache
def _people() -> frozenset[str]:
    return frozenset(spelling_key(name) for (name,) in _lines("people.tsv"))


def _lines(name: str) -> list[list[str]]:
    text = (files("neuroprompt") / "modifiers" / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("# ")]
