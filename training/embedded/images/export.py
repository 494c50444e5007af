"""The trained models as folders that diffusers and transformers load, in fp16 safetensors."""

import json
import shutil
from pathlib import Path

from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPModel, LlavaForConditionalGeneration, LlavaProcessor

from .clip import WIDTH, Renderings, image_processor, load_clip
from .diffusion import Diffusion, assemble
from .loop import load_averaged, save_weights
from .preferences import AestheticHead


def export(work: Path, output: Path) -> dict[str, int]:
    """Write stable-diffusion/, clip/, pickscore/ and aesthetic/ under `output`; returns the bytes of each.

    Rewards that are not trained yet are left out.
    """
    data = work / "data"
    renderings = Renderings(data)
    diffusion = work / "diffusion"
    model = load_averaged(Diffusion(renderings.tokenizer), diffusion)
    pipeline = assemble(model, data, work / "autoencoder")
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        nn.Module.half(part)
    pipeline.save_pretrained(output / "stable-diffusion")
    _as_float32(output / "stable-diffusion" / "text_encoder" / "config.json")
    if (work / "clip" / "checkpoint.safetensors").is_file():
        _save(load_clip(renderings, diffusion, work / "clip"), output / "clip", renderings)
    if (work / "pickscore" / "checkpoint.safetensors").is_file():
        # Its checkpoint holds all that was trained, which is everything but the logit scale of the CLIP it began from.
        pickscore = load_averaged(load_clip(renderings, diffusion, work / "clip"), work / "pickscore")
        _save(pickscore, output / "pickscore", renderings)
    if (work / "aesthetic" / "checkpoint.safetensors").is_file():
        head = load_averaged(AestheticHead(), work / "aesthetic").half()
        (output / "aesthetic").mkdir(parents=True, exist_ok=True)
        save_file(head.state_dict(), output / "aesthetic" / "model.safetensors")
        config = {"input_size": WIDTH, "hidden_sizes": [256, 128, 64, 16], "image_encoder": "clip", "normalize": True}
        (output / "aesthetic" / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return {
        part.name: sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
        for part in sorted(output.iterdir())
        if part.is_dir()
    }


def restore(exported: Path, work: Path) -> float:
    """The reverse of `export`: checkpoints in `work` to train on from, and the tokenizer, which `work/data` must share.

    AdamW's moments were not exported; they begin anew. Returns the autoencoder's scaling factor.
    """
    tokenizer = work / "data" / "tokenizer"
    shutil.rmtree(tokenizer, ignore_errors=True)
    shutil.copytree(exported / "stable-diffusion" / "tokenizer", tokenizer)
    pipeline = StableDiffusionPipeline.from_pretrained(exported / "stable-diffusion")
    model = Diffusion(pipeline.tokenizer)
    model.unet, model.text_encoder = pipeline.unet, pipeline.text_encoder
    save_weights(model, work / "diffusion")
    (work / "diffusion" / "log.jsonl").write_text('{"restored": true}\n')
    save_weights(pipeline.vae, work / "autoencoder")
    for name in ("clip", "pickscore"):
        save_weights(CLIPModel.from_pretrained(exported / name), work / name)
    head = AestheticHead()
    head.load_state_dict(load_file(exported / "aesthetic" / "model.safetensors"))
    save_weights(head, work / "aesthetic")
    if (exported / "vlm").is_dir():
        LlavaProcessor.from_pretrained(exported / "vlm").save_pretrained(work / "vlm" / "processor")
        save_weights(LlavaForConditionalGeneration.from_pretrained(exported / "vlm"), work / "vlm")
    return pipeline.vae.config.scaling_factor


def _save(model: nn.Module, folder: Path, renderings: Renderings) -> None:
    model.half().save_pretrained(folder)
    renderings.tokenizer.save_pretrained(folder)
    image_processor().save_pretrained(folder)
    _as_float32(folder / "config.json")


def _as_float32(config: Path) -> None:
    """Halves are for the disk: say float32, so that transformers' `dtype="auto"` computes in it."""
    found = json.loads(config.read_text())
    for part in (found, found.get("text_config", {}), found.get("vision_config", {})):
        if "dtype" in part:
            part["dtype"] = "float32"
    config.write_text(json.dumps(found, indent=2) + "\n")
