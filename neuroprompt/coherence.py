"""What goes together in a prompt and what does not: media, traits, groups that say the same, subjects, words.

A pencil sketch has no lens, pixel art no photorealism, and "4k, 8k, uhd" says one thing three times. The facts are
tables beside the six categories, `modifiers/*.tsv`, learnt from what users combine in 1.6 million prompts and mended
by hand (`training/embedded/build_coherence.py`):

- `media.tsv`: how a picture is made ("watercolour", "3d render"), in families, and which media exclude each other;
- `traits.tsv`: how it looks ("photorealism", "monochrome"), and which media and other traits that contradicts;
- `groups.tsv`: modifiers that say the same;
- `languages.tsv`: what other languages call the media;
- `subjects.tsv`: words for persons, animals, things, and the modifiers that are about persons or creatures alone;
- `words.tsv`: the words that prompts are made of.

Everything here reads text by words, as `modifiers.spelling_key` makes them: case, accents, hyphens and brackets aside.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

from neuroprompt.artists import historical, names_in, spellings
from neuroprompt.modifiers import spelling_key
from neuroprompt.prompts import Prompt


class Concept(NamedTuple):
    """A medium or a trait: a line of `media.tsv` or `traits.tsv`.

    Attributes:
        name: such as "watercolour".
        family: such as "paint"; for a trait what it is about, such as "colour".
        phrases: what names it, wherever it stands.
        weak: what names it only as a modifier of its own, or as what the picture is: "a photo of …", "… sticker".
        excludes: names of the concepts that it does not go with; if one excludes another, so does that.
    """

    name: str
    family: str
    phrases: tuple[str, ...]
    weak: tuple[str, ...]
    excludes: frozenset[str]


MEDIA = ("photo", "3d", "digital", "paint", "drawing", "print", "flat", "pixel", "toon", "craft", "wall")
"""The families of media."""
MAX_LIGHTS = 2
"""Modifiers that may say how one picture is lit."""


@cache
def concepts() -> Mapping[str, Concept]:
    """Every medium and trait, by name."""
    rows = [*table("media.tsv"), *table("traits.tsv")]
    families: dict[str, set[str]] = {}
    for family, name, *_ in rows:
        families.setdefault(family, set()).add(name)
    excludes: dict[str, set[str]] = {row[1]: set() for row in rows}
    for _, name, _, _, excluded in rows:
        for word in _listed(excluded):
            for other in families.get(word, {word}) - {name}:
                excludes[name].add(other)
                excludes[other].add(name)
    return MappingProxyType(
        {
            name: Concept(name, family, _listed(phrases), _listed(weak), frozenset(excludes[name]))
            for family, name, phrases, weak, _ in rows
        }
    )


@lru_cache(maxsize=1 << 16)
def concepts_in(text: str) -> frozenset[str]:
    """The media and traits that `text` names: {"watercolour", "resolution"} for "a fox, Watercolor on paper, 4K"."""
    return frozenset(mention.concept for mention in _mentions(text))


def medium_of(text: str) -> set[str]:
    """The media among them."""
    return {name for name in concepts_in(text) if concepts()[name].family in MEDIA}


def contradictions(text: str) -> list[tuple[str, str]]:
    """Pairs of phrases in `text` that exclude each other, in the order of their places, each pair of concepts once.

    >>> contradictions("simple pencil sketch of an apple, 8k")
    [('pencil sketch', '8k')]
    """
    known, found, said = concepts(), [], list(_mentions(text))
    seen: set[frozenset[str]] = set()
    for j, later in enumerate(said):
        for earlier in said[:j]:
            pair = frozenset((earlier.phrase, later.phrase))
            if earlier.place != later.place and later.concept in known[earlier.concept].excludes and pair not in seen:
                seen.add(pair)
                found.append((earlier.phrase, later.phrase))
    return found


def group_of(modifier: str) -> str | None:
    """What a modifier says beside others of its group: "8k" for "UHD", "4k resolution" and "in 8k"; None where it has
    no group. Artists are groups of one: "by mucha" and "Alphonse Mucha" both say "alphonse mucha"."""
    return _group_of(spelling_key(modifier))


def groups_in(modifier: str) -> frozenset[str]:
    """All that a modifier says: "8k" and "highly detailed" for "highly detailed 8k", and every artist whom it names."""
    return _groups_in(spelling_key(modifier))


def is_lighting(modifier: str) -> bool:
    """Whether a modifier says how the picture is lit."""
    return spelling_key(modifier).rpartition(" ")[2] in _LIGHTS or group_of(modifier) in _LIGHTING


def repeated_groups(text: str) -> dict[str, list[str]]:
    """The groups that more than one modifier of `text` says, each with those modifiers; and "lighting" with what says
    how the picture is lit, where that is more than two."""
    said: dict[str, list[str]] = {}
    segments = Prompt.parse(text).segments
    for segment in segments:
        for group in groups_in(segment):
            said.setdefault(group, []).append(segment)
    repeated = {group: modifiers for group, modifiers in said.items() if len(modifiers) > 1}
    lights = [segment for segment in segments if is_lighting(segment)]
    return repeated | ({"lighting": lights} if len(lights) > MAX_LIGHTS else {})


def forbidden_for(text: str) -> list[str]:
    """The phrases that would contradict what `text` says: what a decoder must forbid when it continues it.

    What the text says itself is never among them, whatever it contradicts, nor anything that holds another phrase of
    the list. Every spelling that decoding tells apart is given ("line art", "line-art").

    Args:
        text: The prompt; phrases that a constraint requires can be appended as further modifiers.
    """
    known, said = concepts(), concepts_in(text)
    excluded = {name for concept in said for name in known[concept].excludes} - said
    phrases = {p for name in excluded for p in (*known[name].phrases, *known[name].weak)}
    if not subjects_of(text) & {"person", "creature"} and subjects_of(text):
        phrases |= _only_for("person") | _only_for("creature")
    elif "person" not in subjects_of(text) and "creature" in subjects_of(text):
        phrases |= _only_for("person")
    words = f" {spelling_key(text)} "
    keys = {phrase: spelling_key(phrase) for phrase in phrases}
    needed = {key for key in keys.values() if f" {key} " not in words}
    shortest = {key for key in needed if not any(part in needed for part in _parts(key))}
    written = {phrase.casefold() for phrase, key in keys.items() if key in shortest}  # "f1.4", whose key is "f/1.4"
    return sorted(written | {spelling for key in shortest for spelling in _spellings(key)})


@lru_cache(maxsize=1 << 12)
def subjects_of(text: str) -> frozenset[str]:
    """What the first clause of `text` is about, of person, animal, thing and place, as far as its words are known."""
    words = spelling_key(Prompt.parse(text).subject).split()
    kinds = _subjects()
    found = (kinds.get(w) or kinds.get(w.removesuffix("s")) or kinds.get(w.removesuffix("es")) for w in words)
    return frozenset(kind for kind in found if kind)


def fits_subject(modifier: str, text: str) -> bool:
    """Whether `modifier` can be about the subject of `text`: no "detailed eyes" for a teapot, no "actor" for a fox.

    Where no word of the subject is known, everything fits."""
    about = subjects_of(text)
    key = spelling_key(modifier)
    if not about or "person" in about:
        return True
    return not (_about(key, "person") or ("creature" not in about and _about(key, "creature")))


def is_understood(text: str) -> bool:
    """Whether a policy that learnt from English prompts can know what `text` is about: at least half of its words are
    words or names that prompts are made of, and no other language's "und", "avec" or "della"."""
    words = [word for word in spelling_key(described(text)).split() if any(map(str.isalpha, word))]
    known = sum(is_word(word) and word not in _not_english() for word in words)
    return bool(words) and 2 * known >= len(words)


def described(text: str) -> str:
    """What of `text` can describe a picture: all but addresses and tags (HTML's, `<lora:name:0.8>`)."""
    return _NO_DESCRIPTION.sub(" ", text)


def fits_anything(modifier: str, family: str = "") -> bool:
    """Whether `modifier` can be said of any picture, whatever it shows.

    Args:
        modifier: "highly detailed", say; no "golden hour", no "portrait", no "3d render".
        family: Of the medium that is known of the picture, if one is: "loose brush strokes" fits "paint".
    """
    key = spelling_key(modifier)
    if any(kind in subjects_of(modifier) or _about(key, kind) for kind in ("person", "creature")):
        return False
    medium = controls(modifier)
    return medium == family if medium else group_of(modifier) in _ANYTHING


def unknown_words(text: str, known: Iterable[str] = ()) -> list[str]:
    """The words of `text` that neither prompts are made of (`words.tsv`) nor stand in the texts `known`."""
    given = {word.strip("'") for other in known for word in spelling_key(other).split()}
    words = (word.strip("'") for word in spelling_key(text).split())
    return [word for word in words if word and not (word in given or is_word(word))]


def is_word(word: str, *, in_dictionary: bool = False) -> bool:
    """Whether a normalised word is one that prompts are made of.

    Args:
        word: One word; numbers, with or without a unit ("35mm", "f/1.8"), are words.
        in_dictionary: Count no names and no slang: words of an English dictionary and of the modifiers only.
    """
    kind = _words().get(word.strip("'.\"&+/#"))
    if kind is None:
        return bool(_NUMBER.fullmatch(word)) or (
            "/" in word and all(is_word(part, in_dictionary=in_dictionary) for part in word.split("/"))
        )
    return kind != "name" or not in_dictionary


def controls(text: str) -> str:
    """The family of the medium that `text` names first ("paint"), or "" where it names none: what a policy can be
    told of a prompt, from the target's own words in training and from the prompt's at inference."""
    known = concepts()
    return next((f for m in _mentions(text) if (f := known[m.concept].family) in MEDIA), "")


# --- reading ---------------------------------------------------------------------------------------------------------


class _Mention(NamedTuple):
    concept: str
    phrase: str
    place: tuple[int, int]  # segment, word


def _mentions(text: str) -> Iterator[_Mention]:
    """The concepts that `text` names, from left to right; of phrases that begin at one word, the longest."""
    phrases, longest = _phrases()
    for number, segment in enumerate(Prompt.parse(text).segments):
        words = _apart(spelling_key(segment)).split()
        position = 0
        while position < len(words):
            for length in range(min(longest, len(words) - position), 0, -1):
                phrase = " ".join(words[position : position + length])
                named = [c for c, weak in phrases.get(phrase, ()) if not weak or _is_medium(words, position, length)]
                if named:
                    yield from (_Mention(concept, phrase, (number, position)) for concept in named)
                    position += length - 1
                    break
            position += 1


def _apart(key: str) -> str:
    """With blanks around the media of scripts that put none between words: "水彩画の猫"."""
    return key if key.isascii() else _unspaced().sub(r" \g<0> ", key)


def _is_medium(words: list[str], start: int, length: int) -> bool:
    """Whether a weak phrase says what the picture is: nothing but a few attributes before it in its clause, and after
    it the end, or what the picture shows."""
    before, after = words[:start], words[start + length :]
    if len(before) > 3 or any(w in _RELATIONS or (len(w) > 5 and w.endswith("ing")) for w in before):
        return False
    return not after or after[0] in _SHOWS or " ".join(after[:1]) in _phrases()[0]


_RELATIONS = frozenset(
    "in on at with near by next to of from behind under over inside holding and or like as made wearing has".split()
)
_SHOWS = frozenset("of by for showing depicting with style art drawing painting print design image picture in".split())
_INTENSE = frozenset(
    "very extremely ultra super hyper insanely incredibly highly so absolutely really most extreme truly".split()
)
_AROUND = frozenset("and with in of the a an at on & + resolution quality image picture style rendered made".split())
_LIGHTS = frozenset("lighting lightning light lights lit backlit illumination".split())
_LIGHTING = frozenset({
    "cinematic lighting", "volumetric lighting", "soft lighting", "studio lighting", "natural lighting", "backlight",
    "neon lighting", "warm lighting", "cold lighting", "candlelight", "global illumination",
})  # fmt: skip
_LEADING = re.compile(r"^(?:(?:and|with|in|a|an|the|as|of|on|is|at|by the|rendered|shot) )+")
_BY = re.compile(
    r"^(?:(?:\w+ )?(?:art|artwork|painting|painted|illustration|drawing|drawn|portrait|photo|photograph|directed|"
    r"designed|style|work|print|made|created|inspired) )?(?:by|in (?:the )?style of|style of) (?:the )?|"
    r" (?:art )?style$"
)
_NO_DESCRIPTION = re.compile(r"https?://\S+|www\.\S+|<[^<>]*>")
_ANYTHING = frozenset({
    "8k", "hdr", "highly detailed", "intricate", "sharp focus", "masterpiece", "high quality", "beautiful", "amazing",
    "cinematic lighting", "volumetric lighting", "soft lighting",
})  # fmt: skip
_NUMBER = re.compile(r"[#f]?/?\d+(?:[.,:/x]\d+)*(?:[a-z]{1,3}|th)?|\d+'?s|[a-z]", re.ASCII)


@lru_cache(maxsize=1 << 16)
def _group_of(key: str) -> str | None:
    groups = _groups()
    if key in groups:
        return groups[key]
    if name := spellings().get(_BY.sub("", key)):
        return name
    short = _LEADING.sub("", key)
    while short not in groups:
        first, _, rest = short.partition(" ")
        if not rest or (" " not in rest and first not in _INTENSE):
            return None
        short = rest  # "colorful redshift render", "very sharp"
    return groups[short]


@lru_cache(maxsize=1 << 16)
def _groups_in(key: str) -> frozenset[str]:
    groups, longest = _groups(), _longest_member()
    artists = frozenset(name.term for name in names_in(key))
    if key in groups or artists:
        return artists or frozenset([groups[key]])
    words, position, found = key.split(), 0, set()
    while position < len(words):
        for length in range(min(longest, len(words) - position), 0, -1):
            if group := groups.get(" ".join(words[position : position + length])):
                found.add(group)
                position += length
                break
        else:
            if words[position] not in _INTENSE | _AROUND:
                return frozenset({_group_of(key)} - {None})
            position += 1
    return frozenset(found)


def _parts(phrase: str) -> Iterator[str]:
    words = phrase.split()
    for length in range(1, len(words)):
        yield from (" ".join(words[i : i + length]) for i in range(len(words) - length + 1))


def _spellings(phrase: str) -> Iterator[str]:
    """A phrase, and with hyphens where it has up to two spaces: decoding folds case and blanks, but no hyphens."""
    words = phrase.split()
    yield phrase
    if words[0] == "by":
        return
    if len(words) == 2:
        yield "-".join(words)
    elif len(words) == 3:
        yield from (f"{words[0]}-{words[1]} {words[2]}", "-".join(words))


# --- the tables ------------------------------------------------------------------------------------------------------


def table(name: str) -> list[list[str]]:
    """The rows of a table in `modifiers/`, cell by cell."""
    text = (files("neuroprompt") / "modifiers" / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("# ")]


def _listed(cell: str) -> tuple[str, ...]:
    return tuple(cell.split(" | ")) if cell else ()


@cache
def _phrases() -> tuple[Mapping[str, tuple[tuple[str, bool], ...]], int]:
    """normalised phrase → the concepts that it names, and whether only as a modifier; and the longest, in words"""
    masters = {
        f"by {name}": {"old masters": False} for name, reason in historical().items() if reason.startswith("died")
    }
    named: dict[str, dict[str, bool]] = masters  # the table has the most frequent ones, to be forbidden
    for concept in concepts().values():
        for weak, phrases in ((False, concept.phrases), (True, concept.weak)):
            for phrase in phrases:
                named.setdefault(spelling_key(phrase), {}).setdefault(concept.name, weak)
    for name, words in table("languages.tsv"):
        if name in concepts():
            for word in _listed(words):
                named.setdefault(_apart(spelling_key(word)).strip(), {}).setdefault(name, False)
    return {p: tuple(c.items()) for p, c in named.items()}, max(len(p.split()) for p in named)


@cache
def _unspaced() -> re.Pattern:
    keys = {spelling_key(word) for name, words in table("languages.tsv") for word in _listed(words)}
    return re.compile("|".join(sorted((key for key in keys if max(key) >= "\u1000"), key=len, reverse=True)))


@cache
def _not_english() -> frozenset[str]:
    return frozenset(w for name, words in table("languages.tsv") if name == "not English" for w in _listed(words))


@cache
def _groups() -> Mapping[str, str]:
    return {spelling_key(member): name for name, members in table("groups.tsv") for member in (name, *_listed(members))}


@cache
def _longest_member() -> int:
    return max(len(member.split()) for member in _groups())


@cache
def _subjects() -> Mapping[str, str]:
    return {word: kind for kind, words, _ in table("subjects.tsv") for word in words.split()}


@cache
def _only_for(kind: str) -> frozenset[str]:
    return frozenset(p for k, _, modifiers in table("subjects.tsv") if k == kind for p in _listed(modifiers))


@cache
def _keys_for(kind: str) -> frozenset[str]:
    return frozenset(map(spelling_key, _only_for(kind)))


@lru_cache(maxsize=1 << 16)
def _about(key: str, kind: str) -> bool:
    return any(part in _keys_for(kind) for part in (key, *_parts(key)))


@cache
def _words() -> Mapping[str, str]:
    return {word: kind for word, kind in table("words.tsv")}
