"""Small plots as SVG, for a page: the geometry is here, and the shapes are in ``templates/*.svg``.

An interval is ``{"mean", "low", "high"}`` of a `statistics.Interval`, whose ends are None where prompts are too few. A
plot is as wide as its place.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from neuroprompt.pages.page import render
from neuroprompt.pages.tables import format_number
from neuroprompt.terminal import counted

_WIDTH = 420
_ROW = 26


def forest_plot(title: str, rows: Sequence[tuple[str, Mapping | None]]) -> Markup:
    """Means and their intervals, a row each, beside a line at zero: coloured where the interval leaves it out.

    Args:
        title: What is measured.
        rows: A name and an interval, or None where there is nothing.
    """
    left = _room_for(name for name, _ in rows)
    ends = [end for _, value in rows if value for end in value.values() if end is not None]
    form = _form(value for _, value in rows)
    return render(
        "forest.svg",
        title=title,
        width=_WIDTH,
        height=30 + _ROW * len(rows) + 26,
        left=left,
        x=_Axis(min([0.0, *ends]), max([0.0, *ends]), left, _WIDTH - 64),
        rows=[
            {"name": name, "value": value, "y": 30 + _ROW * (i + 0.5)}
            | (_say(name, value) | {"number": format_number(value["mean"], form)} if value else {})
            for i, (name, value) in enumerate(rows)
        ],
    )


def difference_plot(title: str, differences: Sequence[float]) -> Markup:
    """Each prompt's difference, from the best to the worst: how many gain and lose, and how much."""
    top, bottom, left, right = 30, 164, 54, _WIDTH - 14
    values = sorted(differences, reverse=True)
    y = _Axis(min([0.0, *values[-1:]]), max([0.0, *values[:1]]), bottom, top)
    step = max(1, math.ceil(len(values) / 400))  # a prompt may be narrower than a pixel
    bars = [math.fsum(part) / len(part) for part in (values[i : i + step] for i in range(0, len(values), step))]
    wide = (right - left) / max(1, len(bars))

    def path(sign: int) -> str:
        return "".join(
            f"M{left + i * wide:.2f} {y(0)}V{y(mean)}h{max(wide, 0.5):.2f}V{y(0)}z"
            for i, mean in enumerate(bars)
            if mean * sign > 0
        )

    better, worse = sum(value > 0 for value in values), sum(value < 0 for value in values)
    equal = len(values) - better - worse
    return render(
        "differences.svg",
        title=title,
        width=_WIDTH,
        height=190,
        left=left,
        right=right,
        y=y,
        paths={"better": path(1), "worse": path(-1)},
        said=f"{counted(better, 'prompt')} better, {worse} worse" + (f", {equal} equal" if equal else ""),
    )


def curve_plot(title: str, points: Sequence[tuple[float, float]], x_title: str = "step") -> Markup:
    """A line through (x, y)."""
    top, bottom, left, right = 30, 150, 54, _WIDTH - 14
    xs, ys = zip(*points, strict=True)
    return render(
        "curve.svg",
        title=title,
        width=_WIDTH,
        height=190,
        top=top,
        bottom=bottom,
        left=left,
        right=right,
        x=_Axis(min(xs), max(xs), left, right),
        y=_Axis(min(ys), max(ys), bottom, top),
        points=points,
        x_title=x_title,
        said=f"{x_title} {points[-1][0]:g}: {points[-1][1]:.4g}",
    )


def heat_map(
    title: str, rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], Mapping | None]
) -> Markup:
    """Effects by colour: the better or the worse, the stronger; bold where the interval leaves out zero.

    Args:
        title: What is measured.
        rows, columns: Their names.
        cells: An interval by (row, column), or None where there is nothing.
    """
    left, top, high = _room_for(rows), 44, 24
    longest = 7 * min(max(map(len, columns)), 22)
    if slanted := longest > (_WIDTH - left) / len(columns):
        left, top = max(left, round(0.85 * longest)), 34 + round(0.6 * longest)
    wide = (_WIDTH - left) / len(columns)
    most = max((abs(value["mean"]) for value in cells.values() if value), default=0) or 1.0
    form = _form(cells.values())

    def cell(row: str, column: str, x: float) -> dict[str, Any]:
        if not (value := cells[row, column]):
            return {"x": x, "colour": "rule", "strength": 1, "number": "", "weight": 400, "said": "nothing to compare"}
        number = format_number(value["mean"], form)
        return _say(f"{row}, {column}", value) | {
            "x": x,
            "colour": "better" if value["mean"] > 0 else "worse",
            "strength": round(0.75 * abs(value["mean"]) / most, 3),  # text has to be read on it
            "number": number if wide > 7 * len(number) else "",
        }

    lefts = {column: round(left + j * wide, 1) for j, column in enumerate(columns)}
    return render(
        "heat_map.svg",
        title=title,
        width=_WIDTH,
        height=top + high * len(rows) + 4,
        left=left,
        top=top,
        cell_width=round(wide, 1),
        cell_height=high,
        slanted=slanted,
        columns=[{"name": name, "x": round(x + wide / 2, 1)} for name, x in lefts.items()],
        rows=[
            {"name": row, "y": top + high * i, "cells": [cell(row, column, x) for column, x in lefts.items()]}
            for i, row in enumerate(rows)
        ],
    )


class _Axis:
    """From values to pixels, with some room at the ends."""

    def __init__(self, low: float, high: float, start: float, end: float):
        span = high - low or abs(high)
        if span < 1e-300:  # what cannot be divided any more
            span = 1.0
        self.low, self.high = low - 0.04 * span, high + 0.04 * span
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """About four round numbers: where they are, and how they are written."""
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
        first = math.ceil(self.low / step)
        values = [i * step for i in range(first, math.floor(self.high / step) + 1)]
        return [(self(value), format_number(value, ".6g")) for value in values]


def _room_for(names: Iterable[str]) -> int:
    """The width that the names of rows take, which are cut at 24 characters."""
    return min(180, 12 + 7 * max(map(len, names), default=0))


def _say(name: str, value: Mapping) -> dict[str, Any]:
    """A mean with its interval in words, and what shows on which side of zero they are."""
    mean, low, high = (value[end] for end in ("mean", "low", "high"))
    verdict = 0 if low is None else (low > 0) - (high < 0)
    interval = "" if low is None else f", 95 % from {low:+.4g} to {high:+.4g}"
    return {
        "said": f"{name}: {mean:+.4g}{interval}",
        "colour": ("line", "better", "worse")[verdict],
        "weight": 700 if verdict else 400,
    }


def _form(intervals: Iterable[Mapping | None]) -> str:
    """The format of their means: three digits of the largest one, and as many decimals for all."""
    most = max((abs(value["mean"]) for value in intervals if value), default=0)
    decimals = 2 - math.floor(math.log10(most)) if most else 0
    return f"+.{min(max(decimals, 0), 6)}f"
