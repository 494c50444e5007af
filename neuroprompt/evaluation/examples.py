"""The prompts of an evaluation that its report shows with their pictures: chosen by their rewards, not by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from neuroprompt.evaluation.comparison import compare_texts
from neuroprompt.evaluation.summary import read_records
from neuroprompt.pages.grid import save_grid
from neuroprompt.scoring import PromptReward

_IN_THE_MIDDLE = 3  # prompts that are drawn by every method


def draw_examples(results: dict, folder: Path, reward: PromptReward, count: int) -> None:
    """Draw prompts as an evaluation's methods have rewritten them, and note the files' names in its results.

    ``examples.png`` has prompts from the middle by every method (`prompts_in_the_middle`), ``examples-….png`` the
    best, median and worst of one method (`best_median_worst`) beside the first method's.

    Args:
        results: From `summary.summarise`; gets ``examples``, and the same for each method but the first.
        folder: The evaluation's.
        reward: What the evaluation was drawn and scored by.
        count: How many of each method's best, median and worst prompts; 0 for no pictures at all.
    """
    for stale in folder.glob("examples*.png"):
        stale.unlink()
    first, *others = results["methods"]
    if not count or not others:
        return
    ranked = {name: results["methods"][name]["ranked"] for name in others}
    middle = [(i, "") for i in prompts_in_the_middle(ranked, _IN_THE_MIDDLE)]
    sheets = [(results, "examples.png", [first, *others], middle)]
    for number, name in enumerate(others, 1):
        rows = [(i, f"{kind} ({change:+.3f}): ") for i, change, kind in best_median_worst(ranked[name], count)]
        sheets.append((results["methods"][name], f"examples-{number}.png", [first, name], rows))
    wanted = {(i, name) for _, _, columns, rows in sheets for i, _ in rows for name in columns}
    records = (((record["index"], record["method"]), record) for record in read_records(folder))
    found = {key: record for key, record in records if key in wanted}
    for told_in, file, columns, rows in sheets:
        if rows:
            originals = [found[i, first]["original"] for i, _ in rows]
            texts = [[found[i, name]["text"] for name in columns] for i, _ in rows]
            negatives = [[found[i, name].get("negative") for name in columns] for i, _ in rows]
            titles = [label + original for (_, label), original in zip(rows, originals, strict=True)]
            save_grid(
                compare_texts(originals, texts, columns, reward, row_titles=titles, negatives=negatives), folder / file
            )
            told_in["examples"] = file


def prompts_in_the_middle(ranked: Mapping[str, Sequence], count: int) -> list[int]:
    """The prompts around the median of what the methods gain on average; of those on which all have a reward.

    Args:
        ranked: For each method [prompt, difference in reward].
        count: How many, if there are so many.
    """
    gains = [dict(map(tuple, pairs)) for pairs in ranked.values()]
    known = sorted(set.intersection(*map(set, gains)))
    ordered = sorted(known, key=lambda i: -np.mean([gain[i] for gain in gains]))
    start = max(0, (len(ordered) - count) // 2)
    return ordered[start : start + count]


def best_median_worst(ranked: Sequence[Sequence], count: int) -> list[tuple[int, float, str]]:
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
