"""Artefacts: minus what simple statistics say of a picture's cast, clipping and noise, which preference models reward.

Three shares in [0, 1], added: the *cast*, how far the mean colour lies from grey on the opponent axes red − green and
yellow − blue (the means of Hasler and Süsstrunk 2003); the *clipping*, the share of colour values that are 0 or 255;
and the *noise*, Immerkær's estimate of its deviation (1996, "Fast Noise Variance Estimation"), of which fine lines are
a part. Pictures have all three by nature, so compare them with the plain prompt's: ``artefacts:2@plain``.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from .encoders import Encoders
from .length import check_none

_LAPLACIANS = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))  # their difference, which edges hardly excite


class Artefacts:
    """Minus cast, clipping and noise: 0 at best, −3 at worst. Pictures (n, 3, H, W) of 3 × 3 pixels or more."""

    name = "artefacts"
    fingerprint = "cast + clipping + noise"

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], images: Tensor) -> Tensor:
        levels = (images.float() * 255).round() / 255
        red, green, blue = levels.mean((-2, -1)).unbind(1)  # (n,)
        cast = torch.stack([red - green, (red + green) / 2 - blue]).norm(dim=0) / math.sqrt(2)
        clipping = ((levels <= 0) | (levels >= 1)).float().mean((1, 2, 3))
        kernel = levels.new_tensor(_LAPLACIANS).expand(3, 1, 3, 3)
        residual = F.conv2d(levels, kernel, groups=3).abs().mean((1, 2, 3))
        noise = (math.sqrt(math.pi / 2) / 6 * residual).clamp_max(1.0)
        return -(cast + clipping + noise)


def load(model: str | Path | None, encoders: Encoders) -> Artefacts:
    """There is nothing to load."""
    check_none("artefacts", model)
    return Artefacts()
