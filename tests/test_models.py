"""Where models are found, what is said where they are not, and which device they get."""

import logging
import time

import pytest
import torch
from huggingface_hub import constants

from neuroprompt.cli.options import own_device
from neuroprompt.data import DataConfig, read_prompts
from neuroprompt.decoding.processors import GumbelNoise
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.evaluation.peers import PeerRewriter
from neuroprompt.images import GeneratorConfig, ImageGenerator, drawing_dtype
from neuroprompt.models import (
    ModelError,
    check_hub,
    empty_cache,
    float64_device,
    has_bfloat16,
    is_out_of_memory,
    locate,
    pick_device,
    synchronize,
)
from neuroprompt.policies import PolicyConfig
from neuroprompt.ppo.rollouts import encode, row_noise, sample
from neuroprompt.rewards import load_reward
from tests.checkpoints import policies
from tests.checkpoints.hub import Hub
from tests.checkpoints.rewards import as_hub_repository

# --- the hub -----------------------------------------------------------------------------------------------------


@pytest.fixture
def online(tmp_path, monkeypatch):
    """`online(url)` lets this process ask a hub, and have an empty cache; returns the cache."""

    def go(url):
        monkeypatch.setattr(constants, "ENDPOINT", url)
        return tmp_path / "cache"

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    check_hub.cache_clear()
    yield go
    check_hub.cache_clear()


def loaders(name):
    """Every way to a model or data set of this name."""
    return {
        "policy": lambda: PromptEnhancer.from_pretrained(name, device="cpu"),
        "generator": lambda: ImageGenerator.from_pretrained(name, device="cpu"),
        "clip": lambda: load_reward("clip", name, "cpu"),
        "open_clip": lambda: load_reward("clip", f"hf-hub:{name}", "cpu"),
        "weights": lambda: load_reward("hps", name, "cpu"),
        "peer": lambda: PeerRewriter(PolicyConfig(model=name), device="cpu"),
        "peer with pickles": lambda: PeerRewriter(PolicyConfig(model=name, safetensors_only=False), device="cpu"),
        "tokenizer": lambda: PeerRewriter(PolicyConfig(model="embedded", tokenizer=name), device="cpu"),
        "data": lambda: read_prompts(DataConfig(source=name)),
    }


def test_a_name_of_before_is_refused_with_todays():
    assert refused(lambda: locate("embedded-sft", "policy")) == "the model 'embedded-sft' is called 'embedded' now"


def refused(load) -> str:
    start = time.perf_counter()
    with pytest.raises((ModelError, ValueError)) as error:
        load()
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    assert time.perf_counter() - start < 5
    return str(error.value)


@pytest.mark.parametrize("way", loaders(""))
def test_a_hub_that_cannot_be_reached_is_one_line_at_once(online, way, caplog):
    online("http://127.0.0.1:9")
    message = refused(loaders("nobody/nothing")[way])
    assert "there is no folder 'nobody/nothing', and the hub (http://127.0.0.1:9) cannot be reached: connect" in message
    assert not [record for record in caplog.records if "Retrying" in record.message]


@pytest.mark.parametrize("way", loaders(""))
def test_what_the_hub_does_not_give_is_one_line(online, tmp_path, way):
    for kind in ("models", "datasets"):
        (tmp_path / "hub" / kind / "somebody" / "gated").mkdir(parents=True)
    with Hub(tmp_path / "hub", gated=("somebody/gated",)) as hub:
        online(hub.url)
        message = refused(loaders("nobody/nothing")[way])
        assert "the hub has no" in message and "'nobody/nothing' for you: check the id, log in with `hf auth" in message
        message = refused(loaders("somebody/gated")[way])
        page = "datasets/somebody/gated" if way == "data" else "somebody/gated"
        assert f"is gated: accept its terms at {hub.url}/{page}, then log in with `hf auth login`" in message
        assert not hub.asked  # for no file


def test_a_hub_that_does_not_answer_is_not_waited_for(online, monkeypatch):
    import socket

    monkeypatch.setattr("neuroprompt.models._PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        online(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "cannot be reached" in refused(lambda: locate("somebody/policy", "policy"))


def test_what_is_in_the_cache_needs_no_hub(online, tmp_path, caplog):
    cache = online("http://127.0.0.1:9")
    as_hub_repository(cache, "somebody/policy", policies.gpt2(tmp_path / "gpt2"))
    start = time.perf_counter()
    with caplog.at_level(logging.WARNING, "neuroprompt"):
        PromptEnhancer.from_pretrained("somebody/policy", device="cpu")
    assert time.perf_counter() - start < 10
    assert "the hub cannot be reached: somebody/policy is taken from the cache" in caplog.text
    assert "is not in the hub's cache" in refused(lambda: locate("somebody/else", "policy"))


def test_offline_only_the_cache_counts(online, monkeypatch):
    online("http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set: unset it, or give a folder" in refused(lambda: locate("nobody/nothing", "policy"))
    assert "one is owner/name" in refused(lambda: locate("no body", "policy"))


# --- devices -----------------------------------------------------------------------------------------------------


@pytest.fixture
def accelerator(monkeypatch):
    """`accelerator("xpu", 2)`: torch says that it has two of these."""

    def pretend(kind, count=1):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device(kind))
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_any_accelerator_is_found(accelerator, monkeypatch, kind):
    accelerator(kind, 2)
    assert pick_device() == torch.device(kind) == pick_device(kind)
    assert pick_device(f"{kind}:1") == torch.device(kind, 1) and pick_device("cpu").type == "cpu"
    with pytest.raises(ModelError, match=f"there is no device '{kind}:2': there are 2, counted from {kind}:0"):
        pick_device(f"{kind}:2")
    with pytest.raises(ModelError, match=f"there is no hpu device, but {kind}: leave the device out"):
        pick_device("hpu")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device(None) == own_device(kind) == f"{kind}:1" and own_device("cpu") == "cpu"


def test_devices_that_are_none(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    assert pick_device() == torch.device("cpu") == pick_device(torch.device("cpu"))
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert own_device(None) is None
    for name, message in {
        "cuda": "there is no CUDA device: leave the device out, or set it to cpu",
        "meta": "there is no meta device",
        "mps": "there is no mps device",
        "toaster": "there is no device 'toaster'",
    }.items():
        with pytest.raises(ModelError, match=message):
            pick_device(name)


class Module:
    """What `torch.xpu` is for an accelerator."""

    def __init__(self):
        self.emptied = 0

    def is_bf16_supported(self, including_emulation=True):
        return including_emulation

    def empty_cache(self):
        self.emptied += 1


def test_what_is_asked_of_an_accelerator_is_asked_through_torch(monkeypatch):
    module, waited = Module(), []
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    for device in (torch.device("xpu", 1), torch.device("cpu")):
        synchronize(device)
        empty_cache(device)
    assert waited == [torch.device("xpu", 1)] and module.emptied == 1
    assert not has_bfloat16(torch.device("xpu"))  # in emulation only
    assert drawing_dtype(GeneratorConfig().dtype, torch.device("xpu")) == "float16"
    monkeypatch.setattr(module, "is_bf16_supported", lambda including_emulation: True)
    assert drawing_dtype(GeneratorConfig().dtype, torch.device("xpu")) == "bfloat16"
    monkeypatch.setattr(torch, "get_device_module", lambda device: torch.mps)
    assert not has_bfloat16(torch.device("mps"))


@pytest.mark.parametrize(
    ("error", "out"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB, max allowed: 9.07 GB)."), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("shapes differ"), False),
        (ValueError("a prompt that is out of memory"), False),
    ],
)
def test_memory_that_runs_out_is_known_on_every_device(error, out):
    assert is_out_of_memory(error) == out


def test_what_mps_cannot_do_is_done_on_the_cpu(monkeypatch):
    with pytest.warns(UserWarning, match="mps has no float64: random numbers are drawn on the CPU"):
        assert float64_device(torch.device("mps")) == torch.device("cpu")
    assert float64_device(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_random_numbers_are_drawn_where_float64_is(monkeypatch, enhancer):
    asked = []
    for module in ("decoding.arrays", "ppo.rollouts"):
        monkeypatch.setattr(f"neuroprompt.{module}.float64_device", lambda device: asked.append(device) or device)
    queries = encode(["a castle", "a fox in the snow"], enhancer.tokenizer, 128, 77, 4)
    sample(enhancer.model, queries, row_noise(0, 0, 0, [0, 1], 4), enhancer.tokenizer.eos_token_id)
    GumbelNoise(torch.tensor([1, 2]), 3)(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 5))
    assert asked == [torch.device("cpu")] * 2
