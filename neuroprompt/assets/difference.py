"""A policy kept as its difference to another one.

Training by adapters (LoRA, Hu et al. 2022) changes a weight by a matrix of low rank. So the policy before PPO ships as
two thin factors for each weight of the policy after it, a twentieth of its size, and both are there as plain models.
"""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

DIFFERENCE = "difference.safetensors"


def write_difference(before: dict[str, Tensor], after: dict[str, Tensor], base: str, folder: Path, rank: int) -> None:
    """Write `before` − `after` to `folder`.

    Args:
        before, after: Weights by name, with the same names and shapes.
        base: Name of the folder beside `folder` that holds `after`, the whole model.
        rank: Of the factors that each matrix's difference is written as.

    Raises:
        ValueError: A difference is not of that rank.
    """
    factors: dict[str, Tensor] = {}
    for name, weight in after.items():
        difference = before[name].float() - weight.float()
        if not difference.any():
            continue
        left, values, right = torch.linalg.svd(difference.reshape(len(difference), -1), full_matrices=False)
        left, right = left[:, :rank] * values[:rank].sqrt(), values[:rank, None].sqrt() * right[:rank]
        # What rounding to half precision does to the weights themselves is no part of it.
        if (left @ right - difference).norm() > 2**-11 * weight.float().norm():
            raise ValueError(f"the difference of {name} is not of rank {rank}: it cannot be kept as factors")
        factors |= {f"{name}.left": left.half().contiguous(), f"{name}.right": right.half().contiguous()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(factors, folder / DIFFERENCE, {"base": base})


@cache
def restore(folder: Path) -> Path:
    """The whole model of a folder of `write_difference`, in a temporary folder that goes when the process ends."""
    with safe_open(folder / DIFFERENCE, "pt") as file:
        base = folder.parent / file.metadata()["base"]
    factors = load_file(folder / DIFFERENCE)
    weights = load_file(base / "model.safetensors")
    for name, weight in weights.items():
        if f"{name}.left" in factors:
            change = factors[f"{name}.left"].float() @ factors[f"{name}.right"].float()
            weights[name] = (weight.float() + change.reshape(weight.shape)).to(weight.dtype)
    whole = Path(tempfile.mkdtemp(prefix="neuroprompt-")) / folder.name
    atexit.register(shutil.rmtree, whole.parent, ignore_errors=True)
    for source in (base, folder):  # what lies beside the difference is the policy's own, such as how it is decoded
        shutil.copytree(source, whole, ignore=shutil.ignore_patterns("*.safetensors", "*.md"), dirs_exist_ok=True)
    save_file(weights, whole / "model.safetensors", {"format": "pt"})
    return whole
