"""LAION's heads, over the unit embedding of the CLIP that they were trained on."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neuroprompt.models import ModelError, locate
from neuroprompt.rewards import load_reward
from neuroprompt.rewards.aesthetic import FILE, MODEL, convert_laion_head, read_head
from neuroprompt.rewards.loading import read_weights
from tests.checkpoints import rewards as checkpoints

REAL = os.environ.get("LAION_AESTHETIC_HEAD", "")


@pytest.fixture
def clip(tmp_path):
    return str(checkpoints.clip_model(tmp_path / "clip"))


def naive(state, embedding):
    """The head in float64, layer by layer."""
    value = embedding.double()
    for name in ("layers.0.", "layers.2.", "layers.4.", "layers.6.", "layers.7.") if len(state) > 2 else ("",):
        value = value @ state[f"{name}weight"].double().T + state[f"{name}bias"].double()
    return value.squeeze(-1)


@pytest.mark.parametrize("make", [checkpoints.laion_v2_head, checkpoints.laion_v1_head])
def test_either_version_and_its_conversion(tmp_path, clip, make, prompts, images):
    file = make(tmp_path / "head.pth")
    reward = load_reward("aesthetic", file, "cpu", image_encoder=clip)
    scores = reward(prompts, images)
    state = torch.load(file, weights_only=True)
    expected = naive(state, reward.encoder.encode_images(images))
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-5)
    assert torch.equal(scores, reward(["something else"] * 4, images))

    folder = convert_laion_head(file, tmp_path / "converted")
    assert sorted(f.name for f in folder.iterdir()) == ["config.json", "model.safetensors"]
    converted = load_reward("aesthetic", folder, "cpu", image_encoder=clip)
    assert converted.fingerprint == reward.fingerprint and torch.equal(converted(prompts, images), scores)
    # What stands beside the head under the name that its config says is its encoder.
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"image_encoder": "clip"}))
    assert torch.equal(load_reward("aesthetic", folder, "cpu")(prompts, images), scores)


def test_the_hub_s_head_under_its_own_name(tmp_path, monkeypatch, clip, prompts, images):
    cache = checkpoints.use_hub_cache(monkeypatch, tmp_path / "hub")
    file = checkpoints.laion_v2_head(tmp_path / "repository" / FILE)
    checkpoints.as_hub_repository(cache, MODEL, file.parent)
    here, there = (load_reward("aesthetic", m, "cpu", image_encoder=clip) for m in (None, file))
    assert here.fingerprint == there.fingerprint


@torch.no_grad()
@pytest.mark.skipif(not Path(REAL).is_file(), reason="LAION_AESTHETIC_HEAD names no file")
def test_the_real_head(tmp_path):
    """sac+logos+ava1-l14-linearMSE.pth: 768 in, one rating out, the same once converted."""
    head, _ = read_head(REAL)
    shapes = [tuple(layer.weight.shape) for layer in head]
    assert shapes == [(1024, 768), (128, 1024), (64, 128), (16, 64), (1, 16)]
    config = json.loads((convert_laion_head(REAL, tmp_path / "v2") / "config.json").read_text())
    assert config["image_encoder"] == "ViT-L-14:openai" and config["hidden_sizes"] == [1024, 128, 64, 16]
    embedding = torch.nn.functional.normalize(torch.randn(5, 768, generator=torch.manual_seed(0)), dim=-1)
    again, _ = read_head(tmp_path / "v2")
    assert head(embedding).shape == (5, 1) and torch.equal(again(embedding), head(embedding))
    torch.testing.assert_close(
        head(embedding)[:, 0].double(), naive(read_weights(Path(REAL)), embedding), rtol=0, atol=1e-4
    )


def test_the_embedded_head_reads_the_embedded_clip(prompts, images):
    reward = load_reward("aesthetic", "embedded", "cpu")
    assert reward.encoder.source == locate("embedded", "clip")
    state = load_file(Path(locate("embedded", "aesthetic")) / "model.safetensors")
    torch.testing.assert_close(
        reward(prompts, images).double(), naive(state, reward.encoder.encode_images(images)), rtol=0, atol=1e-4
    )


def test_wrong_heads_are_one_line_errors(tmp_path, clip):
    narrow = checkpoints.laion_v2_head(tmp_path / "narrow.pth", width=16)
    state = torch.load(narrow, weights_only=True)
    torch.save({k: v for k, v in state.items() if "layers.2" not in k}, tmp_path / "gap.pth")
    torch.save({k: v for k, v in state.items() if "layers.7" not in k}, tmp_path / "short.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    torch.save({"bias": torch.zeros(1)}, tmp_path / "bias.pth")
    (tmp_path / "text.pth").write_text("<!DOCTYPE html>")
    unnormalised = convert_laion_head(checkpoints.laion_v1_head(tmp_path / "v1.pth"), tmp_path / "unnormalised")
    (unnormalised / "config.json").write_text('{"image_encoder": null, "normalize": false}')
    for name, message in {
        "narrow.pth": "reads embeddings of 16 numbers, and .* gives 24",
        "gap.pth": "layers.4.weight has the shape",
        "short.pth": "gives 16 numbers",
        "none.pth": "holds no state dict",
        "bias.pth": "no aesthetic head: it holds bias",
        "text.pth": "is refused",
        "unnormalised": "not normalised",
        "clip": "no aesthetic head",
        "nowhere": "no folder",
    }.items():
        with pytest.raises(ModelError, match=message) as error:
            load_reward("aesthetic", tmp_path / name, "cpu", image_encoder=clip)
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="16 wide"):
        load_reward("aesthetic", narrow, "cpu")
