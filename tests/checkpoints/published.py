"""Everything that the configs, the README and the documents name, tiny and random, under its published name.

    with Hub(published(folder)) as hub:     # HF_ENDPOINT=hub.url

A repository holds what the real one holds, pickles beside safetensors included, so that what is fetched here is what
would be fetched there. open_clip has its architectures in the package and not in the checkpoints: `tiny_open_clip`
makes those small that the checkpoints here are for.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import open_clip

from tests.checkpoints import datasets, diffusion, policies, rewards, vision_language

WIDTHS = {"ViT-B-32": 512, "ViT-L-14": 768, "ViT-H-14": 1024}  # of the embeddings, which heads are made for


def _stable_diffusion(folder: Path) -> Path:
    diffusion.stable_diffusion(folder)
    for pickle in ("v1-5-pruned.ckpt", "unet/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.bin"):
        (folder / pickle).write_bytes(b"a pickle that nobody fetches")
    return folder


def _clip_h(folder: Path) -> Path:
    """Processor and tokenizer, and the model both as transformers and as open_clip have it."""
    rewards.open_clip_folder(folder)
    return rewards.clip_model(folder)


def _open_clip_weights(architecture: str, folder: Path) -> Path:
    """open_clip_model.safetensors alone, as timm's copies of OpenAI's weights."""
    return rewards.open_clip_folder(folder, width=WIDTHS[architecture])


MODELS: dict[str, Callable[[Path], Path]] = {
    "openai-community/gpt2": policies.gpt2,
    "HuggingFaceTB/SmolLM2-135M": policies.smollm2,
    "HuggingFaceTB/SmolLM2-135M-Instruct": policies.smollm2_instruct,
    "Qwen/Qwen2.5-1.5B-Instruct": policies.qwen2_instruct,
    "Qwen/Qwen3-0.6B": policies.qwen3,
    "microsoft/Promptist": partial(policies.gpt2, pickled=True, tokenizer=False),
    "Gustavosta/MagicPrompt-Stable-Diffusion": partial(policies.gpt2, pickled=True),
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _stable_diffusion,
    "stabilityai/sdxl-turbo": partial(diffusion.stable_diffusion_xl, variant="fp16", levels=7),
    "stabilityai/sd-turbo": partial(diffusion.stable_diffusion_2, levels=7),
    "stabilityai/stable-diffusion-3.5-large-turbo": diffusion.stable_diffusion_3,
    "yuvalkirstain/PickScore_v1": rewards.clip_weights,
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": _clip_h,
    "timm/vit_large_patch14_clip_224.openai": partial(_open_clip_weights, "ViT-L-14"),
    "timm/vit_base_patch32_clip_224.openai": partial(_open_clip_weights, "ViT-B-32"),
    "trl-lib/ddpo-aesthetic-predictor": lambda folder: rewards.laion_v2_head(folder / "aesthetic-model.pth", 768),
    "xswu/HPSv2": lambda folder: rewards.hps_checkpoint(folder / "HPS_v2.1_compressed.pt", width=WIDTHS["ViT-H-14"]),
    "THUDM/ImageReward": lambda folder: rewards.image_reward_checkpoint(folder / "ImageReward.pt"),
    "Qwen/Qwen3-VL-4B-Instruct": vision_language.qwen3_vl,
    "google-bert/bert-base-uncased": rewards.image_reward_tokenizer,
}
DATASETS: dict[str, Callable[[Path], Path]] = {
    "poloclub/diffusiondb": datasets.diffusiondb,
    "Gustavosta/Stable-Diffusion-Prompts": datasets.stable_diffusion_prompts,
    "nateraw/parti-prompts": datasets.parti_prompts,
    "sayakpaul/drawbench": datasets.draw_bench,
    "zhwang/HPDv2": datasets.hpd_benchmark,
    "phiyodr/coco2017": datasets.coco_captions,
}


def published(folder: Path) -> Path:
    """Write all of them into `folder`, as `tests.checkpoints.hub.Hub` serves them."""
    for kind, repositories in (("models", MODELS), ("datasets", DATASETS)):
        for name, build in repositories.items():
            (folder / kind / name).mkdir(parents=True, exist_ok=True)
            build(folder / kind / name)
    return folder


def tiny_open_clip(folder: Path) -> None:
    """Make open_clip's architectures those of the tiny checkpoints, under their own names, in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, width in WIDTHS.items():
        (folder / f"{name}.json").write_text(json.dumps(rewards.OPEN_CLIP_CONFIG | {"embed_dim": width}))
    open_clip.add_model_config(folder)
