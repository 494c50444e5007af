"""How fast prompts are rewritten, beside `transformers.generate` one prompt at a time, in one run.

    python benchmarks/enhance.py
    python benchmarks/enhance.py --prompts 200 --model ./runs/sft

All sides rewrite the same prompts with the same policy and width, and may write as many tokens.
"""

import statistics
import time
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from neuroprompt.enhancer import PromptEnhancer

SUBJECTS = [
    "a fox",
    "an old sailor",
    "a castle",
    "two robots",
    "a bowl of strawberries",
    "a red car",
    "a girl with a kite",
]
PLACES = ["", " in the snow", " by the sea", " at night", " on a hill in autumn", " in a small room", " under water"]
DOINGS = ["", ", seen from above", " playing chess", " waiting for rain", " made of glass", " in the morning light"]


def plain_prompts(count: int) -> list[str]:
    """`count` different everyday prompts of 2 to 15 words."""
    every = [f"{s}{p}{d}" for d in DOINGS for p in PLACES for s in SUBJECTS]
    return [f"{every[i % len(every)]}{f' number {i}' if i >= len(every) else ''}" for i in range(count)]


def main(
    model: Annotated[str, typer.Option(help="embedded, a folder, or a hub id.")] = "embedded",
    prompts: Annotated[int, typer.Option(help="How many.")] = 1000,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves PyTorch's default.")] = 0,
    device: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Time one prompt, a file of prompts by beam search and by sampling, and the loop that others use."""
    if threads:
        torch.set_num_threads(threads)
    enhancer = PromptEnhancer.from_pretrained(model, device=device)
    texts = plain_prompts(prompts)
    enhancer(texts[:4])  # warm up

    single = []
    for text in texts[:20]:
        start = time.perf_counter()
        enhancer(text)
        single.append(time.perf_counter() - start)
    beams = _time(lambda: enhancer(texts))
    samples = _time(lambda: enhancer(texts, do_sample=True))
    few = texts[:: max(1, len(texts) // 50)][:50]
    loop_beams = _time(lambda: _loop(enhancer, few, num_beams=5, do_sample=False)) / len(few) * len(texts)
    loop_samples = _time(lambda: _loop(enhancer, few, num_beams=1, do_sample=True, top_k=100)) / len(few) * len(texts)

    table = Table("", "prompts/s", "ratio", title=f"{model}, {prompts} prompts, {torch.get_num_threads()} threads")
    n = len(texts)
    table.add_row("5 beams, from a list", f"{n / beams:.1f}", f"{loop_beams / beams:.1f} × the loop")
    table.add_row("5 beams, generate() one by one", f"{n / loop_beams:.1f}", "1")
    table.add_row("sampling, from a list", f"{n / samples:.1f}", f"{loop_samples / samples:.1f} × the loop")
    table.add_row("sampling, generate() one by one", f"{n / loop_samples:.1f}", "1")
    console = Console()
    console.print(table)
    console.print(
        f"one prompt, 5 beams: {statistics.median(single):.3f} s (slowest of {len(single)}: {max(single):.3f} s)"
    )


def _loop(enhancer: PromptEnhancer, texts: list[str], **decoding) -> None:
    for text in texts:
        inputs = enhancer.tokenizer(text, return_tensors="pt").to(enhancer.model.device)
        with torch.inference_mode():
            enhancer.model.generate(**inputs, max_new_tokens=90, **decoding)


def _time(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    typer.run(main)
