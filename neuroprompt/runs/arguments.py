"""A training's command line: dataclasses from arguments and a YAML file, and a script's end in one line."""

import difflib
import inspect
import os
import re
import sys
import time
from argparse import SUPPRESS
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from transformers import training_args
from trl import TrlParser

from neuroprompt.images import RemoteConfig, read_setting
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

    Where a generator is among them, ``--generator NAME`` changes its name alone, and ``--generator.steps 4`` a setting.

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
        keys = {name for name in names if "." not in name} | {"env"}
        for name in settings if isinstance(settings, dict) else ():
            _refuse_unknown(str(name), keys, keys, f"{arguments[place]}: ")
    with for_any_machine(arguments):
        *parsed, unknown = parser.parse_args_and_config(arguments, return_remaining_strings=True)
    for name in unknown:
        _refuse_unknown(name.removeprefix("--").partition("=")[0], set(), names)
    return tuple(parsed)


def described(kind: type) -> dict[str, str]:
    """What the docstrings of a dataclass of this package, and of its bases, say of each field, as a line."""
    known = {field.name for field in fields(kind)}
    told: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] == __name__.partition(".")[0]:
            entries = re.findall(r"^    (\w+(?:, \w+)*): (.+(?:\n {8}.+)*)", inspect.getdoc(base) or "", re.MULTILINE)
            for names, text in entries:
                told |= dict.fromkeys(known.intersection(names.split(", ")), " ".join(text.split()))
    return told


class _Parser(TrlParser):
    """TRL's, with fields' docstrings for help, and with the settings of a generator one by one."""

    def __init__(self, classes: Sequence[type], **kwargs):
        super().__init__(classes, **kwargs)
        if self.get_default("generator"):
            for name in described(RemoteConfig):
                self.add_argument(f"--{_OF_GENERATOR}{name}", type=partial(read_setting, name), default=SUPPRESS)
        told = {name: text for kind in classes for name, text in described(kind).items()}
        told |= {_OF_GENERATOR + name: text for name, text in described(RemoteConfig).items()}
        for action in self._actions:
            action.help = action.help or told.get(action.dest, "").replace("%", "%%")

    def parse_known_args(self, args=None, namespace=None):
        parsed, unknown = super().parse_known_args(args, namespace)
        own = [name for name in vars(parsed) if name.startswith(_OF_GENERATOR)]
        settings = {name.removeprefix(_OF_GENERATOR): vars(parsed).pop(name) for name in own}
        given, of_file = getattr(parsed, "generator", None), self.get_default("generator")
        if isinstance(of_file, dict) and isinstance(given, str):
            settings["name"] = given
        if settings:
            parsed.generator = (of_file if isinstance(of_file, dict) else {"name": given}) | settings
        return parsed, unknown

    def error(self, message: str) -> NoReturn:  # argparse prints pages of usage before it
        raise ValueError(message)


_OF_GENERATOR = "generator."
# What settings of the generator were called as arguments of their own.
_MOVED = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "image_size": "size",
    "generator_dtype": "dtype",
    "image_batch_size": "batch_size",
    "compile_generator": "compile",
    "generator_settings": "SETTING",
}


def _refuse_unknown(name: str, known: set[str], suggested: set[str], place: str = "") -> None:
    if name in known:
        return
    hint = "".join(f": {close!r}?" for close in difflib.get_close_matches(name, suggested, 1))
    if "generator" in suggested and name in _MOVED:
        hint = f": write generator: {{{_MOVED[name]}: …}}, or --generator.{_MOVED[name]} on the command line"
    raise ValueError(f"{place}there is no argument {name!r}{hint}")


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
