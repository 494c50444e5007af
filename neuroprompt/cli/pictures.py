"""`neuroprompt image`, `score` and `grid`: pictures drawn, judged, and set side by side."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer
from rich.table import Column, Table
from rich.text import Text

from neuroprompt.cli.app import argument, command, option
from neuroprompt.cli.options import (
    METHODS,
    ConstraintOptions,
    Device,
    DrawingOptions,
    Family,
    GateOptions,
    Generator,
    ImagesPerPrompt,
    Json,
    ModelForGenerator,
    PromptOptions,
    RewardOptions,
    Seed,
    Title,
    check_file,
    find,
    load_policy,
    reads,
)
from neuroprompt.cli.progress import working
from neuroprompt.terminal import console, say, show_json, visible

if TYPE_CHECKING:
    from neuroprompt.rewards import RewardSet
    from neuroprompt.rewards.atoms import Answers


@command(
    'neuroprompt image "boy on a horse" -o out.png',
    'neuroprompt image "boy on a horse" --enhance --style watercolor -o out.png',
    'neuroprompt image "boy on a horse" --enhance --if-better 4 -o out.png',
    'neuroprompt image "a castle" --generator stabilityai/sd-turbo -o castle.png',
    'neuroprompt image "a castle" --size 768x512 --seed 7 -o castle.webp --json',
)
def image(
    *,
    prompt: str = argument(..., "What to draw."),
    output: str = option(..., "A .png, .jpg or .webp file.", "-o"),
    enhance: bool = option(False, "Let the policy rewrite the prompt first.", "-e"),
    model: ModelForGenerator = None,
    seed: Seed = 0,
    json_lines: Json = False,
    device: Device = None,
    generator: Generator = "embedded",
    family: Family = None,
    drawing: DrawingOptions,
    wish: ConstraintOptions,
    gating: GateOptions,
    rewards: RewardOptions,
) -> None:
    """Draw one picture; the file says how it was made.

    That is A1111's text `parameters`, and the same as JSON. What is forbidden goes into the negative prompt, as does
    what stands behind "Negative prompt:" below the prompt. With --if-better pictures decide whether the rewrite is
    drawn, or the prompt as it was.
    """
    from neuroprompt.completions import check_prompt
    from neuroprompt.image_files import SUFFIXES, PictureInfo, save_image
    from neuroprompt.models import policy_for, reason
    from neuroprompt.prompts import split_negative

    check_file(output, SUFFIXES)
    constraints = wish.read()
    if (constraints or not wish.coherent) and not enhance:
        raise ValueError("constraints are for the policy: add --enhance")
    gated, rewards = gating.if_better is not None, gating.check(rewards)
    if gated and not enhance:
        raise ValueError("--if-better is about what the policy writes: add --enhance")
    prompt, negative = split_negative(prompt)
    check_prompt(prompt, constraints, reads(generator, family)[1])
    drawing.check(generator)
    model = model or policy_for(generator)
    if enhance:
        find(model, "policy")
    with working("picture", "nothing is written") as work:
        draw = drawing.load(generator, device, seeds=None if gated else "none")  # one alone is compared with no other
        (reader, window), text = reads(draw, family), prompt
        facts, drawn = {}, {}  # what the gate says, and its pictures by text and seed
        if enhance:
            work.stage("rewriting")
            settings = {"coherent": wish.coherent, "window": window, "negative": negative}
            made = load_policy(model, device).asked(family=reader)(prompt, constraints, **settings)
            text, negative = made.text, made.negative
        negative = draw.negative_for(negative)
        if gated:
            from neuroprompt.scoring import PromptReward

            work.stage("drawing")
            reward = PromptReward(draw, rewards.load([draw.name], device), window=window)
            # The picture's own seed is the first, so that it is drawn when the verdict is there.
            gate = gating.load(reward, rewards, seeds=lambda _: range(seed, seed + gating.pictures))
            (verdict,) = gate([prompt], [text], [negative], on_picture=lambda _, *of: drawn.update({of[:2]: of[2]}))
            if not verdict.accepted and text != prompt:
                say(f"{prompt[:60]}: left as it is: {verdict.reason}", "warning:", "yellow")
            text, facts = verdict.text, {"if_better": verdict.facts()}
        if enhance:
            say(text)
        if (draw.window or family) and not window.holds(text):
            tokens = f"{window.count(text)} {window.counter} tokens"
            say(f"the prompt has {tokens}, of which {draw.name} reads the first {window.tokens}", "warning:", "yellow")
        work.stage("drawing")
        picture = drawn.get((text, seed))
        if picture is None:
            try:
                (picture,), (flagged,) = draw.draw([text], [seed], [negative])
            except RuntimeError as error:  # such as a size that no memory holds
                raise ValueError(f"cannot draw {text[:60]!r}: {reason(error)}") from error
            if flagged:
                raise ValueError(f"the safety checker flagged the picture of {text[:60]!r}: try another seed or prompt")
    config = asdict(draw.config) | ({"negative": negative} if negative else {})
    info = PictureInfo(prompt, text, seed, draw.name, config)
    save_image(picture, output, info)
    if json_lines:
        show_json({"output": output} | asdict(info) | facts)


@command(
    'neuroprompt score --prompt "boy on a horse" a.png b.png',
    "neuroprompt score drawn_by_us.png",
    'neuroprompt score --prompt "a castle" --reward-model published --rewards pickscore,hps *.jpg --json',
    extras=["images"],
)
def score(
    *,
    images: list[str] = argument(..., "Picture files."),
    prompt: str | None = option(None, "What was wished for; by default the prompt that each file names.", "-p"),
    json_lines: Json = False,
    device: Device = None,
    rewards: RewardOptions,
) -> None:
    """Say what each reward makes of pictures.

    A file that cannot be scored is reported, and the others are scored.
    """
    from neuroprompt.completions import check_prompt

    if prompt is not None:
        check_prompt(prompt)
    origins = [(path, origin) for path in images if (origin := _origin(path, prompt))]
    if not origins:
        raise typer.Exit(2)
    generators = {origin.generator for _, origin in origins}
    if not rewards.reward_model and rewards.source(generators) == "published" and rewards.takes_source:
        hint = "--reward-model embedded needs no hub, and knows the embedded generator's pictures alone"
        say(f"the published rewards judge ({hint})")
    rewards.check([origin.wish for _, origin in origins])
    scores: dict[str, dict[str, float]] = {}
    answers: dict[str, dict[str, Answers]] = {}
    with working("picture") as work:
        judge = rewards.load(generators, device)
        for done, (path, origin) in enumerate(origins, 1):
            try:
                scores[path], answers[path] = _scores(judge, path, origin.wish)
            except ValueError as error:
                _cannot_score(path, error)
                continue
            if json_lines:
                shown = {"picture": path, "original": origin.wish, "scores": scores[path]}
                show_json(shown | ({"answers": _as_json(answers[path])} if answers[path] else {}))
            work.update(done, len(origins), "scoring")
    if scores and not json_lines:
        console.print(_table(scores))
        for path, own in answers.items():
            _print_answers(path, own)
    if len(scores) < len(images):
        raise typer.Exit(1 if scores else 2)


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


def _scores(judge: "RewardSet", path: str, wish: str) -> "tuple[dict[str, float], dict[str, Answers]]":
    """A picture's scores, and what the rewards that ask were answered."""
    from neuroprompt.image_files import load_images

    answers: dict[str, Answers] = {}
    return judge.score_picture(wish, load_images([path])[0], answers=answers), answers


def _as_json(answers: "dict[str, Answers]") -> dict[str, list[dict]]:
    return {name: [asdict(asked) | {"score": soft} for asked, soft in own] for name, (own,) in answers.items()}


def _print_answers(path: str, answers: "dict[str, Answers]") -> None:
    """Each question with the probability of the wanted answer, under the picture that it is of."""
    for name, (own,) in answers.items():
        console.print()
        console.print_line(f"{name}: {path}")
        for asked, soft in own:
            console.print_line(f"  {soft:.2f}  {asked.text}" + f" ({asked.answer})" * (asked.answer != "yes"))


def _cannot_score(path: str, error: ValueError) -> None:
    say(f"{path}: {str(error).removeprefix(f'{path}: ')}", "error:", "bold red")


def _table(scores: dict[str, dict[str, float]]) -> Table:
    """A row for each picture. What is too long for the terminal is broken and never cut: names differ at the end."""
    names = next(iter(scores.values()))
    columns = (Column(name, justify="right", overflow="fold", min_width=8) for name in names)
    table = Table(Column("picture", overflow="fold"), *columns, box=None)
    for path, of in scores.items():
        table.add_row(Text(visible(path)), *(f"{value:.4f}" for value in of.values()))
    return table


@command(
    'neuroprompt grid "boy on a horse" "a castle" -o grid.png',
    "neuroprompt grid --input prompts.txt --rows 6 --images-per-prompt 4 -o grid.html",
    'neuroprompt grid "a fox" --methods plain,suffix,enhanced --style watercolor -o grid.png --html',
    "neuroprompt grid --input prompts.txt --methods plain,file:mine.txt -o grid.webp",
    extras=["images"],
)
def grid(
    *,
    prompts: PromptOptions,
    output: str = option(..., "A .png, .jpg, .webp or .html file.", "-o"),
    html: bool = option(False, "Write a page beside the picture, too: grid.html beside grid.png."),
    methods: str = option("plain,enhanced", f"The columns: {METHODS}"),
    rows: int | None = option(None, "Take only the first so many prompts, of files of methods, too.", min=1),
    images_per_prompt: ImagesPerPrompt = 1,
    seed: int = option(0, "The first picture's seed.", min=0),
    title: Title = "",
    cell_size: int | None = option(None, "The width of a picture in the grid, in pixels.", min=16, max=4096),
    json_lines: Json = False,
    device: Device = None,
    generator: Generator = "embedded",
    family: Family = None,
    drawing: DrawingOptions,
    rewards: RewardOptions,
    wish: ConstraintOptions,
    gating: GateOptions,
) -> None:
    """Draw prompts side by side, as several methods write them.

    All are drawn with the same seeds; the scores stand under each picture.
    """
    from neuroprompt.image_files import SUFFIXES

    page = Path(output).with_suffix(".html")
    check_file(output, (*SUFFIXES, ".html", ".htm"))
    if html:
        check_file(str(page), (".html",))
    constraints = wish.read()
    texts = prompts.read(rows=rows)
    reads(generator, family)
    drawing.check(generator)
    with working("picture", "nothing is written") as work:
        from neuroprompt.evaluation.comparison import compare_pictures
        from neuroprompt.evaluation.methods import GATE, check_methods, parse_methods
        from neuroprompt.pages.grid import save_grid
        from neuroprompt.scoring import PromptReward

        rewards = gating.check(rewards, gates=GATE in methods)
        rewards.check()
        check_methods(methods, constraints, rows=rows)
        draw = drawing.load(generator, device, seeds=None if GATE in methods else "none")
        judge = rewards.load([draw.name], device)
        reader, window = reads(draw, family)
        reward = PromptReward(draw, judge, images_per_prompt=images_per_prompt, window=window, seed=seed)
        columns = parse_methods(
            methods,
            constraints,
            window=window,
            family=reader,
            coherent=wish.coherent,
            device=device,
            reward=reward,
            gate=gating.load(reward, rewards) if GATE in methods else None,
            rows=rows,
        )
        total = len(texts) * len(columns) * images_per_prompt
        work.stage("rewriting")
        made = compare_pictures(
            texts,
            columns,
            reward,
            range(seed, seed + images_per_prompt),
            title,
            lambda done: work.update(done, total, "drawing"),
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
    if json_lines:
        show_json({"output": output} | made.to_dict())
