"""A training's command line: dataclasses from arguments and a YAML file, and a script's end in one line."""

import difflib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from transformers import training_args
from trl import TrlParser

from neuroprompt.programs import run


def run_training(main: Callable[[], object]) -> NoReturn:
    """Run a script's `main` and exit: an error is one line (`programs.run`), and processes part in order."""

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


@contextmanager
def for_any_machine(arguments: Sequence[str]) -> Iterator[None]:
    """Read the arguments of a dry run in here: where there is no GPU, one is planned for.

    `TrainingArguments` refuses `bf16` there, as it should where more is to come than a plan.
    """
    allowed = training_args.is_torch_bf16_gpu_available
    if "--dry_run" in arguments and not torch.accelerator.is_available():
        training_args.is_torch_bf16_gpu_available = lambda: True
    try:
        yield
    finally:
        training_args.is_torch_bf16_gpu_available = allowed
