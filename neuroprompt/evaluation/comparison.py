"""Prompts by several methods, drawn with the same seeds and scored: from models to the plain data of a `Grid`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

from neuroprompt.evaluation.methods import Method, write
from neuroprompt.pages.grid import Grid, draw_cells
from neuroprompt.pages.page import how_drawn
from neuroprompt.scoring import PromptReward


def compare_pictures(
    prompts: Sequence[str],
    methods: Sequence[Method],
    reward: PromptReward,
    seeds: Sequence[int] | None = None,
    title: str = "",
    on_progress: Callable[[int], None] | None = None,
) -> Grid:
    """Draw every prompt as every method writes it.

    Args:
        prompts: Plain prompts: the rows, and what pictures are scored against.
        methods: The columns.
        reward: Draws and scores; a cell holds the raw score of each of its components.
        seeds: The seeds of every cell's pictures; by default those that `reward` gives each prompt.
        title: The grid's title.
        on_progress: Gets the number of pictures that have been drawn, after each.

    Raises:
        ValueError: A prompt is empty, or what a method or the grid refuses.
        DrawingError: A prompt cannot be drawn.
    """
    texts = list(zip(*write(methods, prompts), strict=True))  # (prompts, methods)
    negatives = [[method.negative(reward.generator) for method in methods]] * len(texts)
    names = [method.name for method in methods]
    return compare_texts(prompts, texts, names, reward, seeds, title, None, on_progress, negatives)


def compare_texts(
    originals: Sequence[str],
    texts: Sequence[Sequence[str]],
    columns: Sequence[str],
    reward: PromptReward,
    seeds: Sequence[int] | None = None,
    title: str = "",
    row_titles: Sequence[str] | None = None,
    on_progress: Callable[[int], None] | None = None,
    negatives: Sequence[Sequence[str | None]] | None = None,
) -> Grid:
    """As `compare_pictures`, with what the methods have written already.

    Args:
        originals: Plain prompts.
        texts: For each of them the finished prompts, one of each method.
        columns: The methods' names.
        row_titles: By default the originals.
        negatives: The texts' negative prompts.
    """
    rows = draw_cells(originals, texts, reward, None if seeds is None else lambda _: seeds, on_progress, negatives)
    generator = reward.generator
    return Grid(
        rows,
        column_titles=columns,
        row_titles=row_titles or list(originals),
        title=title,
        footer=f"{how_drawn(generator.name, asdict(generator.config))}; the same seeds in every column",
        metadata={
            "generator": generator.name,
            "steps": generator.config.steps,
            "guidance": generator.config.guidance,
            "true_cfg": generator.config.true_cfg,
            "rewards": {c.reward.name: c.reward.fingerprint for c in reward.rewards.components},
        },
    )
