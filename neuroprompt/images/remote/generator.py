"""`RemoteGenerator`: servers behind URLs as an `ImageGenerator`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuroprompt.images.config import GeneratorConfig, RemoteConfig, noise_seed
from neuroprompt.images.generator import Drawing, ImageGenerator
from neuroprompt.images.remote.pool import Pool
from neuroprompt.models import pick_device
from neuroprompt.prompts import Window


class RemoteGenerator(ImageGenerator):
    """Draws by servers. Pictures come with 8 bits: within 1/255 of what the server's pipeline drew, which it rounds or
    cuts off.

    Args:
        pool: The servers; they are asked what they draw with.
        device: Where pictures are put; by default the accelerator if there is one.

    Attributes:
        pool: The servers.
        config: What is asked of them, and what they say of the rest.
        fingerprint: Of what the servers say of their model, wherever they are, and the settings that are asked for.

    Raises:
        RemoteError: As `Pool.connect`.
    """

    def __init__(self, pool: Pool, device: str | torch.device | None = None):
        self.pool, self.device = pool, pick_device(device)
        self.name = pool.connect().name
        self.config, self.fingerprint = pool.config.drawing(), pool.fingerprint

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "embedded",
        *,
        device: str | torch.device | None = None,
        config: GeneratorConfig | None = None,
        **overrides: Any,
    ) -> "RemoteGenerator":
        return cls(Pool(str(name), RemoteConfig(**(vars(config) if config else {}) | overrides)), device)

    @property
    def window(self) -> Window | None:
        return self.pool.connect().window or super().window

    @property
    def takes_negative(self) -> bool:
        return self.pool.connect().takes_negative

    def _draw(self, prompts: list[str], seeds: list[int], negatives: list[str | None]) -> Drawing:
        pictures = self.pool.draw(prompts, [noise_seed(seed) for seed in seeds], negatives=negatives)
        drawn = next((picture.image for picture in pictures if picture.image), None)
        width, height = drawn.size if drawn else self.config.size or (512, 512)  # all were withheld
        images = np.zeros((len(pictures), height, width, 3), np.uint8)
        for place, picture in enumerate(pictures):
            if picture.image and not picture.flagged:
                images[place] = np.asarray(picture.image)
        flagged = torch.tensor([picture.flagged for picture in pictures], device=self.device)
        return Drawing(torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float() / 255, flagged)
