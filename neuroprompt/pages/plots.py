"""Small plots as SVG, for a page: what stands in it is text and shapes, coloured by the page's CSS variables.

The page sets ``--ink``, ``--quiet``, ``--rule``, ``--line``, ``--better`` and ``--worse``.
"""

import html
import math
from collections.abc import Mapping, Sequence

from neuroprompt.terminal import counted

_WIDTH = 420
_ROW = 26
_FONT = 12


def forest_plot(title: str, rows: Sequence[tuple[str, Mapping | None]]) -> str:
    """Means and their intervals, a row each, beside a line at zero.

    Args:
        title: What is measured.
        rows: A name and ``{"mean", "low", "high"}``, or None where there is nothing.
    """
    there = [value for _, value in rows if value]
    left = min(170, 12 + 7 * max((len(name) for name, _ in rows), default=0))
    height = 30 + _ROW * len(rows) + 26
    ends = [v for value in there for v in (value["low"], value["high"], value["mean"])]
    axis = _Axis(min([0.0, *ends]), max([0.0, *ends]), left, _WIDTH - 14)
    parts = [_axis_x(axis, 30, height - 26)]
    parts.append(f'<path d="M{axis(0):.1f} 26V{height - 26}" stroke="var(--quiet)"/>')
    for i, (name, value) in enumerate(rows):
        y = 30 + _ROW * i + _ROW / 2
        shown = name if len(name) <= 24 else f"{name[:23]}…"
        parts.append(_text(left - 8, y + 4, shown, "end", name))
        if value is None:
            parts.append(_text(left + 4, y + 4, "nothing to compare", "start", colour="quiet"))
            continue
        colour = "better" if value["low"] > 0 else "worse" if value["high"] < 0 else "line"
        said = f"{name}: {value['mean']:+.4g}, 95 % from {value['low']:+.4g} to {value['high']:+.4g}"
        parts.append(
            f'<g stroke="var(--{colour})" fill="var(--{colour})"><title>{html.escape(said)}</title>'
            f'<path d="M{axis(value["low"]):.1f} {y}H{axis(value["high"]):.1f}" stroke-width="3"/>'
            f'<circle cx="{axis(value["mean"]):.1f}" cy="{y}" r="5"/></g>'
        )
    return _svg(title, height, parts)


def difference_plot(title: str, differences: Sequence[float]) -> str:
    """Each prompt's difference, from the best to the worst: how many gain and lose, and how much."""
    height, top, bottom, left = 190, 30, 164, 54
    values = sorted(differences, reverse=True)
    n = len(values)
    axis = _Axis(min([0.0, *values[-1:]]), max([0.0, *values[:1]]), bottom, top)
    step = max(1, math.ceil(n / 400))  # a prompt may be narrower than a pixel
    shown = [values[i : i + step] for i in range(0, n, step)]
    wide = (_WIDTH - 14 - left) / max(1, len(shown))
    parts = [_axis_y(axis, left, _WIDTH - 14)]
    for sign, colour in ((1, "better"), (-1, "worse")):
        path = "".join(
            f"M{left + i * wide:.2f} {axis(0):.1f}v{axis(mean) - axis(0):.2f}h{max(wide, 0.5):.2f}V{axis(0):.1f}z"
            for i, of in enumerate(shown)
            if (mean := sum(of) / len(of)) * sign > 0
        )
        parts.append(f'<path d="{path}" fill="var(--{colour})"/>')
    parts.append(f'<path d="M{left} {axis(0):.1f}H{_WIDTH - 14}" stroke="var(--quiet)"/>')
    better, worse = sum(v > 0 for v in values), sum(v < 0 for v in values)
    ties = f", {n - better - worse} equal" if n - better - worse else ""
    parts.append(
        _text(left, height - 8, f"{counted(better, 'prompt')} better, {worse} worse{ties}", "start", colour="quiet")
    )
    return _svg(title, height, parts)


def curve_plot(title: str, points: Sequence[tuple[float, float]], x_title: str = "step") -> str:
    """A line through (x, y)."""
    height, top, bottom, left = 190, 30, 150, 54
    xs, ys = zip(*points, strict=True)
    across, up = _Axis(min(xs), max(xs), left, _WIDTH - 14), _Axis(min(ys), max(ys), bottom, top)
    line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
    last = f"{x_title} {points[-1][0]:g}: {points[-1][1]:.4g}"
    parts = [
        _axis_y(up, left, _WIDTH - 14),
        _axis_x(across, top, bottom),
        f'<polyline points="{line}" fill="none" stroke="var(--line)" stroke-width="2">'
        f"<title>{html.escape(last)}</title></polyline>",
        _text(_WIDTH - 14, height - 6, x_title, "end", colour="quiet"),
    ]
    return _svg(title, height, parts)


def heat_map(
    title: str, rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], Mapping | None]
) -> str:
    """Effects by colour, as SVG: the better or the worse, the stronger; bold where the interval leaves out zero.

    Args:
        title: What is measured.
        rows, columns: Their names.
        cells: By (row, column) ``{"mean", "low", "high"}``, or None where there is nothing.
    """
    left = min(170, 12 + 7 * max(map(len, rows)))
    wide, high, top = (_WIDTH - left) / len(columns), 24, 44
    most = max((abs(of["mean"]) for of in cells.values() if of), default=0) or 1.0
    parts = []
    for j, column in enumerate(columns):
        fits = max(3, int(wide / 6.5))
        shown = column if len(column) <= fits else f"{column[: fits - 1]}…"
        parts.append(_text(left + (j + 0.5) * wide, top - 8, shown, "middle", column))
    for i, row in enumerate(rows):
        y = top + high * i
        shown = row if len(row) <= 24 else f"{row[:23]}…"
        parts.append(_text(left - 8, y + 16, shown, "end", row))
        for j, column in enumerate(columns):
            x, of = left + j * wide, cells[row, column]
            box = f'x="{x:.1f}" y="{y}" width="{wide - 1:.1f}" height="{high - 1}"'
            if of is None:
                parts.append(f'<rect {box} fill="var(--rule)"><title>nothing to compare</title></rect>')
                continue
            said = f"{row}, {column}: {of['mean']:+.4g}, 95 % from {of['low']:+.4g} to {of['high']:+.4g}"
            colour = "better" if of["mean"] > 0 else "worse"
            strength = 0.75 * abs(of["mean"]) / most  # text has to be read on it
            number = f"{of['mean']:+.2g}".replace("-", "−") if wide > 38 else ""
            weight = "700" if of["low"] > 0 or of["high"] < 0 else "400"
            parts.append(
                f"<g><title>{html.escape(said)}</title>"
                f'<rect {box} fill="var(--{colour})" fill-opacity="{strength:.3f}"/>'
                f'<text x="{x + wide / 2:.1f}" y="{y + 16}" text-anchor="middle" font-weight="{weight}" '
                f'fill="var(--ink)">{number}</text></g>'
            )
    return _svg(title, top + high * len(rows) + 4, parts)


class _Axis:
    """From values to pixels, with some room at the ends."""

    def __init__(self, low: float, high: float, start: float, end: float):
        span = high - low or abs(high)
        if span < 1e-300:  # what cannot be divided any more
            span = 1.0
        self.low, self.high = low - 0.04 * span, high + 0.04 * span
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """About four round numbers."""
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        first = math.ceil(self.low / step)
        return [i * step for i in range(first, math.floor(self.high / step) + 1)]


def _axis_x(axis: _Axis, top: float, bottom: float) -> str:
    parts = []
    for tick in axis.ticks:
        parts.append(f'<path d="M{axis(tick):.1f} {top}V{bottom}" stroke="var(--rule)"/>')
        parts.append(_text(axis(tick), bottom + 16, f"{tick:.6g}", "middle", colour="quiet"))
    return "".join(parts)


def _axis_y(axis: _Axis, left: float, right: float) -> str:
    parts = []
    for tick in axis.ticks:
        parts.append(f'<path d="M{left} {axis(tick):.1f}H{right}" stroke="var(--rule)"/>')
        parts.append(_text(left - 6, axis(tick) + 4, f"{tick:.6g}", "end", colour="quiet"))
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str, hint: str = "", colour: str = "ink") -> str:
    title = f"<title>{html.escape(hint)}</title>" if hint and hint != text else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="var(--{colour})">'
        f"{html.escape(text.replace('-', '−') if _is_number(text) else text)}{title}</text>"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    name = html.escape(title)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{name}" font-size="{_FONT}">'
        f'<text x="0" y="14" font-weight="600" fill="var(--ink)">{name}</text>{"".join(parts)}</svg>'
    )
