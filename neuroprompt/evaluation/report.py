"""An evaluation as one HTML page that needs nothing else: what each method adds and pictures of it, then all numbers.

The page is made from an evaluation's folder alone. It runs no script and loads nothing; pictures and files are in it.
"""

import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

from neuroprompt.evaluation.summary import tables
from neuroprompt.experiments import RECORDS, REWARD
from neuroprompt.pages.grid import grid_figures, read_grid
from neuroprompt.pages.grid.page import image_uri
from neuroprompt.pages.page import render_report, told_by
from neuroprompt.pages.plots import curve_plot, difference_plot, forest_plot
from neuroprompt.terminal import counted

_CURVES = (
    *("reward", "eval_reward", "kl", "loss", "eval_loss", "policy_loss", "value_loss", "entropy", "distinct_tails"),
    *("completion_length", "explained_variance", "grad_norm"),
)
_NO_CURVES = ("step", "epoch", "total_flos")


def report_html(results: Mapping, folder: str | Path, log_history: Sequence[Mapping] | None = None) -> str:
    """The page.

    Args:
        results: What ``results.json`` holds.
        folder: The evaluation's, with the pictures to show and the files to download.
        log_history: A training run's: dictionaries with ``step`` and numbers, as in `trainer_state.json`.
    """
    folder, settings, first = Path(folder), results["settings"], results["baseline"]
    counts = {"prompt": results["prompts"], "method": len(results["methods"]), "seed": settings["images_per_prompt"]}
    compared = {name: method for name, method in results["methods"].items() if method["against"]}
    forests = {
        measure: [(name, (method["against"][measure] or {}).get("difference")) for name, method in compared.items()]
        for measure in (REWARD, *settings["rewards"])
        if compared
    }
    files = [
        (f"{RECORDS}.gz", gzip.compress((folder / RECORDS).read_bytes(), mtime=0), "the raw score of every picture")
    ]
    if log_history:
        files.append(("log_history.json", json.dumps([*log_history], default=str).encode(), "the run's log"))
    return render_report(
        "evaluation.html",
        results,
        folder,
        title=results.get("title") or "Evaluation",
        counts=" × ".join(counted(number, noun) for noun, number in counts.items()),
        generators=[settings["generator"]],
        row="a row for each prompt and method",
        files=files,
        baseline=first,
        told=told_by(value for rows in forests.values() for _, value in rows),
        tables=tables(results),
        forests=[forest_plot(f"{measure}: difference to {first}", rows) for measure, rows in forests.items()],
        differences=[
            difference_plot(f"{name}: reward of each prompt", [difference for _, difference in method["ranked"]])
            for name, method in compared.items()
        ],
        median=_pictures(folder / results["examples"]) if results.get("examples") else None,
        curves=list(_learning_curves(log_history or ())),
        examples={
            name: _pictures(folder / method["examples"]) for name, method in compared.items() if method.get("examples")
        },
    )


def _pictures(path: Path) -> dict:
    """A grid's rows, as texts and pictures; or all of it as a picture, where it was made before grids could be read."""
    if grid := read_grid(path):
        return {"rows": grid_figures(grid), "sheet": None}
    with Image.open(path) as sheet:
        return {"rows": [], "sheet": image_uri(sheet)}


def _learning_curves(log_history: Sequence[Mapping]) -> Iterator[str]:
    curves: dict[str, list[tuple[float, float]]] = {}
    for entry in log_history:
        for key, value in entry.items():
            if key not in _NO_CURVES and "step" in entry and _is_number(value):
                curves.setdefault(key, []).append((float(entry["step"]), float(value)))
    curves = {key: points for key, points in curves.items() if len(points) > 1}
    # The usual ones where they are there, and whatever there is where they are not.
    shown = [key for key in _CURVES if key in curves] or list(curves)[: len(_CURVES)]
    return (curve_plot(key, curves[key]) for key in shown)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
