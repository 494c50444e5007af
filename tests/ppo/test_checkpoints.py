"""A run is taken up as often as one likes, and comes to the same end."""

import json
import os

import torch

from neuroprompt.runs.checkpoints import save_policy
from tests.ppo.test_trainer import rich, trainer, weights


def test_a_run_that_is_at_its_end_does_no_step_more(tokenizer, tmp_path):
    """The library alone does a ninth of eight, and rotates a checkpoint out for it: here it is killed before it saves
    the policy, and started once more."""
    settings = {"save_strategy": "steps", "save_steps": 4, "max_steps": 8}
    one_go = trainer(tokenizer, tmp_path, rich, **settings)
    one_go.train()
    again = trainer(tokenizer, tmp_path, rich, **settings)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 8
    for name, wanted in weights(one_go).items():
        assert torch.equal(wanted, weights(again)[name]), name
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]

    further = trainer(tokenizer, tmp_path, rich, **settings | {"max_steps": 10})
    further.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-8"))
    assert further.state.global_step == 10


def test_a_policy_is_saved_by_whole_files(tokenizer, tmp_path, monkeypatch):
    run = trainer(tokenizer, tmp_path, rich)
    folder, seen = tmp_path / "run", []
    replace = os.replace

    def look(source, target):
        seen.append((os.path.basename(target), (folder / os.path.basename(target)).exists()))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", look)
        save_policy(run)
    assert ("model.safetensors", False) in seen  # it comes by a rename
    assert not (folder / "unfinished").exists()
    assert json.loads((folder / "config.json").read_text())["model_type"] == "gpt2"
