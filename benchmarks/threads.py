"""What waiting threads cost: prompts rewritten on a quiet machine and beside a busy core, by how OpenMP waits.

    python benchmarks/threads.py                           # wants a quiet machine
    python benchmarks/threads.py --prompts 8 --rounds 1

Each figure is a process of its own, since the setting is read once; the settings take turns.
"""

import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

SETTINGS = {
    "OpenMP's default": {},
    "OMP_WAIT_POLICY=passive (the command line's)": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def main(
    prompts: Annotated[int, typer.Option(min=1, help="Rewritten in one call.")] = 48,
    beams: Annotated[int, typer.Option(min=1, help="Width of the search.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Processes for each figure, of which the median counts.")] = 5,
    busy: Annotated[int, typer.Option(min=1, help="Processes that hold a core each.")] = 1,
    work: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Seconds to rewrite prompts, quiet and beside busy cores, with and without `neuroprompt.threads`."""
    if work:
        print(rewrite(prompts, beams))
        return
    seconds = defaultdict(list)
    turns = [(name, beside) for _ in range(rounds) for beside in (0, busy) for name in SETTINGS]
    for name, beside in track(turns, "measuring", console=Console(stderr=True), transient=True):
        with busy_cores(beside):
            seconds[name, beside].append(measure(SETTINGS[name], prompts, beams))
    table = Table("", "quiet, s", f"beside {busy} busy, s", "ratio", title=f"{prompts} prompts, {beams} beams, "
                  f"{os.cpu_count()} cores, median of {rounds} (range)")  # fmt: skip
    for name in SETTINGS:
        quiet, beside = seconds[name, 0], seconds[name, busy]
        ratio = statistics.median(beside) / statistics.median(quiet)
        table.add_row(name, *map(_show, (quiet, beside)), f"{ratio:.1f}")
    Console().print(table)


def rewrite(prompts: int, beams: int) -> float:
    """Seconds of one call, after a small one."""
    from neuroprompt.enhancer import PromptEnhancer

    enhancer = PromptEnhancer.from_pretrained(device="cpu")
    texts = [f"a castle by the sea, number {i}" for i in range(prompts)]
    enhancer(texts[:2], num_beams=beams, do_sample=False)
    start = time.perf_counter()
    enhancer(texts, num_beams=beams, do_sample=False)
    return time.perf_counter() - start


def measure(setting: dict[str, str], prompts: int, beams: int) -> float:
    ours = {"OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT"}
    environment = {name: value for name, value in os.environ.items() if name not in ours} | setting
    command = [sys.executable, __file__, "--work", "--prompts", str(prompts), "--beams", str(beams)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def _show(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})"


if __name__ == "__main__":
    typer.run(main)
