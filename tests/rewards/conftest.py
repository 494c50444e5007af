"""A batch of four."""

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from tests.rewards.pictures import as_tensor, noise, shapes, smooth


@pytest.fixture
def pictures() -> list[Image.Image]:
    """Four pictures of 48 x 80 pixels."""
    return [Image.fromarray(kind(48, 80, seed)) for seed, kind in enumerate([smooth, shapes, noise, shapes])]


@pytest.fixture
def images(pictures) -> Tensor:
    return as_tensor([np.asarray(p) for p in pictures])


@pytest.fixture
def prompts() -> list[str]:
    return ["boy on a horse", "a castle, watercolor", "boy on a horse", "a red cat"]
