"""Length: minus the CLIP tokens of the prompt that was drawn, so that a longer one costs more.

Added tokens have a price with ``length:0.02@plain``, those beyond forty with ``length:0.02@-40``.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from neuroprompt.models import ModelError
from neuroprompt.prompts import count_clip_tokens

from .encoders import Encoders


class Length:
    """Minus the CLIP tokens of the text, begin and end tokens included."""

    name = "length"
    fingerprint = "clip tokens of the text"
    reads_text = True

    def __call__(self, prompts: Sequence[str], images: Tensor, texts: Sequence[str]) -> Tensor:
        return torch.tensor([-float(count_clip_tokens(text)) for text in texts], device=images.device)


def load(model: str | Path | None, encoders: Encoders) -> Length:
    """There is nothing to load."""
    check_none("length", model)
    return Length()


def check_none(name: str, model: str | Path | None) -> None:
    """Refuse a model of a reward that has none; ``embedded`` is said of all rewards at once.

    Raises:
        ModelError: One is given.
    """
    if model not in (None, "embedded"):
        raise ModelError(f"the reward {name} has no model: leave [{model}] out")
