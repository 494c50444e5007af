"""What the commands share: the app, options that several of them have, and how models are loaded for them."""

import os
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from neuroprompt import __version__
from neuroprompt.terminal import errors

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PHRASES = {"rich_help_panel": "Constraints", "show_default": False}
Clause = Annotated[str | None, typer.Option(help='A phrase of this kind to be there; "a|b" is either.', **_PHRASES)]
Require = Annotated[
    list[str] | None, typer.Option(help='A phrase that must be there; "a|b" is either. Repeatable.', **_PHRASES)
]
Forbid = Annotated[list[str] | None, typer.Option(help="A phrase that must not be there. Repeatable.", **_PHRASES)]
Auto = Annotated[list[str] | None, typer.Option(help="A category of which the policy picks a term itself.", **_PHRASES)]
Model = Annotated[str, typer.Option("--model", "-m", help="The policy: embedded, a folder, or a hub id.")]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, mps, xpu …; by default the accelerator if there is one.", show_default=False),
]
_DRAWING = {"rich_help_panel": "Drawing", "show_default": "the model's own"}
Generator = Annotated[
    str, typer.Option("--generator", "-g", help="embedded, a folder, or a hub id.", rich_help_panel="Drawing")
]
Steps = Annotated[int | None, typer.Option(min=1, max=1000, help="Denoising steps.", **_DRAWING)]
Guidance = Annotated[float | None, typer.Option(help="Scale of the guidance.", **_DRAWING)]
Size = Annotated[int | None, typer.Option(help="Height and width in pixels.", **_DRAWING)]
Negative = Annotated[str | None, typer.Option(help="Negative prompt.", **_DRAWING)]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto.", **_DRAWING)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any other setting of the generator, name=value: scheduler=DPMSolverMultistepScheduler, "
        "cpu_offload=model, batch_size=4 … Repeatable.",
        rich_help_panel="Drawing",
        show_default=False,
    ),
]
Rewards = Annotated[
    str, typer.Option(help="Of pickscore, clip, aesthetic, hps, image_reward; clip[ViT-L-14:openai] names a model.")
]
WeightedRewards = Annotated[str, typer.Option(help="name[model]:weight@cap, with commas; a weight of 0 only measures.")]
RewardModel = Annotated[
    str | None,
    typer.Option(
        help="Where the rewards come from: embedded, or published.",
        show_default="embedded with the embedded generator",
    ),
]
METHODS = (
    "Of plain, enhanced, sft, ppo, policy:FOLDER, suffix, random, best-of-N, search-N, file:PATH, template:FILE.yaml; "
    "a policy also with +constraints."
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"neuroprompt {__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit.")
    ] = False,
) -> None:
    """Plain image prompts in, expert ones out."""


def examples(*commands: str) -> str:
    """A command's `epilog`: each example on a line of its own."""
    return "\n\n".join(["Examples:", *map(escape, commands)])


def read_prompts(prompts: list[str] | None, input: str | None, rows: int | None = None) -> list[str]:
    """Those of the command line, or of a file."""
    from neuroprompt.prompt_files import read_lines

    if bool(prompts) == bool(input):
        raise ValueError("give prompts, or a file with --input: one of the two")
    if prompts:
        return prompts[:rows]
    lines = read_lines(input)[:rows]
    if not lines:
        raise ValueError(f"{input} holds no prompts")
    if broken := next((line for line in lines if line.error), None):
        raise ValueError(f"{input}, line {broken.number}: {broken.error}")
    return [line.prompt for line in lines]


def read_constraints(artist, style, format, perspective, booster, vibe, require, forbid, auto):
    from neuroprompt.decoding import Constraints

    clauses = {"artist": artist, "style": style, "format": format}
    clauses |= {"perspective": perspective, "booster": booster, "vibe": vibe}
    return Constraints(**clauses, require=require or (), forbid=forbid or (), auto=auto or ())


def load_policy(model: str, device: str | None):
    from neuroprompt.enhancer import PromptEnhancer

    quiet_libraries()
    return PromptEnhancer.from_pretrained(model, device=device)


def load_generator(name, device, steps, guidance, size, negative, dtype, settings):
    from neuroprompt.images import GeneratorConfig, ImageGenerator

    quiet_libraries()
    named = {
        "steps": steps,
        "guidance": guidance,
        "size": size,
        "negative": negative,
        "dtype": dtype,
    }
    config = GeneratorConfig.of(**named | read_settings(settings or []))
    return ImageGenerator.from_pretrained(name, device=device, config=config)


def read_settings(texts: list[str]) -> dict[str, str | int | float | bool | None]:
    """`--set name=value`, each value read as YAML reads it."""
    import yaml

    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not name or not equals:
            raise ValueError(f"--set {text!r}: write name=value, such as scheduler=DPMSolverMultistepScheduler")
        if name in settings:
            raise ValueError(f"--set gives {name} twice")
        try:
            settings[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            settings[name] = value  # a text with signs that mean something in YAML
    return settings


def quiet_libraries() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", "The `local_dir_use_symlinks` argument", UserWarning)  # diffusers' own call


def check_output(path: str, suffixes: tuple[str, ...]) -> None:
    """Before hours are spent on what cannot be written."""
    if Path(path).suffix.lower() not in suffixes:
        raise ValueError(f"{path}: this is written to {', '.join(suffixes)} files")
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise ValueError(f"there is no folder {Path(path).parent}")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: nothing can be written to this folder")
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder")


def load_reward(generator, rewards, model, device, images_per_prompt, seed=0, cache=None):
    from neuroprompt.rewards import load_rewards
    from neuroprompt.scoring import PromptReward

    model = model or ("embedded" if generator.name == "embedded" else "published")
    judge = load_rewards(rewards, None if model == "published" else model, device)
    return PromptReward(generator, judge, images_per_prompt=images_per_prompt, seed=seed, cache=cache)


def progress_bar(disable: bool) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=errors, disable=disable)


def process_share() -> tuple[int, int]:
    """(i, n): which of the processes that `accelerate launch` or `torchrun` started this is, from 1, and their number.

    No process waits for another, so no process group is made.
    """
    return int(os.environ.get("RANK", 0)) + 1, int(os.environ.get("WORLD_SIZE", 1))


def own_device() -> str | None:
    """An accelerator for each of the processes on this machine; None leaves the choice to the models."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if "LOCAL_RANK" not in os.environ or accelerator is None:
        return None
    return f"{accelerator.type}:{int(os.environ['LOCAL_RANK']) % torch.accelerator.device_count()}"
