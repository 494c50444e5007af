"""`neuroprompt evaluate` and `neuroprompt optimize`: experiments that draw many pictures."""

import os
import re
import shlex
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

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
    Set,
    Size,
    Steps,
    WeightedRewards,
    app,
    check_output,
    examples,
    load_generator,
    load_policy,
    load_reward,
    own_device,
    process_share,
    progress_bar,
    quiet_libraries,
    read_constraints,
    read_prompts,
)
from neuroprompt.terminal import console, say, show


@app.command(
    epilog=examples(
        "neuroprompt evaluate --prompts prompts.txt -o results/mine",
        "neuroprompt evaluate --prompts partiprompts:200 --methods plain,suffix,enhanced,best-of-8 -o results/parti",
        "neuroprompt evaluate --prompts prompts.txt --methods plain,policy:runs/ppo,file:human.txt "
        "--generator stabilityai/sd-turbo --rewards pickscore,aesthetic:0,hps:0 -o results/turbo",
        "accelerate launch -m neuroprompt.cli evaluate …",
    )
)
def evaluate(
    output: Annotated[str, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)],
    prompts: Annotated[
        str,
        typer.Option(
            help="A .txt, .csv or .jsonl file, or partiprompts, drawbench, geneval, hpsv2, coco, diffusiondb; :200 at "
            "the end takes so many.",
            show_default=False,
        ),
    ],
    methods: Annotated[
        str, typer.Option(help=f"{METHODS} The others are compared with the first one.")
    ] = "plain,suffix,random,enhanced",
    against: Annotated[
        str, typer.Option(help="Further methods that the others are compared with, such as sft.", show_default=False)
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Pictures of each prompt.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other pictures and rewrites.")] = 0,
    title: Annotated[str, typer.Option(help="Of the report.")] = "",
    generator: Generator = "embedded",
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    negative: Negative = None,
    dtype: Dtype = None,
    settings: Set = None,
    rewards: WeightedRewards = "pickscore:1,aesthetic:0,clip:0",
    reward_model: RewardModel = None,
    cache: Annotated[
        str | None, typer.Option(help="File for the plain prompts' scores, shared by runs.", show_default=False)
    ] = None,
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
    """Compare methods on many prompts: rewards with intervals, wins, diversity, drift, and a report. Resumable."""
    quiet_libraries()
    from neuroprompt.evaluation import harness
    from neuroprompt.evaluation.methods import parse_methods
    from neuroprompt.evaluation.prompt_sets import load_prompts
    from neuroprompt.evaluation.summary import print_tables
    from neuroprompt.experiments import RECORDS, hold_share
    from neuroprompt.files import refuse_same_file

    files = [
        re.sub(r":\d+$", "", prompts),
        *(m.strip()[5:] for m in methods.split(",") if m.strip().startswith("file:")),
    ]
    for file in files:
        for made in (RECORDS, "results.csv"):
            refuse_same_file(file, Path(output, made))
    texts = load_prompts(prompts, seed=seed)
    constraints = read_constraints(artist, style, format, perspective, booster, vibe, require, forbid, auto)
    share, device = process_share(), device or own_device()
    quiet = not sys.stderr.isatty() or share[0] > 1
    with hold_share(output, share), progress_bar(disable=quiet) as progress:
        task = progress.add_task("pictures", total=None)
        drawing = load_generator(generator, device, steps, guidance, size, negative, dtype, settings)
        reward = load_reward(drawing, rewards, reward_model, device, seeds, seed, cache)
        columns = parse_methods(methods, constraints or None, seed=seed, device=device, reward=reward)
        results = harness.evaluate(
            texts,
            columns,
            reward,
            output,
            share=share,
            references=[name.strip() for name in against.split(",") if name.strip()],
            title=title,
            config={"command": shlex.join(["neuroprompt", *sys.argv[1:]])},
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if results is None:
        say(f"process {share[0]} of {share[1]} is done; the last one makes the report")
        return
    print_tables(results, console)
    say(f"the report is {Path(output) / 'report.html'}")


@app.command(
    epilog=examples(
        'neuroprompt optimize "boy on a horse" --budget 64 -o best.png',
        "neuroprompt optimize --input prompts.txt --state search.json -o finds.jsonl --to-pairs data/finds",
        'neuroprompt optimize "a castle" --rewards pickscore:1,clip:0,aesthetic:0 --strategy evolve '
        "--chat-url http://localhost:8080/v1 --chat-model qwen3",
    )
)
def optimize(
    prompt: Annotated[list[str] | None, typer.Argument(help="Plain prompts.", show_default=False)] = None,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="A .txt, .csv (column prompt) or .jsonl file of plain prompts.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="The best prompt's picture (.png, .jpg, .webp; of one prompt), or all that was found (.jsonl).",
        ),
    ] = None,
    budget: Annotated[int, typer.Option(min=2, max=1_000_000, help="Pictures per prompt.")] = 64,
    strategy: Annotated[str, typer.Option(help="bayes, evolve, beam, halving, or best-of-n.")] = "bayes",
    held_out: Annotated[int, typer.Option(min=0, help="Pictures with fresh seeds for an honest estimate.")] = 8,
    seeds: Annotated[
        int, typer.Option(min=1, max=10_000, help="Pictures of the plain prompt, which others are set against.")
    ] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another search.")] = 0,
    state: Annotated[
        str | None, typer.Option(help="File that the search is kept in, and taken up from.", show_default=False)
    ] = None,
    to_pairs: Annotated[
        str | None, typer.Option(help="Folder for the finds as pairs, for training/sft.py.", show_default=False)
    ] = None,
    model: Model = "embedded-sft",  # a search wants what differs: see docs/search.md
    generator: Generator = "embedded",
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    negative: Negative = None,
    dtype: Dtype = None,
    settings: Set = None,
    rewards: WeightedRewards = "pickscore:1,aesthetic:0,clip:0",
    reward_model: RewardModel = None,
    chat_url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server that proposes, too.", show_default=False)
    ] = None,
    chat_model: Annotated[str | None, typer.Option(help="Its model.", show_default=False)] = None,
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
    """Search for the rewrite whose real pictures are worth most; no training. Ctrl-C keeps the best so far."""
    quiet_libraries()
    from neuroprompt.data import check_folder
    from neuroprompt.files import refuse_same_file, sole_writer, write_file
    from neuroprompt.image_files import SUFFIXES, PictureInfo, save_image
    from neuroprompt.prompt_files import json_line
    from neuroprompt.search import Chat, SearchConfig
    from neuroprompt.search import optimize as search
    from neuroprompt.search import to_pairs as write_pairs

    refuse_same_file(input, state, output)
    prompts = read_prompts(prompt, input)
    draws = output is not None and Path(output).suffix.lower() in SUFFIXES
    if output:
        check_output(output, (*SUFFIXES, ".jsonl"))
    if draws and len(prompts) > 1:
        raise ValueError(f"{output} is one picture, and there are {len(prompts)} prompts: write a .jsonl file")
    if bool(chat_url) != bool(chat_model):
        raise ValueError("a chat model needs both --chat-url and --chat-model")
    chat = Chat(chat_url, chat_model, os.environ.get("OPENAI_API_KEY")) if chat_url else None
    constraints = read_constraints(artist, style, format, perspective, booster, vibe, require, forbid, auto)
    config = SearchConfig(strategy=strategy, budget=budget, held_out=held_out, seed=seed)
    with ExitStack() as stack:
        if to_pairs:
            check_folder(to_pairs, [input] if input else [])
            Path(to_pairs).parent.mkdir(parents=True, exist_ok=True)
        for path in (output, state, to_pairs):
            if path:
                stack.enter_context(sole_writer(path))
        progress = stack.enter_context(progress_bar(disable=not sys.stderr.isatty()))
        task = progress.add_task("pictures", total=budget * len(prompts))
        drawing = load_generator(generator, device, steps, guidance, size, negative, dtype, settings)
        results = search(
            prompts,
            load_reward(drawing, rewards, reward_model, device, seeds, seed),
            load_policy(model, device),
            config,
            constraints=constraints or None,
            chat=chat,
            state=state,
            on_round=lambda r: progress.update(task, completed=r.images, description=f"gain {r.improvement:+.2f}"),
        )
        progress.stop()
        for result in results:
            show(result.text)
            error = "" if result.held_out_error is None else f" ± {result.held_out_error:.2f}"
            found = "not measured on fresh seeds" if result.held_out is None else f"{result.held_out:+.2f}{error}"
            stopped = "" if result.complete else "; stopped early"
            chosen = f"by the pictures that chose it {result.selected:+.2f}; {result.images} pictures{stopped}"
            say(f"  gain {found} ({chosen})")
            if result.warning:
                say(result.warning, "  warning:", "yellow")
        if draws:
            best = results[0].text
            info = PictureInfo(prompts[0], best, seed, drawing.name, asdict(drawing.config))
            save_image(drawing.draw([best], [seed]).images[0], output, info)
        elif output:
            write_file(output, "".join(json_line(result.to_dict()) for result in results).encode())
        if to_pairs:
            write_pairs(results, to_pairs)
