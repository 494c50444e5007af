"""Rewrites of a few prompts at each evaluation of a training, to be read by a person."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text
from transformers import TrainerCallback

from neuroprompt.files import write_step
from neuroprompt.terminal import errors

SAMPLES = "samples.jsonl"


class SampleTable(TrainerCallback):
    """At each evaluation a table of samples on the screen, and the samples in `samples.jsonl` of the run's folder.

    Args:
        columns: The table's titles.
        read: Gives the samples as they are now: the table's rows, and what is kept, as JSON types. Asked by the process
            that shows them, alone.
    """

    def __init__(self, columns: Sequence[str], read: Callable[[], tuple[Sequence[Sequence[str]], object]]):
        self.columns, self.read = columns, read
        self._shown: tuple | None = None

    def on_evaluate(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        rows, samples = self.read()
        if rows and (state.global_step, rows) != self._shown:  # a run evaluates its last step once more at the end
            show_samples(args.output_dir, state.global_step, self.columns, rows, samples)
        self._shown = state.global_step, rows


def show_samples(
    folder: str | Path, step: int, columns: Sequence[str], rows: Sequence[Sequence[str]], samples: object
) -> None:
    """Print a table, and keep the samples of this step.

    Args:
        folder: The run's; made where missing. A step that a resumed run does again is in its `samples.jsonl` once.
        step: Optimizer steps so far.
        columns: The table's titles.
        rows: Texts, shown as they are: "[red] dress" is no markup.
        samples: What is kept, as JSON types.
    """
    table = Table(*columns, title=f"step {step}", title_justify="left")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    errors.print(table)
    write_step(Path(folder) / SAMPLES, {"step": step, "samples": samples})
