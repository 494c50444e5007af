"""Prompts by several methods, drawn with the same seeds and scored: from models to the plain data of a `Grid`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

from torch import Tensor

from neuroprompt.evaluation.methods import Method
from neuroprompt.pages.grid import Cell, Grid, Picture
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
        seeds: Of the pictures of every cell; by default those that `reward` gives each prompt.
        title: Of the grid.
        on_progress: Gets the number of pictures that have been drawn, after each.

    Raises:
        ValueError: What a method or the grid refuses.
        DrawingError: A prompt cannot be drawn.
    """
    written = [method(prompts) for method in methods]  # (methods, prompts)
    jobs = [
        (written[column][row], prompt, seed)
        for row, prompt in enumerate(prompts)
        for column in range(len(methods))
        for seed in (reward.seeds(prompt) if seeds is None else seeds)
    ]
    images: dict[int, Tensor] = {}

    def keep(job: int, image: Tensor) -> None:
        images[job] = image.cpu()
        if on_progress:
            on_progress(len(images))

    measured = reward.measure(*zip(*jobs, strict=True), on_image=keep) if jobs else None
    pictures = iter(
        Picture(
            images[i],
            seed,
            {name: float(scores[i]) for name, scores in measured.scores.items()},
            bool(measured.flagged[i]),
        )
        for i, (_, _, seed) in enumerate(jobs)
    )
    count = reward.images_per_prompt if seeds is None else len(seeds)
    rows = [
        [Cell(of[row], [next(pictures) for _ in range(count)], prompt) for of in written]
        for row, prompt in enumerate(prompts)
    ]
    generator = reward.generator
    return Grid(
        rows,
        column_titles=[method.name for method in methods],
        row_titles=list(prompts),
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
