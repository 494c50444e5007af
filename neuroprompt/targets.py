"""What of an expert's prompt is worth learning: its modifiers, mended one by one.

Users' tails are full of what a person would not sign: names of living artists, "trending on artstation", the same thing
said three ways, photorealistic pencil sketches, faces for teapots, broken words. `mend` goes through a completion from
left to right and leaves such modifiers out; of two that do not go together, the later. Nothing is added or reworded,
but that separators become commas, that brackets and weights go, and that a bare name gets its "by".
"""

import hashlib
import re
from collections.abc import Mapping
from functools import cache

from neuroprompt.artists import historical, names_in, names_somebody
from neuroprompt.coherence import concepts, concepts_in, fits_subject, group_of, is_word, table
from neuroprompt.modifiers import categorise, spelling_key
from neuroprompt.prompts import Prompt, modifier_key

ARTISTS = ("historical", "all", "none")
"""Whose names stay in what is learnt: long dead artists' and studios', everybody's, or nobody's."""

REASONS = {
    "name": "names an artist who must not be named",
    "site": "names a site or a contest (one prompt in ten may be “trending on artstation”)",
    "jargon": "says what must not be there, a watermark, or what means nothing by itself",
    "no words": "has a word that none is, or is a lone letter or number, or cut off",
    "no modifier": "is nothing that a picture is modified by, as far as the six categories know",
    "not of the subject": "is about a person or a creature, and the subject is neither",
    "said before": "says what an earlier modifier says, or the subject",
    "contradiction": "contradicts what an earlier modifier says, or the subject",
    "too many": "comes after twelve others",
}
"""Why a modifier goes."""

KEPT = "kept"
MAX_MODIFIERS = 12
MAX_WORDS = 6  # of a modifier
SITES_KEPT = 10  # of so many prompts one may have a completion that names a site


def mend(prompt: str, completion: str, artists: str = "historical") -> tuple[str, list[str]]:
    """The completion of `prompt` with the modifiers that are worth learning.

    Args:
        prompt: What the completion goes on from, as it is.
        completion: ", highly detailed, 8k", or " by alphonse mucha, …".
        artists: One of `ARTISTS`.

    Returns:
        What is left, "" if that is nothing, and what became of each modifier: one of `REASONS`, or `KEPT`.
    """
    said, became, kept = _Said(prompt), [], []
    parsed = Prompt.parse(completion)
    with_site = _hash(prompt) % SITES_KEPT == 0
    for number, segment in enumerate(parsed.segments):
        modifier = _bare(segment)
        reason = _flaw(modifier, prompt, artists, with_site) or said.objection(modifier)
        if not reason and len(kept) == MAX_MODIFIERS:
            reason = "too many"
        became.append(reason or KEPT)
        if reason:
            continue
        said.add(modifier)
        connected = number == 0 and parsed.separators[0] == " " and _CONNECTIVE.match(modifier)
        kept.append((" " if connected else ", ") + modifier)
    return "".join(kept), became


class _Said:
    """What a prompt says so far: modifiers, groups, concepts."""

    def __init__(self, prompt: str):
        self.keys: set[str] = set()
        self.groups: set[str] = set()
        self.concepts: set[str] = set()
        self.words = f" {spelling_key(prompt)} "
        for segment in Prompt.parse(prompt).segments:
            self.add(segment)

    def add(self, segment: str) -> None:
        self.keys.add(modifier_key(segment))
        self.groups |= {group_of(segment)} - {None}
        self.concepts |= concepts_in(segment)

    def objection(self, modifier: str) -> str:
        in_words = f" {spelling_key(modifier)} " in self.words
        if in_words or modifier_key(modifier) in self.keys or group_of(modifier) in self.groups:
            return "said before"
        named = concepts_in(modifier)
        contradicts = any(concepts()[name].excludes & (self.concepts | named) for name in named)
        return "contradiction" if contradicts else ""


def _flaw(modifier: str, prompt: str, artists: str, with_site: bool) -> str:
    key = spelling_key(modifier)
    words = key.split()
    if artists != "all" and (names_somebody(modifier) or (artists == "none" and names_in(modifier))):
        return "name"
    if reason := _unlearned(key):
        if not (reason == "site" and with_site and key == "trending on artstation"):
            return reason
    named = {i for name in names_in(modifier) for i in range(name.start, name.end)}
    if not words or not all(i in named or is_word(word, in_dictionary=True) for i, word in enumerate(words)):
        return "no words"
    if key.isdigit() or all(len(word) < 2 for word in words) or words[-1] in _DANGLING:
        return "no words"
    if len(words) > MAX_WORDS or categorise(modifier) is None or _BY_WHAT.match(key):
        return "no modifier"
    return "" if fits_subject(modifier, prompt) else "not of the subject"


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


def _bare(segment: str) -> str:
    """The modifier without brackets, weights, quotes, marks at its ends and "and" before it; a bare name with "by"."""
    text = _WEIGHT.sub("", _APERTURE.sub(_aperture, segment))
    text = _LEADING.sub("", " ".join(_HYPHEN.sub(" ", _MARKS.sub("", text)).split()).strip(" .!?:-–—_~'/\\+&=#"))
    is_name = historical().get(spelling_key(text), "").startswith("died")
    return f"by {text}" if is_name else text  # "…, david roberts" reads as a subject


def _aperture(match: re.Match) -> str:
    return f"f/{match[1]}.{match[2]}" if match[2] else f"f/{match[1]}"


_APERTURE = re.compile(r"\bf ?/? ?(\d\d?)(?:[. ]+(\d))?\b")  # "f 1. 8", as Discord's bot spaced it
_WEIGHT = re.compile(r"::?\s*-?\d+(?:\.\d+)?(?![\d:])")
_MARKS = re.compile(r"[()\[\]{}<>\"“”*!?]")
_HYPHEN = re.compile(r"(?<=\w) - (?=\w)")
_LEADING = re.compile(r"^(?:and|with|also|plus|but)\s+", re.IGNORECASE)
_CONNECTIVE = re.compile(r"(?:\w+ ){0,2}by |in (?:the )?(?:\w+ ){0,2}style of ", re.IGNORECASE)
# "purple by caravaggio": what stands before "by" must say that somebody made something.
_BY_WHAT = re.compile(
    r"(?!(?:.* )?(?:art|artwork|artworks|works?|paintings?|painted|drawings?|drawn|illustrat\w+|prints?|portraits?|"
    r"style|designed|design|inspired|made|created|engraving|etching|woodcut|photo\w*|concept|scene|masterpiece|lit|"
    r"illuminated|backlit|surrounded|cover|poster|sketch|watercolou?r|fresco|mural|sculpture|animation|film|directed|"
    r"anime|oil|canvas|render|rendered|side) by )\w.* by "
)
_DANGLING = frozenset(
    "a an the of in on at by with and or for to from as is are very into his her their its my".split()
)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
