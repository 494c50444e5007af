"""The comparison picture: a row for each prompt, a column for each method, under every picture its prompt and scores.

Plain data in (`Grid`), and out an image file with all of it as metadata, or one HTML file that needs nothing else. No
model is touched here. In every prompt the user's own words are bold, so that one sees what a method added; scores are
set against the first column's, which were drawn with the same seeds.

An image is laid out first (`layout_grid`: every text and picture with its box, none over another) and painted then.
"""

import base64
import html
import io
import json
import math
import os
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from neuroprompt.image_files import MAX_PIXELS, SUFFIXES, save_image

HTML_SUFFIXES = (".html", ".htm")


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

    image: Image.Image | Tensor
    seed: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    flagged: bool = False


@dataclass(frozen=True)
class Cell:
    """What a method made of a prompt: the prompt that was drawn, and a picture for each seed.

    Attributes:
        prompt: The prompt that was drawn.
        pictures: One for each seed, side by side; None where one is missing.
        original: The user's prompt; its words are bold in `prompt`.
    """

    prompt: str
    pictures: Sequence[Picture | None]
    original: str = ""

    @property
    def scores(self) -> dict[str, float]:
        """Mean of each score over the pictures that have it."""
        names = dict.fromkeys(name for p in self.pictures if p for name in p.scores)
        values = {name: [float(p.scores[name]) for p in self.pictures if p and name in p.scores] for name in names}
        finite = {name: [v for v in of if math.isfinite(v)] for name, of in values.items()}
        return {name: math.fsum(of) / len(of) for name, of in finite.items() if of}


@dataclass(frozen=True)
class Grid:
    """A comparison. Cells may be None, where there is nothing to show.

    Attributes:
        rows: A sequence of cells for each prompt, all of the same length.
        column_titles: Names of the methods.
        row_titles: Such as the plain prompts.
        title: Above everything.
        footer: Below everything, such as which models and seeds were used.
        metadata: Goes into the file, beside all that is seen; JSON types.

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
            return c and {"prompt": c.prompt, "original": c.original, "pictures": [picture(p) for p in c.pictures]}

        return {
            "kind": "grid",
            "neuroprompt": version("neuroprompt"),
            "title": self.title,
            "columns": list(self.column_titles or [""] * self.columns),
            "rows": [
                {"title": title, "cells": [cell(c) for c in row]}
                for title, row in zip(self.row_titles or [""] * len(self.rows), self.rows, strict=True)
            ],
            "footer": self.footer,
            "metadata": dict(self.metadata),
        }


def save_grid(grid: Grid, path: str | Path, cell_size: int | None = None) -> None:
    """Write the comparison as an image, or as one .html page; the ending says which.

    The file appears when it is whole. `image_files.read_metadata` gives `grid.to_dict()` back from an image.

    Args:
        path: Ends in .png, .jpg, .jpeg, .webp, .html or .htm. Missing folders are made.
        cell_size: Of a picture, in pixels (see `draw_grid`); an .html page keeps the pictures' own size.

    Raises:
        ValueError: Another ending, or more pixels or metadata than the format can hold.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES + HTML_SUFFIXES:
        raise ValueError(f"{path}: a grid is written as {', '.join(SUFFIXES + HTML_SUFFIXES)}")
    if suffix in SUFFIXES:
        save_image(draw_grid(grid, cell_size), path, grid.to_dict())
        return
    page = grid_html(grid)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        beside.write_text(page, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def draw_grid(grid: Grid, cell_size: int | None = None) -> Image.Image:
    """Paint the comparison.

    Args:
        cell_size: The width that a picture gets, in pixels; by default its own width, small ones enlarged by a whole
            factor to 256 or a little more and large ones shrunk to 384.

    Returns:
        An RGB image.

    Raises:
        ValueError: `cell_size` is out of range, or the image would have more than `MAX_PIXELS` pixels.
    """
    layout = layout_grid(grid, cell_size)
    if layout.width * layout.height > MAX_PIXELS:
        raise ValueError(
            f"the grid would have {layout.width} x {layout.height} pixels: draw fewer rows, or a smaller cell_size"
        )
    canvas = Image.new("RGB", (layout.width, layout.height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for box in layout.rules:
        draw.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), fill=_RULE)
    for placed in layout.pictures:
        box = placed.box
        frame = (box.left - 1, box.top - 1, box.right, box.bottom)
        if placed.picture is None or placed.picture.flagged:
            draw.rectangle(frame, fill=_EMPTY, outline=_RULE)
        else:
            draw.rectangle(frame, outline=_RULE)
            canvas.paste(_resized(_as_rgb(placed.picture.image), box.width, box.height), box[:2])
    for text in layout.texts:
        # Painted apart and put in its place, so that no accent or overhang reaches beyond the box.
        # And larger, because glyphs stand at whole pixels, which small ones show as uneven gaps.
        scale = _text_scale(text.size)
        tile = canvas.crop(text.box).resize((text.box.width * scale, text.box.height * scale), Image.Resampling.NEAREST)
        pen = ImageDraw.Draw(tile)
        for i, spans in enumerate(text.lines):
            y = (i * text.line_height + _baseline(text.size)) * scale
            for span in spans:
                pen.text((span.x * scale, y), span.text, span.colour, _font(span.bold, text.size * scale), anchor="ls")
        canvas.paste(tile.reduce(scale), text.box[:2])
    return canvas


# --- layout --------------------------------------------------------------------------------------------------------


class Box(NamedTuple):
    """Pixels from (left, top) to (right, bottom), the latter excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


class Span(NamedTuple):
    """A piece of a line: where it begins, from the left of its box."""

    x: float
    text: str
    bold: bool
    colour: str


@dataclass(frozen=True)
class PlacedText:
    box: Box
    lines: Sequence[Sequence[Span]]
    size: int
    line_height: int


@dataclass(frozen=True)
class PlacedPicture:
    """A picture and the pixels that it fills. `index` is its number in the cell; `picture` is None if it is missing."""

    box: Box
    row: int
    column: int
    index: int
    picture: Picture | None


@dataclass(frozen=True)
class Layout:
    """What is where: no box overlaps another, but that a missing picture holds the text that says so."""

    width: int
    height: int
    texts: Sequence[PlacedText]
    pictures: Sequence[PlacedPicture]
    rules: Sequence[Box]


def layout_grid(grid: Grid, cell_size: int | None = None) -> Layout:
    """Find the place of everything. Raises what `draw_grid` raises for `cell_size`."""
    sizes = [_size(p.image) for p in _pictures(grid) if p]
    slot_width = _default_cell_size(sizes) if cell_size is None else cell_size
    if not 16 <= slot_width <= 4096:
        raise ValueError(f"cell_size must be from 16 to 4096 pixels, not {slot_width}")
    tallest = max((height / width for width, height in sizes), default=1.0)
    slot_height = round(slot_width * min(max(tallest, 0.25), 2.0))
    seeds = max((len(c.pictures) for row in grid.rows for c in row if c), default=1) or 1
    across = seeds if seeds <= 3 else math.ceil(math.sqrt(seeds))
    block_width = across * slot_width + (across - 1) * _GAP
    # A page shows the whole width: the more columns, the larger the text must be to be read there.
    size = max(14, min(round(grid.columns * block_width / 70), round(block_width / 15)))
    column_width = max(block_width, 13 * size)
    gutter, margin = round(1.7 * size), round(1.7 * size)
    width = 2 * margin + grid.columns * column_width + (grid.columns - 1) * gutter
    lefts = [margin + i * (column_width + gutter) for i in range(grid.columns)]
    full = width - 2 * margin
    page = _Page()

    y = margin
    if grid.title.strip():
        y = page.text(margin, y, full, _wrap(grid.title, True, round(1.6 * size), full, 3, _INK), round(1.6 * size))
        y += round(0.7 * size)
    if grid.column_titles is not None:
        large = round(1.15 * size)
        heads = [_wrap(title, True, large, column_width, 2, _INK) for title in grid.column_titles]
        y = max(page.text(left, y, column_width, head, large) for left, head in zip(lefts, heads, strict=True))
        y += round(0.4 * size)
    table = _ScoreTable(grid, size, column_width)
    for i, row in enumerate(grid.rows):
        if grid.row_titles is not None:
            page.rules.append(Box(margin, y, width - margin, y + 1))
            y += round(0.6 * size)
            head = _wrap(grid.row_titles[i], True, size, full, 2, _INK)
            y = page.text(margin, y, full, head, size) + round(0.5 * size)
        y += 1  # the frame of the pictures
        bottom = y
        for j, cell in enumerate(row):
            pictures = cell.pictures if cell and cell.pictures else [None]
            for k, picture in enumerate(pictures):
                # The picture of one seed stands at one place in all cells.
                left = lefts[j] + k % across * (slot_width + _GAP)
                top = y + k // across * (slot_height + _GAP)
                slot = Box(left, top, left + slot_width, top + slot_height)
                page.picture(slot, i, j, k, picture, "" if cell else "nothing to show")
                bottom = max(bottom, slot.bottom)
        y = bottom + 1 + round(0.5 * size)
        # Scores first: they stand at one height in all columns, and captions of any length may follow.
        if table.names:
            lines = [table.lines(cell, row[0] if j else None) for j, cell in enumerate(row)]
            y = max(page.text(left, y, column_width, of, size) for left, of in zip(lefts, lines, strict=True))
            y += round(0.35 * size)
        captions = [_caption(cell, size, column_width) for cell in row]
        y = max(page.text(left, y, column_width, of, size) for left, of in zip(lefts, captions, strict=True))
        y += round(1.3 * size)
    small = max(12, round(0.85 * size))
    for note in (_legend(grid), grid.footer):
        y = page.text(margin, y, full, _wrap(note, False, small, full, 4, _QUIET), small)
    return Layout(width, y - round(0.3 * size) + margin, page.texts, page.pictures, page.rules)


class _Page:
    """What was placed so far."""

    def __init__(self):
        self.texts: list[PlacedText] = []
        self.pictures: list[PlacedPicture] = []
        self.rules: list[Box] = []

    def text(self, left: int, top: int, width: int, lines: Sequence[Sequence[Span]], size: int) -> int:
        """Place lines, and say where they end."""
        height = _line_height(size) * len(lines)
        if lines:
            box = Box(left, top, left + width, top + height)
            self.texts.append(PlacedText(box, lines, size, _line_height(size)))
        return top + height

    def picture(self, slot: Box, row: int, column: int, index: int, picture: Picture | None, missing: str) -> None:
        """Place a picture in the middle of its slot, or a note that fills the slot."""
        if picture is not None and not picture.flagged:
            width, height = _fitted(_size(picture.image), slot.width, slot.height)
            left, top = slot.left + (slot.width - width) // 2, slot.top + (slot.height - height) // 2
            self.pictures.append(PlacedPicture(Box(left, top, left + width, top + height), row, column, index, picture))
            return
        self.pictures.append(PlacedPicture(slot, row, column, index, picture))
        note = _WITHHELD if picture else missing or _MISSING
        size = max(8, min(20, slot.width // 18))
        lines = _wrap(note, False, size, slot.width - size, max(1, (slot.height - 4) // _line_height(size)), _QUIET)
        lines = [_centred(line, size, slot.width) for line in lines]
        if (height := _line_height(size) * len(lines)) <= slot.height:
            self.text(slot.left, slot.top + (slot.height - height) // 2, slot.width, lines, size)


class _ScoreTable:
    """Lines "name  value  ▲ +difference", in columns that stand alike under all pictures."""

    def __init__(self, grid: Grid, size: int, width: int):
        self.formats = _score_formats(grid)
        self.names = list(self.formats)
        self.size = size
        value = difference = 0.0
        for row in grid.rows:
            for j, cell in enumerate(row):
                for name in self.names:
                    value = max(value, _width(self._value(cell, name), False, size))
                    if j and (d := _difference(cell, row[0], name, self.formats[name])):
                        difference = max(difference, _width(d.text, True, size))
        gap = 0.8 * size
        room = width - value - gap - (difference + gap if difference else 0)
        name_width = min(room, max((_width(n, False, size) for n in self.names), default=0.0) + 0.2 * size)
        if name_width < 2 * size:  # enormous numbers leave no room for what they are
            name_width, self.heads = 0.0, {n: [] for n in self.names}
        else:
            self.heads = {n: (_wrap(n, False, size, name_width, 1, _QUIET) or [[]])[0] for n in self.names}
        self.value_right = name_width + gap + value
        self.difference_right = self.value_right + gap + difference

    def lines(self, cell: Cell | None, first: Cell | None) -> list[list[Span]]:
        if cell is None:
            return []
        lines = []
        for name in self.names:
            value = self._value(cell, name)
            line = [*self.heads[name], Span(self.value_right - _width(value, False, self.size), value, False, _INK)]
            if d := _difference(cell, first, name, self.formats[name]):
                x = self.difference_right - _width(d.text, True, self.size)
                line.append(Span(x, d.text, True, {1: _BETTER, -1: _WORSE, 0: _QUIET}[d.sign]))
            lines.append(line)
        return lines

    def _value(self, cell: Cell | None, name: str) -> str:
        return _number(cell.scores.get(name) if cell else None, self.formats[name])


def _caption(cell: Cell | None, size: int, width: int) -> list[list[Span]]:
    if cell is None:
        return []
    return _wrap(cell.prompt, _users_words(cell.original, cell.prompt), size, width, _CAPTION_LINES, _TEXT, _INK)


def _legend(grid: Grid) -> str:
    """What the numbers are, where that is not plain."""
    formats = _score_formats(grid)
    notes = []
    if any(_difference(c, row[0], n, f) for row in grid.rows for c in row[1:] for n, f in formats.items()):
        first = grid.column_titles[0] if grid.column_titles and grid.column_titles[0] else "the first column"
        notes.append(f"▲ better and ▼ worse than {first}")
    if formats and (seeds := max(len(c.pictures) for row in grid.rows for c in row if c)) > 1:
        notes.append(f"scores are means over {seeds} seeds")
    return " · ".join(notes)


def _pictures(grid: Grid) -> Iterator[Picture | None]:
    return (p for row in grid.rows for cell in row if cell for p in cell.pictures)


# --- numbers -------------------------------------------------------------------------------------------------------


class _Difference(NamedTuple):
    text: str
    sign: int  # of what is shown: 0 where the difference rounds to nothing


def _score_formats(grid: Grid) -> dict[str, str]:
    """The names of the scores, in order, each with the format of its numbers: as many decimals as tell them apart."""
    largest: dict[str, float] = {}
    for row in grid.rows:
        for cell in row:
            for name, value in (cell.scores if cell else {}).items():
                largest[name] = max(largest.get(name, 0.0), abs(value))
    return {name: ".3f" if v < 1 else ".2f" if v < 1000 else ".0f" if v < 1e7 else ".3g" for name, v in largest.items()}


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form).replace("-", "−")


def _difference(cell: Cell | None, first: Cell | None, name: str, form: str) -> _Difference | None:
    """A cell's score beside the first column's; with sign and arrow, so that it needs no colour to be read."""
    if cell is None or first is None or cell is first or name not in cell.scores or name not in first.scores:
        return None
    change = cell.scores[name] - first.scores[name]
    shown = format(abs(change), form)
    if float(shown) == 0:
        return _Difference(f"±{shown}", 0)
    return _Difference(f"▲ +{shown}" if change > 0 else f"▼ −{shown}", 1 if change > 0 else -1)


# --- text ----------------------------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """The text, of the same length, without what no font and no file can hold: control characters and halves of
    surrogate pairs."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)


def _users_words(original: str, prompt: str) -> list[bool]:
    """For each character of `prompt`, whether it is the user's: a rewrite begins with the user's text, and a prompt
    that somebody wrote anew may have some of its words."""
    own = [False] * len(prompt)
    if original and prompt.startswith(original):
        own[: len(original)] = [True] * len(original)
        return own
    words = list(re.finditer(r"\w+", prompt[:_MAX_COMPARED]))
    theirs = re.findall(r"\w+", original[:_MAX_COMPARED].casefold())
    matcher = SequenceMatcher(None, theirs, [w[0].casefold() for w in words], autojunk=False)
    for _, start, length in matcher.get_matching_blocks():
        if length:
            begin, end = words[start].start(), words[start + length - 1].end()
            own[begin:end] = [True] * (end - begin)
    return own


def _wrap(
    text: str,
    bold: bool | Sequence[bool],
    size: int,
    width: float,
    max_lines: int,
    colour: str,
    bold_colour: str | None = None,
) -> list[list[Span]]:
    """Lines that are no wider than `width`, broken between words; what does not fit ends in "…" after a whole word.

    Args:
        bold: For all of the text, or for each character.
        bold_colour: Of bold words; by default as the others.
    """
    clean = _clean(text)
    bold = [bold] * len(text) if isinstance(bold, bool) else bold
    most = int(max_lines * width / (0.2 * size)) + 1  # characters: narrower ones than a fifth of the size are rare
    words = [
        chunk
        for match in re.finditer(r"\S+", clean[:most])
        for chunk in _chunks(_pieces(match[0], bold[match.start() :]), size, width)
    ]
    space = _width(" ", False, size)
    lines: list[list[_Word]] = []
    used = math.inf
    for word in words:
        if used + space + word.width > width:
            lines.append([])
            used = -space
        lines[-1].append(word)
        used += space + word.width
    if len(lines) > max_lines or len(clean.rstrip()) > most:
        lines = lines[:max_lines]
        _shorten(lines[-1], size, width)
    placed = []
    for line in lines:
        x, spans = 0.0, []
        for word in line:
            for piece, is_bold in word.pieces:
                spans.append(Span(x, piece, is_bold, bold_colour or colour if is_bold else colour))
                x += _width(piece, is_bold, size)
            x += space
        placed.append(spans)
    return placed


class _Word(NamedTuple):
    pieces: tuple[tuple[str, bool], ...]  # text, bold
    width: float


def _pieces(word: str, bold: Sequence[bool]) -> list[tuple[str, bool]]:
    """A word cut where its weight changes ("horse," has the user's word and a comma that was added)."""
    cuts = [*(i for i in range(len(word)) if not i or bold[i] != bold[i - 1]), len(word)]
    return [(word[a:b], bold[a]) for a, b in pairwise(cuts)]


def _chunks(pieces: list[tuple[str, bool]], size: int, width: float) -> Iterator[_Word]:
    """The word; or, if it is wider than a line, as many parts as it takes."""
    taken: list[tuple[str, bool]] = []
    used = 0.0
    for text, bold in pieces:
        while text:
            room = width - used
            fits = len(text)
            if _width(text, bold, size) > room:
                fits = bisect_right(range(1, len(text) + 1), room, key=lambda n, t=text, b=bold: _width(t[:n], b, size))
                if seam := re.match(r".*[\W_]", text[:fits], re.DOTALL):
                    fits = seam.end()  # "policy:runs/" and "ppo" rather than "policy:runs/p" and "po"
                elif not fits and not taken:
                    fits = 1  # a character that is wider than the line
            if fits:
                taken.append((text[:fits], bold))
                used += _width(text[:fits], bold, size)
                text = text[fits:]
            if text:
                yield _Word(tuple(taken), used)
                taken, used = [], 0.0
    if taken:
        yield _Word(tuple(taken), used)


def _shorten(line: list[_Word], size: int, width: float) -> None:
    """End a line in "…", whole words before it if there is more than one."""
    space, dots = _width(" ", False, size), _width("…", False, size)
    while len(line) > 1 and sum(w.width + space for w in line) - space + dots > width:
        line.pop()
    *before, (text, bold) = line[-1].pieces
    text = text.rstrip(",;. ")
    while text and sum(_width(t, b, size) for t, b in before) + _width(text, bold, size) + dots > width:
        text = text[:-1]
    pieces = (*before, (text, bold), ("…", False))
    line[-1] = _Word(pieces, sum(_width(t, b, size) for t, b in pieces))


def _centred(line: list[Span], size: int, width: int) -> list[Span]:
    shift = (width - (line[-1].x + _width(line[-1].text, line[-1].bold, size))) / 2 if line else 0.0
    return [span._replace(x=span.x + shift) for span in line]


@lru_cache(maxsize=64)
def _font(bold: bool, size: int) -> ImageFont.FreeTypeFont:
    font = files("neuroprompt") / "assets" / "fonts" / f"Inter-{'Bold' if bold else 'Regular'}.ttf"
    return ImageFont.truetype(io.BytesIO(font.read_bytes()), size)


@lru_cache(maxsize=1 << 14)
def _width(text: str, bold: bool, size: int) -> float:
    scale = _text_scale(size)
    return _font(bold, size * scale).getlength(text) / scale


def _text_scale(size: int) -> int:
    return max(1, min(4, 96 // size))


def _line_height(size: int) -> int:
    return round(1.4 * size)


def _baseline(size: int) -> int:
    """From the top of a line, such that capitals stand in its middle."""
    return round(0.7 * size + 0.36 * size)


# --- pictures ------------------------------------------------------------------------------------------------------


def _size(image: Image.Image | Tensor) -> tuple[int, int]:
    """(width, height)"""
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            raise ValueError(f"a picture must be of shape (3, height, width), not {tuple(image.shape)}")
        return image.shape[2], image.shape[1]
    if not all(image.size):
        raise ValueError(f"a picture of {image.width} x {image.height} pixels")
    return image.size


def _as_pil(image: Image.Image | Tensor) -> Image.Image:
    if not isinstance(image, Tensor):
        return image
    _size(image)
    pixels = image.detach().float().nan_to_num(0).clamp(0, 1).mul(255).round()
    return Image.fromarray(pixels.to("cpu", torch.uint8).permute(1, 2, 0).contiguous().numpy())


def _as_rgb(image: Image.Image | Tensor) -> Image.Image:
    """On white, where it is transparent."""
    picture = _as_pil(image)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def _default_cell_size(sizes: Sequence[tuple[int, int]]) -> int:
    width = max((width for width, _ in sizes), default=_SMALL)
    return min(width * math.ceil(_SMALL / width) if width < _SMALL else width, _LARGE)


def _fitted(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """The largest size of the same shape that fits."""
    scale = min(width / size[0], height / size[1])
    return min(width, max(1, round(size[0] * scale))), min(height, max(1, round(size[1] * scale)))


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)


# --- HTML ----------------------------------------------------------------------------------------------------------


def grid_html(grid: Grid) -> str:
    """The comparison as one page that needs nothing else: it opens from a disk, without a server or a network.

    A click enlarges a picture; the arrow keys then go through the methods of one seed, and through the prompts. All
    numbers stand in the page as JSON, too (`<script type="application/json" id="neuroprompt">`).
    """
    formats = _score_formats(grid)
    heads = grid.column_titles or [""] * grid.columns
    columns = "".join(f"<div>{_escape(title)}</div>" for title in heads) if any(heads) else ""
    rows = []
    for i, row in enumerate(grid.rows):
        title = grid.row_titles[i] if grid.row_titles is not None else ""
        cells = "".join(_cell_html(cell, row[0] if j else None, formats, i, j, heads[j]) for j, cell in enumerate(row))
        head = f"<h2>{_escape(title)}</h2>" if title else ""
        rows.append(f'<section>{head}<div class="row">{cells}</div></section>')
    # "<" cannot end the script element when it is not there.
    record = (
        json.dumps(grid.to_dict(), allow_nan=False)
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    )
    parts = {
        "TITLE": _escape(grid.title or "Comparison"),
        "HEADING": f"<h1>{_escape(grid.title)}</h1>" if grid.title else "",
        "STYLE": _STYLE.replace("COLUMNS", str(grid.columns)),
        "HEADS": f'<div class="row heads">{columns}</div>' if columns else "",
        "ROWS": "\n".join(rows),
        "NOTES": "".join(f"<p>{_escape(note)}</p>" for note in (_legend(grid), grid.footer) if note),
        "RECORD": record,
        "SCRIPT": _SCRIPT,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _TEMPLATE)


def _cell_html(
    cell: Cell | None, first: Cell | None, formats: Mapping[str, str], row: int, column: int, title: str
) -> str:
    if cell is None:
        return '<figure><div class="pictures"><div class="empty">nothing to show</div></div></figure>'
    pictures = []
    for k, picture in enumerate(cell.pictures or [None]):
        if picture is None or picture.flagged:
            pictures.append(f'<div class="empty">{_WITHHELD if picture else _MISSING}</div>')
            continue
        width, height = _size(picture.image)
        seed = "" if picture.seed is None else f", seed {picture.seed}"
        pictures.append(
            f'<button data-row="{row}" data-column="{column}" data-index="{k}" title="enlarge">'
            f'<img src="{_data_uri(picture.image)}" alt="{_escape(f"{title}: {cell.prompt}{seed}")}" '
            f'width="{width}" height="{height}"></button>'
        )
    across = len(pictures) if len(pictures) <= 3 else math.ceil(math.sqrt(len(pictures)))
    caption = "".join(
        f"<b>{_escape(text)}</b>" if own else _escape(text)
        for text, own in _pieces(cell.prompt, _users_words(cell.original, cell.prompt))
    )
    scores = "".join(_score_html(cell, first, name, form) for name, form in formats.items())
    return (
        f'<figure><div class="pictures" style="--across:{across}">{"".join(pictures)}</div>'
        f"{f'<table>{scores}</table>' if scores else ''}<figcaption>{caption}</figcaption></figure>"
    )


def _score_html(cell: Cell, first: Cell | None, name: str, form: str) -> str:
    difference = ""
    if d := _difference(cell, first, name, form):
        kind = {1: "better", -1: "worse", 0: "same"}[d.sign]
        difference = f'<span class="{kind}">{d.text}</span>'
    value = _number(cell.scores.get(name), form)
    return f'<tr><th scope="row">{_escape(name)}</th><td>{value}</td><td>{difference}</td></tr>'


def _data_uri(image: Image.Image | Tensor) -> str:
    """Small pictures without loss, transparent ones as PNG; what no screen shows at once is shrunk to 2048 pixels."""
    picture = _as_pil(image)
    width, height = _fitted(picture.size, 2048, 2048)
    transparent = picture.has_transparency_data
    if transparent:
        picture = picture.convert("RGBA")
    else:
        picture = picture.convert("RGB")
    if width < picture.width:
        picture = _resized(picture, width, height)
    file = io.BytesIO()
    if transparent:
        picture.save(file, "PNG", optimize=True)
    elif max(picture.size) <= _SMALL:
        picture.save(file, "WEBP", lossless=True)
    else:
        picture.save(file, "WEBP", quality=90)
    kind = "png" if transparent else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _escape(text: str) -> str:
    return html.escape(_clean(text))


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{{TITLE}}</title>
<style>{{STYLE}}</style>
</head>
<body>
<main>
{{HEADING}}
{{HEADS}}
{{ROWS}}
<footer>{{NOTES}}</footer>
</main>
<dialog aria-label="Enlarged picture">
<img alt="">
<div><strong></strong><p></p><small></small></div>
<button type="button" aria-label="Close">×</button>
</dialog>
<script type="application/json" id="neuroprompt">{{RECORD}}</script>
<script>{{SCRIPT}}</script>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #18181b; --text: #3f3f46; --quiet: #71717a; --rule: #e4e4e7;
  --empty: #f4f4f5; --better: #00785a; --worse: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --paper: #18181b; --ink: #fafafa; --text: #d4d4d8; --quiet: #a1a1aa;
  --rule: #3f3f46; --empty: #27272a; --better: #34d399; --worse: #fb923c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
main { max-width: calc(COLUMNS * 27rem + 4rem); min-width: calc(COLUMNS * 11rem); margin: 0 auto;
  padding: 1.5rem 2rem; }
h1 { margin: 0 0 1rem; color: var(--ink); font-size: 1.6rem; line-height: 1.2; }
h2 { margin: 0 0 .7rem; color: var(--ink); font-size: 1rem; }
section { padding: .8rem 0 1.6rem; border-top: 1px solid var(--rule); }
.row { display: grid; grid-template-columns: repeat(COLUMNS, minmax(0, 1fr)); gap: 1.6rem; }
.heads { position: sticky; top: 0; z-index: 1; padding: .5rem 0; background: var(--paper); color: var(--ink);
  font-size: 1.1rem; font-weight: 700; overflow-wrap: anywhere; }
figure { margin: 0; min-width: 0; }
.pictures { display: grid; grid-template-columns: repeat(var(--across, 1), minmax(0, 1fr)); gap: 6px; }
.pictures button { display: block; padding: 0; border: 0; background: none; cursor: zoom-in; }
.pictures button:focus-visible { outline: 3px solid #2563eb; outline-offset: 2px; }
.pictures img { display: block; width: 100%; height: auto; outline: 1px solid var(--rule); }
.empty { display: grid; place-items: center; aspect-ratio: 1; padding: 1rem; background: var(--empty);
  color: var(--quiet); outline: 1px solid var(--rule); text-align: center; }
figcaption { margin-top: .6rem; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
table { margin-top: .6rem; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { padding: 0; color: var(--quiet); font-weight: 400; text-align: left; }
td { padding: 0 0 0 .8rem; color: var(--ink); text-align: right; }
td span { font-weight: 700; white-space: nowrap; }
.better { color: var(--better); } .worse { color: var(--worse); } .same { color: var(--quiet); }
footer { border-top: 1px solid var(--rule); padding-top: .8rem; color: var(--quiet); font-size: .87rem; }
footer p { margin: .2rem 0; }
dialog { width: 100vw; height: 100dvh; max-width: none; max-height: none; padding: 1rem; border: 0;
  background: var(--paper); color: var(--text); }
dialog[open] { display: grid; grid-template-rows: minmax(0, 1fr) auto; gap: .8rem; justify-items: center; }
dialog img { width: 100%; height: 100%; object-fit: contain; cursor: zoom-out; }
dialog div { max-width: 60rem; text-align: center; }
dialog strong { color: var(--ink); } dialog p { margin: .2rem 0; } dialog small { color: var(--quiet); }
dialog > button { position: fixed; top: .6rem; right: .9rem; border: 0; background: none; color: var(--quiet);
  font-size: 2rem; line-height: 1; cursor: pointer; }
"""

_SCRIPT = """
const record = JSON.parse(document.getElementById("neuroprompt").textContent);
const dialog = document.querySelector("dialog"), large = dialog.querySelector("img");
const place = (b) => ["row", "index", "column"].map((key) => Number(b.dataset[key]));
// Pictures of one seed follow one another, so that an arrow key changes the method and nothing else.
const pictures = [...document.querySelectorAll(".pictures button")].sort((a, b) => {
  const [p, q] = [place(a), place(b)];
  return p[0] - q[0] || p[1] - q[1] || p[2] - q[2];
});
let at = 0;

function show(i) {
  at = i;
  const [row, index, column] = place(pictures[at]);
  const cell = record.rows[row].cells[column], picture = cell.pictures[index];
  const image = pictures[at].querySelector("img");
  const scores = Object.entries(picture.scores).map(([name, value]) => `${name} ${value?.toPrecision(4) ?? "–"}`);
  const seed = picture.seed === null ? [] : [`seed ${picture.seed}`];
  large.src = image.src;
  large.alt = image.alt;
  dialog.querySelector("strong").textContent = record.columns[column];
  dialog.querySelector("p").textContent = cell.prompt;
  dialog.querySelector("small").textContent = [...seed, ...scores].join(" · ");
  if (!dialog.open) dialog.showModal();
}

function rowAway(step) {
  const [row, index, column] = place(pictures[at]);
  for (let r = row + step; r >= 0 && r < record.rows.length; r += step) {
    const i = pictures.findIndex((b) => place(b).join() === [r, index, column].join());
    if (i >= 0) return i;
  }
  return at;
}

pictures.forEach((button, i) => button.addEventListener("click", () => show(i)));
dialog.addEventListener("click", () => dialog.close());
dialog.querySelector("div").addEventListener("click", (event) => event.stopPropagation());
dialog.addEventListener("close", () => pictures[at].focus());
dialog.addEventListener("keydown", (event) => {
  const next = {
    ArrowRight: () => Math.min(at + 1, pictures.length - 1),
    ArrowLeft: () => Math.max(at - 1, 0),
    ArrowDown: () => rowAway(1),
    ArrowUp: () => rowAway(-1),
  }[event.key];
  if (!next) return;
  event.preventDefault();
  show(next());
});
"""


# --- looks ---------------------------------------------------------------------------------------------------------

_PAPER, _INK, _TEXT, _QUIET, _RULE, _EMPTY = "#ffffff", "#18181b", "#3f3f46", "#71717a", "#e4e4e7", "#f4f4f5"
_BETTER, _WORSE = "#00785a", "#c2410c"  # bluish green and vermilion, which colour-blind people tell apart
_GAP = 6  # pixels between the pictures of a cell
_SMALL, _LARGE = 256, 384  # pixels: a picture's default width lies between
_CAPTION_LINES = 8
_MISSING, _WITHHELD = "missing", "withheld by the safety checker"
_MAX_COMPARED = 4096  # characters of a prompt in which the user's words are looked for
