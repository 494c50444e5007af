"""Training under DeepSpeed ZeRO-2 is the training that it is without, in float32 and bfloat16; on a CPU."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from tests.training.test_ppo import ROOT, flags, here, start, tokenizer, workspace  # noqa: F401

pytest.importorskip("deepspeed")

ZERO2 = ["-m", "accelerate.commands.launch", "--config_file", ROOT / "configs/accelerate/zero2.yaml"]
LORA = {"use_peft": "true", "lora_r": 4, "lora_target_modules": "all-linear"}
BEST = {"eval_samples": 8, "save_steps": 4, "eval_iterations": 1, "load_best_model_at_end": "true"}


def zero2(folder, *arguments, processes=1, script="training/ppo.py"):
    done = start(folder, *arguments, launcher=[*ZERO2, "--num_processes", processes], script=script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def policy(folder):
    return load_file(folder / "model.safetensors")


def difference(one, other):
    assert one.keys() == other.keys()
    assert all(tensor.dtype == torch.float32 for tensor in (*one.values(), *other.values()))
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_one_process_with_adapters_in_bfloat16(workspace):  # noqa: F811
    """What is sampled from, the reference, the best policy and what is saved have float32 weights."""
    settings = {**LORA, **BEST, "max_steps": 6, "bf16": "true"}
    plain = here(output_dir="plain", **settings)
    zero2(workspace, *flags(output_dir="zero2", **settings))
    assert difference(policy(workspace / "plain"), policy(workspace / "zero2")) < 1e-6
    assert plain.state.best_global_step > 0


def test_two_processes_and_resumed(workspace):  # noqa: F811
    """The checkpoint lies in the middle of a buffer."""
    here(output_dir="plain", max_steps=6)
    settings = {"max_steps": 6}
    assert "2 process(es) on cpu" in zero2(workspace, *flags(output_dir="zero2", **settings), processes=2)
    whole = policy(workspace / "zero2")
    assert difference(policy(workspace / "plain"), whole) < 1e-6
    shutil.copytree(workspace / "zero2" / "checkpoint-3", workspace / "resumed" / "checkpoint-3")
    resume = {"output_dir": "resumed", "resume_from_checkpoint": "true"}
    zero2(workspace, *flags(**resume, **settings), processes=2)
    assert difference(whole, policy(workspace / "resumed")) == 0


BROKEN = """
import sys
from pathlib import Path
from tests.ppo.conftest import tiny_policy
from tests.ppo.test_trainer import rich, trainer
from transformers import AutoTokenizer

run = trainer(AutoTokenizer.from_pretrained("policy"), Path("broken"), rich, max_steps=6, max_skipped_batches=2)
assert run.is_deepspeed_enabled
backward = iter(range(100))
run.model.value_head.weight.register_hook(lambda g: g * float("inf") if next(backward) in (1, 3, 5) else g)
run.train()
assert all(p.isfinite().all() for p in run.model.parameters())
print(run.ppo_state.skipped, "skipped,", run.ppo_state.skipped_in_a_row, "in a row")
"""


def test_steps_that_are_left_out_count_in_a_row(workspace, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (workspace / "broken.py").write_text(BROKEN)
    assert "3 skipped, 1 in a row" in zero2(workspace, script=workspace / "broken.py")
