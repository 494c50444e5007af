"""The search as a whole: what it measures, how it is stopped and taken up, and once on the embedded models."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from neuroprompt.decoding import ConstraintError, check
from neuroprompt.prompts import CLIP_WINDOW, count_clip_tokens
from neuroprompt.rewards import Component
from neuroprompt.scoring import RewardArguments, build_reward
from neuroprompt.search import STRATEGIES, SearchConfig, optimize
from neuroprompt.statistics import bootstrap
from tests import forks
from tests.search.world import WISH, World, search, unit


def test_the_winner_is_measured_on_pictures_that_did_not_choose_it():
    """Where nothing is better than anything, the pictures that chose say otherwise, and the fresh ones do not."""

    class Nothing(World):
        def truth(self, text, original):
            return 0.0

    world = Nothing(noise=1.0)
    results = search([f"subject {i}" for i in range(30)], "best-of-n", 40, world, held_out=4)
    assert bootstrap([r.selected for r in results]).low > 0.5
    held_out = bootstrap([r.held_out for r in results])
    assert held_out.low < 0 < held_out.high
    errors = [r.held_out_error for r in results if r.text != r.original]
    assert np.mean(errors) == pytest.approx(np.sqrt(2 / 4), rel=0.25)  # of a difference of two over four seeds


@pytest.mark.parametrize("relative", ["all", "none", "beauty"])
def test_worth_is_what_the_reward_says(relative):
    """The held-out improvement is the difference that `PromptReward.score` makes of the same seeds."""
    world = World(relative=relative)
    world.rewards.components = (
        Component(world.rewards.components[0].reward, 2.0, cap=3.0),
        *world.rewards.components[1:],
    )
    world.scales["beauty"] = 0.5
    result = search("a castle", "best-of-n", 24, world, held_out=5)
    seeds = list(dict.fromkeys(seed for _, _, seed in world.drawn[result.images :]))
    world.images_per_prompt, world.seeds = 5, lambda original: seeds
    ours, plain = world.score(["a castle"] * 2, [result.text, "a castle"])
    assert result.held_out == pytest.approx(ours - plain)


def test_the_same_call_gives_the_same_result_and_another_seed_another():
    assert search("a castle") == search("a castle")
    assert search("a castle").measured != search("a castle", seed=1).measured


def test_a_prompt_does_not_depend_on_those_beside_it_and_rounds_are_shared():
    prompts = ["a castle", "boy on a horse", "a castle", "a castle, golden light"]
    world = World()
    together = search(prompts, budget=24, reward=world)
    calls, longest = world.calls, 0
    for prompt, result in zip(prompts, together, strict=True):
        alone = World()
        assert search(prompt, budget=24, reward=alone) == result
        longest = max(longest, alone.calls)
    assert calls <= 2 * longest  # not the sum: one call a round, in parts of four batches


def test_a_picture_that_nothing_finite_is_said_of_does_not_win():
    class Broken(World):
        def truth(self, text, original):
            return (
                float("nan") if "golden" in text else float("inf") if "misty" in text else super().truth(text, original)
            )

    for strategy in STRATEGIES:
        result = search("a castle", strategy, 30, Broken())
        assert "golden" not in result.text and "misty" not in result.text
        assert np.isfinite(result.held_out)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_picture_without_a_finite_score_says_nothing(strategy):
    """The others of its prompt count, and those of the original with other seeds."""

    class Half(World):
        def measure(self, texts, originals, seeds, *arguments, **settings):
            measured = super().measure(texts, originals, seeds, *arguments, **settings)
            measured.scores["beauty"][np.array(seeds) % 2 == 0] = np.nan
            return measured

    world = Half()
    result = search("a castle", strategy, 30, world, held_out=4)
    seen = {}
    for text, original, seed in world.drawn[: result.images]:
        if seed % 2:
            value = world.truth(text, original) + world.luck * unit("seed", original, seed)
            seen.setdefault(text, []).append(value + world.noise * unit(text, seed))
    for m in result.measured:
        expected = np.mean(seen[m.text]) - np.mean(seen["a castle"]) if m.text in seen else np.nan
        assert m.reward == pytest.approx(expected, nan_ok=True)
    assert result.text in seen and len(seen) > 3 and np.isfinite([result.selected, result.held_out]).all()
    assert all(m["reward"] is None for m in result.to_dict()["measured"] if m["text"] not in seen)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_that_is_drawn_keeps_text_window_and_constraints(strategy):
    prompt = "a (very old:1.2) castle <lora:stone:0.8> " + "by the sea " * 12
    world = World()
    result = search(prompt, strategy, 30, world, constraints=WISH)
    rewrites = {text for text, _, _ in world.drawn if text != prompt}
    assert len(rewrites) > 3
    for text in rewrites:
        assert text.startswith(prompt) and count_clip_tokens(text) <= CLIP_WINDOW and check(text, WISH), text
    assert result.text in rewrites  # the user's own text does not meet them, and is drawn to be compared with
    assert [m.allowed for m in result.measured if m.text == prompt] == [False]
    assert all(m.allowed for m in result.front)


def faults(negative):
    return any(phrase in (negative or "") for phrase in ("ugly", "blurry", "deformed"))


class Against(World):
    """What is worth most is to lead away from faults."""

    def measure(self, texts, originals, seeds, negatives=None, **settings):
        measured = super().measure(texts, originals, seeds, negatives, **settings)
        measured.scores["beauty"] += [6.0 * faults(negative) for negative in negatives]
        return measured


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_negative_prompts_are_searched_beside_the_rewrites(strategy, tmp_path):
    prompts, state = [f"subject {i}" for i in range(6)], tmp_path / "state.json"
    results = search(prompts, strategy, 48, Against(), negatives=True, state=state)
    assert sum(faults(result.negative) for result in results) >= 5
    for result in results:
        assert [m.negative for m in result.measured if m.text == result.original and not m.modifiers][-1:] == [None]
        best = next(m for m in result.measured if (m.text, m.negative) == (result.text, result.negative))
        assert best.modifiers == result.modifiers and "Negative" not in result.text
    world = Against()
    assert search(prompts, strategy, 48, world, negatives=True, state=state) == results and not world.drawn
    assert all(result.negative is None for result in search(prompts[:2], strategy, 48, Against()))
    with pytest.raises(ValueError, match="belongs to a search with other"):
        search(prompts, strategy, 48, World(), state=state)
    world.generator.takes_negative = False
    with pytest.raises(ValueError, match=r"^world takes no negative prompt .* none to search"):
        search(prompts, strategy, 48, world, negatives=True)


def test_a_prompt_without_room_is_left_as_it_is():
    prompt = "a castle by the sea " * 20
    result = search(prompt, budget=20)
    assert result.text == prompt and result.held_out == 0 and "fills the window" in result.warning


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompts": "  "}, "empty"),
        ({"budget": 2}, "too small"),
        ({"strategy": "magic"}, "unknown strategy 'magic'"),
        ({"held_out": -1}, "held_out is -1"),
        ({"axes": ("hps",)}, "'hps' is no component"),
        ({"state": "/no/such/folder/x.json"}, "no folder"),
        ({"prompts": "an ink castle", "constraints": WISH}, "forbidden"),
    ],
)
def test_errors_say_what_is_wrong(arguments, message):
    with pytest.raises((ValueError, ConstraintError), match=message):
        search(**{"prompts": "a castle"} | arguments)


# --- stopped and taken up ------------------------------------------------------------------------------------------

SCRIPT = """
import sys, os, time, signal
from tests.search.world import World, search
class Mortal(World):
    def measure(self, *arguments, **settings):
        result = super().measure(*arguments, **settings)
        print(len(self.drawn), flush=True)
        time.sleep(0.05)
        return result
search(["a castle", "boy on a horse"], "bayes", 40, Mortal(), state=sys.argv[1])
"""


def test_killed_and_taken_up_it_comes_to_the_same_result(tmp_path, monkeypatch):
    monkeypatch.setattr("neuroprompt.search.pictures._PART", 1)
    prompts, state = ["a castle", "boy on a horse"], tmp_path / "state.json"
    undisturbed = search(prompts, "bayes", 40, World())
    log, errors = tmp_path / "log.txt", tmp_path / "errors.txt"
    process = forks.start(["-c", SCRIPT, state], Path.cwd(), log, errors)
    while process.is_alive() and not (log.exists() and log.read_text().count("\n") >= 5):
        time.sleep(0.01)
    assert process.is_alive(), errors.read_text()
    process.kill()
    process.join()
    known = sum(map(len, json.loads(state.read_text())["pictures"].values()))
    world = World()
    assert search(prompts, "bayes", 40, world, state=state) == undisturbed
    assert known > 0
    assert known + len(world.drawn) == sum(r.images + r.held_out_images for r in undisturbed)  # nothing twice
    world = World()
    assert search(prompts, "bayes", 40, world, state=state) == undisturbed and not world.drawn  # finished: read


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ctrl_c_keeps_the_best_and_the_state(strategy, tmp_path):
    undisturbed = search("a castle", strategy, 40)
    world = World()
    world.stop_after = 1
    stopped = search("a castle", strategy, 40, world, state=tmp_path / "s.json")
    assert not stopped.complete and stopped.held_out is None
    assert stopped.images == len(world.drawn) > 0
    assert stopped.text in {text for text, _, _ in world.drawn}
    assert search("a castle", strategy, 40, World(), state=tmp_path / "s.json") == undisturbed
    world.calls = world.stop_after = 0
    nothing = search("a castle", strategy, 40, world)
    assert nothing.text == "a castle" and nothing.images == 0 and not nothing.complete


# --- the real thing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_end_to_end_on_the_embedded_models(strategy, enhancer, tmp_path):
    arguments = RewardArguments(
        rewards="pickscore:1.0,clip:0,aesthetic:0", reward_model="embedded", generator={"steps": 1}, images_per_prompt=1
    )
    prompts, state = ["boy on a horse", "a castle"], tmp_path / "s.json"
    config = SearchConfig(strategy, budget=8, held_out=1, negatives=strategy == "bayes")
    rounds = []
    reward = build_reward(arguments, "cpu")
    results = optimize(prompts, reward, enhancer, config, state=state, on_round=rounds.append)
    assert rounds[-1].images == sum(r.images for r in results) and rounds[-1].searching == 0
    for prompt, result in zip(prompts, results, strict=True):
        assert result.text.startswith(prompt) and 1 < result.images <= 8 and len(result.front) >= 1
        assert set(result.measured[0].scores) == {"pickscore", "clip", "aesthetic"}
        assert any(m.negative for m in result.measured) == config.negatives
    content = json.loads(state.read_text())
    first = {prompt: len(result.curve) and result.curve[0][0] for prompt, result in zip(prompts, results, strict=True)}
    for prompt in prompts:  # as a kill after the first round would have left it
        content["pictures"][prompt] = content["pictures"][prompt][: first[prompt]]
        content["proposals"][prompt] = content["proposals"][prompt][:1]
    state.write_text(json.dumps(content))
    assert optimize(prompts, reward, enhancer, config, state=state) == results
