"""What loading any reward model shares: dtype, files of a hub, and fingerprints.

Weights are read from safetensors. Three published rewards exist as PyTorch pickles only (HPSv2, ImageReward and
LAION's aesthetic heads); those are read with `weights_only=True`, whose unpickler knows tensors and plain containers
and refuses everything that could run code.
"""

from hashlib import blake2b
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from torch import Tensor, nn

from neuroprompt.models import ModelError, check_hub

_DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
_SAMPLES = 1024  # of a tensor's values in its fingerprint
PROBE = ["a boy on a horse, 8K, by Alphonse Mucha", ""]  # texts whose tokens stand for a tokenizer in a fingerprint


def pick_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The dtype asked for (``fp32``, ``fp16``, ``bf16`` or torch's); by default float32 on a CPU and float16 elsewhere.

    Raises:
        ValueError: There is no such dtype.
    """
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.float16
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise ValueError(f"the dtype must be fp32, fp16 or bf16, not {dtype!r}")
    return found


def weights_file(model: str | Path, filename: str) -> Path:
    """A weights file: `model` itself where it is one, or the file called `filename` of that folder or hub repository.

    Raises:
        ModelError: There is no such file.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        if not (path / filename).is_file():
            raise ModelError(f"{model} is no such model folder: it holds no {filename}")
        return path / filename
    if str(model).startswith((".", "/", "~")) or str(model).count("/") != 1:
        raise ModelError(f"there is no file or folder {str(model)!r}")
    check_hub(str(model))
    return Path(hf_hub_download(str(model), filename))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a PyTorch file that holds tensors only.

    Raises:
        UnpicklingError: The pickle holds more than tensors, which could run code (see `reporting`).
        ModelError: It holds something else.
    """
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{path} holds no state dict")
    return state


def fingerprint(model: nn.Module, *facts: object) -> str:
    """A hash of a model's weights, of what it does with them (activations, heads), and of `facts` about its use.

    It is of the weights, not of their name, so a folder that is trained further in place gets another one. Of each
    tensor the name, the shape and up to 1,024 evenly spaced values count: milliseconds instead of seconds for the
    billion weights of a ViT-H, and nothing that training changes goes unseen, since it changes nearly all of them.
    """
    digest = blake2b(repr(facts).encode(), digest_size=16)
    for name, module in model.named_modules():
        heads = getattr(module, "num_heads", "")  # which no weight shows
        digest.update(f"{name} {type(module).__name__}({module.extra_repr()}) {heads}\n".encode())
    for name, tensor in model.state_dict().items():
        values = tensor.detach().flatten()
        values = values[:: max(1, -(-len(values) // _SAMPLES))].float().cpu()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode() + values.numpy().tobytes())
    return digest.hexdigest()
