"""Tiny random checkpoints of reward models, in the layouts that the model hub has them in."""

import json
import re
import shutil
from pathlib import Path

import open_clip
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel

from neuroprompt.models import locate

OPEN_CLIP_CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def clip_model(folder: Path, image_size: int = 32, seed: int = 0) -> Path:
    """A `CLIPModel` and its processor, as openai/clip-vit-large-patch14 is."""
    return clip_processor(clip_weights(folder, image_size, seed), image_size)


def clip_weights(folder: Path, image_size: int = 32, seed: int = 0) -> Path:
    """config.json and model.safetensors alone, as yuvalkirstain/PickScore_v1; its end token is the wrong 2 of old
    configs, and its logit scale 100."""
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(locate("embedded", "clip"))
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=tower | {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
        vision_config=tower | {"image_size": image_size, "patch_size": 8},
        projection_dim=24,
        logit_scale_init_value=4.6052,
    )
    model = CLIPModel(config)
    spread(model)
    model.save_pretrained(folder)
    return Path(folder)


def clip_processor(folder: Path, image_size: int = 32) -> Path:
    """Tokenizer and image processor alone."""
    AutoTokenizer.from_pretrained(locate("embedded", "clip")).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
    ).save_pretrained(folder)
    return Path(folder)


def open_clip_folder(folder: Path, seed: int = 0, resize_mode: str = "shortest", width: int = 24) -> Path:
    """open_clip_config.json and open_clip_model.safetensors, as laion/CLIP-ViT-H-14-laion2B-s32B-b79K has them."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": resize_mode,
    }
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": OPEN_CLIP_CONFIG | {"embed_dim": width}, "preprocess_cfg": preprocess})
    )
    save_file(open_clip_state(seed, width), folder / "open_clip_model.safetensors")
    return folder


def open_clip_state(seed: int = 0, width: int = 24) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    model = open_clip.CLIP(**OPEN_CLIP_CONFIG | {"embed_dim": width})
    spread(model)
    return {k: v.contiguous() for k, v in model.state_dict().items()}


def open_clip_architecture(folder: Path, name: str) -> str:
    """Make the tiny architecture known to open_clip under `name`, as its own configs are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(OPEN_CLIP_CONFIG))
    open_clip.add_model_config(folder / f"{name}.json")
    return name


def hps_checkpoint(file: Path, seed: int = 0, width: int = 24) -> Path:
    """A training checkpoint, as HPS_v2.1_compressed.pt."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 1, "name": "ViT-H-14", "state_dict": open_clip_state(seed, width)}, file)
    return file


def laion_v2_head(file: Path, width: int = 24) -> Path:
    """As sac+logos+ava1-l14-linearMSE.pth."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sizes = [width, 1024, 128, 64, 16, 1]
    layers = {f"layers.{n}": nn.Linear(a, b) for n, a, b in zip("02467", sizes[:-1], sizes[1:], strict=True)}
    torch.save({f"{n}.{part}": v for n, layer in layers.items() for part, v in layer.state_dict().items()}, file)
    return file


def laion_v1_head(file: Path, width: int = 24) -> Path:
    """As sa_0_4_vit_l_14_linear.pth."""
    torch.save(nn.Linear(width, 1).state_dict(), file)
    return file


def image_reward_checkpoint(file: Path) -> Path:
    """As ImageReward.pt."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(image_reward_state(), file)
    return file


def image_reward_state(seed: int = 0) -> dict[str, Tensor]:
    """The names and shapes of ImageReward.pt, with a vision tower of 128, a text tower of 64 and two layers each."""
    torch.manual_seed(seed)
    vision, text, inner = 128, 64, 96
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, width: int, out: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, width), (out,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (width,), (width,)

    root = "blip.visual_encoder"
    shapes[f"{root}.cls_token"] = (1, 1, vision)
    shapes[f"{root}.pos_embed"] = (1, 5, vision)
    shapes[f"{root}.patch_embed.proj.weight"], shapes[f"{root}.patch_embed.proj.bias"] = (vision, 3, 16, 16), (vision,)
    for i in range(2):
        block = f"{root}.blocks.{i}"
        norm(f"{block}.norm1", vision)
        linear(f"{block}.attn.qkv", vision, 3 * vision)
        linear(f"{block}.attn.proj", vision, vision)
        norm(f"{block}.norm2", vision)
        linear(f"{block}.mlp.fc1", vision, inner)
        linear(f"{block}.mlp.fc2", inner, vision)
    norm(f"{root}.norm", vision)
    root = "blip.text_encoder"
    shapes[f"{root}.embeddings.word_embeddings.weight"] = (60, text)
    shapes[f"{root}.embeddings.position_embeddings.weight"] = (40, text)
    norm(f"{root}.embeddings.LayerNorm", text)
    for i in range(2):
        layer = f"{root}.encoder.layer.{i}"
        for attention, seen in (("attention", text), ("crossattention", vision)):
            linear(f"{layer}.{attention}.self.query", text, text)
            linear(f"{layer}.{attention}.self.key", seen, text)
            linear(f"{layer}.{attention}.self.value", seen, text)
            linear(f"{layer}.{attention}.output.dense", text, text)
            norm(f"{layer}.{attention}.output.LayerNorm", text)
        linear(f"{layer}.intermediate.dense", text, inner)
        linear(f"{layer}.output.dense", inner, text)
        norm(f"{layer}.output.LayerNorm", text)
    linear("blip.vision_proj", vision, 256)
    linear("blip.text_proj", text, 256)
    for number, a, b in zip("02467", (text, 1024, 128, 64, 16), (1024, 128, 64, 16, 1), strict=True):
        linear(f"mlp.layers.{number}", a, b)
    state = {name: 0.15 * torch.randn(shape) for name, shape in shapes.items()}
    for name in state:
        if re.search(r"(norm\d?|LayerNorm)\.weight$", name):
            state[name] += 1
    return state | {"blip.text_encoder.embeddings.position_ids": torch.arange(40)[None]}


def image_reward_tokenizer(folder: Path) -> Path:
    """A BERT tokenizer of 60 words, as google-bert/bert-base-uncased."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"a boy on the horse cat dog , castle red in of".split()]
    (folder / "vocab.txt").write_text("\n".join(words + [f"w{i}" for i in range(60 - len(words))]) + "\n")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder


def as_hub_repository(cache: Path, name: str, source: Path) -> None:
    """Put a folder into a cache of the hub as the repository `name`, as if it had been downloaded."""
    revision = "0" * 40
    root = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(source, root / "snapshots" / revision)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(revision)


def use_hub_cache(monkeypatch, cache: Path) -> Path:
    """Let the hub's libraries find their downloads in `cache`."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def spread(model: nn.Module) -> None:
    """Weights large enough that scores differ between pictures and between prompts."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
            elif name.endswith("bias"):
                parameter.normal_(std=0.02)
