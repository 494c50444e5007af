"""The gate, on the embedded models: what noise passes, what stops it, and what it says."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neuroprompt.enhancer import EnhancedPrompt
from neuroprompt.gate import Gate, check_pictures, decide, kept
from neuroprompt.images import ImageGenerator
from neuroprompt.rewards import Component, RewardSet, load_rewards
from neuroprompt.scoring import PromptReward
from neuroprompt.statistics import SequentialTest
from tests.test_cli import command  # noqa: F401 (a fixture)

PROMPTS = ["boy on a horse", "a castle", "a red fox", "a robot", "two cats", "a bull", "a pizza", "a guitar"]


@pytest.fixture(scope="module")
def reward():
    generator = ImageGenerator.from_pretrained("embedded", device="cpu", steps=1)
    return PromptReward(generator, load_rewards("pickscore:1,clip:0", model="embedded", device="cpu"))


class Brightness(SimpleNamespace):
    """A reward that only sees how bright a picture is."""

    name, fingerprint, reads_text = "brightness", "brightness", False

    def __call__(self, prompts, images):
        return images.mean((1, 2, 3))


class Painter:
    """A generator of which a test says what each picture is."""

    name, fingerprint = "painter", "painter"
    config = SimpleNamespace(batch_size=64)

    def __init__(self, brightness, flagged=lambda text, seed: False):
        self.brightness, self.flagged, self.drawn = brightness, flagged, []

    def draw(self, texts, seeds, negatives=None):
        self.drawn += zip(texts, seeds, strict=True)
        of = [self.brightness(text, seed) for text, seed in zip(texts, seeds, strict=True)]
        flagged = [self.flagged(text, seed) for text, seed in zip(texts, seeds, strict=True)]
        return torch.tensor(of).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2), torch.tensor(flagged)


def painted(brightness, **settings):
    draw = Painter(brightness, **settings)
    return draw, PromptReward(draw, RewardSet([Component(Brightness(), 1.0)]))


def test_of_noise_the_models_pictures_make_few_rewrites_come_back(reward):
    """The same prompt on both sides, drawn with other seeds, which of them on which side by lot: it is all chance."""
    rng, texts = np.random.default_rng(0), [text for text in PROMPTS for _ in range(8)]
    scores = reward.measure(texts, texts, range(len(texts))).scores["pickscore"].reshape(-1, 8)
    assert (scores.std(1) > 0.1).all()
    sides = rng.permuted(np.repeat(scores, 400, 0), axis=1).reshape(-1, 4, 2)
    accepted = decide(SequentialTest(4), sides[..., 0] - sides[..., 1]).accepted
    assert 0.02 < accepted.mean() < 2**-4


def test_a_verdict_is_that_of_its_pictures_alone(reward):
    """Whatever stands beside it in the list; a prompt that stays as it is takes no picture."""
    rewrites = [f"{PROMPTS[0]}, blurry", f"{PROMPTS[1]}, digital art, sharp focus", PROMPTS[2]]
    shown, progress = [], []
    verdicts = Gate(reward, pictures=4)(
        PROMPTS[:3],
        rewrites,
        on_progress=lambda *how_far: progress.append(how_far),
        on_picture=lambda i, text, seed, image: shown.append((i, text, seed, image.shape)),
    )
    assert [(v.accepted, v.reason, v.pictures) for v in verdicts[2:]] == [(False, "unchanged", 0)]
    assert len(shown) == 2 * sum(v.pictures for v in verdicts) and progress[-1] == (16, 16)
    assert {text for i, text, *_ in shown if i == 0} == {PROMPTS[0], rewrites[0]}
    for i in range(2):
        (alone,) = Gate(reward, pictures=4)([PROMPTS[i]], [rewrites[i]])
        assert alone.reason == verdicts[i].reason and alone.pictures == verdicts[i].pictures
        seeds = Gate(reward, pictures=4).seeds(PROMPTS[i])[: alone.pictures]
        own, plain = (
            reward.measure([t] * len(seeds), [PROMPTS[i]] * len(seeds), seeds) for t in (rewrites[i], PROMPTS[i])
        )
        for name in ("pickscore", "clip"):
            gain = np.mean(own.scores[name] - plain.scores[name])
            assert alone.gains[name].mean == pytest.approx(gain, abs=1e-3)


def test_the_seeds_are_not_those_of_an_evaluation_or_of_a_choice(reward):
    for original in PROMPTS:
        own = set(Gate(reward, pictures=8).seeds(original))
        for other in (reward, reward.replace(seed=~reward.seed)):
            assert not own & set(other.replace(images_per_prompt=8).seeds(original))


@pytest.mark.parametrize(
    ("gain", "accepted", "pictures", "reason"),
    [
        (0.25, True, 4, "brightness gains 0.25"),
        (-0.25, False, 1, "brightness gains nothing over 1 picture (−0.25)"),
    ],
)
def test_it_stops_as_soon_as_it_knows(gain, accepted, pictures, reason):
    draw, judge = painted(lambda text, seed: (seed % 7) / 16 + gain * ("," in text))
    (verdict,) = Gate(judge, judges=[], pictures=4)(["a cat"], ["a cat, red"])
    assert (verdict.accepted, verdict.pictures, len(draw.drawn)) == (accepted, pictures, 2 * pictures)
    assert verdict.reason.startswith(reason) and verdict.text == ("a cat, red" if accepted else "a cat")


def test_what_is_flagged_does_not_come_back():
    _, judge = painted(lambda text, seed: 0.5 + 0.25 * ("," in text), flagged=lambda text, seed: "," in text)
    (verdict,) = Gate(judge, judges=[])(["a cat"], ["a cat, red"])
    assert (verdict.accepted, verdict.reason) == (False, "a picture of the rewrite was flagged")
    _, judge = painted(lambda text, seed: 0.5 + 0.25 * ("," in text), flagged=lambda text, seed: "," not in text)
    (verdict,) = Gate(judge, judges=[])(["a cat"], ["a cat, red"])
    assert not verdict.accepted and "nothing to compare with" in verdict.reason


def test_a_judge_may_fall_by_its_error_and_no_more():
    gains, rng = np.ones((1, 4)), np.random.default_rng(0)
    test, noise = SequentialTest(4), rng.standard_normal(4)
    noise = (noise - noise.mean()) / (noise.std(ddof=1) / 2)  # of a standard error of 1
    for mean, lost in ((0.5, False), (-0.9, False), (-1.1, True)):
        made = decide(test, gains, [(noise + mean)[None]])
        assert made.lost.tolist() == [[lost]] and made.accepted.tolist() == [not lost]
    assert decide(test, gains, [(noise - 0.5)[None]], tolerance=0).lost.all()


def test_the_judge_is_clip_where_it_does_not_count(reward):
    assert Gate(reward).judges == ("clip",) and Gate(reward, judges=[]).judges == ()
    assert Gate(reward.replace(judges=["clip"])).judges == ("clip",)
    both = RewardSet([Component(c.reward, 1.0) for c in reward.rewards.components])
    assert Gate(PromptReward(reward.generator, both)).judges == ()


def test_the_users_words_come_back_with_the_reason(reward):
    enhanced = EnhancedPrompt("a cat", "a cat, red", clip_tokens=6, score=-1.0)
    (verdict,) = Gate(painted(lambda text, seed: 0.5 - 0.25 * ("," in text))[1], judges=[])(["a cat"], ["a cat, red"])
    back = kept(enhanced, verdict)
    assert (back.text, back.modifiers, back.score, back.clip_tokens) == ("a cat", (), 0.0, 4)
    assert back.warning == "left as it is: brightness gains nothing over 1 picture (−0.25)"


@pytest.mark.parametrize(("pictures", "words"), [(1, "at least 2"), (0, "at least 2"), (40, "at most 16")])
def test_what_cannot_be_decided_by_is_refused(pictures, words):
    with pytest.raises(ValueError, match=words):
        check_pictures(pictures)


@pytest.mark.parametrize(
    ("judges", "words"), [(["vqa"], "there are pickscore, clip"), (["pickscore"], "cannot be its own judge")]
)
def test_a_judge_must_be_measured_and_another(reward, judges, words):
    with pytest.raises(ValueError, match=words):
        Gate(reward, judges)


def test_the_command_line_says_why_the_users_words_came_back(command, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    given = ["enhance", "a bull", "a castle", "--if-better", 2, "--steps", 1, "--rewards", "clip", "-o", "out.jsonl"]
    code, out, err = command(*given)
    assert (code, out) == (0, "") and "clip alone decides: nothing else is measured" in err
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["original"] for record in records] == ["a bull", "a castle"]
    for record in records:
        facts = record["if_better"]
        assert (record["text"] != record["original"]) == facts["accepted"]
        assert set(facts["gains"]) == {"reward", "clip"} and facts["pictures"] in (1, 2)
        assert (f"{record['original']}: left as it is: {facts['reason']}" in err) != facts["accepted"]
    assert not all(record["if_better"]["accepted"] for record in records)
