"""`neuroprompt study`: which modifiers help which image generator."""

from contextlib import ExitStack
from pathlib import Path

from neuroprompt.cli.app import argument, command, option
from neuroprompt.cli.options import (
    Device,
    DrawingOptions,
    ImagesPerPrompt,
    Json,
    PromptSource,
    ResultFolder,
    RewardOptions,
    Seed,
    Shard,
    Title,
    check_folder,
    own_device,
    read_shard,
)
from neuroprompt.cli.progress import RESUMES, working
from neuroprompt.terminal import console, say, show_json


@command(
    "neuroprompt study --axes style,booster --input prompts.csv --generators embedded -o results/modifiers",
    'neuroprompt study --axes "booster=highly detailed|8k|masterpiece,vibe" --input partiprompts:200 '
    "--generators stabilityai/sd-turbo,stabilityai/sdxl-turbo -o results/turbo",
    "accelerate launch scripts/study.py …",
    "neuroprompt study … --shard 2/4 -o shard2",
    "neuroprompt study --merge shard1 shard2 shard3 shard4 -o results/whole",
    extras=["images"],
)
def study(
    *,
    output: ResultFolder,
    folders: list[str] | None = argument(None, "The folders of shards, with --merge."),
    axes: str | None = option(
        None,
        "The kinds of modifiers: artist, style, format, perspective, booster, vibe, with commas; or with a list of "
        'modifiers: "booster=8k|sharp focus".',
    ),
    input: PromptSource = "",
    generators: str = option(
        "embedded",
        "What draws: embedded, folders, hub ids and URLs, with commas; URLs that share the work, with spaces.",
        "-g",
    ),
    levels: int = option(4, "The modifiers of each kind: its most frequent ones.", min=1),
    max_combinations: int = option(
        64, "All combinations up to so many; beyond, a balanced fraction of so many.", min=2
    ),
    images_per_prompt: ImagesPerPrompt = 2,
    seed: Seed = 0,
    shard: Shard = "1/1",
    merge: bool = option(False, "Put the shards in these folders together."),
    title: Title = "",
    json_lines: Json = False,
    device: Device = None,
    drawing: DrawingOptions,
    rewards: RewardOptions,
) -> None:
    """Find out what each modifier does, and on which image generator.

    Prompts are drawn with many combinations of modifiers. A column class in a .csv or .jsonl file of prompts gives
    effects for each class. Stopped or killed, it goes on when the same command is given again.
    """
    from neuroprompt.evaluation.prompt_sets import load_prompts
    from neuroprompt.study.design import make_design, parse_axes

    if bool(folders) != merge:
        raise ValueError("--merge puts folders together: give both, --merge and the folders")
    check_folder(output)
    if merge:
        from neuroprompt.study.harness import merge as merge_shards

        results = merge_shards(folders, output, title=title)
    else:
        if not axes or not input:
            raise ValueError("a study needs --axes and --input")
        design = make_design(parse_axes(axes, levels), max_combinations, seed)
        names = [name.strip() for name in generators.split(",")]
        if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
            raise ValueError(f"the generator {twice!r} is given twice")
        part = read_shard(shard)
        drawing.check(*names)
        texts = load_prompts(input, seed=seed)
        with ExitStack() as stack:
            work = stack.enter_context(working("prompt", RESUMES))
            from neuroprompt.experiments import hold_shard
            from neuroprompt.images import read_urls
            from neuroprompt.scoring import PromptReward
            from neuroprompt.study import harness

            classes = harness.load_classes(input)
            rewards.check()
            stack.enter_context(hold_shard(output, part))
            device = own_device(device)
            # A server says by itself what it draws with.
            models = [drawing.load(name, device).name if read_urls(name) else name for name in names]
            judge = rewards.load(models, device)
            # One after another, so that memory has to hold one generator at a time.
            judged = (
                PromptReward(drawing.load(name, device), judge, images_per_prompt=images_per_prompt, seed=seed)
                for name in names
            )
            results = harness.study(
                texts,
                design,
                judged,
                output,
                classes=classes,
                shard=part,
                title=title,
                on_progress=lambda name, done, total: work.update(done, total, f"drawing with {name}"),
            )
        if results is None:
            say(f"share {part[0]} of {part[1]} is done; others are not, or are in other folders: see --merge")
            return
    if json_lines:
        show_json({"output": output} | results)
    else:
        from neuroprompt.pages.tables import print_tables
        from neuroprompt.study.report import study_tables

        print_tables(study_tables(results), console)
    say(f"the report is {Path(output) / 'report.html'}")
