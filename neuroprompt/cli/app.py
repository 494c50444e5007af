"""The app, and how its commands are written: an option in a line, and in groups what several commands share.

    @dataclass(frozen=True)
    class DrawingOptions:
        PANEL: ClassVar = "Drawing"
        steps: int | None = option(None, "The denoising steps.", min=1)

    @command('neuroprompt grid "boy on a horse" -o grid.png')
    def grid(output: str = option(..., "A .png file.", "-o"), *, drawing: DrawingOptions) -> None:
        "Draw prompts side by side."

Typer reads signatures; `command` makes the one that it reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import Field, field, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, getdoc, signature
from itertools import takewhile
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from rich.markup import escape
from typer.core import TyperCommand

import neuroprompt
from neuroprompt.extras import need

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

RENAMED = {"--seeds": "--images-per-prompt", "--cache": "--score-cache", "--prompts": "--input"}
"""Options by what they were once called; a command that has the new one refuses the old one, and names it."""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"neuroprompt {neuroprompt.__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit.")
    ] = False,
) -> None:
    """Plain image prompts in, expert ones out."""


def option(default: Any, help: str, *names: str, **settings: Any) -> Any:
    """An option, as the default of a command's parameter or of a group's field, or in an `Annotated` type.

    Args:
        default: What it is where nobody gives it; ... where somebody must, and in an `Annotated` type.
        help: What it is, in a sentence.
        names: Further ones, such as ``-o``; the first is the parameter's, unless there is a long one here.
        settings: Others of `typer.Option`.
    """
    return field(default=default, metadata={"make": typer.Option, "names": names, "help": help, **settings})


def argument(default: Any, help: str, **settings: Any) -> Any:
    """An argument, likewise."""
    return field(default=default, metadata={"make": typer.Argument, "names": (), "help": help, **settings})


def command(
    *examples: str, extras: Sequence[str] = (), within: typer.Typer = app
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command: its docstring is the help, with the examples under it, each on a line of its own.

    A parameter whose type is a dataclass is a group: each of its fields is an option, and the function gets them as one
    object. The help shows them in the dataclass's `PANEL`. Where it has an `ENVIRONMENT`, such as ``NEUROPROMPT_``,
    each can be set as a variable, too: that, and its name.

    Args:
        examples: Commands.
        extras: Of the package, without which there is nothing to begin.
        within: The app that it joins; another than ours has joined that one with `add_typer`.
    """
    epilog = "\n\n".join(["Examples:", *map(escape, examples)])

    def join(function: Callable[..., None]) -> Callable[..., None]:
        paragraphs = (getdoc(function) or "").split("\n\n")
        text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        within.command(help=text, epilog=epilog, cls=_Command)(_unfolded(function, extras))
        return function

    return join


def _unfolded(function: Callable[..., None], extras: Sequence[str]) -> Callable[..., None]:
    """The function as Typer reads it, with the fields of its groups in the place of the groups."""
    parameters: list[Parameter] = []
    groups: dict[str, Any] = {}
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in signature(function).parameters.items():
        if is_dataclass(group := hints[name]):
            groups[name], kinds = group, get_type_hints(group)
            prefix = getattr(group, "ENVIRONMENT", None)
            for f in fields(group):
                variable = {"envvar": prefix + f.name.upper()} if prefix else {}
                parameters.append(_parameter(f.name, kinds[f.name], f, f.default, group.PANEL, **variable))
        elif get_origin(hints[name]) is Annotated:
            parameters.append(_parameter(name, *get_args(hints[name]), parameter.default))
        else:
            parameters.append(_parameter(name, hints[name], parameter.default, parameter.default.default))

    @wraps(function)
    def unfolded(**options: Any) -> None:
        need(*extras)
        for name, group in groups.items():
            options[name] = group(**{f.name: options.pop(f.name) for f in fields(group)})
        function(**options)

    unfolded.__signature__ = Signature(parameters)
    unfolded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return unfolded


def _parameter(name: str, kind: Any, said: Field, default: Any, panel: str | None = None, **others: Any) -> Parameter:
    """An option or argument as Typer wants it; a field that only has a help is an option."""
    settings = {"make": typer.Option, "names": ()} | others | dict(said.metadata)
    make, names = settings.pop("make"), settings.pop("names")
    if make is typer.Option:
        if not any(other.startswith("--") for other in names):
            names = (f"--{name.replace('_', '-')}", *names)
        settings["metavar"] = next(word for type_, word in _METAVARS.items() if type_ in str(kind))
    made = make(*names, **{"rich_help_panel": panel} | settings)
    default = Parameter.empty if default is ... else default
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=Annotated[kind, made], default=default)


_METAVARS = {"bool": "", "int": "N", "float": "X", "str": "TEXT"}  # short, or the help has no room for its text


class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.params for name in parameter.opts}
        for name in (given.partition("=")[0] for given in takewhile(lambda given: given != "--", args)):
            if RENAMED.get(name) in own:
                ctx.fail(f"{name} is called {RENAMED[name]} now")
        return super().parse_args(ctx, args)
