"""The one place where a model's name becomes a place to load it from, and a wish for a device the device.

A name is ``embedded`` (what ships), a local folder, or an id on the model hub; everything loadable is found this way.
Of policies two ship: ``embedded`` is the general one, and ``embedded-ppo`` what PPO made of it for the embedded
generator, whose pictures it writes for (`policy_for`).
What is loaded is checked here, too: its weights must be those that its config describes.
"""

import atexit
import errno
import json
import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from neuroprompt.files import read_mapping

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

DIFFERENCE = "difference.safetensors"
"""The file of a model that is kept as its difference to another."""

TUNED = "embedded-ppo"
"""The policy that PPO tuned to the embedded generator."""

RETELLER = "retell"
"""The adapter that makes a small chat model retell prompts; with a colon behind it, the folder of that model."""

CONFIGS = (".yaml", ".yml")
"""What a file is called that says where a policy is and how it is asked (`policies.PolicyConfig`)."""

_EMBEDDED = Path(__file__).parent / "assets"
_RENAMED = {"embedded-sft": "embedded"}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PATIENCE = 5  # seconds for the hub's first answer
_DECISIVE = (".safetensors", ".json", ".txt", ".model")


class ModelError(OSError):
    """A model that cannot be loaded; the message is one line and says what to do."""


def policy_for(generator: str | None) -> str:
    """The policy that rewrites where nobody names one, for what `generator` draws (None: nothing is drawn)."""
    return TUNED if generator == "embedded" else "embedded"


def locate(name: str | Path, kind: str, *, weights: bool = True) -> str:
    """Where to load the model called `name` from, for a ``from_pretrained``.

    Args:
        name: ``embedded`` (of policies also ``embedded-ppo``, ``retell`` and a YAML file that names another), a
            folder, or a hub id.
        kind: The folder of the embedded model, such as ``policy``.
        weights: Whether a folder must hold weights as safetensors; a tokenizer's need not.

    Raises:
        ModelError: There is no such embedded model; the folder is missing, is no model, or holds pickled weights only
            (a pickle runs any code that its maker put in); or the hub does not have it (see `check_hub`).
    """
    name = str(name)
    if name in _RENAMED:
        raise ModelError(f"the model {name!r} is called {_RENAMED[name]!r} now")
    if kind == "policy" and Path(name).suffix.lower() in CONFIGS:
        config = _read_config(name)
        return locate(config["model"], kind, weights=weights and config.get("safetensors_only", True))
    if kind == "policy" and name.partition(":")[0] == RETELLER:
        return str(_EMBEDDED / f"{kind}-{RETELLER}")
    if name == "embedded" or name.startswith("embedded-"):
        folder = _EMBEDDED / (kind + name.removeprefix("embedded"))
        if not folder.is_dir():
            raise ModelError(f"there is no model '{name}' among the embedded ones for {kind}")
        return str(whole_model(folder))
    folder = Path(name).expanduser()
    if folder.is_dir() and not weights:
        return str(folder)
    if folder.is_dir():
        files = [f.name for f in folder.rglob("*") if f.is_file()]
        if not any(f.endswith(".safetensors") for f in files):
            pickled = next((f for f in files if f.endswith(_PICKLES)), None)
            if pickled:
                raise ModelError(
                    f"{name} holds pickled weights ({pickled}), which can run any code: convert them to safetensors "
                    "with `save_pretrained` where you trust them"
                )
            raise ModelError(f"{name} is no model folder: it holds no .safetensors file")
        return str(folder)
    if folder.exists():
        raise ModelError(f"{name} is a file: give the folder that holds config.json and model.safetensors")
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise ModelError(f"there is no folder {name!r}")
    check_hub(name)
    return name


def _read_config(path: str) -> dict[str, Any]:
    try:
        config = read_mapping(path)
    except ValueError as error:
        raise ModelError(str(error)) from error
    if not isinstance(config.get("model"), str):
        raise ModelError(f"{path} names no model: it holds the keys of a policy, such as model and template")
    return config


@cache
def whole_model(folder: Path) -> Path:
    """Where a model is whole that may be kept as its difference to another.

    The policy that PPO tuned is: two thin factors for each matrix that PPO's adapters changed, a twentieth of its
    size (`write_difference` of `training/embedded/export_policy.py`). It is put together in a folder that goes when the
    process ends, and not in memory, since what loads it is not this package alone: TRL's GRPO and RLOO take their
    reference from where the policy came from.
    """
    if not (folder / DIFFERENCE).is_file():
        return folder
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    with safe_open(folder / DIFFERENCE, "np") as file:
        base = folder.parent / file.metadata()["base"]
    factors, weights = load_file(folder / DIFFERENCE), load_file(base / "model.safetensors")
    for name, weight in weights.items():
        if f"{name}.left" in factors:
            left, right = (factors[f"{name}.{side}"].astype(np.float32) for side in ("left", "right"))
            weights[name] = (weight.astype(np.float32) + (left @ right).reshape(weight.shape)).astype(weight.dtype)
    whole = Path(tempfile.mkdtemp(prefix="neuroprompt-")) / folder.name
    atexit.register(shutil.rmtree, whole.parent, ignore_errors=True)
    for source in (base, folder):  # what lies beside the difference is the policy's own, such as how it is decoded

        def left_out(at: str, names: list[str], top: str = str(source)) -> set[str]:
            return {name for name in names if at == top and name.endswith((".safetensors", ".md"))}

        shutil.copytree(source, whole, ignore=left_out, dirs_exist_ok=True)
    save_file(weights, whole / "model.safetensors", {"format": "pt"})
    return whole


@cache
def check_hub(name: str, kind: str = "model") -> None:
    """Ask the hub once, in seconds, whether it has what is about to be loaded from it; what is in the cache will do.

    The libraries ask for every file, five times each, and report that the last one is missing. Where the hub cannot be
    reached and the cache has the repository, this process works offline from here on, as with ``HF_HUB_OFFLINE=1``.

    Args:
        name: The id of a repository.
        kind: ``model`` or ``dataset``.

    Raises:
        ModelError: There is no such repository, it is gated, or the hub cannot be reached; and it is not in the cache.
    """
    from huggingface_hub import constants, get_session
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise ModelError(f"there is no folder {name!r}, and no such id on the hub: one is owner/name") from None
    cached = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type=kind), "snapshots").is_dir()
    if kind == "dataset" and not cached:
        import datasets  # which keeps what it made of files in a cache of its own

        cached = Path(datasets.config.HF_DATASETS_CACHE, name.replace("/", "___")).is_dir()
    problem = None
    try:  # as `HfApi.auth_check`, which would wait for ever
        url = f"{constants.ENDPOINT}/api/{kind}s/{name}/auth-check"
        hf_raise_for_status(get_session().get(url, headers=build_hf_headers(), timeout=_PATIENCE))
    except OfflineModeIsEnabled:
        problem = f"{name} is not in the hub's cache, and HF_HUB_OFFLINE is set: unset it, or give a folder"
    except GatedRepoError:
        page = f"{constants.ENDPOINT}/{'datasets/' * (kind == 'dataset')}{name}"
        problem = f"{name} is gated: accept its terms at {page}, then log in with `hf auth login`"
    except RepositoryNotFoundError:
        problem = f"the hub has no {kind} {name!r} for you: check the id, log in with `hf auth login`, or give a folder"
    except HfHubHTTPError as error:  # a hub without this check, or one that is busy: the libraries may still get on
        logging.getLogger(__name__).debug("%s: %s", name, error)
    except Exception as error:  # of the HTTP client; which one is the hub's library's business
        problem = (
            f"there is no folder {name!r}, and the hub ({constants.ENDPOINT}) cannot be reached: connect, or give a "
            f"folder ({reason(error)})"
        )
        if cached:
            logging.getLogger(__name__).warning("the hub cannot be reached: %s is taken from the cache", name)
            constants.HF_HUB_OFFLINE = True
    if problem and not cached:
        raise ModelError(problem)


def identify(name: str | Path, kind: str) -> str:
    """What tells a model's weights from others, for what is made with them: a hash of its files, or the hub id.

    Raises:
        ModelError: As `locate`.
    """
    folder, name = Path(locate(name, kind)), str(name)
    own = hash_files(folder) if folder.is_dir() else name
    if kind == "policy" and Path(name).suffix.lower() in CONFIGS:
        return blake2b(Path(name).read_bytes() + own.encode(), digest_size=16).hexdigest()
    return own


def hash_files(folder: Path, parts: Iterable[str] = (".",)) -> str:
    """A hash (32 hex digits) of what decides on a model's output: its weights, configs and vocabularies.

    Args:
        folder: The model's.
        parts: Folders in it that count; what does not exist is left out.

    Raises:
        OSError: A file cannot be read.
    """
    files = sorted(f for part in parts for f in Path(folder, part).glob("*") if f.suffix in _DECISIVE)
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_digest, files))
    listing = [[f.relative_to(folder).as_posix(), digest] for f, digest in zip(files, digests, strict=True)]
    return blake2b(json.dumps(listing).encode(), digest_size=16).hexdigest()


def _digest(file: Path) -> str:
    digest = blake2b(digest_size=16)
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def reporting(what: str) -> Iterator[None]:
    """Turn whatever the libraries raise while `what` is loaded into a `ModelError` of one line."""
    try:
        yield
    except ModelError:
        raise
    except UnpicklingError as error:
        raise ModelError(
            f"{what} is refused: it is no PyTorch file of tensors alone, and other pickles can run any code"
        ) from error
    except Exception as error:
        raise ModelError(f"cannot load {what}: {reason(error)}") from error


def check_weights(what: str, model: "torch.nn.Module", loading: Mapping[str, Iterable[str]] | None = None) -> None:
    """Refuse a model that is not what its config says: the libraries fill gaps with random numbers, and only warn.

    Args:
        what: What the model is called in the error.
        model: Where it will stay: one pass over all weights is made there.
        loading: What ``from_pretrained(output_loading_info=True)`` says; None for what was loaded strictly.

    Raises:
        ModelError: A weight is not in the files, the files have layers that the model has not, or a number is NaN or
            infinite.
    """
    import torch

    state, loading = model.state_dict(), loading or {}
    if missing := sorted(loading.get("missing_keys", ())):
        raise ModelError(
            f"{what} is not what its config says: its files lack {len(missing)} of {len(state)} weights, such as "
            f"{missing[0]}"
        )
    # A head of another task may be left over. What is called like a weight of this model, but for a number, is a layer.
    known = {_numberless(name) for name in state}
    left = sorted(
        name
        for name in loading.get("unexpected_keys", ())
        if any(own == _numberless(name) or own.endswith(f".{_numberless(name)}") for own in known)
    )
    if left:
        raise ModelError(
            f"{what} is not what its config says: its files hold {len(left)} weights more, such as {left[0]}"
        )
    floats = [name for name, x in state.items() if x.is_floating_point() and x.numel() and not x.is_meta]
    if not floats:
        return
    extremes = torch.stack([torch.stack(state[name].aminmax()).float() for name in floats])  # NaN where there is one
    if broken := [name for name, fine in zip(floats, extremes.isfinite().all(1).tolist(), strict=True) if not fine]:
        raise ModelError(f"{what} is broken: {broken[0]} holds numbers that are NaN or infinite")


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def check_tokenizer(what: str, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Refuse a tokenizer without words, which is what the libraries make where its files are missing.

    Raises:
        ModelError: It knows no more than its special tokens.
    """
    if len(tokenizer.get_vocab()) <= len(tokenizer.added_tokens_decoder) + 1:  # and a sign for spaces
        raise ModelError(f"{what} has no tokenizer: copy the files of the one that it was trained with")


# --- devices -----------------------------------------------------------------------------------------------------


def pick_device(device: "str | torch.device | None" = None) -> "torch.device":
    """The device asked for; by default the accelerator, if there is one.

    Any that torch knows is found (``cuda``, which is AMD's, too; Apple's ``mps``, Intel's ``xpu``). Only CUDA and the
    CPU are tried by this project.

    Raises:
        ModelError: There is no such device here.
    """
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return accelerator or torch.device("cpu")
    name, instead = str(device), f", but {accelerator.type}" if accelerator else ""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"there is no device {name!r}: leave the device out, or set it to cpu") from error
    if device.type == "cpu":
        return device
    if accelerator is None or device.type != accelerator.type:
        shown = device.type.upper() if device.type == "cuda" else device.type
        raise ModelError(f"there is no {shown} device{instead}: leave the device out, or set it to cpu")
    if (device.index or 0) >= (count := torch.accelerator.device_count()):
        raise ModelError(f"there is no device {name!r}: there are {count}, counted from {device.type}:0")
    return device


def has_bfloat16(device: "torch.device") -> bool:
    """Whether the device multiplies bfloat16 itself; others are far slower at it than at float32."""
    import torch

    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    supported = getattr(torch.get_device_module(device), "is_bf16_supported", None)  # mps does not say
    return supported is not None and supported(including_emulation=False)


def float64_device(device: "torch.device") -> "torch.device":
    """Where float64 is computed for this device: on itself, or on the CPU for mps, which has none."""
    import torch

    if device.type != "mps":
        return device
    warnings.warn("mps has no float64: random numbers are drawn on the CPU", stacklevel=2)
    return torch.device("cpu")


def synchronize(device: "torch.device") -> None:
    """Wait until an accelerator is done: it works on behind the program's back, and what is clocked should not."""
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def empty_cache(device: "torch.device") -> None:
    """Give an accelerator's memory that no tensor holds back to it."""
    import torch

    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device: torch has a type for some, and texts for the CPU and mps."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError)
        and any(text in str(error) for text in ("out of memory", "can't allocate memory"))
    )


# --- errors ------------------------------------------------------------------------------------------------------


def reason(error: BaseException) -> str:
    """Why a library could not load a model, in one line: the libraries raise a dozen types, with texts of pages."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return "the disk is full: free some space, or set HF_HOME to a folder on another disk"
        cause = cause.__cause__ or cause.__context__
    if is_out_of_memory(error):
        return "there is not enough memory for it"
    text = " ".join(str(error).split())
    return re.split(r"(?<=[.!]) ", text)[0][:300] if text else type(error).__name__
