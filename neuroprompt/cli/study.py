"""`neuroprompt study`: which modifiers help which image generator."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from neuroprompt.cli.options import (
    Device,
    Dtype,
    Guidance,
    Negative,
    RewardModel,
    Set,
    Size,
    Steps,
    WeightedRewards,
    app,
    examples,
    load_generator,
    own_device,
    process_share,
    progress_bar,
    quiet_libraries,
)
from neuroprompt.terminal import console, say


@app.command(
    epilog=examples(
        "neuroprompt study --axes style,booster --prompts prompts.csv --generators embedded -o results/modifiers",
        'neuroprompt study --axes "booster=highly detailed|8k|masterpiece,vibe" --prompts partiprompts:200 '
        "--generators stabilityai/sd-turbo,stabilityai/sdxl-turbo -o results/turbo",
        "accelerate launch scripts/study.py …",
        "neuroprompt study … --shard 2/4 -o shard2",
        "neuroprompt study --merge shard1 shard2 shard3 shard4 -o results/whole",
    )
)
def study(
    output: Annotated[str, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)],
    folders: Annotated[
        list[str] | None, typer.Argument(help="With --merge: folders of shards.", show_default=False)
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Of artist, style, format, perspective, booster, vibe, with commas; or with a list of modifiers: "
            '"booster=8k|sharp focus".',
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="A .txt, .csv or .jsonl file (with a column class: effects for each class), or partiprompts, "
            "drawbench, geneval, hpsv2, coco, diffusiondb; :200 at the end takes so many.",
            show_default=False,
        ),
    ] = None,
    generators: Annotated[
        str, typer.Option("--generators", "-g", help="Of embedded, folders and hub ids, with commas.")
    ] = "embedded",
    levels: Annotated[int, typer.Option(min=1, help="Modifiers of each kind: its most frequent ones.")] = 4,
    max_combinations: Annotated[
        int, typer.Option(min=2, help="All combinations up to so many; beyond, a balanced fraction of so many.")
    ] = 64,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Pictures of each prompt and combination.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other pictures, another fraction.")] = 0,
    shard: Annotated[str, typer.Option(help="i/n: do the i-th of n shares of the prompts.")] = "1/1",
    merge: Annotated[bool, typer.Option("--merge", help="Put the shards in these folders together.")] = False,
    title: Annotated[str, typer.Option(help="Of the report.")] = "",
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    negative: Negative = None,
    dtype: Dtype = None,
    settings: Set = None,
    rewards: WeightedRewards = "pickscore:1,aesthetic:0,clip:0",
    reward_model: RewardModel = None,
    device: Device = None,
) -> None:
    """Draw prompts with many combinations of modifiers: what each modifier does, on which generator. Resumable."""
    quiet_libraries()
    from neuroprompt.evaluation.prompt_sets import load_prompts
    from neuroprompt.experiments import hold_share
    from neuroprompt.rewards import load_rewards
    from neuroprompt.scoring import PromptReward
    from neuroprompt.study import harness as library
    from neuroprompt.study.design import make_design, parse_axes
    from neuroprompt.study.report import print_study

    if bool(folders) != merge:
        raise ValueError("--merge puts folders together: give both, --merge and the folders")
    if not merge and (axes is None or prompts is None):
        raise ValueError("a study needs --axes and --prompts")
    if merge:
        results = library.merge(folders, output, title=title)
    else:
        design = make_design(parse_axes(axes, levels), max_combinations, seed)
        texts, classes = load_prompts(prompts, seed=seed), library.load_classes(prompts)
        names = [name.strip() for name in generators.split(",")]
        if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
            raise ValueError(f"the generator {twice!r} is given twice")
        share = _share(shard)
        device = device or own_device()
        model = reward_model or ("embedded" if set(names) == {"embedded"} else "published")
        quiet = not sys.stderr.isatty() or process_share()[0] > 1
        with hold_share(output, share), progress_bar(disable=quiet) as progress:
            task = progress.add_task("prompts", total=len(texts))
            judge = load_rewards(rewards, None if model == "published" else model, device)
            # One after another, so that memory has to hold one generator at a time.
            judged = (
                PromptReward(
                    load_generator(name, device, steps, guidance, size, negative, dtype, settings),
                    judge,
                    images_per_prompt=seeds,
                    seed=seed,
                )
                for name in names
            )

            def show(name: str, done: int, total: int) -> None:
                progress.update(task, description=f"prompts on {escape(name)}", completed=done, total=total)

            results = library.study(
                texts, design, judged, output, classes=classes, shard=share, title=title, on_progress=show
            )
        if results is None:
            say(f"shard {share[0]}/{share[1]} is done; others are not, or are in other folders: see --merge")
            return
    print_study(results, console)
    say(f"the report is {Path(output) / 'report.html'}")


def _share(shard: str) -> tuple[int, int]:
    """(i, n) of "i/n"; processes that were launched together divide it among themselves."""
    match = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"there is no shard {shard!r}: write 2/4 for the second of four")
    rank, processes = process_share()
    return (int(match[1]) - 1) * processes + rank, int(match[2]) * processes
