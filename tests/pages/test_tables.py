"""Tables in a terminal, whole; and what others wrote, in files that a spreadsheet and a Markdown viewer open."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.cells import cell_len

from neuroprompt.pages.tables import Table, csv_text, format_interval, markdown_text, print_tables
from neuroprompt.terminal import Terminal, visible

hostile_text = st.text(st.sampled_from("|`<>&*_[]()\\~$#!-\n\r\x1b\u202e ab1é猫'=+@\t"), min_size=1)


figures = st.sampled_from(["–", "0.5", "+2.468 [+2.326, +2.612]", "−0.00312 [−0.00835, +0.00178]"])


@st.composite
def tables(draw):
    columns = draw(st.integers(1, 9))
    names = st.text(st.sampled_from("ab:/-猫é[]"), min_size=1, max_size=60)
    titles = st.sampled_from(["reward", "p", "clip[ViT-L-14:openai]", "stabilityai/sd-turbo"])
    heads = draw(st.lists(titles, min_size=columns, max_size=columns))
    cells = [figures] * columns
    if pairs := draw(st.booleans()):
        heads[1::2], cells[1::2] = (["better"] * len(heads[1::2]), [st.just("100.0%")] * len(cells[1::2]))
    rows = draw(st.lists(st.tuples(names, *cells).map(list), min_size=1, max_size=3))
    return Table("A title", "A note.", ["method", *heads], rows, together=1 + pairs)


@given(tables(), st.sampled_from([80, 120]))
def test_a_table_is_split_and_not_cut(table, width):
    file = io.StringIO()
    print_tables([table], Terminal(file=file, width=width))
    text = file.getvalue()
    lines = text.splitlines()
    assert all(cell_len(line) <= width for line in lines) and "…" not in text
    assert lines[0] == "A title" and lines[-2:] == ["A note.", ""]
    heads = [line for line in lines if line.startswith("method")]
    assert [name for line in heads for name in line.split()[1:]] == table.columns[1:]
    for cells in zip(*(row[1:] for row in table.rows), strict=True):
        assert all(cell in text for cell in cells)
    if table.together == 2:
        assert all(len(line.split()) % 2 for line in heads[:-1])  # none of a pair stands alone
    if len(table.rows) == 1:  # a name is folded where it is long
        parts = [line[: max(width // 3, 12)].split(" ")[0] for line in lines[1:-2] if line not in heads]
        assert "".join(parts) == table.rows[0][0] * len(heads)


def test_a_mean_without_an_interval():
    assert format_interval({"mean": 1.5, "low": None, "high": None}, signed=True) == "+1.50"
    assert format_interval({"mean": -0.25, "low": None, "high": None}) == "−0.250"
    assert format_interval({"mean": -1.25, "low": -2.0, "high": 0.5}) == "−1.25 [−2.00, 0.50]"
    assert format_interval(None) == "–"


def seen(markdown: str) -> list[list]:
    """The tokens inside each inline block: headings and cells."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown)
    assert not any(token.type == "html_block" for token in tokens)
    return [token.children for token in tokens if token.type == "inline"]


@given(st.lists(hostile_text, min_size=2, max_size=4), hostile_text)
def test_names_in_a_table_of_markdown_are_texts(names, column):
    table = Table("title", "A note.", ["method", column], [[name, "1.5 [1, 2]"] for name in names])
    (note,), *cells = seen(table.markdown())
    assert note.content == "A note." and len(cells) == 2 + 2 * len(names)
    shown = ["".join(token.content for token in cell) for cell in cells]
    assert all(token.type == "text" or token.type == "text_special" for cell in cells for token in cell)
    assert shown[1] == visible(column).strip(" ") and shown[2::2] == [visible(name).strip(" ") for name in names]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a|b",
        "`x`",
        "a\n\n# b",
        "[a](javascript:x)",
        "![](http://x/y.png)",
        "&lt;",
        "~~a~~",
    ],
)
def test_a_title_is_a_text(text):
    (heading,) = seen(f"# {markdown_text(text)}")
    assert "".join(token.content for token in heading) == visible(text)
    assert {token.type for token in heading} <= {"text", "text_special"}


def test_names_of_ours_are_left_alone():
    for name in ("policy:runs/embedded/sft-t0.5", "ppo+constraints", "best-of-8:embedded", "image_reward", "100 %"):
        assert markdown_text(name) == csv_text(name) == name


@given(hostile_text)
def test_no_cell_is_a_formula_and_every_text_comes_back(text):
    cell = csv_text(text)
    assert cell[0] not in "=+-@\t\r\n"
    file = io.StringIO(newline="")
    csv.writer(file).writerow([cell])
    ((read,),) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert read.removeprefix("'") == text
