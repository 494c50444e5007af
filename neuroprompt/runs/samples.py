"""Rewrites of a few prompts at each evaluation of a training, to be read by a person."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from neuroprompt.files import write_step
from neuroprompt.terminal import Terminal

SAMPLES = "samples.jsonl"


def show_samples(
    folder: str | Path, step: int, columns: Sequence[str], rows: Sequence[Sequence[str]], samples: object
) -> None:
    """Print a table, and keep the samples of this step in `samples.jsonl` of the run's folder.

    Args:
        folder: Of the run; made where missing. A step that a resumed run does again is there once.
        step: Of the optimizer.
        columns: Their titles.
        rows: Texts, shown as they are: "[red] dress" is no markup.
        samples: What is kept, as JSON types.
    """
    table = Table(*columns, title=f"step {step}", title_justify="left")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    Terminal(stderr=True).print(table)
    write_step(Path(folder) / SAMPLES, {"step": step, "samples": samples})
