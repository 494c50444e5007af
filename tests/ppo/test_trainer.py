"""The trainer on problems whose answer is known, and what it does when something goes wrong."""

import json
import logging
import math

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from neuroprompt.ppo import PPOConfig, PPOTrainer, TrainingStopped
from tests.ppo.conftest import WORDS, tiny_policy

PROMPTS = ["red fox", "castle", "dark sea", "soft red castle"]
RICH = {"fox": 1.0, "sea": 0.8, "fog": 0.6, "8k": -0.5, "painting": 0.3}


def trainer(tokenizer, tmp_path, reward, policy=None, prompts=PROMPTS, eval_prompts=None, rewards=None, **changes):
    settings = {
        "output_dir": str(tmp_path / "run"),
        "use_cpu": True,
        "report_to": "none",
        "window": None,
        "max_new_tokens": 6,
        "rollout_batch_size": 16,
        "per_device_train_batch_size": 8,
        "max_steps": 8,
        "num_ppo_epochs": 2,
        "learning_rate": 1e-3,
        "save_strategy": "no",
        "min_distinct_tails": 0.0,
        "lr_scheduler_type": "constant",
    }
    return PPOTrainer(
        tiny_policy() if policy is None else policy,
        reward,
        PPOConfig(**settings | changes),
        Dataset.from_dict({"prompt": prompts * 16}),
        Dataset.from_dict({"prompt": eval_prompts}) if eval_prompts else None,
        tokenizer,
        **(rewards or {}),
    )


def rich(prompts, completions):
    return [sum(RICH.get(word, 0.0) for word in c.split()) for c in completions]


def logged(trainer, key):
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def weights(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def test_the_best_trade_of_reward_against_kl_is_found(tokenizer, tmp_path):
    """One token a completion: the optimum of E[r] − β KL(π ‖ ρ) is β log Σ ρ exp(r / β), at π ∝ ρ exp(r / β)."""
    beta = 0.3
    policy = tiny_policy()
    run = trainer(
        tokenizer,
        tmp_path,
        rich,
        policy=policy,
        prompts=["red fox"],
        rollout_batch_size=16,
        per_device_train_batch_size=16,
        max_new_tokens=1,
        max_steps=240,
        num_ppo_epochs=2,
        kl_coef=beta,
        normalize_rewards=False,
        whiten_advantages=False,
        learning_rate=3e-3,
        lr_scheduler_type="linear",
    )
    prompt = torch.tensor([[3, 4]])
    rewards = torch.tensor([RICH.get(word, 0.0) for word in WORDS])
    run.train()
    with torch.no_grad():
        reference = run.reference(prompt).logits[0, -1].log_softmax(-1)
        found = run.model.policy(prompt).logits[0, -1].log_softmax(-1)

    def objective(logprobs):
        return (logprobs.exp() * (rewards - beta * (logprobs - reference))).sum().item()

    optimum = beta * torch.logsumexp(reference + rewards / beta, -1).item()
    assert objective((reference + rewards / beta).log_softmax(-1)) == pytest.approx(optimum, abs=1e-5)
    start = objective(reference)
    assert (objective(found) - start) / (optimum - start) >= 0.95


def test_a_preference_for_tokens_is_learnt(tokenizer, tmp_path):
    """Which word is wanted depends on the prompt; the best is that word in all places, worth 1."""

    def reward(prompts, completions):
        wanted = ["fog" if "red" in p else "art" for p in prompts]
        return [c.split().count(w) / 6 for c, w in zip(completions, wanted, strict=True)]

    run = trainer(
        tokenizer,
        tmp_path,
        reward,
        rollout_batch_size=32,
        per_device_train_batch_size=32,
        num_ppo_epochs=4,
        max_steps=240,
        kl_coef=0.0,
        learning_rate=5e-3,
        eval_prompts=PROMPTS * 2,
    )
    run.train()
    rewards = logged(run, "reward")
    assert rewards[0] < 0.2 and sum(rewards[-5:]) / 5 >= 0.95
    metrics = run.evaluate()
    assert metrics["eval_reward"] >= 0.95 and metrics["eval_reward_plain"] == 0
    assert metrics["eval_gain_over_sft_low"] > 0.5 and metrics["eval_win_rate_over_sft"] == 1
    few = run.evaluate(Dataset.from_dict({"prompt": PROMPTS}))
    assert few["eval_gain_over_sft"] > 0.5 and "eval_gain_over_sft_low" not in few  # no interval from four prompts


def test_the_critic_comes_to_know_what_is_coming(tokenizer, tmp_path):
    """Where prompts are worth what they are, whatever is written behind them."""
    worth = {prompt: float(i) for i, prompt in enumerate(PROMPTS)}
    run = trainer(
        tokenizer,
        tmp_path,
        lambda prompts, completions: [worth[prompt] for prompt in prompts],
        rollout_batch_size=32,
        per_device_train_batch_size=32,
        num_ppo_epochs=4,
        max_steps=120,
        kl_coef=0.0,
        learning_rate=3e-3,
        vf_coef=1.0,
    )
    run.train()
    explained = logged(run, "explained_variance")
    assert abs(explained[0]) < 0.1 and min(explained[-5:]) > 0.8


def test_what_belongs_to_the_prompt_teaches_nothing(tokenizer, tmp_path):
    """Judged against the others of its prompt, a completion earns the same whatever all of them are worth."""
    worth = {prompt: 4.0 * i for i, prompt in enumerate(PROMPTS)}

    def unequal(prompts, completions):
        return [r + worth[p] for p, r in zip(prompts, rich(prompts, completions), strict=True)]

    runs = {}
    for reward in (rich, unequal):
        for completions in (1, 4):
            runs[reward.__name__, completions] = run = trainer(
                tokenizer, tmp_path, reward, max_steps=16, completions_per_prompt=completions
            )
            run.train()
    same, other = weights(runs["rich", 4]), weights(runs["unequal", 4])
    assert all(torch.allclose(p, other[name], atol=1e-4) for name, p in same.items())
    one, other = weights(runs["rich", 1]), weights(runs["unequal", 1])
    assert not all(torch.allclose(p, other[name], atol=1e-4) for name, p in one.items())
    first = {name: logged(run, "reward")[0] for (name, completions), run in runs.items() if completions == 4}
    assert first["unequal"] > first["rich"] + 1  # what is logged is the score itself


def test_accumulated_gradients_are_those_of_the_whole(tokenizer, tmp_path):
    """Rows are of different lengths, so that a mean of means would be another gradient."""
    whole = trainer(tokenizer, tmp_path / "whole", rich, entropy_coef=0.01, min_modifiers=1)
    whole.train()
    parts = trainer(
        tokenizer,
        tmp_path / "parts",
        rich,
        entropy_coef=0.01,
        min_modifiers=1,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
    )
    parts.train()
    for name, value in weights(whole).items():
        assert torch.allclose(value, weights(parts)[name], atol=2e-5), name
    assert logged(parts, "kl") == pytest.approx(logged(whole, "kl"), abs=1e-4)
    assert logged(parts, "policy_loss") == pytest.approx(logged(whole, "policy_loss"), abs=1e-4)


def test_the_first_update_starts_where_the_rollouts_were_made(tokenizer, tmp_path):
    run = trainer(tokenizer, tmp_path, rich, max_steps=1, num_ppo_epochs=1, per_device_train_batch_size=16)
    run.train()
    assert logged(run, "kl") == [0.0]  # the policy is the reference
    assert abs(logged(run, "approx_kl")[0]) < 1e-6 and logged(run, "clip_fraction") == [0.0]


def test_what_is_logged(tokenizer, tmp_path):
    def measured(prompts, completions, completion_ids, colour, log_metric, trainer_state):
        assert all(ids for ids in completion_ids) and set(colour) == {"blue"} and trainer_state.max_steps == 8
        log_metric("brightness", 0.25)
        log_metric("images_per_s", 3.0)
        return [0.5 + i for i, _ in enumerate(completions)]

    async def nothing(completions, **columns):
        return [None for _ in completions]

    data = Dataset.from_dict({"prompt": PROMPTS * 16, "colour": ["blue"] * 64})
    run = trainer(
        tokenizer, tmp_path, [measured, nothing], rewards={"reward_weights": [2.0, 1.0]}, missing_eos_penalty=0.5
    )
    run.train_dataset = data
    run.train()
    (first, second) = [entry for entry in run.state.log_history if "loss" in entry]  # one log per iteration
    expected = {
        "reward", "reward_std", "kl", "kl_coef", "entropy", "completion_length", "eos_rate", "distinct_tails",
        "distinct_modifiers", "value_mean", "return_mean", "explained_variance", "policy_loss", "value_loss",
        "approx_kl", "clip_fraction", "value_clip_fraction", "steps_left_out", "skipped_batches", "episodes",
        "seconds/generate", "seconds/reward", "seconds/logprobs", "seconds/update", "learning_rate", "grad_norm",
        "rewards/measured", "brightness", "images_per_s",
    }  # fmt: skip
    assert expected <= set(first) and expected <= set(second)
    assert first["reward"] == pytest.approx(2 * (0.5 + 7.5)) and first["rewards/measured"] == pytest.approx(8)
    assert first["brightness"] == 0.25 and (first["episodes"], second["episodes"]) == (16, 32)
    assert 0 < first["entropy"] < math.log(len(WORDS)) and first["completion_length"] <= 6


def test_half_precision(tokenizer, tmp_path):
    run = trainer(tokenizer, tmp_path, rich, bf16=True, max_steps=8)
    run.train()
    assert logged(run, "kl")[0] == 0.0 and abs(logged(run, "kl")[1]) > 0
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in weights(run).values())
    with pytest.raises(ValueError, match="fp16"):
        trainer(tokenizer, tmp_path, rich, fp16=True)


def test_a_given_number_of_episodes(tokenizer, tmp_path):
    run = trainer(tokenizer, tmp_path, rich, total_episodes=40, max_steps=-1)
    run.train()
    assert run.args.max_steps == run.state.global_step == 3 * 2 * 2
    assert logged(run, "episodes")[-1] == 48


def test_an_update_that_goes_too_far_is_cut_short(tokenizer, tmp_path):
    free = trainer(tokenizer, tmp_path / "free", rich, num_ppo_epochs=4, max_steps=16, learning_rate=1e-2)
    free.train()
    held = trainer(
        tokenizer, tmp_path / "held", rich, num_ppo_epochs=4, max_steps=16, learning_rate=1e-2, target_kl=1e-4
    )
    held.train()
    assert logged(free, "steps_left_out") == [0, 0]
    assert all(share > 0.5 for share in logged(held, "steps_left_out"))
    assert held.state.global_step == 16 and logged(held, "episodes") == logged(free, "episodes")


def test_the_coefficient_is_steered_and_a_leash_holds(tokenizer, tmp_path):
    runs = {}
    for name, changes in {"loose": {"kl_coef": 0.0}, "tight": {"kl_coef": 5.0}}.items():
        runs[name] = trainer(tokenizer, tmp_path / name, rich, max_steps=32, learning_rate=3e-3, **changes)
        runs[name].train()
    assert logged(runs["tight"], "kl")[-1] < 0.3 * logged(runs["loose"], "kl")[-1]
    steered = trainer(tokenizer, tmp_path, rich, kl_coef=0.1, kl_target=50.0)
    steered.train()
    assert logged(steered, "kl_coef") == pytest.approx([0.1, 0.1 * 0.98])


@pytest.mark.parametrize("separate", [False, True])
def test_a_critic_of_its_own(tokenizer, tmp_path, separate):
    run = trainer(tokenizer, tmp_path, rich, critic="copy" if separate else "policy", max_new_tokens=1, max_steps=48)
    before = weights(run)
    run.train()
    trunk = [name for name in before if name.startswith("value_trunk")]
    assert bool(trunk) == separate
    assert all(not torch.equal(before[name], weights(run)[name]) for name in trunk if "wpe" not in name)
    assert logged(run, "value_loss")[-1] < logged(run, "value_loss")[0]


def test_adapters_only(tokenizer, tmp_path):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=4, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    run = trainer(tokenizer, tmp_path, rich, rewards={"peft_config": lora}, eval_prompts=PROMPTS, max_steps=16)
    before = weights(run)
    run.train()
    for name, value in weights(run).items():
        assert torch.equal(value, before[name]) == ("lora" not in name and "value" not in name), name
    assert run.reference is None and logged(run, "kl")[0] == 0 and logged(run, "kl")[-1] != 0
    run.save_model()
    merged = AutoModelForCausalLM.from_pretrained(run.args.output_dir)  # plain, without peft
    ids = torch.tensor([[3, 4, 5]])
    assert torch.allclose(merged(ids).logits, run.model.policy.eval()(ids).logits, atol=1e-5)


def test_a_policy_that_was_tuned_by_adapters_is_taken_whole(tokenizer, tmp_path):
    peft = pytest.importorskip("peft")
    tiny_policy().save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    lora = peft.LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    tuned = peft.get_peft_model(base, lora)
    tuned.save_pretrained(tmp_path / "tuned")
    tokenizer.save_pretrained(tmp_path / "tuned")
    run = trainer(tokenizer, tmp_path, rich, policy=str(tmp_path / "tuned"))
    ids = torch.tensor([[3, 4, 5]])
    expected = tuned.eval()(ids).logits
    assert torch.allclose(run.model.policy.eval()(ids).logits, expected, atol=1e-5)
    assert torch.allclose(run.reference(ids).logits, expected, atol=1e-5)


# --- guards ------------------------------------------------------------------------------------------------------


def nan_at(batches):
    calls = iter(range(10**6))

    def reward(prompts, completions):
        bad = next(calls) in batches
        return [float("nan") if bad and i == 3 else float(len(c)) for i, c in enumerate(completions)]

    return reward


def test_a_reward_that_is_not_finite_costs_its_batch(tokenizer, tmp_path, caplog):
    run = trainer(tokenizer, tmp_path, nan_at({1}), max_steps=12)
    moved, last = [], weights(run)
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            now = weights(run)
            moved.append(any(not torch.equal(now[k], last[k]) for k in last))
            last.update(now)

    run.add_callback(Watch())
    with caplog.at_level(logging.WARNING):
        run.train()
    assert moved == [True] * 4 + [False] * 4 + [True] * 4
    assert "1 of 16 rewards are not finite" in caplog.text
    assert logged(run, "skipped_batches") == [0, 1, 1] and logged(run, "steps_left_out") == [0, 1, 0]
    assert run.ppo_state.moments.count == 32 and all(map(math.isfinite, logged(run, "reward")))


def test_a_gradient_that_is_not_finite_costs_its_step(tokenizer, tmp_path):
    run = trainer(tokenizer, tmp_path, rich, max_steps=4)
    steps = iter(range(100))
    run.model.value_head.weight.register_hook(lambda g: g * float("inf") if next(steps) == 1 else g)
    run.train()
    assert logged(run, "skipped_batches") == [1]
    assert all(p.isfinite().all() for p in weights(run).values())


def test_after_too_many_the_run_stops_whole(tokenizer, tmp_path):
    run = trainer(tokenizer, tmp_path, nan_at(range(1, 99)), max_steps=400, max_skipped_batches=3)
    with pytest.raises(TrainingStopped, match="3 batches in a row were skipped, the last because 1 of 16 rewards"):
        run.train()
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    assert {"model.safetensors", "optimizer.pt", "ppo_state.json", "trainer_state.json"} <= {
        f.name for f in checkpoint.iterdir()
    }
    saved = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert all(p.isfinite().all() for p in saved.parameters())
    again = trainer(tokenizer, tmp_path, rich, max_steps=20)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 20 and again.ppo_state.skipped == 3


def test_one_suffix_for_everything_is_noticed(tokenizer, tmp_path, caplog):
    policy = tiny_policy(initializer_range=0.0)
    with torch.no_grad():
        policy.transformer.ln_f.weight.zero_()
        policy.transformer.ln_f.bias.copy_(torch.ones(32))
        policy.transformer.wte.weight[9] = 1.0  # "fog", whatever comes before
    with caplog.at_level(logging.WARNING):
        run = trainer(tokenizer, tmp_path, rich, policy=policy, min_distinct_tails=0.3, learning_rate=0.0)
        run.train()
    assert caplog.text.count("only 6% of the completions differ") == 1  # said once, not at every iteration
    run = trainer(
        tokenizer, tmp_path, rich, policy=policy, min_distinct_tails=0.3, learning_rate=0.0, stop_on_collapse=True
    )
    with pytest.raises(TrainingStopped, match="raise kl_coef"):
        run.train()
    assert run.state.global_step == 1 and list((tmp_path / "run").glob("checkpoint-1"))


# --- checkpoints -------------------------------------------------------------------------------------------------


def test_checkpoints_appear_whole_and_the_best_is_kept(tokenizer, tmp_path):
    run = trainer(
        tokenizer,
        tmp_path,
        rich,
        eval_prompts=PROMPTS * 4,
        max_steps=24,
        max_new_tokens=1,
        save_strategy="steps",
        save_steps=4,
        eval_strategy="steps",
        eval_steps=4,
        save_total_limit=2,
        load_best_model_at_end=True,
        learning_rate=3e-3,
    )
    run.train()
    folder = tmp_path / "run"
    best = max((entry for entry in run.state.log_history if "eval_reward" in entry), key=lambda e: e["eval_reward"])
    assert run.state.best_metric == best["eval_reward"] > run.state.log_history[0].get("eval_reward", -1)
    assert run.state.best_model_checkpoint == str(folder / f"checkpoint-{run.state.best_global_step}")
    names = {f.name for f in folder.iterdir() if f.name != "samples.jsonl"}
    assert len(names) == 2 and {"checkpoint-24", f"checkpoint-{run.state.best_global_step}"} <= names
    kept = AutoModelForCausalLM.from_pretrained(run.state.best_model_checkpoint).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in run.model.policy.state_dict().items())
    state = json.loads((folder / "checkpoint-24" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == run.state.best_model_checkpoint
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [s["step"] for s in samples] == [4, 8, 12, 16, 20, 24] and samples[0]["samples"][0]["prompt"] == "red fox"


def test_the_final_policy_is_plain(tokenizer, tmp_path):
    run = trainer(tokenizer, tmp_path, rich, max_steps=1)
    run.train()
    run.save_model()
    names = {f.name for f in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    assert not any("value" in name or name.endswith((".bin", ".pt", ".pth")) for name in names)


def test_settings_that_do_not_fit_the_checkpoint_are_refused(tokenizer, tmp_path):
    run = trainer(tokenizer, tmp_path, rich, save_strategy="steps", save_steps=3, max_steps=3)
    run.train()
    other = trainer(tokenizer, tmp_path, rich, rollout_batch_size=32)
    with pytest.raises(ValueError, match="other settings"):
        other.train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match="no PPO checkpoint"):
        other.train(resume_from_checkpoint=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollout_batch_size": 12}, "multiple of 8"),
        ({"kl_estimator": "k2"}, "choose from k1, k3"),
        ({"temperature": 0.0}, "above 0"),
        ({"max_new_tokens": None}, "max_new_tokens must say"),
        ({"num_ppo_epochs": 0}, "at least 1"),
        ({"completions_per_prompt": 3}, "must divide rollout_batch_size, 16"),
    ],
)
def test_settings_that_make_no_sense(tokenizer, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        trainer(tokenizer, tmp_path, rich, **changes)


def test_rewards_and_data_that_do_not_fit(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="returned 1 rewards for 16"):
        trainer(tokenizer, tmp_path, lambda completions: [1.0]).train()
    with pytest.raises(ValueError, match="2 reward_weights for 1"):
        trainer(tokenizer, tmp_path, rich, rewards={"reward_weights": [1.0, 2.0]})
    with pytest.raises(ValueError, match="no column 'prompt'"):
        PPOTrainer(tiny_policy(), rich, PPOConfig(str(tmp_path)), Dataset.from_dict({"text": ["a"]}), None, tokenizer)
