"""What a rewrite takes from a cold start, without torch and with it; and that both write the same texts.

    python benchmarks/start.py                      # seconds and memory of one prompt on the command line
    python benchmarks/start.py --prompts 1000       # and the texts of so many, in every way, and how fast they come

Programs are started anew, by turns, and the median counts; lists are rewritten by turns, in one process.
"""

import os
import statistics
import sys
import time
from collections import defaultdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

ENHANCE = ["-m", "neuroprompt.cli", "enhance", "boy on a horse", "--backend"]
PROGRAMS = {
    "enhance, NumPy": [*ENHANCE, "numpy"],
    "enhance, torch": [*ENHANCE, "torch"],
    "import torch": ["-c", "import torch"],
    "import numpy": ["-c", "import numpy"],
}
WAYS = {  # settings, and whether there are constraints
    "sampled": ({"do_sample": True}, False),
    "searched": ({"do_sample": False}, False),
    "constrained": ({"do_sample": False}, True),
    "constrained samples": ({"do_sample": True}, True),
}
PART = 160  # prompts by turns
console = Console(soft_wrap=True, markup=False, highlight=False)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Starts of each program, of which the median counts.")] = 5,
    prompts: Annotated[int, typer.Option(min=0, help="Rewritten in each way by both; 0 is none.")] = 0,
    model: Annotated[
        str, typer.Option(help="The policy of the lists: embedded, embedded-ppo, or a folder.")
    ] = "embedded",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves the libraries' default.")] = 0,
) -> None:
    """Print seconds, memory and ratios of a start; of lists, the texts that differ, and ratios of the speed."""
    if threads:
        os.environ |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    starts(rounds)
    if prompts:
        lists(model, prompts)


def starts(rounds: int) -> None:
    """The table of programs."""
    taken = defaultdict(list)
    turns = [name for _ in range(rounds + 1) for name in PROGRAMS]
    for name in track(turns, "starting", console=Console(stderr=True), transient=True):
        taken[name].append(run(PROGRAMS[name]))
    medians = {name: [statistics.median(of) for of in zip(*own[1:], strict=True)] for name, own in taken.items()}
    table = Table("", "s", "ratio", "MB", "ratio", title=f"start to end, {os.cpu_count()} cores, median of {rounds}")
    for name, (seconds, megabytes) in medians.items():
        slow, large = medians["enhance, torch"]
        table.add_row(name, f"{seconds:.2f}", f"{slow / seconds:.1f}", f"{megabytes:.0f}", f"{large / megabytes:.1f}")
    console.print(table)


def run(arguments: list[str]) -> tuple[float, float]:
    """Seconds and MB, at most, of a Python program from its start to its end."""
    start = time.perf_counter()
    # /dev/null for its output; wait4 says what it took
    silent = [(os.POSIX_SPAWN_OPEN, out, os.devnull, os.O_WRONLY, 0) for out in (1, 2)]
    child = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ, file_actions=silent)
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def lists(model: str, count: int) -> None:
    """The tables of texts and speed."""
    from enhance import plain_prompts  # which loads torch: here it is wanted

    from neuroprompt.decoding import Constraints
    from neuroprompt.enhancer import PromptEnhancer

    wishes = [
        Constraints(require=["golden hour|sunset", "fog"], forbid=["blurry"]),
        Constraints(artist="alphonse mucha", forbid=["portrait", "sharp focus"]),
        Constraints(auto=["style", "vibe"]),
    ]
    policies = {own: PromptEnhancer.from_pretrained(model, "cpu", backend=own) for own in ("numpy", "torch")}
    texts = plain_prompts(count)
    table = Table("", "prompts", "differ", "prompts/s", "ratio", title=f"{model}: NumPy beside torch")
    differing = []
    for name, (settings, constrained) in WAYS.items():
        for size in (PART, 1):
            some = texts if size > 1 else texts[: max(1, count // 20)]
            seconds, differ = defaultdict(float), []
            for start in range(0, len(some), size):
                part, made = some[start : start + size], {}
                asked = [wishes[(start + i) % 3] for i in range(len(part))] if constrained else None
                for own, policy in policies.items():
                    if not start:
                        policy.rewrite(part[:2], asked and asked[:2], **settings)  # warm up
                    begin = time.perf_counter()
                    made[own] = policy.rewrite(part, asked, **settings)
                    seconds[own] += time.perf_counter() - begin
                pairs = zip(*made.values(), strict=True)
                differ += [(a.text, b.text) for (a,), (b,) in pairs if a.text != b.text]
            ratio = f"{seconds['torch'] / seconds['numpy']:.2f}"
            row = f"{name}, {'one by one' if size == 1 else 'a list'}", str(len(some)), str(len(differ))
            table.add_row(*row, f"{len(some) / seconds['numpy']:.1f}", ratio)
            differing += differ
    console.print(table)
    for pair in differing:
        console.print("NumPy: {}\ntorch: {}".format(*pair))


if __name__ == "__main__":
    typer.run(main)
