"""The optimiser: on a reward whose optimum is known, a policy that knows nothing of it, and once on embedded models."""

import itertools
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections import Counter
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroprompt.data import PromptData, split_of
from neuroprompt.decoding import ConstraintError, Constraints, check
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.prompts import CLIP_WINDOW, Prompt, count_clip_tokens, modifier_key
from neuroprompt.rewards import Component, RewardSet
from neuroprompt.scoring import Measured, PromptReward, RewardArguments, build_reward
from neuroprompt.search import STRATEGIES, Ask, Chat, Measurement, SearchConfig, optimize, pareto_front, to_pairs
from neuroprompt.search.candidates import Space
from neuroprompt.search.chat import Wish, read_answer
from neuroprompt.search.posterior import Posterior
from neuroprompt.search.proposals import PolicyProposals
from neuroprompt.statistics import bootstrap

TERMS = [
    f"{a} {b}"
    for a in ("soft", "golden", "misty", "vivid", "stark", "ornate")
    for b in ("light", "lines", "ink", "mood", "detail", "paint")
]
FREQUENCIES = dict.fromkeys(TERMS, 1)


@cache
def unit(*parts) -> float:
    """A normal deviate that belongs to its arguments."""
    return random.Random(zlib.crc32(repr(parts).encode())).gauss(0, 1)


class World(PromptReward):
    """Modifiers with utilities of their own, per prompt; more than five get in each other's way; pairs interact."""

    def __init__(self, noise=0.45, luck=0.6, **settings):
        generator = SimpleNamespace(fingerprint="world", config=SimpleNamespace(batch_size=16))
        names = {"beauty": 1.0, "clip": 0.0, "aesthetic": 0.0}
        components = [Component(SimpleNamespace(name=n, fingerprint=n), w) for n, w in names.items()]
        super().__init__(generator, RewardSet(components), **settings)
        self.noise, self.luck, self.drawn, self.calls = noise, luck, [], 0
        self.stop_after = None  # calls, then Ctrl-C

    def truth(self, text, original):
        modifiers = sorted({modifier_key(m) for m in Prompt.parse(text[len(original) :]).segments})
        value = sum(0.6 * unit(m) + 0.4 * unit(original, m) for m in modifiers)
        value += sum(0.3 * unit("pair", a, b) for a in modifiers for b in modifiers if a < b)
        return value - 0.4 * max(0, len(modifiers) - 5) ** 2

    def measure(self, texts, originals, seeds, on_image=None, use_cache=True):
        self.calls += 1
        if self.stop_after is not None and self.calls > self.stop_after:
            raise KeyboardInterrupt
        self.drawn += list(zip(texts, originals, seeds, strict=True))
        beauty = [
            self.truth(t, o) + self.luck * unit("seed", o, s) + self.noise * unit(t, s)
            for t, o, s in self.drawn[-len(texts) :]
        ]
        scores = {
            "beauty": beauty,
            "clip": [unit("clip", t) for t in texts],
            "aesthetic": [unit("aes", t) for t in texts],
        }
        return Measured({k: np.array(v) for k, v in scores.items()}, np.zeros(len(texts), bool), {}, len(texts))


def policy(asks: list[Ask], seed: int):
    """A policy that knows what is frequent, and nothing of what is good."""
    answers, asked = [], Counter()
    for ask in asks:
        asked[ask] += 1
        rng = random.Random(f"{seed} {ask.original} {ask.head} {asked[ask]}")
        weights = [1 / (k + 3) for k in range(len(TERMS))]
        n = (1, 4) if ask.max_new_tokens else (3, 7)
        answers.append([tuple(dict.fromkeys(rng.choices(TERMS, weights, k=rng.randint(*n)))) for _ in range(ask.count)])
    return answers


def search(prompts, strategy="evolve", budget=32, reward=None, propose=policy, **settings):
    config = SearchConfig(
        strategy, budget, **{k: settings.pop(k) for k in ("held_out", "seed", "axes") if k in settings}
    )
    return optimize(prompts, reward or World(), propose, config, terms=FREQUENCIES, **settings)


# --- does it find what is good? ------------------------------------------------------------------------------------


def true_gains(strategy, prompts, **world):
    world = World(**world)
    results = search([f"subject {i}" for i in range(prompts)], strategy, 64, world, held_out=0)
    assert all(r.images <= 64 for r in results)
    return np.array([world.truth(r.text, r.original) for r in results])


def test_at_an_equal_budget_growing_and_breeding_beat_best_of_n():
    """However best-of-n divides its pictures: 63 samples with one each, or 31 with two."""
    best = [true_gains("best-of-n", 12, images_per_prompt=each) for each in (1, 2)]
    assert all(bootstrap(gains).low > 0 for gains in best)
    for strategy in ("beam", "evolve"):
        gains = true_gains(strategy, 12)
        assert all(bootstrap(gains - b).low > 0 for b in best), strategy


def test_races_beat_best_of_n_where_pictures_are_noisy():
    """At the same seeds; with little noise, as many candidates as possible with a picture each are better."""
    best, halved = (true_gains(s, 50, noise=1.5, images_per_prompt=4) for s in ("best-of-n", "halving"))
    assert bootstrap(halved - best).low > 0
    best, searched = (true_gains(s, 40, noise=2.0, images_per_prompt=1) for s in ("best-of-n", "bayes"))
    assert bootstrap(searched - best).low > 0


def test_what_the_generator_reads_tells_which_samples_are_worth_a_picture():
    """Modifiers that no two samples share, so that only what the generator makes of a text can say what it is like."""

    class Smooth(World):
        def truth(self, text, original):
            return float(self.generator.encode([text])[0] @ torch.tensor([1.0, 0.5, 0.25]))

    def write(asks, seed):
        rng = random.Random(f"{seed} {asks[0].original}")
        return [[(f"term {rng.random()}",) for _ in range(ask.count)] for ask in asks]

    def gains(strategy):
        world = Smooth(noise=0.3)
        world.generator.encode = lambda texts: torch.tensor([[unit(t, axis) for axis in range(3)] for t in texts])
        results = search([f"subject {i}" for i in range(12)], strategy, 32, world, write, held_out=0)
        return np.array([world.truth(r.text, r.original) for r in results])

    assert bootstrap(gains("bayes") - gains("best-of-n")).low > 0.3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_modifier_that_is_far_better_than_all_is_found(strategy):
    class OneGood(World):
        def truth(self, text, original):
            return 5.0 * ("golden light" in text) - 0.2 * len(Prompt.parse(text).modifiers)

    result = search("a castle", strategy, 48, OneGood())
    assert "golden light" in result.modifiers
    assert result.held_out > 2


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


# --- the account -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("budget", [3, 4, 9, 30])
def test_no_more_pictures_than_the_budget_and_each_once(strategy, budget):
    world = World()
    result = search("a castle", strategy, budget, world, held_out=3)
    assert len(world.drawn) == len(set(world.drawn)) == result.images + result.held_out_images
    assert result.images <= budget
    assert result.images == sum(m.pictures for m in result.measured)
    assert result.held_out_images == (6 if result.text != result.original else 3)
    images = [i for i, _ in result.curve]
    assert images == sorted(images) and images[-1] == result.images
    assert result.curve[-1][1] == result.selected
    assert result.text.startswith("a castle")


@pytest.mark.parametrize("strategy", ["best-of-n", "halving", "beam"])
def test_candidates_are_drawn_with_the_same_seeds_in_the_same_order(strategy):
    world = World()
    result = search("a castle", strategy, 30, world, held_out=3)
    of = {}
    for text, _, seed in world.drawn[: result.images]:
        of.setdefault(text, []).append(seed)
    longest = max(of.values(), key=len)
    assert all(seeds == longest[: len(seeds)] for seeds in of.values())
    fresh = {seed for _, _, seed in world.drawn[result.images :]}
    assert not fresh & set(longest) and len(fresh) == 3


@pytest.mark.parametrize("strategy", ["bayes", "evolve"])
def test_candidates_begin_with_different_seeds_in_turn(strategy):
    world = World()
    result = search("a castle", strategy, 40, world, held_out=3)
    firsts = {}
    for text, _, seed in world.drawn[: result.images]:
        firsts.setdefault(text, seed)
    begun = Counter(seed for text, seed in firsts.items() if text != "a castle")
    assert len(begun) == 5 and max(begun.values()) - min(begun.values()) <= 2
    fresh = {seed for _, _, seed in world.drawn[result.images :]}
    assert not fresh & {seed for _, _, seed in world.drawn[: result.images]} and len(fresh) == 3


@pytest.mark.parametrize("relative", ["all", "none", "beauty"])
def test_worth_is_what_the_reward_says(relative):
    """The held-out improvement is the difference that `PromptReward.score` makes of the same seeds."""
    world = World(relative=relative)
    world.rewards.components = (
        Component(world.rewards.components[0].reward, 2.0, cap=3.0),
        *world.rewards.components[1:],
    )
    world.scales["beauty"] = 0.5
    result = search("a castle", "halving", 24, world, held_out=5)
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


# --- what may be drawn ---------------------------------------------------------------------------------------------

WISH = Constraints(artist="alphonse mucha", require=["golden hour|sunset"], forbid=["ink", "vivid lines"])


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


@settings(max_examples=40)
@given(
    st.lists(
        st.one_of(st.sampled_from([*TERMS, "by greg rutkowski", "a, b", "(x", "", "\n"]), st.text(max_size=20)),
        max_size=12,
    )
)
def test_any_list_of_modifiers_becomes_an_allowed_text(modifiers):
    for wish in (None, WISH):
        space = Space("a castle", wish)
        text = space.text(modifiers, random.Random(0))
        if text is None:
            continue
        assert text.startswith("a castle") and count_clip_tokens(text) <= CLIP_WINDOW
        assert not wish or check(text, wish)
        keys = [modifier_key(m) for m in space.modifiers[text]]
        assert len(set(keys)) == len(keys)


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
from tests.test_search import World, search
class Mortal(World):
    def measure(self, *arguments, **settings):
        result = super().measure(*arguments, **settings)
        print(len(self.drawn), flush=True)
        time.sleep(0.05)
        return result
search(["a castle", "boy on a horse"], sys.argv[1], 40, Mortal(), state=sys.argv[2])
"""


def test_killed_and_taken_up_it_comes_to_the_same_result(tmp_path, monkeypatch):
    monkeypatch.setattr("neuroprompt.search.loop._PART", 1)
    prompts, state = ["a castle", "boy on a horse"], tmp_path / "state.json"
    undisturbed = search(prompts, "evolve", 40, World())
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, "evolve", str(state)], stdout=subprocess.PIPE, text=True)
    for _ in range(5):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    known = sum(len(of) for of in json.loads(state.read_text())["pictures"].values())
    world = World()
    assert search(prompts, "evolve", 40, world, state=state) == undisturbed
    assert known > 0
    assert known + len(world.drawn) == sum(r.images + r.held_out_images for r in undisturbed)  # nothing twice
    world = World()
    assert search(prompts, "evolve", 40, world, state=state) == undisturbed and not world.drawn  # finished: read


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


def test_a_state_of_another_search_is_refused(tmp_path):
    state = tmp_path / "s.json"
    search("a castle", budget=10, state=state)
    with pytest.raises(ValueError, match="other budget"):
        search("a castle", budget=11, state=state)
    with pytest.raises(ValueError, match="other images_per_prompt"):
        search("a castle", budget=10, reward=World(images_per_prompt=1), state=state)
    state.write_text('{"pictures": 3')
    with pytest.raises(ValueError, match="no state of a search"):
        search("a castle", budget=10, state=state)
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]


# --- results ---------------------------------------------------------------------------------------------------------


def test_the_front_is_what_nothing_beats():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 6, (60, 2)).astype(float)
    measured = [
        Measurement(str(i), (), 0.0, {"clip": c, "aesthetic": a}, 1, i % 7 > 0) for i, (c, a) in enumerate(points)
    ]
    front = pareto_front(measured, ("clip", "aesthetic"))
    allowed = [m for m in measured if m.allowed]
    for m in allowed:
        beaten = any(
            o.scores["clip"] >= m.scores["clip"]
            and o.scores["aesthetic"] >= m.scores["aesthetic"]
            and o.scores != m.scores
            for o in allowed
        )
        assert (m in front) == (not beaten)
    clip = [m.scores["clip"] for m in front]
    assert clip == sorted(clip, reverse=True)
    result = search("a castle")
    assert result.axes == ("clip", "aesthetic") and result.front == pareto_front(result.measured, result.axes)
    assert json.loads(json.dumps(result.to_dict()))["front"][0]["text"] == result.front[0].text


def test_finds_become_pairs_that_training_reads(tmp_path):
    results = search([f"a castle number {i}" for i in range(6)], "halving", 20)
    good = [r for r in results if r.held_out > 0.2 and r.text != r.original]
    assert 0 < len(good)
    to_pairs(results, tmp_path / "finds", least=0.2)
    data = PromptData.load(tmp_path / "finds")
    rows = [row for split in data.pairs.values() for row in split]
    assert {r["prompt"] + r["completion"] for r in rows} == {r.text for r in good}
    assert all(split_of(row["prompt"]) == name for name, split in data.pairs.items() for row in split)
    assert set(data.pairs["train"].column_names) == {"prompt", "completion"}
    more = to_pairs(results, tmp_path / "more", least=0.2, add_to=tmp_path / "finds", copies=2)
    assert len(more.pairs["train"]) == 3 * len(data.pairs["train"])
    with pytest.raises(ValueError, match="more than 99"):
        to_pairs(results, tmp_path / "none", least=99)


def test_the_posterior_against_the_definition():
    """Conditioning the joint Gaussian by plain linear algebra, one model after another."""
    from neuroprompt.search import posterior as module

    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3))
    drawn, seeds = rng.integers(0, 6, 14), rng.integers(0, 3, 14)
    pictures, y = list(zip(drawn, seeds, strict=True)), rng.normal(size=14)
    ours = Posterior(x, drawn, seeds, y)
    distances = [((x[i] - x[j]) ** 2).sum() for i in set(drawn) for j in set(drawn) if i != j]
    means, evidence, covariances = [], [], []
    for length, f, g, own, luck in module.MODELS:

        def near(i, j, length=length):
            return np.exp(-((x[i] - x[j]) ** 2).sum() / np.median(distances) / (2 * length**2))

        noise = 1 - f - g - own
        k = np.array([[1 + f * near(i, j) + own * (i == j) for j in range(8)] for i in range(8)])
        c = np.array(
            [
                [
                    k[i, j] + (luck + g * near(i, j)) * (s == t) + (noise + 1e-9) * (m == n)
                    for n, (j, t) in enumerate(pictures)
                ]
                for m, (i, s) in enumerate(pictures)
            ]
        )
        centred, inverse = y - y.mean(), np.linalg.inv(c)
        scale = centred @ inverse @ centred / len(y)
        evidence.append(-0.5 * len(y) * np.log(scale) - 0.5 * np.linalg.slogdet(c)[1])
        means.append(y.mean() + k[:, drawn] @ inverse @ centred)
        covariances.append(scale * (k - k[:, drawn] @ inverse @ k[drawn]))
    weights = np.exp(np.array(evidence) - max(evidence))
    weights = np.where(weights > 0.01, weights, 0) / weights[weights > 0.01].sum()
    mean = weights @ np.array(means)
    np.testing.assert_allclose(ours.mean, mean, atol=1e-6)
    samples = ours.sample(20_000, np.random.default_rng(1), range(8))
    spread = np.sqrt(np.einsum("m,mpp->p", weights, covariances) + weights @ (np.array(means) - mean) ** 2)
    np.testing.assert_allclose(ours.spread, spread, atol=1e-6)
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.04)
    np.testing.assert_allclose(samples.std(0), spread, rtol=0.06)
    few = ours.sample(20_000, np.random.default_rng(2), [6, 2])
    np.testing.assert_allclose(np.cov(few.T), np.cov(samples[:, [6, 2]].T), rtol=0.1)


# --- a chat model ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """An OpenAI-compatible server; `server.answers`: (status, text) of the next answers, the last one repeated."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.requests.append((self.path, dict(self.headers), body))
            answers = self.server.answers
            status, text = answers.pop(0) if len(answers) > 1 else answers[0]
            data = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    httpd.requests, httpd.answers = [], [(200, "golden mood, golden detail\n2. soft mood, vivid paint")]
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/v1"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@contextmanager
def socket_that_says_nothing():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def test_a_chat_models_proposals_are_drawn_and_kept(server, tmp_path):
    chat = Chat(server.url, "tiny", api_key="secret")
    world, state = World(), tmp_path / "s.json"
    result = search("a castle", "evolve", 24, world, chat=chat, state=state)
    assert "a castle, golden mood, golden detail" in {text for text, _, _ in world.drawn}
    path, headers, body = server.requests[-1]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret"
    assert body["model"] == "tiny" and "a castle" in body["messages"][0]["content"]
    contents = [body["messages"][0]["content"] for _, _, body in server.requests]
    shown = [re.findall(r"^([+-]\d\.\d{3})  (a castle.*)$", content, re.MULTILINE) for content in contents]
    for earlier, later in itertools.pairwise(shown):  # the model learns from what was drawn, the best last
        assert {text for _, text in later} <= {text for text, _, _ in world.drawn} and later != earlier
        assert [float(value) for value, _ in later] == sorted(float(value) for value, _ in later)
    assert len(shown) > 1 and result.text in dict(map(reversed, shown[-1]))
    assert "secret" not in state.read_text()
    asked = len(server.requests)
    assert search("a castle", "evolve", 24, World(), chat=chat, state=state) == result
    assert len(server.requests) == asked  # its answers are in the state


def test_a_busy_server_is_asked_again(server):
    server.answers = [(503, ""), (429, ""), (200, "soft mood, vivid paint")]
    assert Chat(server.url, "tiny")([Wish("a castle", [])], 0) == [[("soft mood", "vivid paint")]]
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [401, 404, 302])
def test_a_refusal_is_said_once_and_the_search_goes_on(server, status):
    server.answers = [(status, "")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = search(["a castle", "a fox"], "evolve", 16, chat=Chat(server.url, "tiny", connections=1))
    assert [f"HTTP {status}" in str(w.message) for w in caught] == [True]
    assert len(server.requests) == 1
    assert result == search(["a castle", "a fox"], "evolve", 16)


def test_an_absent_or_silent_server_does_not_stop_the_search(server):
    with pytest.warns(UserWarning, match="without the chat model"):
        assert Chat("http://127.0.0.1:9/v1", "tiny", retries=0)([Wish("a castle", [])], 0) == [[]]
    with socket_that_says_nothing() as url, pytest.warns(UserWarning, match="without the chat model"):
        began = time.monotonic()
        assert Chat(url, "tiny", retries=0, timeout=0.2)([Wish("a castle", [])], 0) == [[]]
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("url", ["localhost:8080", "file:///etc/passwd", "ftp://host/v1", ""])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValueError, match="no URL of a chat model"):
        Chat(url, "tiny")


def test_what_a_chat_model_writes():
    answer = """<think>
    golden, silver, bronze
    </think>Here are some ideas:
    ```
    1. **Boy on a horse, oil painting, dramatic light**
    - "by alphonse mucha, art nouveau"
    (3) 8k, this is not a modifier but a very long sentence about things
    watercolor
    ```"""
    assert read_answer(answer, "boy on a horse") == [
        ("oil painting", "dramatic light"),
        ("by alphonse mucha", "art nouveau"),
    ]


# --- the real thing --------------------------------------------------------------------------------------------------


def test_a_policy_is_known_by_its_content(enhancer, tmp_path):
    """The folder of an embedded policy may be another in each process, and a killed search is to be taken up there."""
    enhancer.model.save_pretrained(tmp_path / "a")
    enhancer.tokenizer.save_pretrained(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    a, b = (PolicyProposals(PromptEnhancer.from_pretrained(tmp_path / name, "cpu")) for name in "ab")
    other = PolicyProposals(PromptEnhancer.from_pretrained("embedded-sft", "cpu"))
    assert a.name == b.name != other.name


@pytest.mark.parametrize("strategy", ["bayes", "evolve"])
def test_end_to_end_on_the_embedded_models(strategy, enhancer, tmp_path):
    arguments = RewardArguments(
        rewards="pickscore:1.0,clip:0,aesthetic:0", reward_model="embedded", generator={"steps": 1}, images_per_prompt=1
    )
    prompts, state = ["boy on a horse", "a castle"], tmp_path / "s.json"
    config = SearchConfig(strategy, budget=8, held_out=1)
    rounds = []
    reward = build_reward(arguments, "cpu")
    results = optimize(prompts, reward, enhancer, config, state=state, on_round=rounds.append)
    assert rounds[-1].images == sum(r.images for r in results) and rounds[-1].searching == 0
    for prompt, result in zip(prompts, results, strict=True):
        assert result.text.startswith(prompt) and 1 < result.images <= 8 and len(result.front) >= 1
        assert set(result.measured[0].scores) == {"pickscore", "clip", "aesthetic"}
    content = json.loads(state.read_text())
    first = {prompt: len(result.curve) and result.curve[0][0] for prompt, result in zip(prompts, results, strict=True)}
    for prompt in prompts:  # as a kill after the first round would have left it
        content["pictures"][prompt] = content["pictures"][prompt][: first[prompt]]
        content["proposals"][prompt] = content["proposals"][prompt][:1]
    state.write_text(json.dumps(content))
    assert optimize(prompts, reward, enhancer, config, state=state) == results
