"""Which modifiers a study tries, and together with which others: the axes and the combinations of their levels.

An axis is a kind of modifier; its levels are modifiers, and nothing. Up to so many combinations all are tried (the full
factorial design). Beyond that a fraction is, which is made for main effects: on each axis every level comes equally
often, and every pair of levels of two axes as nearly equally often as can be found. Nearly orthogonal arrays are made
by exchanges like these in Xu (2002), "An algorithm for constructing orthogonal and nearly-orthogonal arrays with mixed
levels and small runs", Technometrics 44.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from neuroprompt.completions import finish
from neuroprompt.modifiers import CATEGORIES, vocabulary
from neuroprompt.prompts import CLIP_WINDOW, modifier_key


class Axis(NamedTuple):
    """A kind of modifier, and the modifiers that are tried; that there is none is a level by itself."""

    name: str
    levels: tuple[str, ...]


def parse_axes(spec: str, levels: int = 4) -> tuple[Axis, ...]:
    """Read "style,booster=highly detailed|8k|masterpiece" as axes.

    Args:
        spec: Names of categories (see `neuroprompt.modifiers`), or any name with its modifiers.
        levels: How many modifiers of a category are tried: its most frequent ones.

    Raises:
        ValueError: A name is no category, a modifier is not a single one, or something is there twice.
    """
    if levels < 1:
        raise ValueError(f"levels is {levels}: each axis needs at least 1 modifier")
    axes = []
    for part in spec.split(","):
        name, listed, modifiers = (piece.strip() for piece in part.partition("="))
        if listed:
            axes.append(Axis(name, tuple(modifier.strip() for modifier in modifiers.split("|"))))
        elif name in CATEGORIES:
            known = tuple(vocabulary(name))
            if levels > len(known):
                raise ValueError(f"levels is {levels}, and {name} has {len(known)} modifiers")
            axes.append(Axis(name, known[:levels]))
        else:
            raise ValueError(
                f"unknown axis {name!r}: choose from {', '.join(CATEGORIES)}, or list its modifiers: "
                f"{name or 'mood'}=calm|tense"
            )
    _check(axes)
    return tuple(axes)


@dataclass(frozen=True)
class Design:
    """The combinations that are tried.

    Attributes:
        axes: What they are made of.
        rows: A level of each axis for each combination: 0 is nothing, i is the i-th modifier. The first row is the
            plain prompt, all 0.
    """

    axes: tuple[Axis, ...]
    rows: tuple[tuple[int, ...], ...]

    @property
    def possible(self) -> int:
        """How many combinations there are."""
        return math.prod(_sizes(self.axes))

    @property
    def modifiers(self) -> list[tuple[str, str]]:
        """(axis, modifier) of every modifier, axis by axis: what has an effect."""
        return [(axis.name, level) for axis in self.axes for level in axis.levels]

    @property
    def indicators(self) -> np.ndarray:
        """Which modifiers each combination has, 0 or 1. (combinations, modifiers)"""
        return _indicators(np.array(self.rows), _sizes(self.axes))

    def texts(self, prompt: str, window: int = CLIP_WINDOW) -> list[str | None]:
        """The prompt with each combination's modifiers after it.

        None where they do not make a difference of their own: where the prompt has one of them already, or where
        `window` CLIP tokens do not hold them all.
        """
        texts: list[str | None] = [prompt]
        for row in self.rows[1:]:
            chosen = [axis.levels[level - 1] for axis, level in zip(self.axes, row, strict=True) if level]
            text, added = finish(prompt, ", " + ", ".join(chosen), ended=True, window=window, coherent=False)
            texts.append(text if added == chosen else None)
        return texts


def make_design(axes: Sequence[Axis], max_combinations: int = 64, seed: int = 0) -> Design:
    """All combinations of the axes' levels, or a balanced fraction of `max_combinations`.

    Args:
        axes: From `parse_axes`.
        max_combinations: The most that are tried, the plain prompt included.
        seed: Another seed, another fraction.

    Raises:
        ValueError: So few combinations cannot tell the modifiers' effects apart.
    """
    sizes = _sizes(axes)
    if math.prod(sizes) <= max_combinations:
        return Design(tuple(axes), tuple(product(*map(range, sizes))))
    unknowns = 1 + sum(size - 1 for size in sizes)
    if max_combinations < unknowns:
        raise ValueError(
            f"{max_combinations} combinations cannot tell {unknowns - 1} modifiers apart: it takes at least {unknowns}"
        )
    rows = _fraction(sizes, max_combinations, seed)
    return Design(tuple(axes), tuple(map(tuple, rows.tolist())))


# --- fractions -----------------------------------------------------------------------------------------------------

_STARTS, _MOST_STARTS = 10, 200


def _fraction(sizes: list[int], count: int, seed: int) -> np.ndarray:
    """Balanced rows, (count, axes): of several starts the one that is best for estimating main effects."""
    rng = np.random.default_rng(seed)
    best, most = None, -math.inf
    for start in range(_MOST_STARTS):
        if start >= _STARTS and best is not None:
            return best
        rows = np.stack([_balanced_column(size, count, rng) for size in sizes], 1)
        _balance_pairs(rows, sizes)
        design = np.column_stack([np.ones(count), _indicators(rows, sizes)])
        if np.linalg.matrix_rank(design) == design.shape[1]:
            information = np.linalg.slogdet(design.T @ design)[1]  # D-optimality: more of it, narrower intervals
            if information > most:
                best, most = rows, information
    raise ValueError(f"found no {count} combinations that tell all modifiers apart: allow some more")


def _balanced_column(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Levels in random order, each equally often (once more where `count` is no multiple), and nothing in front."""
    column = rng.permutation((np.arange(count) + rng.integers(size)) % size)
    first = int(np.flatnonzero(column == 0)[0])
    column[[0, first]] = column[[first, 0]]
    return column


def _balance_pairs(rows: np.ndarray, sizes: Sequence[int]) -> None:
    """Exchange levels of an axis between two combinations while that makes pairs of levels more even, in place.

    How often levels come stays as it is, and so does the first row. What falls is Σ sizeₖ·sizeₘ·Σ n², over the
    pairs of axes k, m and the counts n of their pairs of levels: least where all n are equal.
    """
    count, axes = rows.shape
    if axes < 2:
        return
    eye = np.eye(max(sizes), dtype=int)
    improved = True
    while improved:
        improved = False
        for k in range(axes):
            others = [m for m in range(axes) if m != k]
            weights = np.array([sizes[m] for m in others])
            at = np.arange(len(others))
            pairs = np.stack([eye[rows[:, k]].T @ eye[rows[:, m]] for m in others])  # (others, level of k, level of m)
            for a in range(1, count):
                ours, theirs = rows[a, others], rows[:, others]  # (others,) and (count, others)
                u, v = rows[a, k], rows[:, k, None]
                # One more of each pair that is made, one less of each that is broken.
                change = 4 + 2 * (pairs[at, v, ours] + pairs[at, u, theirs] - pairs[at, u, ours] - pairs[at, v, theirs])
                change = (change * (theirs != ours)) @ weights
                change[(rows[:, k] == u) | (np.arange(count) == 0)] = 0
                b = int(change.argmin())
                if change[b] < 0:
                    for row, old, new in ((a, u, rows[b, k]), (b, rows[b, k], u)):
                        np.add.at(pairs, (at, old, rows[row, others]), -1)
                        np.add.at(pairs, (at, new, rows[row, others]), 1)
                    rows[a, k], rows[b, k] = rows[b, k], u
                    improved = True


def _indicators(rows: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    return np.concatenate([rows[:, k, None] == np.arange(1, size) for k, size in enumerate(sizes)], 1).astype(float)


def _sizes(axes: Sequence[Axis]) -> list[int]:
    return [1 + len(axis.levels) for axis in axes]


def _check(axes: Sequence[Axis]) -> None:
    names = [axis.name for axis in axes]
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise ValueError(f"the axis {twice!r} is given twice")
    seen: dict[str, str] = {}
    for axis in axes:
        if not axis.name:
            raise ValueError("an axis has no name: write it as mood=calm|tense")
        for level in axis.levels:
            if finish("a", f", {level}", ended=True, window=CLIP_WINDOW, coherent=False)[1] != [level]:
                raise ValueError(f"{level!r} on the axis {axis.name} is not one modifier that can follow a prompt")
            if other := seen.get(modifier_key(level)):
                raise ValueError(f"{level!r} on the axis {axis.name} is the same modifier as {other}")
            seen[modifier_key(level)] = f"{level!r} on {axis.name}"
