"""What faithfulness costs: of an evaluation's folder, how much gain a method keeps, and what it loses against plain.

    python benchmarks/faithfulness.py results/faithful --of enhanced --kept policy:runs/embedded/faithful
    python benchmarks/faithfulness.py results/faithful --of enhanced,policy:ppo-1 --kept policy:a,policy:b --margin 0.2

Each method of `--kept` stands beside that of `--of` in the same place: the share of its gain over the plain prompt that
is kept (by the first reward that counts), with a paired bootstrap interval of the ratio over prompts. Then, for every
reward that counts nothing, what the method gains or loses against the plain prompt's pictures, in units of the spread
of plain prompts' scores, and whether the interval stays above minus the margin. Prints Markdown.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from neuroprompt.evaluation.summary import read_records
from neuroprompt.experiments import read_settings
from neuroprompt.scoring import known_mean
from neuroprompt.statistics import Interval, bootstrap

RESAMPLES = 10_000
console = Console(soft_wrap=True, markup=False, highlight=False)


def main(
    folder: Annotated[Path, typer.Argument(help="What `neuroprompt evaluate` wrote, with the method plain.")],
    of: Annotated[str, typer.Option(help="The methods whose gain is kept, with commas.")],
    kept: Annotated[str, typer.Option(help="The methods that keep it, one for each, with commas.")],
    margin: Annotated[float, typer.Option(help="What may be lost, in spreads of plain prompts' scores.")] = 0.1,
) -> None:
    """Print how much of a gain is kept, and what is lost against the plain prompts."""
    settings = read_settings(folder, "evaluation")
    means = prompt_means(folder)
    counted = next(name for name, row in settings["rewards"].items() if row["weight"])
    pairs = list(zip(of.split(","), kept.split(","), strict=True))
    if missing := [name for pair in pairs for name in (*pair, "plain") if name not in means]:
        raise typer.BadParameter(f"{missing[0]} is no method of {folder}: it has {', '.join(means)}")
    plain = means["plain"]
    console.print(f"| method | gain by {counted} | of | its gain | share kept |\n|---|---|---|---|---|")
    for whole, part in pairs:
        gains = [means[name][counted] - plain[counted] for name in (part, whole)]
        own, others = (str(bootstrap(gain[np.isfinite(gain)].tolist())) for gain in gains)
        console.print(f"| {part} | {own} | {whole} | {others} | {ratio(*gains)} |")
    names = [name for name, row in settings["rewards"].items() if not row["weight"]]
    console.print(f"\nAgainst plain, in spreads of its scores; within the margin of {margin} where it says so.\n")
    console.print(f"| method | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for method in dict.fromkeys(name for pair in pairs for name in pair):
        cells = []
        for name in names:
            lost = (means[method][name] - plain[name]) / np.nanstd(plain[name])
            change = bootstrap(lost[np.isfinite(lost)].tolist())
            within = change.low is not None and change.low >= -margin
            cells.append(f"{change}{' within' if within else ''}")
        console.print(f"| {method} | {' | '.join(cells)} |")


def prompt_means(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """By method and reward, the mean score of each prompt's pictures, (prompts,); NaN where none is known."""
    settings = read_settings(folder, "evaluation")
    shape = settings["prompts"]["count"]
    means = {m: {r: np.full(shape, np.nan) for r in settings["rewards"]} for m in settings["methods"]}
    for record in read_records(folder):
        seen = ~np.array(record["flagged"], bool)
        for name in settings["rewards"]:
            scores = np.where(seen, np.array(record["scores"][name], np.float64), np.nan)
            means[record["method"]][name][record["index"]] = known_mean(scores)
    return means


def ratio(part: np.ndarray, whole: np.ndarray, seed: int = 0) -> Interval:
    """Σ part / Σ whole over the prompts that both have, with its 95 % bootstrap interval over prompts."""
    known = np.isfinite(part) & np.isfinite(whole)
    part, whole = part[known], whole[known]
    rows = np.random.default_rng(seed).integers(0, len(part), (RESAMPLES, len(part)))
    low, high = np.percentile(part[rows].mean(1) / whole[rows].mean(1), [2.5, 97.5])
    return Interval(float(part.mean() / whole.mean()), float(low), float(high))


if __name__ == "__main__":
    typer.run(main)
