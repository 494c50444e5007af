"""Methods × prompts × seeds × rewards, on the same seeds for all, written as it goes and taken up after a kill.

    evaluate(load_prompts("partiprompts:200"), parse_methods("plain,suffix,enhanced"), reward, "results/mine")

The folder gets

- ``settings.json``: what the numbers depend on. A folder takes up its own evaluation and no other.
- ``records.jsonl``: a line for each prompt and method, as they are made: the rewritten text, and of each seed the raw
  score by every reward and whether the picture was flagged; where a reward asks questions about the prompts, their
  soft scores, and ``questions.json`` has the questions; of a method with a gate its verdict, and the rewrite that it
  is on.
- ``written.json``, while there is a method that is made of another's texts of all prompts: those.
- ``results.json``, ``results.csv`` (a row for each prompt and method), ``table.md``, ``report.html``, and the
  pictures that it shows: ``examples.png`` and for each method ``examples-….png`` (see `examples.draw_examples`).

Prompts are done in chunks, so memory does not grow with their number. A chunk is also what a kill costs: the lines of
one that is not whole are made again, in the same batches, so that the numbers are those of an undisturbed run to the
last bit. A chunk depends on no other, so processes can share them out (`shard`): each writes a file of its own, and the
one that comes to its end last makes the results (see `experiments`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from neuroprompt.decoding import Constraints, check
from neuroprompt.evaluation.atoms import QUESTIONS
from neuroprompt.evaluation.examples import draw_examples
from neuroprompt.evaluation.exports import FOLDER, Export
from neuroprompt.evaluation.methods import Method
from neuroprompt.evaluation.report import report_html
from neuroprompt.evaluation.summary import csv_rows, summarise, tables, units
from neuroprompt.evaluation.writing import Texts
from neuroprompt.experiments import (
    RESULTS,
    Experiment,
    check_prompts,
    check_settings,
    measure,
    prompt_settings,
    write_results,
    write_whole,
)
from neuroprompt.files import BusyError, sole_writer
from neuroprompt.image_files import PictureInfo
from neuroprompt.prompts import Window, count_clip_tokens
from neuroprompt.questions import Question, write_questions
from neuroprompt.rewards.atoms import Atoms
from neuroprompt.rewards.encoders import EmbeddingReward
from neuroprompt.scoring import PromptReward


def evaluate(
    prompts: Sequence[str],
    methods: Sequence[Method],
    reward: PromptReward,
    folder: str | Path,
    *,
    chunk_size: int = 32,
    shard: tuple[int, int] = (1, 1),
    examples: int = 1,
    references: Sequence[str] = (),
    title: str = "",
    config: Mapping[str, Any] | None = None,
    log_history: Sequence[Mapping[str, Any]] | None = None,
    export: Export | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict | None:
    """Compare methods on prompts.

    Args:
        prompts: Plain prompts, all different. They are what pictures are scored against.
        methods: The first is what the others are compared with. Where rewards are relative to the original prompt,
            ``plain`` must be among them.
        reward: Draws and scores; its `images_per_prompt` seeds belong to the plain prompt, so that all methods are
            drawn with the same ones.
        folder: Where everything goes; made where missing. Where it holds an evaluation with the same settings, that is
            taken up.
        chunk_size: Prompts that are done together.
        shard: (i, n): do the i-th of n shards of the chunks, from 1 to n.
        examples: How many of the best, of the median and of the worst prompts are drawn for each method; 0 for none.
        references: Methods that the others are compared with, besides the first.
        title: The report's title.
        config: What else the results should say of their making, such as the command's arguments; JSON types.
        log_history: Of a training run (as in `trainer_state.json`), for the report's learning curves.
        export: Writes the pictures as the scorer of the prompts' set reads them, to a folder ``export`` in `folder`.
        on_progress: Gets the numbers of pictures of this shard, drawn so far and in all.

    Returns:
        What ``results.json`` holds (see `summary.summarise`), or None where chunks of other shards are missing.

    Raises:
        ValueError: A prompt is empty or there twice, ``plain`` is missing, there is no such shard, the folder holds
            another evaluation, or as the methods say.
        BusyError: Another process does this shard.
        DrawingError: A prompt cannot be drawn or scored.
    """
    prompts, folder = list(prompts), Path(folder)
    _check(prompts, methods, reward, chunk_size)
    if unknown := [name for name in references if name not in [method.name for method in methods[1:]]]:
        raise ValueError(f"to compare with {unknown[0]!r}, it must be among the methods, and not the first of them")
    # Files whose lines belong to the prompts' places are read whole; a wrong number comes out before anything is drawn.
    written = Texts(prompts, methods, chunk_size)
    negatives = {method.name: method.negative(reward.generator) for method in methods}
    asked = _questions(reward, prompts)
    settings = {
        "prompts": prompt_settings(prompts),
        "methods": {
            method.name: {
                **method.settings,
                **_negative(negatives[method.name]),
                **({"gate": method.gate.settings()} if method.gate else {}),
            }
            for method in methods
        },
        **reward.settings(),
        "chunk_size": chunk_size,
        **({"export": export.name} if export else {}),
        **({"questions": prompt_settings([*map(repr, asked.values())])} if asked else {}),
    }
    exported = Export.folders(negatives, folder / FOLDER) if export else {}
    check_settings(folder, settings, "evaluation")
    if asked:
        write_questions(folder / QUESTIONS, asked)
    experiment = Experiment(folder, units(settings))
    wish = next((method.constraints for method in methods if method.constraints), None)

    def make(start: int, method: Method) -> list[dict]:
        """A chunk by a method."""
        chunk = prompts[start : start + chunk_size]
        texts, seconds = written(method, start)
        facts: list[dict] = [{}] * len(chunk)
        if method.gate:
            verdicts = method.judge(chunk, texts)
            facts = [{"if_better": v.facts() | {"rewrite": text}} for v, text in zip(verdicts, texts, strict=True)]
            texts = [verdict.text for verdict in verdicts]
        negative, generator = negatives[method.name], reward.generator

        def keep(row: int, i: int, image: Tensor) -> None:
            config = asdict(generator.config) | _negative(negative)
            info = PictureInfo(chunk[row], texts[row], reward.seeds(chunk[row])[i], generator.name, config)
            export.write(exported[method.name], info, i, image)

        return [
            record | {"index": start + i, "method": method.name, "seconds": seconds} | facts[i]
            for i, record in enumerate(_measure(chunk, texts, reward, wish, negative, keep if export else None))
        ]

    with experiment.shard(shard) as own:
        pictures = {start: lines * reward.images_per_prompt for start, lines in experiment.units.items()}
        total = sum(pictures[start] for start in own.units)
        done = total - sum(pictures[start] for start in own.todo)
        for method in methods if own.todo else ():
            method.prepare()
        if own.todo:
            written.prepare(folder)
        for start in own.todo:
            records = []
            for method in methods:
                records += make(start, method)
                done += pictures[start] // len(methods)
                if on_progress:
                    on_progress(done, total)
            own.write(records)
    if experiment.missing():
        return None
    with suppress(BusyError), sole_writer(folder / RESULTS):  # another process may have come to its end as well
        experiment.gather()
        if export:
            export.finish(exported.values())
        results = summarise(folder, _text_encoder(reward), references) | {"title": title, "config": dict(config or {})}
        draw_examples(results, folder, reward, examples)
        write_results(folder, results, title or "Evaluation", tables(results), csv_rows(results, folder))
        write_whole(folder / "report.html", report_html(results, folder, log_history))
        return results
    return None


def _measure(
    chunk: list[str],
    texts: list[str],
    reward: PromptReward,
    wish: Constraints | None,
    negative: str | None,
    on_image: Callable[[int, int, Tensor], None] | None,
) -> Iterator[dict]:
    """A record for each prompt: its rewrite, drawn and scored."""
    if len(texts) != len(chunk) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"a method made {len(texts)} prompts of {len(chunk)}, or an empty one: one for each is wanted")
    scores, flagged, answers = measure(reward, chunk, texts, negative, on_image)
    window = Window.of(reward.window)
    for i, (prompt, text) in enumerate(zip(chunk, texts, strict=True)):
        yield {
            "original": prompt,
            "text": text,
            "scores": {name: raw[i] for name, raw in scores.items()},
            "flagged": flagged[i],
            **({"answers": {name: soft[i] for name, soft in answers.items()}} if answers else {}),
            "clip_tokens": count_clip_tokens(text),
            **({} if window == Window() else {"too_long": not window.holds(text)}),
            "satisfied": bool(check(text, wish)) if wish else None,
            **_negative(negative),
        }


def _questions(reward: PromptReward, prompts: Sequence[str]) -> dict[str, tuple[Question, ...]]:
    """What is asked about each prompt; nothing where no reward asks."""
    asks = next((c.reward for c in reward.rewards.components if isinstance(c.reward, Atoms)), None)
    return {prompt: asks.questions(prompt) for prompt in prompts} if asks else {}


def _negative(negative: str | None) -> dict[str, str]:
    """A method's negative prompt, as records and settings have it, where there is one."""
    return {"negative": negative} if negative else {}


def _text_encoder(reward: PromptReward) -> Callable[[list[str]], Tensor] | None:
    """The text side of the rewards' CLIP (the one of `clip` if there is one): texts to unit vectors; or None."""
    rewards = [c.reward for c in reward.rewards.components if isinstance(c.reward, EmbeddingReward)]
    if not rewards:
        return None
    encoder = min(rewards, key=lambda own: not own.name.startswith("clip")).encoder
    # One of its own, over the same weights: it remembers no text of another batch, so its numbers are always the same.
    return type(encoder)(encoder.model, encoder.tokenizer, encoder.preprocessing, encoder.source).encode_texts


def _check(prompts: list[str], methods: Sequence[Method], reward: PromptReward, chunk_size: int) -> None:
    check_prompts(prompts)
    if not methods:
        raise ValueError("there are no methods to evaluate")
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}: it must be at least 1")
    for method in methods:
        method.check(prompts)
    names = [method.name for method in methods]
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise ValueError(f"the method {twice!r} is given twice")
    if reward.compared and "plain" not in names:
        raise ValueError(
            f"{', '.join(sorted(reward.compared))} count as improvements over the original prompt: add the method "
            "plain, or set relative to none"
        )
