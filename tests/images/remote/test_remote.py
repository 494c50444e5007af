"""Generators behind a URL, over HTTP on loopback: the pictures, and all that can go wrong."""

import base64
import io
import json
import re
import ssl
import subprocess
import sys
import threading
import time
import warnings
from contextlib import ExitStack

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from trl import ModelConfig

from neuroprompt import pool as pool_module
from neuroprompt.cli.commands import app
from neuroprompt.evaluation.harness import evaluate
from neuroprompt.evaluation.methods import parse_methods
from neuroprompt.image_files import read_metadata
from neuroprompt.images import ImageGenerator, RemoteConfig, config_of
from neuroprompt.images.remote import Pool, RemoteError, Unavailable
from neuroprompt.images.remote.comfyui import Workflow
from neuroprompt.ppo import PPOConfig
from neuroprompt.prompts import Window
from neuroprompt.rewards import load_rewards
from neuroprompt.runs.arguments import read_arguments
from neuroprompt.scoring import PromptReward, RewardArguments
from neuroprompt.training.ppo import train_ppo
from neuroprompt.training.queries import QueryArguments
from tests.images.remote.servers import WORKFLOW, html, hung, says, serving, trickle, truncated

PROMPTS, SEEDS = ["a castle", "a castle", "a cat, blue"], [3, 4, 2**40]
HALF_A_STEP = 1 / 510 + 1e-6  # of 8 bits


@pytest.fixture(scope="module")
def local():
    return ImageGenerator.from_pretrained("embedded", device="cpu", steps=2)


@pytest.fixture
def start(local):
    """Start a stand-in that goes with the test."""
    with ExitStack() as stack:
        yield lambda dialect="a1111", **settings: stack.enter_context(serving(dialect, local, **settings))


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    """No second is waited for."""
    monkeypatch.setattr(pool_module.random, "uniform", lambda *_: 0.01)


@pytest.fixture
def workflow(tmp_path):
    def write(content):
        path = tmp_path / "portrait.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def load(*servers, **settings):
    name = ",".join(server if isinstance(server, str) else server.url for server in servers)
    return ImageGenerator.from_pretrained(name, device="cpu", **settings)


def alone(generator, prompts, seeds):
    return torch.cat([generator([prompt], [seed]) for prompt, seed in zip(prompts, seeds, strict=True)])


# --- the same pictures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["own", "openai", "a1111", "comfyui"])
def test_the_pictures_are_those_of_the_generator_itself(dialect, start, local, workflow):
    server, prompts = start(dialect), PROMPTS
    settings = {"openai": {"seeds": "sent"}, "comfyui": {"workflow": workflow(WORKFLOW), "steps": 2}}.get(dialect, {})
    remote = load(server, **settings)
    if dialect == "comfyui":
        prompts = [f"photo of {prompt}" for prompt in PROMPTS]
    drawing = remote.draw(PROMPTS, SEEDS)
    expected = alone(local, prompts, SEEDS)
    assert drawing.images.dtype == torch.float32 and not drawing.flagged.any()
    assert torch.equal(drawing.images, (expected * 255).round() / 255)
    assert (drawing.images - expected).abs().max() <= HALF_A_STEP
    assert remote.name == ("portrait" if dialect == "comfyui" else "embedded")
    assert remote.draw([], []).images.shape[0] == 0


def test_what_is_asked_for_is_what_the_config_says(start, workflow):
    drawn = {"steps": 4, "guidance": 2.5, "size": "64x64", "negative": "blurry"}
    a1111, own, comfyui = start("a1111"), start("own"), start("comfyui")
    load(a1111, **drawn, scheduler="Euler a")(["a cat"] * 3, [5, 6, 9])
    first, second = a1111.bodies
    assert (first["seed"], first["batch_size"], second["seed"], second["batch_size"]) == (5, 2, 9, 1)
    asked = {"steps": 4, "cfg_scale": 2.5, "width": 64, "height": 64, "negative_prompt": "blurry"}
    assert asked.items() <= first.items() and first["sampler_name"] == "Euler a"
    load(own, **drawn)(["a cat"], [5])
    asked = {"steps": 4, "guidance": 2.5, "size": "64x64", "negative_prompt": "blurry", "seed": 5}
    assert asked.items() <= own.bodies[0].items()
    load(comfyui, workflow=workflow(WORKFLOW), steps=4, negative="ugly")(["{seed} {steps}"], [5])
    nodes = comfyui.bodies[0]["prompt"]
    assert nodes["2"]["inputs"]["text"] == "photo of {seed} {steps}"  # a prompt is never read as a place
    assert (nodes["1"]["inputs"]["noise_seed"], nodes["3"]["inputs"]["text"]) == (5, "ugly")
    assert nodes["5"]["inputs"]["steps"] == 4 and nodes["4"] == WORKFLOW["4"]


def test_each_prompt_has_its_own_negative_in_every_dialect_that_knows_one(start, workflow):
    prompts, seeds, negatives = ["a cat"] * 4, [5, 6, 7, 8], ["blurry", "blurry", None, "ugly"]
    for dialect, settings in (("a1111", {}), ("own", {}), ("comfyui", {"workflow": workflow(WORKFLOW), "steps": 2})):
        server = start(dialect)
        remote = load(server, negative="own", **settings)
        assert remote.takes_negative
        remote.draw(prompts, seeds, negatives)
        sent = sorted((_negative_of(body), body.get("batch_size", 1)) for body in server.bodies)
        most = [("blurry", 2)] if dialect == "a1111" else [("blurry", 1)] * 2
        assert sent == [*most, ("own", 1), ("ugly", 1)]


def _negative_of(body):
    """What a request says: of ComfyUI the text of the workflow's node."""
    return body["negative_prompt"] if "negative_prompt" in body else body["prompt"]["3"]["inputs"]["text"]


def test_a_server_that_reads_no_negative_is_sent_none(start):
    for dialect, settings in (
        ("openai", {"seeds": "sent"}),
        ("a1111", {"guidance": 1.0}),
        ("a1111", {}),
        ("own", {"guidance": 1.0}),
    ):
        server = start(dialect, model="sdxl_lightning_4step" if not settings else "embedded")
        remote = load(server, **settings)
        assert not remote.takes_negative
        with pytest.warns(UserWarning, match="takes no negative prompt as it is drawn with: it is left out"):
            remote.draw(["a cat"], [0], ["blurry"])
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".* takes no negative")
            remote.draw(["a cat"], [1], ["blurry"])  # which was said
        assert not any(body.get("negative_prompt") for body in server.bodies)


def test_a_generator_is_known_by_what_it_says_of_itself(start, workflow):
    one, same, other = start(), start(), start(model="dreamshaper")
    prints = [load(server).fingerprint for server in (one, same, other)] + [load(one, steps=4).fingerprint]
    assert prints[0] == prints[1] and len(set(prints)) == 3
    assert load(one, timeout=5.0, batch_size=2).fingerprint == prints[0]
    own = load(start("own"))
    assert own.window == Window(77) and own.config.steps == 2 and own.config.size == (64, 64)  # as the server says


@given(st.text(), st.integers(0, 2**32 - 1))
def test_a_workflow_takes_any_prompt(tmp_path_factory, text, seed):
    path = tmp_path_factory.mktemp("workflow") / "w.json"
    path.write_text(json.dumps(WORKFLOW))
    filled = Workflow(str(path)).filled(prompt=text, seed=seed, steps=3)
    assert filled["2"]["inputs"]["text"] == f"photo of {text}" and filled["1"]["inputs"]["noise_seed"] == seed


# --- faults ------------------------------------------------------------------------------------------------------


def png(width, height, part=1.0):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    data = file.getvalue()
    return base64.b64encode(data[: int(len(data) * part)]).decode()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (html, "it answers with a web page (HTML)"),
        (truncated, "IncompleteRead"),
        (says(b"[[[[" * 5000), "it answers with what is no JSON"),
        (says({"images": ["<svg>"]}), "its picture is no base64"),
        (says({"images": [png(64, 64, 0.7)]}), "its picture: the picture is damaged"),
        (says({"images": []}), "it answers with 0 pictures where 1 are due"),
        (says({"images": [png(64, 64)], "info": '{"all_seeds": [9]}'}), "it drew with the seeds [9] where 3"),
        (says({"images": [png(9000, 9000)]}), "its picture: 9000 x 9000 pixels are too many"),
        (says(["images"]), "it answers with none pictures where 1 are due"),
        (says({"error": "OutOfMemoryError"}, 500), "HTTP 500 Internal Server Error: OutOfMemoryError"),
        (hung, "no answer within 1.5 s"),
        (trickle, "its answer took more than 1.5 s"),
    ],
)
def test_a_server_that_fails_is_a_line_and_its_work_is_another_ones(fault, said, start, local):
    good, bad = start(), start()
    expected, patience = alone(local, PROMPTS, SEEDS), 1.5 if fault in (hung, trickle) else 60.0
    load(good)(PROMPTS, SEEDS)  # which it knows then
    remote = load(bad, timeout=patience, retries=1)
    bad.fault = fault
    with pytest.raises(Unavailable) as caught:
        remote(PROMPTS[:1], SEEDS[:1])
    line = str(caught.value)
    assert line.startswith(f"no image generator answers: {bad.url} (") and said in line and "\n" not in line
    assert caught.value.retry_after > 0
    bad.fault = None
    both = load(bad, good, timeout=patience, retries=1)
    bad.fault = fault
    with pytest.warns(UserWarning, match=f"going on without {bad.url}: "):
        images = [both(PROMPTS, SEEDS) for _ in range(3)][-1]
    assert (images - expected).abs().max() <= HALF_A_STEP


def test_a_busy_server_is_asked_again_when_it_says(start, local, monkeypatch):
    server, waited = start(), []
    monkeypatch.setattr(pool_module._Work, "pause", lambda work, seconds: waited.append(seconds))
    busy = iter([(429, {"Retry_After": "7"}), (503, {}), (502, {}), (429, {"Retry_After": "999"})])
    server.fault = lambda handler: (answer := next(busy, None)) and says({}, answer[0], **answer[1])(handler)
    images = load(server, retries=4)(PROMPTS[:1], SEEDS[:1])
    assert waited == [7, pytest.approx(0.02), pytest.approx(0.04), 60]
    assert (images - alone(local, PROMPTS[:1], SEEDS[:1])).abs().max() <= HALF_A_STEP


def test_what_is_the_requests_own_fault_is_said_at_once(start):
    server, other = start(), start()
    server.fault = other.fault = says({"detail": "sampler \x1b[31mnot\nfound"}, 400)
    remote = load(server, other)
    with pytest.raises(RemoteError, match=r"says HTTP 400 Bad Request$"):  # what would steer a terminal is left out
        remote(PROMPTS[:1], SEEDS[:1])
    server.fault = other.fault = says({"detail": [{"msg": "sampler not found", "loc": ["body"]}]}, 422)
    with pytest.raises(RemoteError, match=r"says HTTP 422 .*: sampler not found$") as caught:
        remote(PROMPTS[:1], SEEDS[:1])
    assert not isinstance(caught.value, Unavailable) and len(server.bodies) + len(other.bodies) == 2


def test_a_picture_has_the_size_of_its_sisters(start):
    server = start()
    with pytest.raises(Unavailable, match="it draws 64x64 pixels where 128x64 are due"):
        load(server, size="128x64")(PROMPTS[:1], SEEDS[:1])
    remote = load(server)
    remote(PROMPTS[:1], SEEDS[:1])
    server.fault = says({"images": [png(32, 32)]})
    with pytest.raises(Unavailable, match="it draws 32x32 pixels where 64x64 are due"):
        remote(PROMPTS[:1], SEEDS[:1])


def test_somebody_changes_the_model_meanwhile(start):
    server = start()
    remote = load(server)
    remote(PROMPTS[:1], SEEDS[:1])
    server.model = "another"
    with pytest.raises(Unavailable, match="somebody has changed its model meanwhile"):
        remote(PROMPTS[:1], SEEDS[:1])
    remote.pool._servers.members[0].out_until = 0.0
    with pytest.raises(Unavailable, match="draws with another, and the others with embedded"):
        remote(PROMPTS[:1], SEEDS[:1])


def test_servers_of_a_pool_draw_the_same(start):
    one, other = start(), start(model="dreamshaper")
    with pytest.raises(RemoteError, match=f"{other.url} draws with dreamshaper, and the others with embedded"):
        load(one, other)


def test_a_server_that_comes_back_is_taken_up_again(start, local):
    first = start()
    remote = load(first, retries=0)
    first.stop()
    with pytest.raises(Unavailable, match="Connection refused"):
        remote(PROMPTS[:1], SEEDS[:1])
    with serving("a1111", local, port=first.port) as again:
        with pytest.raises(Unavailable):  # it is not its turn yet
            remote(PROMPTS[:1], SEEDS[:1])
        remote.pool._servers.members[0].out_until = 0.0
        remote(PROMPTS[:1], SEEDS[:1])
        assert len(again.drawn) == 1 and not remote.pool.left_out


def test_one_that_is_dead_from_the_start_is_left_out(start):
    server = start()
    with pytest.warns(UserWarning, match=r"going on without http://127.0.0.1:9: Connection refused"):
        remote = load("http://127.0.0.1:9", server)
    remote(PROMPTS[:1], SEEDS[:1])
    line = r"^no image generator answers: http://127.0.0.1:9 \(Connection refused\); http://localhost:9 \(.*\)$"
    with pytest.raises(Unavailable, match=line):
        load("http://127.0.0.1:9", "http://localhost:9")


def test_faster_servers_do_more_and_two_are_faster_than_one(start):
    fast, slow = start(), start()
    load(fast)(PROMPTS[:1] * 12, range(0, 24, 2))  # which they know then
    slow.seconds = 0.5
    began = time.monotonic()
    load(fast, slow)(PROMPTS[:1] * 12, range(0, 24, 2))
    assert time.monotonic() - began < 12 * 0.5
    assert len(slow.drawn) < 6 < len(fast.drawn) - 12


# --- nothing goes where it should not ----------------------------------------------------------------------------


def test_redirects_and_other_hosts_are_refused(start):
    server, elsewhere = start("openai"), start("openai")
    settings = {"seeds": "sent", "api": "openai"}
    remote = load(server, **settings)
    server.fault = says({}, 307, Location=f"{elsewhere.url}/v1/images/generations")
    with pytest.raises(RemoteError, match=re.escape(f"{server.url} leads on to {elsewhere.url}/v1")):
        remote(PROMPTS[:1], SEEDS[:1])
    server.fault = says({"data": [{"url": f"{elsewhere.url}/file.png"}]})
    with pytest.raises(RemoteError, match="nothing is asked of other hosts"):
        remote(PROMPTS[:1], SEEDS[:1])
    assert not elsewhere.paths


def test_the_key_goes_to_the_server_and_nowhere_else(start, monkeypatch, tmp_path):
    monkeypatch.setenv("NEUROPROMPT_GENERATOR_API_KEY", "s3cret")
    monkeypatch.setenv("MINE", "user:s3cret")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # loopback knows no proxy
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else")
    monkeypatch.setenv("HOME", str(tmp_path))
    server = start()
    for settings, sent in (
        ({}, "Bearer s3cret"),
        ({"api_key": "env:MINE"}, "Basic " + base64.b64encode(b"user:s3cret").decode()),
    ):
        server.headers.clear()
        remote = load(server, **settings)
        remote(PROMPTS[:1], SEEDS[:1])
        assert {headers["Authorization"] for headers in server.headers} == {sent}
        assert "s3cret" not in repr((remote.config, remote.pool.config, remote.name))
    monkeypatch.delenv("NEUROPROMPT_GENERATOR_API_KEY")
    server.headers.clear()
    server.fault = says({"error": "no"}, 401)
    with pytest.raises(RemoteError, match=r"HTTP 401 .*: no; set api_key=env:NAME"):
        load(server)(PROMPTS[:1], SEEDS[:1])
    assert not any("Authorization" in headers for headers in server.headers)


def test_a_certificate_must_be_trusted(start, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2 -subj /CN=localhost "
        "-addext subjectAltName=IP:127.0.0.1",
        shell=True,
        check=True,
        capture_output=True,
    )
    server = start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    with pytest.raises(RemoteError, match=r"certificate that is not trusted \(self.signed certificate\): set"):
        load(server)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    load(server)(PROMPTS[:1], SEEDS[:1])


def test_clients_import_no_torch():
    code = "import sys, neuroprompt.images.remote; print('torch' in sys.modules, 'diffusers' in sys.modules)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.split() == ["False", "False"]


# --- what a server has not, or is not ----------------------------------------------------------------------------


def test_a_server_without_seeds_is_refused_unless_that_is_put_up_with(start, workflow):
    openai, comfyui = start("openai"), start("comfyui")
    unseeded = {name: node for name, node in WORKFLOW.items() if name not in ("1", "5")}
    for server, settings in ((openai, {}), (comfyui, {"workflow": workflow(unseeded)})):
        with pytest.raises(RemoteError, match=f"{server.url} takes no seeds, .* set seeds=none to put up with that"):
            load(server, **settings)
        with pytest.warns(UserWarning, match="takes no seeds: pictures are neither repeatable nor paired"):
            remote = load(server, **settings, seeds="none")
    assert "seed" not in (load(openai, seeds="none")(PROMPTS[:1], SEEDS[:1]), openai.bodies[-1])[1]
    assert remote.name == "portrait"


def test_a_picture_that_is_withheld_is_flagged_and_black(start):
    server = start("openai")
    words = iter([{"error": {"message": "no", "code": "moderation_blocked"}}])
    server.fault = lambda handler: (said := next(words, None)) and says(said, 400)(handler)
    drawing = load(server, seeds="sent").draw(PROMPTS[:2], SEEDS[:2])
    assert drawing.flagged.tolist() == [True, False] and drawing.images[0].max() == 0 < drawing.images[1].max()


def test_what_speaks_no_known_api(start, workflow):
    with pytest.raises(RemoteError, match=r"is none of neuroprompt serve, an OpenAI-style .*: start it with its API"):
        load(start("page"))
    with pytest.raises(RemoteError, match='is ComfyUI: set workflow=FILE to what its "Export \\(API\\)" writes'):
        load(start("comfyui"))
    with pytest.raises(RemoteError, match=r"reads no steps, which is 4: leave it out"):
        load(start("openai"), steps=4, seeds="sent")
    with pytest.raises(RemoteError, match=r"has no place for it: leave it out, or write \{guidance\}"):
        load(start("comfyui"), workflow=workflow(WORKFLOW), steps=2, guidance=3.0)


def test_a_workflow_that_fails_says_why(start, workflow):
    server = start("comfyui")
    remote = load(server, workflow=workflow(WORKFLOW), steps=2, retries=1)
    server.failure = "Allocation on device\nfailed"
    with pytest.raises(Unavailable, match=r"\(the workflow failed: Allocation on device failed\)$"):
        remote(PROMPTS[:1], SEEDS[:1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no workflow: it is no JSON"),
        ({"nodes": [], "links": []}, 'as the editor saves it: write it with "Export'),
        ({"1": {"inputs": []}}, "is no workflow: it is not what"),
        ({"1": WORKFLOW["1"]}, "has no prompt node: title one 'prompt', or write {prompt} into its text"),
    ],
)
def test_workflows_that_are_none(content, said, workflow):
    with pytest.raises(ValueError) as caught:
        Pool("http://127.0.0.1:9", RemoteConfig(workflow=workflow(content)))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("http://a:x", {}, "'http://a:x' is no URL of a generator"),
        ("ftp://a", {}, "'ftp://a' is no URL"),
        ("http://a,embedded", {}, "'embedded' is no URL"),
        ("http://a,http://a/", {}, "http://a is given twice"),
        ("http://u:pw@a", {}, "the URL of a holds a password: set api_key=env:NAME"),
        ("http://a", {"dtype": "bfloat16"}, "dtype is 'bfloat16', which a server behind a URL sees to itself"),
        ("http://a", {"api": "forge"}, "api is 'forge': it can be neuroprompt, openai, a1111, comfyui"),
        ("http://a", {"api_key": "s3cret"}, "api_key says where the key is: env:NAME"),
        ("http://a", {"api_key": "env:NOT_THERE"}, "there is no environment variable NOT_THERE"),
        ("http://a", {"timeout": 0}, "timeout is 0: give seconds"),
        ("http://a", {"api": "a1111", "workflow": "w.json"}, "workflow is for ComfyUI, and api is 'a1111'"),
        ("embedded", {"api": "a1111"}, "api is for generators behind a URL, and this one is not"),
    ],
)
def test_settings_that_mean_nothing_for_a_url(name, settings, said):
    with pytest.raises(ValueError) as caught:
        Pool(name, config_of(name, **settings))
    assert said in str(caught.value) and "pw" not in str(caught.value) and "s3cret" not in str(caught.value)


# --- in what draws many ------------------------------------------------------------------------------------------


def die_at(server, count):
    """Kill a server in the middle of its so manieth answer."""

    def die(handler):
        if len(server.bodies) >= count:
            threading.Thread(target=server.stop).start()
            time.sleep(0.5)
            return True

    server.fault = die


def test_an_evaluation_survives_a_server_that_is_killed_in_its_middle(start, local, tmp_path):
    """Nothing is lost, and the results are those of one server; where all are dead, it goes on later."""
    rewards = load_rewards("aesthetic:1.0", "embedded", "cpu")
    methods = parse_methods("plain,suffix")
    prompts = ["a castle", "a cat", "a dog", "a boat"]

    def results(name, *servers):
        reward = PromptReward(load(*servers, retries=0), rewards, images_per_prompt=2)
        evaluate(prompts, methods, reward, tmp_path / name, chunk_size=2, examples=0)

    def records(name):
        lines = (tmp_path / name / "records.jsonl").read_text().splitlines()
        return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]

    one, other = start(), start()
    results("undisturbed", one)
    die_at(other, 2)
    with pytest.warns(UserWarning, match=f"going on without {other.url}: "):
        results("disturbed", other, one)  # each call begins with the first
    assert records("disturbed") == records("undisturbed")

    last = start()
    last.fault = lambda handler: len(last.bodies) > 5 and says({}, 500)(handler)
    with pytest.raises(Unavailable, match="no image generator answers"):
        results("taken up", last)
    assert 0 < len(records("taken up")) < 8
    results("taken up", one)  # elsewhere, and the same generator
    assert records("taken up") == records("undisturbed")


def test_a_training_survives_a_server_that_is_killed_in_its_middle(start, local, tmp_path, monkeypatch):
    """The policy that comes out is the one that an undisturbed training makes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("\n".join(f"a {thing}" for thing in ("castle", "cat", "dog", "boat")))
    settings = {
        "queries": "prompts.txt",
        "rewards": "aesthetic:1.0",
        "reward_model": "embedded",
        "images_per_prompt": 1,
        "generator.retries": 0,
        "eval_samples": 0,
        "max_new_tokens": 4,
        "rollout_batch_size": 4,
        "minibatch_size": 4,
        "max_steps": 2,
        "use_cpu": "true",
        "bf16": "false",
        "report_to": "none",
        "save_strategy": "no",
    }

    def train(output, *servers):
        given = settings | {"generator": ",".join(server.url for server in servers), "output_dir": output}
        arguments = [str(part) for name, value in given.items() for part in (f"--{name}", value)]
        classes = (QueryArguments, RewardArguments, PPOConfig, ModelConfig)
        return train_ppo(*read_arguments(classes, "", arguments)).model.state_dict()

    one, other = start(), start()
    undisturbed = train("undisturbed", one)
    die_at(other, 1)
    with warnings.catch_warnings(record=True) as told:
        disturbed = train("disturbed", other, one)
    assert [said for said in told if f"going on without {other.url}: " in str(said.message)]
    assert all(torch.equal(weights, disturbed[name]) for name, weights in undisturbed.items())


def test_the_command_line_draws_by_a_url(start, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["neuroprompt"])
    server = start("own")
    output = tmp_path / "castle.png"
    app(["image", "a castle", "-g", server.url, "-o", str(output), "--seed", "3"], standalone_mode=False)
    made = read_metadata(output)["neuroprompt"]
    assert (made["model"], made["config"]["steps"], made["seed"]) == ("embedded", 2, 3)
    openai = start("openai")
    with pytest.warns(UserWarning, match="takes no seeds"):
        app(["image", "a castle", "-g", openai.url, "-o", str(output)], standalone_mode=False)
    evaluation = ["evaluate", "-i", str(tmp_path / "prompts.txt"), "-g", openai.url, "-o", str(tmp_path / "results")]
    (tmp_path / "prompts.txt").write_text("a castle\n")
    with pytest.raises(RemoteError, match="takes no seeds"):
        app(evaluation, standalone_mode=False)


def test_a_plan_counts_nothing_of_a_servers(capsys):
    arguments = ["--generator", "http://gpu1:7860,http://gpu2:7860", "--generator.api", "a1111", "--dry_run"]
    arguments += ["--output_dir", "nowhere", "--use_cpu", "true", "--bf16", "false", "--reward_model", "embedded"]
    classes = (QueryArguments, RewardArguments, PPOConfig, ModelConfig)
    train_ppo(*read_arguments(classes, "", arguments))
    shown = capsys.readouterr().out
    assert "Not counted: what http://gpu1:7860 takes" in " ".join(shown.split()) and "generator:" not in shown
    assert "score: 16 pictures" in shown
