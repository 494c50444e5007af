"""CLIP score (Radford et al. 2021; Hessel et al. 2021): how well a picture shows what the prompt says, as a cosine.

The plain cosine, about 0.1 to 0.4, without Hessel's factor of 2.5 and cut at 0: Promptist's relevance is
min(20 * cosine - 5.6, 0), which is the spec ``clip:20@0.28`` up to a constant. By default OpenAI's ViT-L/14, as there.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .encoders import EmbeddingReward, Encoders

MODEL = "ViT-L-14:openai"


class ClipScore(EmbeddingReward):
    """The cosine of prompt and picture."""

    @torch.no_grad()
    def score(self, prompts: Sequence[str], embeddings: Tensor) -> Tensor:
        return (self.encoder.encode_texts(prompts) * embeddings).sum(-1)


def load(model: str | Path | None, encoders: Encoders) -> ClipScore:
    """Load a CLIP under any name that `Encoders.load` knows; OpenAI's ViT-L/14 by default."""
    return ClipScore("clip", encoders.load(model or MODEL))
