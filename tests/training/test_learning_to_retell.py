"""Trainings of a chat model that retells: SFT until ten pairs are known by heart, and PPO and GRPO on its answers."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from trl import ModelConfig

from neuroprompt.data import DataConfig, PromptData
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.formats import CONTINUE, RETELL, PromptFormat
from neuroprompt.models import ModelError
from neuroprompt.policies import load_tokenizer, saved_format
from neuroprompt.ppo.config import GRPOConfig, PPOConfig
from neuroprompt.runs.arguments import read_arguments
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.grpo import train_grpo
from neuroprompt.training.ppo import train_ppo
from neuroprompt.training.queries import QueryArguments
from neuroprompt.training.sft import SFTArguments, SFTConfig, encode_answers, format_of_data, train_sft
from tests import forks
from tests.checkpoints.policies import gpt2, qwen3

ROOT = Path(__file__).parents[2]
ASKED = PromptFormat(chat=True, instruction="Retell.", stop=("\n",), dialect="prose")
PAIRS = {
    "red fox": "A red fox sleeps in golden light.",
    "a castle": "An old castle stands above the sea, in mist.",
    "robot": "A robot of brass plays the guitar.",
    "boy on a horse": "A boy on a horse rides through tall grass.",
    "owl": "An owl looks down from a birch.",
    "lighthouse": "A lighthouse in a storm, waves as high as itself.",
    "whale": "A whale swims between two icebergs at dawn.",
    "bowl of strawberries": "A bowl of strawberries on blue linen.",
    "old fisherman": "An old fisherman mends his nets.",
    "city": "A city at night, its lights in wet streets.",
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with `data` (the ten pairs) and `chat` (a Qwen3 of few words)."""
    folder = tmp_path_factory.mktemp("retelling")
    qwen3(folder / "chat", place=4096, size=4352, hidden_size=64)
    rows = Dataset.from_dict({"prompt": list(PAIRS), "completion": list(PAIRS.values())})
    data = PromptData(DatasetDict(train=rows, validation=rows), DatasetDict(train=rows.select_columns("prompt")), {})
    data.save(folder / "data", DataConfig(source="pairs.txt"))
    return folder


def sft(folder, output, steps=120, resume=None, **changes):
    config = SFTConfig(
        output_dir=str(folder / output),
        max_length=128,
        max_steps=steps,
        minibatch_size=10,
        per_device_train_batch_size=10,
        learning_rate=5e-3,
        save_steps=60,
        logging_steps=20,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        dataset_num_proc=None,
        resume_from_checkpoint=resume,
    )
    arguments = SFTArguments(
        data_dir=str(folder / "data"),
        sample_prompts=[],
        prompt_format={"chat": True, "instruction": "Retell.", "stop": ["\n"], "dialect": "prose"},
    )
    model = {"model_name_or_path": str(folder / "chat"), "dtype": "float32"} | changes
    return train_sft(arguments, DataConfig(), config, ModelConfig(**model))


@pytest.fixture(scope="module")
def learnt(workspace):
    sft(workspace, "sft")
    return workspace / "sft"


def greedy(folder, prompts):
    """The tokens that a policy answers with, as words: without any of the enhancer's help."""
    enhancer = PromptEnhancer.from_pretrained(folder, device="cpu")
    tokenizer, model, written = enhancer.tokenizer, enhancer.model, []
    for ids in enhancer.format.encode(tokenizer, prompts):
        output = model.generate(torch.tensor([ids]), max_new_tokens=40, do_sample=False, num_beams=1)
        assert int(output[0, -1]) == tokenizer.eos_token_id
        written.append(tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True))
    return written


def test_a_chat_model_learns_ten_retellings_by_heart(learnt):
    assert greedy(learnt, list(PAIRS)) == list(PAIRS.values())


def test_its_format_lies_beside_it_and_its_checkpoints(learnt):
    for folder in (learnt, learnt / "checkpoint-60"):
        assert saved_format(folder, load_tokenizer(folder)) == ASKED


def test_it_resumes_bit_by_bit(workspace, learnt):
    shutil.copytree(learnt / "checkpoint-60", workspace / "resumed" / "checkpoint-60")
    sft(workspace, "resumed", resume="true")
    expected, found = (load_file(folder / "model.safetensors") for folder in (learnt, workspace / "resumed"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_row_is_what_is_asked_and_the_answer_with_its_end(workspace):
    tokenizer = load_tokenizer(workspace / "chat")
    pairs = DatasetDict(train=Dataset.from_dict({"prompt": list(PAIRS), "completion": list(PAIRS.values())}))
    config = SFTConfig(output_dir="none", max_length=128, bf16=False, use_cpu=True, dataset_num_proc=None)
    for row, answer in zip(encode_answers(pairs, tokenizer, ASKED, config)["train"], PAIRS.values(), strict=True):
        asked = ASKED.encode(tokenizer, [row["prompt"]])[0]
        written = row["input_ids"][len(asked) :]
        assert row["input_ids"][: len(asked)] == asked and tokenizer.decode(asked).endswith("</think>\n\n")
        assert tokenizer.decode(written) == answer + "<|im_end|>"
        assert row["completion_mask"] == [0] * len(asked) + [1] * len(written)
    lengths = sorted(map(len, encode_answers(pairs, tokenizer, ASKED, config)["train"]["input_ids"]))
    config.max_length = lengths[4]
    assert len(encode_answers(pairs, tokenizer, ASKED, config)["train"]) == sum(n <= lengths[4] for n in lengths)
    config.max_length = lengths[0] - 1
    with pytest.raises(ValueError, match=f"the shortest training pair has {lengths[0]} tokens"):
        encode_answers(pairs, tokenizer, ASKED, config)


def test_adapters_stay_adapters_with_their_format(workspace):
    sft(workspace, "lora", 2, use_peft=True, lora_r=2, lora_target_modules="all-linear")
    folder = workspace / "lora"
    assert (folder / "adapter_model.safetensors").is_file() and not (folder / "model.safetensors").exists()
    assert saved_format(folder, load_tokenizer(folder)) == ASKED
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"].endswith("chat")
    assert PromptEnhancer.from_pretrained(folder, device="cpu").format == ASKED


def test_a_policy_that_cannot_be_asked_so_is_refused_before_its_weights_are_read(workspace, tmp_path):
    gpt2(tmp_path / "gpt2")
    (tmp_path / "gpt2" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="has no chat template"):
        sft(workspace, "none", model_name_or_path=str(tmp_path / "gpt2"))
    with pytest.raises(ValueError, match="a format has no key 'outputs'"):
        SFTArguments(prompt_format={"outputs": "replace"})


def test_pairs_say_what_they_are_for(workspace):
    assert format_of_data(workspace / "data") == CONTINUE
    made = json.loads(Path(workspace / "data" / "config.json").read_text())
    (workspace / "told").mkdir()
    (workspace / "told" / "config.json").write_text(json.dumps(made | {"format": "retell"}))
    assert format_of_data(workspace / "told") == RETELL


# --- rewards -----------------------------------------------------------------------------------------------------

REWARD = """
def letters(prompts, completions, texts):
    assert 0 < len(texts) == len(prompts) == len(completions)
    return [text.count("e") / 10 for text in texts]
"""
COMMON = {
    "queries": "prompts.txt",
    "eval_samples": 0,
    "reward_func": "my_reward.py:letters",
    "model_name_or_path": "sft/checkpoint-60",
    "dtype": "float32",
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "use_cpu": "true",
    "bf16": "false",
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": "true",
}
PPO = COMMON | {
    "learning_rate": 2e-3,
    "window": "none",
    "max_new_tokens": 24,
    "rollout_batch_size": 40,
    "completions_per_prompt": 4,
    "minibatch_size": 40,
    "num_ppo_epochs": 2,
    "kl_coef": 0.01,
}
GRPO = COMMON | {
    "learning_rate": 1e-3,
    "max_completion_length": 24,
    "generation_batch_size": 40,
    "num_generations": 4,
    "minibatch_size": 40,
    "num_iterations": 2,
    "gradient_checkpointing": "false",
}


@pytest.fixture
def queries(learnt, workspace, monkeypatch):
    """The workspace as the current folder, with prompts and a reward of one's own: how often an answer has an e."""
    (workspace / "prompts.txt").write_text("\n".join(PAIRS))
    (workspace / "my_reward.py").write_text(REWARD)
    monkeypatch.chdir(workspace)
    return workspace


def flags(settings):
    return [str(part) for name, value in settings.items() for part in (f"--{name}", value)]


def reinforce(settings, **changes):
    train, config = (train_ppo, PPOConfig) if settings is PPO else (train_grpo, GRPOConfig)
    classes = (QueryArguments, RewardArguments, config, ModelConfig)
    return train(*read_arguments(classes, "", flags(settings | changes)))


def on_two_processes(folder, script, settings):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    done = forks.run([*launcher, ROOT / script, *flags(settings)], folder, {**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 process(es) on cpu" in done.stdout


@pytest.mark.parametrize(
    ("settings", "changes"),
    [(PPO, {"num_ppo_epochs": 4, "minibatch_size": 20, "max_steps": 80}), (GRPO, {"max_steps": 14})],
    ids=["PPO", "GRPO"],
)
def test_the_reward_of_the_answers_rises(queries, settings, changes):
    """From a policy whose answers are mostly cut off, which is seen in the log."""
    run = reinforce(settings, output_dir="rising", **changes)
    rewards, unparsed = ([e[key] for e in run.state.log_history if key in e] for key in ("reward", "unparsed"))
    assert unparsed[0] > 0.5 and sum(unparsed[-3:]) / 3 < unparsed[0] / 2
    assert sum(rewards[-3:]) / 3 > rewards[0] + 0.8
    assert saved_format("rising", load_tokenizer("rising")) == ASKED


def test_two_processes_of_ppo_do_what_one_does(queries):
    settings = {"max_steps": 4, "plain_completions": 1}  # of which `kept` and `unparsed` say nothing
    one = reinforce(PPO, output_dir="one", **settings)
    on_two_processes(queries, "training/ppo.py", PPO | {"output_dir": "two", **settings})
    expected, found = (load_file(queries / name / "model.safetensors") for name in ("one", "two"))
    assert max((expected[name] - found[name]).abs().max() for name in expected) < 1e-5
    history = json.loads((queries / "two" / "log_history.json").read_text())
    for key in ("reward", "unparsed", "kl", "distinct_tails", "distinct_modifiers"):
        values = [entry[key] for entry in history if key in entry]
        assert len(values) == 2
        assert values == pytest.approx([e[key] for e in one.state.log_history if key in e], abs=1e-5), key


def test_two_processes_of_grpo(queries):
    guards = {"win_rates": "true", "plain_completions": 1}
    on_two_processes(queries, "training/grpo.py", GRPO | guards | {"output_dir": "grpo-two", "max_steps": 2})
    assert "unparsed" in (queries / "grpo-two" / "log_history.json").read_text()
    assert saved_format(queries / "grpo-two", load_tokenizer(queries / "grpo-two")) == ASKED
