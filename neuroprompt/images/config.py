"""How pictures are drawn, as a user says it: on a command line, in YAML, in Python. No model, and no PyTorch."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from typing import Any, get_args

import yaml

from neuroprompt.image_files import OLD_NAMES


@dataclass(frozen=True)
class GeneratorConfig:
    """How pictures are drawn. None is the model's own: what its card says for known few-step models, and what its
    pipeline has by default otherwise; `ImageGenerator.config` says what that came to. What diffusers calls the
    settings is in `image_files.DIFFUSERS_NAMES`.

    Attributes:
        steps: The number of denoising steps.
        guidance: The weight of classifier-free guidance (Ho and Salimans 2022); 1 or less is without, at half the cost.
            Models distilled with guidance (Flux, LCM) read it as an input.
        true_cfg: The weight of classifier-free guidance in the pipelines that take it beside that input (Flux,
            Qwen-Image); 1 or less is without.
        size: The pictures' size in pixels: 512, or 768x512 (width x height); kept as (width, height).
        negative: The negative prompt: what guidance leads away from.
        scheduler: A scheduler class of diffusers, such as ``DPMSolverMultistepScheduler``; it is configured as the
            pipeline's own.
        dtype: The type of the weights: ``float32``, ``bfloat16`` or ``float16``. By default bfloat16 on accelerators
            that have it, float16 on others, and float32 on CPUs, so that all of them draw the same; ``auto`` draws in
            bfloat16 on CPUs that have it too (AVX512-BF16 or AMX).
        variant: Which files of the model to load, such as ``fp16``.
        max_sequence_length: The number of tokens that a T5 text encoder reads (Stable Diffusion 3, Flux).
        batch_size: How many pictures are drawn at once; halved, and kept so, where the memory does not hold them.
        compile: Compile the denoiser with `torch.compile` at its first use.
        attention_slicing, vae_slicing, vae_tiling: Take less memory for more time, as in diffusers. Tiling changes
            large pictures slightly.
        cpu_offload: ``model`` or ``sequential``: weights wait in the CPU's memory until the GPU needs them.
        safety_checker: Run the pipeline's own safety checker, if it has one.

    Raises:
        ValueError: A setting is not of its kind, or out of range.
    """

    steps: int | None = None
    guidance: float | None = None
    true_cfg: float | None = None
    size: tuple[int, int] | str | int | None = None
    negative: str | None = None
    scheduler: str | None = None
    dtype: str | None = None
    variant: str | None = None
    max_sequence_length: int | None = None
    batch_size: int = 16
    compile: bool = False
    attention_slicing: bool = False
    vae_slicing: bool = False
    vae_tiling: bool = False
    cpu_offload: str | None = None
    safety_checker: bool = True

    def __post_init__(self):
        object.__setattr__(self, "size", _read_size(self.size))
        for name in ("steps", "max_sequence_length", "batch_size"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}: give a whole number from 1 up")
        for name in ("guidance", "true_cfg"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 <= value < float("inf")):
                raise ValueError(f"{name} is {value!r}: give a number from 0 up; 0 is no guidance")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                allowed = ", ".join(str(c) for c in choices if c)
                raise ValueError(f"{name} is {getattr(self, name)!r}: it can be {allowed}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool) and not isinstance(value, bool):
                raise ValueError(f"{field.name} is {value!r}: it can be true or false")
            if field.name in ("negative", "scheduler", "variant") and not isinstance(value, str | None):
                raise ValueError(f"{field.name} is {value!r}: give a text")

    @classmethod
    def of(cls, /, **settings: Any) -> "GeneratorConfig":
        """The config of those settings that are not None.

        Raises:
            ValueError: A setting is unknown or out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                close = [OLD_NAMES[name]] if name in OLD_NAMES else difflib.get_close_matches(name, known, 1)
                hint = f"{close[0]!r}?" if close else f"it has {', '.join(known)}"
                raise ValueError(f"generator has no setting {name!r}: {hint}")
        return cls(**{name: value for name, value in settings.items() if value is not None})


def read_generator(given: str | Mapping[str, Any]) -> tuple[str, GeneratorConfig]:
    """A generator's name and settings, from ``NAME`` or ``{name: NAME, steps: 4, …}``, as YAML files have it.

    Raises:
        ValueError: It is neither, or a setting is unknown or out of range.
    """
    settings = {"name": "embedded"} | dict(given) if isinstance(given, Mapping) else {"name": given}
    if not isinstance(settings["name"], str):
        raise ValueError(f"generator is {given!r}: write a name, or {{name: NAME, steps: 4, …}}")
    name = settings.pop("name")
    return name, GeneratorConfig.of(**{str(key): value for key, value in settings.items()})


def read_setting(name: str, text: str) -> Any:
    """The value that a command line gives a setting: the text itself where it takes one, else what YAML reads in it."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    texts = {field.name for field in fields(GeneratorConfig) if str in get_args(field.type)}
    return text if name in texts and value is not None else value


def as_its_card_says(config: GeneratorConfig, name: str) -> GeneratorConfig:
    """The config with what the card of the model called `name` says where it has None."""
    known = _CARDS.get(name.rstrip("/").rsplit("/", 1)[-1].lower(), {})
    return replace(config, **{k: v for k, v in known.items() if getattr(config, k) is None})


def noise_seed(seed: int) -> int:
    """What a generator of noise is seeded with. torch's reads 32 bits, so larger seeds are hashed and not cut off."""
    if seed < 2**32:
        return seed
    return int.from_bytes(blake2b(str(seed).encode(), digest_size=4).digest(), "big")


def shown_size(size: Sequence[int]) -> str:
    """As a user writes it: 768x512."""
    return "x".join(map(str, size))


# --- details -----------------------------------------------------------------------------------------------------


_CHOICES = {
    "dtype": (None, "auto", "float32", "bfloat16", "float16"),
    "cpu_offload": (None, "model", "sequential"),
}
# Few-step models, by the last part of their names, as their cards say; a pipeline's defaults are for undistilled ones.
_CARDS: dict[str, dict[str, Any]] = {
    "embedded": {"steps": 8, "guidance": 3.0, "size": (64, 64)},
    "sd-turbo": {"steps": 1, "guidance": 0.0, "size": (512, 512)},
    "sdxl-turbo": {"steps": 1, "guidance": 0.0, "size": (512, 512)},
    "lcm_dreamshaper_v7": {"steps": 4, "guidance": 8.0, "size": (768, 768)},
    "stable-diffusion-3.5-large-turbo": {"steps": 4, "guidance": 0.0},
    "flux.1-schnell": {"steps": 4, "guidance": 0.0, "max_sequence_length": 256},
    "z-image-turbo": {"steps": 8, "guidance": 0.0},
}


def _read_size(given: Any) -> tuple[int, int] | None:
    """(width, height) of 512, "768x512" or a pair."""
    sides = given
    if isinstance(given, str):
        sides = [int(side) if side.isdecimal() else side for side in given.lower().split("x")]
        sides = sides * 2 if len(sides) == 1 else sides
    elif isinstance(given, int):
        sides = [given, given]
    if sides is None:
        return None
    if not isinstance(sides, Sequence) or len(sides) != 2 or any(type(side) is not int or side < 1 for side in sides):
        raise ValueError(f"size is {given!r}: give pixels from 1 up, such as 512, or '768x512' (width x height)")
    return tuple(sides)
