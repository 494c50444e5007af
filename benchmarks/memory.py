"""What each training config takes: the table of docs/gpu.md, from the models' configs, without weights, GPU or network.

    python benchmarks/memory.py
    python benchmarks/memory.py configs/ppo/mine.yaml --processes 4

The published models' configs are in benchmarks/published, reduced to what parameter counts and sizes depend on; those
counts are what is published (tests/planning/test_published.py).
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import yaml
from accelerate import PartialState
from huggingface_hub import constants
from rich.console import Console
from trl import GRPOConfig, ModelConfig, SFTConfig, TrlParser

from neuroprompt.data import DataConfig
from neuroprompt.planning import Layout, Plan, for_any_machine, plan_grpo, plan_ppo, plan_sft
from neuroprompt.ppo import PPOConfig
from neuroprompt.ppo.training import QueryArguments
from neuroprompt.scoring import RewardArguments
from neuroprompt.sft import SFTArguments

ROOT = Path(__file__).parents[1]
PUBLISHED = Path(__file__).with_name("published")
KINDS = ("sft", "ppo", "grpo")
REVISION = "0" * 40
LORA = ["--use_peft", "true", "--lora_target_modules", "all-linear"]
STARTS = {  # policies that a supervised stage makes, and what it starts from
    "runs/gpt2_diffusiondb/sft": "openai-community/gpt2",
    "runs/smollm2/sft": "HuggingFaceTB/SmolLM2-135M",
    "runs/embedded/init": "embedded",
}

app = typer.Typer(add_completion=False, rich_markup_mode=None)
console = Console(width=200)


@app.command()
def main(
    configs: Annotated[list[Path] | None, typer.Argument(help="In folders sft, ppo or grpo; by default all.")] = None,
    processes: Annotated[int, typer.Option(help="Of the last columns.")] = 8,
) -> None:
    """Print the table of memory, in GB."""
    rows = []
    with published():
        for config in configs or [f for kind in KINDS for f in sorted((ROOT / "configs" / kind).glob("*.yaml"))]:
            for more in ([], LORA) if config.parent.name == "sft" else ([],):
                rows.append(row(config, more, processes))
    names = ("config", "held", "at the peak", "phase", f"on {processes}", f"ZeRO-2 on {processes}", "disk")
    for cells in (names, ("---",) * len(names), *rows):
        console.print("| " + " | ".join(cells) + " |", markup=False, highlight=False, soft_wrap=True)
    PartialState().destroy_process_group()


def row(config: Path, more: list[str], processes: int) -> tuple[str, ...]:
    """A line of the table: GB."""
    made = plan(config, more)
    many = replace(made, layout=Layout(processes))
    cut = replace(made, layout=Layout(processes, zero=2))
    held = sum(part.bytes for part in made.held)
    phase = max(made.peaks, key=lambda part: part.bytes).name.split(":")[0]
    figures = (held, made.memory), (many.memory, cut.memory, made.disk)
    cells = [[f"{value / 1e9:.1f}" for value in group] for group in figures]
    return f"`{config.parent.name}/{config.stem}`" + ", LoRA" * bool(more), *cells[0], phase, *cells[1]


def plan(config: Path, arguments: list[str]) -> Plan:
    """The plan of a config as its entry point would make it, on a GPU unless the config says otherwise."""
    kind = config.parent.name
    given = yaml.safe_load(config.read_text("utf-8"))
    start = STARTS.get(given["model_name_or_path"], given["model_name_or_path"])
    arguments = ["--config", str(config), "--model_name_or_path", start, *arguments, "--report_to", "none"]
    with for_any_machine(["--dry_run"]):
        if kind == "sft":
            parser = TrlParser((SFTArguments, DataConfig, SFTConfig, ModelConfig))
            own, _, settings, model = parser.parse_args_and_config(arguments)
            return plan_sft(own, settings, model)
        parser = TrlParser((QueryArguments, RewardArguments, {"ppo": PPOConfig, "grpo": GRPOConfig}[kind], ModelConfig))
        return {"ppo": plan_ppo, "grpo": plan_grpo}[kind](*parser.parse_args_and_config(arguments))


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


if __name__ == "__main__":
    app()
