"""Reward sets: specs, shared encoders, and the weighted sum."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.models import ModelError
from neuroprompt.rewards import REWARDS, Component, RewardSet, load_reward, load_rewards, parse_spec
from neuroprompt.rewards.encoders import TransformersEncoder
from tests.checkpoints import rewards as checkpoints


class Constant:
    """A reward of a user's own."""

    fingerprint = "1"

    def __init__(self, name, value):
        self.name, self.value = name, value

    def __call__(self, prompts, images):
        return torch.full((len(prompts),), self.value)


def test_a_set_scores_as_each_reward_alone(prompts, images):
    rewards = load_rewards("pickscore:1.0,aesthetic:0.25,clip:0.5@0.28", "embedded", "cpu")
    assert [(c.reward.name, c.weight, c.cap) for c in rewards.components] == [
        ("pickscore", 1.0, None),
        ("aesthetic", 0.25, None),
        ("clip", 0.5, 0.28),
    ]
    scores = rewards(prompts, images)
    assert list(scores) == ["pickscore", "aesthetic", "clip"]
    for name, score in scores.items():
        alone = load_reward(name, "embedded", "cpu")
        assert torch.equal(score, alone(prompts, images))
        assert next(c.reward.fingerprint for c in rewards.components if c.reward.name == name) == alone.fingerprint


def test_rewards_over_one_clip_hold_it_once_and_encode_a_batch_once(monkeypatch, prompts, images):
    encoded = []
    features = TransformersEncoder._image_features
    monkeypatch.setattr(
        TransformersEncoder, "_image_features", lambda self, p: (encoded.append(self.source), features(self, p))[1]
    )
    rewards = load_rewards("clip,aesthetic,pickscore", "embedded", "cpu")
    clip, aesthetic, pickscore = (c.reward for c in rewards.components)
    assert clip.encoder is aesthetic.encoder is not pickscore.encoder
    first = rewards(prompts, images)
    assert len(encoded) == 2
    # Nothing of a batch is kept: the same tensor with other pictures in it has other scores.
    images.copy_(images.flip(0))
    second = rewards(prompts, images)
    assert len(encoded) == 4 and not torch.allclose(first["aesthetic"], second["aesthetic"])
    torch.testing.assert_close(first["aesthetic"].flip(0), second["aesthetic"])


def test_the_same_reward_with_two_models(tmp_path, prompts, images):
    folder = checkpoints.open_clip_folder(tmp_path)
    rewards = load_rewards(f"clip:2, clip[local-dir:{folder}]:1@0.5", "embedded", "cpu")
    assert list(rewards(prompts, images)) == ["clip[embedded]", f"clip[local-dir:{folder}]"]


def test_a_reward_of_one_s_own(prompts, images):
    rewards = RewardSet([Component(Constant("mine", 3.0), 2.0, 1.0), Component(Constant("yours", math.nan), 0.0)])
    scores = rewards(prompts, images)
    assert scores["mine"].tolist() == [3.0] * 4 and scores["yours"].isnan().all()  # passed on as it is
    with pytest.raises(ValueError, match="'mine' is there twice"):
        RewardSet([Component(Constant("mine", 1.0))] * 2)
    with pytest.raises(ValueError, match="needs a reward"):
        RewardSet([])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(REWARDS)),
            st.none() | st.text("abcXYZ019:/.-_, @", min_size=1).filter(str.strip),
            st.floats(allow_nan=False, allow_infinity=False),
            st.none() | st.just("plain") | st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        unique_by=lambda part: part[:2],
    )
)
def test_a_spec_is_read_back_as_written(parts):
    written = [
        name + (f"[{model}]" if model else "") + f":{weight!r}" + ("" if cap is None else f"@{cap}")
        for name, model, weight, cap in parts
    ]
    assert [tuple(part) for part in parse_spec(" , ".join(written))] == parts


def test_a_reward_behind_urls():
    spec = "http://127.0.0.1:8808/hps:0.5@plain,https://[::1]:8808/a/vlm-2.score,any[http://a:1,http://b:2/x]:2"
    assert [tuple(part) for part in parse_spec(spec)] == [
        ("hps", "http://127.0.0.1:8808", 0.5, "plain"),
        ("vlm-2.score", "https://[::1]:8808/a", 1.0, None),
        ("any", "http://a:1,http://b:2/x", 2.0, None),
    ]


def test_statistics_of_a_picture_and_the_length_of_its_text():
    rewards = load_rewards("artefacts,length", "embedded", "cpu")
    grey = torch.full((3, 8, 8), 100 / 255)
    cast, clipped, noisy = grey.clone(), grey.clone(), grey.clone()
    cast[0] += 50 / 255
    clipped[:, :2] = 1.0  # a quarter of it
    noisy += torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    scores = rewards(["x"] * 4, torch.stack([grey, cast, clipped, noisy]), ["x", "a cat", "a cat", "a, b"])
    artefacts = scores["artefacts"].tolist()
    assert artefacts[0] == 0.0
    assert artefacts[1] == pytest.approx(-((50**2 + 25**2) ** 0.5) / 255 / 2**0.5, abs=1e-5)
    assert artefacts[2] == pytest.approx(-0.25, abs=1e-5)  # a straight edge is no noise
    assert artefacts[3] == pytest.approx(-0.1, abs=0.03)
    assert scores["length"].tolist() == [-3, -4, -4, -5]
    with pytest.raises(ModelError, match="the reward length has no model"):
        load_rewards("length[ViT-L-14:openai]")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("http://127.0.0.1:8808", "names no reward of a server"),
        ("http://h/hps?x=1", "names no reward of a server"),
        ("clip@plainly", "cap in 'clip@plainly' must be a number or plain, not 'plainly'"),
        ("", "an empty part of the reward spec ''"),
        ("clip,", "an empty part"),
        ("beauty:1", "no reward 'beauty'"),
        ("clip:x", "weight in 'clip:x' must be a number, not 'x'"),
        ("clip:nan", "weight in 'clip:nan'"),
        ("clip:1@inf", "cap in 'clip:1@inf'"),
        ("clip@0.2:1", "cannot read 'clip@0.2:1'"),
        ("clip:1:2", "cannot read 'clip:1:2'"),
        ("clip[", r"cannot read 'clip\['"),
        ("clip[]:1", r"cannot read 'clip\[\]:1'"),
        ("clip[a,pickscore", r"cannot read 'clip\[a'"),
        ("clip:1,pickscore,clip:2", "has clip twice"),
    ],
)
def test_bad_specs_show_the_part_that_is_wrong(spec, message):
    with pytest.raises(ValueError, match=message) as error:
        load_rewards(spec)
    assert "\n" not in str(error.value)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="no reward 'beauty': choose from pickscore, clip"):
        load_reward("beauty")
    with pytest.raises(ValueError, match="'int8'"):
        load_reward("clip", "embedded", "cpu", "int8")
    with pytest.raises(ValueError, match="clip has no option 'processor'"):
        load_reward("clip", "embedded", "cpu", processor="x")
    with pytest.raises(ModelError, match="no file or folder 'embedded'"):
        load_rewards("hps", "embedded", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_said():
    with pytest.raises(ModelError, match="there is no CUDA device"):
        load_rewards("clip", "embedded", "cuda")
