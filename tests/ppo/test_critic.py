"""The critic that foresees pictures, and rewards of which only a share is drawn."""

import numpy as np
import pytest
import torch

from neuroprompt.images import ImageGenerator
from neuroprompt.policies import load_tokenizer
from neuroprompt.ppo.actor import Written
from neuroprompt.ppo.critic import PredictorCritic
from neuroprompt.ppo.predicted import PredictedReward, chosen
from neuroprompt.reward_model import FOLDER, RewardModel, RewardModelConfig
from neuroprompt.rewards import load_rewards
from neuroprompt.scoring import PromptReward
from tests.ppo.test_trainer import logged, trainer, weights

PROMPTS = ["a castle", "boy on a horse", "red fox"]
TAILS = [", oil painting, sunset", ", sunset, by alphonse mucha, 8k", " at night, fog"]
LEARNING = RewardModelConfig(members=2, hidden=[16], batch_size=32, update_passes=16)


@pytest.fixture(scope="module")
def reward():
    generator = ImageGenerator.from_pretrained("embedded", device="cpu", steps=1)
    return PromptReward(generator, load_rewards("pickscore", model="embedded", device="cpu"), images_per_prompt=1)


def written(tokenizer, texts):
    tokens = [[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts)["input_ids"]]
    ids = torch.zeros(len(texts), max(map(len, tokens)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, own in enumerate(tokens):
        ids[row, : len(own)], mask[row, : len(own)] = torch.tensor(own), 1
    return Written(ids, mask, torch.ones(len(texts), dtype=torch.bool), tokens, texts)


def test_gains_are_those_of_what_stands_before_each_token(reward):
    tokenizer, encoder = load_tokenizer("embedded"), reward.generator.encoder
    learns = PredictedReward(reward, RewardModel(encoder, LEARNING))
    critic, wrote = PredictorCritic(learns, tokenizer, len(tokenizer), 1), written(tokenizer, TAILS)
    assert not critic.gains(PROMPTS, wrote).any()
    learns(PROMPTS * 3, sorted(TAILS * 3), visit=[0] * 9)
    gains = critic.gains([prompt + ", " for prompt in PROMPTS], wrote)
    for row, (prompt, tail) in enumerate(zip(PROMPTS, TAILS, strict=True)):
        before = [tokenizer.decode(wrote.tokens[row][:t]) for t in range(len(wrote.tokens[row]))]
        whole = [t for t, text in enumerate(before) if not (tail + " ")[len(text)].isalnum()]
        assert len(whole) > 3 and before[-1] == tail
        expected = learns.model.score([prompt] * len(whole), [prompt + before[t] for t in whole])
        np.testing.assert_allclose(gains[row, whole], expected, atol=1e-3)
        assert not gains[row, len(before) :].any()


def test_values_are_the_least_squares_of_returns(reward):
    """Returns that are linear in what is known, and noise that no state tells."""
    critic = PredictorCritic(
        PredictedReward(reward, RewardModel(reward.generator.encoder)), load_tokenizer("embedded"), 9, 4
    )
    draw = torch.Generator().manual_seed(0)

    def rollouts():
        mask = (torch.arange(12) < torch.randint(4, 13, (64, 1), generator=draw)).long()
        gains = torch.randn(64, 12, generator=draw).cumsum(1) * mask
        whole = gains.gather(1, mask.sum(1, keepdim=True) - 1).view(-1, 4)
        others = ((whole.sum(1, keepdim=True) - whole) / 3).view(-1, 1)
        expected = (0.5 + 0.3 * gains - 0.7 * others) * mask
        return gains, mask, expected, (expected + 0.5 * torch.randn(64, 12, generator=draw)) * mask

    gains, mask, expected, _ = rollouts()
    assert not critic.values(gains, mask, 2.0).any()
    for _ in range(20):
        gains, mask, _, returns = rollouts()
        critic.learn(gains, mask, 2.0, returns)
    gains, mask, expected, _ = rollouts()
    values = critic.values(gains, mask, 2.0)
    assert not values[mask == 0].any()
    assert (values - expected).square().sum() < 0.01 * expected.square().sum()


def test_of_each_prompt_the_least_sure_are_drawn_and_the_same_text_once():
    prompts, texts = ["a", "b", "a", "a", "a", "b"], ["a1", "b1", "a2", "a3", "a2", "b2"]
    error = np.array([0.1, 0.1, 0.3, 0.2, 0.3, 0.4])
    assert chosen(prompts, texts, error, 0.5).tolist() == [False, False, True, True, True, True]
    assert chosen(prompts, texts, error, 0.01).tolist() == [False, False, True, False, True, True]
    assert chosen(prompts, texts, error, 1.0).all()


def test_what_is_not_drawn_is_worth_what_is_expected_beside_what_was_drawn(reward):
    model = RewardModel(reward.generator.encoder, LEARNING)
    half, measured = PredictedReward(reward, model, 0.5), {}
    prompts = [prompt for prompt in PROMPTS for _ in range(4)]
    tails = [", sunset", ", fog, 8k", ", oil painting", ", baroque, portrait"] * 3
    first = half(prompts, tails, visit=[0] * 12, log_metric=measured.__setitem__)
    assert first == pytest.approx(reward(prompts, tails)) and measured["drawn"] == 1 and model.facts["rows"] == 12
    texts = reward.texts(prompts, tails)
    said = model.predict(prompts, texts)
    drawn = chosen(prompts, texts, said.error.numpy(), 0.5)
    second = np.array(half(prompts, tails, visit=[1] * 12, log_metric=measured.__setitem__))
    assert measured["drawn"] == 0.5 == drawn.mean() and model.facts["rows"] == 18
    np.testing.assert_allclose(second[drawn], np.array(first)[drawn], atol=5e-4)
    off = second - said.gain.numpy()
    for group in range(3):
        rows = slice(4 * group, 4 * group + 4)
        mean = off[rows][drawn[rows]].mean()
        np.testing.assert_allclose(off[rows][~drawn[rows]], mean, atol=1e-4)
    assert half(prompts, tails) == pytest.approx(reward(prompts, tails)) and model.facts["rows"] == 18


def test_fresh_seeds_are_other_pictures_at_each_visit_and_the_same_again(reward):
    fresh = reward.replace(fresh_seeds=True)
    prompts, tails = PROMPTS[:2], TAILS[:2]
    visits = [fresh(prompts, tails, visit=[visit] * 2) for visit in (3, 4, 3)]
    assert visits[0] == visits[2] != visits[1]
    assert fresh(prompts, tails) == reward(prompts, tails) == reward(prompts, tails, visit=[3, 3])


def test_a_run_with_both_goes_on_exactly_and_leaves_the_reward_model_beside_the_policy(reward, tokenizer, tmp_path):
    settings = {"critic": "predictor", "completions_per_prompt": 4, "save_strategy": "steps", "save_steps": 2}
    settings |= {"max_steps": 6, "num_ppo_epochs": 1, "max_new_tokens": 5, "lam": 1.0}

    def run(folder):
        model = RewardModel(reward.generator.encoder, LEARNING)
        draws = PromptReward(reward.generator, reward.rewards, images_per_prompt=1, fresh_seeds=True)
        learns = PredictedReward(draws, model, 0.5)
        own = settings | {"output_dir": str(tmp_path / folder)}
        return trainer(tokenizer, tmp_path, learns, **own)

    whole, again = run("run"), run("run")
    whole.train()
    assert len(logged(whole, "drawn")) == 3 and len(logged(whole, "predicted/coverage_90")) == 2
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    for name, weight in weights(whole).items():
        assert torch.equal(weight, again.model.state_dict()[name]), name
    again.save_beside(tmp_path)
    beside = RewardModel.load(tmp_path / FOLDER, reward.generator.encoder)
    assert beside.facts["rows"] == whole.reward_funcs[0].model.facts["rows"] > 4


def test_a_critic_without_a_predictor_is_refused(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="set predictor"):
        trainer(tokenizer, tmp_path, lambda completions: [0.0] * len(completions), critic="predictor")
    with pytest.raises(ValueError, match="policy, copy, predictor"):
        trainer(tokenizer, tmp_path, lambda completions: [0.0] * len(completions), critic="head")
