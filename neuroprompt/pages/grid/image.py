"""The comparison as an image: laid out first (every text and picture with its box, none over another), painted then."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageDraw

from neuroprompt.image_files import on_white
from neuroprompt.pages.grid.contents import (
    MISSING,
    SMALL,
    WITHHELD,
    Cell,
    Grid,
    Picture,
    across,
    caption,
    difference_to,
    fit,
    legend,
    resize,
    score_formats,
    size_of,
    to_pil,
)
from neuroprompt.pages.grid.text import Span, baseline, centre, draw_span, line_height_of, text_scale, text_width, wrap
from neuroprompt.pages.tables import format_number

MAX_PIXELS = 2**27

_PAPER, _INK, _TEXT, _QUIET, _RULE, _EMPTY = "#ffffff", "#18181b", "#3f3f46", "#71717a", "#e4e4e7", "#f4f4f5"
_BETTER, _WORSE = "#00785a", "#c2410c"  # bluish green and vermilion, which colour-blind people tell apart
_GAP = 6  # pixels between the pictures of a cell
_LARGE = 384  # pixels: a picture's default width lies between SMALL and this
_CAPTION_LINES = 8


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
            canvas.paste(resize(on_white(to_pil(placed.picture.image)), box.width, box.height), box[:2])
    for text in layout.texts:
        # Painted apart and put in its place, so that no accent or overhang reaches beyond the box.
        # And larger, because glyphs stand at whole pixels, which small ones show as uneven gaps.
        scale = text_scale(text.size)
        tile = canvas.crop(text.box).resize((text.box.width * scale, text.box.height * scale), Image.Resampling.NEAREST)
        pen = ImageDraw.Draw(tile)
        for i, spans in enumerate(text.lines):
            for span in spans:
                draw_span(pen, span, i * text.line_height + baseline(text.size), text.size, scale)
        canvas.paste(tile.reduce(scale), text.box[:2])
    return canvas


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
    sizes = [size_of(p.image) for p in _pictures(grid) if p]
    slot_width = _default_cell_size(sizes) if cell_size is None else cell_size
    if not 16 <= slot_width <= 4096:
        raise ValueError(f"cell_size must be from 16 to 4096 pixels, not {slot_width}")
    tallest = max((height / width for width, height in sizes), default=1.0)
    slot_height = round(slot_width * min(max(tallest, 0.25), 2.0))
    seeds = max((len(c.pictures) for row in grid.rows for c in row if c), default=1) or 1
    side_by_side = across(seeds)
    block_width = side_by_side * slot_width + (side_by_side - 1) * _GAP
    # A page shows the whole width: the more columns, the larger the text must be to be read there.
    size = max(14, min(round(grid.columns * block_width / 70), round(block_width / 15)))
    table = _ScoreTable(grid, size)
    column_width = max(block_width, 13 * size, math.ceil(table.least_width))
    table.stretch(column_width)
    gutter, margin = round(1.7 * size), round(1.7 * size)
    width = 2 * margin + grid.columns * column_width + (grid.columns - 1) * gutter
    lefts = [margin + i * (column_width + gutter) for i in range(grid.columns)]
    full = width - 2 * margin
    page = _Page()

    y = margin
    if grid.title.strip():
        y = page.text(margin, y, full, wrap(grid.title, True, round(1.6 * size), full, 3, _INK), round(1.6 * size))
        y += round(0.7 * size)
    if grid.column_titles is not None:
        large = round(1.15 * size)
        heads = [wrap(title, True, large, column_width, 2, _INK) for title in grid.column_titles]
        y = max(page.text(left, y, column_width, head, large) for left, head in zip(lefts, heads, strict=True))
        y += round(0.4 * size)
    for i, row in enumerate(grid.rows):
        if grid.row_titles is not None:
            page.rules.append(Box(margin, y, width - margin, y + 1))
            y += round(0.6 * size)
            head = wrap(grid.row_titles[i], True, size, full, 2, _INK)
            y = page.text(margin, y, full, head, size) + round(0.5 * size)
        y += 1  # the frame of the pictures
        bottom = y
        for j, cell in enumerate(row):
            pictures = cell.pictures if cell and cell.pictures else [None]
            for k, picture in enumerate(pictures):
                # The picture of one seed stands at one place in all cells.
                left = lefts[j] + k % side_by_side * (slot_width + _GAP)
                top = y + k // side_by_side * (slot_height + _GAP)
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
    for note in (legend(grid), grid.footer):
        y = page.text(margin, y, full, wrap(note, False, small, full, 4, _QUIET), small)
    return Layout(width, y - round(0.3 * size) + margin, page.texts, page.pictures, page.rules)


class _Page:
    """What was placed so far."""

    def __init__(self):
        self.texts: list[PlacedText] = []
        self.pictures: list[PlacedPicture] = []
        self.rules: list[Box] = []

    def text(self, left: int, top: int, width: int, lines: Sequence[Sequence[Span]], size: int) -> int:
        """Place lines, and say where they end."""
        height = line_height_of(size) * len(lines)
        if lines:
            box = Box(left, top, left + width, top + height)
            self.texts.append(PlacedText(box, lines, size, line_height_of(size)))
        return top + height

    def picture(self, slot: Box, row: int, column: int, index: int, picture: Picture | None, missing: str) -> None:
        """Place a picture in the middle of its slot, or a note that fills the slot."""
        if picture is not None and not picture.flagged:
            width, height = fit(size_of(picture.image), slot.width, slot.height)
            left, top = slot.left + (slot.width - width) // 2, slot.top + (slot.height - height) // 2
            self.pictures.append(PlacedPicture(Box(left, top, left + width, top + height), row, column, index, picture))
            return
        self.pictures.append(PlacedPicture(slot, row, column, index, picture))
        note = WITHHELD if picture else missing or MISSING
        size = max(8, min(20, slot.width // 18))
        lines = wrap(note, False, size, slot.width - size, max(1, (slot.height - 4) // line_height_of(size)), _QUIET)
        lines = [centre(line, size, slot.width) for line in lines]
        if (height := line_height_of(size) * len(lines)) <= slot.height:
            self.text(slot.left, slot.top + (slot.height - height) // 2, slot.width, lines, size)


class _ScoreTable:
    """Lines "name  value  ▲ +difference", in columns that stand alike under all pictures."""

    def __init__(self, grid: Grid, size: int):
        self.formats = score_formats(grid)
        self.names = list(self.formats)
        self.size = size
        value = difference = 0.0
        for row in grid.rows:
            for j, cell in enumerate(row):
                for name in self.names:
                    value = max(value, text_width(self._value(cell, name), False, size))
                    if j and (d := difference_to(cell, row[0], name, self.formats[name])):
                        difference = max(difference, text_width(d.text, True, size))
        self.value, self.difference = value, difference  # their widths
        self.least_width = value + (0.8 * size + difference if difference else 0.0)

    def stretch(self, width: int) -> None:
        """Set the columns up within `width`, which is at least `least_width`."""
        size, gap = self.size, 0.8 * self.size
        room = width - self.least_width - gap
        name_width = min(room, max((text_width(n, False, size) for n in self.names), default=0.0) + 0.2 * size)
        if room < 2 * size:  # enormous numbers leave no room for what they are
            name_width, self.heads = 0.0, {n: [] for n in self.names}
        else:
            self.heads = {n: (wrap(n, False, size, name_width, 1, _QUIET) or [[]])[0] for n in self.names}
        self.value_right = (name_width + gap if name_width else 0.0) + self.value
        self.difference_right = self.value_right + gap + self.difference

    def lines(self, cell: Cell | None, first: Cell | None) -> list[list[Span]]:
        if cell is None:
            return []
        lines = []
        for name in self.names:
            value = self._value(cell, name)
            line = [*self.heads[name], Span(self.value_right - text_width(value, False, self.size), value, False, _INK)]
            if d := difference_to(cell, first, name, self.formats[name]):
                x = self.difference_right - text_width(d.text, True, self.size)
                line.append(Span(x, d.text, True, {1: _BETTER, -1: _WORSE, 0: _QUIET}[d.sign]))
            lines.append(line)
        return lines

    def _value(self, cell: Cell | None, name: str) -> str:
        return format_number(cell.scores.get(name) if cell else None, self.formats[name])


def _caption(cell: Cell | None, size: int, width: int) -> list[list[Span]]:
    if cell is None:
        return []
    return wrap(*caption(cell), size, width, _CAPTION_LINES, _TEXT, _INK)


def _pictures(grid: Grid) -> Iterator[Picture | None]:
    return (p for row in grid.rows for cell in row if cell for p in cell.pictures)


def _default_cell_size(sizes: Sequence[tuple[int, int]]) -> int:
    width = max((width for width, _ in sizes), default=SMALL)
    return min(width * math.ceil(SMALL / width) if width < SMALL else width, _LARGE)
