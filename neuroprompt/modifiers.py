"""The six categories of prompt modifiers, and which of them a piece of a prompt belongs to.

An expert prompt is a subject followed by modifiers, most of which are of six kinds: artist, style, format,
perspective, booster and vibe (Rosenman et al., NeuroPrompts, EACL 2024, section 3.1). Each kind is a text file beside
this one, `modifiers/<category>.txt`, made by `training/embedded/build_modifiers.py`: one term a line, with the number
of DiffusionDB prompts that hold it. A term belongs to one category only.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

CATEGORIES = ("artist", "style", "format", "perspective", "booster", "vibe")


class Entry(NamedTuple):
    """One line of a vocabulary file: `count <TAB> term [<TAB> first [<TAB> spelling | spelling …]]`.

    Attributes:
        count: DiffusionDB prompts that hold the term (published or estimated: each file's header says how).
        term: the usual spelling, in lower case.
        first: to be suggested before the others, whatever its count (artists long dead, and studios).
        spellings: other ways to write the term, which `categorise` knows too.
    """

    count: int
    term: str
    first: bool
    spellings: tuple[str, ...]


def vocabulary(category: str) -> Mapping[str, int]:
    """Every term of a category with its count, the most frequent first.

    Raises:
        ValueError: `category` is none of `CATEGORIES`.
    """
    return _counts(_known(category))


def suggestions(category: str, limit: int | None = 20, search: str | None = None) -> list[tuple[str, int]]:
    """The terms to offer to a person, each with its count.

    Those marked as first in the file come before the others (for artists: the long dead and the studios), and within
    both groups the more frequent before the less.

    Args:
        limit: how many at most; None for all.
        search: only terms that hold these characters, in any of their spellings; case, accents and hyphens aside.

    Raises:
        ValueError: `category` is none of `CATEGORIES`.
    """
    modifiers = sorted(_modifiers(_known(category)), key=lambda m: not m.first)  # stable: stays sorted by count
    if search is not None:
        wanted = spelling_key(search)
        modifiers = [m for m in modifiers if any(wanted in spelling_key(s) for s in (m.term, *m.spellings))]
    return [(m.term, m.count) for m in modifiers[:limit]]


@cache
def frequent_phrases() -> list[tuple[str, int]]:
    """The terms of two words and more with their counts, the most frequent first. A single word's count holds the
    prompts where it is part of the subject ("an old painting") or of a longer modifier ("highly detailed"), and so says
    little."""
    counts = {term: count for c in CATEGORIES for term, count in vocabulary(c).items() if " " in term}
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


@cache
def spellings(category: str) -> Mapping[str, str]:
    """Every way to write a category's terms, normalised, each with the term, normalised, too."""
    ways = {}
    for m in _modifiers(_known(category)):
        ways |= {spelling_key(spelling): spelling_key(m.term) for spelling in (*m.spellings, m.term)}
    return MappingProxyType(ways)


@lru_cache(maxsize=1 << 16)
def categorise(term: str) -> str | None:
    """The category of a modifier as it stands between two commas of a prompt, or None for anything else.

    "by greg rutkowski", "8 k", "(masterpiece:1.2)", "an oil painting of" and "ultra-detailed" are all known. An exact
    match goes first; then connectives ("by …", "in the style of …"); then a known term that makes up the segment but
    for fillers ("very cinematic"), or the greater part of it; then the last word ("… lighting" is a vibe).
    """
    text = spelling_key(term)
    if not text:
        return None
    terms = _terms()
    if text in terms:
        return terms[text]
    if match := _BY.search(text):
        return _by_author(match[1] or "", match[2])
    if match := _STYLE_OF.search(text):
        named = 2 <= len(match[1].split()) <= _LONGEST_NAME and not _NO_NAME.search(match[1])
        return _by_parts(match[1]) or ("artist" if named else "style")
    text = _EDGES.sub("", text)
    return terms.get(text) or _by_head(text) or _by_parts(text)


def spelling_key(term: str) -> str:
    """What two spellings of one modifier have in common.

    Lower case, no accents, no brackets and weights, hyphens as spaces, no full stops but in numbers, initials and
    numbers with their units in one piece: "(H. R. Giger:1.2)" is "hr giger", "8 K" is "8k", "f / 1.4" is "f/1.4".
    """
    return term if _IS_PLAIN(term) else _spelt(term)


@lru_cache(maxsize=1 << 16)
def _spelt(term: str) -> str:
    text = unaccented(term.casefold()).casefold()
    if _HAS_MARKUP(text):
        text = _WEIGHT.sub("", text)
    has_number = _HAS_NUMBER(text)
    if has_number:  # "f / 1. 4", as Discord's bot spaced it
        text = _F_NUMBER.sub(_f_number, text)
    text = " ".join(_BETWEEN_WORDS.sub(" ", text).split())
    if has_number:
        text = _F_NUMBER.sub(_f_number, text)  # "f;1.4" has become one
        text = _UNIT.sub(r"\1\2", _SPACED_DIGITS.sub(r"\1", text))
    if "/" in text or "&" in text:
        text = _SPACED_SIGN.sub(r"\1", text)
    return _INITIALS.sub(r"\1", text).strip(" .'_")


def _f_number(match: re.Match) -> str:
    return f"f/{match[1]}.{match[2]}" if match[2] else f"f/{match[1]}"


def unaccented(text: str) -> str:
    """The text in plain letters: "zdzisław beksiński" is "zdzislaw beksinski"."""
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).translate(_LETTERS)


# --- how a segment is read ---------------------------------------------------------------------------------------

_IS_PLAIN = re.compile(r"[a-z]{2,}(?: [a-z]{2,})*").fullmatch
_HAS_MARKUP = re.compile(r"[:<]").search
_HAS_NUMBER = re.compile(r"\d").search
_WEIGHT = re.compile(r":+\s*-?\d*\.?\d+\s*(?=[)\]>]|$)")
_F_NUMBER = re.compile(r"\bf ?/? ?(\d+)(?:\. ?(\d))?\b")
_BETWEEN_WORDS = re.compile(r"[^\w\s./'#&+]|_|(?<!\d)\.|\.(?!\d)")
_SPACED_DIGITS = re.compile(r"\b(\d) (?=\d\b)")
_UNIT = re.compile(r"(\d) (k|d|mm|px|mp|mpx|dpi|p|fps|s)\b")
_SPACED_SIGN = re.compile(r" ?(/|(?<=\b\w )&|(?<=\b\w)&(?=\w\b)) ?")
_INITIALS = re.compile(r"\b([a-z]) (?=[a-z]\b)")
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "œ": "oe", "æ": "ae", "ß": "ss", "’": "'", "‘": "'", "ı": "i", "ƒ": "f"}
)

_EDGES = re.compile(
    r"^(?:(?:and|with|in|on|as|is|of|a|an|the|this|rendered|drawn|made|shot|style|full of) )+"
    r"|(?: (?:of|style of|and|with|in|on|by|from|a|an|the))+$"
)
_BY = re.compile(r"^(?:(.*) )?by (?:the )?(.+)$")
_STYLE_OF = re.compile(r"(?:^|.* )(?:style|manner) of (?:the )?(.+)$")
_NO_NAME = re.compile(r"\d|^(?:an?|the|my|his|her|their|its|day|night|side|sea|moon\w*|candle\w*|fire\w*|lamp\w*)\b")
_MAKING = frozenset({
    "and", "art", "work", "works", "artwork", "style", "film", "movie", "cover", "concept", "still", "picture",
    "image", "made", "painted", "drawn", "created", "designed", "illustrated", "directed", "inspired", "influenced",
    "rendered", "photographed", "composed", "imagined", "shot", "filmed", "taken", "sculpted",
})  # fmt: skip
_LONGEST_NAME = 4  # words

_FILLERS = frozenset({
    "a", "an", "and", "the", "of", "in", "on", "with", "at", "by", "very", "ultra", "super", "extremely", "highly",
    "insanely", "incredibly", "really", "most", "so", "more", "hyper", "beautiful", "beautifully", "amazing",
    "perfect", "art", "style", "full", "as", "+", "&", "is",
})  # fmt: skip
_HEADS = {
    "style": "style aesthetic artstyle punk",
    "format": "painting paintings drawing sketch photo photograph photography illustration engraving etching woodcut "
    "print sculpture statue poster lithograph mural artwork watercolor screenshot render",
    "perspective": "shot angle view lens perspective closeup viewpoint pov composition framing",
    "booster": "detail details detailed resolution quality rendering rendered engine artstation masterpiece",
    "vibe": "lighting light lights lit backlit glow colors colours palette mood atmosphere vibe vibes tones hues "
    "shadows illumination",
}
_HEAD_CATEGORY = {word: category for category, words in _HEADS.items() for word in words.split()}
_LONGEST_HEADED = 5  # words: "a man sitting in the last light …" is no modifier, however it ends


def _by_author(before: str, name: str) -> str | None:
    """What stands around "by": a known artist, or any short name after a word that says who made the picture."""
    if category := _by_parts(name):
        return category
    maker = before.rpartition(" ")[2]
    if maker and not (maker in _MAKING or maker in _HEAD_CATEGORY or maker in _terms()):
        return None  # "surrounded by wolves"
    return "artist" if len(name.split()) <= _LONGEST_NAME and not _NO_NAME.search(name) else None


def _by_head(text: str) -> str | None:
    words = text.split()
    if len(words) <= _LONGEST_HEADED and (category := _HEAD_CATEGORY.get(words[-1])):
        # "studio ghibli style": the artist says more than the word after it
        return "artist" if _terms().get(" ".join(words[:-1])) == "artist" else category
    return None


def _by_parts(text: str) -> str | None:
    """The category of the longest known term in `text` (of two, the later), if known terms and fillers make up all of
    it, or if a term of two or more words makes up half and is no mere attribute: "sharp focus on eyes", "dragon greg
    rutkowski", but not "medieval fantasy castle"."""
    terms, longest = _terms(), _longest_term()
    words = text.split()
    best, best_length, best_end, unknown = None, 0, 0, []
    position = 0
    while position < len(words):
        for length in range(min(longest, len(words) - position), 0, -1):
            if category := terms.get(" ".join(words[position : position + length])):
                position += length
                if length >= best_length:
                    best, best_length, best_end = category, length, position
                break
        else:
            if words[position] not in _FILLERS:
                unknown.append(position)
            position += 1
    if not unknown:
        return best
    is_attribute = best != "artist" and best_end in unknown
    return best if best_length >= 2 and best_length >= len(unknown) and not is_attribute else None


# --- the files -----------------------------------------------------------------------------------------------------


def _known(category: str) -> str:
    if category not in CATEGORIES:
        raise ValueError(f"unknown category {category!r}: choose one of {', '.join(CATEGORIES)}")
    return category


@cache
def _modifiers(category: str) -> tuple[Entry, ...]:
    lines = (files("neuroprompt") / "modifiers" / f"{category}.txt").read_text(encoding="utf-8").splitlines()
    modifiers = []
    for line in lines:
        if line and not line.startswith("# "):
            count, term, first, spellings = (*line.split("\t"), "", "")[:4]
            modifiers.append(Entry(int(count), term, bool(first), tuple(spellings.split(" | ")) if spellings else ()))
    return tuple(modifiers)


@cache
def _counts(category: str) -> Mapping[str, int]:
    return MappingProxyType({m.term: m.count for m in _modifiers(category)})


@cache
def _terms() -> Mapping[str, str]:
    """normalised term or spelling → category"""
    return {
        spelling_key(spelling): category
        for category in CATEGORIES
        for m in _modifiers(category)
        for spelling in (*m.spellings, m.term)
    }


@cache
def _longest_term() -> int:
    return max(len(term.split()) for term in _terms())
