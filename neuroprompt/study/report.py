"""A study's numbers as tables, as a page with heat maps that needs nothing else, and as files.

As `report` does it for an evaluation: the page runs no script and loads nothing.
"""

import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from neuroprompt.experiments import REWARD, write_whole
from neuroprompt.pages.page import PAGE, STYLE, file_size, how_drawn, html_table
from neuroprompt.pages.plots import forest_plot, heat_map
from neuroprompt.pages.tables import Table, csv_text, format_interval, markdown_text
from neuroprompt.pages.web import data_uri
from neuroprompt.study.effects import ALL
from neuroprompt.terminal import Terminal, counted

_KEYS = ("generator", "class", "measure", "axis", "modifier")
_FEWEST = 6
"""Prompts that it takes for a verdict: with fewer, not even all of one sign would be evidence at 5 %."""
_FILES = [
    ("results.csv", "text/csv", "a row for each effect"),
    ("results.json", "application/json", "every number above, and all settings"),
    ("table.md", "text/markdown", "the tables as Markdown"),
]


def write_study(results: Mapping, folder: str | Path) -> None:
    """Write ``results.json``, ``results.csv``, ``table.md`` and ``report.html``, each whole or not at all."""
    folder = Path(folder)
    write_whole(folder / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    write_whole(folder / "results.csv", _csv(results))
    title = markdown_text(_title(results))
    parts = [f"# {title}", *(f"## {markdown_text(t.title)}\n\n{t.markdown()}" for t in study_tables(results))]
    write_whole(folder / "table.md", "\n\n".join(parts) + "\n")
    write_whole(folder / "report.html", study_html(results, folder))


def print_study(results: Mapping, console: Console | None = None) -> None:
    """Show the tables in a terminal."""
    console = console or Terminal(highlight=False)
    for table in study_tables(results):
        console.print(Markdown(f"## {markdown_text(table.title)}\n\n{table.markdown()}"))


def study_tables(results: Mapping) -> list[Table]:
    """The tables of a study: where each modifier helps, its effects, and how far generators and classes agree."""
    made = [_verdicts(results), *(_effects(results, kind, REWARD) for kind in results["classes"])]
    made += [_effects(results, ALL, measure) for measure in results["measures"] if measure != REWARD]
    agreement = results["agreement"]
    between = [of for of in agreement if "class" in of]
    made.append(
        _agreement(
            "Do generators agree?",
            "Spearman's correlation between two generators' effects of all modifiers, with its 95 % bootstrap "
            "interval. A generator with itself: between two halves of the prompts, on average, which is what noise "
            "leaves of 1.",
            results,
            between,
            "class",
        )
    )
    if classes := [of for of in agreement if "generator" in of]:
        made.append(
            _agreement(
                "Do classes agree?",
                "Spearman's correlation between the effects on two classes of prompts, with its interval.",
                results,
                classes,
                "generator",
            )
        )
    return made


def study_html(results: Mapping, folder: Path) -> str:
    """The page; `folder` has the files to download."""
    settings = results["settings"]
    seeds, tried = settings["images_per_prompt"], results["combinations"]["tried"]
    facts = [
        f"{counted(results['prompts'], 'prompt')} × {tried} of {results['combinations']['possible']:,} combinations × "
        f"{counted(seeds, 'seed')}",
        *(how_drawn(**of) for of in settings["generators"]),
        "rewards " + ", ".join(f"{name} × {of['weight']:g}" for name, of in settings["rewards"].items()),
        f"neuroprompt {results['neuroprompt']}" + (f" ({results['commit'][:12]})" if results["commit"] else ""),
    ]
    verdicts, *tables = study_tables(results)
    body = [html_table(verdicts), _heat_maps(results), _forests(results), *map(html_table, tables), _downloads(folder)]
    return PAGE.format(
        title=html.escape(_title(results)),
        style=STYLE,
        facts=html.escape(" · ".join(facts)),
        body="\n".join(body),
    )


# --- tables --------------------------------------------------------------------------------------------------------


def _verdicts(results: Mapping) -> Table:
    generators, groups, effects = _generators(results), _smallest_classes(results), _by_key(results)
    rows = []
    for axis, modifier in _modifiers(results):
        found = [effects[of, kind, REWARD, axis, modifier] for of in generators for kind in groups]
        there = [of["effect"] for of in found if of["effect"]]
        told = [of["effect"] for of in found if of["prompts"] >= _FEWEST]
        helps, hurts = sum(of["low"] > 0 for of in told), sum(of["high"] < 0 for of in told)
        ends = [_number(end(of["mean"] for of in there), "+.3g") if there else "–" for end in (min, max)]
        rows.append([f"{axis}: {modifier}", str(helps), str(hurts), str(len(found) - helps - hurts), *ends])
    where = counted(len(generators), "generator")
    where += f" × {len(groups)} classes of prompts" if len(groups) > 1 else ""
    return Table(
        "Where does it help?",
        f"Of {where}: in how many the modifier's effect on the reward is above zero with its whole 95 % interval, "
        f"below zero, or neither (or told by fewer than {_FEWEST} prompts); and its lowest and highest effect.",
        ["modifier", "helps", "hurts", "unclear", "lowest", "highest"],
        rows,
    )


def _effects(results: Mapping, kind: str, measure: str) -> Table:
    generators, effects = _generators(results), _by_key(results)
    rows = []
    for axis, modifier in _modifiers(results):
        found = [effects[generator, kind, measure, axis, modifier] for generator in generators]
        cells = [
            (format_interval(of["effect"], signed=True), "–" if of["helps"] is None else f"{of['helps']:.0%}")
            for of in found
        ]
        rows.append([f"{axis}: {modifier}", *(cell for pair in cells for cell in pair)])
    classes = f" (class {kind})" if len(results["classes"]) > 1 and kind != ALL else ""
    return Table(
        f"Effect on {'the reward' if measure == REWARD else measure}{classes}",
        f"{counted(results['classes'][kind], 'prompt')}: what the modifier adds, against nothing on its axis, with its "
        "95 % bootstrap interval, and the share of prompts that it makes better (a tie is half a one).",
        ["modifier", *(cell for generator in generators for cell in (generator, "better"))],
        rows,
    )


def _agreement(title: str, note: str, results: Mapping, found: Sequence[Mapping], by: str) -> Table:
    rows: dict[tuple, dict[str, str]] = {}
    for of in found:
        name = of["a"] if of["a"] == of["b"] else f"{of['a']} – {of['b']}"
        value = of["rank_correlation"]
        shown = _number(value, "+.2f") if isinstance(value, float) else format_interval(value, signed=True)
        rows.setdefault((of[by], name), {})[of["measure"]] = shown
    measures = results["measures"]
    one = len({group for group, _ in rows}) == 1
    lines = [
        [name if one else f"{group}: {name}", *(cells[measure] for measure in measures)]
        for (group, name), cells in rows.items()
    ]
    return Table(title, note, ["between", *measures], lines)


def _csv(results: Mapping) -> str:
    file = io.StringIO(newline="")
    rows = csv.writer(file)  # RFC 4180: lines end in \r\n, and either in a text is quoted
    rows.writerow([*_KEYS, "effect", "low", "high", "helps", "p_value", "prompts"])
    for of in results["effects"]:
        interval = list((of["effect"] or dict.fromkeys(("mean", "low", "high"), "")).values())
        numbers = ["" if of[name] is None else of[name] for name in ("helps", "p_value", "prompts")]
        rows.writerow([*(csv_text(of[key]) for key in _KEYS), *interval, *numbers])
    return file.getvalue()


# --- the page ------------------------------------------------------------------------------------------------------


def _heat_maps(results: Mapping) -> str:
    generators, groups, effects = _generators(results), list(results["classes"]), _by_key(results)
    rows = {f"{axis}: {modifier}": (axis, modifier) for axis, modifier in _modifiers(results)}
    plots = [
        heat_map(
            f"{measure}: generators",
            list(rows),
            generators,
            {(row, of): effects[(of, ALL, measure, *rows[row])]["effect"] for row in rows for of in generators},
        )
        for measure in results["measures"]
    ]
    if len(groups) > 1:
        plots += [
            heat_map(
                f"{REWARD}: classes on {of}",
                list(rows),
                groups,
                {(row, kind): effects[(of, kind, REWARD, *rows[row])]["effect"] for row in rows for kind in groups},
            )
            for of in generators
        ]
    return (
        "<section><h2>Effects at a glance</h2><p>What each modifier adds to the score; bold where the 95 % interval "
        f'leaves out zero.</p><div class="plots">{"".join(plots)}</div></section>'
    )


def _forests(results: Mapping) -> str:
    effects = _by_key(results)
    plots = [
        forest_plot(
            f"{REWARD}: {generator}",
            [
                (modifier, effects[generator, ALL, REWARD, axis, modifier]["effect"])
                for axis, modifier in _modifiers(results)
            ],
        )
        for generator in _generators(results)
    ]
    return f'<section><h2>Effects and intervals</h2><div class="plots">{"".join(plots)}</div></section>'


def _downloads(folder: Path) -> str:
    items = ""
    for name, kind, about in _FILES:
        data = (folder / name).read_bytes()
        items += (
            f'<li><a download="{name}" href="{data_uri(kind, data)}">{name}</a> – {about} ({file_size(len(data))})</li>'
        )
    return f"<section><h2>All numbers</h2><ul>{items}</ul></section>"


# --- what the results hold -----------------------------------------------------------------------------------------


def _title(results: Mapping) -> str:
    return results.get("title") or "Study of modifiers"


def _generators(results: Mapping) -> list[str]:
    return [of["name"] for of in results["settings"]["generators"]]


def _smallest_classes(results: Mapping) -> list[str]:
    """The classes, without the one that has them all; that one where there are no others."""
    first, *others = results["classes"]
    return others or [first]


def _modifiers(results: Mapping) -> list[tuple[str, str]]:
    return [(axis, modifier) for axis, levels in results["settings"]["axes"].items() for modifier in levels]


def _by_key(results: Mapping) -> dict[tuple[str, ...], Mapping]:
    return {tuple(of[key] for key in _KEYS): of for of in results["effects"]}


def _number(value: float, form: str) -> str:
    return format(value, form).replace("-", "−")
