"""Before and while a run goes on: what cannot work is refused in one line, libraries are held back from what the person
reads, and the run's folder gets its one writer."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import datasets
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from trl import ModelConfig

from neuroprompt.files import sole_writer
from neuroprompt.programs import quiet_libraries
from neuroprompt.terminal import errors


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


def quiet() -> None:
    """Hold back what libraries say to whoever writes programs with them, and their bars where nobody watches."""
    quiet_libraries()
    warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)  # PEFT then sets it right itself
    logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())
    if not errors.is_terminal:
        datasets.disable_progress_bars()


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
    folder = Path(config.output_dir)
    made = not folder.exists()
    try:
        with sole_writer(folder, inside=True):
            yield
    finally:
        if made and folder.is_dir() and not any(folder.iterdir()):  # nothing came of it
            folder.rmdir()
