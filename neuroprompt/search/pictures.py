"""Pictures of a search: drawn once, kept in its journal, and what they are worth."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from neuroprompt.scoring import PromptReward, combined

from .candidates import Drawn
from .journal import Journal, missing

Row = tuple[Sequence[float], bool]
"""A picture: its raw scores, in the order of the reward's components, and whether it was flagged."""


def worth(reward: PromptReward, rows: Sequence[Row], plain: Sequence[Row]) -> np.ndarray:
    """What pictures are worth by the reward's own equation, against those of the original. (n,)

    NaN for a picture without a finite score (see `scoring.known_mean`).
    """
    return combined(reward.terms, *columns(reward, rows), *columns(reward, plain), reward.flagged_reward)


def columns(
    reward: PromptReward, rows: Sequence[Row], shape: tuple[int, ...] = (-1,)
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Pictures as `scoring.combined` reads them: by component the scores, and which are flagged; each of `shape`."""
    scores = np.array([row[0] for row in rows], np.float64).reshape(len(rows), len(reward.terms))
    flagged = np.array([row[1] for row in rows], bool).reshape(shape)
    return {name: own.reshape(shape) for name, own in zip(reward.terms, scores.T, strict=True)}, flagged


def measure(
    wanted: Mapping[str, Sequence[tuple[str, int]]],
    drawn: Callable[[str, str], Drawn],
    reward: PromptReward,
    journal: Journal,
    on_picture: Callable[[], None] | None,
) -> None:
    """Draw what the journal does not know, all prompts in one go, in parts that are kept as soon as they are drawn.

    Parts are cut at the same places whenever a killed search comes here again, so that every picture has its old
    neighbours in the batch, and the last digit of its scores.

    Args:
        wanted: By original, the candidates and seeds.
        drawn: Of an original and a candidate, what is drawn.
    """
    todo = [(p, *picture) for p in wanted for picture in missing(journal.pictures.setdefault(p, {}), wanted[p])]
    size = _PART * getattr(getattr(reward.generator, "config", None), "batch_size", 16)
    for start in range(0, len(todo), size):
        part = todo[start : start + size]
        originals, candidates, seeds = zip(*part, strict=True)
        on_image = (lambda *_: on_picture()) if on_picture else None
        made = [drawn(original, candidate) for original, candidate in zip(originals, candidates, strict=True)]
        measured = reward.measure(
            [d.text for d in made],
            originals,
            seeds,
            [d.negative for d in made],
            on_image=on_image,
            use_cache=False,
        )
        scores = [measured.scores[name] for name in reward.terms]
        rows = list(zip(np.column_stack(scores).tolist(), measured.flagged.tolist(), strict=True))
        for (original, text, seed), row in zip(part, rows, strict=True):
            journal.pictures[original][text, seed] = row
        journal.save(due=False)
    if todo:
        journal.save()


_PART = 4  # batches of the generator
