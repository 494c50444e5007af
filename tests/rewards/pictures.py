"""Pictures of several kinds as 8-bit arrays, and how hpsv2 prepares one."""

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as tv


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Colour gradients, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(6.3 * (rng.uniform(0.5, 4) * x + rng.uniform(0.5, 4) * y) + rng.uniform(0, 6)) for _ in range(3)]
    return ((np.stack(waves, -1) + 1) * 127.5).round().astype(np.uint8)


def shapes(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Flat shapes with hard edges on white, as icons are."""
    rng = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), 255, np.uint8)
    y, x = np.mgrid[0:height, 0:width]
    for _ in range(6):
        radius = rng.uniform(0.1, 0.4) * min(height, width)
        inside = (y - rng.uniform(0, height)) ** 2 + (x - rng.uniform(0, width)) ** 2 < radius**2
        canvas[inside] = rng.integers(0, 256, 3)
    return canvas


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


KINDS = {"smooth": smooth, "shapes": shapes, "noise": noise}


def as_tensor(pictures: list[np.ndarray]) -> Tensor:
    """(n, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def hpsv2_transform(picture: Image.Image, side: int) -> torch.Tensor:
    """ResizeMaxSize of hpsv2 1.2.0 after ToTensor, then normalisation."""
    tensor = tv.to_tensor(picture)
    height, width = tensor.shape[1:]
    scale = side / max(height, width)
    new = [round(height * scale), round(width * scale)]
    tensor = tv.resize(tensor, new, tv.InterpolationMode.BICUBIC, antialias=True)
    below, right = side - new[0], side - new[1]
    tensor = tv.pad(tensor, [right // 2, below // 2, right - right // 2, below - below // 2], fill=0)
    return tv.normalize(tensor, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
