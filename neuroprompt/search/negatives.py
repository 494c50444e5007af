"""Negative prompts that a search may draw with: a few of the phrases that people usually write into one.

The list is short and our own: faults of a picture (as a picture, in what it shows, in what stands on it) and the ways
of drawing that people often do not mean. What a prompt asks for is not led away from.
"""

import random
from collections.abc import Sequence

from neuroprompt.decoding.constraints import occurrences

PHRASES = (
    *("blurry", "out of focus", "low quality", "low resolution", "jpeg artifacts", "pixelated", "grainy", "noisy"),
    *("overexposed", "underexposed", "washed out", "oversaturated", "dull colors", "flat lighting", "low contrast"),
    *("cropped", "out of frame", "cluttered background", "plain background", "tilted", "duplicate", "empty"),
    *("deformed", "disfigured", "bad anatomy", "bad proportions", "extra limbs", "extra fingers", "ugly"),
    *("text", "watermark", "signature", "logo", "border", "frame"),
    *("photograph", "painting", "cartoon", "sketch", "3d render", "monochrome", "amateur"),
)
MOST = 10
"""Phrases of one negative prompt."""


def choose(text: str, rng: random.Random, phrases: Sequence[str] = PHRASES) -> tuple[str, ...]:
    """Up to `MOST` phrases, or none, in the order of the list; none that the text itself says."""
    free = [phrase for phrase in phrases if not any(occurrences(text, phrase))]
    chosen = set(rng.sample(free, min(len(free), rng.randint(0, MOST))))
    return tuple(phrase for phrase in free if phrase in chosen)
