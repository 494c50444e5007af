"""ImageReward's checkpoint, against a naive float64 forward written from its authors' code and names."""

import math

import open_clip
import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from transformers import AutoTokenizer

from neuroprompt.models import ModelError
from neuroprompt.rewards import load_reward
from neuroprompt.rewards.image_reward import FILE, MODEL
from tests.checkpoints import rewards as checkpoints


@pytest.fixture
def tokenizer(tmp_path):
    return str(checkpoints.image_reward_tokenizer(tmp_path / "tokenizer"))


class Naive:
    """One picture and one prompt at a time, in float64, straight from the state dict."""

    def __init__(self, state):
        self.state = {k: v.double() for k, v in state.items()}

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name, x, eps):
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps)

    @staticmethod
    def attend(q, k, v):
        heads = [t.view(len(t), -1, 64).transpose(0, 1) for t in (q, k, v)]
        weights = (heads[0] @ heads[1].transpose(1, 2) / math.sqrt(64)).softmax(-1)
        return (weights @ heads[2]).transpose(0, 1).reshape(len(q), -1)

    def picture(self, pixels):
        root = "blip.visual_encoder"
        kernel, bias = (self.state[f"{root}.patch_embed.proj.{part}"] for part in ("weight", "bias"))
        x = F.conv2d(pixels[None].double(), kernel, bias, stride=16)[0].flatten(1).T
        x = torch.cat([self.state[f"{root}.cls_token"][0], x]) + self.state[f"{root}.pos_embed"][0]
        for i in range(2):
            block = f"{root}.blocks.{i}"
            q, k, v = self.linear(f"{block}.attn.qkv", self.norm(f"{block}.norm1", x, 1e-6)).chunk(3, -1)
            x = x + self.linear(f"{block}.attn.proj", self.attend(q, k, v))
            inner = F.gelu(self.linear(f"{block}.mlp.fc1", self.norm(f"{block}.norm2", x, 1e-6)))
            x = x + self.linear(f"{block}.mlp.fc2", inner)
        return self.norm(f"{root}.norm", x, 1e-6)

    def score(self, ids, pixels):
        seen, root = self.picture(pixels), "blip.text_encoder"
        x = self.state[f"{root}.embeddings.word_embeddings.weight"][ids]
        x = x + self.state[f"{root}.embeddings.position_embeddings.weight"][: len(ids)]
        x = self.norm(f"{root}.embeddings.LayerNorm", x, 1e-12)
        for i in range(2):
            layer = f"{root}.encoder.layer.{i}"
            for name, source in (("attention", None), ("crossattention", seen)):
                keys = x if source is None else source
                q, k, v = (
                    self.linear(f"{layer}.{name}.self.{part}", t)
                    for part, t in (("query", x), ("key", keys), ("value", keys))
                )
                mixed = self.linear(f"{layer}.{name}.output.dense", self.attend(q, k, v))
                x = self.norm(f"{layer}.{name}.output.LayerNorm", x + mixed, 1e-12)
            inner = F.gelu(self.linear(f"{layer}.intermediate.dense", x))
            x = self.norm(f"{layer}.output.LayerNorm", x + self.linear(f"{layer}.output.dense", inner), 1e-12)
        value = x[0]
        for number in "02467":
            value = self.linear(f"mlp.layers.{number}", value)
        return (value.item() - 0.16717362830052426) / 1.0333394966054072


def test_the_hub_s_checkpoint_under_its_own_name(tmp_path, monkeypatch, tokenizer, pictures, images):
    cache = checkpoints.use_hub_cache(monkeypatch, tmp_path / "hub")
    state = checkpoints.image_reward_state()
    (tmp_path / "repository").mkdir()
    torch.save(state, tmp_path / "repository" / FILE)
    checkpoints.as_hub_repository(cache, MODEL, tmp_path / "repository")
    prompts = ["boy on the horse", "a castle", "a boy, a cat in the castle of the red dog", "w3 " * 60]
    prepare = Compose(
        [
            Resize(32, InterpolationMode.BICUBIC),
            CenterCrop(32),
            ToTensor(),
            Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
        ]
    )
    read = AutoTokenizer.from_pretrained(tokenizer)
    naive = Naive(state)
    expected = torch.tensor(
        [
            naive.score(read(prompt, truncation=True, max_length=35)["input_ids"], prepare(picture))
            for prompt, picture in zip(prompts, pictures, strict=True)
        ]
    )
    reward = load_reward("image_reward", device="cpu", tokenizer=tokenizer)
    scores = reward(prompts, images)
    assert expected.std() > 0.1
    torch.testing.assert_close(scores, expected, rtol=0, atol=0.01)
    assert reward([], images[:0]).shape == (0,)
    half = load_reward("image_reward", tmp_path / "repository", "cpu", "bf16", tokenizer=tokenizer)
    torch.testing.assert_close(half(prompts, images), scores, rtol=0, atol=0.2)
    assert half.fingerprint != reward.fingerprint


def test_exact_where_the_pictures_need_no_resizing(tmp_path, tokenizer):
    state = checkpoints.image_reward_state(seed=1)
    torch.save(state, tmp_path / FILE)
    reward = load_reward("image_reward", tmp_path / FILE, "cpu", tokenizer=tokenizer)
    image = (torch.rand(1, 3, 32, 32, generator=torch.manual_seed(0)) * 255).round() / 255
    ids = AutoTokenizer.from_pretrained(tokenizer)("a red horse")["input_ids"]
    expected = Naive(state).score(ids, reward.preprocessing(image)[0])
    assert reward(["a red horse"], image).item() == pytest.approx(expected, abs=1e-4)


def test_what_is_no_checkpoint_is_refused(tmp_path, tokenizer):
    state = checkpoints.image_reward_state()
    torch.save(state | {"blip.other": torch.zeros(1)}, tmp_path / "more.pt")
    torch.save({k: v for k, v in state.items() if not k.startswith("mlp")}, tmp_path / "headless.pt")
    torch.save({k: v for k, v in state.items() if "crossattention" not in k}, tmp_path / "blind.pt")
    for name, message in {
        "more.pt": "holds blip.other",
        "headless.pt": "lacks",
        "blind.pt": "cannot load ImageReward from",
        "nowhere.pt": "no file or folder",
    }.items():
        with pytest.raises(ModelError, match=message) as error:
            load_reward("image_reward", tmp_path / name, "cpu", tokenizer=tokenizer)
        assert "\n" not in str(error.value)
