"""`neuroprompt enhance` and `neuroprompt modifiers`: prompts in, prompts out."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from rich.text import Text

from neuroprompt.cli.app import argument, command, option
from neuroprompt.cli.options import (
    AskingOptions,
    Backend,
    ConstraintOptions,
    DecodingOptions,
    Device,
    DrawingOptions,
    GateOptions,
    Generator,
    Json,
    Model,
    PromptOptions,
    RerankBy,
    RewardOptions,
    check_file,
    find,
    load_policy,
)
from neuroprompt.cli.progress import RESUMES, working
from neuroprompt.modifiers import CATEGORIES
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.terminal import console, counted, say, show_json

if TYPE_CHECKING:
    from neuroprompt.decoding import Constraints
    from neuroprompt.enhancer import EnhancedPrompt, PromptEnhancer
    from neuroprompt.gate import Gate
    from neuroprompt.prompt_files import Line
    from neuroprompt.prompts import WindowLike
    from neuroprompt.reward_model import RewardModel

CATEGORY_STYLES = {
    "artist": "magenta",
    "style": "cyan",
    "format": "blue",
    "perspective": "green",
    "booster": "yellow",
    "vibe": "bright_red",
    None: "white",
}


@command(
    'neuroprompt enhance "boy on a horse"',
    'neuroprompt enhance "boy on a horse" -n 4 --seed 7',
    "neuroprompt enhance --input prompts.txt --output out.jsonl",
    "cat prompts.txt | neuroprompt enhance --input -",
    'neuroprompt enhance "boy on a horse" --artist "alphonse mucha" --forbid blurry',
    'neuroprompt enhance "boy on a horse" --require "golden hour|sunset" --json',
    'neuroprompt enhance "a red fox asleep under an old bridge" --model Qwen/Qwen3-0.6B --for flux',
    "neuroprompt enhance 'ohwx woman, a sign that says \"OPEN\"' --model retell --keep 'ohwx woman'",
    'neuroprompt enhance "boy on a horse" --model configs/peers/promptist.yaml',
    'neuroprompt enhance "boy on a horse" --rerank 16 --rerank-by runs/embedded/reward_model',
    'neuroprompt enhance "boy on a horse" --generator stabilityai/sd-turbo --if-better 4',
)
def enhance(
    *,
    prompts: PromptOptions,
    output: str = option("-", "A .jsonl, .csv or .txt file; - for standard output.", "-o"),
    json_lines: Json = False,
    model: Model = "embedded",
    device: Device = None,
    backend: Backend = "auto",
    generator: Generator = "embedded",
    rerank: int | None = option(
        None, "Sample so many rewrites, and give the one that should gain most by a reward model of texts.", min=2
    ),
    rerank_by: RerankBy = None,
    asking: AskingOptions,
    decoding: DecodingOptions,
    wish: ConstraintOptions,
    gating: GateOptions,
    drawing: DrawingOptions,
    rewards: RewardOptions,
) -> None:
    """Rewrite plain prompts: the user's words, then modifiers; or, by a chat model, told again in full.

    A policy writes them. Lines of a pipe are rewritten as soon as they are there. A file appears when it is whole;
    stopped or killed, it goes on when the same command is given again. With --if-better pictures decide whether a
    rewrite comes back, or the prompt as it was. With --rerank a model that has learnt from pictures chooses among
    samples, and none is drawn.
    """
    from neuroprompt.files import refuse_same_file
    from neuroprompt.models import identify
    from neuroprompt.policies import BACKENDS, backend_for
    from neuroprompt.prompt_files import SUFFIXES, Line, ResultFile, read_chunks

    prompts.check()
    if backend not in (choices := ("auto", *BACKENDS)):
        raise ValueError(f"there is no backend {backend!r}: choose from {', '.join(choices)}")
    refuse_same_file(prompts.input, output)
    to_file = output != "-"
    if to_file:
        check_file(output, SUFFIXES)
    if to_file and json_lines:
        raise ValueError(f"--json is for standard output, and results go to {output}: leave one of the two out")
    if rerank and (decoding.num_return_sequences > 1 or decoding.do_sample is False):
        raise ValueError("--rerank gives one of several samples: leave out --variants and --search")
    if rerank_by and not rerank:
        raise ValueError(f"{rerank_by} would have nothing to choose from: --rerank-by is for --rerank")
    asking.check()
    constraints = wish.read()
    settings = decoding.settings() | asking.settings() | {"coherent": wish.coherent, "negative": drawing.negative}
    gated, rewards = gating.if_better is not None, gating.check(rewards)
    if gated:
        drawing.check(generator)
    elif generator != "embedded":
        raise ValueError(f"{generator} would have nothing to draw: --generator is for --if-better")
    reader = asking.reader(generator if gated else None)
    window = decoding.window or (reader.window if reader else CLIP_WINDOW)
    if prompts.input:
        total = _count_lines(prompts.input)
        chunks = read_chunks(prompts.input, decoding.batch_size)
    else:
        total = len(prompts.prompts)
        chunks = [[Line.of(i, text) for i, text in enumerate(prompts.prompts, 1)]]
        if wrong := next((line for line in _checked(chunks[0], constraints, window) if line.error), None):
            raise ValueError(wrong.error)
    find(model, "policy")
    if rerank:
        from neuroprompt.reward_model import beside, read_facts

        rerank_by = rerank_by or str(beside(model))
        chooser = read_facts(rerank_by)["weights"]
    read = broken = made = 0
    with working("prompt", RESUMES if to_file else "") as work, ExitStack() as stack:
        results = None
        if to_file:
            depends = [identify(model, "policy"), settings | {"batch_size": None}, vars(asking), repr(constraints)]
            depends += [generator, *map(vars, (gating, drawing, rewards))] if gated else []
            depends += [rerank, chooser] if rerank else []
            results = stack.enter_context(ResultFile(output, json.dumps(depends), decoding.num_return_sequences))
        from neuroprompt.enhancer import Decoding

        if backend == "auto":  # what draws or chooses takes torch in any case
            backend = None if gated or rerank else backend_for(model, device, total)
        enhancer = asking.ask(load_policy(model, device, backend), reader)
        gate = _gate(generator, device, window, decoding.seed, gating, drawing, rewards) if gated else None
        retells = enhancer.format.replaces
        sampled = (
            bool(rerank)
            or Decoding(**enhancer.decoding | settings).of_policy(enhancer.model.generation_config).do_sample
        )
        if rerank:
            from neuroprompt.reward_model import RewardModel

            chosen_by = RewardModel.load(rerank_by, device=device)
        way, other = ("samples", "--search") if sampled else ("searches", "--sample")
        for unread in decoding.without_effect(sampled):
            say(f"{unread} has no effect, as the policy {way}: add {other}, or leave it out", "warning:", "yellow")
        work.stage("rewriting")
        drawn = replace(decoding, num_return_sequences=rerank or decoding.num_return_sequences)
        for lines in _parts(chunks, drawn.prompts_at_once(sampled, bool(constraints) or retells)):
            lines = _checked(lines, constraints, window)
            good = [line.prompt for line in lines if line.error is None]
            todo = [text for text in good if not (results and results.take_up(text))]
            if todo and not made and results and results.taken_up:
                say(f"taking up {output} after {counted(results.taken_up, 'prompt')}")
            facts: list[dict] = [{}] * len(todo) * decoding.num_return_sequences
            if rerank:
                enhanced, facts = _chosen(enhancer, rerank, chosen_by, todo, constraints, settings)
            else:
                enhanced = [e for variants in enhancer.rewrite(todo, constraints, **settings) for e in variants]
            if gate:
                enhanced, judged = _judged(
                    gate, enhanced, constraints, lambda drawn, most: work.stage(f"drawing, {drawn} of {most} pictures")
                )
                facts = [own | more for own, more in zip(facts, judged, strict=True)]
                work.stage("rewriting")
            records = [e.to_dict() | more for e, more in zip(enhanced, facts, strict=True)]
            if results:
                results.write(records)
            else:
                if sys.stdout.isatty():
                    work.hide()
                _show(enhanced, records if json_lines else None)
            for e in enhanced:
                if e.warning:
                    say(f"{e.original[:60]}: {e.warning}", "warning:", "yellow")
            wrong = [line for line in lines if line.error is not None]
            for line in wrong:
                say(line.error, f"line {line.number}:", "red")
            read, broken, made = read + len(lines), broken + len(wrong), made + len(todo)
            work.update(read, total)
        if not read and prompts.input != "-":
            raise ValueError(f"{prompts.input} holds no prompts")
    if broken:
        raise typer.Exit(1)


@command(
    "neuroprompt modifiers",
    "neuroprompt modifiers artist --search monet --limit 0",
    "neuroprompt modifiers style --json",
)
def modifiers(
    category: str | None = argument(
        None,
        "artist, style, format, perspective, booster or vibe; by default all of them.",
        autocompletion=lambda: list(CATEGORIES),
    ),
    search: str | None = option(None, "Only terms that hold these letters.", "-s"),
    limit: int = option(20, "How many of each kind are shown at most; 0 is all.", "-l", min=0),
    json_lines: Json = False,
) -> None:
    """List modifiers, and how many of DiffusionDB's prompts hold each."""
    from neuroprompt.modifiers import suggestions

    for name in [category] if category else CATEGORIES:
        table = Table(name, "prompts", box=None)
        for term, count in suggestions(name, limit or None, search):
            if json_lines:
                show_json({"category": name, "modifier": term, "prompts": count})
            table.add_row(Text(term, CATEGORY_STYLES[name]), f"{count:,}")
        if not json_lines:
            console.print(table if table.row_count else f"{name}: nothing found")


def _checked(lines: "Iterable[Line]", constraints: "Constraints | None", window: "WindowLike") -> "list[Line]":
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


def _count_lines(path: str) -> int | None:
    """About how many there are to come; None where only reading would tell, as of a pipe."""
    if not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))


def _parts(chunks: "Iterable[list[Line]]", size: int) -> "Iterator[list[Line]]":
    for lines in chunks:
        yield from (lines[start : start + size] for start in range(0, len(lines), size))


def _chosen(
    enhancer: "PromptEnhancer",
    count: int,
    model: "RewardModel",
    prompts: list[str],
    wish: "Constraints | None",
    settings: dict[str, Any],
) -> "tuple[list[EnhancedPrompt], list[dict]]":
    """Of each prompt's samples the one that the model prefers, and what it expects of it."""
    if not prompts:
        return [], []
    chosen = enhancer.best_of(count, prompts, model.score, wish, output_scores=False, **settings)
    said = model.predict([e.original for e in chosen], [e.text for e in chosen])
    expected = zip(said.gain.tolist(), said.error.tolist(), strict=True)
    return chosen, [{"rerank": {"samples": count, "gain": gain, "error": error}} for gain, error in expected]


def _gate(
    generator: str,
    device: str | None,
    window: "WindowLike",
    seed: int,
    gating: GateOptions,
    drawing: DrawingOptions,
    rewards: RewardOptions,
) -> "Gate":
    from neuroprompt.scoring import PromptReward

    draw = drawing.load(generator, device)
    reward = PromptReward(draw, rewards.load([draw.name], device), window=window, seed=seed)
    return gating.load(reward, rewards)


def _judged(
    gate: "Gate",
    enhanced: "list[EnhancedPrompt]",
    wish: "Constraints | None",
    on_progress: "Callable[[int, int], None]",
) -> "tuple[list[EnhancedPrompt], list[dict]]":
    """The prompts that come back, and what the records say of that."""
    from neuroprompt.gate import kept

    negatives = [gate.reward.generator.negative_for(e.negative) for e in enhanced]
    originals, texts = [e.original for e in enhanced], [e.text for e in enhanced]
    verdicts = gate(originals, texts, negatives, on_progress=on_progress)
    came_back = [kept(e, verdict, wish) for e, verdict in zip(enhanced, verdicts, strict=True)]
    return came_back, [{"if_better": verdict.facts()} for verdict in verdicts]


def _show(enhanced: "Iterable[EnhancedPrompt]", records: Iterable[dict] | None) -> None:
    """On standard output: the records as JSON, or the prompts for a person, or as lines of text for a pipe."""
    from neuroprompt.prompt_files import one_line

    for record in records or ():
        show_json(record)
    for e in enhanced if records is None else ():
        if sys.stdout.isatty():
            console.print_line(_coloured(e))
        else:
            print(one_line(e.text))
    sys.stdout.flush()


def _coloured(enhanced: "EnhancedPrompt") -> Text:
    """For a person: the user's words bold, the modifiers coloured by category."""
    text, at = Text(enhanced.text), len(enhanced.original)
    if not enhanced.text.startswith(enhanced.original):  # it is told again
        from neuroprompt.retelling import kept

        for start, end in kept(enhanced.original, enhanced.text):
            text.stylize("bold", start, end)
        return text
    text.stylize("bold", 0, at)
    for modifier in enhanced.modifiers:
        at = enhanced.text.index(modifier.text, at)
        text.stylize(CATEGORY_STYLES[modifier.category], at, at + len(modifier.text))
        at += len(modifier.text)
    return text
