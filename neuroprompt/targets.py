"""What of an expert's prompt is worth learning: its modifiers, mended one by one.

Users' tails are full of what a person would not sign: names of living artists, "trending on artstation", the same thing
said three ways, photorealistic pencil sketches, faces for teapots, broken words, one booster after another. `mend` goes
through a completion from left to right and leaves such modifiers out; of two that do not go together, the later.
Nothing is added or reworded, but that separators become commas, that brackets and weights go, and that a bare name gets
its "by".
"""

import hashlib
import re

from neuroprompt import judge
from neuroprompt.artists import historical
from neuroprompt.judge import Judge
from neuroprompt.modifiers import categorise, spelling_key
from neuroprompt.prompts import Prompt

REASONS = judge.REASONS | {
    "no modifier": "is nothing that a picture is modified by, as far as the six categories know",
    "too many": "comes after twelve others",
}
"""Why a modifier goes."""

KEPT = "kept"
MAX_MODIFIERS = 12
MAX_WORDS = 6  # of a modifier
MAX_BOOSTERS = 2  # left to themselves, policies write little else
SITE = "trending on artstation"
SITES_KEPT = 10  # of so many prompts one may have a completion that says so


def mend(prompt: str, completion: str, artists: str = "historical") -> tuple[str, list[str]]:
    """The completion of `prompt` with the modifiers that are worth learning.

    Args:
        prompt: What the completion goes on from, as it is.
        completion: ", highly detailed, 8k", or " by alphonse mucha, …".
        artists: One of `judge.ARTISTS`.

    Returns:
        What is left, "" if that is nothing, and what became of each modifier: one of `REASONS`, or `KEPT`.
    """
    sites = (SITE,) if _hash(prompt) % SITES_KEPT == 0 else ()
    judged, became, kept, boosters = Judge(prompt, artists=artists, spared=sites), [], [], 0
    parsed = Prompt.parse(completion)
    for number, segment in enumerate(parsed.segments):
        modifier = _bare(segment)
        reason = judged.objection(modifier)
        if not reason and not _is_modifier(modifier):
            reason = "no modifier"
        is_booster = categorise(modifier) == "booster"
        if not reason and is_booster and boosters == MAX_BOOSTERS:
            reason = "booster"
        if not reason and len(kept) == MAX_MODIFIERS:
            reason = "too many"
        became.append(reason or KEPT)
        if reason:
            continue
        judged.add(modifier)
        boosters += is_booster
        connected = number == 0 and parsed.separators[0] == " " and _CONNECTIVE.match(modifier)
        kept.append((" " if connected else ", ") + modifier)
    return "".join(kept), became


def _is_modifier(text: str) -> bool:
    key = spelling_key(text)
    return len(key.split()) <= MAX_WORDS and categorise(text) is not None and not _BY_WHAT.match(key)


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


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
