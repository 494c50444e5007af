"""The memory of phases, beside what the code that they stand for takes on a CPU."""

from contextlib import nullcontext

import pytest
import torch

from benchmarks import memory
from neuroprompt.models import locate
from neuroprompt.training.planning import passes, skeletons

SIZES = {"rows": 16, "prompt": 20, "completion": 40, "autocast": nullcontext}


@pytest.fixture
def policy():
    return skeletons.causal_lm(locate("embedded", "policy"), torch.float32)


def test_estimates_are_what_is_measured(monkeypatch):
    for name, few in {"ROWS": 3, "COMPLETION": 20}.items():
        monkeypatch.setattr(memory, name, few)
    ratios = {name: estimate / measured for name, estimate, measured in memory.compared()}
    assert len(ratios) == 11
    assert not {name: ratio for name, ratio in ratios.items() if not 0.8 < ratio < 1.1}


def test_losses_in_tiles_hold_no_logits(policy):
    whole = passes.language_modelling(policy, 4, 30, nullcontext, logits=True)
    tiles = passes.language_modelling(policy, 4, 30, nullcontext, logits=False)
    assert tiles < whole - 4 * 30 * policy.config.vocab_size * 4


def test_a_critic_with_its_own_trunk_takes_more(policy):
    trunk = skeletons.causal_lm(locate("embedded", "policy"), torch.float32).base_model
    assert passes.update(policy, trunk, **SIZES) > 1.2 * passes.update(policy, None, **SIZES)


def test_checkpointing_takes_less(policy):
    whole = passes.update(policy, None, **SIZES)
    policy.gradient_checkpointing_enable()
    assert passes.update(policy, None, **SIZES) < 0.8 * whole
