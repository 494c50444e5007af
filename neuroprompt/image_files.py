"""Pictures as files: saved with what made them, and read back from whatever people have.

A saved picture carries the text that A1111's web UI reads and writes (``parameters``; most viewers of generated
pictures show it), and the same as JSON with both prompts. In PNG these are text chunks; in JPEG and WebP the text is
EXIF's UserComment, as in A1111, and the JSON its ImageDescription.
"""

import io
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from neuroprompt.files import write_file

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_PIXELS = 2**26
"""Pixels of the largest picture that is read (67 million, such as 8,192 x 8,192); in a file they may be a few bytes."""
DIFFUSERS_NAMES = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "true_cfg": "true_cfg_scale",
    "negative": "negative_prompt",
}
"""What diffusers calls settings of a `GeneratorConfig`."""
OLD_NAMES = {old: name for name, old in DIFFUSERS_NAMES.items()} | {"height": "size", "width": "size"}
"""Their names by what they were once called, in pictures and results that are still about."""
SAMPLERS = {
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "DPMSolverSDEScheduler": "DPM++ SDE",
    "EulerDiscreteScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "HeunDiscreteScheduler": "Heun",
    "LMSDiscreteScheduler": "LMS",
    "KDPM2DiscreteScheduler": "DPM2",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "DDIMScheduler": "DDIM",
    "PNDMScheduler": "PLMS",
    "UniPCMultistepScheduler": "UniPC",
    "LCMScheduler": "LCM",
}
"""What A1111's web UI calls diffusers' schedulers."""


@dataclass(frozen=True)
class PictureInfo:
    """What made a picture.

    Attributes:
        original: The user's prompt.
        text: The prompt that was drawn; the enhanced one, or the original again.
        seed: Of the noise.
        model: The generator's name.
        config: How it was drawn: `GeneratorConfig` as a dictionary.
    """

    original: str
    text: str
    seed: int
    model: str
    config: Mapping[str, Any] = field(default_factory=dict)


def save_image(
    image: "Tensor | Image.Image", path: str | Path, metadata: PictureInfo | Mapping[str, Any] | None = None
) -> None:
    """Write a picture; the file's ending says the format: PNG, JPEG (quality 95) or lossless WebP.

    There is never half a picture under its name (see `write_file`). Missing folders are made.

    Args:
        image: Values in [0, 1], of any float type and device, (3, height, width); or a picture of Pillow.
        path: Where to; ends in .png, .jpg, .jpeg or .webp.
        metadata: What made it. Anything but a `PictureInfo` is written as JSON alone.

    Raises:
        ValueError: The ending is another, the tensor is no picture, the picture is too large for the format, or the
            metadata are too long for a JPEG.
        OSError: It cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: pictures are written as {', '.join(SUFFIXES)}")
    picture = image if isinstance(image, Image.Image) else from_tensor(image)
    limit = {".webp": 16383, ".png": 2**31 - 1}.get(suffix, 65500)
    if max(picture.size) > limit:
        raise ValueError(
            f"{path}: {picture.width} x {picture.height} pixels are too many for a {suffix[1:].upper()}, "
            f"which holds {limit} a side: save a PNG"
        )
    # Encoded in memory: writing to a file, Pillow takes half a JPEG on a full disk for a whole one.
    if suffix == ".png":
        return write_file(path, encode_png(picture, metadata))
    exif = _exif(_texts(picture, metadata))
    if len(exif) > 65000 and suffix != ".webp":
        raise ValueError(f"{path}: {len(exif)} bytes of metadata do not fit into a JPEG: save a PNG or a WebP")
    arguments: dict[str, Any] = {"format": "WEBP", "lossless": True} if suffix == ".webp" else _JPEG
    file = io.BytesIO()
    (on_white(picture) if suffix != ".webp" else picture).save(file, **arguments, exif=exif)
    write_file(path, file.getvalue())


def encode_png(image: "Tensor | Image.Image", metadata: PictureInfo | Mapping[str, Any] | None = None) -> bytes:
    """The PNG that `save_image` writes."""
    picture = image if isinstance(image, Image.Image) else from_tensor(image)
    chunks = PngImagePlugin.PngInfo()
    for key, text in _texts(picture, metadata).items():
        chunks.add_text(key, text)
    file = io.BytesIO()
    picture.save(file, format="PNG", pnginfo=chunks)
    return file.getvalue()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What a picture says of its making.

    Returns:
        ``parameters``, the text in A1111's form (other programs' pictures may have it, too), and ``neuroprompt``, what
        `save_image` was given as a dictionary; each only where it is there.

    Raises:
        ValueError: There is no picture that can be read.
    """
    with _opened(path) as picture:
        found = {key: picture.info.get(key) for key in ("parameters", "neuroprompt")}
        exif = picture.getexif()
        comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
        if found["parameters"] is None and comment:
            found["parameters"] = _decode_comment(comment)
        if found["neuroprompt"] is None:
            found["neuroprompt"] = exif.get(ExifTags.Base.ImageDescription)
    try:
        record = json.loads(found["neuroprompt"] or "null")
    except (ValueError, TypeError, RecursionError):  # some other program's description
        record = None
    if isinstance(record, dict) and set(record) == {"neuroprompt"}:  # as in EXIF, where the key is part of the text
        record = record["neuroprompt"]
    elif "neuroprompt" not in picture.info:
        record = None
    made = {"parameters": found["parameters"], "neuroprompt": _current(record)}
    return {key: value for key, value in made.items() if value is not None}


def current_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A generator's settings, as a picture or a table of results says them, under the names of today."""
    settings = {OLD_NAMES.get(name, name): value for name, value in config.items() if name != "long_prompts"}
    if "height" in config:
        settings["size"] = [config.get("width"), config["height"]]
    return settings


def load_images(paths: Sequence[str | Path]) -> list[Image.Image]:
    """Read pictures as RGB: transparency on white, 16 bits scaled to 8, the first frame of an animation, CMYK and
    palettes converted, turned upright as EXIF says.

    Raises:
        ValueError: A file is missing, is no picture, is damaged, or has more than `MAX_PIXELS`; the message begins
            with its path.
    """
    return [_load(path) for path in paths]


def decode_image(data: bytes, name: str = "the picture") -> Image.Image:
    """Read a picture that somebody sent, a PNG, JPEG or WebP file, as `load_images` does.

    Args:
        name: What it is called in an error.

    Raises:
        ValueError: As of `load_images`; the message begins with the name.
    """
    return _load(io.BytesIO(data), name=name, formats=("PNG", "JPEG", "WEBP"))


def from_tensor(image: "Tensor") -> Image.Image:
    """A float tensor (3, height, width) in [0, 1] as 8-bit RGB; what is no number is black.

    Raises:
        ValueError: It has another shape, or another type.
    """
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise ValueError(
            f"a picture is a float tensor of shape (3, height, width); this is {image.dtype} of {tuple(image.shape)}"
        )
    pixels = image.detach().float().nan_to_num(0).clamp(0, 1).mul(255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().contiguous().numpy())


def on_white(picture: Image.Image) -> Image.Image:
    """As RGB, with white behind what is transparent."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    colours = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    ground = Image.new("RGB", colours.size, "white")
    ground.paste(colours, mask=colours)
    return ground


# --- reading -----------------------------------------------------------------------------------------------------


def _load(source: str | Path | io.BytesIO, **settings: Any) -> Image.Image:
    with _opened(source, **settings) as picture:
        picture.seek(0)
        ImageOps.exif_transpose(picture, in_place=True)
        return on_white(_eight_bits(picture))


@contextmanager
def _opened(
    source: str | Path | io.BytesIO, name: str | None = None, formats: tuple[str, ...] | None = None
) -> Iterator[Image.Image]:
    """A picture to read from. Whatever its decoder raises, of which there are dozens, is a ValueError with its path."""
    path = name or source
    if not isinstance(source, io.BytesIO) and not Path(source).exists():
        raise ValueError(f"{path}: there is no such file")
    with _PILLOW:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # its own check warns first and raises later
        try:
            picture = Image.open(source, formats=formats or _formats())
        except UnidentifiedImageError:
            raise ValueError(f"{path}: this is no picture (of a kind that Pillow reads)") from None
        except Exception as error:
            raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with picture:
        if picture.width * picture.height > MAX_PIXELS:
            size = f"{picture.width} x {picture.height}"
            raise ValueError(f"{path}: {size} pixels are too many (at most {MAX_PIXELS:,}): make it smaller")
        try:
            yield picture
        except Exception as error:
            raise ValueError(f"{path}: the picture is damaged ({error})") from error


_PILLOW = Lock()  # its limit is every thread's


@cache
def _formats() -> tuple[str, ...]:
    """All that Pillow reads but PostScript, a programming language, which it would have Ghostscript run."""
    Image.init()
    return tuple(name for name in Image.OPEN if name != "EPS")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Pictures of more than 8 bits a channel, which Pillow's own conversion would clip to white."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture)
    top = np.fmax.reduce(values, axis=None, initial=0)
    # 16-bit grey comes as I;16 or I; floats run to 1 or to 255, as the file's maker liked.
    scale = 257 if picture.mode != "F" else 1 / 255 if top <= 1 else 1
    if picture.mode == "I" and top <= 255:
        scale = 1
    grey = np.empty(values.shape, np.uint8)
    for part, made in zip(_parts(values), _parts(grey), strict=True):  # or 64-bit floats take many times the file
        made[:] = np.nan_to_num(np.rint(part / scale)).clip(0, 255)
    return Image.fromarray(grey)


def _parts(values: np.ndarray, size: int = 2**20) -> Iterator[np.ndarray]:
    flat = values.reshape(-1)
    return (flat[start : start + size] for start in range(0, flat.size, size))


def _current(record: Any) -> Any:
    """A `PictureInfo` with the names of today; anything else as it is."""
    if not isinstance(record, dict) or "prompt" not in record or not isinstance(record.get("config"), dict):
        return record
    renamed = {"text" if key == "prompt" else key: value for key, value in record.items()}
    return renamed | {"config": current_settings(record["config"])}


def _decode_comment(comment: bytes | str) -> str:
    """EXIF's UserComment: eight bytes that name the encoding, and the text."""
    if isinstance(comment, str):
        return comment
    encoding = {b"UNICODE\0": "utf-16-be", b"ASCII\0\0\0": "ascii"}.get(comment[:8], "utf-8")
    return comment[8:].decode(encoding, "replace").rstrip("\0")


# --- writing -----------------------------------------------------------------------------------------------------

_JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}


def _texts(picture: Image.Image, metadata: PictureInfo | Mapping[str, Any] | None) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, PictureInfo):
        return {"neuroprompt": json.dumps(dict(metadata))}
    return {"parameters": _parameters(picture, metadata), "neuroprompt": json.dumps(asdict(metadata))}


def _parameters(picture: Image.Image, info: PictureInfo) -> str:
    """A1111's lines: the prompt, the negative prompt, and the settings as a list."""
    config = info.config
    guidance, true_cfg = config.get("guidance"), config.get("true_cfg")
    settings = {
        "Steps": config.get("steps"),
        "Sampler": SAMPLERS.get(config.get("scheduler", ""), config.get("scheduler")),
        "CFG scale": guidance if true_cfg is None else true_cfg,
        "Distilled CFG Scale": None if true_cfg is None else guidance,  # as Forge calls it
        "Seed": info.seed,
        "Size": f"{picture.width}x{picture.height}",
        "Model": info.model,
    }
    negative = config.get("negative")
    lines = [
        info.text,
        *([f"Negative prompt: {negative}"] if negative else []),
        ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items() if value is not None),
    ]
    # NUL ends a text chunk, and a lone surrogate is no character.
    return "\n".join(lines).replace("\0", " ").encode("utf-8", "replace").decode()


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text


def _exif(texts: Mapping[str, str]) -> bytes:
    exif = Image.Exif()
    comment = b"UNICODE\0" + texts.get("parameters", "").encode("utf-16-be")
    if "parameters" in texts:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    if "neuroprompt" in texts:
        # JSON as json.dumps writes it is ASCII, as this tag must be.
        exif[ExifTags.Base.ImageDescription] = '{"neuroprompt": ' + texts["neuroprompt"] + "}"
    # Pillow writes bytes as type 1, BYTE. The standard wants 7, UNDEFINED, and A1111's reader insists on it.
    data = exif.tobytes()  # "Exif\0\0", then the byte order: II or MM
    order = "<" if data[6:8] == b"II" else ">"
    entry = [struct.pack(f"{order}HHL", ExifTags.Base.UserComment, kind, len(comment)) for kind in (1, 7)]
    return data.replace(*entry, 1)
