"""Which weight a price should have: what choosing by reward and price keeps and loses, before anything is trained.

    python benchmarks/weights.py "pickscore:1.0,echo:1.0@plain"
    python benchmarks/weights.py "pickscore:1.0,echo:1.0@plain" --weights 0,1,4,16 --rows 100 --measure vqa,clip

For each prompt the best of a few samples of the policy is chosen, by the first reward and the second at each weight,
with pictures of the plain prompt's seeds. Prints how much of the first reward's gain is kept, and what each reward
gains against the plain prompt, in its own units. Policies that are trained go the same way, and farther.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from neuroprompt.enhancer import TEMPERATURE, PromptEnhancer
from neuroprompt.prompt_files import read_lines
from neuroprompt.scoring import RewardArguments, build_reward

console = Console(soft_wrap=True, markup=False, highlight=False)


def main(
    rewards: Annotated[str, typer.Argument(help="The reward, then its price: two components with a comma.")],
    measure: Annotated[str, typer.Option(help="Further rewards that are measured, with commas.")] = "vqa,clip",
    weights: Annotated[str, typer.Option(help="Of the price, with commas.")] = "0,0.5,1,2,4,8",
    policy: Annotated[str, typer.Option(help="Whose samples.")] = "embedded",
    prompts: Annotated[Path, typer.Option(help="A prompt a line.")] = Path("configs/ppo/queries/validation.txt"),
    rows: Annotated[int, typer.Option(help="Take only the first so many.")] = 40,
    samples: Annotated[int, typer.Option(help="Of each prompt.")] = 8,
    images: Annotated[int, typer.Option(help="Pictures of each sample.")] = 2,
    generator: str = "embedded",
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 4,
    reward_model: str = "embedded",
    device: str | None = None,
) -> None:
    """Print what is kept and lost at each weight."""
    config = {"name": generator, "steps": steps}
    arguments = RewardArguments(config, rewards, measure, reward_model, images_per_prompt=images)
    reward = build_reward(arguments, device)
    main_name, price_name = [part.name for part in arguments.parts][:2]
    originals = [line.prompt for line in read_lines(str(prompts))[:rows]]
    enhancer = PromptEnhancer.from_pretrained(policy, device=device)
    made = enhancer.rewrite(originals, num_return_sequences=samples, do_sample=True, temperature=TEMPERATURE)
    plain = _scores(reward, originals, originals, 1)
    drawn = _scores(reward, [v.text for variants in made for v in variants], originals, samples)
    gains = {name: (own - plain[name]).mean(2) for name, own in drawn.items()}  # (prompts, samples)
    flagged = np.zeros(plain[main_name].shape, bool)
    worth = {name: reward.terms[name].gain(drawn[name], plain[name], flagged).mean(2) for name in gains}
    console.print(f"| weight of {price_name} | gain kept | {' | '.join(gains)} |\n|---|---:|{'---:|' * len(gains)}")
    best = gains[main_name].max(1).mean()
    for weight in map(float, weights.split(",")):
        unit = reward.terms[price_name].weight
        chosen = (worth[main_name] + weight / unit * worth[price_name]).argmax(1)[:, None]
        own = {name: np.take_along_axis(gain, chosen, 1).mean() for name, gain in gains.items()}
        cells = " | ".join(f"{value:+.3g}" for value in own.values())
        console.print(f"| {weight:g} | {own[main_name] / best:.0%} | {cells} |")


def _scores(reward, texts: list[str], originals: list[str], samples: int) -> dict[str, np.ndarray]:
    """(prompts, samples, images) by component."""
    sources = [original for original in originals for _ in range(samples)]
    jobs = [(text, source, seed) for text, source in zip(texts, sources, strict=True) for seed in reward.seeds(source)]
    measured = reward.measure(*map(list, zip(*jobs, strict=True)))
    return {name: scores.reshape(len(originals), samples, -1) for name, scores in measured.scores.items()}


if __name__ == "__main__":
    typer.run(main)
