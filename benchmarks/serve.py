"""What the server does under load: many clients beside one, many requests, and more than it lets in.

    python benchmarks/serve.py                       # 32 clients, 10,000 requests
    python benchmarks/serve.py --requests 64 --alone 16

A server is started by the command line, with one worker for rewrites. One client sends prompts one after the other, and
then many send the same at once. Then come many requests, every fifth with a new prompt: an answer that is not of its
prompt, or not what the same prompt got before, is mixed, and one that does not come is lost. At the end come four times
as many clients at once as are let in.
"""

import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import psutil
import requests
import typer
from rich.console import Console
from rich.table import Table

PROMPTS = Path(__file__).parents[1] / "configs/ppo/queries/train.txt"
LET_IN = 64
_here = threading.local()  # each client's connection


class Answer(NamedTuple):
    prompt: str
    status: int
    text: str | None
    seconds: float


def main(
    clients: Annotated[int, typer.Option(help="How many ask at once.")] = 32,
    alone: Annotated[int, typer.Option(help="Requests that one client sends, and that all send together.")] = 256,
    total: Annotated[int, typer.Option("--requests", help="Requests that are checked for loss and mixing.")] = 10_000,
    workers: Annotated[int, typer.Option(help="Processes that rewrite.")] = 1,
) -> None:
    """Print throughput, latency, batch sizes, memory, and what became of the requests."""
    prompts = PROMPTS.read_text("utf-8").splitlines()
    if max(alone, total // 5 + 1, 4 * LET_IN) > len(prompts):
        raise typer.BadParameter(f"there are {len(prompts):,} prompts in {PROMPTS}: send fewer requests")
    with _server(workers) as (url, process):
        ask_all(url, prompts[:clients], clients)  # warm up
        begin = time.perf_counter()
        one = ask_all(url, prompts[:alone], 1)
        middle, count, size = time.perf_counter(), *_batches(url)
        many = ask_all(url, prompts[:alone], clients)
        end, new_count, new_size = time.perf_counter(), *_batches(url)

        table = Table("", "requests/s", "p50, s", "p99, s", "requests a batch", title=f"{alone} requests")
        table.add_row("one client", f"{alone / (middle - begin):.2f}", *_latency(one), "1")
        mean = (new_size - size) / (new_count - count)
        table.add_row(f"{clients} clients", f"{alone / (end - middle):.2f}", *_latency(many), f"{mean:.1f}")
        console = Console()
        console.print(table, f"ratio of throughput: {(middle - begin) / (end - middle):.2f}")

        texts = {answer.prompt: answer.text for answer in one}
        before = _memory(process)
        begin = time.perf_counter()
        answers = many + ask_all(url, [prompts[i // 5] for i in range(total)], clients)
        seconds = time.perf_counter() - begin
        lost = sum(answer.status != 200 for answer in answers)
        mixed = sum(a.text is not None and texts.setdefault(a.prompt, a.text) != a.text for a in answers)
        console.print(
            f"{total:,} requests in {seconds:.0f} s: {lost} lost, {mixed} mixed; p50 and p99 "
            f"{' and '.join(_latency(answers))} s; memory {before:.0f} MB before, {_memory(process):.0f} MB after"
        )

        crowd = ask_all(url, prompts[: 4 * LET_IN], 4 * LET_IN)
        (after,) = ask_all(url, prompts[:1], 1)
        console.print(
            f"{len(crowd)} at once, where {LET_IN} are let in: {dict(Counter(answer.status for answer in crowd))}; "
            f"the next request: {after.status} after {after.seconds:.2f} s"
        )
    if lost or mixed or after.status != 200:
        raise typer.Exit(1)


def ask_all(url: str, prompts: list[str], clients: int) -> list[Answer]:
    """Every prompt a request, so many at once."""
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda prompt: _ask(url, prompt), prompts))


def _ask(url: str, prompt: str) -> Answer:
    if not hasattr(_here, "session"):
        _here.session = requests.Session()
    begin = time.perf_counter()
    try:
        answer = _here.session.post(f"{url}/v1/enhance", json={"prompts": prompt}, timeout=300)
    except requests.RequestException:
        return Answer(prompt, 0, None, time.perf_counter() - begin)
    seconds, text = time.perf_counter() - begin, None
    if answer.ok:
        ((made,),) = answer.json()["results"]
        text = made["text"] if made["text"].startswith(prompt) and made["original"] == prompt else "another's"
    return Answer(prompt, answer.status_code, text, seconds)


@contextmanager
def _server(workers: int):
    flags = ("--generator", "none", "--rewards", "none", "--max-concurrent", str(LET_IN), "--workers", str(workers))
    command = [sys.executable, "-m", "neuroprompt.cli", "serve", "--port", "0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = re.search(r"http://\S+", process.stderr.readline())[0]
            while not requests.get(f"{url}/readyz", timeout=60).ok:
                time.sleep(0.2)
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()


def _batches(url: str) -> list[float]:
    """How many batches there were, and the requests in all of them."""
    text = requests.get(f"{url}/metrics", timeout=60).text
    return [float(re.search(rf'batch_size_{what}{{part="policy"}} (\S+)', text)[1]) for what in ("count", "sum")]


def _latency(answers: list[Answer]) -> tuple[str, str]:
    seconds = statistics.quantiles([answer.seconds for answer in answers], n=100, method="inclusive")
    return f"{seconds[49]:.2f}", f"{seconds[98]:.2f}"


def _memory(server: psutil.Process) -> float:
    """Megabytes of the front and its workers."""
    return sum(process.memory_info().rss for process in (server, *server.children(recursive=True))) / 1e6


if __name__ == "__main__":
    typer.run(main)
