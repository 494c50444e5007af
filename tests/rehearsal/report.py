"""Runs the steps under the Python that this is started with, and says what became of each."""

import json
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from tests.rehearsal.documents import documented_commands, normal
from tests.rehearsal.runner import Outcome, Step, run_steps
from tests.rehearsal.steps import NOT_REHEARSED, steps

MARKS = {"ok": "[green]ok[/]", "failed": "[bold red]failed[/]", "skipped": "[yellow]skipped[/]"}


def main(arguments: str) -> int:
    """Run what `arguments` (JSON: only, jobs, missing, table) ask for; returns the exit code."""
    wanted = json.loads(arguments)
    console = Console(highlight=False, soft_wrap=True)
    everything = steps()
    chosen = _with_needed(everything, wanted["only"])
    done = Counter()

    def show(step: Step, outcome: Outcome) -> None:
        done[outcome.state] += 1
        reason = f"  {escape(outcome.reason)}" if outcome.reason else ""
        console.print(f"{sum(done.values()):>3}/{len(chosen)}  {outcome.seconds:5.1f} s  {MARKS[outcome.state]:<8}  "
                      f"{step.name}{reason}")  # fmt: skip

    outcomes = run_steps(chosen, Path.cwd(), wanted["missing"], wanted["jobs"], show)
    forgotten = [] if wanted["only"] else _forgotten(everything)
    for command, places in forgotten:
        console.print(f"[bold red]no step runs[/] {escape(command)} ({', '.join(places)})")
    if wanted["table"]:
        _put(_markdown(chosen, outcomes), Path(wanted["table"]))
    console.print(", ".join(f"{count} {state}" for state, count in done.items()))
    for beginning, why in NOT_REHEARSED.items():
        console.print(f"not rehearsed: {beginning.strip()} …: {why}")
    return int(bool(done["failed"] or forgotten))


def _with_needed(everything: list[Step], only: str) -> list[Step]:
    by_name = {step.name: step for step in everything}
    names: set[str] = set()
    todo = [step.name for step in everything if only in step.name]
    while todo:
        name = todo.pop()
        if name not in names:
            names.add(name)
            todo += by_name[name].after
    return [step for step in everything if step.name in names]


def _forgotten(everything: Iterable[Step]) -> list[tuple[str, list[str]]]:
    """Documented commands that no step runs and that are not left out by name."""
    run = {normal(step.command) for step in everything}
    return [
        (command, places)
        for command, places in documented_commands().items()
        if command not in run and not command.startswith(tuple(NOT_REHEARSED))
    ]


def _put(table: str, path: Path) -> None:
    """Write the table to a file; in one that has a place for it, there."""
    begin, end = "<!-- rehearsal -->\n", "<!-- /rehearsal -->"
    text = path.read_text("utf-8") if path.exists() else ""
    if begin in text and end in text:
        table = text.partition(begin)[0] + begin + table + end + text.partition(end)[2]
    path.write_text(table, "utf-8")


def _markdown(chosen: list[Step], outcomes: dict[str, Outcome]) -> str:
    lines = ["| step | command | with | |", "|---|---|---|---|"]
    for step in chosen:
        outcome = outcomes[step.name]
        state = outcome.state if not outcome.reason else f"{outcome.state}: {outcome.reason}"
        cells = (
            step.name,
            f"`{step.command}`",
            f"`{shlex.join(shlex.split(step.changed))}`" if step.changed else "",
            state,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
