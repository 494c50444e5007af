"""Pages that need nothing else: one file each, which opens from a disk, loads nothing and is read by day and by night.

What they look like stands in ``templates/`` (Jinja2, autoescaped), and here what templates cannot say: `render` makes a
page of one, and `render_report` one of results, with what every report tells of their making.
"""

import base64
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from neuroprompt.image_files import current_settings
from neuroprompt.statistics import FEWEST
from neuroprompt.terminal import counted


def render(template: str, **values: Any) -> Markup:
    """Fill a template of ``templates/`` in. Every text is escaped, and `printable`."""
    return Markup(_templates().get_template(template).render(values))


def render_report(
    template: str,
    results: Mapping,
    folder: Path,
    *,
    title: str,
    counts: str,
    generators: Iterable[Mapping],
    row: str,
    files: Iterable[tuple[str, bytes, str]] = (),
    **values: Any,
) -> Markup:
    """The page of an experiment, from a template that extends ``report.html``.

    Args:
        template: Its name.
        results: What ``results.json`` holds.
        folder: The experiment's, with the files that `experiments.write_results` writes.
        title: The page's title.
        counts: How much was drawn, such as "8 prompts × 3 methods".
        generators: The settings of those that drew it: their ``name`` and their ``config``.
        row: What a row of ``results.csv`` is.
        files: What else to download: a name, its content, and what it is.
        values: What the template asks for besides.
    """
    rewards = (f"{name} × {term['weight']:g}" for name, term in results["settings"]["rewards"].items())
    version = f"neuroprompt {results['neuroprompt']}" + (f" ({results['commit'][:12]})" if results["commit"] else "")
    about = {"results.csv": row, "results.json": "every number, and all settings", "table.md": "the tables as Markdown"}
    return render(
        template,
        title=title,
        facts=[counts, *(how_drawn(**generator) for generator in generators), f"rewards {', '.join(rewards)}", version],
        files=[*((name, (folder / name).read_bytes(), what) for name, what in about.items()), *files],
        **values,
    )


def told_by(intervals: Iterable[Mapping | None]) -> str:
    """What tells these means apart, as half a sentence: their intervals, or nothing (see `statistics.FEWEST`)."""
    if any(value and value["low"] is not None for value in intervals):
        return "with its 95 % interval, coloured where that leaves out zero"
    return f"without an interval, which takes at least {FEWEST} prompts"


def how_drawn(name: str, config: Mapping, **_) -> str:
    """A generator and the settings that matter most, as a line; of guidance, what there is."""
    settings = current_settings(config)
    scales = {"guidance": settings.get("guidance"), "true CFG": settings.get("true_cfg")}
    guidance = [f"{called} {scale:g}" for called, scale in scales.items() if scale is not None]
    steps = [counted(settings["steps"], "step")] if settings.get("steps") else []  # a server may not say
    return ", ".join([name, *steps, *guidance])


def data_uri(data: bytes, kind: str = "application/octet-stream") -> Markup:
    """A file of that media type as an address that holds it."""
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}")


def shortened(text: str, length: int) -> str:
    """Cut in its middle: "policy:runs/…ppo-aesthetic" and its like differ at their ends."""
    end = length // 2
    return text if len(text) <= length else f"{text[: length - 1 - end]}…{text[len(text) - end :]}"


def printable(text: str) -> str:
    """The text, of the same length, without what no font and no file can hold: control characters and halves of
    surrogate pairs."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("neuroprompt.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,  # Markup is made of such already
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"data_uri": data_uri, "shortened": shortened}
    made.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return made
