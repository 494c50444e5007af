"""The gate: what noise passes, what it costs, and what is lost by it, beside always and never rewriting.

    python benchmarks/gate.py simulated                       # false acceptance and power, over families of noise
    python benchmarks/gate.py real                            # the embedded models, the 300 held-out prompts
    python benchmarks/gate.py real --rows 20 --pictures 4     # fewer

`simulated`: paired differences from distributions; a false acceptance is one of noise that is symmetric about zero, and
the power is that of Gaussian gains, beside that of Student's test of all pairs.

`real`: first identical policies, every prompt on both sides with other seeds on each, so that all that differs is
noise; then each policy's rewrites, whose verdicts are set against pictures with held-out seeds. Regret is how much less
the reward is, by these, than that of the better of plain prompt and rewrite. Intervals are bootstrap percentiles over
prompts, of shares exact binomial ones (Clopper and Pearson). Both print Markdown.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from scipy import stats

from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.gate import Gate, decide
from neuroprompt.prompt_files import read_lines
from neuroprompt.scoring import RewardArguments, build_reward
from neuroprompt.statistics import SequentialTest, bootstrap, student_t

NOISE: dict[str, Callable] = {
    "Gaussian": lambda rng, shape: rng.standard_normal(shape),
    "Student's t, 3 degrees of freedom": lambda rng, shape: rng.standard_t(3, shape),
    "Cauchy": lambda rng, shape: rng.standard_cauchy(shape),
    "of lognormal scores": lambda rng, shape: rng.lognormal(0, 1.5, shape) - rng.lognormal(0, 1.5, shape),
    "half of the pictures identical": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.5),
    "three values": lambda rng, shape: rng.choice([-1.0, 0.0, 1.0], shape, p=[0.425, 0.15, 0.425]),
    "two values": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "not guaranteed: 1 − an exponential": lambda rng, shape: 1 - rng.exponential(size=shape),
}
GAINS = (0.5, 1.0, 1.5, 2.0)

app = typer.Typer(help=__doc__.split("\n")[0], add_completion=False)
console = Console(soft_wrap=True, markup=False, highlight=False)
Pictures = Annotated[list[int], typer.Option(help="Pictures of each of the two, at most. Repeatable.")]


@app.command()
def simulated(
    pictures: Pictures = [4, 5, 6, 8, 12],  # noqa: B006 (Typer reads it)
    repeats: Annotated[int, typer.Option(help="Rewrites that are simulated.")] = 20_000,
    seed: int = 0,
) -> None:
    """How often noise passes, and gains do."""
    rng = np.random.default_rng(seed)
    _head("noise", *(f"{n} pictures" for n in pictures))
    for name, draw in NOISE.items():
        accepted = [decide(SequentialTest(n), draw(rng, (repeats, n))).accepted.mean() for n in pictures]
        _row(name, *(f"{share:.1%}" for share in accepted))
    console.print()
    _head("gain, in standard deviations", *(f"{n}: accepted (Student's), pairs" for n in pictures))
    for gain in (0.0, *GAINS):
        cells = []
        for n in pictures:
            differences = rng.standard_normal((repeats, n)) + gain
            made = decide(SequentialTest(n), differences)
            best = (student_t(differences) > stats.t.ppf(0.95, n - 1)).mean()
            cells.append(f"{made.accepted.mean():.1%} ({best:.1%}), {made.pairs.mean():.1f}")
        _row(str(gain), *cells)


@app.command()
def real(
    prompts: Annotated[Path, typer.Option(help="A prompt a line.")] = Path("configs/ppo/queries/test.txt"),
    rows: Annotated[int, typer.Option(help="Take the first so many prompts.")] = 300,
    policies: Annotated[str, typer.Option(help="Whose rewrites, with commas.")] = "embedded,embedded-ppo",
    pictures: Pictures = [4, 8],  # noqa: B006
    held_out: Annotated[int, typer.Option(help="Seeds that verdicts are judged by.")] = 8,
    rewards: str = "pickscore:1,clip:0",
    generator: str = "embedded",
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 4,
    batch_size: Annotated[int, typer.Option(help="Pictures that are drawn at once.")] = 64,
    device: str | None = None,
) -> None:
    """How often noise passes with real pictures, and what verdicts are worth."""
    config = {"name": generator, "steps": steps, "batch_size": batch_size}
    reward = build_reward(RewardArguments(config, rewards=rewards, reward_model="embedded"), device)
    originals = [line.prompt for line in read_lines(str(prompts))[:rows]]
    _head("identical policies", "false acceptance", "pictures of a prompt")
    for n in pictures:
        gate = Gate(reward, pictures=n)
        measured = _measure(reward, originals, originals, lambda original, n=n: _seeds(reward, original, 2 * n))
        sides = {name: scores.reshape(len(originals), 2, n) for name, scores in measured.items()}
        differences = {name: own[:, 0] - own[:, 1] for name, own in sides.items()}
        made = decide(gate.test, differences[gate.counted[0]], [differences[name] for name in gate.judges])
        alone = decide(gate.test, differences[gate.counted[0]])
        _row(f"{n} pictures", _share(made.accepted), f"{2 * made.pairs.mean():.1f}")
        _row(f"{n} pictures, no judge", _share(alone.accepted), f"{2 * alone.pairs.mean():.1f}")
    console.print()
    evaluation = reward.replace(images_per_prompt=held_out)
    plain = _measure(evaluation, originals, originals, evaluation.seeds)
    judged = Gate(reward).judges
    _head("policy", "choice", "accepted", "pictures", "regret", "gain", *(f"{name}, gain" for name in judged))
    for source in policies.split(","):
        enhancer = PromptEnhancer.from_pretrained(source, device=device)
        texts = [variants[0].text for variants in enhancer.rewrite(originals, output_scores=False)]
        own = _measure(evaluation, texts, originals, evaluation.seeds)
        gains = {name: (own[name] - plain[name]).mean(1) for name in own}
        choices = {"always": (np.ones(len(texts), bool), 0.0), "never": (np.zeros(len(texts), bool), 0.0)}
        for n in pictures:
            for judges in (None, []):
                verdicts = Gate(reward, judges, n)(originals, texts)
                title = f"gate, {n} pictures" + ", no judge" * (judges is not None)
                drawn = np.mean([2 * verdict.pictures for verdict in verdicts])
                choices[title] = np.array([verdict.accepted for verdict in verdicts]), drawn
        gain = gains[Gate(reward).counted[0]]
        choices["oracle"] = gain > 0, 0.0
        for title, (accepted, drawn) in choices.items():
            regret = bootstrap(np.maximum(gain, 0.0) - np.where(accepted, gain, 0.0))
            others = (bootstrap(np.where(accepted, gains[name], 0.0)) for name in judged)
            kept = bootstrap(np.where(accepted, gain, 0.0))
            _row(source, title, f"{accepted.mean():.1%}", f"{drawn:.1f}", str(regret), str(kept), *map(str, others))


def _measure(reward, texts: list[str], originals: list[str], seeds: Callable) -> dict[str, np.ndarray]:
    """Scores of each text with its original's seeds, by component. (texts, seeds)"""
    jobs = [(text, original, seed) for text, original in zip(texts, originals, strict=True) for seed in seeds(original)]
    measured = reward.measure(*map(list, zip(*jobs, strict=True)), use_cache=False)
    return {name: scores.reshape(len(texts), -1) for name, scores in measured.scores.items()}


def _seeds(reward, original: str, count: int) -> list[int]:
    return reward.replace(seed=reward.seed + 1, images_per_prompt=count).seeds(original)


def _share(accepted: np.ndarray) -> str:
    found = stats.binomtest(int(accepted.sum()), len(accepted)).proportion_ci()
    return f"{accepted.mean():.1%} [{found.low:.1%}, {found.high:.1%}]"


def _head(*names: str) -> None:
    _row(*names)
    console.print("|---|" + "---:|" * (len(names) - 1))


def _row(*cells: str) -> None:
    console.print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    app()
