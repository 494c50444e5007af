"""Pictures from one server and from two that share the work, as `--generator URL,URL` has it; and their scores from a
server and from this process.

    python benchmarks/remote.py                      # 128 pictures by each, in turns, three times

All servers are on this machine, one thread each, as this process: with fewer cores than two, two cannot be faster than
one.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import requests
import torch
import typer
from torch.nn.functional import interpolate

from neuroprompt.images import ImageGenerator
from neuroprompt.rewards import load_reward

PROMPTS = Path(__file__).parents[1] / "configs/ppo/queries/train.txt"


def main(
    pictures: Annotated[int, typer.Option(help="How many are drawn at a time.")] = 128,
    rounds: Annotated[int, typer.Option(help="How often each draws them.")] = 3,
) -> None:
    """Print the seconds that one server and two take to draw, and their ratio; then the same of scores."""
    torch.set_num_threads(1)
    prompts, seeds = PROMPTS.read_text("utf-8").splitlines()[:pictures], range(pictures)
    with ExitStack() as stack:
        urls = [stack.enter_context(_server("serve", "--rewards", "none")) for _ in range(2)]
        one, two = (ImageGenerator.from_pretrained(",".join(urls[:n]), device="cpu", batch_size=8) for n in (1, 2))
        images = one(prompts, seeds)
        assert (images - two(prompts, seeds)).abs().max() < 1.5 / 255  # drawn in other company, rounded otherwise
        _compare({"1 server": lambda: one(prompts, seeds), "2 servers": lambda: two(prompts, seeds)}, pictures, rounds)
    images = interpolate(images, 512, mode="bilinear")  # of a usual size, for what travels
    with _server("serve-rewards", "pickscore", "--reward-model", "embedded") as url:
        here, there = load_reward("pickscore", "embedded", "cpu"), load_reward("pickscore", url)

        def score(reward):
            return torch.cat([reward(prompts[i : i + 16], images[i : i + 16]) for i in range(0, pictures, 16)])

        assert torch.equal(score(here), score(there))
        _compare({"pickscore by URL": lambda: score(there), "in process": lambda: score(here)}, pictures, rounds)


def _compare(ways: dict[str, Callable[[], object]], pictures: int, rounds: int) -> None:
    """Print what each takes, in turns, and the ratio of the first to the second."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name}: {pictures / median:.1f} pictures/s ({median:.1f} s)")
    first, second = medians.values()
    print(f"ratio: {first / second:.2f}")


@contextmanager
def _server(*arguments: str):
    command = [sys.executable, "-m", "neuroprompt.cli", *arguments, "--port", "0"]
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
