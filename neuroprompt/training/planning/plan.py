"""A plan: what a run takes on each device and on the disk, whether that is there, and how it is told to a person."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from transformers import TrainingArguments

from neuroprompt.models import ModelError
from neuroprompt.training.planning.skeletons import parameters, weight_bytes

logger = logging.getLogger(__name__)

GB = 1e9
BUCKET = 500_000_000  # numbers in DeepSpeed's buffer for gradients that travel, unless its config says otherwise


class Part(NamedTuple):
    """Something that takes memory."""

    name: str
    bytes: int
    parameters: int = 0


@dataclass(frozen=True)
class Layout:
    """How a training lies on its devices.

    Attributes:
        processes: One for each device.
        zero: DeepSpeed's stage; 0 is plain data parallelism.
        bucket: Numbers in DeepSpeed's buffer.
        offload: Whether DeepSpeed leaves moments and gradients in the CPU's memory.
    """

    processes: int = 1
    zero: int = 0
    bucket: int = BUCKET
    offload: bool = False

    @classmethod
    def of(cls, config: TrainingArguments) -> "Layout":
        """That of a run which was launched as this one."""
        plugin = getattr(config, "deepspeed_plugin", None)
        if plugin is None:
            return cls(config.world_size)
        settings = plugin.deepspeed_config.get("zero_optimization", {})
        bucket = settings.get("reduce_bucket_size", BUCKET)
        offload = (settings.get("offload_optimizer") or {}).get("device") == "cpu"
        bucket = int(bucket) if isinstance(bucket, int | float) else BUCKET
        return cls(config.world_size, plugin.zero_stage, bucket, offload)


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    Attributes:
        title: What is trained.
        device: Where.
        layout: On how many devices, and how.
        trained: What has an optimizer: the policy, and its critic.
        frozen: What is held beside it.
        phases: Makes the list of what comes on top of it, gradients left out; the first call takes some seconds.
        schedule: Numbers of the run, by what they count.
        saves: Checkpoints that lie on the disk at once, at most.
        output_dir: Where they are written.
        notes: What is to be known about the numbers.
    """

    title: str
    device: torch.device
    layout: Layout
    trained: nn.Module
    frozen: list[Part]
    phases: Callable[[], list[Part]]
    schedule: dict[str, str]
    saves: int
    output_dir: Path
    notes: list[str] = field(default_factory=list)

    @property
    def held(self) -> list[Part]:
        """What is there all the time, on each device."""
        count, trained = parameters(self.trained), parameters(self.trained, trainable=True)
        weights, moments = weight_bytes(self.trained), 2 * weight_bytes(self.trained, trainable=True)
        if self.layout.zero:  # which keeps a float32 copy for the optimizer
            moments = 0 if self.layout.offload else 12 * trained // self.layout.processes
        return [
            Part("policy", weights, count),
            Part("AdamW's moments of what is trained of it", moments, trained),
            *self.frozen,
        ]

    @property
    def peaks(self) -> list[Part]:
        """What comes on top, one at a time, gradients with the update."""
        size = weight_bytes(self.trained, trainable=True)
        name = "gradients"
        if self.layout.zero:
            name += ", DeepSpeed's buffer"
            size = 0 if self.layout.offload else size // (self.layout.processes if self.layout.zero > 1 else 1)
            size += 4 * self.layout.bucket
        elif self.layout.processes > 1:
            name, size = name + ", DDP's buckets", 2 * size
        return [
            Part(f"{phase.name}, {name}", phase.bytes + size) if phase.name.startswith("update") else phase
            for phase in self.phases()
        ]

    @property
    def memory(self) -> int:
        """Bytes on each device, at most."""
        return sum(part.bytes for part in self.held) + max(part.bytes for part in self.peaks)

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint: weights (or adapters) and moments."""
        return 3 * weight_bytes(self.trained, trainable=True)

    @property
    def disk(self) -> int:
        """Bytes that lie in `output_dir` at once, at most: checkpoints, and the policy."""
        return self.saves * self.checkpoint + weight_bytes(self.trained)

    def check(self) -> None:
        """Refuse what cannot be, before models are loaded, and warn of what may not be.

        Raises:
            ModelError: What is held is more than the device has, or the disk cannot take a single checkpoint.
        """
        there = device_memory(self.device)
        if there is not None:
            held = sum(part.bytes for part in self.held)
            if held > there:
                raise ModelError(
                    f"models and optimizer take {held / GB:.1f} GB, and {self.device} has {there / GB:.1f} GB: {REMEDY}"
                )
            if self.memory > there:
                logger.warning(
                    f"this may take {self.memory / GB:.1f} GB, and {self.device} has {there / GB:.1f} GB: if it stops, "
                    "lower per_device_train_batch_size (and raise gradient_accumulation_steps) or generator.batch_size"
                )
        free, least = free_disk(self.output_dir), weight_bytes(self.trained) + self.checkpoint * bool(self.saves)
        if free < least:
            raise ModelError(
                f"a checkpoint and the policy take {least / GB:.1f} GB, and the disk of {self.output_dir} has "
                f"{free / GB:.1f} GB left: free some, or give another output_dir"
            )
        if free < self.disk:
            logger.warning(
                f"{self.saves} checkpoints and the policy take {self.disk / GB:.1f} GB, and the disk of "
                f"{self.output_dir} has {free / GB:.1f} GB left: lower save_total_limit"
            )

    def __str__(self) -> str:
        there = device_memory(self.device)
        peaks = self.peaks
        largest = max(peaks, key=lambda part: part.bytes).name.split()[0].rstrip(",:")
        zero = replace(self, layout=Layout(max(8, self.layout.processes), 2))
        size = f", {there / GB:.1f} GB each" if there else ""
        lines = [
            f"{self.title}: {self.layout.processes} process(es) on {self.device.type}{size}",
            "",
            f"{'held on each device':66}{'parameters':>16}{'GB':>9}",
            *map(_line, self.held),
            "and one at a time, at most",
            *map(_line, peaks),
            _line(Part(f"all, at {largest}", self.memory), indent=""),
        ]
        if not self.layout.zero:
            lines.append(_line(Part(f"with DeepSpeed ZeRO-2 on {zero.layout.processes}", zero.memory), indent=""))
        lines += [_line(Part(f"on the disk: {self.saves} checkpoint(s) and the policy", self.disk), indent=""), ""]
        return "\n".join([*lines, self.numbers] + [""] * bool(self.notes) + self.notes)

    @property
    def numbers(self) -> str:
        """The schedule, a line each."""
        return "\n".join(f"{name:34}{value}" for name, value in self.schedule.items())


REMEDY = (
    "train adapters (use_peft: true), cut the optimizer over several GPUs (configs/accelerate/zero2.yaml), let the "
    "generator wait in the CPU's memory (generator: {cpu_offload: model}), hold it and the rewards in half precision "
    "(generator: {dtype: float16}, reward_dtype), or take smaller ones"
)


def device_memory(device: torch.device) -> int | None:
    """Bytes of an accelerator's memory; None for the CPU, where there is none, and where torch cannot tell."""
    if device.type == "cpu" or not torch.accelerator.is_available():
        return None
    try:
        return torch.accelerator.get_memory_info(device)[1]
    except (RuntimeError, NotImplementedError):  # of a device whose allocator does not say
        return None


def free_disk(folder: Path) -> int:
    """Bytes that are free on the disk where `folder` is, or would be made."""
    folder = folder.absolute()
    return shutil.disk_usage(next(f for f in (folder, *folder.parents) if f.is_dir())).free


def _line(part: Part, indent: str = "  ") -> str:
    count = f"{part.parameters:,}" if part.parameters else ""
    return f"{indent + part.name:66}{count:>16}{part.bytes / GB:>9.2f}"
