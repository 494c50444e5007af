"""Pictures as a model wants them, made on the device: resized, cropped or padded, normalised.

Models were trained on what Pillow makes of 8-bit pictures, one at a time on the CPU. Here a whole batch of tensors goes
the same way on its own device. Pillow resizes in two passes, first the width and then the height, and rounds to 8 bits
after each; doing the same brings every pixel within one or two of 255 levels of Pillow's (one antialiased pass in
floats is many levels off where it enlarges hard edges; see docs/rewards.md). The picture itself is rounded first, so a
tensor has the score of the PNG that it would be saved as.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPImageProcessor

from neuroprompt.models import ModelError

LONGEST_ASPECT = 50  # a picture of 1 x 20000 pixels would be blown up to millions before it is cropped


@dataclass(frozen=True)
class Preprocessing:
    """How a model's pictures are prepared.

    Attributes:
        resize: Side in pixels that pictures are resized to; which one is a matter of `mode`.
        crop: Side of the square that the model takes.
        mean, std: Of each channel, for pictures in [0, 1].
        mode: ``shortest`` side to `resize`, then the centre; ``longest`` side to `resize`, then black bars; or
            ``squash`` both sides.
        interpolation: ``bicubic`` or ``bilinear``, antialiased.
        rounding: Of the offset of the crop where it falls between two pixels: torchvision rounds (half to even),
            `transformers` takes the floor.
        eight_bit: Round to 8 bits after each pass as Pillow does. HPSv2 resizes float tensors, so it is off there.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mode: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    rounding: Literal["floor", "round"] = "round"
    eight_bit: bool = True

    @classmethod
    def of_transformers(cls, processor: CLIPImageProcessor) -> "Preprocessing":
        """What a `CLIPImageProcessor` does."""
        size, crop = processor.size, processor.crop_size
        steps = ("do_resize", "do_rescale", "do_normalize")
        missing = [step for step in steps if not getattr(processor, step)]
        interpolation = {2: "bilinear", 3: "bicubic"}.get(int(processor.resample))
        if missing or interpolation is None or abs(processor.rescale_factor * 255 - 1) > 1e-6:
            wrong = f"{missing[0]} is false" if missing else f"resample is {processor.resample}"
            raise ModelError(f"the image processor is not one of CLIP's: {wrong}")
        if size.shortest_edge:
            mode, resize = "shortest", size.shortest_edge
        else:
            mode, resize = "squash", size.height
        side = crop.height if processor.do_center_crop else resize
        if side > resize or (mode == "squash" and side != resize):
            raise ModelError(
                f"the image processor resizes to {resize} pixels and crops to {side}: this is not supported"
            )
        mean, std = tuple(processor.image_mean), tuple(processor.image_std)
        return cls(resize, side, mean, std, mode, interpolation, rounding="floor")

    @classmethod
    def of_open_clip(cls, config: dict) -> "Preprocessing":
        """What open_clip's `image_transform_v2` does with the `preprocess_cfg` of a model."""
        size = config["size"]
        height, width = (size, size) if isinstance(size, int) else size
        if height != width or (config["resize_mode"] == "longest" and config.get("fill_color", 0) != 0):
            raise ModelError(f"the model takes pictures of {height} x {width} pixels: only square ones are supported")
        return cls(
            height, height, tuple(config["mean"]), tuple(config["std"]), config["resize_mode"], config["interpolation"]
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Prepare pictures (n, 3, H, W) in [0, 1]; returns float32 (n, 3, crop, crop) on their device."""
        images = _to_eight_bit(images.float())
        height, width = self._resized(*images.shape[-2:])
        for size in ((images.shape[-2], width), (height, width)):
            if size != images.shape[-2:]:
                images = F.interpolate(images, size, mode=self.interpolation, antialias=True, align_corners=False)
                images = _to_eight_bit(images) if self.eight_bit else images
        if self.mode == "longest":
            images = self._pad(images)
        top, left = self._offset(height), self._offset(width)
        if self.mode == "shortest":
            images = images[..., top : top + self.crop, left : left + self.crop]
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        side = self.resize
        if self.mode == "squash":
            return side, side
        if self.mode == "longest":
            scale = side / max(height, width)
            return max(1, round(height * scale)), max(1, round(width * scale))
        if height <= width:
            return side, int(side * width / height)
        return int(side * height / width), side

    def _offset(self, length: int) -> int:
        spare = length - self.crop
        return spare // 2 if self.rounding == "floor" else round(spare / 2)

    def _pad(self, images: Tensor) -> Tensor:
        bottom, right = (self.crop - side for side in images.shape[-2:])
        return F.pad(images, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))


def check_batch(prompts: Sequence[str], images: Tensor) -> None:
    """Refuse what is no batch of a prompt and a picture each.

    Raises:
        ValueError: The pictures are no float tensor (n, 3, H, W) within [0, 1], or there are not n prompts. Pictures
            that hold NaN are let through: their scores are NaN.
    """
    if isinstance(prompts, str) or not all(isinstance(p, str) for p in prompts):
        raise ValueError("the prompts must be a sequence of texts, one for each picture")
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"the pictures must be one tensor of shape (n, 3, height, width), not {shape}")
    if not images.is_floating_point():
        raise ValueError(f"the pictures are {images.dtype}: give floats in [0, 1] (8-bit ones divided by 255)")
    if len(prompts) != len(images):
        raise ValueError(f"{len(prompts)} prompts for {len(images)} pictures: give one prompt for each")
    height, width = images.shape[-2:]
    if min(height, width) < 1 or max(height, width) > LONGEST_ASPECT * min(height, width):
        raise ValueError(
            f"pictures of {height} x {width} pixels: a side may be {LONGEST_ASPECT} times the other at most"
        )
    if len(images):
        low, high = torch.stack(images.aminmax()).tolist()
        if low < -1e-3 or high > 1 + 1e-3:
            raise ValueError(f"the pictures have values from {low:.3g} to {high:.3g}: they must lie in [0, 1]")


def to_bytes(images: Tensor) -> Tensor:
    """Pictures in [0, 1] as the 8-bit values that a PNG of them holds; what is NaN becomes some number."""
    return (images.float() * 255).round_().clamp_(0, 255).to(torch.uint8)


def _to_eight_bit(images: Tensor) -> Tensor:
    return (images * 255).round_().clamp_(0, 255).div_(255)
