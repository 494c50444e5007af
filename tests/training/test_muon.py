"""Muon beside its references: a float64 singular value decomposition, and torch's own optimizers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuroprompt.training.muon import Muon, orthogonalized


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), count=st.integers(1, 3), seed=st.integers(0, 999))
def test_orthogonalized_is_near_the_polar_factor(rows, columns, count, seed):
    """Singular vectors stay; singular values come near 1, but for those that are next to nothing."""
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(count, rows, columns, generator=generator, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    drawn = left.mT @ orthogonalized(matrices) @ right.mT
    diagonal = drawn.diagonal(dim1=1, dim2=2)
    assert (drawn - torch.diag_embed(diagonal)).abs().max() < 1e-9
    relative = values / matrices.flatten(1).norm(dim=1, keepdim=True)
    assert ((diagonal > 0.65) & (diagonal < 1.25))[relative > 1e-2].all()
    assert (diagonal[relative > 1e-12] > 0).all()


def test_single_precision_suffices():
    matrices = torch.randn(2, 96, 64, generator=torch.Generator().manual_seed(0))
    assert (orthogonalized(matrices) - orthogonalized(matrices.double())).abs().max() < 1e-4
    assert not orthogonalized(torch.zeros(1, 3, 4)).any()


class Small(nn.Module):
    """An embedding, two matrices of one shape, another, a norm; the head is the embedding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        self.first, self.second, self.third = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 20)

    def get_output_embeddings(self):
        return self.embedding

    def forward(self, ids):
        hidden = self.norm(self.embedding(ids))
        return self.third(torch.tanh(self.second(torch.tanh(self.first(hidden))))).square().mean()


def trained(optimizer_of, steps=5):
    model = Small().double()
    optimizers = optimizer_of(model)
    ids = torch.arange(11)
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        model(ids).backward()
        for optimizer in optimizers:
            optimizer.step()
    return model.state_dict()


def test_it_is_torchs_muon_and_adamw(monkeypatch):
    """With our iteration for torch's, which is in bfloat16; in float64, since rounding grows with the steps."""
    monkeypatch.setattr(
        torch.optim._muon, "_zeropower_via_newtonschulz", lambda grad, *rest: orthogonalized(grad[None])[0]
    )
    settings = {"lr": 0.02, "weight_decay": 0.1}

    def torchs(model):
        hidden = [model.first.weight, model.second.weight, model.third.weight]
        rest = [p for p in model.parameters() if p.ndim == 1]
        groups = [{"params": [model.embedding.weight]}, {"params": rest, "weight_decay": 0.0}]
        return [
            torch.optim.Muon(hidden, adjust_lr_fn="match_rms_adamw", **settings),
            torch.optim.AdamW(groups, betas=(0.9, 0.95), **settings),
        ]

    expected, found = trained(torchs), trained(lambda model: [Muon(model, **settings)])
    assert all(torch.allclose(expected[name], found[name], rtol=0, atol=1e-9) for name in expected)


def test_a_schedule_and_a_checkpoint_reach_both_halves():
    model = Small()
    optimizer = Muon(model, lr=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step else 1.0)
    model(torch.arange(11)).backward()
    optimizer.step()
    schedule.step()
    saved = optimizer.state_dict()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())  # of a rate of 0

    again = Muon(model, lr=1.0)
    again.load_state_dict(saved)
    assert {group["lr"] for group in again.param_groups} == {0.0}
    again.step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for parameter in model.parameters():
        mine, theirs = again.state[parameter], optimizer.state[parameter]
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_model_without_matrices_is_refused():
    with pytest.raises(ValueError, match="no hidden matrices"):
        Muon(nn.LayerNorm(4), lr=1.0)
