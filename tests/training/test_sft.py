"""Fine-tuning through its entry point, on a tiny policy made by `init_policy.py`: resume, two processes, LoRA."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from neuroprompt.coherence import MEDIA
from neuroprompt.data import DataConfig, PromptData, prepare
from neuroprompt.formats import CONTROLS
from neuroprompt.policies import load_policy, load_tokenizer
from neuroprompt.runs.checkpoints import checkpoint_to_resume
from neuroprompt.training.sft import ShuffledGroups, repeat_rare_media
from tests import forks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with `data` (some hundred pairs) and `init` (a policy of 60 thousand parameters)."""
    folder = tmp_path_factory.mktemp("sft")
    prompts = [
        f"{colour} {animal} {place}, {style}, highly detailed, {light}"
        for colour in ["red", "old", "small", "happy", "grey", "wild"]
        for animal in ["fox", "owl", "horse", "whale", "castle", "robot"]
        for place in ["in a forest", "at night", "by the sea"]
        for style, light in [("oil painting", "cinematic lighting"), ("digital art", "sharp focus")]
    ]
    (folder / "prompts.txt").write_text("\n".join(prompts))
    config = DataConfig(source=str(folder / "prompts.txt"), num_proc=1, near_duplicate=1.0, max_per_tail=10**6)
    data = prepare(config)
    assert {"train", "validation"} <= set(data.pairs)
    data.save(folder / "data", config)
    tiny = ["--vocabulary", 400, "--width", 32, "--layers", 2, "--heads", 2, "--positions", 64]
    run(folder, "training/embedded/init_policy.py", "--data", "data", "--output", "init", *tiny)
    return folder


def run(folder, script, *arguments, processes=0):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes] if processes else []
    done = forks.run([*launcher, ROOT / script, *arguments], folder, {**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def train(folder, output, *arguments, processes=0):
    settings = {
        "config": ROOT / "configs/sft/embedded.yaml",
        "data_dir": "data",
        "model_name_or_path": "init",
        "output_dir": output,
        "max_length": 64,
        "max_steps": 6,
        "save_steps": 3,
        "save_total_limit": 5,
        "eval_steps": 3,
        "logging_steps": 1,
        "warmup_steps": 2,
        "minibatch_size": 8,
        "use_cpu": "true",
        "bf16": "false",
        "dataset_num_proc": "none",
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return run(folder, "training/sft.py", *flags, *arguments, processes=processes)


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def one_go(workspace):
    return train(workspace, "one_go")


def test_a_run_leaves_a_policy_a_log_and_samples(workspace, one_go):
    assert "1 process(es) on cpu" in one_go
    folder = workspace / "one_go"
    history = json.loads((folder / "log_history.json").read_text())
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert losses[-1] < losses[0]
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert {s["step"] for s in samples} == {3, 6}
    assert "boy on a horse" in samples[0]["samples"]
    assert not list(folder.glob("*.bin"))
    from neuroprompt.enhancer import PromptEnhancer

    assert PromptEnhancer.from_pretrained(folder, device="cpu")("a red fox").text.startswith("a red fox")


def test_a_new_policy_reads_a_medium_as_one_token_and_never_writes_one(workspace):
    tokenizer = load_tokenizer(workspace / "init")
    ids = tokenizer(list(CONTROLS.values()), add_special_tokens=False)["input_ids"]
    assert [len(row) for row in ids] == [1] * len(ids) and len({row[0] for row in ids}) == len(MEDIA) + 1
    assert (
        tokenizer("<|paint|>A cat")["input_ids"] == ids[list(CONTROLS).index("paint")] + tokenizer("a cat")["input_ids"]
    )
    assert load_policy(workspace / "init").generation_config.suppress_tokens == [row[0] for row in ids]


def test_batches_of_one_length_come_in_random_order():
    """From long to short texts, as the library gives them, a policy forgets the long ones."""
    torch.manual_seed(0)
    lengths = torch.randint(5, 60, (1003,)).tolist()
    drawn = list(ShuffledGroups(8, lengths=lengths))
    assert sorted(drawn) == list(range(1003))
    batches = torch.tensor([lengths[i] for i in drawn[:1000]], dtype=torch.float).view(-1, 8)
    assert batches.std(1).mean() < 3 < 14 < batches.std()
    order = torch.arange(50.0)
    for fifty in batches.mean(1)[:100].view(2, 50):
        assert abs(torch.corrcoef(torch.stack([fifty, order]))[0, 1]) < 0.4
    assert sorted(ShuffledGroups(8, lengths=lengths[:5])) == list(range(5))


def test_resume_is_exact(workspace, one_go):
    shutil.copytree(workspace / "one_go" / "checkpoint-3", workspace / "resumed" / "checkpoint-3")
    train(workspace, "resumed", "--resume_from_checkpoint", "true")
    expected, found = weights(workspace / "one_go"), weights(workspace / "resumed")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[k], found[k]) for k in expected)


def test_two_processes_do_what_one_does(workspace, one_go):
    """The same settings read the same pairs in a step, whatever share of them is whose."""
    out = train(workspace, "two", processes=2)
    assert "2 process(es) on cpu" in out
    assert out.count("process(es)") == 1
    one, two = weights(workspace / "one_go"), weights(workspace / "two")
    assert max((one[name] - two[name]).abs().max() for name in one) < 1e-5


def test_lora(workspace):
    pytest.importorskip("peft")
    lora = ["--use_peft", "true", "--lora_target_modules", "all-linear", "--lora_r", 4]
    train(workspace, "lora", *lora, "--max_steps", 3)
    adapters = load_file(workspace / "lora" / "adapter_model.safetensors")
    assert any(v.abs().sum() > 0 for k, v in adapters.items() if "lora_B" in k)


def test_what_resume_means(tmp_path):
    class Config:
        output_dir = str(tmp_path / "none")
        resume_from_checkpoint = "true"

    assert checkpoint_to_resume(Config) is None
    Config.resume_from_checkpoint = None
    assert checkpoint_to_resume(Config) is None
    Config.resume_from_checkpoint = str(tmp_path / "checkpoint-7")
    with pytest.raises(ValueError, match="there is no checkpoint"):
        checkpoint_to_resume(Config)


def test_data_without_a_held_out_split_is_refused(tmp_path):
    from datasets import Dataset, DatasetDict
    from trl import ModelConfig

    from neuroprompt.training.sft import SFTArguments, SFTConfig, train_sft

    pairs = DatasetDict(train=Dataset.from_dict({"prompt": ["a cat"], "completion": [", 8k, fog"]}))
    plain = DatasetDict(train=Dataset.from_dict({"prompt": ["a dog on a hill"]}))
    PromptData(pairs, plain, {}).save(tmp_path / "data", DataConfig(source="x.txt"))
    config = SFTConfig(output_dir=str(tmp_path / "run"), bf16=False, use_cpu=True, report_to="none")
    with pytest.raises(ValueError, match="no validation split"):
        train_sft(SFTArguments(data_dir=str(tmp_path / "data")), DataConfig(), config, ModelConfig())
    with pytest.raises(ValueError, match="data_dir"):
        train_sft(SFTArguments(), DataConfig(), config, ModelConfig())


def test_pairs_of_rare_media_are_repeated():
    media = ["photo"] * 900 + [""] * 60 + ["pixel"] * 10 + ["print"] * 25 + ["toon"]
    pairs = Dataset.from_dict({"prompt": list(map(str, range(996))), "completion": media, "medium": media})
    repeated = repeat_rare_media(pairs, 0.04)  # up to 40 of each, or 20 times
    assert Counter(repeated["medium"][:]) == {"photo": 900, "": 60, "pixel": 40, "print": 50, "toon": 20}
    assert set(repeated["prompt"][:]) == set(pairs["prompt"][:])
