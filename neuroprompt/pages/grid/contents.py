"""What a comparison holds, and what its image and its page say of it alike: numbers, differences, the user's words."""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from neuroprompt import __version__
from neuroprompt.image_files import from_tensor

if TYPE_CHECKING:
    from torch import Tensor

MISSING, WITHHELD = "missing", "withheld by the safety checker"
SMALL = 256  # pixels: smaller pictures are enlarged, and kept without loss
_MAX_COMPARED = 4096  # characters of a prompt in which the user's words are looked for


@dataclass(frozen=True)
class Picture:
    """One picture of a cell.

    Attributes:
        image: A tensor (3, height, width) in [0, 1], or a PIL image of 8 bits a channel (`image_files.load_images`
            makes such of any file); what is transparent is drawn on white.
        seed: What it was drawn with.
        scores: By name; more is better. A score that is not finite counts as missing.
        flagged: Withheld by a safety checker: a note is drawn in the picture's place.
    """

    image: "Image.Image | Tensor"
    seed: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    flagged: bool = False


@dataclass(frozen=True)
class Cell:
    """What a method made of a prompt: the prompt that was drawn, and a picture for each seed.

    Attributes:
        text: The finished prompt, which was drawn.
        pictures: One for each seed, side by side; None where one is missing.
        original: The user's prompt; its words are bold in `text`.
        negative: The negative prompt, where it was drawn with one of its own.
    """

    text: str
    pictures: Sequence[Picture | None]
    original: str = ""
    negative: str | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Mean of each score over the pictures that have it."""
        names = dict.fromkeys(name for p in self.pictures if p for name in p.scores)
        values = {name: [float(p.scores[name]) for p in self.pictures if p and name in p.scores] for name in names}
        finite = {name: [v for v in found if math.isfinite(v)] for name, found in values.items()}
        return {name: statistics.mean(found) for name, found in finite.items() if found}


@dataclass(frozen=True)
class Grid:
    """A comparison. Cells may be None, where there is nothing to show.

    Attributes:
        rows: A sequence of cells for each prompt, all of the same length.
        column_titles: Names of the methods.
        row_titles: Such as the plain prompts.
        title: What stands above everything.
        footer: What stands below everything, such as which models and seeds were used.
        metadata: What goes into the file beside all that is seen; JSON types.

    Raises:
        ValueError: There is no row or no column, or they do not agree in number.
    """

    rows: Sequence[Sequence[Cell | None]]
    column_titles: Sequence[str] | None = None
    row_titles: Sequence[str] | None = None
    title: str = ""
    footer: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not self.rows:
            raise ValueError("there are no prompts to compare: a grid needs at least one row")
        if not self.rows[0]:
            raise ValueError("there are no methods to compare: a grid needs at least one column")
        for i, row in enumerate(self.rows, 1):
            if len(row) != self.columns:
                raise ValueError(f"row {i} has {len(row)} cells, and row 1 has {self.columns}")
        if self.column_titles is not None and len(self.column_titles) != self.columns:
            raise ValueError(f"{len(self.column_titles)} column titles for {self.columns} columns")
        if self.row_titles is not None and len(self.row_titles) != len(self.rows):
            raise ValueError(f"{len(self.row_titles)} row titles for {len(self.rows)} rows")

    @property
    def columns(self) -> int:
        return len(self.rows[0])

    def to_dict(self) -> dict:
        """All but the pixels, as plain JSON types: what goes into the files' metadata."""

        def picture(p: Picture | None) -> dict | None:
            if p is None:
                return None
            scores = {name: v if math.isfinite(v := float(value)) else None for name, value in p.scores.items()}
            return {"seed": p.seed, "scores": scores, "flagged": p.flagged}

        def cell(c: Cell | None) -> dict | None:
            if c is None:
                return None
            negative = {"negative": c.negative} if c.negative else {}
            return {"text": c.text, "original": c.original, **negative, "pictures": [picture(p) for p in c.pictures]}

        return {
            "kind": "grid",
            "neuroprompt": __version__,
            "title": self.title,
            "columns": list(self.column_titles or [""] * self.columns),
            "rows": [
                {"title": title, "cells": [cell(c) for c in row]}
                for title, row in zip(self.row_titles or [""] * len(self.rows), self.rows, strict=True)
            ],
            "footer": self.footer,
            "metadata": dict(self.metadata),
        }


# --- numbers ---------------------------------------------------------------------------------------------------------


def score_formats(grid: Grid) -> dict[str, str]:
    """The names of the scores, in order, each with the format of its numbers: as many decimals as tell them apart."""
    largest: dict[str, float] = {}
    for row in grid.rows:
        for cell in row:
            for name, value in (cell.scores if cell else {}).items():
                largest[name] = max(largest.get(name, 0.0), abs(value))
    return {name: ".3f" if v < 1 else ".2f" if v < 1000 else ".0f" if v < 1e7 else ".3g" for name, v in largest.items()}


class Difference(NamedTuple):
    text: str
    sign: int  # of what is shown: 0 where the difference rounds to nothing


def difference_to(cell: Cell | None, first: Cell | None, name: str, form: str) -> Difference | None:
    """A cell's score beside the first column's; with sign and arrow, so that it needs no colour to be read."""
    if cell is None or first is None or cell is first or name not in cell.scores or name not in first.scores:
        return None
    change = cell.scores[name] - first.scores[name]
    shown = format(abs(change), form)
    if float(shown) == 0:
        return Difference(f"±{shown}", 0)
    return Difference(f"▲ +{shown}" if change > 0 else f"▼ −{shown}", 1 if change > 0 else -1)


def legend(grid: Grid) -> str:
    """What the numbers are, where that is not plain."""
    formats = score_formats(grid)
    notes = []
    if any(difference_to(c, row[0], n, f) for row in grid.rows for c in row[1:] for n, f in formats.items()):
        first = grid.column_titles[0] if grid.column_titles and grid.column_titles[0] else "the first column"
        notes.append(f"▲ better and ▼ worse than {first}")
    if formats and (seeds := max(len(c.pictures) for row in grid.rows for c in row if c)) > 1:
        notes.append(f"scores are means over {seeds} seeds")
    return " · ".join(notes)


# --- texts -----------------------------------------------------------------------------------------------------------


def caption(cell: Cell) -> tuple[str, list[bool]]:
    """What stands below a cell's pictures, the negative prompt as A1111 writes it; and which of its characters are the
    user's."""
    below = f"\nNegative prompt: {cell.negative}" if cell.negative else ""
    return cell.text + below, users_words(cell.original, cell.text) + [False] * len(below)


def users_words(original: str, text: str) -> list[bool]:
    """For each character of `text`, whether it is the user's: a rewrite begins with the user's text, and a prompt
    that somebody wrote anew may have some of its words."""
    own = [False] * len(text)
    if original and text.startswith(original):
        own[: len(original)] = [True] * len(original)
        return own
    words = list(re.finditer(r"\w+", text[:_MAX_COMPARED]))
    theirs = re.findall(r"\w+", original[:_MAX_COMPARED].casefold())
    matcher = SequenceMatcher(None, theirs, [w[0].casefold() for w in words], autojunk=False)
    for _, start, length in matcher.get_matching_blocks():
        if length:
            begin, end = words[start].start(), words[start + length - 1].end()
            own[begin:end] = [True] * (end - begin)
    return own


def cut_pieces(word: str, bold: Sequence[bool]) -> list[tuple[str, bool]]:
    """A word cut where its weight changes ("horse," has the user's word and a comma that was added)."""
    cuts = [*(i for i in range(len(word)) if not i or bold[i] != bold[i - 1]), len(word)]
    return [(word[a:b], bold[a]) for a, b in pairwise(cuts)]


# --- pictures --------------------------------------------------------------------------------------------------------


def across(count: int) -> int:
    """How many of a cell's pictures stand side by side."""
    return count if count <= 3 else math.ceil(math.sqrt(count))


def size_of(image: "Image.Image | Tensor") -> tuple[int, int]:
    """(width, height)"""
    if not isinstance(image, Image.Image):
        if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            raise ValueError(f"a picture must be of shape (3, height, width), not {tuple(image.shape)}")
        return image.shape[2], image.shape[1]
    if not all(image.size):
        raise ValueError(f"a picture of {image.width} x {image.height} pixels")
    return image.size


def to_pil(image: "Image.Image | Tensor") -> Image.Image:
    """As Pillow has it, in whatever mode it was."""
    size_of(image)
    return image if isinstance(image, Image.Image) else from_tensor(image)


def fit(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """The largest size of the same shape that fits."""
    scale = min(width / size[0], height / size[1])
    return min(width, max(1, round(size[0] * scale))), min(height, max(1, round(size[1] * scale)))


def resize(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)
