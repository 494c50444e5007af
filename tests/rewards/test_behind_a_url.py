"""Rewards of another process: the same scores, and all that can go wrong on the way."""

import math
import re
import threading
from contextlib import ExitStack, contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl import ModelConfig

from neuroprompt import pool as pool_module
from neuroprompt.cli.commands import app
from neuroprompt.rewards import load_reward, load_rewards
from neuroprompt.rewards.remote import RemoteReward, load, pack, unpack
from neuroprompt.server.errors import Problem
from neuroprompt.server.generators import Describe
from neuroprompt.server.rewards import Scoring, rewards
from neuroprompt.server.settings import RewardServerSettings
from neuroprompt.training import run as run_module
from neuroprompt.wire import RemoteError, Unavailable
from tests.images.remote.servers import StandIn, html, hung, says, trickle, truncated
from tests.ppo.conftest import tiny_policy, tokenizer  # noqa: F401 (a fixture)
from tests.ppo.test_trainer import RICH, rich, trainer, weights
from tests.servers import run_server

FILE = f"""\
import torch

RICH = {RICH}

def brightness(prompts, images):
    return images.mean((1, 2, 3))

def undefined(prompts, images):
    return torch.where(images[:, 0, 0, 0] > 0.5, torch.nan, images[:, 0, 0, 0])

def rich(prompts, images, texts):
    return [sum(RICH.get(word, 0.0) for word in text.split()) for text in texts]

def fails(prompts, images):
    raise KeyError("no such thing")
"""
OWN = ("brightness", "undefined", "rich", "fails")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "served.py"  # whose folder stays in the path
    path.write_text(FILE)
    return path


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    """No second is waited for, but where a server is to come back."""
    monkeypatch.setattr(pool_module.random, "uniform", lambda *_: 0.01)
    monkeypatch.setenv("NEUROPROMPT_REWARDS_PATIENCE", "0")


@pytest.fixture(scope="module")
def answer(file):
    """The part of the server that judges, in this process."""
    spec = ",".join(f"{file}:{name}" for name in OWN)
    return rewards(RewardServerSettings(rewards=spec, device="cpu", max_prompts=64))


class Standing(StandIn):
    """A stand-in that has the functions of `FILE`."""

    def __init__(self, answer, port=0, **changes):
        self.answer, self.changes = answer, changes
        self.limits = {"max_body": 64_000_000, "max_prompts": 64, "max_prompt_length": 2000}
        super().__init__("rewards", None, port)

    def get_rewards(self, handler):
        if handler.path == "/v1/rewards":
            (said,) = self.answer([Describe()])
            return {"rewards": [entry | self.changes for entry in said], "limits": self.limits}

    def post_rewards(self, handler):
        (made,) = self.answer([Scoring(handler.path.rpartition("/")[2], handler.body)])
        if isinstance(made, Problem):
            handler.send(made.status, {"error": {"message": made.message, "code": made.code}})
        return made | self.changes

    @property
    def asked(self):
        """How many pictures each request had."""
        return [len(unpack(body).prompts) for body in self.bodies]


@pytest.fixture
def start(answer):
    with ExitStack() as stack:

        def begin(**settings):
            server = Standing(answer, **settings)
            stack.callback(server.stop)
            return server

        yield begin


def on(*servers, name="brightness", **settings):
    return load(name, [server if isinstance(server, str) else server.url for server in servers], **settings)


def rounded(images):
    """As the servers see them; and laid out alike, for the last bit of a mean."""
    return ((images * 255).round() / 255).contiguous()


# --- the same scores ---------------------------------------------------------------------------------------------


def test_the_scores_are_those_of_the_rewards_here(file, prompts, images, monkeypatch):
    """Through a process of its own, bit by bit; and who has no key gets none."""
    spec = f"pickscore,clip,{file}:undefined,{file}:rich,{file}:fails"
    flags = (spec, "--reward-model", "embedded", "--device", "cpu")
    images = (images + torch.rand(images.shape, generator=torch.manual_seed(0)) / 300).clamp(0, 1)  # no whole levels
    with run_server(*flags, command="serve-rewards", key="a-key") as server:
        here = load_rewards(f"pickscore[embedded],clip[embedded],{file}:undefined,{file}:rich", device="cpu")
        with pytest.raises(RemoteError, match=r"HTTP 401 .*; set NEUROPROMPT_REWARDS_API_KEY to its key$"):
            load_rewards(f"{server.url}/clip")
        monkeypatch.setenv("NEUROPROMPT_REWARDS_API_KEY", "a-key")
        there = load_rewards(
            f"{server.url}/pickscore:0.5@20,clip[{server.url}],{server.url}/undefined,{server.url}/rich"
        )
        texts = [f"{prompt} fox sea" for prompt in prompts]
        expected, scores = here(prompts, rounded(images), texts), there(prompts, images, texts)
        assert scores.keys() == expected.keys() and scores["rich"].tolist() == pytest.approx([1.8] * 4)
        assert 0 < scores["undefined"].isnan().sum() < 4
        for name, wanted in expected.items():
            assert torch.equal(scores[name].nan_to_num(7), wanted.nan_to_num(7)), name
        shipped = [name for name in expected if name in ("pickscore", "clip")]
        assert all(torch.equal(scores[name], here(prompts, images)[name]) for name in shipped)  # unrounded, too
        assert [c.reward.fingerprint for c in there.components] == [c.reward.fingerprint for c in here.components]
        with pytest.raises(RemoteError, match=r"has no reward 'hps': it has pickscore, clip, undefined, rich, fails$"):
            load_rewards(f"{server.url}/hps")
        with pytest.raises(RemoteError, match=r"HTTP 422 .*served.py:fails fails .*no such thing"):
            load_reward("fails", server.url)(prompts, images)
        assert server.get("/readyz").json() == {"status": "ready", "parts": {"rewards": "ready"}}
        post = {"headers": {"Content-Type": "application/octet-stream"}}
        for body, status, said in (
            (b"\x08\0\0\0\0\0\0\0garbage!", 422, "the body is no batch"),
            (pack(["a"], images), 422, "1 prompts for 4 pictures"),
            (pack(["a" * 2001] * 4, images), 422, "2,001 characters in a prompt are too many"),
            (pack(["a"] * 65, images[:1, :, :1, :1].expand(65, 3, 1, 1)), 422, "65 pictures are too many"),
        ):
            refused = server.post("/v1/rewards/clip", data=body, **post)
            assert refused.status_code == status and said in refused.json()["error"]["message"]
        assert server.post("/v1/rewards/hps", data=b"x", **post).status_code == 404
        assert server.metric("neuroprompt_requests_total", route="/v1/rewards/{name:path}", status="404") == 1
        assert server.get("/v1/enhance").status_code == 404  # it judges, and does nothing else


def test_what_the_command_refuses(tmp_path):
    for arguments, said in (
        ("pickscor", "there is no reward 'pickscor'"),
        ("clip:0.5", "clip has a weight or a cap, which are for whoever asks"),
        ("clip --host 0.0.0.0", "host 0.0.0.0 can be reached from other machines: set --api-key"),
        (f"{tmp_path}/none.py:f", "there is no file"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            app(["serve-rewards", *arguments.split()], standalone_mode=False)


@given(st.lists(st.tuples(st.text(), st.text(st.characters())), max_size=4), st.integers(1, 3))
def test_a_batch_is_what_it_was(pairs, side):
    images = torch.arange(len(pairs) * 3 * side**2).remainder(256).reshape(-1, 3, side, side) / 255
    prompts, texts = [one for one, _ in pairs], [other for _, other in pairs]
    batch = unpack(pack(prompts, images, texts))
    assert (batch.prompts, batch.texts) == (prompts, texts) and torch.equal(batch.pictures.float() / 255, images)


@given(st.binary(), st.integers(0, 2**8), st.integers(0, 80))
def test_what_is_no_batch_is_a_line(garbage, length, place):
    whole = pack(["a"], torch.zeros(1, 3, 2, 2))
    for body in (garbage, length.to_bytes(8, "little") + garbage, whole[:place], whole[:place] + garbage):
        with pytest.raises(ValueError):
            unpack(body)


# --- several servers ---------------------------------------------------------------------------------------------


def test_a_call_is_divided_by_the_urls_whoever_is_there(start, images, prompts):
    one, other = start(), start()
    reward = on(one, other, retries=0)
    everything = torch.cat([images, images])[:7]
    expected = rounded(everything).mean((1, 2, 3))
    assert torch.equal(reward(["a"] * 7, everything), expected) and sorted(one.asked + other.asked) == [3, 4]
    other.stop()
    one.bodies.clear()
    with pytest.warns(UserWarning, match=f"going on without {other.url}: "):
        again = torch.cat([reward(["a"] * 7, everything) for _ in range(2)])
    assert torch.equal(again, torch.cat([expected] * 2)) and one.asked == [4, 3, 4, 3]
    one.limits["max_body"] = 4096 + 2 * (3 * 48 * 80 + 50)
    assert on(one)(["a"] * 7, everything).shape == (7,) and one.asked[4:] == [2, 2, 2, 1]
    assert on(one)([], images[:0]).shape == (0,)
    everything[2, 0, 0, 0] = math.nan
    assert on(one)(["a"] * 7, everything).isnan().nonzero().tolist() == [[2]]


def test_all_must_have_the_same_reward(start, images, prompts):
    one, other = start(), start(fingerprint="another")
    with pytest.raises(RemoteError, match=f"^{other.url} has another brightness than the others, or than before$"):
        on(one, other)
    reward = on(one, patience=60)
    one.changes = {"fingerprint": "another"}
    with pytest.raises(Unavailable, match=r"\(somebody has changed the reward meanwhile\)$"):
        reward(prompts, images)  # at once: there is nothing to wait for
    with pytest.raises(Unavailable, match=r"\(somebody has changed the reward meanwhile\)$"):
        reward(prompts, images)
    reward._pool.members[0].out_until = 0.0
    with pytest.raises(Unavailable, match=r"\(has another brightness than the others, or than before\)$"):
        reward(prompts, images)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (html, "it answers with a web page (HTML)"),
        (truncated, "IncompleteRead"),
        (says(b"[[[[" * 5000), "it answers with what is no JSON"),
        (says(["scores"]), "its answer is none (TypeError"),
        (says({"scores": [1.0]}), "it answers with 1 scores where 4 are due"),
        (says({"scores": {}}), "it answers with none scores where 4 are due"),
        (says({"scores": ["x"] * 4}), "its answer is none"),
        (says(b" " * (1 << 21)), "it answers with more than 1 MB"),
        (says({"error": "OutOfMemoryError"}, 500), "HTTP 500 Internal Server Error: OutOfMemoryError"),
        (hung, "no answer within 0.5 s"),
        (trickle, "its answer took more than 0.5 s"),
    ],
)
def test_a_server_that_fails_is_a_line_and_its_work_is_another_ones(fault, said, start, images, prompts):
    good, bad = start(), start()
    bad.fault = fault
    settings = {"timeout": 0.5 if fault in (hung, trickle) else 60.0, "retries": 1}
    with pytest.raises(Unavailable) as caught:
        on(bad, **settings)(prompts, images)
    line = str(caught.value)
    assert line.startswith(f"no server of the reward 'brightness' answers: {bad.url} (") and said in line
    assert "\n" not in line
    with pytest.warns(UserWarning, match=f"going on without {bad.url}: "):
        reward = on(bad, good, **settings)
        scores = [reward(prompts, images) for _ in range(3)][-1]
    assert torch.equal(scores, rounded(images).mean((1, 2, 3)))


def test_nothing_is_asked_of_others(start, images, prompts, monkeypatch):
    server, elsewhere = start(), start()
    reward = on(server)
    server.fault = says({}, 307, Location=f"{elsewhere.url}/v1/rewards/brightness")
    with pytest.raises(RemoteError, match=re.escape(f"{server.url} leads on to {elsewhere.url}/v1/rewards")):
        reward(prompts, images)
    assert not elsewhere.paths
    other = StandIn("openai", None)
    with pytest.raises(RemoteError, match=f"{other.url} serves no rewards: start it with `neuroprompt serve-rewards`"):
        on(other)
    other.stop()
    for url, said in (
        ("http://u:pw@a", "the URL of a holds a password: set NEUROPROMPT_REWARDS_API_KEY instead"),
        ("http://a:x", "'http://a:x' is no URL of a server of rewards"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            on(url)
    monkeypatch.setenv("NEUROPROMPT_REWARDS_PATIENCE", "long")
    with pytest.raises(ValueError, match="NEUROPROMPT_REWARDS_PATIENCE is 'long': give seconds"):
        on(server)


# --- in a training -----------------------------------------------------------------------------------------------


@contextmanager
def training(tokenizer, path, reward, on_call=lambda count: None, **settings):  # noqa: F811
    """A run that a remote reward judges; `on_call` sees how many calls there were before each."""
    calls = 0

    def judged(prompts, completions):
        nonlocal calls
        on_call(calls)
        calls += 1
        return reward(prompts, torch.zeros(len(prompts), 3, 2, 2), completions).tolist()

    yield trainer(tokenizer, path, judged, policy=tiny_policy(), max_steps=12, **settings)  # of three rollouts


def test_a_training_goes_on_when_servers_die(tokenizer, tmp_path, start):  # noqa: F811
    """One of two killed, or the only one killed and started again: the weights are those of an undisturbed run."""

    def train(name, reward, on_call=lambda count: None):
        with training(tokenizer, tmp_path / name, reward, on_call) as run:
            run.train()
            return weights(run)

    undisturbed = train("undisturbed", lambda *asked: torch.tensor(rich(asked[0], asked[2])))
    one, other = start(), start()
    with pytest.warns(UserWarning, match=f"going on without {other.url}: "):
        of_two = train("two", on(one, other, name="rich", retries=0), lambda calls: calls == 1 and other.stop())
    only, again = start(), []

    def die(calls):
        if calls == 1:
            only.stop()
            threading.Timer(0.7, lambda: again.append(start(port=only.port))).start()

    with pytest.warns(UserWarning, match=f"no server of .*{only.url} .*; waiting for one, for 60 s at most$"):
        returned = train("returned", on(only, name="rich", retries=0, patience=60), die)
    assert only.bodies and again[0].bodies
    for name, expected in undisturbed.items():
        assert torch.equal(of_two[name], expected) and torch.equal(returned[name], expected), name


def test_a_training_that_no_server_judges_leaves_a_checkpoint(tokenizer, tmp_path, start, monkeypatch):  # noqa: F811
    saved = {"save_strategy": "steps", "save_steps": 4}
    server = start()
    reward = on(server, name="rich", retries=0)
    with training(tokenizer, tmp_path / "whole", reward, **saved) as whole:
        whole.train()
    with training(tokenizer, tmp_path / "stopped", reward, lambda n: n == 1 and server.stop(), **saved) as run:
        monkeypatch.setattr(run_module, "only_planned", lambda *_: False)
        line = r"^no server of the reward 'rich' answers: http://127.0.0.1:\d+ \(.*\); .*/checkpoint-4 stays; the same "
        with pytest.raises(Unavailable, match=line):
            run_module.run(run.args, ModelConfig(), False, lambda: None, lambda: run)
    reward = on(start(), name="rich")
    with training(tokenizer, tmp_path / "stopped", reward, **saved) as again:
        again.train(resume_from_checkpoint=True)
    assert 0 < run.state.global_step < again.state.global_step == 12
    for name, expected in weights(whole).items():
        assert torch.equal(weights(again)[name], expected), name


def test_the_reward_is_one_as_any(start):
    reward = on(start())
    assert isinstance(reward, RemoteReward) and not reward.reads_text and on(start(), name="rich").reads_text
