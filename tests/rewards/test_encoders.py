"""CLIPs under all their names, with their texts remembered and their pickles refused."""

import json

import pytest
import torch
from open_clip import pretrained
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from neuroprompt.models import ModelError
from neuroprompt.rewards import encoders as module
from neuroprompt.rewards import load_reward
from neuroprompt.rewards.encoders import Encoders, OpenClipEncoder, TransformersEncoder
from tests.checkpoints import rewards as checkpoints

CPU = torch.device("cpu")


@pytest.fixture
def encoders():
    return Encoders(CPU, torch.float32)


def test_names_are_found_and_loaded_once(encoders, tmp_path):
    folder = checkpoints.clip_model(tmp_path / "clip")
    other = checkpoints.open_clip_folder(tmp_path / "open_clip")
    assert isinstance(encoders.load(folder), TransformersEncoder)
    assert encoders.load(str(folder)) is encoders.load(tmp_path / "open_clip" / ".." / "clip")
    assert isinstance(encoders.load(other), OpenClipEncoder)
    assert encoders.load(f"local-dir:{other}") is not encoders.load(folder)
    assert encoders.load("embedded").size == 128


def test_an_open_clip_tag_has_its_activation_and_preparation(encoders, tmp_path, monkeypatch):
    """OpenAI's weights need QuickGELU, which open_clip only warns about."""
    name = checkpoints.open_clip_architecture(tmp_path / "configs", "tiny-tag")
    folder = checkpoints.open_clip_folder(tmp_path / "weights")
    cache = checkpoints.use_hub_cache(monkeypatch, tmp_path / "hub")
    checkpoints.as_hub_repository(cache, "timm/tiny.openai", folder)
    tag = {"hf_hub": "timm/tiny.openai/", "mean": (0.1, 0.2, 0.3), "std": (0.5,) * 3, "resize_mode": "squash"}
    tags = {"openai": tag | {"quick_gelu": True}, "plain": tag, "pickled": {"url": "https://example.org/x.pt"}}
    monkeypatch.setitem(pretrained._PRETRAINED, name, tags)

    quick, plain = encoders.load(f"{name}:openai"), encoders.load(f"{name}:plain")
    assert "QuickGELU" in str(quick.model) and "QuickGELU" not in str(plain.model)
    assert quick.preprocessing.mean == (0.1, 0.2, 0.3) and quick.preprocessing.mode == "squash"
    assert quick.fingerprint == encoders.load(f"{name}:openai").fingerprint != plain.fingerprint
    hub = encoders.load("hf-hub:timm/tiny.openai")
    assert torch.equal(hub.encode_texts(["cat"]), plain.encode_texts(["cat"]))
    with pytest.raises(ModelError, match="as a pickle only"):
        encoders.load(f"{name}:pickled")
    with pytest.raises(ModelError, match="has no weights 'laion'"):
        encoders.load(f"{name}:laion")
    with pytest.raises(ModelError, match="which weights of tiny-tag"):
        encoders.load(name)


def test_a_distinct_text_is_encoded_once(encoders, tmp_path, monkeypatch):
    encoder = encoders.load(checkpoints.clip_model(tmp_path))
    encoded = []
    features = TransformersEncoder._text_features
    monkeypatch.setattr(
        TransformersEncoder, "_text_features", lambda self, t: (encoded.append(len(t)), features(self, t))[1]
    )
    rows = encoder.encode_texts(["cat", "dog", "cat"])
    assert encoded == [2] and torch.equal(rows[0], rows[2]) and not torch.equal(rows[0], rows[1])
    again = encoder.encode_texts(["dog", "horse", "cat"])
    assert encoded == [2, 1]
    assert torch.equal(again[0], rows[1]) and torch.equal(again[2], rows[0])


def test_the_remembered_texts_are_bounded_and_the_oldest_go(encoders, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_TEXTS", 3)
    encoder = encoders.load(checkpoints.clip_model(tmp_path))
    texts = [f"cat {i}" for i in range(7)]
    assert encoder.encode_texts(texts).shape == (7, 24)  # more than are remembered
    assert list(encoder._texts) == texts[-3:]
    encoder.encode_texts([texts[4], "dog"])
    assert list(encoder._texts) == [texts[6], texts[4], "dog"]


@pytest.mark.parametrize("kind", ["clip_model", "open_clip_folder"])
def test_long_texts_are_cut_at_the_window_and_keep_the_end(encoders, tmp_path, kind):
    encoder = encoders.load(getattr(checkpoints, kind)(tmp_path / kind))
    tokens = encoder._tokenize(["cat " * 200, "cat " * 90 + "dog", ""])
    assert tokens.shape == (3, 77)
    assert tokens[0, -1] == tokens.max() and torch.equal(tokens[0], tokens[1])
    cut, other, empty = encoder.encode_texts(["cat " * 200, "cat " * 90 + "dog", ""])
    assert torch.equal(cut, other) and not torch.allclose(cut, empty, atol=1e-2)


def test_a_text_s_features_do_not_depend_on_what_it_is_padded_to(encoders, tmp_path):
    encoder = encoders.load(checkpoints.clip_model(tmp_path))
    together = encoder.encode_texts(["cat", "a castle by the sea, watercolor, very detailed"])[0]
    encoder._texts.clear()
    torch.testing.assert_close(encoder.encode_texts(["cat"])[0], together)


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("kind", ["clip_model", "open_clip_folder"])
def test_half_precision_is_near(tmp_path, kind, dtype, prompts, images):
    folder = getattr(checkpoints, kind)(tmp_path / kind)
    exact = load_reward("clip", folder, "cpu")(prompts, images)
    reward = load_reward("clip", folder, "cpu", dtype)
    assert reward.encoder.dtype == {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
    scores = reward(prompts, images)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, exact, rtol=0, atol={"bf16": 0.03, "fp16": 0.004, "fp32": 0.0}[dtype])


def test_the_fingerprint_is_of_weights_and_dtype_not_of_names(tmp_path):
    here = checkpoints.clip_model(tmp_path / "here")
    same = checkpoints.clip_model(tmp_path / "there")
    other = checkpoints.clip_model(tmp_path / "other", seed=1)
    prints = [load_reward("clip", f, "cpu").fingerprint for f in (here, same, other)]
    assert prints[0] == prints[1] != prints[2]
    assert load_reward("clip", here, "cpu", "bf16").fingerprint != prints[0]
    assert load_reward("pickscore", here, "cpu").fingerprint != prints[0]
    model = CLIPModel.from_pretrained(here)
    model.vision_model.encoder.layers[1].mlp.fc1.weight.data *= 1.001
    model.save_pretrained(here)
    assert load_reward("clip", here, "cpu").fingerprint != prints[0]


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("clip_model", "text_model.encoder.layers.0.mlp.fc1.weight"),
        ("open_clip_folder", "transformer.resblocks.0.mlp.c_fc.weight"),
    ],
)
def test_a_clip_that_is_not_what_it_says_is_refused(encoders, tmp_path, kind, key):
    folder = getattr(checkpoints, kind)(tmp_path / kind)
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    save_file(weights | {key: weights[key] * torch.inf}, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"is broken: .* NaN or infinite"):
        encoders.load(folder)
    del weights[key]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 of|Missing key"):
        encoders.load(folder)


def test_the_fingerprint_is_of_what_is_done_with_the_weights(tmp_path):
    prints = set()
    for activation, heads in (("quick_gelu", 2), ("gelu", 2), ("gelu", 4)):
        folder = checkpoints.clip_model(tmp_path / f"{activation}-{heads}")
        config = json.loads((folder / "config.json").read_text())
        config["vision_config"] |= {"hidden_act": activation, "num_attention_heads": heads}
        (folder / "config.json").write_text(json.dumps(config))
        prints.add(load_reward("clip", folder, "cpu").fingerprint)
    assert len(prints) == 3


def test_wrong_places_are_one_line_errors(encoders, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    pickled = checkpoints.open_clip_folder(tmp_path / "pickled")
    (pickled / "open_clip_model.safetensors").unlink()
    torch.save({}, pickled / "open_clip_pytorch_model.bin")
    mixed = checkpoints.open_clip_folder(tmp_path / "mixed")
    (mixed / "open_clip_model.safetensors").rename(mixed / "another.safetensors")
    old = checkpoints.clip_processor(tmp_path / "old")
    torch.save({}, old / "pytorch_model.bin")
    misfit = checkpoints.clip_processor(checkpoints.clip_weights(tmp_path / "misfit"), image_size=64)
    for name, message in {
        str(tmp_path / "nowhere"): "no folder",
        f"local-dir:{tmp_path / 'nowhere'}": "no folder",
        str(tmp_path / "empty"): "no model folder",
        f"local-dir:{pickled}": "pickled weights",
        str(old): "pickled weights",
        f"local-dir:{mixed}": "no open_clip_model.safetensors",
        str(misfit): "64 pixels",
        "embedded-huge": "no model 'embedded-huge'",
        "example/not-downloaded": "example/not-downloaded is not in the hub's cache, and HF_HUB_OFFLINE is set",
        "hf-hub:example/not-downloaded": "example/not-downloaded is not in the hub's cache",
    }.items():
        with pytest.raises(ModelError, match=message) as error:
            encoders.load(name)
        assert "\n" not in str(error.value)
