"""Text set in the font that ships with the package: lines that fit, with bold words in them."""

import io
import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from PIL import ImageFont

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


@lru_cache(maxsize=1 << 14)
def text_width(text: str, bold: bool, size: int) -> float:
    scale = text_scale(size)
    return font_of(bold, size * scale).getlength(text) / scale


def text_scale(size: int) -> int:
    return max(1, min(4, 96 // size))


def line_height_of(size: int) -> int:
    return round(1.4 * size)


def baseline(size: int) -> int:
    """From the top of a line, such that capitals stand in its middle."""
    return round(0.7 * size + 0.36 * size)


@lru_cache(maxsize=64)
def font_of(bold: bool, size: int) -> ImageFont.FreeTypeFont:
    font = files("neuroprompt") / "assets" / "fonts" / f"Inter-{'Bold' if bold else 'Regular'}.ttf"
    return ImageFont.truetype(io.BytesIO(font.read_bytes()), size)


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
