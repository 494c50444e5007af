"""Methods × prompts × seeds × rewards, on the same seeds for all, written as it goes and taken up after a kill.

    evaluate(load_prompts("partiprompts:200"), parse_methods("plain,suffix,enhanced"), reward, "results/mine")

The folder gets

- ``settings.json``: what the numbers depend on. A folder takes up its own evaluation and no other.
- ``records.jsonl``: a line for each prompt and method, as they are made: the rewritten text, and of each seed the raw
  score by every reward and whether the picture was flagged.
- ``results.json``, ``results.csv`` (a row for each prompt and method), ``table.md``, ``report.html``, and for each
  method ``examples-….png``: the prompts with its best, median and worst difference, drawn beside the first method's.

Prompts are done in chunks, so memory does not grow with their number. A chunk is also what a kill costs: the lines of
one that is not whole are made again, in the same batches, so that the numbers are those of an undisturbed run to the
last bit. A chunk depends on no other, so processes can share them out (`share`): each writes a file of its own,
``records-i-of-n.jsonl``, and the one that comes to its end last makes ``records.jsonl`` and the results of them.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from neuroprompt.decoding import Constraints, check
from neuroprompt.evaluation.comparison import compare_pictures
from neuroprompt.evaluation.methods import Method
from neuroprompt.evaluation.report import write_report
from neuroprompt.evaluation.summary import summarise, write_results
from neuroprompt.experiments import (
    RECORDS,
    Records,
    check_settings,
    find_chunks,
    gather_records,
    hold_share,
    read_records,
    reward_settings,
)
from neuroprompt.files import BusyError, sole_writer
from neuroprompt.pages.grid import save_grid
from neuroprompt.prompts import count_clip_tokens
from neuroprompt.rewards.encoders import EmbeddingReward
from neuroprompt.scoring import PromptReward


def evaluate(
    prompts: Sequence[str],
    methods: Sequence[Method],
    reward: PromptReward,
    folder: str | Path,
    *,
    chunk_size: int = 32,
    share: tuple[int, int] = (1, 1),
    examples: int = 1,
    references: Sequence[str] = (),
    title: str = "",
    config: Mapping[str, Any] | None = None,
    log_history: Sequence[Mapping[str, Any]] | None = None,
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
        share: (i, n): do the i-th of n shares of the chunks, from 1 to n.
        examples: How many of the best, of the median and of the worst prompts are drawn for each method; 0 for none.
        references: Methods that the others are compared with, besides the first.
        title: Of the report.
        config: What else the results should say of their making, such as the command's arguments; JSON types.
        log_history: Of a training run (as in `trainer_state.json`), for the report's learning curves.
        on_progress: Gets the numbers of pictures of this share, drawn so far and in all.

    Returns:
        What ``results.json`` holds (see `summary.summarise`), or None where chunks of other shares are missing.

    Raises:
        ValueError: A prompt is there twice, ``plain`` is missing, the folder holds another evaluation, or as the
            methods say.
        BusyError: Another process does this share.
        DrawingError: A prompt cannot be drawn or scored.
    """
    prompts, folder = list(prompts), Path(folder)
    _check(prompts, methods, reward, chunk_size, share)
    if unknown := [name for name in references if name not in [m.name for m in methods[1:]]]:
        raise ValueError(f"to compare with {unknown[0]!r}, it must be among the methods, and not the first of them")
    settings = _settings(prompts, methods, reward, chunk_size)
    check_settings(folder, settings, "an evaluation")
    wish = next((m.constraints for m in methods if m.constraints), None)
    # Files whose lines belong to the prompts' places are read whole; a wrong number comes out before anything is drawn.
    written = {m.name: m(prompts) for m in methods if m.whole}
    k = reward.images_per_prompt

    def lines(first: Mapping) -> int:
        """Of the chunk that begins with this record."""
        return len(methods) * min(chunk_size, len(prompts) - first["index"])

    starts = range(0, len(prompts), chunk_size)
    own = starts[share[0] - 1 :: share[1]]
    with hold_share(folder, share) as path, Records(path, lines) as records:
        known = find_chunks(folder, lines)
        todo = [start for start in own if start not in known]
        total = sum(lines({"index": start}) for start in own) * k
        done = total - sum(lines({"index": start}) for start in todo) * k
        for method in methods if todo else ():
            method.prepare()
        for start in todo:
            chunk = prompts[start : start + chunk_size]
            for method in methods:
                began = time.perf_counter()
                part = written.get(method.name, [])[start : start + chunk_size]
                texts = part if method.whole else method(chunk)
                seconds = (time.perf_counter() - began) / len(chunk)
                records.write(
                    record | {"index": start + i, "method": method.name, "seconds": seconds}
                    for i, record in enumerate(_measure(chunk, texts, reward, wish))
                )
                done += len(chunk) * k
                if on_progress:
                    on_progress(done, total)
    if len(find_chunks(folder, lines)) < len(starts):
        return None
    with ExitStack() as end:
        try:
            end.enter_context(sole_writer(folder / RECORDS))
        except BusyError:  # another process has come to its end as well
            return None
        gather_records(folder, find_chunks(folder, lines))
        results = summarise(folder, _text_encoder(reward), references) | {"title": title, "config": dict(config or {})}
        _draw_examples(results, folder, methods, reward, examples)
        write_results(results, folder)
        write_report(folder, log_history=log_history)
        return results


def _measure(chunk: list[str], texts: list[str], reward: PromptReward, wish: Constraints | None) -> Iterator[dict]:
    """A record for each prompt: its rewrite, drawn and scored."""
    if len(texts) != len(chunk) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"a method made {len(texts)} prompts of {len(chunk)}, or an empty one: one for each is wanted")
    k = reward.images_per_prompt
    measured = reward.measure(
        [text for text in texts for _ in range(k)],
        [prompt for prompt in chunk for _ in range(k)],
        [seed for prompt in chunk for seed in reward.seeds(prompt)],
        # All are drawn, also what a cache knows: the batches, and so the last bits, do not depend on what was before.
        on_image=lambda index, image: None,
    )
    for i, (prompt, text) in enumerate(zip(chunk, texts, strict=True)):
        own = slice(i * k, (i + 1) * k)
        yield {
            "original": prompt,
            "text": text,
            # A score that is not finite is none.
            "scores": {n: [v if np.isfinite(v) else None for v in s[own].tolist()] for n, s in measured.scores.items()},
            "flagged": measured.flagged[own].tolist(),
            "clip_tokens": count_clip_tokens(text),
            "satisfied": bool(check(text, wish)) if wish else None,
        }


def _draw_examples(results: dict, folder: Path, methods: Sequence[Method], reward: PromptReward, count: int) -> None:
    """The prompts with the best, median and worst difference of each method, as `summarise` has ranked them."""
    for stale in folder.glob("examples-*.png"):
        stale.unlink()
    first = methods[0].name
    ranks = {name: of["ranked"] for name, of in results["methods"].items() if of["against"] and count}
    chosen = {name: _best_median_worst(ranked, count) for name, ranked in ranks.items()}
    wanted = {(i, name) for name, rows in chosen.items() for i, _, _ in rows for name in (first, name)}
    found = {(r["index"], r["method"]): r for r in read_records(folder) if (r["index"], r["method"]) in wanted}
    for number, (name, rows) in enumerate(chosen.items(), 1):
        originals = [found[i, first]["original"] for i, _, _ in rows]
        columns = [
            # The rows' texts, as they were made.
            Method(column, lambda _, column=column, rows=rows: [found[i, column]["text"] for i, _, _ in rows])
            for column in (first, name)
        ]
        if not rows:
            continue
        grid = compare_pictures(originals, columns, reward)
        titles = [f"{kind} ({difference:+.3f}): {found[i, first]['original']}" for i, difference, kind in rows]
        save_grid(replace(grid, row_titles=titles), folder / f"examples-{number}.png")
        results["methods"][name]["examples"] = f"examples-{number}.png"


def _best_median_worst(ranked: list[list], count: int) -> list[tuple[int, float, str]]:
    """(prompt, difference, kind) of `count` prompts of each kind, none twice; `ranked` begins with the best."""
    n = len(ranked)
    middle = max(0, (n - count) // 2)
    picks = [(i, "best") for i in range(count)] + [(middle + i, "median") for i in range(count)]
    picks += [(n - count + i, "worst") for i in range(count)]
    taken: dict[int, str] = {}
    for at, kind in picks:
        if 0 <= at < n:
            taken.setdefault(at, kind)
    return [(ranked[at][0], ranked[at][1], kind) for at, kind in taken.items()]


def _text_encoder(reward: PromptReward) -> Callable[[list[str]], Tensor] | None:
    """The text side of the rewards' CLIP (the one of `clip` if there is one): texts to unit vectors; or None."""
    of = {c.reward.name: c.reward.encoder for c in reward.rewards.components if isinstance(c.reward, EmbeddingReward)}
    if not of:
        return None
    encoder = next((e for name, e in of.items() if name.startswith("clip")), next(iter(of.values())))
    # One of its own, over the same weights: it remembers no text of another batch, so its numbers are always the same.
    return type(encoder)(encoder.model, encoder.tokenizer, encoder.preprocessing, encoder.source).encode_texts


# --- settings ----------------------------------------------------------------------------------------------------


def _check(
    prompts: list[str], methods: Sequence[Method], reward: PromptReward, chunk_size: int, share: tuple[int, int]
) -> None:
    if not prompts:
        raise ValueError("there are no prompts to evaluate on")
    if not methods:
        raise ValueError("there are no methods to evaluate")
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}: it must be at least 1")
    if not 1 <= share[0] <= share[1]:
        raise ValueError(f"there is no share {share[0]} of {share[1]}: give one from 1 to {max(1, share[1])}")
    first: dict[str, int] = {}
    for i, prompt in enumerate(prompts, 1):
        if first.setdefault(prompt, i) != i:
            raise ValueError(
                f"prompt {i} ({prompt[:60]!r}) is prompt {first[prompt]} again: each counts once, or intervals would "
                "be too narrow"
            )
    names = [m.name for m in methods]
    if twice := next((n for i, n in enumerate(names) if n in names[:i]), None):
        raise ValueError(f"the method {twice!r} is given twice")
    if reward.relative and "plain" not in names:
        raise ValueError(
            f"{', '.join(sorted(reward.relative))} count as improvements over the original prompt: add the method "
            "plain, or set relative to none"
        )


def _settings(prompts: list[str], methods: Sequence[Method], reward: PromptReward, chunk_size: int) -> dict:
    """Everything that the numbers depend on, as JSON types."""
    digest = blake2b(json.dumps(prompts).encode(), digest_size=16).hexdigest()
    settings = {
        "prompts": {"count": len(prompts), "digest": digest},
        "methods": {m.name: m.settings for m in methods},
        **reward_settings(reward),
        "chunk_size": chunk_size,
    }
    return json.loads(json.dumps(settings))
