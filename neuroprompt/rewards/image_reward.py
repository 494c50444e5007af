"""ImageReward (Xu et al. 2023, arXiv 2304.05977): which picture people prefer for a prompt, with a BLIP.

Its vision transformer encodes the picture, its text encoder reads the prompt while attending to the picture, and a
stack of linear layers turns the first token into a score, which is shifted and scaled to mean 0 and deviation 1 over
the authors' data: about -2 to 2.

The authors' package (image-reward 1.5) does not import with `transformers` 5, so their checkpoint is loaded into the
BLIP of `transformers` here. It is published as a pickle and read with `weights_only=True`, which builds tensors and
plain containers and refuses anything else, so the file can run no code.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from neuroprompt.models import ModelError, check_weights, reporting
from neuroprompt.policies import load_tokenizer

from .encoders import Encoders
from .loading import PROBE, fingerprint, read_weights, weights_file
from .preprocessing import Preprocessing, check_batch

MODEL = "THUDM/ImageReward"
FILE = "ImageReward.pt"
TOKENIZER = "google-bert/bert-base-uncased"
WINDOW = 35  # tokens of a prompt
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
HEAD_SIZE = 64  # of every attention head, in either tower

# From the authors' names to transformers', in order.
_VISION_NAMES = [
    ("cls_token", "embeddings.class_embedding"),
    ("pos_embed", "embeddings.position_embedding"),
    ("patch_embed.proj", "embeddings.patch_embedding"),
    ("blocks", "encoder.layers"),
    ("attn.proj", "self_attn.projection"),
    ("attn", "self_attn"),
    ("norm1", "layer_norm1"),
    ("norm2", "layer_norm2"),
    ("norm", "post_layernorm"),
]


class ImageRewardModel(nn.Module):
    """BLIP's towers and the head, with the sizes that a state dict of the authors' has."""

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        vision, text, head = _split(state)
        patches = vision["embeddings.patch_embedding.weight"]  # (width, 3, patch, patch)
        positions = vision["embeddings.position_embedding"].shape[1] - 1
        self.vision = BlipVisionModel(
            BlipVisionConfig(
                hidden_size=patches.shape[0],
                intermediate_size=vision["encoder.layers.0.mlp.fc1.weight"].shape[0],
                num_hidden_layers=_layers(vision, "encoder.layers"),
                num_attention_heads=patches.shape[0] // HEAD_SIZE,
                image_size=round(positions**0.5) * patches.shape[-1],
                patch_size=patches.shape[-1],
                layer_norm_eps=1e-6,
            )
        )
        words = text["embeddings.word_embeddings.weight"]
        self.text = BlipTextModel(
            BlipTextConfig(
                vocab_size=words.shape[0],
                hidden_size=words.shape[1],
                encoder_hidden_size=patches.shape[0],
                intermediate_size=text["encoder.layer.0.intermediate.dense.weight"].shape[0],
                num_hidden_layers=_layers(text, "encoder.layer"),
                num_attention_heads=words.shape[1] // HEAD_SIZE,
                max_position_embeddings=text["embeddings.position_embeddings.weight"].shape[0],
            ),
            add_pooling_layer=False,
        )
        sizes = [words.shape[1], 1024, 128, 64, 16, 1]
        # The numbers are those of the authors' layers, with dropout between the first ones.
        self.head = nn.ModuleDict(
            {number: nn.Linear(a, b) for number, a, b in zip("02467", sizes[:-1], sizes[1:], strict=True)}
        )
        self.vision.load_state_dict(vision)
        self.text.load_state_dict(text)
        self.head.load_state_dict(head)

    def forward(self, ids: Tensor, mask: Tensor, pixels: Tensor) -> Tensor:
        """Scores (n,) of pixels (n, 3, size, size) for token ids and mask (n, length)."""
        seen = self.vision(pixel_values=pixels).last_hidden_state  # (n, patches + 1, width)
        read = self.text(input_ids=ids, attention_mask=mask, encoder_hidden_states=seen).last_hidden_state
        value = read[:, 0].float()
        for layer in self.head.values():
            value = layer(value)
        return (value.squeeze(-1) - MEAN) / DEVIATION


class ImageRewardV1:
    """ImageReward-v1.0; the model is on its device, its towers in its dtype and the head in float32."""

    def __init__(self, model: ImageRewardModel, tokenizer, device: torch.device, dtype: torch.dtype):
        self.name = "image_reward"
        self.model = model.eval().requires_grad_(False).to(device)
        self.model.vision.to(dtype)
        self.model.text.to(dtype)
        self.tokenizer = tokenizer
        self.device, self.dtype = device, dtype
        size = model.vision.config.image_size
        self.preprocessing = Preprocessing(size, size, tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD))

    @cached_property
    def fingerprint(self) -> str:
        tokens = self.tokenizer(PROBE)["input_ids"]
        return fingerprint(self.model, self.name, self.dtype, self.preprocessing, tokens)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], images: Tensor) -> Tensor:
        """Scores (n,), float32, of pictures (n, 3, H, W) in [0, 1] for a prompt each; one forward for all.

        Raises:
            ValueError: The shapes or values are not those (see `check_batch`).
        """
        check_batch(prompts, images)
        if not len(images):
            return torch.zeros(0, device=self.device)
        tokens = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=WINDOW, return_tensors="pt"
        ).to(self.device)
        pixels = self.preprocessing(images.to(self.device)).to(self.dtype)
        return self.model(tokens["input_ids"], tokens["attention_mask"], pixels)


def load(model: str | Path | None, encoders: Encoders, tokenizer: str = TOKENIZER) -> ImageRewardV1:
    """Load ImageReward.

    Args:
        model: The checkpoint (.pt or .safetensors), or a folder or hub repository that holds ImageReward.pt; the
            authors' by default.
        tokenizer: A folder or hub id of BERT's tokenizer.
    """
    model = model or MODEL
    with reporting(f"ImageReward from {str(model)!r}"):
        towers = ImageRewardModel(read_weights(weights_file(model, FILE)))
        reward = ImageRewardV1(towers, load_tokenizer(tokenizer), encoders.device, encoders.dtype)
        check_weights(f"ImageReward from {str(model)!r}", reward.model)
        return reward


def _split(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The authors' state dict as those of the vision tower, the text tower and the head, in transformers' names."""
    vision, text, head = {}, {}, {}
    for name, tensor in state.items():
        if (rest := name.removeprefix("blip.visual_encoder.")) != name:
            for old, new in _VISION_NAMES:
                rest = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", new, rest)
            vision[rest] = tensor
        elif (rest := name.removeprefix("blip.text_encoder.")) != name:
            if not rest.endswith("position_ids"):  # a buffer that is a range
                text[rest] = tensor
        elif (rest := name.removeprefix("mlp.layers.")) != name:
            head[rest] = tensor
        elif not name.startswith(("blip.vision_proj.", "blip.text_proj.")):  # of BLIP's pre-training, not used
            raise ModelError(f"this is no ImageReward checkpoint: it holds {name}")
    if not (vision and text and head):
        raise ModelError("this is no ImageReward checkpoint: it lacks blip.visual_encoder, blip.text_encoder or mlp")
    return vision, text, head


def _layers(state: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(int(m.group(1)) for k in state if (m := re.match(rf"{re.escape(prefix)}\.(\d+)\.", k)))
