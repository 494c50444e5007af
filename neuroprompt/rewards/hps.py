"""HPSv2.1 (Wu et al. 2023, "Human Preference Score v2", arXiv 2306.09341): which picture people prefer for a prompt.

open_clip's ViT-H-14 fine-tuned on the authors' comparisons. The score is the cosine of prompt and picture, about 0.2
to 0.35, as their package returns it; their tables show it times 100. Their package (hpsv2 1.2.0) fits the longest side
into the square and adds black bars, on float tensors, unlike open_clip itself; a square picture is only resized.

The weights are published as a pickle, with the state dict under the key ``state_dict``. They are read with
`weights_only=True`, which builds tensors and plain containers and refuses anything else, so the file can run no code.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from neuroprompt.models import reporting

from .encoders import EmbeddingReward, Encoders, OpenClipEncoder
from .loading import weights_file

MODEL = "xswu/HPSv2"
FILE = "HPS_v2.1_compressed.pt"


class HumanPreferenceScore(EmbeddingReward):
    """The cosine of prompt and picture."""

    @torch.no_grad()
    def score(self, prompts: Sequence[str], embeddings: Tensor) -> Tensor:
        return (self.encoder.encode_texts(prompts) * embeddings).sum(-1)


def load(model: str | Path | None, encoders: Encoders, architecture: str = "ViT-H-14") -> HumanPreferenceScore:
    """Load HPSv2.

    Args:
        model: The checkpoint (.pt or .safetensors), or a folder or hub repository that holds HPS_v2.1_compressed.pt;
            the authors' by default.
        architecture: open_clip's name of what the checkpoint is for.
    """
    model = model or MODEL
    with reporting(f"HPSv2 from {str(model)!r}"):
        encoder = OpenClipEncoder.load(architecture, encoders.device, encoders.dtype, weights_file(model, FILE))
    encoder.preprocessing = replace(encoder.preprocessing, mode="longest", eight_bit=False)
    return HumanPreferenceScore("hps", encoder)
