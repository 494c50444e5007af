"""Seconds of PPO: by phase, beside TRL's trainer, on one and two processes, and what they make of the papers' runs.

    python benchmarks/ppo.py phases                                   # configs/ppo/embedded.yaml on a CPU
    python benchmarks/ppo.py phases --full-size                       # a GPU; SD 1.5, CLIP-H and GPT-2, random weights
    python benchmarks/ppo.py phases --full-size --generator.steps 4
    python benchmarks/ppo.py trl --trl-python trl112/bin/python       # see below
    python benchmarks/ppo.py scaling                                  # two free cores
    python benchmarks/ppo.py projection --images-per-second 12 --images-per-second 60

`phases` and `scaling` take the arguments of `training/ppo.py` beside their own; the config is `embedded.yaml` of
`configs/ppo`, or with --full-size `gpt2_sd15_pickscore.yaml`. Random weights cost what the real ones do; a random
policy does not find the end token, so its rewrites are as long as the window allows.

TRL had a `PPOTrainer` up to 1.12, which lives in an environment of its own:

    python -m venv trl112 && trl112/bin/pip install trl==1.12.0 transformers==5.24.0

Our side has the same policy, prompts, batches and number of tokens. CPU seconds are compared, since they do not
suffer from other processes. Prints Markdown.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
import typer
import yaml
from datasets import Dataset
from decoding import load as load_policy
from enhance import plain_prompts
from reward_throughput import describe, full_size_models
from rich.console import Console
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    IntervalStrategy,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl import ModelConfig

from neuroprompt.images import read_generator
from neuroprompt.models import locate
from neuroprompt.ppo import PPOConfig, PPOTrainer
from neuroprompt.rewards import Component, RewardSet
from neuroprompt.runs.arguments import read_arguments
from neuroprompt.scoring import PromptReward, RewardArguments
from neuroprompt.training.queries import QueryArguments, load_queries
from neuroprompt.training.rewarded import load_reward_func, without_evaluation

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "configs/ppo/embedded.yaml"
FULL_SIZE = ROOT / "configs/ppo/gpt2_sd15_pickscore.yaml"
QUERIES = ROOT / "configs/ppo/queries/train.txt"
V100_HOURS = 32 * 2.5 * 24  # of Promptist's reinforcement learning (Hao et al. 2023)

app = typer.Typer(help=__doc__.split("\n")[0], add_completion=False)
console = Console(soft_wrap=True)
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=PASSED_ON)
def phases(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file of training/ppo.py; by default one of configs/ppo.")
    ] = None,
    full_size: Annotated[bool, typer.Option(help="SD 1.5, CLIP-H and GPT-2 with random weights.")] = False,
    iterations: Annotated[int, typer.Option(help="How many iterations are measured.")] = 4,
    output: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Seconds of an iteration by phase, and the share of them that is not spent on drawing."""
    arguments = ["--queries", str(QUERIES), *context.args]
    with tempfile.TemporaryDirectory() as folder:
        queries, images, settings, model = read(config or (FULL_SIZE if full_size else EMBEDDED), arguments, folder)
        settings.max_steps = iterations * settings.steps_per_iteration
        settings.target_kl = None  # no update is left out: they cost what they cost at most
        data, _ = load_queries(queries, settings.window)
        if full_size:
            policy, tokenizer = load_policy("random-50k")
            reward = full_size_reward(images, settings, tokenizer)
        else:
            source = locate(model.model_name_or_path, "policy")
            tokenizer = AutoTokenizer.from_pretrained(source)
            policy = AutoModelForCausalLM.from_pretrained(
                source, dtype=getattr(torch, model.dtype), attn_implementation=model.attn_implementation
            )
            reward = load_reward_func(queries, images, settings, tokenizer, data["prompt"])
        warm_up(policy, reward, settings, data, tokenizer)
        clock = Clock()
        trainer = PPOTrainer(policy, reward, settings, data, processing_class=tokenizer, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    if not trainer.accelerator.is_main_process:
        return

    def mean(name: str) -> float:
        return statistics.mean(log[name] for log in clock.logs)

    seconds, drawn = statistics.mean(clock.wall()), mean("images")
    phase = {name: mean(f"seconds/{name}") for name in ("generate", "draw", "score", "logprobs", "update")}
    phase["rest"] = seconds - sum(phase.values())  # the score cache, advantages, the library's loop
    figures = {
        "processes": trainer.accelerator.num_processes,
        "seconds": seconds,
        "phases": phase,
        "images_per_second": drawn / phase["draw"],
        "outside": 1 - phase["draw"] / seconds,
    }
    console.print(
        f"{reward.generator.name}, {sum(p.numel() for p in policy.parameters()) / 1e6:.1f} M parameters in the policy; "
        f"{describe(str(settings.device))}, {figures['processes']} process(es)\n"
        f"an iteration: {settings.rollout_batch_size} rewrites, {drawn:.0f} pictures of "
        f"{reward.generator.config.steps} steps, {settings.steps_per_iteration} optimizer steps\n"
    )
    table(("phase", "s", "share"), [(name, f"{s:.3f}", f"{s / seconds:.1%}") for name, s in phase.items()])
    console.print(
        f"{seconds:.2f} s an iteration, {figures['outside']:.1%} of them outside drawing; "
        f"{figures['images_per_second']:.2f} pictures drawn a second"
    )
    if output:
        output.write_text(json.dumps(figures, indent=1))


@app.command()
def trl(
    trl_python: Annotated[Path, typer.Option(help="The interpreter of TRL 1.12's environment.")],
    rollouts: Annotated[int, typer.Option(help="Rollouts of an iteration.")] = 32,
    minibatch: Annotated[int, typer.Option(help="Rollouts of an optimizer step.")] = 8,
    epochs: Annotated[int, typer.Option(help="Passes over the rollouts of an iteration.")] = 4,
    new_tokens: Annotated[int, typer.Option(help="Tokens of each rollout.")] = 24,
    iterations: Annotated[int, typer.Option(help="How many iterations are measured, after one that warms up.")] = 4,
    rounds: Annotated[int, typer.Option(help="How often the two sides take turns.")] = 3,
    attention: Annotated[str, typer.Option(help="The kind of attention: eager or sdpa.")] = "eager",
    seed: int = 0,
) -> None:
    """CPU seconds of an iteration, ours and those of TRL 1.12's `PPOTrainer`, at equal settings."""
    torch.set_num_threads(1)
    task = {
        "prompts": plain_prompts(rollouts),
        "minibatch": minibatch,
        "epochs": epochs,
        "new_tokens": new_tokens,
        "iterations": iterations,
        "attention": attention,
        "seed": seed,
    }
    console.print(
        f"{rollouts} rollouts of {new_tokens} tokens, {epochs} epochs in minibatches of {minibatch}; one thread, "
        f"{rounds} rounds of {iterations} iterations; torch {torch.__version__}\n"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in (("embedded", locate("embedded", "policy")), ("2 layers of 64", tiny_policy(folder, seed))):
            ways = {
                "TRL 1.12": lambda model=model: theirs(trl_python, model, **task),
                "ours": lambda model=model: ours(model, critic="policy", **task),
                "ours, a critic with its own trunk": lambda model=model: ours(model, critic="copy", **task),
            }
            seconds = {way: [] for way in ways}
            for _ in range(rounds):
                for way, run in ways.items():
                    seconds[way] += run()
            base = statistics.median(seconds["TRL 1.12"])
            for way, values in seconds.items():
                median, spread = statistics.median(values), f"{min(values):.2f}–{max(values):.2f}"
                rows.append((name, way, f"{median:.2f}", spread, f"{median / base:.2f}"))
    table(("policy", "trainer", "CPU s an iteration", "range", "ratio"), rows)


@app.command(context_settings=PASSED_ON)
def scaling(
    context: typer.Context,
    config: Annotated[Path, typer.Option(help="A YAML file of training/ppo.py.")] = EMBEDDED,
    iterations: Annotated[int, typer.Option(help="How many iterations are measured.")] = 4,
    rounds: Annotated[int, typer.Option(help="How often one and two processes take turns.")] = 2,
) -> None:
    """Seconds of an iteration on one process and on two, a thread each, at the same minibatch."""
    cores = len(os.sched_getaffinity(0))
    console.print(
        f"{cores} core(s)" + (": the two processes share one, so the ratio says nothing" * (cores < 2)) + "\n"
    )
    _, _, settings, _ = read(config, context.args, "unused")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        for _ in range(rounds):
            for processes, values in seconds.items():
                launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
                own = ["--config", str(config), "--iterations", str(iterations), "--output", str(figures)]
                share = ["--per_device_train_batch_size", str(settings.per_device_train_batch_size // processes)]
                subprocess.run(
                    [sys.executable, *launch, __file__, "phases", *own, *context.args, *share],
                    env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
                measured = json.loads(figures.read_text())
                if measured["processes"] != processes:
                    raise RuntimeError(f"torchrun started {measured['processes']} processes, not {processes}")
                values.append(measured["seconds"])
    medians = {processes: statistics.median(values) for processes, values in seconds.items()}
    rows = [(str(n), f"{s:.2f}", f"{medians[1] / s:.2f}") for n, s in medians.items()]
    table(("processes", "s an iteration", "times as fast"), rows)


@app.command()
def projection(
    images_per_second: Annotated[list[float], typer.Option(help="Pictures drawn a second, as `phases` measures it.")],
    outside: Annotated[float, typer.Option(help="The share of the time outside drawing, likewise.")] = 0.15,
    iterations: Annotated[int, typer.Option(help="Iterations of Promptist's run.")] = 12_000,
    batch: Annotated[int, typer.Option(help="Rollouts of an iteration there.")] = 256,
    images_per_prompt: Annotated[int, typer.Option(help="Pictures of a rewrite there, and of its original.")] = 2,
    prompts: Annotated[int, typer.Option(help="Different plain prompts; an assumption.")] = 100_000,
    hours: Annotated[float, typer.Option(help="How long a run may take.")] = 8,
) -> None:
    """GPU-hours of the papers' runs at measured speeds: pictures / pictures a second / (1 - share outside drawing).

    What Promptist's run was is an assumption: 12 thousand episodes of 256 rollouts. With two pictures of each rewrite
    and, every time again, of its original, as its released code draws them (microsoft/LMOps, ppo_prompter.py),
    1,920 V100-hours are 0.56 s a picture. If an episode were one rollout, they would be 144 s: too many to be meant.
    """
    here = yaml.safe_load(FULL_SIZE.read_text())
    rollouts = iterations * batch
    runs = {
        "Promptist, originals drawn every time": 2 * rollouts * images_per_prompt,
        "Promptist, originals drawn once": (rollouts + prompts) * images_per_prompt,
        "Promptist, originals once, one picture of each": rollouts + prompts,
        FULL_SIZE.name: here["total_episodes"] * here["images_per_prompt"],
    }
    available = hours * 3600 * (1 - outside)  # seconds for drawing
    table(
        ("run", "pictures", *(f"hours at {rate:g}/s" for rate in images_per_second), f"pictures/s for {hours:g} h"),
        [
            (
                name,
                f"{count:,}",
                *(f"{count / rate / (1 - outside) / 3600:,.1f}" for rate in images_per_second),
                f"{count / available:,.1f}",
            )
            for name, count in runs.items()
        ],
    )
    console.print(
        f"{outside:.0%} of the time outside drawing. Promptist: {iterations:,} iterations of {batch} rollouts in "
        f"{V100_HOURS:,.0f} V100-hours, {V100_HOURS * 3600 / runs['Promptist, originals drawn every time']:.2f} "
        "V100-seconds a picture"
    )


def warm_up(
    policy: GPT2LMHeadModel,
    reward: PromptReward,
    settings: PPOConfig,
    data: Dataset,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """A minibatch of rewrites, one picture each: libraries are loaded and kernels chosen before the clock starts."""
    small, pictures = copy(settings), reward.images_per_prompt
    small.rollout_batch_size = small.minibatch_size * small.completions_per_prompt
    small.max_steps = small.steps_per_iteration
    reward.images_per_prompt = 1
    trainer = PPOTrainer(policy, reward, small, data, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    reward.images_per_prompt = pictures


# --- the two trainers --------------------------------------------------------------------------------------------


class Clock(TrainerCallback):
    """What each iteration logs, and the times at which it does."""

    def __init__(self):
        self.logs, self._wall, self._cpu = [], [], []

    def on_train_begin(self, args, state, control, **kwargs):
        self._mark()

    def on_log(self, args, state, control, logs, **kwargs):
        if "seconds/update" in logs:  # and not the last log, which is of the whole run
            self.logs.append(logs)
            self._mark()

    def _mark(self):
        self._wall.append(time.perf_counter())
        self._cpu.append(time.process_time())

    def wall(self) -> list[float]:
        """Seconds of each iteration."""
        return [end - begin for begin, end in pairwise(self._wall)]

    def cpu(self) -> list[float]:
        """CPU seconds of each iteration."""
        return [end - begin for begin, end in pairwise(self._cpu)]


def ours(
    model: str, prompts: list[str], minibatch: int, epochs: int, new_tokens: int, iterations: int, attention: str,
    seed: int, critic: str,
) -> list[float]:  # fmt: skip
    """CPU seconds of each iteration of `PPOTrainer` but the first."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        settings = PPOConfig(
            folder,
            rollout_batch_size=len(prompts),
            per_device_train_batch_size=minibatch,
            num_ppo_epochs=epochs,
            total_episodes=len(prompts) * (iterations + 1),
            max_new_tokens=new_tokens,
            window=None,
            min_modifiers=new_tokens + 1,  # the end token is closed, so that all completions are equally long
            critic=critic,
            model_init_kwargs={"attn_implementation": attention},
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=seed,
        )
        trainer = PPOTrainer(model, commas, settings, Dataset.from_dict({"prompt": prompts}), callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.cpu()[1:]


def theirs(python: Path, model: str, **task) -> list[float]:
    """The same of TRL's trainer."""
    worker = Path(__file__).with_name("trl_ppo_worker.py")
    done = subprocess.run(
        [python, worker, json.dumps({"model": str(model), **task})],
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def commas(prompts: list[str], completions: list[str]) -> list[float]:
    """A reward that costs nothing."""
    return [float(completion.count(",")) for completion in completions]


# --- what they are made of ---------------------------------------------------------------------------------------


def read(
    config: Path, arguments: list[str], output_dir: str
) -> tuple[QueryArguments, RewardArguments, PPOConfig, ModelConfig]:
    """The arguments of `training/ppo.py`, without all that comes between iterations."""
    nothing = "--eval_samples 0 --report_to none"
    fixed = [*nothing.split(), "--disable_tqdm", "true", "--output_dir", output_dir]
    classes = (QueryArguments, RewardArguments, PPOConfig, ModelConfig)
    queries, images, settings, model = read_arguments(classes, "", ["--config", str(config), *arguments, *fixed])
    without_evaluation(settings)
    settings.save_strategy = IntervalStrategy.NO
    return queries, images, settings, model


def full_size_reward(images: RewardArguments, settings: PPOConfig, tokenizer: PreTrainedTokenizerBase) -> PromptReward:
    """PickScore of Stable Diffusion's pictures, NeuroPrompts' reward, from random weights."""
    _, drawing = read_generator(images.generator)
    generator, score = full_size_models(str(settings.device), drawing)
    return PromptReward(
        generator,
        RewardSet([Component(score)]),
        relative="none",
        images_per_prompt=images.images_per_prompt,
        eos_token_id=tokenizer.eos_token_id,
    )


def tiny_policy(folder: str, seed: int) -> str:
    """A random GPT-2 of 2 layers and width 64 over the embedded policy's vocabulary, as a folder."""
    tokenizer = AutoTokenizer.from_pretrained(locate("embedded", "policy"))
    torch.manual_seed(seed)
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=160, n_embd=64, n_layer=2, n_head=2, **special)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    for row in (head, ("---",) * len(head), *rows):
        console.print("| " + " | ".join(row) + " |", markup=False, highlight=False)
    console.print()


if __name__ == "__main__":
    app()
