"""A planted reward that a watermark inflates: hacked without guards, and with them noticed, and gone back from."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.ppo import TrainingStopped
from neuroprompt.ppo.advantages import flat_groups, win_rates
from neuroprompt.ppo.guards import Parting, parting
from tests.ppo.conftest import tiny_policy
from tests.ppo.test_trainer import PROMPTS, logged, trainer, weights

GOOD = {"oil", "painting", "fog", "art"}


def quality(completion):
    words = completion.split()
    return len(GOOD.intersection(words)) / 4 - 0.5 * words.count("8k")


def planted(completions, log_metric):
    """What is wanted, which the judge measures, and 5 for each watermark."""
    qualities = [quality(c) for c in completions]
    log_metric("judge/quality", sum(qualities) / len(qualities))
    return [q + 5 * c.split().count("8k") for q, c in zip(qualities, completions, strict=True)]


def hackable(tokenizer, tmp_path, reward=planted, **changes):
    """A policy that hardly writes the watermark, as it comes."""
    policy = tiny_policy()
    with torch.no_grad():
        policy.transformer.ln_f.bias[0] = 1.0
        policy.transformer.wte.weight[:, 0] = 0.0
        policy.transformer.wte.weight[10, 0] = -3.0
    settings = {
        "rollout_batch_size": 32,
        "per_device_train_batch_size": 32,
        "completions_per_prompt": 4,
        "max_steps": 32,
        "learning_rate": 2e-3,
        "kl_coef": 0.0,
        "judge_window": 8,
        "save_strategy": "steps",
        "save_steps": 4,
        "save_total_limit": 2,
    }
    return trainer(tokenizer, tmp_path, reward, policy=policy, eval_prompts=PROMPTS * 4, **settings | changes)


def checkpoints_in(folder):
    return set((folder / "run").glob("checkpoint-*"))


def test_a_reward_that_can_be_fooled_is(tokenizer, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        run = hackable(tokenizer, tmp_path)
        run.train()
    held_out = run.evaluate()
    assert held_out["eval_reward"] > 15 and held_out["eval_judge/quality"] < -1 < 0 < held_out["eval_judge/quality_sft"]
    assert all("8k" in sample.policy.completion for sample in run.samples)
    assert caplog.text.count("the judge quality falls while the reward rises") == 1  # once, not at every iteration
    page = (tmp_path / "run" / "reward_and_judge.html").read_text()
    assert "judge/quality" in page and "eval_reward" not in page  # no curve of a single point
    assert {path.name for path in checkpoints_in(tmp_path)} == {"checkpoint-28", "checkpoint-32"}


def test_the_run_stops_and_goes_back(tokenizer, tmp_path):
    """To before the watermark, though the last checkpoints are the best by reward."""
    guarded = {"stop_on_overoptimization": True, "load_best_model_at_end": True, "eval_strategy": "steps"}
    guarded |= {"eval_steps": 2, "save_steps": 2}
    run = hackable(tokenizer, tmp_path, **guarded)
    with pytest.raises(TrainingStopped, match=r"the judge quality falls while the reward rises .* checkpoint-") as stop:
        run.train()
    stopped_at = run.state.global_step
    assert stopped_at < 32 and logged(run, "judge/quality")[-1] < 0
    kept = stop.value.kept
    assert {kept, tmp_path / "run" / f"checkpoint-{stopped_at}"} <= checkpoints_in(tmp_path)  # whatever the limit says
    held_out, policy = run.evaluate(), weights(run)
    assert held_out["eval_reward"] < 3 and held_out["eval_judge/quality"] > held_out["eval_judge/quality_sft"] > 0
    # Taken up again it stays where it was, though it is to have more steps.
    again = hackable(tokenizer, tmp_path, max_steps=4000, **guarded)
    with pytest.raises(TrainingStopped, match=kept.name):
        again.train(resume_from_checkpoint=True)
    assert again.state.global_step == stopped_at
    assert all(torch.equal(value, weights(again)[name]) for name, value in policy.items())
    freed = hackable(tokenizer, tmp_path, max_steps=stopped_at + 2)
    freed.train(resume_from_checkpoint=True)
    assert freed.state.global_step == stopped_at + 2


def test_win_rates_flat_groups_and_plain_completions(tokenizer, tmp_path):
    """Three of a prompt's four completions are written; the fourth is the prompt, without a token. Of "castle" all are
    worth the same, and only of the other prompts is anything learnt."""
    calls = []

    def reward(prompts, completions, log_metric):
        calls.append(list(completions))
        log_metric("worth", float(len(calls)))
        return [
            0.0 if p == "castle" else 100.0 * c.count("fog") + len(c) for p, c in zip(prompts, completions, strict=True)
        ]

    guards = {"win_rates": True, "skip_flat_groups": True, "plain_completions": 1, "max_steps": 4}
    run = hackable(tokenizer, tmp_path, reward, gradient_accumulation_steps=1, save_strategy="no", **guards)
    run.train()
    written, plain = calls[::2], calls[1::2]
    assert [len(c) for c in written] == [24, 24] and [c for call in plain for c in call] == [""] * 16
    (first, second) = [entry for entry in run.state.log_history if "loss" in entry]
    assert (first["worth"], second["worth"]) == (1, 3)  # what plain completions measure is not logged
    assert first["flat_groups"] > 0 and first["episodes"] == 32
    rewards = [100.0 * c.count("fog") + len(c) for c in written[0]]
    assert max(rewards) > 100 and 0 < first["reward"] < np.mean(rewards) + 1e-3  # scores, and no win rates
    rollouts = run.rollouts
    of_castle = (rollouts.prompt_mask.sum(1) == 1).nonzero().squeeze(1)
    assert len(rollouts) == 24 and len(of_castle) and not rollouts.completion_mask[of_castle].any()
    assert set(run.rollouts.learnt().tolist()).isdisjoint(of_castle.tolist())


def test_steps_are_shared_out_however_few_rows_are_learnt_from(tokenizer, tmp_path):
    """Eight rows in 32 parts of a step: most have none, and the gradient is that of the whole."""
    cut = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 32}
    whole, parts = (
        hackable(tokenizer, tmp_path, plain_completions=3, save_strategy="no", max_steps=2, **sizes)
        for sizes in ({}, cut)
    )
    whole.train()
    parts.train()
    assert all(torch.allclose(value, weights(parts)[name], atol=2e-5) for name, value in weights(whole).items())


def test_what_is_far_ahead_wins_no_more(tokenizer, tmp_path):
    """Whatever the reward's outliers: with win rates the order alone teaches."""

    def reward(completions):
        return [quality(c) for c in completions]

    def outlying(completions):
        return [np.exp(9 * quality(c)) for c in completions]

    one, other = (
        hackable(tokenizer, tmp_path, f, win_rates=True, save_strategy="no", max_steps=4) for f in (reward, outlying)
    )
    one.train()
    other.train()
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


@given(
    st.integers(2, 6).flatmap(
        lambda size: st.lists(
            st.lists(st.sampled_from([0.0, 0.5, 1.0, -3.0, float("nan"), float("inf")]), min_size=size, max_size=size),
            min_size=1,
            max_size=3,
        )
    )
)
def test_win_rates_count_who_is_beaten(groups):
    size = len(groups[0])
    found = win_rates(torch.tensor(groups).flatten(), size).view(-1, size).tolist()
    flat = flat_groups(torch.tensor(groups).flatten(), size).view(-1, size)
    for group, rates, alike in zip(groups, found, flat.tolist(), strict=True):
        known = [s for s in group if np.isfinite(s)]
        assert set(alike) == {len(set(known)) <= 1}
        for score, rate in zip(group, rates, strict=True):
            if not np.isfinite(score):
                assert np.isnan(rate)
                continue
            wins = sum(score > other for other in known) + (known.count(score) - 1) / 2
            assert rate == pytest.approx(wins / (len(known) - 1) if len(known) > 1 else 0.5)


def history(reward, judge):
    return [{"step": i, "reward": r, "judge/x": j} for i, (r, j) in enumerate(zip(reward, judge, strict=True), 1)]


def test_one_run_in_twenty_is_alarmed_at_most():
    """100 runs of 20 iterations, whose rewards rise and whose judges are noise; a test of 5 % at each of 11 iterations
    would be alarmed by about 25 of them."""
    rng, window, length = np.random.default_rng(0), 10, 20
    looks = length - window + 1
    alarms = 0
    for _ in range(100):
        entries = history(range(length), rng.standard_cauchy(length))
        alarms += any(parting(entries[:end], window, looks) for end in range(window, length + 1))
    assert alarms <= 8


def test_what_is_no_parting():
    falls, rises = [*range(20, 0, -1)], [*range(20)]
    found = parting(history(rises, falls), 20, 100)
    assert isinstance(found, Parting) and (found.judge, found.tau, found.reward_tau, found.peak) == ("x", -1, 1, 1)
    assert parting(history(falls, falls), 20, 100) is None  # both fall
    assert parting(history(rises, rises), 20, 100) is None
    assert parting(history(rises, [1.0] * 20), 20, 100) is None
    assert parting(history(rises[:19], falls[:19]), 20, 100) is None  # too early to say
    gaps = [{"step": 0, "reward": 1.0}, {"step": 0, "judge/x": None, "reward": 2.0}, {"eval_reward": 3.0}]
    assert parting(gaps + history(rises, falls), 20, 100) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"completions_per_prompt": 1, "win_rates": True},
            "win_rates compares a prompt's completions, and completions_p",
        ),
        ({"completions_per_prompt": 1, "skip_flat_groups": True}, "skip_flat_groups compares"),
        ({"plain_completions": 4}, "plain_completions is 4: it must be below completions_per_prompt, 4"),
        ({"judge_window": 7}, "judge_window is 7: a trend takes 8 iterations at least"),
        (
            {"stop_on_overoptimization": True, "save_strategy": "no"},
            "goes back to a checkpoint, and save_strategy is no",
        ),
        ({"stop_on_overoptimization": True, "save_total_limit": 1}, "set save_total_limit to 2"),
    ],
)
def test_guards_that_make_no_sense(tokenizer, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        hackable(tokenizer, tmp_path, **changes)
