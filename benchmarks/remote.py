"""Pictures from one server and from two that share the work, as `--generator URL,URL` has it.

    python benchmarks/remote.py                      # 128 pictures by each, in turns, three times

Both servers are `neuroprompt serve` on this machine, one thread each: with fewer cores than two they cannot be faster
than one.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import requests
import torch
import typer

from neuroprompt.images import ImageGenerator

PROMPTS = Path(__file__).parents[1] / "configs/ppo/queries/train.txt"


def main(
    pictures: Annotated[int, typer.Option(help="How many are drawn at a time.")] = 128,
    rounds: Annotated[int, typer.Option(help="How often each draws them.")] = 3,
) -> None:
    """Print the seconds that one server and two take, and their ratio."""
    prompts, seeds = PROMPTS.read_text("utf-8").splitlines()[:pictures], range(pictures)
    with ExitStack() as stack:
        urls = [stack.enter_context(_server()) for _ in range(2)]
        one, two = (ImageGenerator.from_pretrained(",".join(urls[:n]), device="cpu", batch_size=8) for n in (1, 2))
        assert torch.equal(one(prompts[:16], seeds[:16]), two(prompts[:16], seeds[:16]))
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(rounds):
            for count, generator in ((1, one), (2, two)):
                begin = time.perf_counter()
                generator(prompts, seeds)
                seconds[count].append(time.perf_counter() - begin)
    medians = {count: statistics.median(times) for count, times in seconds.items()}
    for count, median in medians.items():
        print(f"{count} server(s): {pictures / median:.1f} pictures/s ({median:.1f} s)")
    print(f"ratio: {medians[1] / medians[2]:.2f}")


@contextmanager
def _server():
    command = [sys.executable, "-m", "neuroprompt.cli", "serve", "--port", "0", "--rewards", "none"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            url = re.search(r"http://\S+", process.stderr.readline())[0]
            while not requests.get(f"{url}/readyz", timeout=60).ok:
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()


if __name__ == "__main__":
    typer.run(main)
