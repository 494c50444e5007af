"""`neuroprompt evaluate`, `optimize` and `suffix`: experiments that draw many pictures."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from neuroprompt.cli.app import command, option
from neuroprompt.cli.options import (
    METHODS,
    ConstraintOptions,
    Device,
    DrawingOptions,
    Family,
    GateOptions,
    Generator,
    GrowingOptions,
    ImagesPerPrompt,
    Json,
    Model,
    PromptOptions,
    PromptSource,
    RerankBy,
    ResultFolder,
    RewardOptions,
    Seed,
    Shard,
    Title,
    check_file,
    check_folder,
    find,
    load_policy,
    own_device,
    read_shard,
    reads,
)
from neuroprompt.cli.progress import RESUMES, working
from neuroprompt.extras import need
from neuroprompt.programs import Stopped
from neuroprompt.terminal import console, counted, say, show, show_json

if TYPE_CHECKING:
    from neuroprompt.gate import Gate
    from neuroprompt.search import SearchResult


@command(
    "neuroprompt evaluate --input prompts.txt -o results/mine",
    "neuroprompt evaluate --input partiprompts:200 --methods plain,suffix,enhanced,best-of-8 -o results/parti",
    "neuroprompt evaluate --input prompts.txt --methods plain,policy:runs/ppo,file:human.txt "
    "--generator stabilityai/sd-turbo --rewards pickscore,aesthetic:0,hps:0 -o results/turbo",
    "neuroprompt evaluate --input prompts.txt --methods plain,enhanced,enhanced+gate --if-better 8 -o results/gate",
    "neuroprompt evaluate --input prompts.txt --shard 2/4 -o results/mine",
    "neuroprompt evaluate --input geneval:downloads/geneval --export --images-per-prompt 4 -o results/geneval",
    "accelerate launch -m neuroprompt.cli evaluate …",
    extras=["images"],
)
def evaluate(
    *,
    input: PromptSource,
    output: ResultFolder,
    methods: str = option(
        "plain,suffix,random,enhanced", f"The methods, of which the first is what others are compared with: {METHODS}"
    ),
    against: str = option("", "Further methods that the others are compared with, with commas."),
    export: bool = option(False, "Write the pictures as the set's own scorer reads them, to export in the folder."),
    images_per_prompt: ImagesPerPrompt = 4,
    seed: Seed = 0,
    rerank_by: RerankBy = None,
    shard: Shard = "1/1",
    score_cache: str | None = option(
        None, "The file that keeps the plain prompts' scores, for other runs, too.", envvar="NEUROPROMPT_SCORE_CACHE"
    ),
    title: Title = "",
    json_lines: Json = False,
    device: Device = None,
    generator: Generator = "embedded",
    family: Family = None,
    drawing: DrawingOptions,
    rewards: RewardOptions,
    wish: ConstraintOptions,
    gating: GateOptions,
) -> None:
    """Compare methods on many prompts, with a report.

    It says rewards with intervals, wins, diversity and drift. Stopped or killed, it goes on when the same command is
    given again.
    """
    from neuroprompt.evaluation.prompt_sets import Source, load_entries, prompts_of, question_file
    from neuroprompt.files import refuse_same_file

    check_folder(output)
    source = Source.parse(input)
    files = [
        source.path,
        *(found[1] for method in methods.split(",") if (found := _FILE.fullmatch(method.strip()))),
    ]
    for file in files:
        for made in ("records.jsonl", "results.csv"):
            refuse_same_file(file, Path(output, made))
    constraints = wish.read()
    part = read_shard(shard)
    reads(generator, family)
    drawing.check(generator)
    entries = load_entries(input, seed=seed)
    texts = prompts_of(entries)
    exported = None
    if export:
        from neuroprompt.evaluation.exports import Export

        exported = Export(source.name, entries, images_per_prompt)
        if exported.note:
            say(exported.note, "warning:", "yellow")
    with ExitStack() as stack:
        work = stack.enter_context(working("picture", RESUMES))
        from neuroprompt.evaluation import harness
        from neuroprompt.evaluation.methods import GATE, check_methods, parse_methods
        from neuroprompt.evaluation.summary import tables
        from neuroprompt.experiments import hold_shard
        from neuroprompt.pages.tables import print_tables
        from neuroprompt.scoring import PromptReward

        rewards = gating.check(rewards, gates=GATE in methods)
        if rewards.asks and not rewards.atoms:
            rewards = replace(rewards, atoms=question_file(input))
        rewards.check(texts)
        check_methods(methods, constraints, rerank_by=rerank_by)
        stack.enter_context(hold_shard(output, part))
        device = own_device(device)
        draw = drawing.load(generator, device)
        reader, window = reads(draw, family)
        reward = PromptReward(
            draw,
            rewards.load([draw.name], device),
            images_per_prompt=images_per_prompt,
            window=window,
            seed=seed,
            score_cache=score_cache,
        )
        columns = parse_methods(
            methods,
            constraints,
            seed=seed,
            window=window,
            family=reader,
            coherent=wish.coherent,
            device=device,
            reward=reward,
            gate=gating.load(reward, rewards) if GATE in methods else None,
            rerank_by=rerank_by,
        )
        results = harness.evaluate(
            texts,
            columns,
            reward,
            output,
            shard=part,
            references=[name.strip() for name in against.split(",") if name.strip()],
            title=title,
            config={"command": shlex.join(["neuroprompt", *sys.argv[1:]])},
            export=exported,
            on_progress=lambda done, total: work.update(done, total, "drawing"),
        )
    if results is None:
        say(f"share {part[0]} of {part[1]} is done; the last one makes the report")
        return
    if json_lines:
        show_json({"output": output} | results)
    else:
        print_tables(tables(results), console)
    say(f"the report is {Path(output) / 'report.html'}")
    if exported:
        say(f"the pictures are in {Path(output) / 'export'}, a folder for each method")


_FILE = re.compile(r"(?:(?:swapped|random):)*(?:file|suffix):(.+)")  # a method that reads a file


@command(
    'neuroprompt optimize "boy on a horse" --budget 64 -o best.png',
    "neuroprompt optimize --input prompts.txt --state search.json -o finds.jsonl --to-pairs data/finds",
    'neuroprompt optimize "boy on a horse" --budget 64 --if-better 8',
    'neuroprompt optimize "a castle" --chat-url http://localhost:8080/v1 --chat-model qwen3',
    extras=["images"],
)
def optimize(
    *,
    prompts: PromptOptions,
    output: str | None = option(
        None, "The best prompt's picture (.png, .jpg, .webp; of one prompt), or all that was found (.jsonl).", "-o"
    ),
    budget: int = option(64, "The pictures that a prompt may cost.", min=2, max=1_000_000),
    strategy: str = option("bayes", "How the pictures are spent: bayes, or best-of-n."),
    search_negative: bool = option(False, "Search negative prompts, too, of a generator that takes them."),
    held_out: int = option(8, "The pictures with fresh seeds that the find is measured on, for honesty.", min=0),
    images_per_prompt: ImagesPerPrompt = 2,
    seed: Seed = 0,
    state: str | None = option(None, "The file that the search is kept in, and taken up from."),
    to_pairs: str | None = option(None, "The folder for the finds as pairs, for training/sft.py."),
    chat_url: str | None = option(None, "An OpenAI-compatible server that proposes, too."),
    chat_model: str | None = option(None, "The server's model."),
    model: Model = "embedded",  # a search wants what differs: see docs/search.md
    json_lines: Json = False,
    device: Device = None,
    generator: Generator = "embedded",
    family: Family = None,
    drawing: DrawingOptions,
    rewards: RewardOptions,
    wish: ConstraintOptions,
    gating: GateOptions,
) -> None:
    """Search for the rewrite whose pictures are worth most.

    Real pictures decide, and nothing is trained. Ctrl-C keeps the best so far; with --state the same command goes on
    from there. With --if-better the find is set against the prompt once more, on pictures that had no part in the
    search.
    """
    from neuroprompt.files import refuse_same_file
    from neuroprompt.image_files import SUFFIXES, PictureInfo, save_image

    if to_pairs:
        need("train")
    refuse_same_file(prompts.input, state, output)
    if output:
        check_file(output, (*SUFFIXES, ".jsonl"))
    for path in (state, to_pairs):
        if path:
            check_folder(str(Path(path).parent))
    if bool(chat_url) != bool(chat_model):
        raise ValueError("a chat model needs both --chat-url and --chat-model")
    constraints = wish.read()
    gated, rewards = gating.if_better is not None, gating.check(rewards)
    texts = prompts.read(constraints, window=reads(generator, family)[1])
    draws = output is not None and Path(output).suffix.lower() in SUFFIXES
    if draws and len(texts) > 1:
        raise ValueError(f"{output} is one picture, and there are {len(texts)} prompts: write a .jsonl file")
    drawing.check(generator)
    find(model, "policy")
    with ExitStack() as stack:
        work = stack.enter_context(working("picture", RESUMES if state else "nothing is written"))
        from neuroprompt.files import sole_writer, write_file
        from neuroprompt.prompt_files import json_line
        from neuroprompt.scoring import PromptReward
        from neuroprompt.search import Chat, SearchConfig
        from neuroprompt.search import optimize as search
        from neuroprompt.search import to_pairs as write_pairs

        config = SearchConfig(
            strategy=strategy,
            budget=budget,
            held_out=held_out,
            seed=seed,
            negatives=search_negative,
            coherent=wish.coherent,
        )
        chat = Chat(chat_url, chat_model, os.environ.get("OPENAI_API_KEY")) if chat_url else None
        if to_pairs:
            from neuroprompt.data import check_folder as check_pairs

            check_pairs(to_pairs, [prompts.input] if prompts.input else [])
            Path(to_pairs).parent.mkdir(parents=True, exist_ok=True)
        for path in (output, state, to_pairs):
            if path:
                stack.enter_context(sole_writer(path))
        rewards.check()
        draw = drawing.load(generator, device)
        reader, window = reads(draw, family)
        judge = rewards.load([draw.name], device)
        reward = PromptReward(draw, judge, images_per_prompt=images_per_prompt, window=window, seed=seed)
        gate = gating.load(reward, rewards) if gated else None
        results = search(
            texts,
            reward,
            load_policy(model, device).asked(family=reader),
            replace(config, window=window),
            constraints=constraints,
            chat=chat,
            state=state,
            on_round=lambda r: work.update(r.images, r.budget, f"searching, {r.improvement:+.2f} so far"),
        )
        facts: list[dict] = [{}] * len(results)
        if gate and all(result.complete for result in results):
            results, facts = _judged(gate, results, lambda drawn, most: work.update(drawn, most, "drawing once more"))
        work.hide()
        for result, more in zip(results, facts, strict=True):
            if json_lines:
                show_json(result.to_dict() | more)
            else:
                _print(result)
        if draws:
            best = results[0]
            against = {"negative": best.negative} if best.negative else {}
            info = PictureInfo(texts[0], best.text, seed, draw.name, asdict(draw.config) | against)
            save_image(draw.draw([best.text], [seed], [best.negative]).images[0], output, info)
        elif output:
            write_file(
                output, "".join(json_line(r.to_dict() | more) for r, more in zip(results, facts, strict=True)).encode()
            )
        if to_pairs:
            write_pairs(results, to_pairs)
    if not all(result.complete for result in results):
        drawn = counted(sum(result.images for result in results), "picture")
        raise Stopped(f"stopped after {drawn}; this is the best so far" + f"; {RESUMES}" * bool(state))


def _judged(
    gate: "Gate", results: "list[SearchResult]", on_progress: Callable[[int, int], None]
) -> "tuple[list[SearchResult], list[dict]]":
    """The finds that come back, the others as the prompts that they are of; and what the records say of that."""
    verdicts = gate(
        [result.original for result in results],
        [result.text for result in results],
        [result.negative for result in results],
        plain_negatives=[None] * len(results),
        on_progress=on_progress,
    )
    came_back = [
        result if verdict.accepted or result.text == result.original else result.refused(verdict.reason)
        for result, verdict in zip(results, verdicts, strict=True)
    ]
    return came_back, [{"if_better": verdict.facts()} for verdict in verdicts]


def _print(result: "SearchResult") -> None:
    """The find on standard output, and beside it what it is worth."""
    show(result.text)
    if result.negative:
        show(f"Negative prompt: {result.negative}")
    error = "" if result.held_out_error is None else f" ± {result.held_out_error:.2f}"
    found = "not measured on fresh seeds" if result.held_out is None else f"{result.held_out:+.2f}{error}"
    drawn = counted(result.images, "picture")
    say(f"  gain {found} (by the pictures that chose it {result.selected:+.2f}; {drawn})")
    if result.warning:
        say(result.warning, "  warning:", "yellow")


@command(
    "neuroprompt suffix --input configs/ppo/queries/train.txt --budget 5120 -o suffix.txt",
    "neuroprompt suffix --frequent-in finds.jsonl -o frequent.txt",
    "neuroprompt evaluate --input prompts.txt --methods plain,suffix:suffix.txt,enhanced -o results/suffix",
    extras=["images"],
)
def suffix(
    *,
    input: PromptSource = "",
    output: str = option(
        ..., "The .txt file for the suffix; beside it a .json, that the search is kept in and taken up from.", "-o"
    ),
    frequent_in: str | None = option(
        None, "Draw nothing: take what a file of rewrites (.jsonl, as optimize writes it) adds most often."
    ),
    growing: GrowingOptions,
    seed: Seed = 0,
    model: Model = "embedded",
    json_lines: Json = False,
    device: Device = None,
    generator: Generator = "embedded",
    family: Family = None,
    drawing: DrawingOptions,
    rewards: RewardOptions,
) -> None:
    """Search for the modifiers that are worth most behind any prompt.

    They are what a rewriter has to beat that reads the prompt. Frequent modifiers are tried, and what the policy
    writes; real pictures decide. Stopped or killed, it goes on when the same command is given again.
    """
    from neuroprompt.evaluation.prompt_sets import Source, load_prompts
    from neuroprompt.files import refuse_same_file

    if bool(input) == bool(frequent_in):
        raise ValueError("give prompts with --input, or a file of rewrites with --frequent-in: one of the two")
    check_file(output, (".txt",))
    state = Path(output).with_suffix(".json")
    refuse_same_file(Source.parse(input).path if input else frequent_in, output, state)
    if frequent_in:
        from neuroprompt.search.suffix import frequent_suffix

        _write_suffix(output, frequent_suffix(frequent_in, growing.length), {"frequent_in": frequent_in}, json_lines)
        return
    reads(generator, family)
    drawing.check(generator)
    find(model, "policy")
    rewards.check()
    texts = load_prompts(input, seed=seed)
    with ExitStack() as stack:
        work = stack.enter_context(working("picture", RESUMES))
        from neuroprompt.files import sole_writer
        from neuroprompt.scoring import PromptReward
        from neuroprompt.search.suffix import SuffixConfig, find_suffix

        stack.enter_context(sole_writer(output))
        draw = drawing.load(generator, device)
        reader, window = reads(draw, family)
        found = find_suffix(
            texts,
            PromptReward(draw, rewards.load([draw.name], device), images_per_prompt=1, window=window, seed=seed),
            load_policy(model, device).asked(family=reader),
            SuffixConfig(growing.budget, growing.length, seed, window, growing.coherent),
            state=state,
            on_progress=lambda done, so_far: work.update(
                done, growing.budget, f"growing, {counted(len(so_far), 'modifier')}"
            ),
        )
        drawn = counted(found.pictures, "picture")
        if not found.modifiers:
            raise ValueError(f"nothing that was tried gains beyond noise, by {drawn}: there is no suffix to write")
        work.hide()
        _write_suffix(output, found.modifiers, asdict(found), json_lines)
    say(f"  gain {found.gain:+.2f} ± {found.error:.2f}; {drawn}")


def _write_suffix(path: str, modifiers: Sequence[str], facts: dict, json_lines: bool) -> None:
    from neuroprompt.files import write_file

    text = ", ".join(modifiers)
    write_file(path, f"{text}\n".encode())
    if json_lines:
        show_json({"output": path, "suffix": text} | facts)
    else:
        show(text)
