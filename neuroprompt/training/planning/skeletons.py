"""Models without weights, made from their configs alone: how many parameters they have, and what their passes hold.

A skeleton is a model on torch's meta device, where tensors have shapes and no memory: one of any size is there in a
second, on any machine, from a config.json of a few kB, which a hub id fetches. `peak_bytes` runs it on fake tensors and
adds up those that are alive at once. No code of a model's folder is run.
"""

import json
import logging
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path

import diffusers
import open_clip
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedModel,
)

from neuroprompt.models import ModelError, reporting
from neuroprompt.rewards.encoders import check_open_clip

UNALLOCATED = torch.device("meta")  # as a context: what is made in it has no memory
_FAKES = FakeTensorMode()  # one for all, since fakes of two do not mix


def causal_lm(
    source: str, dtype: torch.dtype | None = None, attention: str | None = None, revision: str | None = None
) -> PreTrainedModel:
    """The language model at `source`, by default in the dtype that its config names; adapters count as merged.

    Raises:
        ModelError: There is no config, or it is none of a language model.
    """
    with reporting(f"the config of {source}"):
        if (Path(source) / "adapter_config.json").is_file():
            source = json.loads((Path(source) / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]
        config = AutoConfig.from_pretrained(source, revision=revision or "main", trust_remote_code=False)
        dtype = dtype or config.dtype or torch.float32
        if attention and "flash" in attention:
            attention = "sdpa"  # takes as little, and needs no package
        with UNALLOCATED:
            return AutoModelForCausalLM.from_config(
                config, attn_implementation=attention, dtype=dtype, trust_remote_code=False
            )


def clip(source: str, dtype: torch.dtype) -> CLIPModel:
    """A `CLIPModel` of transformers.

    Raises:
        ModelError: There is no config.
    """
    with reporting(f"the config of {source}"), UNALLOCATED:
        return CLIPModel(CLIPConfig.from_pretrained(source)).to(dtype)


def open_clip_model(name: str, dtype: torch.dtype) -> nn.Module:
    """An architecture of open_clip, or what ``hf-hub:`` or ``local-dir:`` name.

    Raises:
        ModelError: There is no config.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it warns of weights that are not loaded
    try:
        with reporting(f"the config of {name}"), UNALLOCATED:
            check_open_clip(name)
            return open_clip.create_model(name, load_weights=False, pretrained_text=False, device="meta").to(dtype)
    finally:
        logging.disable(before)


def vision_language(source: str, dtype: torch.dtype) -> PreTrainedModel:
    """A vision-language model; one of bfloat16 is held in that and not in float16 (`VisionLanguage.load`).

    Raises:
        ModelError: There is no config, or it is none of a vision-language model.
    """
    with reporting(f"the config of {source}"):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if dtype is torch.float16 and torch.bfloat16 in (config.dtype, config.get_text_config().dtype):
            dtype = torch.bfloat16
        with UNALLOCATED:
            return AutoModelForImageTextToText.from_config(config, dtype=dtype, trust_remote_code=False)


def pipeline(source: str, dtype: torch.dtype, safety_checker: bool = True) -> diffusers.DiffusionPipeline:
    """A text-to-image pipeline of diffusers: models and scheduler, no tokenizer.

    Raises:
        ModelError: A config is missing, or names a part that neither diffusers nor transformers has.
    """
    with reporting(f"the configs of {source}"):
        index = diffusers.DiffusionPipeline.load_config(source)
        cls = getattr(diffusers, index["_class_name"])
        parts: dict[str, object] = {}
        for name, entry in index.items():
            if name.startswith("_") or not isinstance(entry, list | tuple) or len(entry) != 2:
                continue  # a plain setting
            there = not Path(source).is_dir() or Path(source, name).is_dir()
            wanted = name != "safety_checker" or (safety_checker and there)
            # Some pipelines make a decoder that overflows in half precision float32 before they use it.
            own = torch.float32 if name == "vae" and dtype is torch.float16 and _upcast(cls, source) else dtype
            parts[name] = _part(source, name, *entry, own) if entry[1] and wanted else None
        settings = {"requires_safety_checker": False} if parts.get("safety_checker", index) is None else {}
        return cls(**parts, **settings)


def parameters(*models: nn.Module, trainable: bool = False) -> int:
    """Numbers in the parameters of these models, each once."""
    return sum(p.numel() for p in _once(models) if p.requires_grad or not trainable)


def weight_bytes(*models: nn.Module, trainable: bool = False) -> int:
    """Bytes of the parameters of these models, each once; with buffers, unless it is what is trainable."""
    tensors = _once(models) if trainable else [*_once(models), *{b: None for m in models for b in m.buffers()}]
    return sum(t.nbytes for t in tensors if t.requires_grad or not trainable)


def peak_bytes(
    run: Callable[[], object], *models: nn.Module, trained: bool = False, held: Iterable[Tensor] = ()
) -> int:
    """The most bytes that are alive at once while `run` works with skeletons: of tensors that it makes, and of `held`.

    The models' own tensors do not count, nor (with `trained`) their gradients, nor what a device's libraries take.
    """
    memo: dict[Tensor, Tensor] = {}
    watch = _Watch()
    with _FAKES:
        for module in (m for model in models for m in model.modules()):
            for tensors in (module._parameters, module._buffers):
                tensors |= {name: _fake(t, memo) for name, t in tensors.items() if t is not None and t.is_meta}
        parameters = _once(models) if trained else []
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        for tensor in held:
            watch.see(tensor)
            del tensor  # `run` may free it
        with watch:
            run()
        for parameter in parameters:
            parameter.grad = None
    return watch.peak


# --- details -----------------------------------------------------------------------------------------------------


class _Watch(TorchDispatchMode):
    """Adds up the storages that operations return, until they are freed."""

    def __init__(self):
        super().__init__()
        self.alive: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in given:  # no view, not in place
                self.see(tensor)
        return result

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.alive:
            self.alive[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, storage._cdata)

    def _free(self, storage: int) -> None:
        self.now -= self.alive.pop(storage, 0)


def _once(models) -> list[nn.Parameter]:
    return list({parameter: None for model in models for parameter in model.parameters()})


def _fake(tensor: Tensor, memo: dict[Tensor, Tensor]) -> Tensor:
    """What takes the place of a tensor on the meta device; shared ones stay shared."""
    if tensor not in memo:
        memo[tensor] = torch.empty(tensor.shape, dtype=tensor.dtype)
        if isinstance(tensor, nn.Parameter):
            memo[tensor] = nn.Parameter(memo[tensor], tensor.requires_grad)
    return memo[tensor]


def _part(source: str, name: str, library: str, kind: str, dtype: torch.dtype) -> object:
    """A model without weights, or a scheduler as it is. Tokenizers are left out, and no picture is prepared."""
    if name.startswith("tokenizer"):
        return None
    if name in ("feature_extractor", "image_processor"):
        return CLIPImageProcessor()
    if library == "stable_diffusion" and kind == "StableDiffusionSafetyChecker":
        cls = StableDiffusionSafetyChecker
    else:
        cls = getattr({"diffusers": diffusers, "transformers": transformers}.get(library), kind, None)
    if cls is None:
        raise ModelError(f"{source} names {library}.{kind}, which neither diffusers nor transformers has")
    if issubclass(cls, PreTrainedModel):
        config = cls.config_class.from_pretrained(source, subfolder=name)
        with UNALLOCATED:
            return cls(config).to(dtype)
    if issubclass(cls, diffusers.ModelMixin):
        config = cls.load_config(source, subfolder=name)
        with UNALLOCATED:
            return nn.Module.to(cls.from_config(config), dtype)  # its own `to` warns of what loading does otherwise
    return cls.from_pretrained(source, subfolder=name) if issubclass(cls, diffusers.SchedulerMixin) else None


def _upcast(cls: type, source: str) -> bool:
    return hasattr(cls, "upcast_vae") and diffusers.AutoencoderKL.load_config(source, subfolder="vae").get(
        "force_upcast", True
    )
