"""Pictures from prompts: `ImageGenerator` over diffusers' text-to-image pipelines (Stable Diffusion 1, 2, XL and 3,
Flux, Qwen-Image, their turbo and LCM variants: whatever `AutoPipelineForText2Image` loads).

A picture depends on (generator, prompt, seed) alone. Its noise comes from a CPU generator of its own, so it is the same
on any device and in any batch, up to rounding. Two prompts drawn with the same seed start from the same noise (common
random numbers), which takes most of the luck out of a comparison.

Pictures stay tensors on the device; files are the business of `neuroprompt.image_files`.
"""

import difflib
import inspect
import json
import logging
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

import diffusers
import torch
import transformers
import yaml
from huggingface_hub import try_to_load_from_cache
from torch import Tensor

from neuroprompt.image_files import DIFFUSERS_NAMES, OLD_NAMES
from neuroprompt.models import (
    ModelError,
    check_tokenizer,
    check_weights,
    empty_cache,
    has_bfloat16,
    hash_files,
    is_out_of_memory,
    locate,
    pick_device,
    reason,
)


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


def _shown(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


class Drawing(NamedTuple):
    """Pictures, and which of them the safety checker objected to (those are black).

    Attributes:
        images: float32 in [0, 1], on the generator's device. (n, 3, height, width)
        flagged: bool, on the same device. (n,)
    """

    images: Tensor
    flagged: Tensor


class ImageGenerator:
    """Draws a picture for each prompt and seed.

    Args:
        pipeline: A text-to-image pipeline of diffusers, on its device.
        config: How to draw; what is None is taken from the pipeline.
        name: What the model is called, in files and reports.
        identity: What `fingerprint` knows the weights by; the name, unless something better is known.

    Attributes:
        pipeline: diffusers' own.
        config: How pictures are drawn, with no None left where the pipeline has a default that the model heeds.
        device: Where pictures are made.
        fingerprint: A hash of everything that a picture depends on besides prompt and seed, for use as a cache key:
            the weights' identity (hub commit, or the content of a folder's files) and the settings that change
            pictures. Settings that only cost time or memory do not count.

    Example:
        >>> generator = ImageGenerator.from_pretrained("embedded", device="cpu")
        >>> tuple(generator(["a castle", "a castle"], seeds=[0, 1]).shape)
        (2, 3, 64, 64)
    """

    def __init__(
        self,
        pipeline: diffusers.DiffusionPipeline,
        config: GeneratorConfig | None = None,
        *,
        name: str = "unnamed",
        identity: str | None = None,
    ):
        config = config or GeneratorConfig()
        self.pipeline, self.name = pipeline, name
        self.device = torch.device(pipeline.device)
        pipeline.set_progress_bar_config(disable=True)
        _set_up(pipeline, config, self.device)
        self.device = torch.device(pipeline._execution_device)  # with offloading, the weights are elsewhere
        self.config = _resolve(config, pipeline)
        self._batch_size = self.config.batch_size
        self._negatives: dict[str, Tensor] | None = None
        accepted = inspect.signature(pipeline.__call__).parameters
        asked = {name: value for name, value in _own_names(self.config).items() if name in _ASKED}
        self._settings = {name: value for name, value in asked.items() if name in accepted and value is not None}
        matters = {k: v for k, v in _own_names(self.config).items() if k not in _IRRELEVANT}
        matters["long_prompts"] = "truncate"  # a setting until 0.1; scores that were cached then are still known
        parts = json.dumps([identity or name, type(pipeline).__name__, matters], sort_keys=True)
        self.fingerprint = blake2b(parts.encode(), digest_size=16).hexdigest()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "embedded",
        *,
        device: str | torch.device | None = None,
        config: GeneratorConfig | None = None,
        **overrides: Any,
    ) -> "ImageGenerator":
        """Load a generator.

        Args:
            name: ``embedded``, a folder that a diffusers pipeline was saved to, or a hub id.
            device: Such as ``cuda``; by default the accelerator if there is one.
            config: How to draw.
            **overrides: Fields of `GeneratorConfig` to replace.

        Raises:
            ModelError: The model cannot be loaded, or a part is not what its config says; pickled weights are refused,
                and no code that comes with a model is run.
            ValueError: A setting is out of range, or this model has no use for it.
        """
        config = replace(config or GeneratorConfig(), **overrides)
        where = pick_device(device)
        if config.cpu_offload and where.type == "cpu":
            raise ValueError(
                f"cpu_offload is {config.cpu_offload!r}, and the device is the CPU: it is for GPUs, leave it out"
            )
        source = locate(name, "stable-diffusion")
        config = as_its_card_says(config, str(name))
        dtype = drawing_dtype(config.dtype, where)
        try:
            with _quiet():
                index = diffusers.DiffusionPipeline.load_config(source)
                _refuse_code(str(name), index)
                left_out = _without_safety_checker(source, index, config)
                folder = source
                if not Path(source).is_dir():
                    folder = diffusers.DiffusionPipeline.download(
                        source, variant=config.variant, use_safetensors=True, **left_out
                    )
                _refuse_pickles(folder, index)
                pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(
                    folder,
                    dtype=getattr(torch, dtype),
                    variant=config.variant,
                    use_safetensors=True,
                    trust_remote_code=False,
                    **left_out,
                    **_load_models(str(name), Path(folder), index, left_out, config.variant, getattr(torch, dtype)),
                )
                for part in pipeline.components.values():
                    if isinstance(part, transformers.PreTrainedTokenizerBase):
                        check_tokenizer(str(name), part)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"cannot load the image generator {str(name)!r}: {_reason(error)}") from error
        if not config.cpu_offload:
            pipeline.to(where)
        else:
            offload = {"model": "enable_model_cpu_offload", "sequential": "enable_sequential_cpu_offload"}
            getattr(pipeline, offload[config.cpu_offload])(device=where)
        return cls(pipeline, config, name=str(name), identity=_identity(source))

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """The pictures alone: ``draw(prompts, seeds).images``."""
        return self.draw(prompts, seeds).images

    @torch.no_grad()
    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> Drawing:
        """Draw a picture for each prompt.

        Each distinct prompt is encoded once. Where a batch does not fit into memory, it is drawn in halves; what was
        drawn before it stays, and later calls begin with the smaller size.

        Args:
            prompts: Texts.
            seeds: A seed for each prompt, from 0 up.

        Raises:
            TypeError: A prompt is no string, or a seed no whole number.
            ValueError: Not as many seeds as prompts, or a negative seed.
            torch.OutOfMemoryError: One picture alone is too much. Any other error of the pipeline comes as it is.
        """
        prompts, seeds = _checked(prompts, seeds)
        if not prompts:
            width, height = self.config.size or (0, 0)
            none = torch.zeros(0, 3, height, width, device=self.device)
            return Drawing(none, torch.zeros(0, dtype=torch.bool, device=self.device))
        drawn: list[Drawing] = []
        encoded: dict[str, dict[str, Tensor]] = {}
        start = 0
        with _quiet():
            while start < len(prompts):
                batch = slice(start, start + self._batch_size)
                texts = prompts[batch]
                try:
                    drawn.append(self._draw_batch(texts, seeds[batch], encoded))
                except RuntimeError as error:
                    if len(texts) == 1 or not is_out_of_memory(error):
                        raise
                    self._batch_size = len(texts) // 2
                else:
                    start += len(texts)
                    left = set(prompts[start:])
                    encoded = {text: rows for text, rows in encoded.items() if text in left}
                    continue
                empty_cache(self.device)  # after the handler, which holds the failed batch's tensors
        return Drawing(torch.cat([d.images for d in drawn]), torch.cat([d.flagged for d in drawn]))

    def _draw_batch(self, prompts: list[str], seeds: list[int], encoded: dict[str, dict[str, Tensor]]) -> Drawing:
        if type(self.pipeline).__name__ in _EMBEDDINGS:
            inputs = self._embeddings(prompts, encoded)
        else:
            negative = self._negative
            inputs = {"prompt": prompts} | ({} if negative is None else {"negative_prompt": [negative] * len(prompts)})
        result = self.pipeline(
            **inputs,
            **self._settings,
            generator=[torch.Generator("cpu").manual_seed(_generator_seed(seed)) for seed in seeds],
            output_type="pt",
        )
        images = result.images.to(self.device, torch.float32)  # (batch, 3, height, width)
        flags = getattr(result, "nsfw_content_detected", None) or [False] * len(prompts)
        return Drawing(images, torch.tensor(flags, dtype=torch.bool, device=self.device))

    # --- text ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor | None:
        """What the denoiser reads of each prompt, as one vector: the mean of its token embeddings.

        Returns:
            (n, d), float32, on the generator's device; None where the pipeline's embeddings are not known.
        """
        if type(self.pipeline).__name__ not in _EMBEDDINGS:
            return None
        rows: list[Tensor] = []
        with _quiet():
            for start in range(0, len(prompts), self._batch_size):
                made = self._encode(list(prompts[start : start + self._batch_size]), guided=False)["prompt_embeds"]
                rows += made.float().mean(1)
        return torch.stack(rows)

    def _embeddings(self, prompts: list[str], encoded: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        """The pipeline's text inputs for a batch; `encoded` keeps those of each prompt for the batches to come."""
        new = [p for p in dict.fromkeys(prompts) if p not in encoded]
        if new:
            rows = self._encode(new, guided=False)
            for i, prompt in enumerate(new):
                encoded[prompt] = {name: x[i : i + 1] for name, x in rows.items()}
        inputs = {name: torch.cat([encoded[p][name] for p in prompts]) for name in encoded[prompts[0]]}
        if self.guided:
            if self._negatives is None:
                if _guidance(self.pipeline) == "true_cfg":  # its encoder knows one text at a time
                    rows = self._encode([self._negative], guided=False)
                    self._negatives = {f"negative_{name}": x for name, x in rows.items()}
                else:
                    negatives = None if self._negative is None else [self._negative]
                    rows = self._encode([""], guided=True, negatives=negatives)
                    self._negatives = {name: x for name, x in rows.items() if name.startswith("negative")}
            inputs |= {name: x.expand(len(prompts), *x.shape[1:]) for name, x in self._negatives.items()}
        return inputs

    def _encode(self, texts: list[str], guided: bool, negatives: list[str] | None = None) -> dict[str, Tensor]:
        """The pipeline's own encoding: its inputs by name, one row a text."""
        pipeline = self.pipeline
        arguments = {
            "prompt": texts,
            "prompt_2": None,
            "prompt_3": None,
            "negative_prompt": negatives,
            "device": self.device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": guided,
            "max_sequence_length": self.config.max_sequence_length,
        }
        accepted = inspect.signature(pipeline.encode_prompt).parameters
        made = pipeline.encode_prompt(**{k: v for k, v in arguments.items() if k in accepted})
        named = zip(_EMBEDDINGS[type(pipeline).__name__], made, strict=True)
        return {name: x for name, x in named if name and x is not None}

    @property
    def window(self) -> int | None:
        """CLIP tokens that are read of a prompt, begin and end included; None where it is read by more than CLIP."""
        if type(self.pipeline).__name__ not in _CLIP_ONLY:
            return None
        return (self.pipeline.tokenizer or self.pipeline.tokenizer_2).model_max_length

    @property
    def guided(self) -> bool:
        """Whether the denoiser runs a second, negative half for each picture."""
        return _guides(self.pipeline, getattr(self.config, _guidance(self.pipeline)))

    @property
    def _negative(self) -> str | None:
        """What guidance leads away from; None is what the pipeline takes then."""
        given = self.config.negative
        # Where true_cfg weighs it, nothing is none: the pipeline leaves guidance out. A blank is what cards give.
        blank = " " if self.guided and _guidance(self.pipeline) == "true_cfg" else None
        return blank if given is None else given


# --- what is known of models and pipelines ------------------------------------------------------------------------

_CHOICES = {
    "dtype": (None, "auto", "float32", "bfloat16", "float16"),
    "cpu_offload": (None, "model", "sequential"),
}
# Settings that a pipeline is called with, under its own names.
_ASKED = ("num_inference_steps", "guidance_scale", "true_cfg_scale", "height", "width", "max_sequence_length")
# Settings that cost time or memory and change nothing in a picture but rounding.
_IRRELEVANT = {"batch_size", "compile", "attention_slicing", "vae_slicing", "cpu_offload"}
# What `encode_prompt` returns, by the names under which the pipeline takes it. Pipelines that are not here get texts.
_EMBEDDINGS: dict[str, tuple[str | None, ...]] = {
    "StableDiffusionPipeline": ("prompt_embeds", "negative_prompt_embeds"),
    "LatentConsistencyModelPipeline": ("prompt_embeds", None),
    "FluxPipeline": ("prompt_embeds", "pooled_prompt_embeds", None),
} | dict.fromkeys(
    ("StableDiffusionXLPipeline", "StableDiffusion3Pipeline"),
    ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
)
# Pipelines that read text through CLIP alone, which cuts it at its window.
_CLIP_ONLY = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline", "StableDiffusionXLPipeline")
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


def as_its_card_says(config: GeneratorConfig, name: str) -> GeneratorConfig:
    """The config with what the card of the model called `name` says where it has None."""
    known = _CARDS.get(name.rstrip("/").rsplit("/", 1)[-1].lower(), {})
    return replace(config, **{k: v for k, v in known.items() if getattr(config, k) is None})


def drawing_dtype(dtype: str | None, device: torch.device) -> str:
    """What `GeneratorConfig.dtype` comes to on a device: ``float32``, ``bfloat16`` or ``float16``."""
    if dtype not in (None, "auto"):
        return dtype
    if device.type != "cpu":
        return "bfloat16" if has_bfloat16(device) else "float16"
    return "bfloat16" if dtype == "auto" and has_bfloat16(device) else "float32"


def _own_names(config: GeneratorConfig) -> dict[str, Any]:
    """The settings under diffusers' own names, with height and width for the size."""
    settings = {DIFFUSERS_NAMES.get(name, name): value for name, value in asdict(config).items()}
    settings["width"], settings["height"] = settings.pop("size") or (None, None)
    return settings


def _set_up(pipeline: diffusers.DiffusionPipeline, config: GeneratorConfig, device: torch.device) -> None:
    """Carry out what the config says of the pipeline's parts."""
    kind = type(pipeline).__name__
    if config.scheduler:
        scheduler = getattr(diffusers, config.scheduler, None)
        if not (inspect.isclass(scheduler) and issubclass(scheduler, diffusers.SchedulerMixin)):
            likely = ", ".join(sorted(c.__name__ for c in pipeline.scheduler.compatibles)) or type(pipeline.scheduler)
            raise ValueError(f"scheduler is {config.scheduler!r}: that is none of diffusers' own, such as {likely}")
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    unet, vae = denoiser(pipeline), getattr(pipeline, "vae", None)
    if device.type == "cuda" and not config.cpu_offload:
        for part in filter(None, (unet, vae)):
            part.to(memory_format=torch.channels_last)  # what convolutions on tensor cores want
    if config.compile:
        unet.compile()
    if config.attention_slicing:
        pipeline.enable_attention_slicing()
    for name, method in (("vae_slicing", "enable_slicing"), ("vae_tiling", "enable_tiling")):
        if getattr(config, name):
            if not hasattr(vae, method):
                raise ValueError(f"{name} is on, and the decoder of {kind} knows none: leave it out")
            getattr(vae, method)()


def _resolve(config: GeneratorConfig, pipeline: diffusers.DiffusionPipeline) -> GeneratorConfig:
    """The config with the pipeline's defaults in it; refuses what the pipeline has no use for."""
    kind = type(pipeline).__name__
    accepted = inspect.signature(pipeline.__call__).parameters
    found = {}
    for name in ("steps", "guidance", "true_cfg", "max_sequence_length"):
        given, own = getattr(config, name), accepted.get(DIFFUSERS_NAMES.get(name, name))
        if given is not None and own is None:
            raise ValueError(f"{name} is {given!r}, and {kind} takes none: leave it out")
        default = own.default if own and own.default is not inspect.Parameter.empty else None
        found[name] = default if given is None else given
    guidance = _guidance(pipeline)
    if guidance == "true_cfg" and not getattr(denoiser(pipeline).config, "guidance_embeds", False):
        if config.guidance:
            raise ValueError(
                f"guidance is {config.guidance}, which this {kind} does not read, since it was not distilled with "
                "guidance: leave it out, or set true_cfg"
            )
        found["guidance"] = config.guidance
    found["size"] = size = config.size or _default_size(pipeline)
    if config.size and not {"width", "height"} <= set(accepted):
        raise ValueError(f"size is {_shown(size)}, and {kind} takes none: leave it out")
    factor = getattr(pipeline, "vae_scale_factor", 8)
    step = max(8, factor * 2 if hasattr(pipeline, "transformer") else factor)
    if size and any(side % step for side in size):
        near = _shown([max(step, round(side / step) * step) for side in size])
        raise ValueError(f"size is {_shown(size)}: {kind} draws multiples of {step} pixels, such as {near}")
    if config.negative is not None:
        if "negative_prompt" not in accepted:
            raise ValueError(f"{kind} takes no negative prompt: leave negative out")
        if not _guides(pipeline, found[guidance]):
            raise ValueError(
                f"negative has no effect without guidance ({guidance} is {found[guidance]}): leave it out, or raise "
                f"{guidance} above 1"
            )
    return replace(
        config,
        **found,
        scheduler=type(pipeline.scheduler).__name__,
        dtype=str(pipeline.dtype).removeprefix("torch."),
        safety_checker=getattr(pipeline, "safety_checker", None) is not None,
    )


def denoiser(pipeline: diffusers.DiffusionPipeline) -> torch.nn.Module | None:
    """The U-Net or the transformer that a pipeline draws with."""
    return getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)


def _default_size(pipeline: diffusers.DiffusionPipeline) -> tuple[int, int] | None:
    """Width and height in pixels: the pipeline's own, or what the denoiser was made for."""
    accepted = inspect.signature(pipeline.__call__).parameters
    sides = [accepted[side].default for side in ("width", "height") if side in accepted]
    if len(sides) == 2 and all(isinstance(side, int) for side in sides):
        return sides[0], sides[1]
    sample = getattr(getattr(denoiser(pipeline), "config", None), "sample_size", None)
    sample = getattr(pipeline, "default_sample_size", None) or sample
    factor = getattr(pipeline, "vae_scale_factor", None)
    if sample is None or factor is None:
        return None
    rows, columns = (sample, sample) if isinstance(sample, int) else sample
    return columns * factor, rows * factor


def _guidance(pipeline: diffusers.DiffusionPipeline) -> str:
    """The setting that weighs classifier-free guidance. In a pipeline that has both, guidance is something else: the
    input of a model that was distilled with guidance."""
    return "true_cfg" if "true_cfg_scale" in inspect.signature(pipeline.__call__).parameters else "guidance"


def _guides(pipeline: diffusers.DiffusionPipeline, scale: float | None) -> bool:
    """Whether the pipeline runs a second, negative half: classifier-free guidance that was not distilled away."""
    if "negative_prompt" not in inspect.signature(pipeline.__call__).parameters:
        return False
    config = getattr(denoiser(pipeline), "config", None)
    return scale is not None and scale > 1 and getattr(config, "time_cond_proj_dim", None) is None


# --- loading -----------------------------------------------------------------------------------------------------


_LIBRARIES = {"diffusers": diffusers, "transformers": transformers}


def _refuse_code(name: str, index: dict) -> None:
    """Parts are made of classes of diffusers and transformers: a name from elsewhere would be code of the model's own,
    or whatever Python happens to find under it."""
    if not isinstance(pipeline := index.get("_class_name"), str):
        raise ModelError(f"{name} wants a pipeline of its own ({pipeline}), and no code that comes with a model is run")
    for part, made_of in index.items():
        if isinstance(made_of, list) and made_of[0] not in (None, *_LIBRARIES) and _library(made_of[0]) is None:
            raise ModelError(f"{name} wants its {part} from {made_of[0]!r}, and no code that comes with a model is run")


def _library(name: str) -> ModuleType | None:
    """diffusers, transformers, or the module of one of diffusers' pipelines, which holds parts that only it has."""
    library = _LIBRARIES.get(name) or getattr(diffusers.pipelines, name, None)
    return library if isinstance(library, ModuleType) else None


def _load_models(
    name: str, folder: Path, index: dict, left_out: dict, variant: str | None, dtype: torch.dtype
) -> dict[str, torch.nn.Module]:
    """The parts that have weights, each checked. diffusers loads them alike, and draws at random what files lack."""
    models = {}
    for part, made_of in index.items():
        if part in left_out or not isinstance(made_of, list) or made_of[0] is None:
            continue
        kind = getattr(_library(made_of[0]), made_of[1], None)
        settings: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True}
        if inspect.isclass(kind) and issubclass(kind, transformers.PreTrainedModel):
            settings |= {"dtype": dtype, "attn_implementation": None}
        elif inspect.isclass(kind) and issubclass(kind, diffusers.ModelMixin):
            settings |= {"torch_dtype": dtype}
        else:
            continue
        if any((folder / part).glob(f"*.{variant}*")):
            settings["variant"] = variant
        try:
            models[part], loading = kind.from_pretrained(folder / part, **settings)
        except Exception as error:
            raise ModelError(f"cannot load the {part} of {name}: {reason(error)}") from error
        check_weights(f"the {part} of {name}", models[part], loading)
    return models


def _refuse_pickles(source: str, index: dict) -> None:
    """Weights must be safetensors in every part; a hub's are checked by diffusers (`use_safetensors`)."""
    for part in index:
        folder = Path(source, part)
        if not folder.is_dir() or any(folder.glob("*.safetensors")):
            continue
        pickled = next((f for f in folder.iterdir() if f.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")), None)
        if pickled:
            raise ModelError(
                f"{source} holds pickled weights ({part}/{pickled.name}), which can run any code: convert them to "
                "safetensors with `save_pretrained` where you trust them"
            )


def _without_safety_checker(source: str, index: dict, config: GeneratorConfig) -> dict[str, Any]:
    """Loading arguments that leave the checker out: where it is not wanted, or named but not there."""
    if "safety_checker" not in index:
        return {}
    missing = Path(source).is_dir() and not Path(source, "safety_checker").is_dir()
    if config.safety_checker and not missing:
        return {}
    return {"safety_checker": None, "requires_safety_checker": False}


def _identity(source: str) -> str:
    """The commit of a hub model, or a hash of what the parts of a folder contain."""
    if not Path(source).is_dir():
        index = try_to_load_from_cache(source, "model_index.json")
        return f"{source}@{Path(index).parent.name}" if isinstance(index, str) else source
    return hash_files(Path(source), json.loads(Path(source, "model_index.json").read_text()))


def _reason(error: BaseException) -> str:
    text = str(error)
    if "model_index.json" in text:
        return "there is no model_index.json, so it is no diffusers pipeline (or cannot be reached: see HF_HUB_OFFLINE)"
    if "safetensors" in text:
        return "it has no safetensors weights for every part, and pickled ones are refused, as they can run any code"
    return reason(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the libraries' chatter: bars for each load, warnings for each cut prompt. Downloads keep their bars."""
    libraries = (diffusers.utils.logging, transformers.utils.logging)
    before = [(lib, lib.get_verbosity(), lib.is_progress_bar_enabled()) for lib in libraries]
    for lib in libraries:
        lib.set_verbosity(logging.ERROR)
        lib.disable_progress_bar()
    try:
        yield
    finally:
        for lib, verbosity, bars in before:
            lib.set_verbosity(verbosity)
            if bars:
                lib.enable_progress_bar()


# --- drawing -----------------------------------------------------------------------------------------------------


def _checked(prompts: Sequence[str], seeds: Sequence[int]) -> tuple[list[str], list[int]]:
    if isinstance(prompts, str):
        raise TypeError(f"prompts is the text {prompts[:40]!r}: give a list of texts")
    texts = list(prompts)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a prompt is {text!r}: give texts")
    try:
        numbers = [operator.index(seed) for seed in seeds]
    except TypeError as error:
        raise TypeError(f"seeds must be whole numbers, one for each prompt: {error}") from None
    if len(texts) != len(numbers):
        raise ValueError(f"{len(numbers)} seeds for {len(texts)} prompts: give one for each")
    if any(number < 0 for number in numbers):
        raise ValueError(f"a seed is {min(numbers)}: give numbers from 0 up")
    return texts, numbers


def _generator_seed(seed: int) -> int:
    """What torch's CPU generator is seeded with. It reads 32 bits, so larger seeds are hashed and not cut off."""
    if seed < 2**32:
        return seed
    return int.from_bytes(blake2b(str(seed).encode(), digest_size=4).digest(), "big")
