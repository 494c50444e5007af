"""`--dry_run` of the three entry points: on a machine without GPU, weights or data, from config.json files alone."""

from pathlib import Path

import pytest
import torch
from trl import ModelConfig

from benchmarks.memory import published
from neuroprompt.data import DataConfig
from neuroprompt.models import ModelError
from neuroprompt.ppo import PPOConfig
from neuroprompt.ppo.config import GRPOConfig
from neuroprompt.runs.arguments import read_arguments
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.grpo import train_grpo
from neuroprompt.training.planning import plan as plan_module
from neuroprompt.training.ppo import train_ppo
from neuroprompt.training.queries import QueryArguments
from neuroprompt.training.sft import SFTArguments, SFTConfig, train_sft

ROOT = Path(__file__).parents[3]
NO_GPU = pytest.mark.skipif(torch.accelerator.is_available(), reason="of machines without a GPU")


CLASSES = {
    "sft": (SFTArguments, DataConfig, SFTConfig, ModelConfig),
    "ppo": (QueryArguments, RewardArguments, PPOConfig, ModelConfig),
    "grpo": (QueryArguments, RewardArguments, GRPOConfig, ModelConfig),
}


def train(kind, *arguments):
    """The body of an entry point."""
    body = {"sft": train_sft, "ppo": train_ppo, "grpo": train_grpo}[kind]
    return body(*read_arguments(CLASSES[kind], "", arguments))


@NO_GPU
@pytest.mark.parametrize(
    ("kind", "config", "model", "seen"),
    [
        ("sft", "gpt2_diffusiondb", "openai-community/gpt2", "pairs of a step"),
        ("ppo", "embedded_gpu", "embedded", "pictures of an iteration"),
        ("grpo", "embedded_gpu", "embedded", "pictures of an iteration"),
    ],
)
def test_it_says_what_a_run_takes_and_stops(kind, config, model, seen, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with published():
        made = train(
            kind,
            "--config",
            str(ROOT / "configs" / kind / f"{config}.yaml"),
            "--model_name_or_path",
            model,
            "--dry_run",
        )
    assert made is None
    shown = capsys.readouterr().out
    assert seen in shown and "1 process(es) on cuda" in shown
    assert not list(tmp_path.iterdir())  # neither data nor run


@NO_GPU
def test_what_is_no_dry_run_still_wants_its_gpu():
    with pytest.raises(ValueError, match="bf16"):
        train("ppo", "--config", str(ROOT / "configs/ppo/gpt2_sd15_pickscore.yaml"))


def test_a_policy_that_is_still_to_be_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is no folder 'runs/gpt2_diffusiondb/sft': train what is to be there"):
        train("ppo", "--config", str(ROOT / "configs/ppo/gpt2_sd15_pickscore.yaml"), "--dry_run")


@pytest.mark.parametrize("kind", ["sft", "ppo", "grpo"])
def test_a_run_that_cannot_be_stops_before_models_and_data_are_loaded(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "free_disk", lambda folder: 0)
    config = str(ROOT / "configs" / kind / "embedded.yaml")
    start = ("--model_name_or_path", "embedded", "--output_dir", str(tmp_path / "run"), "--bf16", "false")
    data = ("--data_dir", "nowhere") if kind == "sft" else ("--queries", "nowhere.txt")
    with pytest.raises(ModelError, match="free some"):
        train(kind, "--config", config, *start, *data)
