"""`neuroprompt image`, `score` and `grid`: pictures drawn, judged, and set side by side."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.table import Column, Table
from rich.text import Text

from neuroprompt.cli.options import (
    METHODS,
    Auto,
    Clause,
    Device,
    Dtype,
    Forbid,
    Generator,
    Guidance,
    Model,
    Negative,
    Require,
    RewardModel,
    Rewards,
    Set,
    Size,
    Steps,
    app,
    check_output,
    examples,
    load_generator,
    load_policy,
    load_reward,
    progress_bar,
    quiet_libraries,
    read_constraints,
    read_prompts,
)
from neuroprompt.terminal import console, errors, say, visible


@app.command(
    epilog=examples(
        'neuroprompt image "boy on a horse" -o out.png',
        'neuroprompt image "boy on a horse" --enhance --style watercolor -o out.png',
        'neuroprompt image "a castle" --generator stabilityai/sd-turbo -o castle.png',
    )
)
def image(
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    output: Annotated[str, typer.Option("--output", "-o", help="A .png, .jpg or .webp file.", show_default=False)],
    enhance: Annotated[bool, typer.Option("--enhance", "-e", help="Let the policy rewrite the prompt first.")] = False,
    model: Model = "embedded",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another picture.")] = 0,
    generator: Generator = "embedded",
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    negative: Negative = None,
    dtype: Dtype = None,
    settings: Set = None,
    artist: Clause = None,
    style: Clause = None,
    format: Clause = None,
    perspective: Clause = None,
    booster: Clause = None,
    vibe: Clause = None,
    require: Require = None,
    forbid: Forbid = None,
    auto: Auto = None,
    device: Device = None,
) -> None:
    """Draw one picture; the file says how it was made (A1111's `parameters`, and JSON)."""
    from neuroprompt.image_files import SUFFIXES, PictureInfo, save_image

    check_output(output, SUFFIXES)
    from neuroprompt.completions import check_prompt
    from neuroprompt.models import reason
    from neuroprompt.prompts import count_clip_tokens

    quiet_libraries()
    check_prompt(prompt)
    constraints = read_constraints(artist, style, format, perspective, booster, vibe, require, forbid, auto)
    if constraints and not enhance:
        raise ValueError("constraints are for the policy: add --enhance")
    text = prompt
    if enhance:
        text = load_policy(model, device)(prompt, constraints).text
        say(text)
    draw = load_generator(generator, device, steps, guidance, size, negative, dtype, settings)
    if draw.window and (tokens := count_clip_tokens(text)) > draw.window:
        unread = f"the prompt has {tokens} CLIP tokens, of which {draw.name} reads the first {draw.window}"
        say(unread, "warning:", "yellow")
    try:
        drawing = draw.draw([text], [seed])
    except RuntimeError as error:  # such as a size that no memory holds
        raise ValueError(f"cannot draw {text[:60]!r}: {reason(error)}") from error
    if drawing.flagged[0]:
        raise ValueError(f"the safety checker flagged the picture of {text[:60]!r}: try another seed or prompt")
    save_image(drawing.images[0], output, PictureInfo(prompt, text, seed, draw.name, asdict(draw.config)))


@app.command(
    epilog=examples(
        'neuroprompt score --prompt "boy on a horse" a.png b.png',
        "neuroprompt score drawn_by_us.png",
        'neuroprompt score --prompt "a castle" --reward-model published --rewards pickscore,hps *.jpg --json',
    )
)
def score(
    images: Annotated[list[str], typer.Argument(help="Picture files.", show_default=False)],
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "-p", help="What was wished for; by default the prompt that each file names."),
    ] = None,
    rewards: Rewards = "pickscore,aesthetic,clip",
    reward_model: RewardModel = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    device: Device = None,
) -> None:
    """What each reward says of pictures. A file that cannot be scored is reported, and the others are scored."""
    origins = [(path, origin) for path in images if (origin := _origin(path, prompt))]
    if not origins:
        raise typer.Exit(2)
    import torch
    from rich.progress import track
    from torchvision.transforms.v2.functional import to_dtype, to_image

    from neuroprompt.completions import check_prompt
    from neuroprompt.image_files import load_images

    if prompt is not None:
        check_prompt(prompt)
    quiet_libraries()
    judge = _judge(rewards, reward_model, {origin.generator for _, origin in origins}, device)
    names = [c.reward.name for c in judge.components]
    table = Table(Column("picture", overflow="fold"), *names, box=None)  # two that differ at the end differ here
    show = len(origins) > 2 and sys.stderr.isatty()
    for path, (wish, _) in track(origins, "scoring", console=errors, transient=True, disable=not show):
        try:
            (picture,) = load_images([path])
            tensor = to_dtype(to_image(picture), torch.float32, scale=True)  # (3, height, width)
            scores = {name: float(value) for name, value in judge([wish], tensor[None]).items()}
        except ValueError as error:
            _cannot_score(path, error)
            continue
        if json_lines:
            print(json.dumps({"picture": path, "prompt": wish, **scores}))
        table.add_row(Text(visible(path)), *(f"{scores[name]:.4f}" for name in names))
    if table.row_count and not json_lines:
        console.print(table)
    if table.row_count < len(images):
        raise typer.Exit(1 if table.row_count else 2)


class _Origin(NamedTuple):
    wish: str
    generator: str


def _origin(path: str, prompt: str | None) -> _Origin | None:
    """What was wished for, the prompt or what the picture says, and who drew it; None where it cannot be scored."""
    from neuroprompt.image_files import read_metadata

    try:
        made = read_metadata(path).get("neuroprompt")
        made = made if isinstance(made, dict) else {}
        wish = made.get("original") if prompt is None else prompt
        if not isinstance(wish, str):
            raise ValueError("it does not say what was wished for: give a --prompt")
    except ValueError as error:
        _cannot_score(path, error)
        return None
    return _Origin(wish, str(made.get("model")))


def _cannot_score(path: str, error: ValueError) -> None:
    say(f"{path}: {str(error).removeprefix(f'{path}: ')}", "error:", "bold red")


def _judge(rewards: str, model: str | None, generators: set[str], device: str | None):
    """The rewards asked for; by default the embedded ones where all pictures are the embedded generator's."""
    from neuroprompt.rewards import load_rewards

    model = model or ("embedded" if generators == {"embedded"} else None)
    if not model:
        hint = "--reward-model embedded needs no hub, and knows the embedded generator's pictures alone"
        say(f"the published rewards judge ({hint})")
    return load_rewards(rewards, None if model == "published" else model, device)


@app.command(
    epilog=examples(
        'neuroprompt grid "boy on a horse" "a castle" -o grid.png',
        "neuroprompt grid --input prompts.txt --rows 6 --seeds 4 -o grid.html",
        'neuroprompt grid "a fox" --methods plain,suffix,enhanced+constraints --style watercolor -o grid.png --html',
        "neuroprompt grid --input prompts.txt --methods plain,file:mine.txt -o grid.webp",
    )
)
def grid(
    prompt: Annotated[list[str] | None, typer.Argument(help="Plain prompts: the rows.", show_default=False)] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A .png, .jpg, .webp or .html file.", show_default=False)
    ] = ...,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="A .txt, .csv (column prompt) or .jsonl file of plain prompts.")
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Write a page beside the picture, too: grid.html beside grid.png.")
    ] = False,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Take only the first so many prompts, of files of methods, too.")
    ] = None,
    methods: Annotated[
        str,
        typer.Option(help=f"The columns. {METHODS}"),
    ] = "plain,enhanced",
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Pictures a cell.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first picture's seed.")] = 0,
    title: Annotated[str, typer.Option(help="Above the grid.")] = "",
    cell_size: Annotated[
        int | None, typer.Option(min=16, max=4096, help="Width of a picture in the grid, in pixels.")
    ] = None,
    generator: Generator = "embedded",
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    negative: Negative = None,
    dtype: Dtype = None,
    settings: Set = None,
    rewards: Rewards = "pickscore,aesthetic,clip",
    reward_model: RewardModel = None,
    artist: Clause = None,
    style: Clause = None,
    format: Clause = None,
    perspective: Clause = None,
    booster: Clause = None,
    vibe: Clause = None,
    require: Require = None,
    forbid: Forbid = None,
    auto: Auto = None,
    device: Device = None,
) -> None:
    """Draw prompts side by side as several methods write them: same seeds, scores under each picture."""
    from neuroprompt.image_files import SUFFIXES
    from neuroprompt.pages.grid import HTML_SUFFIXES, save_grid

    page = Path(output).with_suffix(".html")
    check_output(output, SUFFIXES + HTML_SUFFIXES)
    if html:
        check_output(str(page), HTML_SUFFIXES)
    prompts = read_prompts(prompt, input, rows)
    quiet_libraries()
    from neuroprompt.evaluation.comparison import compare_pictures
    from neuroprompt.evaluation.methods import parse_methods

    constraints = read_constraints(artist, style, format, perspective, booster, vibe, require, forbid, auto)
    drawing = load_generator(generator, device, steps, guidance, size, negative, dtype, settings)
    reward = load_reward(drawing, rewards, reward_model, device, seeds, seed)
    columns = parse_methods(methods, constraints or None, device=device, reward=reward, rows=rows)
    with progress_bar(disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("drawing", total=len(prompts) * len(columns) * seeds)
        made = compare_pictures(
            prompts,
            columns,
            reward,
            range(seed, seed + seeds),
            title,
            lambda done: progress.update(task, completed=done),
        )
    if html and page != Path(output):
        save_grid(made, page)
    try:
        save_grid(made, output, cell_size)
    except ValueError as error:  # too large for the format: nobody should have to draw it again for that
        if not html:
            page = Path(f"{output}.html")
            save_grid(made, page)
        raise ValueError(f"{error}; all of it is in {page}") from error
