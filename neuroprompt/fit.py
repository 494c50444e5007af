"""What people write behind such prompts: whether a modifier is usual there, or unusual.

    log_lift("a meadow full of poppies after rain", "night time")                   # −0.73: half as often as elsewhere
    log_lift("white ceramic mug on a wooden table", "product photography")          # +1.30

A logistic model for each thing that modifiers are about: the media and traits of `coherence.py`, what says the same,
the words of styles and vibes, whether somebody is named. It reads which words the prompt has. That is all one must know
of it to tell that few want a meadow of poppies at night, a toddler before a black background, or a logo through a wide
angle lens. `modifiers/fit.safetensors` has the weights, learnt from prompts of the Stable Diffusion beta (as
DiffusionDB has them, CC0 1.0) by `training/embedded/build_coherence.py`.
"""

import json
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from safetensors import safe_open

from neuroprompt.coherence import MEDIA, concepts, concepts_in, group_of, groups_in, is_lighting
from neuroprompt.modifiers import categorise, spelling_key

LEAST = -0.2
"""The log-lift of what is written behind such prompts four fifths as often as behind any: less is unusual."""
LEAST_MEDIUM = 0.1
"""The same, of a medium: a whole picture is made so."""
LEAST_WORLD = 0.6
"""The same, of a style, an artist, a mood, a genre or a scenery: where it is not at home it makes another picture."""
MANY_WORDS = 6
"""A prompt with more words tells no more than one with so many: what they say counts in proportion."""

ANYTHING = frozenset({
    "resolution", "high detail", "photorealism", "cinematic", "film light", "sharp focus", "=8k", "=hdr", "=cinematic",
    "=highly detailed", "=high quality", "=masterpiece", "=photorealistic", "=sharp focus", "=cinematic lighting",
    "=volumetric lighting", "lighting", "light", "and", "of", "in", "the", "style", "high", "art",
})  # fmt: skip
"""What fits anything, however seldom it is written there."""
VAGUE = frozenset({"beautiful", "amazing", "elegant", "epic", "smooth", "atmospheric", "dramatic", "intricate"})
"""Groups that praise the picture, and say nothing that it could show."""
GENRES = frozenset({
    "=fantasy", "=science fiction", "=cyberpunk", "=steampunk", "=horror", "=psychedelic", "=surreal", "=landscape",
    "=scenic",
})  # fmt: skip


def kinds_of(modifier: str) -> frozenset[str]:
    """What a modifier is about, but for `ANYTHING`: media and traits by name, groups as ``=night``, bare words, and
    ``=somebody`` where an artist is named."""
    return _kinds_of(spelling_key(modifier))


def log_lift(prompt: str, modifier: str) -> float | None:
    """How much likelier a modifier of its kinds is behind `prompt` than behind any other: the mean over these kinds, in
    nats; None where none is known."""
    known = [kind for name in kinds_of(modifier) if (kind := _model().kinds.get(name)) is not None]
    return float(_log_lifts(spelling_key(prompt))[known].mean()) if known else None


def is_unusual(prompt: str, modifier: str) -> bool:
    """Whether people write such a modifier behind such a prompt more seldom than `LEAST`, `LEAST_MEDIUM` or
    `LEAST_WORLD` says; or it is something that too few write anywhere to tell, and no light, lens or quality."""
    lift = log_lift(prompt, modifier)
    if lift is None:
        return _is_strange(spelling_key(modifier))
    return lift < (LEAST_WORLD if is_world(modifier) else LEAST_MEDIUM if is_manner(modifier) else LEAST)


def is_manner(modifier: str) -> bool:
    """Whether a modifier is a medium, a style, an artist or a mood: a whole picture is made so."""
    return _is_manner(spelling_key(modifier))


def is_world(modifier: str) -> bool:
    """Whether a modifier is a style, an artist, a mood, a genre or a scenery."""
    return _is_world(spelling_key(modifier))


@lru_cache(maxsize=1 << 16)
def is_generic(modifier: str) -> bool:
    """Whether a modifier praises the picture, or says that it is cinematic, and no more: it fits any prompt."""
    key = spelling_key(modifier)
    if group_of(key) in VAGUE or _GOOD_LIGHT.fullmatch(key):
        return True
    return categorise(key) in ("booster", "vibe") and not is_lighting(key) and _told(key) <= ANYTHING


_GOOD_LIGHT = re.compile(
    r"(?:beautiful|amazing|good|perfect|quality|realistic|stunning|best|professional) light(?:ing)?"
)


class Model(NamedTuple):
    """For words *w* of a prompt, log p(kind | w) − log p(kind) = log σ(bias + Σ weights[w]) − log p(kind).

    Attributes:
        words, kinds: Which row, and which column, belongs to each.
        weights: (words, kinds), in steps of `scale` (kinds,).
        bias, log_rate: (kinds,); of the model, and log p(kind).
    """

    words: Mapping[str, int]
    kinds: Mapping[str, int]
    weights: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    log_rate: np.ndarray


@cache
def _model() -> Model:
    with safe_open(str(files("neuroprompt") / "modifiers" / "fit.safetensors"), "np") as file:
        words, kinds = (
            {name: i for i, name in enumerate(json.loads(file.metadata()[axis]))} for axis in ("words", "kinds")
        )
        return Model(words, kinds, *(file.get_tensor(name) for name in Model._fields[2:]))


@lru_cache(maxsize=1 << 10)
def _log_lifts(key: str) -> np.ndarray:
    model = _model()
    rows = [row for word in set(key.split()) if (row := model.words.get(word)) is not None]
    weight = min(1.0, MANY_WORDS / max(1, len(rows)))
    logits = model.bias + weight * model.scale * model.weights[rows].sum(0, dtype=np.float32)
    return -np.logaddexp(0, -logits) - model.log_rate


@lru_cache(maxsize=1 << 16)
def _is_manner(key: str) -> bool:
    return _is_world(key) or not {concepts()[name].family for name in concepts_in(key)}.isdisjoint(MEDIA)


@lru_cache(maxsize=1 << 16)
def _is_world(key: str) -> bool:
    moods = any(concepts()[name].family in ("mood", "ground") for name in concepts_in(key))
    return moods or categorise(key) in ("artist", "style") or not GENRES.isdisjoint(_told(key))


def _is_strange(key: str) -> bool:
    general = categorise(key) in ("booster", "perspective") and not key.endswith("background")
    return not general and ANYTHING.isdisjoint(_told(key))


@lru_cache(maxsize=1 << 16)
def _kinds_of(key: str) -> frozenset[str]:
    return _told(key) - ANYTHING


def _told(key: str) -> frozenset[str]:
    """What a modifier is about, `ANYTHING` too."""
    kinds = {*concepts_in(key), *(f"={group}" for group in groups_in(key))}
    category = categorise(key)
    if category == "artist":
        kinds.add("=somebody")
    if category in ("style", "vibe"):
        kinds |= set(key.split())
    return frozenset(kinds)
