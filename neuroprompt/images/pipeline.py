"""`PipelineGenerator`: diffusers' text-to-image pipelines (Stable Diffusion 1, 2, XL and 3, Flux, Qwen-Image, their
turbo and LCM variants: whatever `AutoPipelineForText2Image` loads).

A picture's noise comes from a CPU generator of its own, so it is the same on any device and in any batch, up to
rounding.
"""

import inspect
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusers
import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from torch import Tensor

from neuroprompt.image_files import DIFFUSERS_NAMES
from neuroprompt.images.config import GeneratorConfig, as_its_card_says, noise_seed, shown_size
from neuroprompt.images.encoder import PromptEncoder
from neuroprompt.images.generator import Drawing, ImageGenerator
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
from neuroprompt.prompts import Window


class PipelineGenerator(ImageGenerator):
    """Draws with a pipeline in this process.

    Args:
        pipeline: A text-to-image pipeline of diffusers, on its device.
        config: How to draw; what is None is taken from the pipeline.
        name: What the model is called, in files and reports.
        identity: What `fingerprint` knows the weights by; the name, unless something better is known.

    Attributes:
        pipeline: diffusers' own.
        config: How pictures are drawn, with no None left where the pipeline has a default that the model heeds.
        fingerprint: Of the hub's commit or the content of a folder's files, and the settings that change pictures.
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
        self._own: dict[str, Tensor] | None = None
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
    ) -> "PipelineGenerator":
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

    def _draw(self, prompts: list[str], seeds: list[int], negatives: list[str | None]) -> Drawing:
        """Each distinct text is encoded once. Where a batch does not fit into memory, it is drawn in halves; what was
        drawn before it stays, and later calls begin with the smaller size.

        Raises:
            torch.OutOfMemoryError: One picture alone is too much. Any other error of the pipeline comes as it is.
        """
        drawn: list[Drawing] = []
        encoded: _Encoded = {}
        start = 0
        with _quiet():
            while start < len(prompts):
                batch = slice(start, start + self._batch_size)
                texts = prompts[batch]
                try:
                    drawn.append(self._draw_batch(texts, seeds[batch], negatives[batch], encoded))
                except RuntimeError as error:
                    if len(texts) == 1 or not is_out_of_memory(error):
                        raise
                    self._batch_size = len(texts) // 2
                else:
                    start += len(texts)
                    left = {("prompt", p) for p in prompts[start:]} | {("negative", n) for n in negatives[start:]}
                    encoded = {text: rows for text, rows in encoded.items() if text in left}
                    continue
                empty_cache(self.device)  # after the handler, which holds the failed batch's tensors
        return Drawing(torch.cat([d.images for d in drawn]), torch.cat([d.flagged for d in drawn]))

    def _draw_batch(
        self, prompts: list[str], seeds: list[int], negatives: list[str | None], encoded: "_Encoded"
    ) -> Drawing:
        if type(self.pipeline).__name__ in _EMBEDDINGS:
            inputs = self._embeddings(prompts, negatives, encoded)
        else:
            inputs = {"prompt": prompts}
            against = [self._negative if negative is None else negative for negative in negatives]
            if any(negative is not None for negative in against):
                inputs["negative_prompt"] = [negative or "" for negative in against]
        result = self.pipeline(
            **inputs,
            **self._settings,
            generator=[torch.Generator("cpu").manual_seed(noise_seed(seed)) for seed in seeds],
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

    @property
    def encoder(self) -> PromptEncoder | None:
        """Over its CLIP text encoders; None of a pipeline that has none."""
        return PromptEncoder.of(self.pipeline, self.name)

    def _embeddings(self, prompts: list[str], negatives: list[str | None], encoded: "_Encoded") -> dict[str, Tensor]:
        """The pipeline's text inputs for a batch; `encoded` keeps those of each text for the batches to come."""
        rows = self._rows("prompt", prompts, encoded)
        if self.takes_negative:
            encoded["negative", None] = self._own_negative()
            against = self._rows("negative", negatives, encoded)
            rows = [row | other for row, other in zip(rows, against, strict=True)]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def _rows(self, kind: str, texts: list[str | None], encoded: "_Encoded") -> list[dict[str, Tensor]]:
        """The inputs of each text, one row each, as a prompt or as a negative prompt."""
        if new := [text for text in dict.fromkeys(texts) if (kind, text) not in encoded]:
            made = self._encode(new, guided=False) if kind == "prompt" else self._encode_negatives(new)
            encoded |= {(kind, t): {name: x[i : i + 1] for name, x in made.items()} for i, t in enumerate(new)}
        return [encoded[kind, text] for text in texts]

    def _own_negative(self) -> dict[str, Tensor]:
        """The inputs of the config's negative prompt, encoded once for the generator's lifetime."""
        if self._own is None:
            negative = self._negative
            self._own = self._encode_negatives(None if negative is None else [negative])
        return self._own

    def _encode_negatives(self, negatives: list[str] | None) -> dict[str, Tensor]:
        """The pipeline's encoding of negative prompts; of None what it takes for none."""
        if _guidance(self.pipeline) == "true_cfg":  # its encoder takes them for prompts like others
            return {f"negative_{name}": x for name, x in self._encode(negatives, guided=False).items()}
        made = self._encode([""] * len(negatives or [""]), guided=True, negatives=negatives)
        return {name: x for name, x in made.items() if name.startswith("negative")}

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
    def window(self) -> Window | None:
        """What the encoder reads that reads the most: T5 or a language model in its own tokens, else CLIP."""
        return _window(self.pipeline, self.config.max_sequence_length) or super().window

    @property
    def takes_negative(self) -> bool:
        """Whether the denoiser runs a second, negative half for each picture."""
        return _guides(self.pipeline, getattr(self.config, _guidance(self.pipeline)))

    @property
    def _negative(self) -> str | None:
        """What guidance leads away from; None is what the pipeline takes then."""
        given = self.config.negative
        # Where true_cfg weighs it, nothing is none: the pipeline leaves guidance out. A blank is what cards give.
        blank = " " if self.takes_negative and _guidance(self.pipeline) == "true_cfg" else None
        return blank if given is None else given


# --- what is known of models and pipelines ------------------------------------------------------------------------

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
_Encoded = dict[tuple[str, str | None], dict[str, Tensor]]
"""What the pipeline makes of texts: inputs by name, one row, by ("prompt" or "negative", text)."""


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
        raise ValueError(f"size is {shown_size(size)}, and {kind} takes none: leave it out")
    factor = getattr(pipeline, "vae_scale_factor", 8)
    step = max(8, factor * 2 if hasattr(pipeline, "transformer") else factor)
    if size and any(side % step for side in size):
        near = shown_size([max(step, round(side / step) * step) for side in size])
        raise ValueError(f"size is {shown_size(size)}: {kind} draws multiples of {step} pixels, such as {near}")
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


def _window(pipeline: diffusers.DiffusionPipeline, most: int | None) -> Window | None:
    """What a pipeline reads of a prompt, at `most` tokens where it is read by more than CLIP; None where that is not
    known."""
    found: Window | None = None
    for number in ("", "_2", "_3"):
        tokenizer = getattr(pipeline, f"tokenizer{number}", None)
        if tokenizer is None or getattr(pipeline, f"text_encoder{number}", None) is None:
            continue
        name = re.sub("Tokenizer(Fast)?$", "", type(tokenizer).__name__)
        if name == "CLIP":
            found = found or Window(tokenizer.model_max_length)
        elif most and not isinstance(tokenizer, transformers.PreTrainedTokenizerBase):  # a processor of pictures, too
            found = Window.estimated(most)
        elif most:
            # A function: where settings are copied, a `partial` would be, too, and the pipeline with it.
            found = Window(most, name, lambda text, own=tokenizer: _count(pipeline, own, text))
    return found


def _count(pipeline: diffusers.DiffusionPipeline, tokenizer: transformers.PreTrainedTokenizerBase, text: str) -> int:
    """Tokens of a prompt as the pipeline encodes it: what it sets around the text takes of the window, too."""
    apart = 0
    if template := getattr(
        pipeline, "prompt_template_encode", None
    ):  # of which Qwen-Image cuts the beginning off again
        text, apart = template.format(text), pipeline.prompt_template_encode_start_idx
    elif (name := type(pipeline).__name__) in _CHATS:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=_CHATS[name],
        )
    return len(tokenizer(text, verbose=False)["input_ids"]) - apart


# Pipelines whose encoder is a chat model, and reads a prompt as a user's message: by its template's `enable_thinking`.
_CHATS = {"ZImagePipeline": True, "Flux2KleinPipeline": False}

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
