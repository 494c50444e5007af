"""docs/settings.md, made from the code: every command, option, YAML key and environment variable.

python scripts/document_settings.py            # write it
python scripts/document_settings.py --check    # say whether it is current, as the tests do
"""

import dataclasses
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroprompt.programs import run

DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"
program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@program.command()
def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; end with 1 where it is not current.")] = False,
) -> None:
    """Write docs/settings.md from the code."""
    text = document()
    if not check:
        DOCUMENT.write_text(text, "utf-8")
    elif not DOCUMENT.exists() or DOCUMENT.read_text("utf-8") != text:
        raise ValueError(f"{DOCUMENT.name} is not current: python scripts/document_settings.py")


def document() -> str:
    """The whole page."""
    from neuroprompt.cli.commands import app
    from neuroprompt.enhancer import Decoding
    from neuroprompt.images import GeneratorConfig, RemoteConfig
    from neuroprompt.policies import PolicyConfig

    commands = commands_of(typer.main.get_command(app))
    parts = [_HEAD, "## Environment", _environment(commands.values()), "## Commands"]
    groups: dict[str, dict[str, Any]] = {}  # the options of each group, by name
    for name, command in commands.items():
        own, shared = [], {}
        for parameter in command.params:
            if group := getattr(parameter, "rich_help_panel", None):
                shared[group] = None
                groups.setdefault(group, {})[parameter.name] = parameter
            else:
                own.append(parameter)
        parts += [f"### neuroprompt {name}", _sentence(command.help or ""), _options(own)]
        if shared:
            links = ", ".join(f"[{group.lower()}](#{group.lower().replace(' ', '-')})" for group in shared)
            parts.append(f"And the options of {links}.")
    for group, parameters in groups.items():
        parts += [f"### {group}", _options(parameters.values())]
    parts += ["## Rewriting in Python", _DECODING, _fields(Decoding)]
    parts += ["## Trainings", _TRAININGS]
    for title, classes in _trainings().items():
        parts.append(f"### {title}")
        for kind in classes:
            parts += [_first_line(kind), _fields(kind)]
    parts += ["## An image generator", _GENERATOR, _fields(GeneratorConfig)]
    parts += ["### Behind a URL", _REMOTE, _fields(RemoteConfig, of=GeneratorConfig)]
    parts += ["## Families of generators", _FAMILIES, _families()]
    parts += ["## Somebody else's rewriter", _PEER, _fields(PolicyConfig)]
    parts += ["## A policy's own settings", _POLICY]
    return "\n\n".join(part for part in parts if part) + "\n"


def commands_of(group: Any, prefix: str = "") -> dict[str, Any]:
    """The commands of an app by their names, and by two words those of a group within it."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        found |= commands_of(command, f"{name} ") if hasattr(command, "commands") else {prefix + name: command}
    return found


# --- what a table is made of -------------------------------------------------------------------------------------


def _options(parameters: Iterable[Any]) -> str:
    rows = []
    for parameter in parameters:
        if getattr(parameter, "hidden", False):
            continue
        names = ", ".join([*parameter.opts, *parameter.secondary_opts]) if parameter.param_type_name == "option" else ""
        help_text = getattr(parameter, "help", None) or ""
        rows.append((f"`{names or parameter.name}`", _default(parameter), help_text))
    return _table(("option", "default", "what it does"), rows)


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    value = parameter.default
    return "" if value is None or value is False or value == [] or callable(value) else f"`{value}`"


def _fields(kind: type, of: type | None = None) -> str:
    """The fields that a dataclass of ours adds to another; what it inherits from a library is the library's to
    document."""
    from neuroprompt.runs.arguments import described

    told, rows = described(kind), []
    known = {field.name for field in dataclasses.fields(of)} if of else ()
    for field in dataclasses.fields(kind):
        if field.name not in told or field.name in known:
            continue
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        shown = "" if value in (None, dataclasses.MISSING) or value == "" else f"`{value}`"
        rows.append((f"`{field.name}`", shown, told[field.name].replace("``", "`")))
    return _table(("setting", "default", "what it is"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *((cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _families() -> str:
    from neuroprompt.families import FAMILIES

    rows = []
    for family in FAMILIES.values():
        negative = "yes" if family.negative else "no"
        if family.guidance and not family.negative:
            negative = f"with `{family.guidance}` above 1"
        pipelines = ", ".join(f"`{name}`" for name in family.pipelines)
        rows.append((f"`{family.name}`", f"{family.tokens} of {family.encoder}", family.dialect, negative, pipelines))
    return _table(("`--for`", "tokens that are read", "wants", "takes a negative prompt", "diffusers' pipelines"), rows)


def _first_line(kind: type) -> str:
    return f"`{kind.__name__}`: {(inspect.getdoc(kind) or '').splitlines()[0]}"


def _sentence(text: str) -> str:
    return " ".join(text.split("\f")[0].split())


def _environment(commands: Iterable[Any]) -> str:
    found: dict[tuple[str, str], list[str]] = {}
    for command in commands:
        for parameter in command.params:
            if variable := getattr(parameter, "envvar", None):
                found.setdefault((variable, parameter.opts[0]), []).append(command.name)
    rows = [
        (f"`{name}`", f"the default of `{option}` of {', '.join(where)}") for (name, option), where in found.items()
    ]
    return _table(("variable", "what it does"), [*sorted(rows), *_VARIABLES])


def _trainings() -> dict[str, tuple[type, ...]]:
    from neuroprompt.data import DataConfig
    from neuroprompt.ppo.config import GRPOConfig, PPOConfig
    from neuroprompt.reward_model import RewardModelConfig
    from neuroprompt.scoring import RewardArguments
    from neuroprompt.training.distil import DistilArguments
    from neuroprompt.training.queries import QueryArguments
    from neuroprompt.training.reward_model import RewardModelArguments
    from neuroprompt.training.sft import SFTArguments, SFTConfig

    return {
        "scripts/prepare_data.py": (DataConfig,),
        "training/sft.py": (SFTArguments, SFTConfig),
        "training/ppo.py": (QueryArguments, RewardArguments, PPOConfig),
        "training/grpo.py": (GRPOConfig,),
        "training/distil.py": (DistilArguments,),
        "training/reward_model.py": (RewardModelArguments, RewardModelConfig),
    }


_HEAD = """\
# Every setting

Made by `python scripts/document_settings.py` from the code; do not edit by hand. The command line beats the environment
and a YAML file, and these beat the defaults. A setting has the same name in each, and in Python."""
_VARIABLES = [
    ("`NEUROPROMPT_TRACEBACK`", "set to anything: an error is Python's traceback, not one line"),
    ("`NEUROPROMPT_GENERATOR_API_KEY`", "the key that a generator behind a URL wants"),
    ("`NEUROPROMPT_REWARDS_API_KEY`", "the key that a reward behind a URL wants"),
    ("`NEUROPROMPT_REWARDS_PATIENCE`", "the seconds for which a run waits while none answers; 600"),
    ("`HF_HUB_OFFLINE`", "`1`: no hub is asked (`huggingface_hub`)"),
    ("`OMP_WAIT_POLICY`", "`passive`, unless you say otherwise: how threads wait (docs/benchmarks.md)"),
]
_DECODING = "What `PromptEnhancer` takes beside prompts and constraints."
_TRAININGS = """\
Keys of a `--config` file and options of the command line, beside those of `transformers.TrainingArguments` and TRL's
`ModelConfig` and trainers; `--help` lists these, too."""
_GENERATOR = """\
`GeneratorConfig`: under `generator:` in a training's YAML (with `name`), `--generator.NAME` on its command line, and
`--steps`, `--guidance`, `--size`, `--negative`, `--dtype` or `--set NAME=VALUE` of the commands that draw."""
_REMOTE = """\
`RemoteConfig`: likewise, where the generator is a URL ([images](images.md#generators-behind-a-url)). Of the settings
above it has `steps`, `guidance`, `true_cfg`, `size`, `negative`, `scheduler` and `batch_size`."""
_FAMILIES = """\
What is known of a generator by its pipeline or its name, or where `--for` says it
([images](images.md#what-is-read-of-a-prompt))."""
_PEER = "`PolicyConfig`: the keys of a YAML file, for `--model FILE.yaml` and the method `template:FILE.yaml`."
_POLICY = """\
| key of `generation_config.json` | what it is |
| --- | --- |
| `do_sample` | Sample, or search. |
| `temperature` | Of sampling. |
| `diversity` | Noise of the search. |
| `usual` | Leave out what people seldom write behind such prompts. |"""

if __name__ == "__main__":
    run(program)
