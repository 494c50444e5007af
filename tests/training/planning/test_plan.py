"""Plans: what is counted is what a training makes, and what cannot be is refused before it begins."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM
from trl import ModelConfig

from benchmarks.memory import STARTS, plan, published
from neuroprompt.models import ModelError, locate
from neuroprompt.ppo import PPOConfig, PPOTrainer
from neuroprompt.ppo.config import GRPOConfig, RLOOConfig
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.planning import Layout, plan_grpo, plan_ppo, plan_sft
from neuroprompt.training.planning import plan as plan_module
from neuroprompt.training.queries import QueryArguments
from neuroprompt.training.sft import SFTArguments, SFTConfig
from tests.ppo.conftest import tiny_policy, tokenizer  # noqa: F401

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def tiny(tokenizer, tmp_path):  # noqa: F811
    """A folder with a policy of 29 thousand parameters."""
    tiny_policy().save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")
    return tmp_path


def ppo(folder, **settings):
    settings = {"rollout_batch_size": 16, "per_device_train_batch_size": 8, "num_ppo_epochs": 1} | settings
    config = PPOConfig(str(folder / "run"), total_episodes=64, use_cpu=True, report_to="none", **settings)
    queries = QueryArguments(reward_func="module:function")
    model = ModelConfig(model_name_or_path=str(folder / "policy"))
    return config, plan_ppo(queries, RewardArguments(), config, model)


def reward(prompts, completions, **columns):
    return [float(len(c)) for c in completions]


@pytest.mark.parametrize("critic", ["policy", "copy"])
def test_what_is_held_and_saved_is_what_a_run_holds_and_saves(tiny, critic):
    config, made = ppo(tiny, critic=critic, save_strategy="steps", save_steps=8, save_total_limit=1)
    prompts = Dataset.from_dict({"prompt": ["red fox", "castle sea"] * 8})
    trainer = PPOTrainer(str(tiny / "policy"), reward, config, prompts)
    trainer.train()

    states = trainer.optimizer.state_dict()["state"].values()
    moments = sum(t.nbytes for state in states for name, t in state.items() if name.startswith("exp_avg"))
    parts = {part.name: part for part in made.held}
    assert parts["AdamW's moments of what is trained of it"].bytes == moments
    assert parts["policy"].parameters == sum(p.numel() for p in trainer.model.parameters())
    assert parts["reference"].parameters == sum(p.numel() for p in trainer.reference.parameters())

    (checkpoint,) = (tiny / "run").glob("checkpoint-*")
    size = sum(file.stat().st_size for file in checkpoint.iterdir() if file.suffix in (".safetensors", ".pt"))
    assert made.checkpoint == pytest.approx(size, rel=0.15)  # names and shapes are in the files, too
    assert made.saves == 1


def test_the_plan_of_a_run_says_what_it_will_do(monkeypatch):
    monkeypatch.setattr(plan_module, "device_memory", lambda device: None)  # as where there is no GPU
    with published():
        made = plan(CONFIGS / "ppo" / "gpt2_sd15_pickscore.yaml", [])
    assert {part.name: part.parameters for part in made.held} == {
        "policy": 124_439_808 + 769,
        "AdamW's moments of what is trained of it": 124_439_808 + 769,
        "reference": 124_439_808,
        "generator: vae, float16": 83_653_863,
        "generator: text_encoder, float16": 123_060_480,
        "generator: unet, float16": 859_520_964,
        "generator: safety_checker, float16": 303_981_588,
        "reward: yuvalkirstain/PickScore_v1, float16": 986_109_441,
    }
    assert made.schedule["pictures"] == "51,200"  # NeuroPrompts' reward does not draw the plain prompts
    assert str(made) in (CONFIGS.parent / "docs" / "gpu.md").read_text("utf-8")


@pytest.mark.parametrize("config", sorted(f"{f.parent.name}/{f.name}" for f in CONFIGS.glob("*o/*.yaml")))
def test_every_config_has_a_plan(config):
    with published():
        made = plan(CONFIGS / config, [])
    assert 0 < sum(part.bytes for part in made.held) < 40e9  # a card of 48 GB; SD 3.5 Large is most of it
    assert made.schedule["pictures"]


def test_supervised_training(tmp_path):
    config = SFTConfig(str(tmp_path), use_cpu=True, max_length=64, per_device_train_batch_size=4, report_to="none")
    made = plan_sft(SFTArguments(data_dir="nowhere"), config, ModelConfig(model_name_or_path="embedded"))
    loaded = AutoModelForCausalLM.from_pretrained(locate("embedded", "policy"), dtype=torch.float32)
    weights = sum(t.nbytes for t in [*loaded.parameters(), *loaded.buffers()])
    assert [part.bytes for part in made.held] == [weights, 2 * sum(p.nbytes for p in loaded.parameters())]
    assert "not known before nowhere is there" in made.schedule["pairs"]


@pytest.mark.parametrize("kind", [GRPOConfig, RLOOConfig])
def test_the_trainers_of_trl(kind, tmp_path):
    config = kind(
        str(tmp_path),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=8,
        steps_per_generation=4,
        num_generations=8,
        num_iterations=2,
        max_steps=16,
        max_completion_length=16,
        beta=0.05,
        plain_completions=2,
        report_to="none",
    )
    rewards = RewardArguments(images_per_prompt=3, reward_model="embedded")
    made = plan_grpo(QueryArguments(), rewards, config, ModelConfig(model_name_or_path="embedded"))
    iteration = "24 rewrites of 4 prompts, beside 2 plain of each, 8 optimizer steps of 6 rewrites"
    assert made.schedule["an iteration"] == iteration
    pictures = "72 (24 fewer for the plain ones), and up to 12 of plain prompts that are new"
    assert made.schedule["pictures of an iteration"] == pictures
    assert made.schedule["pictures"] == "144, and up to 24 of plain prompts"
    assert "reference" in [part.name for part in made.held]


def test_adapters_leave_out_the_reference_and_most_of_the_optimizer(tiny):
    _, whole = ppo(tiny)
    config = PPOConfig(str(tiny), rollout_batch_size=16, per_device_train_batch_size=8, use_cpu=True, report_to="none")
    model = ModelConfig(
        model_name_or_path=str(tiny / "policy"), use_peft=True, lora_r=2, lora_target_modules=["c_attn", "c_proj"]
    )
    adapted = plan_ppo(QueryArguments(reward_func="a:b"), RewardArguments(), config, model)
    assert "reference" not in [part.name for part in adapted.held]
    assert adapted.checkpoint < 0.1 * whole.checkpoint


def test_zero_2_cuts_moments_and_gradients_and_brings_its_buffer(tiny):
    _, one = ppo(tiny)
    size = 4 * one.held[1].parameters
    eight = replace(one, layout=Layout(8))
    cut = replace(one, layout=Layout(8, zero=2, bucket=1000))
    assert eight.peaks[-1].bytes - one.peaks[-1].bytes == size  # DDP's buckets
    assert cut.held[1].bytes == 3 * size // 8  # moments and a copy of the weights, an eighth of each
    assert one.peaks[-1].bytes - cut.peaks[-1].bytes == size - size // 8 - 4000
    assert replace(cut, layout=replace(cut.layout, offload=True)).held[1].bytes == 0


def test_each_encoder_of_the_rewards_is_held_once(tmp_path):
    config = PPOConfig(str(tmp_path), rollout_batch_size=16, use_cpu=True, report_to="none")

    def held(rewards, **more):
        made = plan_ppo(
            QueryArguments(),
            RewardArguments(rewards=rewards, **more),
            config,
            ModelConfig(model_name_or_path="embedded"),
        )
        return {part.name: part.parameters for part in made.held if part.name.startswith("reward")}

    with published():
        assert held("pickscore,clip,aesthetic,hps,image_reward") == {
            "reward: yuvalkirstain/PickScore_v1, float32": 986_109_441,
            "reward: ViT-L-14:openai, float32": 427_616_513,  # of clip and aesthetic
            "reward: hps, float32": 986_109_441,
            "reward: image_reward, float32": 303_301_632  # ViT-L/16
            + 108_891_648  # BERT's base, without its pooler
            + 12 * 2_757_120,  # the layers in which it reads the picture
            "rewards' heads": 927_969,
        }
        asked = "reward: Qwen/Qwen3-VL-4B-Instruct, float32"
        assert held("vqa,echo@plain", judge="atoms,clip[http://localhost:8808]") == {asked: 4_437_815_808}
    own = held("pickscore,clip,aesthetic", reward_model="embedded")
    assert list(own) == ["reward: pickscore, float32", "reward: clip, float32", "rewards' heads"]


def test_what_a_users_own_reward_takes_is_not_known(tmp_path):
    (tmp_path / "mine.py").write_text("def length(prompts, images): return [0.0] * len(prompts)\n")
    config = PPOConfig(str(tmp_path), rollout_batch_size=16, use_cpu=True, report_to="none")
    name = f"{tmp_path}/mine.py:length"
    made = plan_ppo(QueryArguments(), RewardArguments(rewards=name), config, ModelConfig(model_name_or_path="embedded"))
    assert made.notes == [f"Not counted: what {name} takes."] and made.notes[0] in str(made)
    assert not [part for part in made.held if part.name.startswith("reward")]


def test_a_model_whose_passes_cannot_be_followed_has_a_plan_all_the_same(tiny):
    experts = MixtralConfig(
        vocab_size=14,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    MixtralForCausalLM(experts).save_pretrained(tiny / "policy")
    _, made = ppo(tiny)
    assert made.peaks[-1].name.startswith("update: 8 rewrites (not estimated: ")
    assert made.memory > sum(part.bytes for part in made.held)  # by the gradients


def test_a_generator_that_waits_in_the_cpus_memory_is_not_held(tmp_path):
    config = PPOConfig(str(tmp_path), rollout_batch_size=16, use_cpu=True, report_to="none")

    def generator(**settings):
        rewards = RewardArguments(generator={"dtype": "float32"} | settings, reward_model="embedded")
        made = plan_ppo(QueryArguments(), rewards, config, ModelConfig(model_name_or_path="embedded"))
        held = sum(part.bytes for part in made.held if part.name.startswith("generator"))
        return held, next(part.bytes for part in made.peaks if part.name.startswith("draw"))

    held, drawing = generator()
    assert generator(cpu_offload="model") == (0, drawing + 4 * 5_714_248)  # the U-Net, while it works
    assert held > 4 * 5_714_248


def test_a_device_that_is_too_small_is_refused(tiny, monkeypatch, caplog):
    _, made = ppo(tiny)
    held = sum(part.bytes for part in made.held)
    monkeypatch.setattr(plan_module, "device_memory", lambda device: held - 1)
    with pytest.raises(ModelError, match=r"models and optimizer take 0\.0 GB, and cpu has 0\.0 GB: train adapters"):
        made.check()
    monkeypatch.setattr(plan_module, "device_memory", lambda device: held + 1)
    with caplog.at_level(logging.WARNING):
        made.check()
    assert "lower per_device_train_batch_size" in caplog.text
    caplog.clear()
    monkeypatch.setattr(plan_module, "device_memory", lambda device: made.memory)
    with caplog.at_level(logging.WARNING):
        made.check()
    assert not caplog.text


def test_a_disk_that_is_too_small_is_refused(tiny, monkeypatch, caplog):
    _, made = ppo(tiny, save_strategy="steps", save_steps=1)
    assert made.saves == 8  # nothing is thrown away
    monkeypatch.setattr(plan_module, "free_disk", lambda folder: made.checkpoint)
    with pytest.raises(ModelError, match=r"the disk of .*run has 0\.0 GB left: free some, or give another output_dir"):
        made.check()
    monkeypatch.setattr(plan_module, "free_disk", lambda folder: made.disk - 1)
    with caplog.at_level(logging.WARNING):
        made.check()
    assert "lower save_total_limit" in caplog.text


def test_free_disk_of_a_folder_that_is_not_there_yet(tmp_path):
    assert plan_module.free_disk(tmp_path / "a" / "b") > 0


def test_what_a_config_starts_from_is_made_by_one_of_ours():
    made = {yaml.safe_load(f.read_text())["output_dir"] for f in CONFIGS.glob("sft/*.yaml")} | {"runs/embedded/init"}
    assert set(STARTS) <= made


def test_when_a_run_evaluates_and_saves_is_said_as_it_is(tmp_path):
    settings = {"use_cpu": True, "report_to": "none", "rollout_batch_size": 8, "minibatch_size": 4, "num_ppo_epochs": 1}

    def events(**changes):
        config = PPOConfig(str(tmp_path), **settings | changes)
        plan = plan_ppo(QueryArguments(reward_func="math:sqrt"), RewardArguments(), config, ModelConfig("embedded"))
        return plan.schedule["evaluation"], plan.schedule["checkpoints"]

    assert events(max_steps=2) == ("64 prompts: at the end", "at the end")
    assert events(max_steps=4, eval_iterations=1, save_iterations=2, save_total_limit=1) == (
        "64 prompts: every 2 steps (1 iteration), 2 times, and at the end",
        "every 4 steps (2 iterations), 1 time, the last 1 stay",
    )
    assert events(max_steps=2, save_strategy="no")[1] == "never"
