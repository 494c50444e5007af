"""How a policy is loaded: one way for rewriting, training and evaluation.

No code that comes with a model is ever run, and nothing is asked on the terminal. A model that is not what its config
says is refused, instead of being filled up with random numbers.
"""

import json
import math
import warnings
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neuroprompt.formats import FILE as FORMAT_FILE
from neuroprompt.formats import PromptFormat, format_of
from neuroprompt.models import (
    CONFIGS,
    RETELLER,
    ModelError,
    check_tokenizer,
    check_weights,
    locate,
    pick_device,
    reason,
    reporting,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from neuroprompt.language_models.gpt2 import GPT2
    from neuroprompt.language_models.tokenizer import Tokenizer

BACKENDS = ("torch", "numpy")
FEW = 100
"""Prompts for which torch is not worth its start, where nobody says what to use."""


def load_policy(
    name: str | Path,
    device: "torch.device | None" = None,
    *,
    safetensors_only: bool = True,
    revision: str | None = None,
    **settings,
) -> "PreTrainedModel":
    """A causal language model.

    Args:
        name: ``embedded``, a folder, or a hub id. Adapters (LoRA's, say) are merged into the model that they name.
        device: Where to put it; without one it stays where it was read to, for a trainer to place.
        safetensors_only: Refuse PyTorch's own files. Where those are read, it is with `weights_only`, whose unpickler
            knows tensors and plain containers and refuses everything that could run code.
        revision: Branch, tag or commit, on the hub.
        settings: Others of `from_pretrained`, such as `dtype` and `attn_implementation`.

    Raises:
        ModelError: There is none, it cannot be loaded, or it is not what its config says.
    """
    from transformers import AutoModelForCausalLM

    what = f"the policy {str(name)!r}"
    if settings.pop("trust_remote_code", False):
        raise ModelError(f"trust_remote_code is set, and no code that comes with a model is run: leave it out ({what})")
    if is_config(name):
        config = PolicyConfig.from_file(name)
        safetensors_only, revision = config.safetensors_only, revision or config.revision
    source = locate(name, "policy", weights=safetensors_only)
    with reporting(what):
        if adapter := _find(source, "adapter_config.json", revision):
            model = _merged(source, adapter, revision, settings, _told_base(name))
            loading = None
        else:
            model, loading = AutoModelForCausalLM.from_pretrained(
                source,
                revision=revision,
                use_safetensors=safetensors_only or None,  # None takes PyTorch's files where there are no others
                trust_remote_code=False,
                output_loading_info=True,
                # A config could name a kernel of the hub here, which is code from there.
                **{"attn_implementation": None} | settings,
            )
            _check_decoding(what, _find(source, "generation_config.json", revision))
        model = model.to(device) if device else model
        check_weights(what, model, loading)
    return model


def load_tokenizer(name: str | Path, revision: str | None = None, **settings) -> "PreTrainedTokenizerBase":
    """The tokenizer of the policy `name`, or of a folder or repository that holds nothing else.

    Raises:
        ModelError: There is none, or it knows no text.
    """
    from transformers import AutoTokenizer

    if is_config(name):
        config = PolicyConfig.from_file(name)
        own = revision or (config.revision if config.tokenizer is None else None)
        return load_tokenizer(config.tokenizer or config.model, own, **settings)
    source = locate(name, "policy", weights=False)
    adapter = _find(source, "adapter_config.json", revision)
    if adapter and not _find(source, "tokenizer_config.json", revision):  # it is that of the model that they change
        base, revision = _base(source, adapter, _told_base(name))
        return load_tokenizer(base, revision, **settings)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False, **settings)
    except Exception as error:
        raise ModelError(f"cannot load the tokenizer of {name} (tokenizer.json): {reason(error)}") from error
    check_tokenizer(str(name), tokenizer)
    return tokenizer


class Policy(NamedTuple):
    """A policy, and how it is asked and decoded.

    Attributes:
        decoding: Settings that are its own, by the names of `enhancer.Decoding`; others are by default.
    """

    model: "PreTrainedModel | GPT2"
    tokenizer: "PreTrainedTokenizerBase | Tokenizer"
    format: PromptFormat
    decoding: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(PromptFormat):
    """A policy as a YAML file describes it: where it is, how it is asked, and how it is decoded.

        # promptist.yaml
        model: microsoft/Promptist
        tokenizer: openai-community/gpt2
        template: "{prompt} Rephrase:"
        num_beams: 8

    Attributes:
        model: A folder or a hub id of a causal language model; ``embedded`` is this project's policy.
        tokenizer: Where its tokenizer is, if not with the model.
        revision: Branch, tag or commit of the model on the hub.
        safetensors_only: Refuse PyTorch's own files. Where those are read, it is with `weights_only`, whose unpickler
            knows tensors and plain containers and refuses everything that could run code.
        num_beams: Width of the beam search.
        length_penalty: Exponent of the length in a beam's score.
        do_sample: Sample instead of searching.
        temperature, top_k, top_p: Of sampling; `top_k` 0 and `top_p` 1 take all tokens.
        max_new_tokens: At most so many.
        batch_size: Prompts at once.
        dtype: Of the weights; float32 on a CPU and the checkpoint's own elsewhere by default.
    """

    model: str
    tokenizer: str | None = None
    revision: str | None = None
    safetensors_only: bool = True
    num_beams: int = 1
    length_penalty: float = 1.0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    max_new_tokens: int = 75
    batch_size: int = 16
    dtype: str | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.do_sample and self.num_beams > 1:
            raise ValueError(f"do_sample and num_beams {self.num_beams} exclude each other: choose one")
        for name, fine, wanted in (
            ("temperature", self.temperature > 0, "above 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "at least 0"),
            *((name, getattr(self, name) > 0, "at least 1") for name in ("num_beams", "max_new_tokens", "batch_size")),
        ):
            if not fine:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be {wanted}")

    @property
    def format(self) -> PromptFormat:
        """How it is asked and read, alone."""
        return PromptFormat(**{f.name: getattr(self, f.name) for f in fields(PromptFormat)})

    def load(self, device: "torch.device | None" = None, dtype: "str | torch.dtype | None" = None) -> Policy:
        """The policy; `dtype` is in the place of the file's.

        Raises:
            ModelError: It cannot be loaded, or is no chat model where it should be one.
        """
        dtype = dtype or self.dtype or ("float32" if device is None or device.type == "cpu" else "auto")
        model = load_policy(
            self.model, device, safetensors_only=self.safetensors_only, revision=self.revision, dtype=dtype
        )
        own = {"revision": self.revision} if self.tokenizer is None else {}
        tokenizer = load_tokenizer(self.tokenizer or self.model, **own)
        self.check(tokenizer, self.model)
        decoding = {name: getattr(self, name) for name in _DECODING if getattr(self, name) != getattr(type(self), name)}
        return Policy(model, tokenizer, self.format, decoding)


def open_policy(
    name: str | Path,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
    backend: str | None = None,
) -> Policy:
    """A policy and its tokenizer, ready to be asked.

    Args:
        name: As of `load_policy`, or a `PolicyConfig`'s YAML file.
        device: Where it runs; by default the accelerator if there is one.
        dtype: Of the weights; float32 on a CPU and the checkpoint's own elsewhere by default.
        backend: One of `BACKENDS`; by default torch where it is installed, and otherwise NumPy.

    Raises:
        ModelError: It cannot be loaded, cannot be asked in this way, or not without torch.
        ValueError: The YAML file says what it cannot, or there is no such backend.
    """
    if backend not in (*BACKENDS, None):
        raise ValueError(f"there is no backend {backend!r}: choose from {', '.join(BACKENDS)}")
    if backend == "numpy" or (backend is None and find_spec("torch") is None):
        return _without_torch(name, device, dtype)
    device = pick_device(device)
    if is_config(name):
        return PolicyConfig.from_file(name).load(device, dtype)
    model = load_policy(name, device, dtype=dtype or ("float32" if device.type == "cpu" else "auto"))
    tokenizer = load_tokenizer(name)
    return Policy(model, tokenizer, saved_format(name, tokenizer), {})


def needs_torch(name: str | Path) -> str | None:
    """Why the policy cannot be run by NumPy, if so.

    Raises:
        ModelError: As `models.locate`.
    """
    from neuroprompt.language_models import gpt2, tokenizer

    if is_config(name):
        return "it is described by a YAML file"
    folder = Path(locate(name, "policy"))
    if not folder.is_dir():
        return "it is on the hub"
    return gpt2.unlike(folder) or tokenizer.unlike(folder)


def backend_for(name: str | Path, device: str | None, prompts: int | None) -> str | None:
    """What rewrites so many prompts (None: nobody knows) soonest, of `open_policy`'s backends: NumPy up to `FEW`, where
    the policy can be run by it and no device is asked for."""
    few = device is None and prompts is not None and prompts <= FEW
    return "numpy" if few and not needs_torch(name) else None


def _without_torch(name: str | Path, device: object, dtype: object) -> Policy:
    from neuroprompt.language_models.gpt2 import GPT2
    from neuroprompt.language_models.tokenizer import Tokenizer

    if str(device or "cpu") != "cpu" or str(dtype or "float32").removeprefix("torch.") != "float32":
        raise ModelError(f"{device or dtype} is for torch: NumPy computes on the CPU, in float32")
    if why := needs_torch(name):
        raise ModelError(f"the policy {str(name)!r} needs torch: {why}, and NumPy runs GPT-2 alone")
    folder = Path(locate(name, "policy"))
    tokenizer = Tokenizer(folder)
    return Policy(GPT2.load(folder), tokenizer, saved_format(name, tokenizer), {})


def is_config(name: str | Path) -> bool:
    """Whether this is the name of a `PolicyConfig`'s file."""
    return Path(name).suffix.lower() in CONFIGS


def saved_format(
    name: str | Path, tokenizer: "PreTrainedTokenizerBase | Tokenizer", revision: str | None = None
) -> PromptFormat:
    """How the policy `name` is asked: as the file beside it says, or by default (`formats.format_of`).

    Raises:
        ModelError: The file cannot be read, or does not suit the tokenizer.
    """
    found = _find(locate(name, "policy", weights=False), FORMAT_FILE, revision)
    made = format_of(found and found.parent, tokenizer)
    made.check(tokenizer, str(name))
    return made


# What a YAML file may say of decoding, and `enhancer.Decoding` knows.
_DECODING = ("num_beams", "length_penalty", "do_sample", "temperature", "top_k", "top_p", "max_new_tokens")


# --- details -----------------------------------------------------------------------------------------------------


def _find(source: str, file: str, revision: str | None) -> Path | None:
    """A file of a folder or a hub repository that need not be there."""
    if Path(source).is_dir():
        return found if (found := Path(source, file)).is_file() else None
    from transformers.utils import cached_file

    found = cached_file(source, file, revision=revision, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def _told_base(name: str | Path) -> str | None:
    """The model that adapters are to be put on, where the policy's name says so: "retell:FOLDER"."""
    return str(name).partition(":")[2] or None if str(name).startswith(f"{RETELLER}:") else None


def _base(source: str, adapter: Path, told: str | None) -> tuple[str, str | None]:
    """The model that adapters were trained on, or are to be put on, and its revision."""
    config = json.loads(adapter.read_text("utf-8"))
    if told:
        return told, None
    if not config.get("base_model_name_or_path"):
        raise ModelError(f"{source} holds adapters that do not say of which model (base_model_name_or_path)")
    return config["base_model_name_or_path"], config.get("revision")


def _merged(source: str, adapter: Path, revision: str | None, settings: dict, told: str | None) -> "PreTrainedModel":
    """The model that an adapter was trained on, or that is `told`, changed by it."""
    try:
        from peft import PeftModel
    except ImportError:
        raise ModelError(
            f"{source} holds adapters: install peft to read them (pip install 'neuroprompt[train]')"
        ) from None
    config = json.loads(adapter.read_text("utf-8"))
    base_name, base_revision = _base(source, adapter, told)
    if _find(source, "config.json", revision):
        raise ModelError(f"{source} holds both a model and adapters: keep the one or the other")
    if config.get("megatron_config"):
        raise ModelError(f"{source} holds adapters that name a Python module to import (megatron_core)")
    if not _find(source, "adapter_model.safetensors", revision):
        raise ModelError(
            f"{source} holds no adapter_model.safetensors, and pickles are not read: they can run any code"
        )
    base = load_policy(base_name, revision=base_revision, **settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys")
        return PeftModel.from_pretrained(base, adapter.parent, torch_device=str(base.device)).merge_and_unload()


def _check_decoding(what: str, file: Path | None) -> None:
    """Refuse a generation config that cannot be read: the library goes on without it, and does not say so."""
    from transformers import GenerationConfig

    if file is None:
        return
    try:
        settings = json.loads(file.read_text("utf-8"))
        GenerationConfig.from_dict(settings)
    except Exception as error:
        raise ModelError(f"{what} has a generation_config.json that cannot be read: {reason(error)}") from error
    for name in ("temperature", "diversity"):
        value = settings.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 <= value < math.inf):
            raise ModelError(f"{what} has a generation_config.json whose {name} is {value!r}: give a number from 0 up")
    if not isinstance(usual := settings.get("usual", False), bool):
        raise ModelError(f"{what} has a generation_config.json whose usual is {usual!r}: give true or false")


def sampled_by_default(model: "PreTrainedModel", temperature: float) -> None:
    """Let the policy's `generation_config` say that it is sampled, and at which temperature."""
    settings = model.generation_config
    settings._from_model_config = False  # with it, the library reads no settings but the model config's
    settings.do_sample, settings.temperature = True, temperature
