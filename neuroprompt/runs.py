"""What every training shares, whichever trainer does it: supervised, PPO, GRPO or RLOO.

From the command line to the models: arguments are read, sizes shared among processes, what cannot work is refused in
one line, and the run's folder gets its one writer. Nothing of it takes long, or loads a model.
"""

import difflib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from accelerate.utils import get_int_from_env
from transformers import Trainer, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_utils import get_last_checkpoint
from trl import ModelConfig, TrlParser

from neuroprompt.files import sole_writer

# --- the command line --------------------------------------------------------------------------------------------


def run_training(main: Callable[[], object]) -> NoReturn:
    """Run a script's `main` and exit: an error is one line (`neuroprompt.cli.run`), and processes part in order."""
    from neuroprompt.cli import run

    def program() -> object:
        failed = True
        try:
            result = main()
            failed = False
            return result
        except Exception:
            if int(os.environ.get("LOCAL_RANK", 0)):
                time.sleep(GRACE)
            raise
        finally:
            # Gloo's threads may abort the interpreter's exit; NCCL would wait for processes that know of no error.
            group = torch.distributed.is_initialized() and torch.distributed.get_backend()
            if group and (not failed or group == "gloo"):
                torch.distributed.destroy_process_group()

    run(program)


# Seconds in which a machine's first process says what is wrong. Once it ends, the launcher ends the others, which would
# say the same, or that they have lost it.
GRACE = 10


def read_arguments(
    classes: Sequence[type], description: str, arguments: Sequence[str] | None = None
) -> tuple[Any, ...]:
    """Dataclasses from the command line and the YAML file of its ``--config``, which it beats.

    Raises:
        ValueError: There is no such argument, a value is none of its kind, or the file is no YAML.
        OSError: The file cannot be read.
    """
    from neuroprompt.planning import for_any_machine

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true" or "--deepspeed" in arguments
    if deepspeed and not find_spec("deepspeed"):
        raise ValueError('DeepSpeed is not installed: pip install "neuroprompt[deepspeed]"')
    parser = _Parser(classes, description=description)
    names = {action.dest for action in parser._actions}
    if "--config" in arguments:
        place = arguments.index("--config") + 1
        if place == len(arguments):
            raise ValueError("--config takes a YAML file")
        try:
            settings = yaml.safe_load(Path(arguments[place]).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{arguments[place]} is no YAML: {error}") from error
        for name in settings if isinstance(settings, dict) else ():
            _refuse_unknown(str(name), names | {"env"}, f"{arguments[place]}: ")
    with for_any_machine(arguments):
        *parsed, unknown = parser.parse_args_and_config(arguments, return_remaining_strings=True)
    for name in unknown:
        _refuse_unknown(name.removeprefix("--").partition("=")[0], set(), "", names)
    return tuple(parsed)


class _Parser(TrlParser):
    def error(self, message: str) -> NoReturn:  # argparse prints pages of usage before it
        raise ValueError(message)


def _refuse_unknown(name: str, known: set[str], place: str, suggested: set[str] | None = None) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, suggested or known, 1)
        raise ValueError(f"{place}there is no argument {name!r}" + (f": {close[0]!r}?" if close else ""))


# --- the same steps on any number of processes -------------------------------------------------------------------


def processes() -> int:
    """How many processes were launched, by torchrun, accelerate or MPI; known before they meet."""
    return get_int_from_env(["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"], 1)


@dataclass
class GlobalBatch:
    """A base for a `TrainingArguments`, before it: the same optimizer steps on any number of processes.

    Args:
        minibatch_size: Rows of an optimizer step, over all processes. Each process computes its share of them,
            `per_device_train_batch_size` at once at most, and gradients are accumulated as that demands: both follow.
            None leaves it to what is set there, times the number of processes, as in any `Trainer`.

    Attributes:
        rows_at_once: The `per_device_train_batch_size` that was asked for.

    Raises:
        ValueError: So many processes cannot share a minibatch equally.
    """

    minibatch_size: int | None = field(
        default=None, metadata={"help": "Rows of an optimizer step, over all processes; the others follow."}
    )

    def __post_init__(self):
        self.rows_at_once = self.per_device_train_batch_size
        count = processes()
        if self.minibatch_size is None:
            self.minibatch_size = self.per_device_train_batch_size * self.gradient_accumulation_steps * count
        elif self.per_device_train_batch_size * self.gradient_accumulation_steps * count != self.minibatch_size:
            if self.gradient_accumulation_steps != 1:
                raise ValueError(
                    f"gradient_accumulation_steps is {self.gradient_accumulation_steps}: leave it out, it follows from "
                    f"minibatch_size ({self.minibatch_size}) and per_device_train_batch_size"
                )
            share = share_equally(self.minibatch_size, count)
            self.per_device_train_batch_size = max(n for n in divisors(share) if n <= max(1, self.rows_at_once))
            self.gradient_accumulation_steps = share // self.per_device_train_batch_size
        self._derive()
        super().__post_init__()
        if self.world_size != count:
            raise ValueError(
                f"the environment says {count} process(es), and torch finds {self.world_size}: start the training with "
                "accelerate launch or torchrun"
            )

    def _derive(self) -> None:
        """Set what follows from `minibatch_size`, before the library's own initialisation reads it."""


def share_equally(minibatch_size: int, count: int) -> int:
    """Rows of a minibatch for each of `count` processes.

    Raises:
        ValueError: It cannot be cut so; the message says how it can.
    """
    if minibatch_size < 1 or minibatch_size % count:
        fitting = ", ".join(str(n) for n in divisors(max(1, minibatch_size)))
        raise ValueError(
            f"minibatch_size is {minibatch_size}, which {count} process(es) cannot share equally: start as many as "
            f"divide it ({fitting}), or set it to a multiple of {count}"
        )
    return minibatch_size // count


def divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


# --- before models are loaded ------------------------------------------------------------------------------------


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


def checkpoint_to_resume(config: TrainingArguments) -> str | None:
    """What `resume_from_checkpoint` stands for: a folder, or None for a fresh start.

    Raises:
        ValueError: There is no such folder.
    """
    wanted = config.resume_from_checkpoint
    if wanted is None or str(wanted).lower() in {"false", "no"}:
        return None
    if str(wanted).lower() in {"true", "last"}:
        return get_last_checkpoint(config.output_dir) if Path(config.output_dir).is_dir() else None
    if not Path(wanted).is_dir():
        raise ValueError(f"there is no checkpoint {wanted}")
    return str(wanted)


class Float32Weights(Trainer):
    """A `Trainer` for which `bf16` means under DeepSpeed what it means elsewhere: computing in bfloat16 (autocast).

    DeepSpeed's own bf16 mode keeps float32 copies in the optimizer alone: what is sampled from, compared with the
    reference and saved is rounded to bfloat16, and so does `Trainer` with every float of a batch, old log-probabilities
    among them. Its `torch_autocast` does neither.
    """

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        if plugin is None or not plugin.hf_ds_config.is_true("bf16.enabled"):
            return
        plugin.deepspeed_config["bf16"] = {"enabled": False}
        plugin.deepspeed_config["torch_autocast"] = {
            "enabled": True,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # those whose gradients would be summed over processes in bfloat16
        }
        plugin.hf_ds_config._dtype = torch.float32  # which floats of a batch are cast to; it was read from bf16 before
