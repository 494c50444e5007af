"""The embedded diffusion model: a UNet2DConditionModel on 16 x 16 x 8 latents and its text encoder, learnt together.

v-prediction (Salimans and Ho 2022) with a zero terminal signal-to-noise ratio (Lin et al. 2024), the loss weight of
min-SNR (Hang et al. 2023), captions dropped one time in ten for guidance (Ho and Salimans 2022), and DPM-Solver++ with
eight steps for drawing (Lu et al. 2022).
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image, ImageDraw
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .autoencoder import LATENT_CHANNELS, new_autoencoder, to_images
from .clip import WIDTH, Renderings, new_clip
from .loop import LoopConfig, fit, load_averaged, pick_device
from .tokenizer import load_tokenizer

STEPS, GUIDANCE = 8, 3.0
SHEET_SUBJECTS = (
    "boy on a horse", "a castle", "robot playing guitar", "a bowl of strawberries", "a cat",
    "an astronaut riding a horse",
    "a red apple", "an owl", "a house", "a sailboat", "portrait of a woman", "a dragon", "a wizard", "a sunflower",
    "a rocket",
    "a landscape", "a dog wearing a top hat", "a hamburger",
)  # fmt: skip
SHEET_STYLES = (
    "", "", "highly detailed, sharp focus, vivid, 8k, masterpiece", "blurry, low quality", "3d render, octane render",
    "flat vector, solid colors", "kawaii, cute, fine outline", "bold cartoon, comic book",
    "black and white silhouette, bold ink",
    "game icon, by lorc", "oil painting", "watercolor", "pencil sketch", "neon, glowing lines",
    "golden hour, warm lighting",
    "at night, starry sky",
)  # fmt: skip


def new_unet() -> UNet2DConditionModel:
    """5.7 million parameters; text is attended to at 8 x 8 and 4 x 4."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # diffusers' name for the number of heads
        # A pooled text embedding joins the time embedding, as in DeepFloyd IF: the subject is learnt much sooner so.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        norm_num_groups=16,
    )


def new_scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        steps_offset=1,
        solver_order=2,
    )


class Diffusion(nn.Module):
    """The UNet and its text encoder."""

    def __init__(self, tokenizer: CLIPTokenizer):
        super().__init__()
        self.unet = new_unet()
        self.text_encoder: CLIPTextModel = new_clip(tokenizer).text_model


def assemble(model: Diffusion, data: Path, autoencoder: Path) -> StableDiffusionPipeline:
    """A StableDiffusionPipeline of this model, the tokenizer in `data`, and the autoencoder in that folder."""
    vae: AutoencoderKL = load_averaged(new_autoencoder(), autoencoder)
    factor = json.loads((data / "latents.json").read_text())["scaling_factor"]
    vae.register_to_config(scaling_factor=factor)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=load_tokenizer(data / "tokenizer"),
        unet=model.unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(model.unet.device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    seeds: list[int],
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    batch_size: int = 48,
) -> np.ndarray:
    """uint8 (n, 64, 64, 3); a picture depends on its prompt and seed, not on its batch."""
    made = []
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds[part]]
        pixels = pipeline(
            prompts[part],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
            height=64,
            width=64,
            output_type="pt",
        ).images
        made.append(to_images(pixels * 2 - 1))
    return np.concatenate(made)


def contact_sheet(
    pipeline: StableDiffusionPipeline, subjects=SHEET_SUBJECTS, styles=SHEET_STYLES, seed: int = 0, zoom: int = 1
) -> Image.Image:
    """Subjects down, styles across; the seed of a picture is its column (seeds are not chosen)."""
    prompts = [", ".join(filter(None, (subject, style))) for subject in subjects for style in styles]
    seeds = [seed + column for _ in subjects for column in range(len(styles))]
    images = draw(pipeline, prompts, seeds)
    cell, left, top = 64 * zoom + 2, 170, 26
    sheet = Image.new("RGB", (left + cell * len(styles), top + cell * len(subjects)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, style in enumerate(styles):
        words = (style or f"(plain, {column + 1})").replace(",", "").split(" ")
        pen.text((left + column * cell, 1), " ".join(words[:2])[:11], fill="black")
        pen.text((left + column * cell, 13), " ".join(words[2:])[:11], fill="black")
    for i, image in enumerate(images):
        row, column = divmod(i, len(styles))
        if column == 0:
            pen.text((3, top + row * cell + 24), subjects[row][:28], fill="black")
        picture = Image.fromarray(image).resize((64 * zoom, 64 * zoom), Image.Resampling.NEAREST)
        sheet.paste(picture, (left + column * cell, top + row * cell))
    return sheet


def train_diffusion(
    data: Path,
    autoencoder: Path,
    warm_up: Path,
    out: Path,
    config: LoopConfig,
    device: str = "auto",
    drop: float = 0.1,
    freeze_text: bool = False,
) -> Diffusion:
    """Train on the latents of the training renderings; captions are written anew each time one is drawn.

    The text encoder begins as that of the CLIP in `warm_up`. With `freeze_text` it stays as the checkpoint has it, so
    that the reward models, which stand on it, can be trained at the same time.
    """
    where = pick_device(device)
    renderings = Renderings(data)
    latents = np.load(data / "latents.npy")
    torch.manual_seed(config.seed)
    model = Diffusion(renderings.tokenizer)
    if not (out / "checkpoint.safetensors").is_file():
        load_averaged(model.text_encoder, warm_up, "text_model.")
    model.to(where)
    model.unet.to(memory_format=torch.channels_last)
    if where.type == "cpu":
        # Plain products: the fused kernel's bf16 backward costs a third of the step on CPUs.
        model.unet.set_attn_processor(AttnProcessor())
    cumulative = new_scheduler().alphas_cumprod.to(where)

    def batch(rng: np.random.Generator) -> tuple[Tensor, ...]:
        chosen = np.sort(rng.choice(renderings.train, config.batch_size))
        captions = renderings.captions(chosen, rng)
        captions = ["" if rng.random() < drop else caption for caption in captions]
        x = torch.from_numpy(latents[chosen])
        noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32))
        # Stratified over the batch, so that each step sees every noise level; the noisy ones, where the words decide
        # what is drawn, more often.
        t = ((np.arange(len(chosen)) + rng.random(len(chosen))) / len(chosen)) ** 0.7 * len(cumulative)
        return renderings.tokens(captions, full=True), x, noise, torch.from_numpy(rng.permutation(t).astype(np.int64))

    def loss(batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        tokens, x, noise, t = (tensor.to(where, non_blocking=True) for tensor in batch)
        text = model.text_encoder(tokens).last_hidden_state
        x = x.float().contiguous(memory_format=torch.channels_last)
        level = cumulative[t][:, None, None, None]
        signal, spread = level.sqrt(), (1 - level).sqrt()
        v = model.unet(signal * x + spread * noise, t, text).sample
        error = (v.float() - (signal * noise - spread * x)).pow(2).mean((1, 2, 3))
        # Min-SNR with gamma 5, on SNR + 1 (the factor between errors in v and in x), so that pure noise still counts.
        ratio = 1 / (1 - cumulative[t])
        weight = ratio.clamp(max=6) / ratio
        return (weight * error).mean(), {"error": error.mean()}

    pipeline = assemble(model, data, autoencoder)

    def sheet(averaged: nn.Module, path: Path) -> None:
        with torch.autocast(where.type, enabled=False):
            contact_sheet(pipeline).save(path)

    return fit(model, config, out, batch, loss, sheet, frozen="text_encoder." if freeze_text else None)
