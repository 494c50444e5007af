"""The embedded autoencoder: diffusers' AutoencoderKL, 64 x 64 pixels to 16 x 16 x 8 latents (Rombach et al. 2022).

L1 and edge losses with a light KL term; no adversary, for pictures this plain do not need one.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from neuroprompt.models import has_bfloat16

from .loop import LoopConfig, fit, load_averaged, pick_device

LATENT_CHANNELS = 8


def new_autoencoder() -> AutoencoderKL:
    blocks = (16, 32, 64)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(blocks),
        up_block_types=("UpDecoderBlock2D",) * len(blocks),
        block_out_channels=blocks,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        # Few groups: with one channel a group, normalisation would take each picture's colour away.
        norm_num_groups=4,
        sample_size=64,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def to_pixels(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (n, h, w, 3) -> float (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_images(pixels: Tensor) -> np.ndarray:
    """float (n, 3, h, w) in [-1, 1] -> uint8 (n, h, w, 3)."""
    return pixels.float().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def train_autoencoder(data: Path, out: Path, config: LoopConfig, device: str = "auto") -> AutoencoderKL:
    """Train on every rendering in `data` (pictures.make_renderings)."""
    where = pick_device(device)
    images = np.load(data / "images.npy", mmap_mode="r")
    torch.manual_seed(config.seed)
    model = new_autoencoder().to(where)

    def batch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        chosen = np.sort(rng.integers(0, len(images), config.batch_size))
        return images[chosen], rng.standard_normal((len(chosen), LATENT_CHANNELS, 16, 16), np.float32)

    def loss(batch: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, dict[str, Tensor]]:
        x, noise = to_pixels(batch[0], where), torch.from_numpy(batch[1]).to(where)
        posterior = model.encode(x).latent_dist
        y = model.decode(posterior.mean + posterior.std * noise).sample.float()
        edges = sum(F.l1_loss(a, b) for a, b in zip(_edges(y), _edges(x), strict=True))
        squared = F.mse_loss(y, x)
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).float().mean()
        value = F.l1_loss(y, x) + squared + 0.5 * edges + 3e-4 * kl
        return value, {"psnr": 10 * (4 / squared.clamp(min=1e-9)).log10(), "kl": kl}

    rows = np.linspace(0, len(images) - 1, 24).astype(int)

    def sheet(averaged: nn.Module, path: Path) -> None:
        x = to_pixels(images[rows], where)
        y = averaged.decode(averaged.encode(x).latent_dist.mean).sample
        pairs = np.concatenate([to_images(x), to_images(y)], 1)  # (24, 128, 64, 3)
        Image.fromarray(np.concatenate(list(pairs), 1)).save(path)

    return fit(model, config, out, batch, loss, sheet)


@torch.no_grad()
def encode_all(
    data: Path, autoencoder: Path, out: Path, device: str = "auto", batch_size: int = 128, factor: float | None = None
) -> float:
    """Latents of every rendering to `out` (float16 memmap, (n, 8, 16, 16)), times the scaling factor.

    Returns that factor for the pipeline's config: `factor`, or one over the latents' standard deviation.
    """
    where = pick_device(device)
    model = load_averaged(new_autoencoder(), autoencoder).to(where)
    images = np.load(data / "images.npy", mmap_mode="r")
    encode = lambda rows: model.encode(to_pixels(images[rows], where)).latent_dist.mean.float()  # noqa: E731
    sample = np.sort(np.random.default_rng(0).choice(len(images), min(2048, len(images)), replace=False))
    factor = factor or round(1 / torch.cat([encode(rows) for rows in np.array_split(sample, 16)]).std().item(), 4)
    part = out.with_suffix(".part")
    latents = np.lib.format.open_memmap(part, "w+", np.float16, (len(images), LATENT_CHANNELS, 16, 16))
    for start in range(0, len(images), batch_size):
        rows = np.arange(start, min(start + batch_size, len(images)))
        with torch.autocast(where.type, torch.bfloat16, enabled=has_bfloat16(where)):
            latents[rows] = (encode(rows) * factor).cpu().numpy().astype(np.float16)
    latents.flush()
    part.replace(out)
    out.with_suffix(".json").write_text(f'{{"scaling_factor": {factor}}}\n')
    return factor
