"""How far tensor preparation is from Pillow's, in 8-bit levels and in scores; `python -m tests.rewards.agreement`
prints the tables of docs/rewards.md."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import center_crop
from transformers import (
    BlipImageProcessor,
    BlipImageProcessorPil,
    CLIPImageProcessor,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    Idefics3ImageProcessor,
    Idefics3ImageProcessorPil,
    Qwen2VLImageProcessor,
    Qwen2VLImageProcessorPil,
)

from neuroprompt.models import locate
from neuroprompt.rewards import load_reward
from neuroprompt.rewards.preprocessing import Preprocessing, to_bytes
from tests.rewards.pictures import KINDS, as_tensor

SIZES = [(64, 64), (512, 512), (768, 512)]
SIDES = [64, 224]
# A vision-language model's own processor, the one that works with Pillow, and its settings.
PROCESSORS = {
    "LLaVA": (CLIPImageProcessor, CLIPImageProcessorPil, {"size": {"shortest_edge": 336}, "crop_size": 336}),
    "BLIP": (BlipImageProcessor, BlipImageProcessorPil, {}),
    "Qwen2-VL": (Qwen2VLImageProcessor, Qwen2VLImageProcessorPil, {}),
    "SmolVLM": (Idefics3ImageProcessor, Idefics3ImageProcessorPil, {}),
}


def settings(side: int) -> dict:
    """Of an image processor that does not normalise, so that pixels can be compared."""
    crop = {"height": side, "width": side}
    return {"size": {"shortest_edge": side}, "crop_size": crop, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}


def pixel_differences(
    arrays: list[np.ndarray], side: int, prepare: Callable[[Tensor], Tensor] | None = None
) -> tuple[float, float]:
    """(mean, greatest) difference in levels between `prepare` and the Pillow processor of transformers."""
    theirs = CLIPImageProcessorPil(**settings(side))([Image.fromarray(a) for a in arrays], return_tensors="pt")
    prepare = prepare or Preprocessing.of_transformers(CLIPImageProcessor(**settings(side)))
    levels = (prepare(as_tensor(arrays)) - theirs["pixel_values"]).abs() * 255
    return levels.mean().item(), levels.max().item()


def one_float_pass(side: int) -> Callable[[Tensor], Tensor]:
    """The usual way on tensors: one antialiased resize in floats, cut to [0, 1]."""

    def prepare(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        size = (side, side * width // height) if height <= width else (side * height // width, side)
        resized = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        return center_crop(resized, [side, side])

    return prepare


def processor_differences(arrays: list[np.ndarray], family: str) -> tuple[float, float, float]:
    """In levels, how far what `VisionLanguage` gives to a family's processor is from pictures given to it (greatest),
    and to the one that works with Pillow (mean, greatest)."""
    own, of_pillow, changes = PROCESSORS[family]
    plain = changes | {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}

    def levels(kind: type, pictures: list) -> Tensor:
        return kind(**plain)(pictures, return_tensors="pt")["pixel_values"] * 255

    pictures = [Image.fromarray(a) for a in arrays]
    ours = levels(own, list(to_bytes(as_tensor(arrays))))
    same, pillow = ((ours - levels(kind, pictures)).abs() for kind in (own, of_pillow))
    return same.max().item(), pillow.mean().item(), pillow.max().item()


@torch.no_grad()
def readme_pickscore(folder: str, processor: str, prompts: list[str], pictures: list[Image.Image]) -> Tensor:
    """`calc_probs` of PickScore's model card, for a prompt and a picture each, before the softmax."""
    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPProcessor.from_pretrained(processor, backend="pil")
    inputs = processor(images=pictures, return_tensors="pt")
    texts = processor(text=prompts, padding=True, truncation=True, max_length=77, return_tensors="pt")
    image = model.get_image_features(**inputs).pooler_output
    text = model.get_text_features(**texts).pooler_output
    image = image / torch.norm(image, dim=-1, keepdim=True)
    text = text / torch.norm(text, dim=-1, keepdim=True)
    return model.logit_scale.exp() * (text @ image.T).diag()


def main() -> None:
    count = 8
    print("| picture | to | mean | greatest | one float pass: mean | greatest |\n|---|---|---|---|---|---|")
    for kind, draw in KINDS.items():
        for size in SIZES:
            arrays = [draw(*size, seed) for seed in range(count)]
            for side in SIDES:
                ours, plain = pixel_differences(arrays, side), pixel_differences(arrays, side, one_float_pass(side))
                print(f"| {kind}, {size[0]} x {size[1]} | {side} | {ours[0]:.4f} | {ours[1]:.0f} ", end="")
                print(f"| {plain[0]:.3f} | {plain[1]:.1f} |")

    folder = locate("embedded", "pickscore")
    prompts = ["boy on a horse", "a castle, watercolor", "a red cat", "a bowl of strawberries, 3d render"] * 2
    reward = load_reward("pickscore", "embedded", "cpu")
    print("\n| picture | greatest difference of a score | deviation of the scores |\n|---|---|---|")
    for kind, draw in KINDS.items():
        for size in SIZES:
            arrays = [draw(*size, seed) for seed in range(count)]
            theirs = readme_pickscore(folder, folder, prompts, [Image.fromarray(a) for a in arrays])
            scores = reward(prompts, as_tensor(arrays))
            difference = (scores - theirs).abs().max().item()
            print(f"| {kind}, {size[0]} x {size[1]} | {difference:.5f} | {scores.std().item():.2f} |")

    print("\n| processor | its own: greatest | with Pillow: mean | greatest |\n|---|---|---|---|")
    for family in PROCESSORS:
        each = [processor_differences([draw(*size, 0)], family) for draw in KINDS.values() for size in SIZES]
        same, mean, greatest = zip(*each, strict=True)
        print(f"| {family} | {max(same):.1f} | {sum(mean) / len(mean):.4f} | {max(greatest):.0f} |")

    print("\n| dtype | pickscore | clip | aesthetic |\n|---|---|---|---|")
    images = as_tensor([KINDS["shapes"](64, 64, seed) for seed in range(count)])
    names = ("pickscore", "clip", "aesthetic")
    exact = {name: load_reward(name, "embedded", "cpu")(prompts, images) for name in names}
    for dtype in ("fp16", "bf16"):
        rewards = {name: load_reward(name, "embedded", "cpu", dtype) for name in names}
        off = {name: (rewards[name](prompts, images) - exact[name]).abs().max().item() for name in names}
        print(f"| {dtype} | " + " | ".join(f"{off[name]:.4f}" for name in names) + " |")
    print("| deviation of the scores | " + " | ".join(f"{exact[name].std().item():.4f}" for name in names) + " |")


if __name__ == "__main__":
    main()
