"""No code of a model's folder runs, whatever loads it, and nothing of a model is asked for on the terminal."""

import builtins
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer
from trl import ModelConfig

from neuroprompt.data import DataConfig, PromptData
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.evaluation.peers import PeerRewriter
from neuroprompt.images import ImageGenerator
from neuroprompt.models import ModelError, locate
from neuroprompt.policies import PolicyConfig
from neuroprompt.ppo.config import GRPOConfig, PPOConfig
from neuroprompt.ppo.trainer import PPOTrainer
from neuroprompt.rewards import load_reward
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.grpo import train_grpo
from neuroprompt.training.planning import skeletons
from neuroprompt.training.queries import QueryArguments
from neuroprompt.training.sft import SFTArguments, SFTConfig, train_sft
from tests.checkpoints import malicious


@pytest.fixture
def safe(tmp_path, monkeypatch):
    """`safe(load)` calls it in the folder of the model, where Python imports from, with "y" for the answer to all."""
    folder, canary, asked = tmp_path / "model", tmp_path / "ran", []
    folder.mkdir()

    def answer(question=""):
        asked.append(question)
        return "y"

    monkeypatch.setattr(builtins, "input", answer)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)

    def check(load):
        try:
            load()
        except ModelError as error:
            assert "\n" not in str(error)
        assert not canary.exists() and not asked and malicious.MODULE not in sys.modules

    check.folder, check.canary = folder, canary
    return check


def enhance(folder: Path) -> None:
    PromptEnhancer.from_pretrained(folder, device="cpu")("a castle", num_beams=2, max_new_tokens=4)


def train(folder: Path) -> None:
    prompts = Dataset.from_dict({"prompt": ["a castle"]})
    PPOTrainer(str(folder), lambda prompts, **_: [0.0] * len(prompts), PPOConfig("run", use_cpu=True), prompts)


def ask_a_peer(folder: Path) -> None:
    PeerRewriter(PolicyConfig(model=str(folder), max_new_tokens=4, safetensors_only=False), device="cpu")(["a castle"])


@pytest.mark.parametrize("trick", malicious.POLICIES)
def test_of_a_policy(safe, trick):
    malicious.policy(safe.folder, safe.canary, trick)
    for load in (enhance, train, ask_a_peer, skeletons.causal_lm):
        safe(lambda load=load: load(safe.folder))


@pytest.mark.parametrize("trick", ["own classes", "own tokenizer"])
def test_of_a_policy_that_trl_trains(safe, trick):
    malicious.policy(safe.folder, safe.canary, trick)
    (safe.folder / "prompts.txt").write_text("a castle\na horse\n" * 3)
    common = {"use_cpu": True, "bf16": False, "report_to": "none", "max_steps": 1, "trust_remote_code": True}
    model = ModelConfig(model_name_or_path=str(safe.folder))
    queries = QueryArguments(queries="prompts.txt", reward_func="builtins:len")
    safe(lambda: train_grpo(queries, RewardArguments(), GRPOConfig("run", num_generations=2, **common), model))
    pairs = Dataset.from_dict({"prompt": ["a castle"], "completion": [", 8k"], "medium": [""]})
    data = PromptData(DatasetDict(train=pairs, validation=pairs), DatasetDict(train=pairs.select_columns("prompt")), {})
    data.save("data", DataConfig(source="prompts.txt"))
    safe(lambda: train_sft(SFTArguments(data_dir="data"), DataConfig(), SFTConfig("run", **common), model))


@pytest.mark.parametrize("trick", malicious.GENERATORS)
def test_of_a_generator(safe, trick):
    malicious.generator(safe.folder, safe.canary, trick)
    safe(lambda: ImageGenerator.from_pretrained(safe.folder, device="cpu", steps=1)(["a castle"], [0]))
    safe(lambda: skeletons.pipeline(str(safe.folder), torch.float32))


@pytest.mark.parametrize("trick", malicious.CLIPS)
def test_of_a_clip(safe, trick):
    malicious.clip(safe.folder, safe.canary, trick)
    name = safe.folder if trick == "transformers" else f"local-dir:{safe.folder}"
    safe(lambda: load_reward("clip", name, "cpu")(["a castle"], torch.rand(1, 3, 32, 32)))
    plan = skeletons.clip if trick == "transformers" else skeletons.open_clip_model
    safe(lambda: plan(str(name), torch.float32))


@pytest.mark.parametrize("trick", malicious.VLMS)
def test_of_a_vision_language_model(safe, trick):
    malicious.vlm(safe.folder, safe.canary, trick)

    def ask():
        return load_reward("vqa", safe.folder, "cpu")(["a castle"], torch.rand(1, 3, 32, 32))

    safe(ask)
    if trick == "a kernel":
        assert ask().isfinite()  # with the attention of torch, whatever is named


def test_the_canary_sings(safe):
    """What the other tests plant does run where it is trusted."""
    malicious.policy(safe.folder, safe.canary, "own tokenizer")
    with pytest.raises(AttributeError):
        AutoTokenizer.from_pretrained(safe.folder, trust_remote_code=True)
    assert safe.canary.exists()


def test_of_a_chat_template(tmp_path):
    """Templates are programs, which transformers runs in Jinja's sandbox."""
    tokenizer = AutoTokenizer.from_pretrained(locate("embedded", "policy"))
    tokenizer.chat_template = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(Exception, match="unsafe"):
        tokenizer.apply_chat_template([{"role": "user", "content": "a castle"}], tokenize=False)
