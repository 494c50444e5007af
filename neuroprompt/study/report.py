"""A study's numbers as tables, and as a page with heat maps that needs nothing else.

As `evaluation.report` does it: the page runs no script and loads nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuroprompt.experiments import REWARD
from neuroprompt.pages.page import render_report, told_by
from neuroprompt.pages.plots import forest_plot, heat_map
from neuroprompt.pages.tables import Table, format_interval, format_number
from neuroprompt.statistics import FEWEST
from neuroprompt.study.effects import ALL
from neuroprompt.terminal import counted

_KEYS = ("generator", "class", "measure", "axis", "modifier")


def study_html(results: Mapping, folder: Path) -> str:
    """The page; `folder` has the files to download."""
    tried, possible = results["combinations"]["tried"], results["combinations"]["possible"]
    seeds = counted(results["settings"]["images_per_prompt"], "seed")
    headline, *plots = _plots(results)
    return render_report(
        "study.html",
        results,
        folder,
        title=results.get("title") or "Study of modifiers",
        counts=f"{counted(results['prompts'], 'prompt')} × {tried} of {possible:,} combinations × {seeds}",
        generators=results["settings"]["generators"],
        row="a row for each effect",
        headline=headline,
        told=told_by(row["effect"] for row in results["effects"] if row["class"] == ALL),
        tables=study_tables(results),
        plots=plots,
    )


def study_tables(results: Mapping) -> list[Table]:
    """The tables of a study: where each modifier helps, its effects, and how far generators and classes agree."""
    made = [_verdicts(results), *(_effects(results, kind, REWARD) for kind in results["classes"])]
    made += [_effects(results, ALL, measure) for measure in results["measures"] if measure != REWARD]
    between_generators = [row for row in results["agreement"] if "class" in row]
    between_classes = [row for row in results["agreement"] if "generator" in row]
    made.append(
        _agreement(
            "Do generators agree?",
            "Spearman's correlation between two generators' effects of all modifiers, with its 95 % bootstrap "
            "interval. A generator with itself: between two halves of the prompts, on average, which is what noise "
            "leaves of 1.",
            results["measures"],
            between_generators,
            "class",
        )
    )
    if between_classes:
        made.append(
            _agreement(
                "Do classes agree?",
                "Spearman's correlation between the effects on two classes of prompts, with its interval.",
                results["measures"],
                between_classes,
                "generator",
            )
        )
    return made


# --- tables --------------------------------------------------------------------------------------------------------


def _verdicts(results: Mapping) -> Table:
    generators, groups, effects = _generators(results), _smallest_classes(results), _by_key(results)
    rows = []
    for axis, modifier in _modifiers(results):
        found = [effects[name, kind, REWARD, axis, modifier] for name in generators for kind in groups]
        means = [row["effect"]["mean"] for row in found if row["effect"]]
        told = [row["effect"] for row in found if row["prompts"] >= FEWEST]
        helps, hurts = sum(effect["low"] > 0 for effect in told), sum(effect["high"] < 0 for effect in told)
        ends = [format_number(end(means, default=None), "+.3g") for end in (min, max)]
        rows.append([f"{axis}: {modifier}", str(helps), str(hurts), str(len(found) - helps - hurts), *ends])
    where = counted(len(generators), "generator")
    where += f" × {len(groups)} classes of prompts" if len(groups) > 1 else ""
    return Table(
        "Where does it help?",
        f"Of {where}: in how many the modifier's effect on the reward is above zero with its whole 95 % interval, "
        f"below zero, or neither (or told by fewer than {FEWEST} prompts); and its lowest and highest effect.",
        ["modifier", "helps", "hurts", "unclear", "lowest", "highest"],
        rows,
    )


def _effects(results: Mapping, kind: str, measure: str) -> Table:
    generators, effects = _generators(results), _by_key(results)
    rows = []
    for axis, modifier in _modifiers(results):
        cells = []
        for generator in generators:
            row = effects[generator, kind, measure, axis, modifier]
            cells += [format_interval(row["effect"], signed=True), format_number(row["helps"], ".0%")]
        rows.append([f"{axis}: {modifier}", *cells])
    prompts = results["classes"][kind]
    interval = ", with its 95 % bootstrap interval" if prompts >= FEWEST else " (too few for an interval)"
    return Table(
        f"Effect on {'the reward' if measure == REWARD else measure}{f' (class {kind})' if kind != ALL else ''}",
        f"{counted(prompts, 'prompt')}: what the modifier adds, against nothing on its axis{interval}, and the share "
        "of prompts that it makes better (a tie is half a one).",
        ["modifier", *(cell for generator in generators for cell in (generator, "better"))],
        rows,
        together=2,
    )


def _agreement(title: str, note: str, measures: Sequence[str], found: Sequence[Mapping], by: str) -> Table:
    rows: dict[tuple, dict[str, str]] = {}
    for row in found:
        name = row["a"] if row["a"] == row["b"] else f"{row['a']} – {row['b']}"
        value = row["rank_correlation"]
        shown = format_number(value, "+.2f") if isinstance(value, float) else format_interval(value, signed=True)
        rows.setdefault((row[by], name), {})[row["measure"]] = shown
    one = len({group for group, _ in rows}) == 1
    lines = [
        [name if one else f"{group}: {name}", *(cells[measure] for measure in measures)]
        for (group, name), cells in rows.items()
    ]
    return Table(title, note, ["between", *measures], lines)


# --- plots ---------------------------------------------------------------------------------------------------------


def _plots(results: Mapping) -> list[str]:
    """The headline first: effects on the reward, of one generator with their intervals, of several side by side."""
    generators, groups, effects = _generators(results), list(results["classes"]), _by_key(results)
    rows = {f"{axis}: {modifier}": (axis, modifier) for axis, modifier in _modifiers(results)}

    def effect(generator: str, kind: str, measure: str, row: str) -> Mapping | None:
        return effects[(generator, kind, measure, *rows[row])]["effect"]

    def forest(generator: str, measure: str) -> str:
        return forest_plot(f"{measure} on {generator}", [(row, effect(generator, ALL, measure, row)) for row in rows])

    def generators_map(measure: str) -> str:
        cells = {(row, name): effect(name, ALL, measure, row) for row in rows for name in generators}
        return heat_map(f"{measure}: generators", list(rows), generators, cells)

    def classes_map(generator: str) -> str:
        cells = {(row, kind): effect(generator, kind, REWARD, row) for row in rows for kind in groups}
        return heat_map(f"{REWARD}: classes on {generator}", list(rows), groups, cells)

    if len(generators) == 1:
        plots = [forest(generators[0], measure) for measure in results["measures"]]
    else:
        plots = [generators_map(measure) for measure in results["measures"]]
        plots += [forest(name, REWARD) for name in generators]
    return plots + [classes_map(name) for name in generators if len(groups) > 1]


# --- what the results hold -----------------------------------------------------------------------------------------


def _generators(results: Mapping) -> list[str]:
    return [generator["name"] for generator in results["settings"]["generators"]]


def _smallest_classes(results: Mapping) -> list[str]:
    """The classes, without the one that has them all; that one where there are no others."""
    first, *others = results["classes"]
    return others or [first]


def _modifiers(results: Mapping) -> list[tuple[str, str]]:
    return [(axis, modifier) for axis, levels in results["settings"]["axes"].items() for modifier in levels]


def _by_key(results: Mapping) -> dict[tuple[str, ...], Mapping]:
    return {tuple(row[key] for key in _KEYS): row for row in results["effects"]}
