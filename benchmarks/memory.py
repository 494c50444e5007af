"""What each training config takes: the tables of docs/gpu.md, without weights, GPU or network.

    python benchmarks/memory.py                                     # every config
    python benchmarks/memory.py configs/ppo/mine.yaml --processes 4
    python benchmarks/memory.py --accuracy                          # estimates beside what a CPU really holds

Hub ids are found in benchmarks/published, in the hub's layout: the published configs, reduced to what sizes depend on.
Their parameter counts are those that are published (tests/planning/test_skeletons.py).
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
import yaml
from huggingface_hub import constants
from rich.console import Console
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM
from trl import ModelConfig

from neuroprompt.data import DataConfig
from neuroprompt.images import GeneratorConfig, ImageGenerator, PipelineGenerator
from neuroprompt.models import locate
from neuroprompt.ppo import PPOConfig
from neuroprompt.ppo.config import GRPOConfig
from neuroprompt.ppo.losses import token_logprobs
from neuroprompt.ppo.model import PolicyWithValue, disable_dropout
from neuroprompt.ppo.rollouts import Queries, sample
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.rewards import load_reward
from neuroprompt.runs.arguments import for_any_machine, read_arguments
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.planning import Layout, Plan, passes, plan_grpo, plan_ppo, plan_sft, skeletons
from neuroprompt.training.queries import QueryArguments
from neuroprompt.training.sft import SFTArguments, SFTConfig

ROOT = Path(__file__).parents[1]
PUBLISHED = Path(__file__).with_name("published")
KINDS = ("sft", "ppo", "grpo")
REVISION = "0" * 40
LORA = ["--use_peft", "true", "--lora_target_modules", "all-linear"]
STARTS = {  # policies that a supervised stage makes, and what it starts from
    "runs/gpt2_diffusiondb/sft": "openai-community/gpt2",
    "runs/smollm2/sft": "HuggingFaceTB/SmolLM2-135M",
    "runs/smollm2_retell/sft": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "runs/qwen3_retell/sft": "Qwen/Qwen3-0.6B",
    "runs/embedded/init": "embedded",
    "runs/embedded/wide": "embedded",
    "runs/embedded/sft": "embedded",
}
MEASURES = {  # what docs/gpu.md has against too little memory
    "as it is": "",
    "`generator: {batch_size: 4}`": "--generator.batch_size 4",
    "`per_device_train_batch_size: 8`": "--per_device_train_batch_size 8",
    "both": "--generator.batch_size 4 --per_device_train_batch_size 8",
    "both, and `cpu_offload: model`": "--generator.batch_size 4 --per_device_train_batch_size 8 "
    "--generator.cpu_offload model",
}
ROWS, PROMPT, COMPLETION = 8, 20, 40  # of the passes that are measured

app = typer.Typer(add_completion=False, rich_markup_mode=None)
console = Console(soft_wrap=True, markup=False, highlight=False)


@app.command()
def main(
    configs: Annotated[
        list[Path] | None, typer.Argument(help="YAML files in folders sft, ppo or grpo; by default all of configs/.")
    ] = None,
    processes: Annotated[int, typer.Option(help="How many GPUs the columns for several are about.")] = 8,
    measures: Annotated[bool, typer.Option("--measures", help="Print what can be done where memory is short.")] = False,
    accuracy: Annotated[bool, typer.Option("--accuracy", help="Print estimates beside measurements on a CPU.")] = False,
) -> None:
    """Print what trainings take, in GB."""
    if accuracy:
        table(("phase, embedded models", "estimate / measured"), ((n, f"{e / m:.2f}") for n, e, m in compared()))
        return
    configs = configs or [file for kind in KINDS for file in sorted((ROOT / "configs" / kind).glob("*.yaml"))]
    with published():
        if measures:
            configs = [config for config in configs if config.parent.name == "ppo"]
            names = [f"`{config.parent.name}/{config.stem}`" for config in configs]
            figures = (
                (name, *(f"{plan(config, changed.split()).memory / 1e9:.1f}" for config in configs))
                for name, changed in MEASURES.items()
            )
            table(("", *names), figures)
        else:
            names = ("config", "held", "at the peak", "in", f"on {processes}", f"ZeRO-2 on {processes}", "disk")
            table(names, (row(c, a, processes) for c in configs for a in variants(c)))


def variants(config: Path) -> list[list[str]]:
    """Arguments to plan a config with: of SFT of a whole model, LoRA's too."""
    whole = config.parent.name == "sft" and not yaml.safe_load(config.read_text("utf-8")).get("use_peft")
    return [[], LORA] if whole else [[]]


def row(config: Path, more: list[str], processes: int) -> tuple[str, ...]:
    """A line of the table."""
    made = plan(config, more)
    held = sum(part.bytes for part in made.held)
    share = plan(config, [*more, *one_of(processes, config)])
    many, cut = (replace(share, layout=Layout(processes, zero)).memory for zero in (0, 2))
    phase = max(made.peaks, key=lambda part: part.bytes).name.split(":")[0]
    name = f"`{config.parent.name}/{config.stem}`" + ", LoRA" * bool(more)
    held, peak, many, cut, disk = (f"{size / 1e9:.1f}" for size in (held, made.memory, many, cut, made.disk))
    return name, held, peak, phase, many, cut, disk


def one_of(processes: int, config: Path) -> list[str]:
    """Arguments for what one of so many processes does; the sizes of a config count over all of them."""
    given = yaml.safe_load(config.read_text("utf-8"))
    names = ("minibatch_size", "rollout_batch_size", "generation_batch_size")
    return [text for name in names if name in given for text in (f"--{name}", str(given[name] // processes))]


def plan(config: Path, arguments: list[str]) -> Plan:
    """The plan of a config as its entry point makes it, for a GPU unless the config says otherwise."""
    kind = config.parent.name
    start = yaml.safe_load(config.read_text("utf-8"))["model_name_or_path"]
    fixed = ["--config", str(config), "--model_name_or_path", STARTS.get(start, start), "--report_to", "none"]
    with for_any_machine(["--dry_run"]):
        if kind == "sft":
            classes = (SFTArguments, DataConfig, SFTConfig, ModelConfig)
            own, _, settings, model = read_arguments(classes, "", [*fixed, *arguments])
            return plan_sft(own, settings, model)
        classes = (QueryArguments, RewardArguments, {"ppo": PPOConfig, "grpo": GRPOConfig}[kind], ModelConfig)
        return {"ppo": plan_ppo, "grpo": plan_grpo}[kind](*read_arguments(classes, "", [*fixed, *arguments]))


@contextmanager
def published() -> Iterator[None]:
    """Hub ids are found in `PUBLISHED`, and nowhere else."""
    before = constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE
    with tempfile.TemporaryDirectory() as cache:
        for folder in PUBLISHED.glob("*/*"):
            repository = Path(cache, f"models--{folder.parent.name}--{folder.name}")
            (repository / "refs").mkdir(parents=True)
            (repository / "refs" / "main").write_text(REVISION)
            (repository / "snapshots").mkdir()
            (repository / "snapshots" / REVISION).symlink_to(folder.resolve())
        constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE = cache, True
        try:
            yield
        finally:
            constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE = before


# --- estimates beside measurements -------------------------------------------------------------------------------


def compared() -> Iterator[tuple[str, int, int]]:
    """Each phase on the embedded models in float32: its name, and the bytes that are estimated and measured."""
    yield from _of_policies()
    yield from _of_pictures()


def measured_bytes(run: Callable[[], object]) -> int:
    """The most bytes that `run` holds at once on a CPU beyond what was there, as torch's allocator reports them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def _of_policies() -> Iterator[tuple[str, int, int]]:
    source = locate("embedded", "policy")
    for attention in ("eager", "sdpa"):
        real = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation=attention)
        made = skeletons.causal_lm(source, torch.float32, attention)
        for policy in (real, made):
            disable_dropout(policy)
        model, eos = PolicyWithValue(real), real.config.eos_token_id
        ids = torch.randint(5, 1000, (ROWS, PROMPT + COMPLETION))
        inputs = (ids, torch.ones_like(ids), torch.ones(ROWS, COMPLETION, dtype=torch.bool))
        tokens = ids[:, PROMPT:].flatten()
        queries = Queries(ids[:, :PROMPT], inputs[1][:, :PROMPT], torch.full((ROWS,), COMPLETION))
        noise = torch.rand(ROWS, COMPLETION, dtype=torch.float64)
        no_separators = torch.zeros(real.config.vocab_size, dtype=torch.long)  # so that no row ends before its budget

        def generate():
            sample(real.eval(), queries, noise, eos, 1.0, no_separators, 1)  # noqa: B023

        @torch.no_grad()
        def logprobs():
            outputs = model.eval()(*inputs)  # noqa: B023
            token_logprobs(outputs.logits, tokens, entropy=True)  # noqa: B023
            token_logprobs(model(*inputs).logits, tokens)  # noqa: B023

        def update():
            token_logprobs(model.train()(*inputs).logits, tokens)[0].sum().backward()  # noqa: B023

        def learn():
            real.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()  # noqa: B023

        update()  # from here on gradients are there
        sizes = (ROWS, PROMPT, COMPLETION)
        yield f"generate, {attention}", passes.generate(made, *sizes, nullcontext), measured_bytes(generate)
        yield f"logprobs, {attention}", passes.logprobs(made, *sizes, nullcontext), measured_bytes(logprobs)
        yield f"update, {attention}", passes.update(made, None, *sizes, nullcontext), measured_bytes(update)
        texts = passes.language_modelling(made, ROWS, PROMPT + COMPLETION, nullcontext, logits=True)
        yield f"update of SFT, {attention}", texts, measured_bytes(learn)


def _of_pictures() -> Iterator[tuple[str, int, int]]:
    config = GeneratorConfig(steps=2, guidance=3.0, batch_size=ROWS)
    real = ImageGenerator.from_pretrained("embedded", device="cpu", config=config)
    made = PipelineGenerator(skeletons.pipeline(locate("embedded", "stable-diffusion"), torch.float32), real.config)
    drawn = measured_bytes(lambda: real.draw(["a castle"] * ROWS, list(range(ROWS))))
    yield "draw", passes.draw(made), drawn

    encoder = skeletons.clip(locate("embedded", "clip"), torch.float32)
    estimate = passes.score(encoder, encoder.get_image_features, encoder.config.vision_config.image_size, made.config)
    reward, pictures = load_reward("clip", "embedded", device="cpu"), torch.rand(ROWS, 3, 64, 64)
    yield "score", estimate, measured_bytes(lambda: reward.encoder.encode_images(pictures.clone()))

    asked = skeletons.vision_language(locate("embedded", "vlm"), torch.float32)
    model = load_reward("echo", "embedded", device="cpu").model
    words = [" ".join(["castle"] * CLIP_WINDOW)] * ROWS
    answered = measured_bytes(lambda: model.likelihood(pictures.clone(), words, words))
    yield "score, by asking", passes.read(asked, made.config), answered


def table(head: tuple[str, ...], rows) -> None:
    for cells in (head, ("---",) * len(head)):
        console.print("| " + " | ".join(cells) + " |")
    for cells in rows:
        console.print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    app()
