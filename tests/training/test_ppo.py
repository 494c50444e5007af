"""PPO through its entry point: killed at any moment, on two processes, and TRL's trainers beside it."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl import GRPOTrainer, ModelConfig, RLOOTrainer

from neuroprompt.files import sole_writer
from neuroprompt.formats import CONTINUE, CONTROLS
from neuroprompt.policies import load_tokenizer
from neuroprompt.ppo import TrainingStopped
from neuroprompt.ppo.config import GRPOConfig, PPOConfig, RLOOConfig
from neuroprompt.programs import Stopped
from neuroprompt.runs.arguments import read_arguments
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.grpo import _PlainPolicies, number_positions, train_grpo
from neuroprompt.training.queries import QueryArguments, load_queries
from neuroprompt.training.rewarded import load_reward_func
from tests import forks
from tests.checkpoints.policies import told_media
from tests.ppo.conftest import tiny_policy, tokenizer  # noqa: F401

ROOT = Path(__file__).parents[2]

# How often each word of a completion is worth something; kills its process when and where it is told to. The judge is
# one that falls after the third call.
REWARD = """
import os, signal, torch

calls = 0
rank = os.environ.get("RANK", "0")
saving = torch.save


def save(thing, file, *arguments, **keywords):
    if os.environ["KILL_IN_SAVE"] in str(file):
        with open(file, "wb") as half:
            half.write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return saving(thing, file, *arguments, **keywords)


if "KILL_IN_SAVE" in os.environ:
    torch.save = save


def fooled(prompts, completions, log_metric, **columns):
    global calls
    calls += 1
    log_metric("judge/mood", -float(abs(calls - 3)))
    return [calls + 0.1 * len(c) for c in completions]


def words(prompts, completions, completion_ids):
    global calls
    calls += 1
    if str(calls) == os.environ.get("KILL_AT_CALL"):
        os.kill(os.getpid(), signal.SIGKILL)
    if str(calls) == os.environ.get("CTRL_C_AT_CALL"):
        raise KeyboardInterrupt
    with open(f"scored-{rank}.txt", "a") as file:
        file.write(f"{len(prompts)}\\n")
    return [0.1 * len(ids) + c.count("fog") - c.count("sea") for c, ids in zip(completions, completion_ids)]
"""


@pytest.fixture
def workspace(tokenizer, tmp_path, monkeypatch):  # noqa: F811
    """A folder with a policy, prompts and a reward function."""
    tiny_policy().save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")
    words = ["red", "fox", "castle", "sea", "oil", "painting", "dark", "soft"]
    prompts = [f"{a} {b} {c}" for a in words for b in words for c in words]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    (tmp_path / "my_rewards.py").write_text(REWARD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_rewards", None)


SETTINGS = {
    "queries": "prompts.txt",
    "reward_func": "my_rewards:words",
    "eval_samples": 0,
    "model_name_or_path": "policy",
    "window": "none",
    "max_new_tokens": 6,
    "rollout_batch_size": 16,
    "completions_per_prompt": 2,
    "minibatch_size": 8,
    "num_ppo_epochs": 2,
    "max_steps": 10,
    "save_steps": 3,
    "learning_rate": 1e-3,
    "kl_target": 2.0,
    "use_cpu": "true",
    "bf16": "false",
    "report_to": "none",
    "min_distinct_tails": 0,
}


GUARDS = {"completions_per_prompt": 4, "win_rates": "true", "skip_flat_groups": "true", "plain_completions": 1}


def flags(**changes):
    return [str(part) for name, value in (SETTINGS | changes).items() for part in (f"--{name}", value)]


def start(folder, *arguments, processes=1, launcher=(), script="training/ppo.py", **environment):
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    return forks.run([*launcher, ROOT / script, *arguments], folder, environment)


def here(**changes):
    """The same in this process."""
    from neuroprompt.training.ppo import train_ppo

    return train_ppo(*read_arguments((QueryArguments, RewardArguments, PPOConfig, ModelConfig), "", flags(**changes)))


def test_killed_twice_and_still_the_same(workspace):
    """Checkpoints lie in the middle of a buffer (4 steps an iteration, one every 3). A kill while one is written leaves
    the one before; a kill between two leaves the last; and the weights are those of a run that was never touched."""
    one_go = here(output_dir="one_go", **GUARDS)
    killed = start(workspace, *flags(output_dir="killed", **GUARDS), KILL_IN_SAVE="checkpoint-6/optimizer.pt")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    run = workspace / "killed"
    assert (run / "unfinished" / "checkpoint-6" / "optimizer.pt").read_bytes() == b"half"
    assert [f.name for f in run.glob("checkpoint-*")] == ["checkpoint-3"]
    resume = {"output_dir": "killed", "resume_from_checkpoint": "true", **GUARDS}
    killed = start(workspace, *flags(**resume), KILL_AT_CALL="4")  # in the third iteration, at the plain prompts
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    assert {f.name for f in run.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-6"}
    assert (run / "checkpoint-6" / "rollouts.safetensors").is_file() and not (run / "unfinished").exists()
    resumed = here(**resume)
    for name, expected in one_go.model.state_dict().items():
        assert torch.equal(expected, resumed.model.state_dict()[name]), name
    assert resumed.ppo_state.moments == one_go.ppo_state.moments
    assert resumed.ppo_state.kl_coef == one_go.ppo_state.kl_coef != 0.05
    last = [[h["kl"] for h in t.state.log_history if "kl" in h][-1] for t in (one_go, resumed)]
    assert last[0] == last[1]


def test_two_processes_do_what_one_does(workspace):
    """The same settings give the same run, up to the order of float32 sums (1e-5 on weights of order 0.2), and each
    process scores its own half: what the policy wrote, and then what is plain."""
    one = here(output_dir="one", **GUARDS)
    scored = (workspace / "scored-0.txt").read_text().split()
    assert scored == ["12", "4"] * 3
    (workspace / "scored-0.txt").unlink()
    done = start(workspace, *flags(output_dir="two", **GUARDS), processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 process(es) on cpu" in done.stdout
    assert all((workspace / f"scored-{rank}.txt").read_text().split() == ["6", "2"] * 3 for rank in (0, 1))
    two = load_file(workspace / "two" / "model.safetensors")
    expected = load_file(workspace / "one" / "model.safetensors")
    assert max((two[k] - expected[k]).abs().max() for k in expected) < 1e-5
    history = json.loads((workspace / "two" / "log_history.json").read_text())
    for key in ("reward", "reward_std", "kl", "entropy", "policy_loss", "value_loss", "distinct_tails", "eos_rate"):
        values = [entry[key] for entry in history if key in entry]
        assert values == pytest.approx([e[key] for e in one.state.log_history if key in e], abs=1e-5), key


def test_what_is_wrong_is_said_once(workspace):
    """The first process finds the folder taken; the second loses it, and is ended before it can say so."""
    with sole_writer("run", inside=True):
        done = start(workspace, *flags(output_dir="run"), processes=2)
    assert done.returncode == 1 and done.stderr.count("error: run is being written by process") == 1
    assert "[rank" not in done.stderr and not list(Path("run").iterdir())


def test_ctrl_c_says_what_stays_and_how_to_go_on(workspace, monkeypatch):
    monkeypatch.setenv("CTRL_C_AT_CALL", "1")
    with pytest.raises(Stopped, match=r"^stopped: run holds no checkpoint yet; the same command begins again$"):
        here(output_dir="run")
    assert not Path("run").exists()  # nothing came of it
    monkeypatch.setenv("CTRL_C_AT_CALL", "4")  # calls are counted on; the third iteration, after 8 steps
    with pytest.raises(Stopped, match="checkpoint-6") as stop:
        here(output_dir="run")
    command = "the same command with --resume_from_checkpoint true"
    assert str(stop.value) == f"stopped: run/checkpoint-6 stays; {command} goes on from there"
    assert here(output_dir="run", resume_from_checkpoint="true").state.global_step == 10


def test_a_run_that_fails_at_once_leaves_no_folder(workspace):
    with pytest.raises(ValueError, match="no_module"):
        here(output_dir="run", reward_func="no_module:words")
    assert not Path("run").exists()


def test_what_is_left_after_a_stop_is_from_before(workspace, capsys):
    """By PPO and by GRPO: the run's policy is that of the kept checkpoint, which is what was evaluated."""
    guards = {"judge_window": 8, "max_steps": 12, "save_steps": 1, "save_total_limit": 2}
    with pytest.raises(TrainingStopped, match="the judge mood falls while the reward rises") as of_ppo:
        more = {"eval_samples": 8, "stop_on_overoptimization": "true", "reward_func": "my_rewards:fooled"}
        here(output_dir="run", minibatch_size=16, num_ppo_epochs=1, **guards | more)
    assert "held-out reward" in capsys.readouterr().out
    sys.modules.pop("my_rewards")
    arguments = QueryArguments(queries="prompts.txt", reward_func="my_rewards:fooled", eval_samples=0)
    config = small(GRPOConfig, stop_on_overoptimization=True, win_rates=True, **guards)
    with pytest.raises(TrainingStopped, match="the judge mood falls while the reward rises") as of_grpo:
        train_grpo(arguments, RewardArguments(), config, ModelConfig("policy", dtype="float32"))
    for run, stop in (("run", of_ppo), ("trl", of_grpo)):
        assert stop.value.kept == Path(run, "checkpoint-2")
        left, kept, first = (load_file(f"{f}/model.safetensors") for f in (run, stop.value.kept, "policy"))
        assert all(torch.equal(value, left[name]) for name, value in kept.items())
        assert any(not torch.equal(value, left[name]) for name, value in first.items())
        assert Path(run, "reward_and_judge.html").is_file()


def test_without_evaluation(workspace):
    """Whatever the config says about it: the samples decide."""
    settings = {"eval_iterations": 1, "save_steps": 4, "load_best_model_at_end": "true"}
    run = here(output_dir="run", max_steps=2, eval_samples=0, **settings)
    assert run.state.global_step == 2 and not any("eval_reward" in entry for entry in run.state.log_history)


def small(config_class, **settings):
    """A few steps of one of TRL's trainers, on a CPU; two by default."""
    settings = {"max_steps": 2} | settings
    return config_class(
        "trl",
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=6,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        **settings,
    )


@pytest.mark.parametrize(("config_class", "adapters"), [(GRPOConfig, False), (GRPOConfig, True), (RLOOConfig, False)])
def test_trls_trainers_take_the_same(workspace, config_class, adapters):
    (workspace / "all_arguments.py").write_text(
        "def words(prompts, completions, **columns):\n    return [float(len(c)) for c in completions]\n"
    )
    config = small(config_class, beta=0.1, learning_rate=1e-3, logging_steps=1)
    arguments = QueryArguments(queries="prompts.txt", reward_func="all_arguments:words", eval_samples=8)
    lora = {"use_peft": adapters, "lora_r": 4, "lora_target_modules": ["c_attn", "c_proj"]}
    model = ModelConfig("policy", dtype="float32", **lora)
    trainer = train_grpo(arguments, RewardArguments(), config, model)
    assert trainer.state.global_step == 2
    before, after = load_file("policy/model.safetensors"), load_file("trl/model.safetensors")
    assert any(not torch.equal(before[k], after[k]) for k in before)
    assert not list(Path("trl").glob("*.bin")) and not Path("trl/adapter_config.json").exists()
    assert AutoModelForCausalLM.from_pretrained("trl").config.model_type == "gpt2"


@pytest.mark.parametrize(("trainer", "config_class"), [(GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)])
def test_trls_trainers_tell_the_medium(workspace, monkeypatch, trainer, config_class):
    """The policy is told it, and the reward sees the prompts as they are."""
    told_media(workspace / "policy")
    (workspace / "seen.py").write_text(
        "prompts_seen, ids_seen = [], []\n\n\n"
        "def record(prompts, completion_ids, **columns):\n"
        "    prompts_seen.extend(prompts)\n    ids_seen.extend(completion_ids)\n    return [1.0] * len(prompts)\n"
    )
    asked, generate = [], trainer._generate_single_turn

    def recorded(self, prompt_ids, *arguments, **settings):
        asked.extend(prompt_ids)
        return generate(self, prompt_ids, *arguments, **settings)

    monkeypatch.setattr(trainer, "_generate_single_turn", recorded)
    config = small(config_class)
    arguments = QueryArguments(queries="prompts.txt", reward_func="seen:record", eval_samples=0)
    train_grpo(arguments, RewardArguments(), config, ModelConfig("policy", dtype="float32"))
    seen, reader = sys.modules.pop("seen"), load_tokenizer("policy")
    assert len(asked) == len(seen.prompts_seen) == 16 and asked == CONTINUE.encode(reader, seen.prompts_seen)
    first = set(reader.convert_ids_to_tokens([ids[0] for ids in asked]))
    assert "<|any|>" in first and not any("<|" in prompt for prompt in seen.prompts_seen)
    controls = set(reader.convert_tokens_to_ids(list(CONTROLS.values())))
    assert not controls & {token for ids in seen.ids_seen for token in ids}


@pytest.mark.parametrize("config_class", [GRPOConfig, RLOOConfig])
def test_trls_trainers_have_the_guards(workspace, monkeypatch, config_class):
    """Of a prompt's four completions one is plain, without a token; win rates are learnt from, and the scores of what
    was written are logged; a group whose scores are all alike is left out."""
    (workspace / "guarded.py").write_text(
        "calls = []\n\n\n"
        "def worth(prompts, completions, completion_ids, log_metric, **columns):\n"
        "    scores = [0.0 if p == prompts[0] else 100.0 * len(c) for p, c in zip(prompts, completions)]\n"
        "    calls.append((list(completions), list(completion_ids), scores))\n"
        "    log_metric('judge/length', sum(map(len, completions)) / len(completions))\n"
        "    return scores\n"
    )
    batches, make = [], _PlainPolicies._generate_and_score_completions
    monkeypatch.setattr(
        _PlainPolicies,
        "_generate_and_score_completions",
        lambda self, rows: batches.append(make(self, rows)) or batches[-1],
    )
    guards = {"win_rates": True, "skip_flat_groups": True, "plain_completions": 1, "beta": 0.1, "logging_steps": 1}
    arguments = QueryArguments(queries="prompts.txt", reward_func="guarded:worth", eval_samples=0)
    config = small(config_class, max_steps=1, **guards)
    run = train_grpo(arguments, RewardArguments(), config, ModelConfig("policy", dtype="float32"))
    (written, _, scores), (plain, ids, _) = sys.modules.pop("guarded").calls
    assert len(written) == 6 and all(written) and plain == ["", ""] and ids == [[0], [0]]
    (batch,) = batches
    left_out, learnt = batch["completion_mask"].view(2, 4, -1).any(2).tolist()
    assert left_out == [False] * 4 and learnt == [True] * 3 + [False]
    ranked, order = batch["advantages"].view(2, 4)[1, :3].sort(descending=True)
    assert order.tolist() == sorted(range(3), key=lambda i: -scores[3 + i])
    assert ranked[0] - ranked[1] == pytest.approx(float(ranked[1] - ranked[2]), rel=0.05)  # ranks, not lengths
    (log,) = [entry for entry in run.state.log_history if "reward" in entry]
    assert log["reward"] == log["rewards/worth/mean"] == pytest.approx(sum(scores) / 6) and log["reward"] > 100
    assert log["judge/length"] == pytest.approx(sum(map(len, written)) / 6) and log["flat_groups"] == 0.5


def test_positions_are_counted_from_the_first_token():
    model = tiny_policy().eval()
    alone = model(torch.tensor([[3, 4, 5]])).logits[0]
    padded = {"input_ids": torch.tensor([[1, 1, 3, 4, 5]]), "attention_mask": torch.tensor([[0, 0, 1, 1, 1]])}
    assert not torch.allclose(model(**padded).logits[0, 2:], alone, atol=1e-2)
    number_positions(model)
    assert torch.allclose(model(**padded).logits[0, 2:], alone, atol=1e-5)


def test_queries(workspace):
    train, held_out = load_queries(QueryArguments(queries="prompts.txt", eval_samples=10, max_queries=100), 77)
    assert (len(train), len(held_out)) == (100, 10) and not set(train["prompt"]) & set(held_out["prompt"])
    Path("other.txt").write_text("red fox castle\n\nan owl\n" + "a very long prompt " * 40)
    train, held_out = load_queries(QueryArguments(queries="prompts.txt", eval_queries="other.txt"), 77)
    assert sorted(held_out["prompt"]) == ["an owl", "red fox castle"] and "red fox castle" not in train["prompt"]
    assert load_queries(QueryArguments(queries="prompts.txt", eval_samples=0), 77)[1] is None
    with pytest.raises(ValueError, match="queries is not set"):
        load_queries(QueryArguments(), 77)
    Path("long.txt").write_text("a very long prompt " * 40)
    with pytest.raises(ValueError, match="no prompt that leaves 16"):
        load_queries(QueryArguments(queries="long.txt"), 77)


def test_prepared_data(workspace):
    from datasets import Dataset, DatasetDict

    from neuroprompt.data import DataConfig, PromptData

    plain = DatasetDict(
        train=Dataset.from_dict({"prompt": ["a dog on a hill", "a red owl"]}),
        validation=Dataset.from_dict({"prompt": ["a fox at night"]}),
    )
    pairs = DatasetDict(train=Dataset.from_dict({"prompt": ["a cat"], "completion": [", 8k, fog"]}))
    PromptData(pairs, plain, {}).save("data", DataConfig(source="x.txt"))
    train, held_out = load_queries(QueryArguments(queries="data"), 77)
    assert (train["prompt"][:], held_out["prompt"][:]) == (["a dog on a hill", "a red owl"], ["a fox at night"])


def test_reward_functions_by_name(workspace, tmp_path):
    config = PPOConfig(str(tmp_path / "run"), use_cpu=True)

    def load(name):
        return load_reward_func(QueryArguments(reward_func=name), RewardArguments(), config, None, [])

    assert load("my_rewards:words").__name__ == "words"
    assert load("./my_rewards.py:words").__name__ == "words"
    for wrong, message in {
        "my_rewards:wrods": "my_rewards has no function 'wrods': 'words'?",
        "no_module:words": "there is no module 'no_module'",
        "nothing.py:words": "there is no file nothing.py",
        "my_rewards": "'my_rewards' names no function: write FILE.py:FUNCTION or package.module:FUNCTION",
    }.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            load(wrong)


@pytest.mark.parametrize("name", ["cpu", "gpu", "multi_gpu", "multi_node", "zero2"])
def test_accelerate_reads_its_configs(name):
    from accelerate.commands.config.config_args import load_config_from_file

    path = ROOT / "configs/accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert config.num_processes >= 1 and yaml.safe_load(path.read_text())["compute_environment"] == "LOCAL_MACHINE"
