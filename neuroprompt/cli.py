"""The command line: `neuroprompt …`. Commands parse, call the library and print; models are imported when needed."""

import json
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Plain image prompts in, expert ones out.",
)
_errors = Console(stderr=True, highlight=False)

CATEGORY_STYLES = {
    "artist": "magenta",
    "style": "cyan",
    "format": "blue",
    "perspective": "green",
    "booster": "yellow",
    "vibe": "bright_red",
    None: "white",
}


def main() -> None:
    """Run a command; what the user can mend is one line on standard error, exit code 2."""
    try:
        app()
    except (ValueError, TypeError, OSError) as error:
        if os.environ.get("NEUROPROMPT_TRACEBACK"):
            raise
        _errors.print(f"[bold red]error:[/] {_escape(' '.join(str(error).split()))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        _errors.print("stopped")
        sys.exit(130)


# Options that several commands have.
_PHRASES = {"rich_help_panel": "Constraints", "show_default": False}
_Clause = Annotated[str | None, typer.Option(help='A phrase of this kind to be there; "a|b" is either.', **_PHRASES)]
_Require = Annotated[
    list[str] | None, typer.Option(help='A phrase that must be there; "a|b" is either. Repeatable.', **_PHRASES)
]
_Forbid = Annotated[list[str] | None, typer.Option(help="A phrase that must not be there. Repeatable.", **_PHRASES)]
_Auto = Annotated[
    list[str] | None, typer.Option(help="A category of which the policy picks a term itself.", **_PHRASES)
]
_Model = Annotated[str, typer.Option("--model", "-m", help="The policy: embedded, a folder, or a hub id.")]
_Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 …; by default the GPU if there is one.", show_default=False)
]
_DRAWING = {"rich_help_panel": "Drawing", "show_default": "the model's own"}
_Generator = Annotated[
    str, typer.Option("--generator", "-g", help="embedded, a folder, or a hub id.", rich_help_panel="Drawing")
]
_Steps = Annotated[int | None, typer.Option(help="Denoising steps.", **_DRAWING)]
_Guidance = Annotated[float | None, typer.Option(help="Scale of the guidance.", **_DRAWING)]
_Size = Annotated[int | None, typer.Option(help="Height and width in pixels.", **_DRAWING)]
_Negative = Annotated[str | None, typer.Option(help="Negative prompt.", **_DRAWING)]
_Rewards = Annotated[
    str, typer.Option(help="Of pickscore, clip, aesthetic, hps, image_reward; clip[ViT-L-14:openai] names a model.")
]


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
    model: _Model = "embedded",
    variants: Annotated[
        int, typer.Option("--variants", "-n", min=1, help="Variants per prompt; more than one are sampled.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Another seed, another result.")] = 0,
    artist: _Clause = None,
    style: _Clause = None,
    format: _Clause = None,
    perspective: _Clause = None,
    booster: _Clause = None,
    vibe: _Clause = None,
    require: _Require = None,
    forbid: _Forbid = None,
    auto: _Auto = None,
    num_beams: Annotated[int, typer.Option(min=1, help="Width of the beam search.")] = 5,
    diversity: Annotated[float, typer.Option(min=0.0, help="Noise of the search; 0 is plain beam search.")] = 0.7,
    temperature: Annotated[float, typer.Option(help="Of sampling.")] = 0.9,
    top_k: Annotated[int, typer.Option(min=0, help="Of sampling; 0 takes all tokens.")] = 100,
    top_p: Annotated[float, typer.Option(help="Of sampling; 1 takes all tokens.")] = 1.0,
    min_modifiers: Annotated[int, typer.Option(min=0, help="Modifiers that the policy must at least add.")] = 4,
    window: Annotated[
        int, typer.Option(min=3, help="CLIP tokens that a result may have, begin and end included.")
    ] = 77,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences decoded at once.")] = 160,
    device: _Device = None,
) -> None:
    """Rewrite plain prompts with a policy: the user's words, then modifiers."""
    from neuroprompt.prompt_files import Line, ResultFile, read_lines

    if bool(prompt) == bool(input):
        raise ValueError("give prompts, or a file with --input (- for a pipe): one of the two")
    constraints = _constraints(artist, style, format, perspective, booster, vibe, require, forbid, auto)
    settings = {
        "num_return_sequences": variants,
        "seed": seed,
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
    enhancer = _load(model, device)
    start = results.done // variants
    if start:
        _errors.print(f"taking up {output} after {start} of {len(good)} prompts")
    show = bool(input) and len(good) > 1 and sys.stderr.isatty()
    with _progress(disable=not show) as progress:
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
                    _errors.print(f"[yellow]warning:[/] {_escape(e.original[:60])}: {e.warning}", soft_wrap=True)
            progress.advance(task, len(part))
    results.close()
    for line in broken:
        _errors.print(f"[red]line {line.number}:[/] {_escape(line.error)}", soft_wrap=True)
    if broken:
        raise typer.Exit(1)


@app.command(
    epilog='Examples: neuroprompt image "boy on a horse" -o out.png · neuroprompt image "boy on a horse" --enhance '
    '--style watercolor -o out.png · neuroprompt image "a castle" --generator stabilityai/sd-turbo -o castle.png'
)
def image(
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    output: Annotated[str, typer.Option("--output", "-o", help="A .png, .jpg or .webp file.", show_default=False)],
    enhance: Annotated[bool, typer.Option("--enhance", "-e", help="Let the policy rewrite the prompt first.")] = False,
    model: _Model = "embedded",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another picture.")] = 0,
    generator: _Generator = "embedded",
    steps: _Steps = None,
    guidance: _Guidance = None,
    size: _Size = None,
    negative: _Negative = None,
    artist: _Clause = None,
    style: _Clause = None,
    format: _Clause = None,
    perspective: _Clause = None,
    booster: _Clause = None,
    vibe: _Clause = None,
    require: _Require = None,
    forbid: _Forbid = None,
    auto: _Auto = None,
    device: _Device = None,
) -> None:
    """Draw one picture; the file says how it was made (A1111's `parameters`, and JSON)."""
    from neuroprompt.image_files import SUFFIXES, PictureInfo, save_image

    _quiet_libraries()
    constraints = _constraints(artist, style, format, perspective, booster, vibe, require, forbid, auto)
    if constraints and not enhance:
        raise ValueError("constraints are for the policy: add --enhance")
    _check_output(output, SUFFIXES)
    text = prompt
    if enhance:
        text = _load(model, device)(prompt, constraints).text
        _errors.print(_escape(text), soft_wrap=True)
    draw = _load_generator(generator, device, steps, guidance, size, negative)
    drawing = draw.draw([text], [seed])
    if drawing.flagged[0]:
        raise ValueError(f"the safety checker flagged the picture of {text[:60]!r}: try another seed or prompt")
    save_image(drawing.images[0], output, PictureInfo(prompt, text, seed, draw.name, asdict(draw.config)))


@app.command(
    epilog='Examples: neuroprompt score --prompt "boy on a horse" a.png b.png · neuroprompt score drawn_by_us.png · '
    'neuroprompt score --prompt "a castle" --reward-model published --rewards pickscore,hps *.jpg --json'
)
def score(
    images: Annotated[list[str], typer.Argument(help="Picture files.", show_default=False)],
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "-p", help="What was wished for; by default the prompt that each file names."),
    ] = None,
    rewards: _Rewards = "pickscore,aesthetic,clip",
    reward_model: Annotated[str, typer.Option(help="embedded, or published: the rewards' own weights.")] = "embedded",
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    device: _Device = None,
) -> None:
    """What each reward says of pictures."""
    import torch
    from rich.progress import track
    from torchvision.transforms.v2.functional import to_dtype, to_image

    from neuroprompt.image_files import load_images, read_metadata
    from neuroprompt.rewards import load_rewards

    wishes = [prompt or read_metadata(path).get("neuroprompt", {}).get("original") for path in images]
    if None in wishes:
        raise ValueError(f"{images[wishes.index(None)]} does not say what was wished for: give a --prompt")
    pictures = load_images(images)
    _quiet_libraries()
    judge = load_rewards(rewards, None if reward_model == "published" else reward_model, device)
    names = [c.reward.name for c in judge.components]
    table = Table("picture", *names, box=None)
    for path, wish, picture in track(
        list(zip(images, wishes, pictures, strict=True)),
        "scoring",
        console=_errors,
        transient=True,
        disable=len(images) < 3 or not sys.stderr.isatty(),
    ):
        tensor = to_dtype(to_image(picture), torch.float32, scale=True)  # (3, height, width)
        scores = {name: float(value) for name, value in judge([wish], tensor[None]).items()}
        if json_lines:
            print(json.dumps({"picture": path, "prompt": wish, **scores}))
        table.add_row(Text(path), *(f"{scores[name]:.4f}" for name in names))
    if not json_lines:
        Console(highlight=False).print(table)


@app.command(
    epilog='Examples: neuroprompt grid "boy on a horse" "a castle" -o grid.png · neuroprompt grid --input prompts.txt '
    '--rows 6 --seeds 4 -o grid.html · neuroprompt grid "a fox" --methods plain,suffix,enhanced+constraints '
    "--style watercolor -o grid.png · neuroprompt grid --input prompts.txt --methods plain,file:mine.txt -o grid.webp"
)
def grid(
    prompt: Annotated[list[str] | None, typer.Argument(help="Plain prompts: the rows.", show_default=False)] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A .png, .jpg, .webp or .html file.", show_default=False)
    ] = ...,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="A .txt, .csv (column prompt) or .jsonl file of plain prompts.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Take only the first so many prompts.")] = None,
    methods: Annotated[
        str,
        typer.Option(
            help="The columns: plain, enhanced, sft, ppo, policy:FOLDER, suffix, random, file:PATH; a policy also with "
            "+constraints."
        ),
    ] = "plain,enhanced",
    seeds: Annotated[int, typer.Option(min=1, help="Pictures a cell.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first picture's seed.")] = 0,
    title: Annotated[str, typer.Option(help="Above the grid.")] = "",
    cell_size: Annotated[int | None, typer.Option(help="Width of a picture in the grid, in pixels.")] = None,
    generator: _Generator = "embedded",
    steps: _Steps = None,
    guidance: _Guidance = None,
    size: _Size = None,
    negative: _Negative = None,
    rewards: _Rewards = "pickscore,aesthetic,clip",
    reward_model: Annotated[
        str | None,
        typer.Option(help="embedded, or published; by default embedded with the embedded generator."),
    ] = None,
    artist: _Clause = None,
    style: _Clause = None,
    format: _Clause = None,
    perspective: _Clause = None,
    booster: _Clause = None,
    vibe: _Clause = None,
    require: _Require = None,
    forbid: _Forbid = None,
    auto: _Auto = None,
    device: _Device = None,
) -> None:
    """Draw prompts side by side as several methods write them: same seeds, scores under each picture."""
    _quiet_libraries()
    from neuroprompt.evaluation.comparison import compare_pictures
    from neuroprompt.evaluation.grid import HTML_SUFFIXES, save_grid
    from neuroprompt.evaluation.methods import parse_methods
    from neuroprompt.image_files import SUFFIXES
    from neuroprompt.prompt_files import read_lines
    from neuroprompt.rewards import load_rewards
    from neuroprompt.scoring import PromptReward

    if bool(prompt) == bool(input):
        raise ValueError("give prompts, or a file with --input: one of the two")
    _check_output(output, SUFFIXES + HTML_SUFFIXES)
    lines = read_lines(input)[:rows] if input else []
    if broken := next((line for line in lines if line.error), None):
        raise ValueError(f"{input}, line {broken.number}: {broken.error}")
    prompts = [line.prompt for line in lines] if input else prompt[:rows]
    constraints = _constraints(artist, style, format, perspective, booster, vibe, require, forbid, auto)
    columns = parse_methods(methods, constraints or None, device=device)
    draw = _load_generator(generator, device, steps, guidance, size, negative)
    reward_model = reward_model or ("embedded" if generator == "embedded" else "published")
    judge = load_rewards(rewards, None if reward_model == "published" else reward_model, device)
    reward = PromptReward(draw, judge, images_per_prompt=seeds)
    with _progress(disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("drawing", total=len(prompts) * len(columns) * seeds)
        made = compare_pictures(
            prompts,
            columns,
            reward,
            range(seed, seed + seeds),
            title,
            lambda done: progress.update(task, completed=done),
        )
    save_grid(made, output, cell_size)


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


def _constraints(artist, style, format, perspective, booster, vibe, require, forbid, auto):
    from neuroprompt.decoding import Constraints

    clauses = {"artist": artist, "style": style, "format": format}
    clauses |= {"perspective": perspective, "booster": booster, "vibe": vibe}
    return Constraints(**clauses, require=require or (), forbid=forbid or (), auto=auto or ())


def _load(model: str, device: str | None):
    from neuroprompt.enhancer import PromptEnhancer

    _quiet_libraries()
    return PromptEnhancer.from_pretrained(model, device=device)


def _load_generator(name, device, steps, guidance, size, negative):
    from neuroprompt.images import GeneratorConfig, ImageGenerator

    _quiet_libraries()
    config = GeneratorConfig(
        num_inference_steps=steps, guidance_scale=guidance, height=size, width=size, negative_prompt=negative
    )
    return ImageGenerator.from_pretrained(name, device=device, config=config)


def _quiet_libraries() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # open_clip's import of timm


def _check_output(path: str, suffixes: tuple[str, ...]) -> None:
    """Before hours are spent on what cannot be written."""
    if Path(path).suffix.lower() not in suffixes:
        raise ValueError(f"{path}: this is written to {', '.join(suffixes)} files")
    if not Path(path).absolute().parent.is_dir():
        raise ValueError(f"there is no folder {Path(path).parent}")


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


def _progress(disable: bool) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=_errors, disable=disable)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
