"""The reward of a rewritten prompt, on the embedded models, against a naive computation of the same thing."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neuroprompt.completions import finish
from neuroprompt.formats import RETELL
from neuroprompt.images import Drawing, ImageGenerator
from neuroprompt.ppo.answers import OfAnswers
from neuroprompt.prompts import count_clip_tokens
from neuroprompt.rewards import Component, RewardSet, load_rewards
from neuroprompt.scoring import (
    PRESETS,
    DrawingError,
    PromptReward,
    RewardArguments,
    Term,
    build_reward,
    combined,
    known_mean,
    read_terms,
)

ROUNDING = 5e-4  # of scores around 18: what a batch of another size costs in float32
PROMPTS = ["boy on a horse", "a castle", "boy on a horse"]
COMPLETIONS = [", oil painting, highly detailed", ", blurry", ", 3d render, sharp focus"]


@pytest.fixture(scope="module")
def generator():
    return ImageGenerator.from_pretrained("embedded", device="cpu", steps=1)


@pytest.fixture(scope="module")
def rewards():
    return load_rewards("pickscore:1.0,aesthetic:0.25,clip:0.5@0.1", model="embedded", device="cpu")


def naive(generator, rewards, prompts, completions, relative, seeds, scales):
    """The docstring's equation, one picture at a time."""
    result = []
    for prompt, completion in zip(prompts, completions, strict=True):
        text = prompt + completion
        values = []
        for seed in seeds(prompt):
            ours = rewards([prompt], generator([text], [seed]))
            base = rewards([prompt], generator([prompt], [seed]))
            value = 0.0
            for c in rewards.components:
                if c.cap == "plain":
                    gain = min(0.0, float(ours[c.reward.name]) - float(base[c.reward.name]))
                    value += c.weight / scales[c.reward.name] * gain
                    continue
                cap = math.inf if c.cap is None else c.cap
                s, b = min(float(ours[c.reward.name]), cap), min(float(base[c.reward.name]), cap)
                if c.reward.name not in relative:
                    b = 0.0 if c.cap is None else cap
                value += c.weight / scales[c.reward.name] * (s - b)
            values.append(value)
        result.append(sum(values) / len(values))
    return result


@pytest.mark.parametrize(("relative", "plain"), [("all", ""), ("none", "clip"), ("aesthetic,clip", "pickscore")])
def test_equals_the_equation(generator, rewards, relative, plain):
    capped = [c._replace(cap="plain") if c.reward.name == plain else c for c in rewards.components]
    rewards = RewardSet(capped)
    reward = PromptReward(generator, rewards, relative=relative, images_per_prompt=2)
    reward.scales = {"pickscore": 2.0, "aesthetic": 0.5, "clip": 1.0}
    got = reward(PROMPTS, COMPLETIONS)
    wanted = naive(generator, rewards, PROMPTS, COMPLETIONS, reward.relative, reward.seeds, reward.scales)
    np.testing.assert_allclose(got, wanted, atol=ROUNDING)
    assert all(isinstance(r, float) for r in got)


def test_an_unchanged_prompt_gains_exactly_nothing(generator, rewards):
    reward = PromptReward(generator, rewards, images_per_prompt=2)
    assert reward.score(PROMPTS, PROMPTS).tolist() == [0.0, 0.0, 0.0]
    assert reward.last["images"] == 4  # two prompts, two seeds: nothing is drawn twice


def test_does_not_depend_on_the_batch(generator, rewards):
    reward = PromptReward(generator, rewards, images_per_prompt=2)
    whole = reward(PROMPTS, COMPLETIONS)
    for i, value in enumerate(whole):
        alone = PromptReward(generator, rewards, images_per_prompt=2)(PROMPTS[i : i + 1], COMPLETIONS[i : i + 1])
        assert alone[0] == pytest.approx(value, abs=ROUNDING)


def test_logs_components_and_counts_what_was_drawn(generator, rewards):
    reward, logged = PromptReward(generator, rewards, images_per_prompt=3), {}
    reward(PROMPTS, COMPLETIONS, log_metric=logged.__setitem__)
    assert logged == reward.last
    assert logged["images"] == (3 + 2) * 3 and logged["flagged"] == 0
    assert {"pickscore", "plain/pickscore", "seconds/draw", "seconds/score", "images_per_s"} <= set(logged)


def test_a_completion_that_was_cut_off_loses_its_half_modifier(generator, rewards):
    reward = PromptReward(generator, rewards, relative="none", images_per_prompt=1, eos_token_id=7)
    cut, whole = reward(["a castle"] * 2, [", oil painting, baroque"] * 2, completion_ids=[[1, 2], [1, 7]])
    text = finish("a castle", ", oil painting, baroque", False, 77)[0]
    assert text == "a castle, oil painting"
    assert cut == pytest.approx(reward.score(["a castle"], [text])[0], abs=ROUNDING) != whole


def test_of_a_policy_that_retells_the_answers_are_drawn(generator, rewards):
    reward, logged = PromptReward(generator, rewards, images_per_prompt=1, eos_token_id=7), {}
    of_answers = OfAnswers(reward, RETELL, 7, unparsed_reward=-5.0)
    written = ['Prompt: "A boy rides a horse at dusk."', "A castle. Half a"]
    got = of_answers(PROMPTS[:2], written, [[1, 7], [1, 2]], logged.__setitem__)
    wanted = reward.score(PROMPTS[:1], ["A boy rides a horse at dusk."])[0]
    assert got == [pytest.approx(wanted, abs=ROUNDING), -5]
    assert logged["unparsed"] == 0.5 and logged["images"] == 2 and 0 < logged["kept"] <= 1


class Failing:
    """A generator that fails on some prompts, and on no batch without them."""

    def __init__(self, generator, bad):
        self.generator, self.bad, self.calls = generator, bad, 0
        self.config, self.fingerprint = generator.config, generator.fingerprint

    def draw(self, prompts, seeds, negatives=None):
        self.calls += 1
        if any(self.bad in p for p in prompts):
            raise RuntimeError("kernel launch failed")
        return self.generator.draw(prompts, seeds, negatives)


def test_the_error_names_the_prompt_and_the_rest_is_kept(generator, rewards, tmp_path):
    broken = Failing(generator, "dragon")
    reward = PromptReward(broken, rewards, images_per_prompt=1, score_cache=tmp_path / "scores.db")
    with pytest.raises(DrawingError, match=r"a dragon, oil painting.* RuntimeError: kernel launch failed"):
        reward.score(["a castle", "a boat", "a dragon"], ["a castle", "a boat", "a dragon, oil painting"])
    again = PromptReward(generator, rewards, images_per_prompt=1, score_cache=tmp_path / "scores.db")
    again.score(["a castle", "a boat"], ["a castle", "a boat"])
    assert again.last["images"] == 0


def test_a_failure_that_passes_costs_one_retry(generator, rewards):
    class Once(Failing):
        def draw(self, prompts, seeds, negatives=None):
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("a hiccup")
            return self.generator.draw(prompts, seeds, negatives)

    reward = PromptReward(Once(generator, ""), rewards, images_per_prompt=2)
    steady = PromptReward(generator, rewards, images_per_prompt=2)
    np.testing.assert_allclose(reward(PROMPTS, COMPLETIONS), steady(PROMPTS, COMPLETIONS), atol=ROUNDING)
    assert reward.generator.calls == 3


def test_the_cache_knows_what_scores_depend_on(generator, rewards, tmp_path):
    path = tmp_path / "scores.db"
    first = PromptReward(generator, rewards, images_per_prompt=2, score_cache=path)
    wanted = first(PROMPTS, COMPLETIONS)
    again = PromptReward(generator, rewards, images_per_prompt=2, score_cache=path)
    np.testing.assert_allclose(again(PROMPTS, COMPLETIONS), wanted, atol=ROUNDING)
    assert again.last["images"] == 6  # the rewrites; the originals are known
    other = ImageGenerator.from_pretrained("embedded", device="cpu", steps=2)
    changed = PromptReward(other, rewards, images_per_prompt=2, score_cache=path)
    changed(PROMPTS, COMPLETIONS)
    assert changed.last["images"] == 10


def test_a_file_that_is_no_cache(generator, rewards, tmp_path):
    (tmp_path / "notes.txt").write_text("not a database" * 100)
    with pytest.raises(ValueError, match="is no score cache"):
        PromptReward(generator, rewards, score_cache=tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="there is no folder"):
        PromptReward(generator, rewards, score_cache=tmp_path / "no" / "scores.db")


class Flagging(Failing):
    def draw(self, prompts, seeds, negatives=None):
        drawing = self.generator.draw(prompts, seeds, negatives)
        flagged = torch.tensor([self.bad in p for p in prompts])
        return Drawing(drawing.images * ~flagged[:, None, None, None], flagged)


def test_flagged_pictures_get_the_floor(generator, rewards):
    reward = PromptReward(Flagging(generator, "blurry"), rewards, images_per_prompt=2, flagged_reward=-3.0)
    steady = PromptReward(generator, rewards, images_per_prompt=2)
    got, wanted = reward(PROMPTS, COMPLETIONS), steady(PROMPTS, COMPLETIONS)
    assert got[1] == -3.0 and reward.last["flagged"] == pytest.approx(1 / 3)
    assert got[0] == pytest.approx(wanted[0], abs=ROUNDING) and got[2] == pytest.approx(wanted[2], abs=ROUNDING)


@pytest.mark.parametrize("spec, relative", [("pickscore:1.0", "none"), ("pickscore:1.0,clip:20@0.28", "pickscore")])
def test_being_flagged_costs_the_same_whatever_the_scale_of_the_reward(generator, spec, relative):
    """PickScore itself is about 20: a worth of -2 for one picture of two would be 11 less, and drown all else."""
    rewards = load_rewards(spec, "embedded", "cpu")
    reward = PromptReward(Flagging(generator, "blurry"), rewards, relative=relative, images_per_prompt=2)
    got = reward(PROMPTS, COMPLETIONS)
    plain = PromptReward(generator, rewards, relative=relative, images_per_prompt=2).score(PROMPTS, PROMPTS)
    assert got[1] == pytest.approx(plain[1] - 2.0, abs=0.01)
    assert reward.last["images"] == (6 if relative == "none" else 6 + 2) + 2  # and of the flagged one's original


def test_of_an_original_that_is_flagged_itself_the_other_pictures_stand_in(generator, rewards):
    flagged = np.array([[True, True], [False, False]])
    scores = {"pickscore": np.array([[0.0, 0.0], [19.0, 21.0]])}
    worth = combined({"pickscore": Term(1.0)}, scores, flagged, None, None, -2.0)
    assert worth.tolist() == [[18.0, 18.0], [19.0, 21.0]]
    alone = combined({"pickscore": Term(1.0)}, {"pickscore": np.zeros((1, 2))}, flagged[:1], None, None, -2.0)
    assert alone.tolist() == [[-2.0, -2.0]]


def test_the_window_of_the_policy_is_that_of_the_reward(generator, rewards):
    """A rewrite that may be long is drawn as it is, and not cut to CLIP's window."""
    tail = ", " + ", ".join(f"number {i}" for i in range(60))
    drawn = []

    class Listening(Failing):
        def draw(self, prompts, seeds, negatives=None):
            drawn.extend(prompts)
            return self.generator.draw(prompts, seeds, negatives)

    for window, whole in ((77, False), (None, True), (400, True)):
        PromptReward(Listening(generator, "-"), rewards, images_per_prompt=1, window=window)(["a castle"], [tail])
        assert (f"a castle{tail}" in drawn) == whole
        drawn.clear()


class Silent:
    """A reward that says nothing finite of red pictures: NaN, or infinity where the prompt says so."""

    name, fingerprint = "silent", "silent"

    def __call__(self, prompts, images):
        red = images[:, 0].mean((1, 2)) > images[:, 1].mean((1, 2))
        return torch.where(red, float("nan"), images.mean((1, 2, 3)) + 1)


class Painting:
    """A generator of plain colours: red where `red` says so of the text and how manieth seed."""

    name, fingerprint, config = "painting", "painting", SimpleNamespace(batch_size=8)

    def __init__(self, red):
        self.red, self.first = red, {}

    def draw(self, prompts, seeds, negatives=None):
        images = torch.full((len(prompts), 3, 4, 4), 0.5)
        for image, prompt, seed in zip(images, prompts, seeds, strict=True):
            if self.red(prompt, seed - self.first.setdefault("a cat", seed)):
                image[1:] = 0
        return Drawing(images, torch.zeros(len(prompts), dtype=torch.bool))


def test_a_score_that_is_not_finite_is_none():
    """The other pictures stand in for it; without any, there is no reward. So it is for the original's, too."""
    silent = RewardSet([Component(Silent())])

    def scores(red, **settings):
        reward = PromptReward(Painting(red), silent, images_per_prompt=2, **settings)
        made = reward.score(["a cat"] * 2, ["a cat, blue", "a cat, cute"])
        return made.tolist(), reward.last["silent"]

    assert scores(lambda text, seed: False, relative="none") == ([1.5, 1.5], 1.5)
    assert scores(lambda text, seed: "blue" in text and seed == 1, relative="none") == ([1.5, 1.5], 1.5)
    (nothing, other), mean = scores(lambda text, seed: "blue" in text, relative="none")
    assert math.isnan(nothing) and (other, mean) == (1.5, 1.5)
    assert scores(lambda text, seed: text == "a cat" and seed == 0)[0] == [0.0, 0.0]
    assert np.isnan(scores(lambda text, seed: text == "a cat")[0]).all()  # nothing to compare with


@given(arrays(float, (3, 4), elements=st.sampled_from([1.0, -2.0, 7.5, math.nan, math.inf, -math.inf])))
def test_the_mean_of_what_is_known(values):
    for row, mean in zip(values, known_mean(values), strict=True):
        known = [value for value in row if math.isfinite(value)]
        assert mean == pytest.approx(np.mean(known)) if known else math.isnan(mean)


def test_another_reward_over_the_same_models(generator, rewards):
    reward = PromptReward(generator, rewards, images_per_prompt=2)
    reward.calibrate(["a cat", "a castle"])
    other = reward.replace(seed=3, images_per_prompt=1, relative="none")
    assert (other.seed, other.images_per_prompt, other.relative) == (3, 1, frozenset())
    assert (reward.seed, reward.images_per_prompt, len(reward.relative)) == (0, 2, 3)
    assert other.generator is generator and other.scales == reward.scales
    assert other.seeds("a cat") == PromptReward(generator, rewards, images_per_prompt=1, seed=3).seeds("a cat")
    reward.score(["a cat"], ["a cat"])
    same = reward.replace()
    assert same.settings() == reward.settings() and same.score(["a cat"], ["a cat"]).tolist() == [0.0]
    assert same.last["images"] == 0  # the cache is shared
    with pytest.raises(ValueError, match="images_per_prompt is 0"):
        reward.replace(images_per_prompt=0)
    with pytest.raises(TypeError, match="stepz"):
        reward.replace(stepz=1)


def test_settings_are_all_that_a_reward_is(generator, rewards):
    reward = PromptReward(generator, rewards, relative="clip", images_per_prompt=2)
    settings = json.loads(json.dumps(reward.settings()))
    assert read_terms(settings) == reward.terms and settings["generator"]["config"]["size"] == [64, 64]
    for change in (
        {"seed": 1},
        {"window": None},
        {"images_per_prompt": 3},
        {"flagged_reward": -1.0},
        {"relative": "all"},
    ):
        assert reward.replace(**change).settings() != reward.settings()


def test_without_the_cache_all_is_drawn(generator, rewards):
    reward = PromptReward(generator, rewards, images_per_prompt=1)
    texts = ["a cat", "a cat, cute"]
    first = reward.measure(texts, ["a cat"] * 2, [5, 5])
    assert reward.measure(texts, ["a cat"] * 2, [5, 5]).images == 1
    again = reward.measure(texts, ["a cat"] * 2, [5, 5], use_cache=False)
    assert again.images == 2 and all((again.scores[name] == first.scores[name]).all() for name in first.scores)


def test_a_rewrite_is_drawn_with_its_negative_prompt_and_the_original_without(generator, rewards):
    reward = PromptReward(generator, rewards, images_per_prompt=1)
    texts = ["a cat"] * 3
    for drawn in (2, 1):  # the original's scores are kept; they are not those of the other picture
        measured = reward.measure(texts, texts, [5] * 3, [None, "red", None])
        plain, other, again = measured.scores["pickscore"]
        assert plain == again != other and measured.images == drawn
    assert reward.score(["a cat"], ["a cat"])[0] == 0.0 != reward.score(["a cat"], ["a cat"], negatives=["red"])[0]


def test_a_flagged_original_gives_neither_gain_nor_loss(generator, rewards):
    class FlagsPlain(Flagging):
        def draw(self, prompts, seeds, negatives=None):
            images = self.generator.draw(prompts, seeds, negatives).images
            return Drawing(images, torch.tensor([p == "a castle" for p in prompts]))

    reward = PromptReward(FlagsPlain(generator, ""), rewards, images_per_prompt=2)
    assert reward.score(["a castle"], ["a castle, oil painting"])[0] == pytest.approx(0.0, abs=1e-9)


def test_what_is_capped_at_the_plain_prompt_s_own_score_earns_nothing_above_it():
    term = Term(2.0, "plain")
    plain = np.array([[1.0, 3.0, 5.0, np.nan]])
    scores = np.array([[2.0, 2.0, np.nan, 1.0]])
    gain = term.gain(scores, plain, np.zeros((1, 4), bool))
    # Above the same seed's score; below it; without a score; where the plain one has none its others' mean, 3, is it.
    np.testing.assert_allclose(gain, [[0.0, -2.0, np.nan, -4.0]])
    assert (term.gain(scores, plain, np.ones((1, 4), bool)) == 0).all()


def test_a_judge_is_measured_and_never_counts():
    arguments = RewardArguments(
        rewards="pickscore:1.0", judge="clip:3,length", reward_model="embedded", images_per_prompt=2
    )
    judged, alone = build_reward(arguments), build_reward(RewardArguments(reward_model="embedded"))
    assert judged(PROMPTS, COMPLETIONS) == alone(PROMPTS, COMPLETIONS)
    # Against the same seeds' pictures of the prompts as they are; `length` reads what was drawn.
    assert judged.last["judge/clip"] == pytest.approx(judged.last["clip"] - _plain_mean(judged, "clip"), abs=ROUNDING)
    added = [count_clip_tokens(p + c) - count_clip_tokens(p) for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    assert judged.last["judge/length"] == -np.mean(added)
    for wrong in ("pickscore", "clip,pickscore:0"):
        with pytest.raises(ValueError, match="the judge 'pickscore' is one of the rewards"):
            RewardArguments(rewards="pickscore:1.0", judge=wrong)


def _plain_mean(reward, name):
    """The mean score of the plain prompts' pictures, each as often as it has a rewrite."""
    texts = [p for p in PROMPTS for _ in reward.seeds(p)]
    return reward.measure(texts, texts, [s for p in PROMPTS for s in reward.seeds(p)]).scores[name].mean()


def test_calibration_makes_the_spread_of_plain_pictures_the_unit(generator, rewards):
    reward = PromptReward(generator, rewards, images_per_prompt=2)
    plain = ["a cat", "a castle", "a red apple", "an owl"]
    scales = reward.calibrate(plain)
    seeds = [s for p in plain for s in reward.seeds(p)]
    texts = [p for p in plain for _ in range(2)]
    scores = rewards(texts, generator(texts, seeds))
    for name, scale in scales.items():
        assert scale == pytest.approx(float(scores[name].double().std(correction=0)), rel=1e-3)
    assert reward.scales == scales
    with pytest.raises(ValueError, match="alike"):
        PromptReward(generator, rewards, images_per_prompt=1).calibrate(["a cat"])
    half = PromptReward(Painting(lambda text, seed: "a cat" in text), RewardSet([Component(Silent())]))
    with pytest.raises(ValueError, match="silent scores all of 2 plain pictures alike"):  # a cat's are not finite
        half.calibrate(["a cat", "a dog"])


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30), st.integers(0, 2**31), st.integers(1, 8))
def test_seeds_belong_to_the_prompt(text, seed, count):
    reward = object.__new__(PromptReward)
    reward.seed, reward.images_per_prompt = seed, count
    seeds = reward.seeds(text)
    assert seeds == reward.seeds(text) and len(set(seeds)) == count and all(0 <= s < 2**31 for s in seeds)


def test_on_image_sees_every_picture(generator, rewards):
    reward, seen = PromptReward(generator, rewards, images_per_prompt=1), {}
    texts = ["a cat", "a castle", "a cat"]
    reward.measure(texts, texts, [5, 6, 5])
    measured = reward.measure(texts, texts, [5, 6, 5], on_image=seen.__setitem__)
    assert sorted(seen) == [0, 1, 2] and measured.images == 2
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])


def test_presets_and_arguments(generator, rewards):
    assert set(PRESETS) == {"neuroprompts", "promptist"}
    reward = build_reward(
        RewardArguments({"steps": 1}, rewards="neuroprompts", reward_model="embedded", images_per_prompt=3),
        device="cpu",
    )
    assert [c.reward.name for c in reward.rewards.components] == ["pickscore"] and not reward.relative
    plain = PromptReward(generator, rewards, relative="none", images_per_prompt=3)
    plain(["a cat"], [", cute"])
    assert reward(["a cat"], [", cute"])[0] == pytest.approx(plain.last["pickscore"], abs=1e-3)
    with pytest.raises(ValueError, match="which is no component"):
        PromptReward(generator, rewards, relative="beauty")
    with pytest.raises(ValueError, match="at least 1"):
        PromptReward(generator, rewards, images_per_prompt=0)
    assert reward([], []) == []


def test_any_setting_of_the_generator():
    wanted = {"steps": 1, "size": "64x64", "scheduler": "EulerDiscreteScheduler"}
    config = build_reward(RewardArguments(wanted, reward_model="embedded"), device="cpu").generator.config
    assert (config.steps, config.size, config.scheduler) == (1, (64, 64), "EulerDiscreteScheduler")
    cases = {
        "generator has no setting 'stesp': 'steps'": {"stesp": 1},
        "generator has no setting 'height': 'size'": {"name": "embedded", "height": 64},
        "generator has no setting '3': it has steps": {3: 1},
        "steps is 'many': give a whole number": {"steps": "many"},
        "generator is None: write a name, or": None,
        "generator is {'name': 3}: write a name, or": {"name": 3},
    }
    for message, generator in cases.items():
        with pytest.raises(ValueError, match=message):
            RewardArguments(generator)
