"""PickScore (Kirstain et al. 2023, "Pick-a-Pic", arXiv 2305.01569): which picture people prefer for a prompt.

A CLIP ViT-H/14 fine-tuned on half a million choices of users. The score is their equation 1: the cosine of prompt and
picture times the logit scale (exactly 100 for the published weights), so about 15 to 25; a difference of d between two
pictures means that the better one is preferred with probability sigmoid(d).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from neuroprompt.models import locate

from .encoders import EmbeddingReward, Encoders

MODEL = "yuvalkirstain/PickScore_v1"
PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"  # the model's own repository is not said to hold one


class PickScore(EmbeddingReward):
    """The logit scale times the cosine, as `PickScore_v1` and the embedded model have it."""

    @torch.no_grad()
    def score(self, prompts: Sequence[str], embeddings: Tensor) -> Tensor:
        cosines = (self.encoder.encode_texts(prompts) * embeddings).sum(-1)
        return self.encoder.logit_scale * cosines


def load(model: str | Path | None, encoders: Encoders, processor: str | None = None) -> PickScore:
    """Load PickScore.

    Args:
        model: ``embedded``, the folder of a `CLIPModel`, or its hub id; `PickScore_v1` by default.
        processor: Where its tokenizer and image processor are; by default with the model, and for `PickScore_v1`, or a
            folder without them, those of the CLIP that it was trained from, as its authors say.
    """
    model = model or MODEL
    if processor is None:
        folder = Path(locate(model, "pickscore"))
        alone = str(model) == MODEL or (folder.is_dir() and not (folder / "preprocessor_config.json").is_file())
        processor = PROCESSOR if alone else None
    return PickScore("pickscore", encoders.load(model, "pickscore", processor))
