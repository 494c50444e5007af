"""The app, and what makes a function a command of it: groups of options, examples, spellings of former days."""

from collections.abc import Callable
from copy import copy
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, getdoc, signature
from itertools import takewhile
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer
from rich.markup import escape
from typer.core import TyperCommand
from typer.models import OptionInfo

from neuroprompt import __version__

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
        print(f"neuroprompt {__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit.")
    ] = False,
) -> None:
    """Plain image prompts in, expert ones out."""


_Function = TypeVar("_Function", bound=Callable[..., None])


def command(*examples: str) -> Callable[[_Function], _Function]:
    """Make a function a command: its docstring is the help, with the examples under it, each on a line of its own.

    A parameter whose type is a dataclass is a group of options: each of its fields is one, annotated as Typer wants it,
    and the function gets them as one object. The help shows them in the dataclass's `PANEL`.
    """
    epilog = "\n\n".join(["Examples:", *map(escape, examples)])

    def join(function: _Function) -> _Function:
        paragraphs = (getdoc(function) or "").split("\n\n")
        help_text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        app.command(help=help_text, epilog=epilog, cls=_Command)(_unfolded(function))
        return function

    return join


def _unfolded(function: Callable[..., None]) -> Callable[..., None]:
    """The function with the fields of its groups in the place of the groups."""
    hints = get_type_hints(function, include_extras=True)
    parameters: list[Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in signature(function).parameters.items():
        group = hints[name]
        if not is_dataclass(group):
            parameters.append(parameter.replace(annotation=_dressed(group), kind=Parameter.KEYWORD_ONLY))
            continue
        groups[name] = group
        options = get_type_hints(group, include_extras=True)
        for field in fields(group):
            kind = _dressed(options[field.name], group.PANEL)
            parameters.append(Parameter(field.name, Parameter.KEYWORD_ONLY, annotation=kind, default=field.default))

    @wraps(function)
    def unfolded(**options: Any) -> None:
        for name, group in groups.items():
            options[name] = group(**{field.name: options.pop(field.name) for field in fields(group)})
        function(**options)

    unfolded.__signature__ = Signature(parameters)
    unfolded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return unfolded


_METAVARS = {"bool": "", "int": "N", "float": "X", "str": "TEXT"}


def _dressed(annotation: Any, panel: str | None = None) -> Any:
    """An option's annotation with its panel in the help, and a short word for its type, to leave room for the text."""
    kind, option = get_args(annotation)
    if isinstance(option, OptionInfo):
        option = copy(option)
        option.metavar = next(word for name, word in _METAVARS.items() if name in str(kind))
        option.rich_help_panel = option.rich_help_panel or panel
    return Annotated[kind, option]


class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.params for name in parameter.opts}
        for argument in takewhile(lambda argument: argument != "--", args):
            new = RENAMED.get(argument.partition("=")[0])
            if new in own:
                ctx.fail(f"{argument.partition('=')[0]} is called {new} now")
        return super().parse_args(ctx, args)
