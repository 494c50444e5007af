import io
import json
import math
import re
from contextlib import redirect_stdout

from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from neuroprompt.terminal import Terminal, counted, finite, show_json, visible

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\u2028\u2029\x85\x7f\0\udc80"
UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

hostile_text = st.text(st.sampled_from(HOSTILE + "\n\r\t\b aä猫א[]/:")) | st.text()


def shown(draw) -> str:
    """What is printed, without the sequences that Rich itself writes for bold and colours."""
    terminal = Terminal(file=io.StringIO(), force_terminal=True, color_system="standard", width=60)
    draw(terminal)
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.file.getvalue())


def test_control_characters_are_spelled_out():
    assert visible("a\x1b[31mb") == r"a\x1b[31mb"
    assert visible("a\nb\u202ec\x9b\udc80") == r"a\nb\u202ec\x9b\udc80"
    assert visible("שלום 猫 🐈‍⬛ naïve [red]") == "שלום 猫 🐈‍⬛ naïve [red]"


@given(hostile_text)
def test_a_visible_text_is_one_safe_line_and_stays_as_it_is(text):
    once = visible(text)
    assert not UNSAFE.search(once) and len(once.splitlines()) <= 1
    assert visible(once) == once


@given(hostile_text, st.booleans())
def test_a_line_is_one_line(text, styled):
    out = shown(lambda terminal: terminal.print_line(Text(text, "bold") if styled else text))
    assert out.endswith("\n") and not UNSAFE.search(out[:-1])


@given(hostile_text)
def test_whatever_is_printed_no_control_character_comes_through(text):
    table = Table()
    table.add_column(Text(text))
    table.add_row(Text(text))
    for thing in (table, Text(text)):
        assert not UNSAFE.search(shown(lambda terminal, thing=thing: terminal.print(thing)).replace("\n", ""))


def test_text_is_not_read_as_markup_or_emoji():
    assert shown(lambda terminal: terminal.print_line("a [red]cat[/] :cat:")) == "a [red]cat[/] :cat:\n"


@given(
    st.recursive(hostile_text | st.floats() | st.none(), lambda part: st.lists(part) | st.dictionaries(st.text(), part))
)
def test_json_on_standard_output_is_strict_and_safe(record):
    written = io.StringIO()
    with redirect_stdout(written):
        show_json(record)
    line = written.getvalue()
    assert not UNSAFE.search(line[:-1]) and line.endswith("\n") and line.isascii()

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads(line, parse_constant=refuse)
    assert read == finite(record)
    assert finite({"a": [1.5, math.nan, (math.inf,)]}) == {"a": [1.5, None, [None]]}


def test_one_is_no_plural():
    assert [counted(n, "prompt") for n in (0, 1, 2, 2000)] == ["0 prompts", "1 prompt", "2 prompts", "2,000 prompts"]


def test_a_bar_ends_on_a_terminal():
    """Rich's own methods keep their meaning: a bar that is stopped prints a line break by `Console.line`."""

    def draw(terminal):
        with Progress(console=terminal) as progress:
            progress.add_task("drawing", total=2, completed=1)

    assert "drawing" in shown(draw)
