"""The embedded CLIP: transformers' CLIPModel on 64 x 64 pictures (Radford et al. 2021), trained on renderings.

Its text tower is the text encoder of the embedded Stable Diffusion, as in SD 1.x. First both towers learn for a short
while: without that, the 60 and more padding tokens of a prompt say nothing of it, and the diffusion model is slow to
notice words. Then the text tower learns on with the diffusion model (diffusion.py), which small models gain by. Last
it stays as it is, and the image tower and both projections learn to meet it, as in LiT (Zhai et al. 2022).
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from .autoencoder import to_pixels
from .captions import CommonModifiers, write_caption
from .loop import LoopConfig, fit, load_averaged, pick_device
from .tokenizer import MAX_LENGTH, load_tokenizer

WIDTH = 128


def new_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Towers of width 128 (2 text layers, 4 image layers on patches of 8), with 1.75 million parameters."""
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4, "projection_dim": WIDTH}
    config = CLIPConfig(
        text_config={
            **tower, "num_hidden_layers": 2, "vocab_size": len(tokenizer), "max_position_embeddings": MAX_LENGTH,
            "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**tower, "num_hidden_layers": 4, "image_size": 64, "patch_size": 8},
        projection_dim=WIDTH,
    )  # fmt: skip
    # The fused attention kernel's bf16 backward is several times slower than plain products on CPUs.
    config._attn_implementation = "eager"
    return CLIPModel(config)


def image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


class Renderings:
    """The renderings of a folder with their captions and tokens.

    Attributes:
        images: uint8 memmap (n, 64, 64, 3). rows: what is known of each (pictures.make_renderings).
        train: indices to learn from. heldout: indices of subject and style pairs never trained on.
    """

    def __init__(self, data: Path):
        self.images = np.load(data / "images.npy", mmap_mode="r")
        table = pd.read_parquet(data / "renderings.parquet")
        table["phrases"] = [json.loads(p) for p in table.phrases]
        self.rows = table.to_dict("records")
        self.train = np.flatnonzero(table.split == "train")
        self.heldout = np.flatnonzero(table.split == "heldout")
        self.common = CommonModifiers.load(data / "common_modifiers.json")
        self.tokenizer = load_tokenizer(data / "tokenizer")
        # split -> subject -> indices
        self.by_subject = {
            split: {subject: rows.index.to_numpy() for subject, rows in group.groupby("subject")}
            for split, group in table.groupby("split")
        }

    def captions(self, indices: np.ndarray, rng: np.random.Generator) -> list[str]:
        return [write_caption(self.rows[i], self.common, rng) for i in indices]

    def tokens(self, texts: list[str], device: torch.device | str = "cpu", full: bool = False) -> Tensor:
        """Token ids, (n, length): padded to the longest, or to 77 (`full`), as pipelines do."""
        padding = "max_length" if full else "longest"
        encoded = self.tokenizer(texts, padding=padding, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        return encoded.input_ids.to(device)


def unit_features(model: CLIPModel, images: np.ndarray, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Unit embeddings of uint8 pictures (n, 64, 64, 3) and of token ids (m, length): (n, width) and (m, width)."""
    device = model.device
    image = model.get_image_features(pixel_values=to_pixels(images, device)).pooler_output
    text = model.get_text_features(input_ids=tokens.to(device, non_blocking=True)).pooler_output
    return F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)


def train_clip(
    data: Path,
    out: Path,
    config: LoopConfig,
    device: str = "auto",
    warm_up: Path | None = None,
    diffusion: Path | None = None,
) -> CLIPModel:
    """Contrastive training, from the CLIP in the folder `warm_up`, on the text tower in `diffusion`, left as it is."""
    where = pick_device(device)
    renderings = Renderings(data)
    torch.manual_seed(config.seed)
    model = new_clip(renderings.tokenizer)
    if warm_up:
        load_averaged(model, warm_up)
    if diffusion:
        load_averaged(model.text_model, diffusion, "text_encoder.").requires_grad_(False)
    model.to(where)

    def batch(rng: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        chosen = np.sort(rng.choice(renderings.train, config.batch_size, replace=False))
        return renderings.images[chosen], renderings.tokens(renderings.captions(chosen, rng))

    def loss(batch: tuple[np.ndarray, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        image, text = unit_features(model, *batch)
        scale = model.logit_scale.clamp(max=4.6).exp()
        logits = scale * image @ text.T  # (images, texts)
        labels = torch.arange(len(image), device=where)
        value = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        return value, {"accuracy": (logits.argmax(1) == labels).float().mean(), "scale": scale}

    def report(averaged: nn.Module, path: Path) -> None:
        path.with_suffix(".json").write_text(json.dumps(retrieval(averaged, renderings)) + "\n")

    return fit(model, config, out, batch, loss, report)


@torch.no_grad()
def retrieval(model: CLIPModel, data: Renderings) -> dict[str, float]:
    """Share of held-out renderings (unfiltered, undamaged) whose subject is found among all held-out ones."""
    indices = np.array([i for i in data.heldout if not data.rows[i]["filter"] and data.rows[i]["quality"] != "low"])
    subjects = sorted({data.rows[i]["subject"] for i in indices})
    names = {data.rows[i]["subject"]: data.rows[i]["phrases"][0].lstrip("~") for i in indices}
    image, text = unit_features(model, data.images[indices], data.tokens([names[s] for s in subjects]))
    order = (image @ text.T).argsort(1, descending=True).cpu()
    right = torch.tensor([subjects.index(data.rows[i]["subject"]) for i in indices])
    rank = (order == right[:, None]).float().argmax(1)
    return {
        "subjects": len(subjects), "pictures": len(indices), "top1": (rank < 1).float().mean().item(),
        "top5": (rank < 5).float().mean().item(),
    }  # fmt: skip


def load_clip(data: Renderings, diffusion: Path, folder: Path) -> CLIPModel:
    """The CLIP of the checkpoint folder `folder`, on the text tower of the folder `diffusion`."""
    model = new_clip(data.tokenizer)
    load_averaged(model.text_model, diffusion, "text_encoder.")
    return load_averaged(model, folder)
