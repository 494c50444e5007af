"""Text set in the font that ships with the package, so that it looks alike everywhere: lines that fit, with bold words.

A character that the font lacks (it has Latin, Greek, Cyrillic and symbols) is a box with its code point in it, as in
Unicode's "last resort" font: 日 is the box 65E5. What is invisible (joiners, marks of direction) takes no room.
"""

import io
import math
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import groupby
from typing import NamedTuple

from PIL import ImageDraw, ImageFont

from neuroprompt.pages.grid.contents import cut_pieces
from neuroprompt.pages.page import printable


class Span(NamedTuple):
    """A piece of a line: where it begins, from the left of its box."""

    x: float
    text: str
    bold: bool
    colour: str


def wrap(
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
    clean = printable(text)
    bold = [bold] * len(text) if isinstance(bold, bool) else bold
    most = int(max_lines * width / (0.2 * size)) + 1  # characters: narrower ones than a fifth of the size are rare
    words = [
        chunk
        for match in re.finditer(r"\S+", clean[:most])
        for chunk in _chunks(cut_pieces(match[0], bold[match.start() :]), size, width)
    ]
    space = text_width(" ", False, size)
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
                x += text_width(piece, is_bold, size)
            x += space
        placed.append(spans)
    return placed


def centre(line: list[Span], size: int, width: int) -> list[Span]:
    shift = (width - (line[-1].x + text_width(line[-1].text, line[-1].bold, size))) / 2 if line else 0.0
    return [span._replace(x=span.x + shift) for span in line]


def draw_span(pen: ImageDraw.ImageDraw, span: Span, y: float, size: int, scale: int) -> None:
    """Paint a piece of a line whose baseline is at y.

    Args:
        pen: For an image that is `scale` times as large as what it shows (see `text_scale`).
    """
    x = span.x
    for run, is_there in _runs(span.text):
        if is_there:
            pen.text((x * scale, y * scale), run, span.colour, font_of(span.bold, size * scale), anchor="ls")
        else:
            _draw_box(pen, _box(run), x, y, size, scale, span.colour, span.bold)
        x += _run_width(run, is_there, span.bold, size)


@lru_cache(maxsize=1 << 14)
def text_width(text: str, bold: bool, size: int) -> float:
    return sum(_run_width(run, is_there, bold, size) for run, is_there in _runs(text))


def text_scale(size: int) -> int:
    return max(1, min(4, 96 // size))


def line_height_of(size: int) -> int:
    return round(1.4 * size)


def baseline(size: int) -> int:
    """From the top of a line, such that capitals stand in its middle."""
    return round(0.7 * size + 0.36 * size)


@lru_cache(maxsize=64)
def font_of(bold: bool, size: int, layout: ImageFont.Layout | None = None) -> ImageFont.FreeTypeFont:
    font = files("neuroprompt") / "assets" / "fonts" / f"Inter-{'Bold' if bold else 'Regular'}.ttf"
    return ImageFont.truetype(io.BytesIO(font.read_bytes()), size, layout_engine=layout)


# --- characters that the font lacks ----------------------------------------------------------------------------------


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """What the font has in one piece, and what it lacks character by character; without what is invisible."""
    for is_there, run in groupby(text, _has_glyph):
        if is_there:
            yield "".join(run), True
        else:
            yield from ((char, False) for char in run if not _is_invisible(char))


@lru_cache(maxsize=1 << 14)
def _has_glyph(char: str) -> bool:
    """Whether it looks otherwise than what no font has."""
    font = font_of(False, 32, ImageFont.Layout.BASIC)
    return bytes(font.getmask(char)) != bytes(font.getmask("\uffff"))


def _is_invisible(char: str) -> bool:
    return unicodedata.category(char) == "Cf" or "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _box(char: str) -> list[str]:
    """The code point's digits, in two rows."""
    code = f"{ord(char):04X}" if ord(char) < 1 << 16 else f"{ord(char):06X}"
    return [code[: len(code) // 2], code[len(code) // 2 :]]


def _run_width(run: str, is_there: bool, bold: bool, size: int) -> float:
    scale = text_scale(size)
    if is_there:
        return font_of(bold, size * scale).getlength(run) / scale
    return (0.32 * len(_box(run)[0]) + 0.36) * size


def _draw_box(
    pen: ImageDraw.ImageDraw, rows: list[str], x: float, y: float, size: int, scale: int, colour: str, bold: bool
) -> None:
    em = size * scale  # digits of half a line's size in two rows, in a frame from a little below the line to its top
    left, right = (x + 0.06 * size) * scale, (x + (0.32 * len(rows[0]) + 0.3) * size) * scale
    pen.rectangle((left, y * scale - 0.94 * em, right, y * scale + 0.2 * em), None, colour, max(1, round(em / 18)))
    font = font_of(bold, round(0.46 * em))
    for row, above in zip(rows, (0.48, -0.07), strict=True):
        for i, digit in enumerate(row):
            centre = left + (right - left) * (i + 0.5) / len(row)
            pen.text((centre, y * scale - above * em), digit, colour, font, anchor="ms")


# --- words -----------------------------------------------------------------------------------------------------------


class _Word(NamedTuple):
    pieces: tuple[tuple[str, bool], ...]  # text, bold
    width: float


def _chunks(pieces: list[tuple[str, bool]], size: int, width: float) -> Iterator[_Word]:
    """The word; or, if it is wider than a line, as many parts as it takes."""
    taken: list[tuple[str, bool]] = []
    used = 0.0
    for text, bold in pieces:
        while text:
            room = width - used
            fits = len(text)
            if text_width(text, bold, size) > room:
                lengths = range(1, len(text) + 1)
                fits = bisect_right(lengths, room, key=lambda n, t=text, b=bold: text_width(t[:n], b, size))
                if seam := re.match(r".*[\W_]", text[:fits], re.DOTALL):
                    fits = seam.end()  # "policy:runs/" and "ppo" rather than "policy:runs/p" and "po"
                elif not fits and not taken:
                    fits = 1  # a character that is wider than the line
            if fits:
                taken.append((text[:fits], bold))
                used += text_width(text[:fits], bold, size)
                text = text[fits:]
            if text:
                yield _Word(tuple(taken), used)
                taken, used = [], 0.0
    if taken:
        yield _Word(tuple(taken), used)


def _shorten(line: list[_Word], size: int, width: float) -> None:
    """End a line in "…", whole words before it if there is more than one."""
    space, dots = text_width(" ", False, size), text_width("…", False, size)
    while len(line) > 1 and sum(w.width + space for w in line) - space + dots > width:
        line.pop()
    *before, (text, bold) = line[-1].pieces
    text = text.rstrip(",;. ")
    while text and sum(text_width(t, b, size) for t, b in before) + text_width(text, bold, size) + dots > width:
        text = text[:-1]
    pieces = (*before, (text, bold), ("…", False))
    line[-1] = _Word(pieces, sum(text_width(t, b, size) for t, b in pieces))
