"""An evaluation as one HTML page that needs nothing else: tables, plots, example pictures, and all numbers to download.

The page is made from an evaluation's folder alone. It runs no script and loads nothing; pictures and files are in it.
"""

import gzip
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from neuroprompt.evaluation.summary import tables
from neuroprompt.experiments import RECORDS, REWARD, write_whole
from neuroprompt.image_files import read_metadata
from neuroprompt.pages.page import PAGE, STYLE, file_size, how_drawn, html_table
from neuroprompt.pages.plots import curve_plot, difference_plot, forest_plot
from neuroprompt.pages.web import data_uri
from neuroprompt.terminal import counted

_WEBP_LIMIT = 16383  # pixels a side
_CURVES = (
    *("reward", "eval_reward", "kl", "loss", "eval_loss", "policy_loss", "value_loss", "entropy", "distinct_tails"),
    *("completion_length", "explained_variance", "grad_norm"),
)
_NO_CURVES = ("step", "epoch", "total_flos")


def write_report(
    folder: str | Path, path: str | Path | None = None, log_history: Sequence[Mapping] | None = None
) -> Path:
    """Write the page of an evaluation.

    Args:
        folder: Of `harness.evaluate`.
        path: The page; ``report.html`` in the folder by default.
        log_history: Of a training run: dictionaries with ``step`` and numbers, as in `trainer_state.json`.

    Returns:
        Where the page is.

    Raises:
        ValueError: The folder holds no results.
    """
    folder = Path(folder)
    path = Path(path) if path else folder / "report.html"
    try:
        results = json.loads((folder / "results.json").read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{folder} holds no results of an evaluation: {error.strerror}") from error
    write_whole(path, report_html(results, folder, log_history))
    return path


def report_html(results: Mapping, folder: str | Path, log_history: Sequence[Mapping] | None = None) -> str:
    """The page; see `write_report`."""
    folder = Path(folder)
    title = results.get("title") or "Evaluation"
    sections = [*map(html_table, tables(results)), _difference_plots(results)]
    sections += [_learning_curves(log_history)] if log_history else []
    sections += [_examples(results, folder), _downloads(folder, log_history)]
    settings = results["settings"]
    counts = {"prompt": results["prompts"], "method": len(results["methods"]), "seed": settings["images_per_prompt"]}
    facts = [
        " × ".join(counted(number, noun) for noun, number in counts.items()),
        how_drawn(**settings["generator"]),
        "rewards " + ", ".join(f"{name} × {of['weight']:g}" for name, of in settings["rewards"].items()),
        f"neuroprompt {results['neuroprompt']}" + (f" ({results['commit'][:12]})" if results["commit"] else ""),
    ]
    return PAGE.format(
        title=html.escape(title),
        style=STYLE,
        facts=html.escape(" · ".join(facts)),
        body="\n".join(section for section in sections if section),
    )


def _difference_plots(results: Mapping) -> str:
    methods = {name: of for name, of in results["methods"].items() if of["against"]}
    if not methods:
        return ""
    first = results["baseline"]
    measures = [REWARD, *next(iter(methods.values()))["scores"]]
    forests = [
        forest_plot(
            f"{measure}: difference to {first}",
            [(name, (of["against"][measure] or {}).get("difference")) for name, of in methods.items()],
        )
        for measure in measures
    ]
    prompts = [
        difference_plot(f"{name}: reward of each prompt", [difference for _, difference in of["ranked"]])
        for name, of in methods.items()
    ]
    return (
        "<section><h2>Paired differences</h2>"
        f"<p>Mean and 95 % interval of the differences to {html.escape(first)}, prompt by prompt on the same seeds: "
        "coloured where the interval leaves out zero.</p>"
        f'<div class="plots">{"".join(forests)}</div>'
        "<p>Every prompt's difference in reward, from the best to the worst.</p>"
        f'<div class="plots">{"".join(prompts)}</div></section>'
    )


def _learning_curves(log_history: Sequence[Mapping]) -> str:
    curves: dict[str, list[tuple[float, float]]] = {}
    for entry in log_history:
        for key, value in entry.items():
            if key not in _NO_CURVES and "step" in entry and _is_number(value):
                curves.setdefault(key, []).append((float(entry["step"]), float(value)))
    curves = {key: points for key, points in curves.items() if len(points) > 1}
    # The usual ones where they are there, and whatever there is where they are not.
    shown = [key for key in _CURVES if key in curves] or list(curves)[: len(_CURVES)]
    if not shown:
        return ""
    plots = "".join(curve_plot(key, curves[key]) for key in shown)
    return f'<section><h2>Training</h2><div class="plots">{plots}</div></section>'


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _examples(results: Mapping, folder: Path) -> str:
    parts = []
    for name, of in results["methods"].items():
        if not of.get("examples"):
            continue
        path = folder / of["examples"]
        grid = read_metadata(path).get("neuroprompt", {"rows": [], "columns": []})
        items = "".join(
            f"<dt>{html.escape(row['title'])}</dt>"
            + "".join(
                f"<dd><b>{html.escape(column)}</b> {html.escape(cell.get('text', cell.get('prompt')))}</dd>"
                for column, cell in zip(grid["columns"], row["cells"], strict=True)
            )
            for row in grid["rows"]
        )
        parts.append(
            f"<h3>{html.escape(name)}</h3>"
            f'<img src="{_picture_uri(path)}" alt="Best, median and worst prompts of {html.escape(name)}">'
            f"<details><summary>The prompts as text</summary><dl>{items}</dl></details>"
        )
    if not parts:
        return ""
    return (
        "<section><h2>Best, median and worst</h2>"
        f"<p>Chosen by the difference in reward to {html.escape(results['baseline'])}, not by hand.</p>"
        f"{''.join(parts)}</section>"
    )


def _picture_uri(path: Path) -> str:
    with Image.open(path) as picture:
        if max(picture.size) > _WEBP_LIMIT:
            return data_uri("image/png", path.read_bytes())
        file = io.BytesIO()
        picture.convert("RGB").save(file, "WEBP", quality=90)
    return data_uri("image/webp", file.getvalue())


def _downloads(folder: Path, log_history: Sequence[Mapping] | None) -> str:
    files = [
        ("results.csv", "text/csv", "a row for each prompt and method"),
        ("results.json", "application/json", "every number above, and all settings"),
        ("table.md", "text/markdown", "the tables as Markdown"),
    ]
    links = [(name, kind, (folder / name).read_bytes(), about) for name, kind, about in files]
    raw = gzip.compress((folder / RECORDS).read_bytes(), mtime=0)
    links.append((f"{RECORDS}.gz", "application/gzip", raw, "the raw score of every picture"))
    if log_history:
        history = json.dumps([dict(entry) for entry in log_history], default=str).encode()
        links.append(("log_history.json", "application/json", history, "the run's log"))
    items = "".join(
        f'<li><a download="{name}" href="{data_uri(kind, data)}">{name}</a> – {about} ({file_size(len(data))})</li>'
        for name, kind, data, about in links
    )
    return f"<section><h2>All numbers</h2><ul>{items}</ul></section>"
