"""Tables of texts, for a terminal, Markdown, CSV and pages."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich import table as rich_table
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from neuroprompt.terminal import console as terminal
from neuroprompt.terminal import visible


class Table(NamedTuple):
    """A table of texts: names, which may hold anything, in `columns` and in the first cell of a row, and figures.

    Attributes:
        title: What it tells.
        note: What its figures are, and of how much.
        columns: Their names; the first is that of the rows' names.
        rows: A cell for each column.
        together: So many columns belong together, from the second on, where the table is split.
    """

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]
    together: int = 1

    def markdown(self) -> str:
        def line(cells: Iterable[str]) -> str:
            return f"| {' | '.join(cells)} |"

        rule = "|---|" + "---:|" * (len(self.columns) - 1)
        rows = (line([markdown_text(name), *figures]) for name, *figures in self.rows)
        return "\n".join([self.note, "", line(map(markdown_text, self.columns)), rule, *rows])


def print_tables(tables: Iterable[Table], console: Console = terminal) -> None:
    """Show tables in a terminal. One that is wider is split: some columns stand below the others, and none is cut."""
    for table in tables:
        console.print(Text(table.title, style="bold"))
        for number, columns in enumerate(_split(table, console.width)):
            shown = rich_table.Table(box=None, pad_edge=False, header_style="")
            for i in columns:  # a long name is folded, and anything in a terminal that is narrower than a column
                most = None if i else _room_for_names(console.width)
                shown.add_column(
                    Text(table.columns[i]), justify="right" if i else "left", overflow="fold", max_width=most
                )
            for row in table.rows:
                shown.add_row(*(Text(row[i]) for i in columns))
            if number:
                console.print()
            console.print(shown)
        console.print(Text(table.note, style="dim"))
        console.print()


def markdown_text(text: str) -> str:
    """A text on one line of Markdown, where it is no cell's end, no HTML, link, code or emphasis."""
    return re.sub(r"[\\`*\[\]<>|&~$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", visible(text))


def csv_text(text: str) -> str:
    """A text as a cell of a CSV file that no spreadsheet takes for a formula (OWASP, "CSV injection").

    One that begins with = + - @, with white space that hides one, or with ' gets a ' in front: to have every text back,
    take a leading ' away.
    """
    return f"'{text}" if text.startswith(tuple("=+-@＝＋－＠\t\r\n'")) else text


def format_number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form).replace("-", "−")


def format_interval(value: Mapping | None, signed: bool = False) -> str:
    """The ``{"mean", "low", "high"}`` of a `statistics.Interval`; the mean alone where it has no ends."""
    sign = "+" * signed
    if value is None:
        return "–"
    if value["low"] is None:
        return format_number(value["mean"], f"{sign}.{3 if abs(value['mean']) < 1 else 2}f")
    # As many decimals as tell the interval's ends apart: rewards live on scales from 0.01 to 20.
    width = value["high"] - value["low"]
    decimals = 3 if width <= 0 else int(np.clip(np.ceil(1.5 - np.log10(width)), 1, 6))
    mean, low, high = (format_number(value[end], f"{sign}.{decimals}f") for end in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _split(table: Table, width: int) -> Iterator[Sequence[int]]:
    """Columns of tables that fit, each with the names of the rows."""
    widths = [
        max(cell_len(visible(cell)) for cell in column) for column in zip(table.columns, *table.rows, strict=True)
    ]
    names = min(widths[0], _room_for_names(width))
    groups = [range(i, min(i + table.together, len(widths))) for i in range(1, len(widths), table.together)]
    chosen: list[int] = []
    for group in groups:
        if chosen and names + sum(2 + widths[i] for i in [*chosen, *group]) > width:
            yield [0, *chosen]
            chosen = []
        chosen += group
    yield [0, *chosen]


def _room_for_names(width: int) -> int:
    return max(width // 3, 12)
