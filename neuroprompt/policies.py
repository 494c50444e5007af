"""How a policy is loaded, and how it reads a prompt: one way for rewriting, training and evaluation.

No code that comes with a model is ever run, and nothing is asked on the terminal. A model that is not what its config
says is refused, instead of being filled up with random numbers.
"""

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import cached_file

from neuroprompt.coherence import MEDIA, controls
from neuroprompt.models import ModelError, check_tokenizer, check_weights, locate, reason, reporting

CONTROLS = {family: f"<|{family or 'any'}|>" for family in ("", *MEDIA)}
"""The special token that tells a policy the family of a prompt's medium, where its tokenizer has such tokens; the one
of "" leaves the medium to the policy."""


def load_policy(
    name: str | Path,
    device: torch.device | None = None,
    *,
    safetensors_only: bool = True,
    revision: str | None = None,
    **settings,
) -> PreTrainedModel:
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
    what = f"the policy {str(name)!r}"
    if settings.pop("trust_remote_code", False):
        raise ModelError(f"trust_remote_code is set, and no code that comes with a model is run: leave it out ({what})")
    source = locate(name, "policy", weights=safetensors_only)
    with reporting(what):
        if adapter := _find(source, "adapter_config.json", revision):
            model = _merged(source, adapter, revision, settings)
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


def load_tokenizer(name: str | Path, revision: str | None = None, **settings) -> PreTrainedTokenizerBase:
    """The tokenizer of the policy `name`, or of a folder or repository that holds nothing else.

    Raises:
        ModelError: There is none, or it knows no text.
    """
    source = locate(name, "policy", weights=False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False, **settings)
    except Exception as error:
        raise ModelError(f"cannot load the tokenizer of {name} (tokenizer.json): {reason(error)}") from error
    check_tokenizer(str(name), tokenizer)
    return tokenizer


def read_prompts(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    longest: Iterable[int] | None = None,
    about: Sequence[str] | None = None,
) -> list[list[int]]:
    """Token ids of the prompts as a policy reads them: what TRL's `SFTTrainer` begins a pair of that prompt with.

    That is the text after what the tokenizer puts before every text (BOS for Llama and Gemma, nothing for GPT-2), and
    without what it puts behind one (EOS for some), since the policy goes on from here. Where the tokenizer has
    `CONTROLS`, the one of the medium that the prompt names stands before the text.

    Args:
        prompts: Without the separators that the policy is to write.
        longest: Tokens that may be read of each; of what is longer the end is, after what stands before every text.
        about: Texts that say more of the medium than the prompts do, such as these with what is required besides.
    """
    if not prompts:
        return []
    start, told = text_start(tokenizer), control_tokens(tokenizer)
    texts = [told[controls(text)] + prompt for prompt, text in zip(prompts, about or prompts, strict=True)]
    read = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    if longest is None:
        return [start + ids for ids in read]
    first = int(bool(told[""]))  # tokens of a text that are its control
    return [
        start + ids[:first] + ids[first:][-max(1, most - len(start) - first) :]
        for ids, most in zip(read, longest, strict=True)
    ]


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> Mapping[str, str]:
    """What tells the tokenizer's policy each family of `CONTROLS`; "" for every one where it has no such tokens."""
    known = tokenizer.added_tokens_encoder
    anything = CONTROLS[""] if CONTROLS[""] in known else ""
    return {family: token if token in known else anything for family, token in CONTROLS.items()}


def text_start(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that the tokenizer puts before every text."""
    whole, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    return whole[: whole.index(bare[0])]


# --- details -----------------------------------------------------------------------------------------------------


def _find(source: str, file: str, revision: str | None) -> Path | None:
    """A file of a folder or a hub repository that need not be there."""
    found = cached_file(source, file, revision=revision, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def _merged(source: str, adapter: Path, revision: str | None, settings: dict) -> PreTrainedModel:
    """The model that an adapter was trained on, changed by it."""
    try:
        from peft import PeftModel
    except ImportError:
        raise ModelError(
            f"{source} holds adapters: install peft to read them (pip install 'neuroprompt[train]')"
        ) from None
    config = json.loads(adapter.read_text("utf-8"))
    if not config.get("base_model_name_or_path"):
        raise ModelError(f"{source} holds adapters that do not say of which model (base_model_name_or_path)")
    if _find(source, "config.json", revision):
        raise ModelError(f"{source} holds both a model and adapters: keep the one or the other")
    if config.get("megatron_config"):
        raise ModelError(f"{source} holds adapters that name a Python module to import (megatron_core)")
    if not _find(source, "adapter_model.safetensors", revision):
        raise ModelError(
            f"{source} holds no adapter_model.safetensors, and pickles are not read: they can run any code"
        )
    base = load_policy(config["base_model_name_or_path"], revision=config.get("revision"), **settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys")
        return PeftModel.from_pretrained(base, adapter.parent, torch_device=str(base.device)).merge_and_unload()


def _check_decoding(what: str, file: Path | None) -> None:
    """Refuse a generation config that cannot be read: the library goes on without it, and does not say so."""
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


def sampled_by_default(model: PreTrainedModel, temperature: float) -> None:
    """Let the policy's `generation_config` say that it is sampled, and at which temperature."""
    settings = model.generation_config
    settings._from_model_config = False  # with it, the library reads no settings but the model config's
    settings.do_sample, settings.temperature = True, temperature
