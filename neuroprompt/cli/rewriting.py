"""`neuroprompt enhance` and `neuroprompt modifiers`: prompts in, prompts out."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from neuroprompt.cli.options import (
    Auto,
    Clause,
    Device,
    Forbid,
    Model,
    Require,
    app,
    errors,
    load_policy,
    progress_bar,
    read_constraints,
)

CATEGORY_STYLES = {
    "artist": "magenta",
    "style": "cyan",
    "format": "blue",
    "perspective": "green",
    "booster": "yellow",
    "vibe": "bright_red",
    None: "white",
}


@app.command(
    epilog='Examples: neuroprompt enhance "boy on a horse" · neuroprompt enhance "boy on a horse" -n 4 --seed 7 · '
    "neuroprompt enhance --input prompts.txt --output out.jsonl · cat prompts.txt | neuroprompt enhance --input - · "
    'neuroprompt enhance "boy on a horse" --artist "alphonse mucha" --require "golden hour|sunset" --forbid blurry'
)
def enhance(
    prompt: Annotated[list[str] | None, typer.Argument(help="Prompts to rewrite.", show_default=False)] = None,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="A .txt, .csv (column prompt) or .jsonl file; - for a pipe.")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A .jsonl, .csv or .txt file; - for standard output.")
    ] = "-",
    model: Model = "embedded",
    variants: Annotated[
        int, typer.Option("--variants", "-n", min=1, help="Variants per prompt; more than one are sampled.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Another seed, another result.")] = 0,
    artist: Clause = None,
    style: Clause = None,
    format: Clause = None,
    perspective: Clause = None,
    booster: Clause = None,
    vibe: Clause = None,
    require: Require = None,
    forbid: Forbid = None,
    auto: Auto = None,
    num_beams: Annotated[int, typer.Option(min=1, help="Width of the beam search.")] = 5,
    diversity: Annotated[
        float | None, typer.Option(min=0.0, help="Noise of the search; 0 is plain beam search. Default: the policy's.")
    ] = None,
    sample: Annotated[
        bool | None, typer.Option("--sample/--search", help="How to decode. Default: the policy's way.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of sampling. Default: the policy's.")] = None,
    top_k: Annotated[int, typer.Option(min=0, help="Of sampling; 0 takes all tokens.")] = 100,
    top_p: Annotated[float, typer.Option(help="Of sampling; 1 takes all tokens.")] = 1.0,
    min_modifiers: Annotated[int, typer.Option(min=0, help="Modifiers that the policy must at least add.")] = 4,
    window: Annotated[
        int, typer.Option(min=3, help="CLIP tokens that a result may have, begin and end included.")
    ] = 77,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences decoded at once.")] = 160,
    device: Device = None,
) -> None:
    """Rewrite plain prompts with a policy: the user's words, then modifiers."""
    from neuroprompt.prompt_files import Line, ResultFile, read_lines

    if bool(prompt) == bool(input):
        raise ValueError("give prompts, or a file with --input (- for a pipe): one of the two")
    constraints = read_constraints(artist, style, format, perspective, booster, vibe, require, forbid, auto)
    settings = {
        "num_return_sequences": variants,
        "seed": seed,
        "do_sample": sample,
        "num_beams": num_beams,
        "diversity": diversity,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_modifiers": min_modifiers,
        "window": window,
        "batch_size": batch_size,
    }
    lines = read_lines(input) if input else [Line(i, p) for i, p in enumerate(prompt, 1)]
    lines = [_checked(line, constraints, window) for line in lines]
    good = [line for line in lines if line.prompt is not None]
    broken = [line for line in lines if line.prompt is None]
    if not input and broken:
        raise ValueError(broken[0].error)
    results = ResultFile(output, json.dumps([model, settings, repr(constraints), [line.prompt for line in good]]))
    enhancer = load_policy(model, device)
    start = results.done // variants
    if start:
        errors.print(f"taking up {escape(str(output))} after {start} of {len(good)} prompts", soft_wrap=True)
    show = bool(input) and len(good) > 1 and sys.stderr.isatty()
    with progress_bar(disable=not show) as progress:
        task = progress.add_task("rewriting", total=len(good), completed=start)
        # The chunk is what a kill may cost, and what is sorted by length together.
        chunk = max(256, batch_size) if input else len(good)
        for i in range(start, len(good), chunk):
            part = good[i : i + chunk]
            enhanced = enhancer([line.prompt for line in part], constraints, **settings)
            flat = [e for of in enhanced for e in (of if isinstance(of, list) else [of])]
            if output == "-" and sys.stdout.isatty():
                _print(flat)
            else:
                results.write([e.to_dict() for e in flat])
            for e in flat:
                if e.warning:
                    errors.print(f"[yellow]warning:[/] {escape(e.original[:60])}: {e.warning}", soft_wrap=True)
            progress.advance(task, len(part))
    results.close()
    for line in broken:
        errors.print(f"[red]line {line.number}:[/] {escape(line.error)}", soft_wrap=True)
    if broken:
        raise typer.Exit(1)


@app.command(epilog="Examples: neuroprompt modifiers · neuroprompt modifiers artist --search monet --limit 0")
def modifiers(
    category: Annotated[str | None, typer.Argument(help="artist, style, format, perspective, booster or vibe.")] = None,
    search: Annotated[str | None, typer.Option("--search", "-s", help="Only terms that hold these letters.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=0, help="How many at most; 0 shows all.")] = 20,
) -> None:
    """What there is to choose from, and how many of DiffusionDB's prompts hold it."""
    from neuroprompt.modifiers import CATEGORIES, suggestions

    console = Console(highlight=False)
    for name in [category] if category else CATEGORIES:
        table = Table(name, "prompts", box=None)
        for term, count in suggestions(name, limit or None, search):
            table.add_row(Text(term, CATEGORY_STYLES[name]), f"{count:,}")
        console.print(table if table.row_count else f"{name}: nothing found")


def _checked(line, constraints, window):
    """The line, its prompt replaced by an error where the enhancer would refuse it."""
    from neuroprompt.enhancer import check_prompt
    from neuroprompt.prompt_files import Line

    if line.prompt is None:
        return line
    try:
        check_prompt(line.prompt, constraints, window)
    except ValueError as error:
        return Line(line.number, error=str(error))
    return line


def _print(enhanced) -> None:
    """For a person: the user's words bold, the modifiers coloured by category."""
    console = Console(highlight=False)
    for e in enhanced:
        text = Text(e.text)
        text.stylize("bold", 0, len(e.original))
        at = len(e.original)
        for modifier in e.modifiers:
            at = e.text.index(modifier.text, at)
            text.stylize(CATEGORY_STYLES[modifier.category], at, at + len(modifier.text))
            at += len(modifier.text)
        console.print(text, soft_wrap=True)
