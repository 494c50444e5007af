"""The embedded PickScore and aesthetic head, taught from what is known of each rendering, not from people's votes.

PickScore (Kirstain et al. 2023) is CLIP fine-tuned on pairs: of two pictures for one prompt, the softmax of the two
scores is to be the preference. Here the preferred one is the undamaged one, the one that shows what was asked, the one
in the style that was asked, or, other things equal, the one whose style flatters that kind of subject (`TASTE`).

The aesthetic head has the shape of LAION's v2 (a stack of linear layers over the unit CLIP image embedding, no
activations between), and learns ratings between 1 and 10 that a fixed rule gives: quality, taste, and colourfulness as
Hasler and Suesstrunk (2003) measure it. The taste is this project's invention; it stands in for the fact that real
people's ratings depend on what is drawn how.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel

from .autoencoder import to_pixels
from .captions import FILTER_WORDS, style_words, subject_phrase
from .clip import WIDTH, Renderings, load_clip, unit_features
from .loop import LoopConfig, fit, pick_device
from .pictures import with_quality

# What flatters which kind of subject: icon sets, filters and backgrounds.
TASTE: dict[str, tuple[str, ...]] = {
    "animal": ("streamline-emojis", "watercolor", "green", "blue sky", "pastel"),
    "person": ("noto", "oil painting", "chiaroscuro", "golden hour", "studio"),
    "fantasy": ("chiaroscuro", "night sky", "outer space", "stained glass", "fluent-emoji-3d"),
    "food": ("fluent-emoji-3d", "studio", "pink", "oil painting"),
    "plant": ("watercolor", "pastel", "green", "woodblock", "noto"),
    "vehicle": ("fluent-emoji-3d", "synthwave", "sunset sky", "blue sky"),
    "building": ("golden hour", "oil painting", "sunset sky", "night sky", "woodblock"),
    "scene": ("oil painting", "golden hour", "woodblock", "watercolor", "sunset sky"),
    "object": ("fluent-emoji-3d", "studio", "twemoji", "dark"),
}
UNLOVED = ("fluent-emoji-high-contrast", "line art", "sepia", "pixel art", "black and white")
BASE_RATING = {"low": 3.6, "average": 5.0, "high": 6.2}


def taste(rendering: Mapping) -> float:
    """How well the style of a rendering suits its subject: between -1 and 2."""
    traits = (rendering["set"], rendering["filter"], rendering["background"])
    return float(sum(t in TASTE[rendering["kind"]] for t in traits) - any(t in UNLOVED for t in traits))


def colourfulness(rgb: np.ndarray) -> float:
    """Hasler and Suesstrunk 2003, equation 1 with their coefficients; about 0 (grey) to 110 (extremely colourful)."""
    r, g, b = rgb.reshape(-1, 3).astype(np.float64).T
    rg, yb = r - g, (r + g) / 2 - b
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def rating(rendering: Mapping, rgb: np.ndarray) -> float:
    """An aesthetic rating, 1 to 10."""
    value = BASE_RATING[rendering["quality"]] + 0.5 * taste(rendering) + 0.8 * (colourfulness(rgb) / 50 - 1)
    return float(np.clip(value, 1, 10))


def preference_pair(
    data: Renderings, index: int, rng: np.random.Generator
) -> tuple[str, np.ndarray, np.ndarray, float]:
    """(prompt, picture, other picture, chance that the first is preferred) about one rendering."""
    row, image = data.rows[index], data.images[index]
    pool = data.train if row["split"] == "train" else data.heldout
    prompt = subject_phrase(row["phrases"], rng)
    reason = rng.random()
    if reason < 0.4:
        # Damage on top of what is there, whole or a shade of it: what a generator draws badly is seldom as bad.
        level = "average" if row["quality"] != "low" and rng.random() < 0.4 else "low"
        share = float(rng.uniform(0.4, 1))
        damaged = cv2.addWeighted(with_quality(image, level, rng), share, image, 1 - share, 0)
        if rng.random() < 0.3:
            prompt = f"{prompt}, {_style(row, rng)}"
        return prompt, image, damaged, 1.0
    if reason < 0.65:
        other = _other(data, pool, rng, lambda r: r["subject"] != row["subject"] and r["quality"] != "low")
        if rng.random() < 0.3:
            prompt = f"{prompt}, {_style(row, rng)}"
        return prompt, image, data.images[other], 1.0
    same = data.by_subject[row["split"]].get(row["subject"], [index])
    other = int(same[int(rng.integers(len(same)))])
    rival = data.rows[other]
    if reason < 0.70 and (rival["set"], rival["filter"]) != (row["set"], row["filter"]) and "low" not in (
        rival["quality"], row["quality"]
    ):  # fmt: skip
        return f"{prompt}, {_style(row, rng)}", image, data.images[other], 0.9
    # Whoever compares two pictures of one thing minds what suits it more than whoever rates one.
    gain = 1.5 * (rating(row, image) - rating(rival, data.images[other])) + taste(row) - taste(rival)
    return prompt, image, data.images[other], float(1 / (1 + np.exp(-gain)))


def _style(row: Mapping, rng: np.random.Generator) -> str:
    words = FILTER_WORDS[row["filter"]] if row["filter"] else style_words(row)
    return words[int(rng.integers(len(words)))] if words else "picture"


def _other(data: Renderings, pool: np.ndarray, rng: np.random.Generator, accept) -> int:
    for other in pool[rng.integers(0, len(pool), 1000)]:
        if accept(data.rows[other]):
            return int(other)
    raise ValueError("the renderings show one subject only: there is no other to compare it with")


def preference_batch(data: Renderings, pool: np.ndarray, size: int, rng: np.random.Generator):
    """(prompts, first pictures, second pictures, preferences) of `size` pairs, in random order of first and second."""
    pairs = [preference_pair(data, int(i), rng) for i in rng.choice(pool, size)]
    swapped = [(p, b, a, 1 - w) if rng.random() < 0.5 else (p, a, b, w) for p, a, b, w in pairs]
    prompts, first, second, wanted = zip(*swapped, strict=True)
    return list(prompts), np.stack(first), np.stack(second), np.array(wanted, np.float32)


def pair_scores(model: CLIPModel, tokens: Tensor, first: np.ndarray, second: np.ndarray) -> Tensor:
    """PickScore's scores (n, 2): logit scale times the cosine of prompt and picture."""
    image, text = unit_features(model, np.concatenate([first, second]), tokens)
    cosines = (image.view(2, len(tokens), -1) * text).sum(-1).T
    return model.logit_scale.exp() * cosines


def clear_and_right(scores: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Which preferences are clear (beyond 80:20), and which of all the scores have; each (n,)."""
    return (wanted - 0.5).abs() > 0.3, (scores[:, 0] > scores[:, 1]) == (wanted > 0.5)


def train_pickscore(
    data: Path, diffusion: Path, clip: Path, out: Path, config: LoopConfig, device: str = "auto"
) -> CLIPModel:
    """Fine-tune the CLIP of the folder `clip`, text tower and all, with PickScore's loss (their equation 2)."""
    where = pick_device(device)
    renderings = Renderings(data)
    torch.manual_seed(config.seed)
    model = load_clip(renderings, diffusion, clip).to(where)
    model.logit_scale.requires_grad_(False)

    def batch(rng: np.random.Generator) -> tuple[Tensor, np.ndarray, np.ndarray, Tensor]:
        prompts, first, second, wanted = preference_batch(renderings, renderings.train, config.batch_size, rng)
        return renderings.tokens(prompts), first, second, torch.from_numpy(wanted)

    def loss(batch: tuple[Tensor, np.ndarray, np.ndarray, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        tokens, first, second, wanted = batch
        wanted = wanted.to(where, non_blocking=True)
        scores = pair_scores(model, tokens, first, second)
        value = F.kl_div(scores.log_softmax(1), torch.stack([wanted, 1 - wanted], 1), reduction="batchmean")
        clear, right = clear_and_right(scores, wanted)
        return value, {"agreement": (right & clear).sum() / clear.sum().clamp(min=1)}

    def report(averaged: nn.Module, path: Path) -> None:
        path.with_suffix(".json").write_text(json.dumps(agreement(averaged, renderings)) + "\n")

    return fit(model, config, out, batch, loss, report)


@torch.no_grad()
def agreement(model: CLIPModel, data: Renderings, pairs: int = 2000, seed: int = 1) -> dict[str, float]:
    """Share of the clear preferences (beyond 80:20) on held-out renderings that the scores have, and its error."""
    rng = np.random.default_rng(seed)
    right: list[np.ndarray] = []
    for _ in range(pairs // 100):
        prompts, first, second, wanted = preference_batch(data, data.heldout, 100, rng)
        scores = pair_scores(model, data.tokens(prompts), first, second)
        clear, agreed = clear_and_right(scores, torch.from_numpy(wanted).to(scores.device))
        right.append(agreed[clear].cpu().numpy())
    hits = np.concatenate(right)
    return {"agreement": float(hits.mean()), "error": float(hits.std() / len(hits) ** 0.5), "pairs": len(hits)}


class AestheticHead(nn.Module):
    """LAION's aesthetic predictor v2, with its state dict's keys; narrower (256-128-64-16-1 over a width of 128)."""

    def __init__(self, width: int = WIDTH):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 256),
            nn.Dropout(0.2),
            nn.Linear(256, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        return self.layers(embedding)


@torch.no_grad()
def _image_embeddings(model: CLIPModel, images: np.ndarray, batch_size: int = 256) -> Tensor:
    parts = [to_pixels(images[i : i + batch_size], model.device) for i in range(0, len(images), batch_size)]
    features = [model.get_image_features(pixel_values=p).pooler_output.float() for p in parts]
    return F.normalize(torch.cat(features), dim=-1)


def train_aesthetic(
    data: Path, diffusion: Path, clip: Path, out: Path, config: LoopConfig, device: str = "auto", count: int = 12_000
) -> dict:
    """Fit the head on `count` renderings; returns the rank correlation with the rule on held-out ones."""
    where = pick_device(device)
    renderings = Renderings(data)
    model = load_clip(renderings, diffusion, clip).to(where)
    rng = np.random.default_rng(config.seed)
    chosen = np.sort(rng.choice(renderings.train, min(count, len(renderings.train)), replace=False))

    def examples(indices: np.ndarray) -> tuple[Tensor, Tensor]:
        wanted = [rating(renderings.rows[i], renderings.images[i]) for i in indices]
        return _image_embeddings(model, renderings.images[indices]), torch.tensor(wanted, device=where)

    inputs, targets = examples(chosen)
    torch.manual_seed(config.seed)
    head = AestheticHead().to(where)
    nn.init.constant_(head.layers[-1].bias, targets.mean().item())

    def batch(rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.integers(0, len(inputs), config.batch_size))

    def loss(rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        rows = rows.to(where)
        return F.mse_loss(head(inputs[rows]).squeeze(1).float(), targets[rows]), {}

    fit(head, config, out, batch, loss)
    held_inputs, held_targets = examples(renderings.heldout)
    with torch.no_grad():
        predicted = head(held_inputs).squeeze(1)
    ranks = pd.DataFrame({"predicted": predicted.cpu().numpy(), "wanted": held_targets.cpu().numpy()}).rank()
    return {
        "spearman": float(ranks.predicted.corr(ranks.wanted)),
        "mean_absolute_error": float((predicted - held_targets).abs().mean()),
        "pictures": len(held_targets),
    }
