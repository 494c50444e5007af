"""Several rewards as one set that scores a batch with each; `neuroprompt.scoring` makes one number of the scores.

Where rewards read pictures through the same CLIP, it is held once and encodes a batch once.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_dtype, to_image

from .atoms import Answers, Atoms
from .encoders import EmbeddingReward
from .preprocessing import check_batch

if TYPE_CHECKING:
    from . import ImageReward


PLAIN = "plain"
"""The cap that is the plain prompt's own score: no credit above it, a price below."""

Cap = float | Literal["plain"] | None


class Component(NamedTuple):
    """A reward of a set.

    Attributes:
        weight: Factor of its score in the sum; with 0 it is measured and not counted.
        cap: What of its score counts at most, in the score's own unit; None for all, and ``plain`` for what the plain
            prompt's picture with the same seed has.
    """

    reward: "ImageReward"
    weight: float = 1.0
    cap: Cap = None


class RewardSet:
    """Rewards that are scored together.

    Args:
        components: Rewards of different names, with their weights and caps.

    Raises:
        ValueError: There are none, or two have the same name.
    """

    def __init__(self, components: Sequence[Component]):
        self.components = tuple(components)
        if not self.components:
            raise ValueError("a reward set needs a reward")
        names = Counter(c.reward.name for c in self.components)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"the reward {twice[0]!r} is there twice")

    def __call__(
        self,
        prompts: Sequence[str],
        images: Tensor,
        texts: Sequence[str] | None = None,
        answers: dict[str, Answers] | None = None,
    ) -> dict[str, Tensor]:
        """Every reward's own scores (n,), by name, of pictures (n, 3, H, W) in [0, 1] for a prompt each.

        Args:
            texts: What was drawn, for the rewards that read it; by default the prompts.
            answers: Gets, by the name of each `Atoms` among the rewards, what its scores are the means of.
        """
        check_batch(prompts, images)
        embeddings: dict[object, Tensor] = {}
        scores = {}
        for reward, _, _ in self.components:
            if isinstance(reward, EmbeddingReward):
                if reward.encoder not in embeddings:
                    embeddings[reward.encoder] = reward.encoder.encode_images(images)
                scores[reward.name] = reward.score(prompts, embeddings[reward.encoder])
            elif isinstance(reward, Atoms):
                own = reward.answers(prompts, images)
                scores[reward.name] = reward.score(own)
                if answers is not None:
                    answers[reward.name] = own
            elif getattr(reward, "reads_text", False):
                scores[reward.name] = reward(prompts, images, prompts if texts is None else texts)
            else:
                scores[reward.name] = reward(prompts, images)
        return scores

    def score_picture(
        self, prompt: str, picture: Image.Image, answers: dict[str, Answers] | None = None, text: str | None = None
    ) -> dict[str, float]:
        """Every reward's own score, by name, of a picture in RGB; `answers` and `text` as in `__call__`."""
        tensor = to_dtype(to_image(picture), torch.float32, scale=True)  # (3, height, width)
        texts = None if text is None else [text]
        return {name: float(score) for name, score in self([prompt], tensor[None], texts, answers).items()}
