"""Search with real pictures: what each strategy's winners are worth, and what pictures say of prompts not drawn.

    python benchmarks/search.py strategies                                   # the embedded models, 12 prompts
    python benchmarks/search.py strategies --budget 64 --prompts prompts.txt --strategies best-of-n,bayes
    python benchmarks/search.py strategies --generator stable-diffusion-v1-5/stable-diffusion-v1-5 --reward-model ""
    python benchmarks/search.py prediction                                   # of samples from other samples' pictures

`strategies`: every strategy has the same budget, the original's pictures included, and every winner is drawn with the
same fresh seeds as its original. Intervals are bootstrap percentiles over prompts; differences are paired, against the
first strategy of the list. Seconds are of the whole search, policy and all.

`prediction`: samples of a prompt are drawn with two seeds. A `Posterior` that has seen one picture of each of some of
them says what the others are worth; the correlation with their pictures tells how much a search can know beforehand.

Both print Markdown.
"""

import random
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from neuroprompt.enhancer import TEMPERATURE, PromptEnhancer
from neuroprompt.scoring import PromptReward, RewardArguments, build_reward
from neuroprompt.search import STRATEGIES, SearchConfig, optimize
from neuroprompt.search.candidates import Space
from neuroprompt.search.posterior import Posterior
from neuroprompt.search.strategies import Search
from neuroprompt.statistics import bootstrap, compare

PROMPTS = (
    "boy on a horse|a castle|a red apple|portrait of an old fisherman|a dragon over a city|a bowl of strawberries|"
    "robot playing guitar|a sailboat at sunset|a cat in the snow|city street at night|a wizard reading a book|"
    "mountain lake"
).split("|")


app = typer.Typer(help=__doc__.split("\n")[0], add_completion=False)
console = Console(soft_wrap=True, markup=False, highlight=False)
Prompts = Annotated[Path | None, typer.Option(help="A prompt a line; by default twelve of our own.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps.")]
Batch = Annotated[int | None, typer.Option(help="Pictures drawn at once.")]
Dtype = Annotated[str | None, typer.Option(help="Of the generator.")]
Policy = Annotated[str, typer.Option(help="The policy.")]


@app.command()
def strategies(
    prompts: Prompts = None,
    budget: Annotated[int, typer.Option(help="Pictures per prompt.")] = 64,
    held_out: Annotated[int, typer.Option(help="Fresh seeds.")] = 8,
    strategies: Annotated[str, typer.Option(help="Which to compare.")] = ",".join(STRATEGIES),
    images_per_prompt: Annotated[int, typer.Option(help="Of the original, and of each of best-of-n.")] = 2,
    rewards: str = "pickscore:1.0",
    generator: str = "embedded",
    reward_model: str = "embedded",
    steps: Steps = None,
    batch_size: Batch = None,
    dtype: Dtype = None,
    model: Policy = "embedded",
    seed: int = 0,
) -> None:
    """What each strategy's winners are worth on pictures that did not choose them."""
    texts = read(prompts)
    enhancer = PromptEnhancer.from_pretrained(model)
    reward = load(generator, rewards, reward_model, images_per_prompt, steps, batch_size, dtype)
    console.print(f"{len(texts)} prompts, {budget} pictures each, {held_out} fresh seeds, {rewards}\n")
    console.print("| strategy | chosen by | held out | against the first | wins | pictures | seconds |")
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
            f"{np.mean([r.images for r in results]):.1f} | {seconds:.0f} |"
        )


@app.command()
def prediction(
    prompts: Prompts = None,
    samples: Annotated[int, typer.Option(help="Of each prompt.")] = 96,
    seen: Annotated[int, typer.Option(help="Of them, with a picture that is known.")] = 40,
    splits: Annotated[int, typer.Option(help="Random choices of these.")] = 8,
    rewards: str = "pickscore:1.0",
    generator: str = "embedded",
    reward_model: str = "embedded",
    steps: Steps = None,
    batch_size: Batch = None,
    dtype: Dtype = None,
    model: Policy = "embedded",
    seed: int = 0,
) -> None:
    """How well one picture of some samples foretells the pictures of others, by what is known of the texts."""
    texts = read(prompts)
    enhancer = PromptEnhancer.from_pretrained(model)
    reward = load(generator, rewards, reward_model, 2, steps, batch_size, dtype)
    rng = np.random.default_rng(seed)
    made = enhancer.rewrite(
        texts, num_return_sequences=samples, do_sample=True, temperature=TEMPERATURE, seed=seed, output_scores=False
    )
    correlations: dict[tuple[str, str], list[float]] = {}  # (what is known of a text, which seed): one a prompt
    for original, variants in zip(texts, made, strict=True):
        space = Space(original)
        texts_of = (space.text([m.text for m in e.modifiers], random.Random(seed)) for e in variants)
        rewrites = list(dict.fromkeys(text for text in texts_of if text))
        seeds = np.tile([0, 1], len(rewrites))
        drawn = reward.measure([t for t in rewrites for _ in range(2)], [original] * len(seeds), seeds.tolist())
        total = sum(term.weight * drawn.scores[name] for name, term in reward.terms.items())
        values = total.reshape(-1, 2)  # (rewrites, seeds)
        known = {
            "the generator's embedding": reward.generator.encode(rewrites).double().cpu().numpy(),
            "the set of modifiers": Search(space, 3, 2, seed).features(rewrites),
        }
        for name, features in known.items():
            found = []
            for _ in range(splits):
                order = rng.permutation(len(rewrites))
                inside, outside = order[:seen], order[seen:]
                expected = Posterior(features, inside, np.zeros(seen, int), values[inside, 0]).mean[outside]
                found.append([np.corrcoef(expected, values[outside, k])[0, 1] for k in (0, 1)])
            for which, r in zip(("the same", "another"), np.mean(found, 0), strict=True):
                correlations.setdefault((name, which), []).append(float(r))
    console.print(f"{len(texts)} prompts, {samples} samples each, {seen} of them with a picture, {rewards}\n")
    console.print("| known of a text | seed of the others' pictures | correlation |\n|---|---|---|")
    for (name, which), found in correlations.items():
        console.print(f"| {name} | {which} | {bootstrap(np.array(found))} |")


def read(prompts: Path | None) -> list[str]:
    texts = prompts.read_text("utf-8").split("\n") if prompts else PROMPTS
    return [text.strip() for text in texts if text.strip()]


def load(
    generator: str,
    rewards: str,
    reward_model: str,
    images_per_prompt: int,
    steps: int | None,
    batch_size: int | None,
    dtype: str | None,
) -> PromptReward:
    return build_reward(
        RewardArguments(
            generator={"name": generator, "steps": steps, "batch_size": batch_size, "dtype": dtype},
            rewards=rewards,
            reward_model=reward_model or None,
            images_per_prompt=images_per_prompt,
        )
    )


if __name__ == "__main__":
    app()
