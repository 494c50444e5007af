"""What others wrote, in the files that a spreadsheet and a Markdown viewer open."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from neuroprompt.pages.tables import Table, csv_text, markdown_text
from neuroprompt.terminal import visible

hostile_text = st.text(st.sampled_from("|`<>&*_[]()\\~$#!-\n\r\x1b\u202e ab1é猫'=+@\t"), min_size=1)


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
    for name in ("policy:runs/embedded/sft-t0.5", "ppo+constraints", "best-of-8:embedded-sft", "image_reward", "100 %"):
        assert markdown_text(name) == csv_text(name) == name


@given(hostile_text)
def test_no_cell_is_a_formula_and_every_text_comes_back(text):
    cell = csv_text(text)
    assert cell[0] not in "=+-@\t\r\n"
    file = io.StringIO(newline="")
    csv.writer(file).writerow([cell])
    ((read,),) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert read.removeprefix("'") == text
