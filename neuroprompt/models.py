"""The one place where a model's name becomes a place to load it from, and a wish for a device the device.

A name is ``embedded`` (what ships), a local folder, or an id on the model hub; everything loadable is found this way.
"""

import errno
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_EMBEDDED = Path(__file__).parent / "assets"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_DECISIVE = (".safetensors", ".json", ".txt", ".model")


class ModelError(OSError):
    """A model that cannot be loaded; the message is one line and says what to do."""


def locate(name: str | Path, kind: str) -> str:
    """Where to load the model called `name` from, for a ``from_pretrained``.

    Args:
        name: ``embedded`` (or ``embedded-sft``, the policy before PPO), a folder, or a hub id.
        kind: The folder of the embedded model, such as ``policy``.

    Raises:
        ModelError: There is no such embedded model; the folder is missing, is no model, or holds pickled weights only
            (a pickle runs any code that its maker put in).
    """
    name = str(name)
    if name == "embedded" or name.startswith("embedded-"):
        folder = _EMBEDDED / (kind + name.removeprefix("embedded"))
        if not folder.is_dir():
            raise ModelError(f"there is no model '{name}' among the embedded ones for {kind}")
        if (folder / "difference.safetensors").is_file():
            from neuroprompt.assets.difference import restore

            folder = restore(folder)
        return str(folder)
    folder = Path(name).expanduser()
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
    return name


def fingerprint(folder: Path, parts: Iterable[str] = (".",)) -> str:
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


def pick_device(device: "str | torch.device | None" = None) -> "torch.device":
    """The device asked for; by default the GPU if there is one.

    Raises:
        ModelError: A GPU is asked for and there is none, or there is no such device at all.
    """
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, count = str(device), torch.cuda.device_count()
    try:
        device = torch.device(name)
        if device.type == "cuda":
            if not count:
                raise ModelError("there is no CUDA device: leave the device out, or set it to cpu")
            if (device.index or 0) >= count:
                raise ModelError(f"there is no device {name!r}: there are {count}, counted from cuda:0")
        else:
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch was built without it, or has never heard of it
        raise ModelError(f"there is no device {name!r} here: leave the device out, or set it to cpu") from error
    return device


def has_bfloat16(device: "torch.device") -> bool:
    """Whether the device multiplies bfloat16 itself; others are far slower at it than at float32."""
    import torch

    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def reason(error: BaseException) -> str:
    """Why a library could not load a model, in one line: the libraries raise a dozen types, with texts of pages."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return "the disk is full: free some space, or set HF_HOME to a folder on another disk"
        cause = cause.__cause__ or cause.__context__
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return "there is not enough memory for it"
    text = " ".join(str(error).split())
    return re.split(r"(?<=[.:!]) ", text)[0][:300] if text else type(error).__name__
