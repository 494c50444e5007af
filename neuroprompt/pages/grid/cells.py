"""From texts to cells: drawn with the same seeds, and scored."""

from collections.abc import Callable, Sequence

from torch import Tensor

from neuroprompt.pages.grid.contents import Cell, Picture
from neuroprompt.scoring import PromptReward


def draw_cells(
    originals: Sequence[str],
    texts: Sequence[Sequence[str]],
    reward: PromptReward,
    seeds: Callable[[str], Sequence[int]] | None = None,
    on_progress: Callable[[int], None] | None = None,
    negatives: Sequence[Sequence[str | None]] | None = None,
) -> list[list[Cell]]:
    """Draw what several methods have made of each prompt: the rows of a `Grid`.

    Args:
        originals: The users' prompts, which pictures are scored against.
        texts: For each of them the finished prompts, one of each method.
        reward: Draws and scores; a picture has the raw score of each of its components.
        seeds: The seeds of an original's pictures, the same in all its cells; by default `PromptReward.seeds`.
        on_progress: Gets the number of pictures that have been drawn, after each.
        negatives: A negative prompt for each text, or None (see `ImageGenerator.draw`).

    Raises:
        DrawingError: A prompt cannot be drawn.
    """
    drawn_with = {original: list((seeds or reward.seeds)(original)) for original in originals}
    negatives = negatives or [[None] * len(row) for row in texts]
    jobs = [
        (text, original, seed, negative)
        for original, row, against in zip(originals, texts, negatives, strict=True)
        for text, negative in zip(row, against, strict=True)
        for seed in drawn_with[original]
    ]
    images: dict[int, Tensor] = {}

    def keep(job: int, image: Tensor) -> None:
        images[job] = image.cpu()
        if on_progress:
            on_progress(len(images))

    measured = reward.measure(*zip(*jobs, strict=True), on_image=keep) if jobs else None
    pictures = (
        Picture(
            images[job],
            seed,
            {name: float(scores[job]) for name, scores in measured.scores.items()},
            bool(measured.flagged[job]),
        )
        for job, (_, _, seed, _) in enumerate(jobs)
    )
    return [
        [
            Cell(text, [next(pictures) for _ in drawn_with[original]], original, negative)
            for text, negative in zip(row, against, strict=True)
        ]
        for original, row, against in zip(originals, texts, negatives, strict=True)
    ]
