"""How pictures are drawn, as a user says it: on a command line, in YAML, in Python. No model, and no PyTorch."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from typing import Any, get_args

import yaml

from neuroprompt import urls
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
            if getattr(self, name, None) not in choices:
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
                if name in {field.name for field in fields(RemoteConfig)}:
                    raise ValueError(f"{name} is for generators behind a URL, and this one is not: leave it out")
                close = [OLD_NAMES[name]] if name in OLD_NAMES else difflib.get_close_matches(name, known, 1)
                hint = f"{close[0]!r}?" if close else f"it has {', '.join(known)}"
                raise ValueError(f"generator has no setting {name!r}: {hint}")
        return cls(**{name: value for name, value in settings.items() if value is not None})


@dataclass(frozen=True)
class RemoteConfig(GeneratorConfig):
    """How a generator behind a URL draws, and how it is spoken to.

    Of `GeneratorConfig` it has steps, guidance, true_cfg, size, negative, scheduler (under the server's own name for
    it, such as ``Euler a``) and batch_size; None is what the server does by default. The rest is the server's business.

    Attributes:
        api: What the server speaks: ``neuroprompt``, ``openai``, ``a1111`` (AUTOMATIC1111, Forge) or ``comfyui``; by
            default it is asked.
        workflow: For ComfyUI: a workflow file as its "Export (API)" writes it. A node is titled ``prompt``, or a text
            in it holds ``{prompt}``; likewise ``negative``, ``seed``, ``steps``, ``guidance``, ``width``, ``height``
            and ``scheduler``, as far as they are to be set.
        model: The model's name on a server that has several.
        seeds: ``none`` puts up with a server that takes none: its pictures are not repeatable, and no two are drawn
            from the same noise. ``sent`` says that an OpenAI-style server reads a field ``seed``.
        api_key: Where the key is, never the key: ``env:NAME`` of an environment variable, by default
            NEUROPROMPT_GENERATOR_API_KEY. It is sent as a bearer token, or as a password where it is
            ``user:password``.
        connections: Requests at a time to each URL; by default one, and eight where the server is `neuroprompt serve`,
            which draws them together.
        timeout: Seconds that one request may take, with what waits before it in the server's queue.
        retries: How often in a row a server may fail before it is left out; it has 1, 2, 4, … seconds in between, or
            what it asks for. It is tried again later.

    Raises:
        ValueError: As for `GeneratorConfig`.
    """

    api: str | None = None
    workflow: str | None = None
    model: str | None = None
    seeds: str | None = None
    api_key: str | None = None
    connections: int | None = None
    timeout: float = 300.0
    retries: int = 6

    def __post_init__(self):
        super().__post_init__()
        for field in fields(GeneratorConfig):
            if field.name not in _READ_BY_SERVERS and getattr(self, field.name) != field.default:
                value = getattr(self, field.name)
                raise ValueError(f"{field.name} is {value!r}, which a server behind a URL sees to itself: leave it out")
        for name in ("workflow", "model"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"{name} is {getattr(self, name)!r}: give a text")
        if self.workflow and self.api not in (None, "comfyui"):
            raise ValueError(f"workflow is for ComfyUI, and api is {self.api!r}: leave one of them out")
        if self.api_key is not None and not re.fullmatch(r"env:\w+", str(self.api_key)):
            raise ValueError("api_key says where the key is: env:NAME, the name of an environment variable")
        numbers = {"retries": 0} if self.connections is None else {"retries": 0, "connections": 1}
        for name, least in numbers.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}: give a whole number from {least} up")
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float) or not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout!r}: give seconds")

    def drawing(self) -> GeneratorConfig:
        """What pictures depend on of it."""
        return GeneratorConfig(**{field.name: getattr(self, field.name) for field in fields(GeneratorConfig)})


def config_of(name: str, /, **settings: Any) -> GeneratorConfig:
    """The config of those settings that are not None, for the generator called `name`.

    Raises:
        ValueError: A setting is unknown or out of range, or the name is a URL that is none.
    """
    return (RemoteConfig if read_urls(name) else GeneratorConfig).of(**settings)


def read_urls(name: str) -> tuple[str, ...]:
    """The URLs of ``http://gpu1:7860,http://gpu2:7860`` (or with spaces); none where it is another generator's name.

    Raises:
        ValueError: One is no URL, is there twice, or holds a password (which would be written into results).
    """
    parts = [part for part in re.split(r"[,\s]+", name) if part]
    if not any("://" in part for part in parts):
        return ()
    return urls.read_urls(parts, "a generator", "set api_key=env:NAME")


def read_generator(given: str | Mapping[str, Any]) -> tuple[str, GeneratorConfig]:
    """A generator's name and settings, from ``NAME`` or ``{name: NAME, steps: 4, …}``, as YAML files have it.

    Raises:
        ValueError: It is neither, or a setting is unknown or out of range.
    """
    settings = {"name": "embedded"} | dict(given) if isinstance(given, Mapping) else {"name": given}
    if not isinstance(settings["name"], str):
        raise ValueError(f"generator is {given!r}: write a name, or {{name: NAME, steps: 4, …}}")
    name = settings.pop("name")
    return name, config_of(name, **{str(key): value for key, value in settings.items()})


def read_setting(name: str, text: str) -> Any:
    """The value that a command line gives a setting: the text itself where it takes one, else what YAML reads in it."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    texts = {field.name for field in fields(RemoteConfig) if str in get_args(field.type)}
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
    "api": (None, "neuroprompt", "openai", "a1111", "comfyui"),
    "seeds": (None, "none", "sent"),
}
_READ_BY_SERVERS = ("steps", "guidance", "true_cfg", "size", "negative", "scheduler", "batch_size")
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
