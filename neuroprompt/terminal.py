"""A terminal that what others wrote can neither steer nor deceive.

Prompts, results, file names, and what libraries and servers say can hold anything: escape sequences, which move the
cursor and set the window's title, and marks that turn the reading direction ("Trojan Source", CVE-2021-42574). All that
is printed for a person goes through here. Data for a pipe or a file does not: they are to have every character.
"""

import json
import math
import re
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

# C0, DEL and C1; what ends a line in Unicode; what embeds, overrides and isolates a direction; halves of characters,
# as Python reads bytes of a file name that are no UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""The text on one line, its control characters written as Python writes them: ``\n``, ``\x1b``, ``\u202e``."""
    return _UNSAFE.sub(lambda found: repr(found[0])[1:-1], text)


def counted(number: int, noun: str) -> str:
    """ "1 prompt", "2,000 prompts"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


class Terminal(Console):
    """A `Console` on which no text is a control sequence, wherever it stands: in a line, a table, a progress bar."""

    def render(self, renderable, options=None):
        for segment in super().render(renderable, options):
            if not segment.control:  # which are Rich's own
                # A line break is the layout's: rows of a table, or a text that was given as lines.
                segment = segment._replace(text="\n".join(map(visible, segment.text.split("\n"))))
            yield segment

    def print_line(self, text: str | Text) -> None:
        """Print what is one line, whatever it holds: not wrapped, not read as markup."""
        text = Text(visible(text)) if isinstance(text, str) else text
        self.print(Text(r"\n").join(text.split("\n", allow_blank=True)), soft_wrap=True)


console = Terminal(highlight=False)


errors = Terminal(stderr=True, highlight=False)


def say(text: str, label: str = "", style: str = "") -> None:
    """A line for the person, on standard error, after a coloured label: `say(reason, "warning:", "yellow")`."""
    errors.print_line(Text.assemble((label, style), " " * bool(label), visible(text)))


def show(text: str | Text) -> None:
    """A result on standard output: a line on a terminal, and for a pipe the text as it is."""
    if sys.stdout.isatty():
        console.print_line(text)
    else:
        print(text)


def show_json(record: object) -> None:
    """A result on standard output as a line of JSON: ASCII, which every program reads, and no terminal obeys."""
    print(json.dumps(finite(record)))


def finite(value: object) -> object:
    """The value with None for numbers that are NaN or infinite, which JSON has not."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
