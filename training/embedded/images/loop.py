"""The training loop that every embedded image model shares: bf16 where the device has it, EMA, batches that are drawn
ahead in processes of their own, resumable checkpoints.

Running the same command again goes on where the last checkpoint stopped. Checkpoints are safetensors (weights, EMA,
AdamW's moments, and the counters as metadata), written beside and renamed, so a killed run never leaves a broken one.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from neuroprompt.models import has_bfloat16


@dataclass
class LoopConfig:
    """How long and how to train.

    steps: optimizer steps in all; the learning rate falls linearly to zero over the last `cooldown` of them.
    batch_size: renderings a step.
    learning_rate: after `warmup` steps.
    ema: decay of the exponential moving average at the end; it grows with the step, so early averages are not stale.
    save_seconds: between checkpoints. sheet_steps: between contact sheets (0: none).
    workers: processes that draw the batches to come (0: this one, when it needs them).
    bfloat16: whether to multiply so where the device can.
    """

    steps: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: int = 100
    cooldown: float = 0.1
    weight_decay: float = 0.01
    ema: float = 0.999
    save_seconds: float = 180.0
    sheet_steps: int = 500
    log_steps: int = 50
    workers: int = 0
    bfloat16: bool = True
    seed: int = 0


def pick_device(name: str = "auto") -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


class Items(Dataset):
    """What `make` makes of the numbers below `count`; for a `DataLoader`, whose workers it is then made in."""

    def __init__(self, make: Callable[[int], Any], count: int):
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


def as_it_is(item: Any) -> Any:
    """A collate function that leaves what was made alone."""
    return item


def fit(
    model: nn.Module,
    config: LoopConfig,
    folder: Path,
    draw: Callable[[np.random.Generator], Any],
    loss: Callable[[Any], tuple[Tensor, dict[str, Tensor]]],
    sheet: Callable[[nn.Module, Path], None] | None = None,
    frozen: str | None = None,
) -> nn.Module:
    """Train `model`'s parameters that require gradients; returns a copy of it with the averaged (EMA) weights.

    `draw(rng)` makes a batch on the CPU. `loss(batch)` runs the model (under autocast, which is set here), and returns
    the loss and numbers to log. `sheet(averaged_model, path)` draws a contact sheet. Parameters whose names begin with
    `frozen` take their averages and learn no more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    torch.backends.cudnn.benchmark = device.type == "cuda"  # shapes hardly change
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    averaged = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained.values() if p.ndim >= 2]},
            {"params": [p for p in trained.values() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=config.weight_decay,
        fused=True,
    )
    step, seconds = _load(folder / "checkpoint.safetensors", trained, averaged, optimizer)
    if step:
        _log(folder, {"resumed_at": step} | ({"frozen": frozen} if frozen else {}))
    for name, p in trained.items():
        if frozen and name.startswith(frozen):
            p.detach().copy_(averaged[name])
            p.requires_grad_(False)
    # A generator a step: the batches after a resume are those that would have come.
    batches = DataLoader(
        Items(lambda step: draw(np.random.default_rng((config.seed, step))), config.steps),
        batch_size=None,
        sampler=range(step, config.steps),
        collate_fn=as_it_is,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
    )
    saved_at = logged_at = began = time.monotonic()
    running: dict[str, list[Tensor]] = {}
    model.train()
    # Nothing within a step waits for the device.
    for batch in batches:
        left = (config.steps - step) / max(1.0, config.cooldown * config.steps)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / config.warmup, left)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16 and has_bfloat16(device)):
            value, numbers = loss(batch)
        value.backward()
        norm = nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.found_inf = (~torch.isfinite(norm)).float()  # then the fused kernel leaves the step out
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay = min(config.ema, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(averaged.values()), [p.detach() for p in trained.values()], 1 - decay)
        step += 1
        for key, number in {"loss": value, "grad_norm": norm, **numbers}.items():
            running.setdefault(key, []).append(number.detach())
        if step % config.log_steps == 0 or step == config.steps:
            means = {key: round(torch.stack(values).double().mean().item(), 5) for key, values in running.items()}
            now = time.monotonic()
            seconds, began = seconds + now - began, now
            _log(
                folder,
                {"step": step, **means, "s_per_step": round((now - logged_at) / len(running["loss"]), 3),
                 "samples": step * config.batch_size, "minutes": round(seconds / 60, 1)},
            )  # fmt: skip
            running, logged_at = {}, now
        if time.monotonic() - saved_at > config.save_seconds or step == config.steps:
            now = time.monotonic()
            seconds, began = seconds + now - began, now
            _save(folder / "checkpoint.safetensors", trained, averaged, optimizer, step, seconds)
            saved_at = time.monotonic()
        if sheet and config.sheet_steps and (step % config.sheet_steps == 0 or step == config.steps):
            with _weights(trained, averaged), torch.no_grad():
                model.eval()
                sheet(model, folder / f"sheet-{step:06d}.png")
                model.train()
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(averaged[name])
    return model.eval()


def save_weights(model: nn.Module, folder: Path) -> None:
    """A checkpoint at step 0 that has the weights of `model`: `fit` trains on from there."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().float() for name, p in model.named_parameters()}
    _save(folder / "checkpoint.safetensors", weights, weights, None, 0, 0.0)


def load_averaged(model: nn.Module, folder: Path, part: str = "") -> nn.Module:
    """Fill `model` with the averaged weights of the last checkpoint in `folder`; those not trained there stay.

    `part`: take only the weights whose names begin so, such as "text_encoder.", and drop that from their names.
    """
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint in {folder}: train that model first")
    with safe_open(path, "pt") as file, torch.no_grad():
        prefix = f"averaged/{part}"
        parameters = dict(model.named_parameters())
        for key in [key for key in list(file.keys()) if key.startswith(prefix)]:
            parameters[key.removeprefix(prefix)].copy_(file.get_tensor(key))
    return model.eval()


class _weights:
    """Within the block the model has the averaged weights."""

    def __init__(self, trained: dict[str, nn.Parameter], averaged: dict[str, Tensor]):
        self.trained, self.averaged = trained, averaged

    def _swap(self) -> None:
        for name, p in self.trained.items():
            p.data, self.averaged[name] = self.averaged[name], p.data

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *exc) -> None:
        self._swap()


def _moments(trained: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, p in trained.items():
        for key in ("exp_avg", "exp_avg_sq"):
            if key in optimizer.state.get(p, {}):
                yield f"{key}/{name}", optimizer.state[p][key]


def _save(path: Path, trained, averaged, optimizer, step: int, seconds: float) -> None:
    tensors = {f"model/{n}": p.detach() for n, p in trained.items()}
    tensors |= {f"averaged/{n}": t for n, t in averaged.items()}
    tensors |= dict(_moments(trained, optimizer)) if optimizer else {}
    part = path.with_suffix(".part")
    save_file(
        {k: t.contiguous().clone() for k, t in tensors.items()}, part, {"step": str(step), "seconds": str(seconds)}
    )
    part.replace(path)


def _load(path: Path, trained, averaged, optimizer) -> tuple[int, float]:
    if not path.is_file():
        return 0, 0.0
    with safe_open(path, "pt") as file, torch.no_grad():
        found = file.metadata()
        step, known = int(found["step"]), set(file.keys())
        for name, p in trained.items():
            p.copy_(file.get_tensor(f"model/{name}"))
            averaged[name].copy_(file.get_tensor(f"averaged/{name}"))
            if f"exp_avg/{name}" in known:
                optimizer.state[p] = {
                    "step": torch.tensor(float(step)),
                    **{key: file.get_tensor(f"{key}/{name}").to(p.device) for key in ("exp_avg", "exp_avg_sq")},
                }
    return step, float(found["seconds"])


def _log(folder: Path, entry: dict) -> None:
    line = json.dumps(entry)
    print(line, flush=True)
    with (folder / "log.jsonl").open("a") as file:
        file.write(line + "\n")
