"""Tables of texts, for a terminal, Markdown, CSV and pages."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from neuroprompt.terminal import visible


def markdown_text(text: str) -> str:
    """A text on one line of Markdown, where it is no cell's end, no HTML, link, code or emphasis."""
    return re.sub(r"[\\`*\[\]<>|&~$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", visible(text))


def csv_text(text: str) -> str:
    """A text as a cell of a CSV file that no spreadsheet takes for a formula (OWASP, "CSV injection").

    One that begins with = + - @, with white space that hides one, or with ' gets a ' in front: to have every text back,
    take a leading ' away.
    """
    return f"'{text}" if text.startswith(tuple("=+-@＝＋－＠\t\r\n'")) else text


class Table(NamedTuple):
    """A table of texts: names, which may hold anything, in `columns` and in the first cell of a row, and figures."""

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        def line(cells: Iterable[str]) -> str:
            return f"| {' | '.join(cells)} |"

        rule = "|---|" + "---:|" * (len(self.columns) - 1)
        rows = (line([markdown_text(name), *figures]) for name, *figures in self.rows)
        return "\n".join([self.note, "", line(map(markdown_text, self.columns)), rule, *rows])


def format_interval(value: Mapping | None, signed: bool = False) -> str:
    if value is None:
        return "–"
    # As many decimals as tell the interval's ends apart: rewards live on scales from 0.01 to 20.
    width = value["high"] - value["low"]
    decimals = 3 if width <= 0 else int(np.clip(np.ceil(1.5 - np.log10(width)), 1, 6))
    mean, low, high = (f"{value[part]:{'+' * signed}.{decimals}f}" for part in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]".replace("-", "−")
