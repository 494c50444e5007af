"""`neuroprompt enhance` and `neuroprompt modifiers`: prompts in, prompts out."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
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
    examples,
    load_policy,
    progress_bar,
    read_constraints,
)
from neuroprompt.terminal import console, counted, say

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
    epilog=examples(
        'neuroprompt enhance "boy on a horse"',
        'neuroprompt enhance "boy on a horse" -n 4 --seed 7',
        "neuroprompt enhance --input prompts.txt --output out.jsonl",
        "cat prompts.txt | neuroprompt enhance --input -",
        'neuroprompt enhance "boy on a horse" --artist "alphonse mucha" --require "golden hour|sunset" --forbid blurry',
    )
)
def enhance(
    prompt: Annotated[list[str] | None, typer.Argument(help="Prompts to rewrite.", show_default=False)] = None,
    input: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            help="A .txt, .csv or .jsonl file (column or key prompt, or else original, as in what this writes); - for "
            "a pipe, of which each line is rewritten as soon as it is there.",
        ),
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
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences decoded at once; a kill costs so many.")] = 160,
    device: Device = None,
) -> None:
    """Rewrite plain prompts with a policy: the user's words, then modifiers."""
    from neuroprompt.files import refuse_same_file
    from neuroprompt.prompt_files import Line, ResultFile, one_line, read_chunks

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
    refuse_same_file(input, output)
    if input:
        chunks = read_chunks(input, max(1, batch_size // variants))
    else:
        chunks = [[Line.of(i, text) for i, text in enumerate(prompt, 1)]]
        if wrong := next((line for line in _checked(chunks[0], constraints, window) if line.error), None):
            raise ValueError(wrong.error)
    results = None if output == "-" else ResultFile(output, json.dumps([model, settings, repr(constraints)]), variants)
    read = broken = made = 0
    quiet = not input or not sys.stderr.isatty()
    with results or nullcontext(), progress_bar(disable=quiet) as progress:
        enhancer = load_policy(model, device)
        task = progress.add_task("rewriting", total=None if quiet else _count_lines(input))
        for lines in chunks:
            lines = _checked(lines, constraints, window)
            good = [line.prompt for line in lines if line.error is None]
            todo = [text for text in good if not (results and results.take_up(text))]
            if todo and not made and results and results.taken_up:
                say(f"taking up {output} after {counted(results.taken_up, 'prompt')}")
            enhanced = enhancer(todo, constraints, **settings)
            flat = [e for of in enhanced for e in (of if isinstance(of, list) else [of])]
            if results:
                results.write(e.to_dict() for e in flat)
            elif sys.stdout.isatty():
                _print(flat)
            else:
                sys.stdout.writelines(one_line(e.text) + "\n" for e in flat)
                sys.stdout.flush()
            for e in flat:
                if e.warning:
                    say(f"{e.original[:60]}: {e.warning}", "warning:", "yellow")
            wrong = [line for line in lines if line.error is not None]
            for line in wrong:
                say(line.error, f"line {line.number}:", "red")
            read, broken, made = read + len(lines), broken + len(wrong), made + len(todo)
            progress.advance(task, len(lines))
        if not read and input != "-":
            raise ValueError(f"{input} holds no prompts")
    if broken:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "neuroprompt modifiers",
        "neuroprompt modifiers artist --search monet --limit 0",
    )
)
def modifiers(
    category: Annotated[str | None, typer.Argument(help="artist, style, format, perspective, booster or vibe.")] = None,
    search: Annotated[str | None, typer.Option("--search", "-s", help="Only terms that hold these letters.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=0, help="How many at most; 0 shows all.")] = 20,
) -> None:
    """What there is to choose from, and how many of DiffusionDB's prompts hold it."""
    from neuroprompt.modifiers import CATEGORIES, suggestions

    for name in [category] if category else CATEGORIES:
        table = Table(name, "prompts", box=None)
        for term, count in suggestions(name, limit or None, search):
            table.add_row(Text(term, CATEGORY_STYLES[name]), f"{count:,}")
        console.print(table if table.row_count else f"{name}: nothing found")


def _checked(lines, constraints, window):
    """The lines, prompts that the enhancer would refuse replaced by its errors."""
    from neuroprompt.completions import check_prompt
    from neuroprompt.prompt_files import Line

    checked = []
    for line in lines:
        try:
            if line.error is None:
                check_prompt(line.prompt, constraints, window)
        except ValueError as error:
            line = Line(line.number, error=str(error))
        checked.append(line)
    return checked


def _count_lines(path: str | None) -> int | None:
    """About how many there are to come; None where only reading would tell, as of a pipe."""
    if path is None or not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))


def _print(enhanced) -> None:
    """For a person: the user's words bold, the modifiers coloured by category."""
    for e in enhanced:
        text = Text(e.text)
        text.stylize("bold", 0, len(e.original))
        at = len(e.original)
        for modifier in e.modifiers:
            at = e.text.index(modifier.text, at)
            text.stylize(CATEGORY_STYLES[modifier.category], at, at + len(modifier.text))
            at += len(modifier.text)
        console.line(text)
