"""Search strategies at equal numbers of pictures: what their winners are worth on pictures that did not choose them.

    python benchmarks/search.py                                              # the embedded models, 12 prompts
    python benchmarks/search.py --budget 64 --prompts prompts.txt --strategies best-of-n,evolve
    python benchmarks/search.py --generator stable-diffusion-v1-5/stable-diffusion-v1-5 --reward-model ""

Every strategy has the same budget, the original's pictures included, and every winner is drawn with the same fresh
seeds as its original. Intervals are bootstrap percentiles over prompts; differences are paired, against the first
strategy of the list. Seconds are of the whole search, policy and all. Prints Markdown.
"""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.evaluation.statistics import bootstrap, compare
from neuroprompt.scoring import RewardArguments, build_reward
from neuroprompt.search import STRATEGIES, SearchConfig, optimize

PROMPTS = (
    "boy on a horse|a castle|a red apple|portrait of an old fisherman|a dragon over a city|a bowl of strawberries|"
    "robot playing guitar|a sailboat at sunset|a cat in the snow|city street at night|a wizard reading a book|"
    "mountain lake"
).split("|")


def main(
    prompts: Annotated[Path | None, typer.Option(help="A prompt a line; by default twelve of our own.")] = None,
    budget: Annotated[int, typer.Option(help="Pictures per prompt.")] = 64,
    held_out: Annotated[int, typer.Option(help="Fresh seeds.")] = 8,
    strategies: Annotated[str, typer.Option(help="Of those there are.")] = ",".join(STRATEGIES),
    images_per_prompt: Annotated[int, typer.Option(help="Of the original, and of each of best-of-n.")] = 2,
    rewards: str = "pickscore:1.0",
    generator: str = "embedded",
    reward_model: str = "embedded",
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the generator.")] = None,
    model: Annotated[str, typer.Option(help="The policy.")] = "embedded",
    seed: int = 0,
) -> None:
    texts = prompts.read_text("utf-8").split("\n") if prompts else PROMPTS
    texts = [text.strip() for text in texts if text.strip()]
    enhancer = PromptEnhancer.from_pretrained(model)
    reward = build_reward(
        RewardArguments(
            generator=generator,
            rewards=rewards,
            reward_model=reward_model or None,
            images_per_prompt=images_per_prompt,
            num_inference_steps=steps,
            generator_dtype=dtype,
        )
    )
    console = Console()
    console.print(f"{len(texts)} prompts, {budget} pictures each, {held_out} fresh seeds, {rewards}\n")
    console.print("| strategy | chosen by | held out | against the first | wins | pictures | seconds |", soft_wrap=True)
    console.print("|---|---|---|---|---|---|---|")
    first: np.ndarray | None = None
    for strategy in strategies.split(","):
        began = time.perf_counter()
        results = optimize(texts, reward, enhancer, SearchConfig(strategy, budget, held_out, seed))
        seconds = time.perf_counter() - began
        gains = np.array([r.held_out for r in results])
        first = gains if first is None else first
        against = compare(gains, first) if gains is not first else None
        console.print(
            f"| {strategy} | {np.mean([r.selected for r in results]):.3f} | {bootstrap(gains)} | "
            f"{against.difference if against else ''} | {f'{against.win_rate:.0%}' if against else ''} | "
            f"{np.mean([r.images for r in results]):.1f} | {seconds:.0f} |",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )


if __name__ == "__main__":
    typer.run(main)
