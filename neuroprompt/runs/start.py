"""Before and while a run goes on: what cannot work is refused in one line, and its folder gets its one writer."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from transformers import Trainer, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from trl import ModelConfig

from neuroprompt.files import sole_writer


def check(config: TrainingArguments, model_config: ModelConfig) -> None:
    """Refuse what a run would only come to after its models are loaded.

    Raises:
        ValueError: A package is missing; or weights would be trained that AdamW cannot move.
    """
    available = get_available_reporting_integrations()
    for name in config.report_to:
        if name not in available:
            package = '"neuroprompt[train]"' if name == "tensorboard" else name
            raise ValueError(
                f"report_to is {name}, which is not installed: pip install {package} (or --report_to none)"
            )
    if model_config.use_peft and not find_spec("peft"):
        raise ValueError('use_peft is set and peft is not installed: pip install "neuroprompt[train]"')
    dtype = (getattr(config, "model_init_kwargs", None) or {}).get("dtype", model_config.dtype)
    if str(dtype).removeprefix("torch.") != "float32" and not model_config.use_peft:
        raise ValueError(
            f"dtype is {dtype}: AdamW's steps are smaller than the spacing of such weights, and many would never move; "
            "set dtype to float32, and bf16 to compute in bfloat16"
        )


def prepare_first(folder: str | Path) -> str:
    """What to do where prepared data is missing."""
    return f"run `python scripts/prepare_data.py --source FILE_OR_HUB_DATA_SET --output {folder}` first"


@contextmanager
def writing(config: TrainingArguments) -> Iterator[None]:
    """Let no other run write `config.output_dir` meanwhile; the main process holds the lock.

    Raises:
        BusyError: Another run does; the message says which.
    """
    if config.process_index:
        yield
        return
    with sole_writer(config.output_dir, inside=True):
        yield


def announce(trainer: Trainer, rows: str) -> None:
    """Say what is about to be trained, on how many processes, from which rows."""
    count = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    trainer.accelerator.print(
        f"{trainer.accelerator.num_processes} process(es) on {trainer.accelerator.device.type}, "
        f"{count / 1e6:.1f} M trainable parameters, {rows}"
    )
