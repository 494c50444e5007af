"""The critic that reads as the image generator, and rewards of which only a share is drawn."""

import numpy as np
import pytest
import torch

from neuroprompt.images import ImageGenerator
from neuroprompt.policies import load_tokenizer
from neuroprompt.ppo.actor import Written
from neuroprompt.ppo.critic import GeneratorCritic
from neuroprompt.ppo.predicted import PredictedReward, chosen
from neuroprompt.reward_model import FOLDER, RewardModel, RewardModelConfig
from neuroprompt.rewards import load_rewards
from neuroprompt.scoring import PromptReward
from tests.ppo.test_trainer import logged, trainer, weights

PROMPTS = ["a castle", "boy on a horse", "red fox"]
TAILS = [", oil painting, sunset", ", sunset, by alphonse mucha, 8k", " at night, fog"]
LEARNING = RewardModelConfig(members=2, hidden=[16], batch_size=32, update_steps=8)


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


def test_states_are_what_the_generator_reads_of_what_stands_before_each_token(reward):
    tokenizer, encoder = load_tokenizer("embedded"), reward.generator.encoder
    wrote = written(tokenizer, TAILS)
    plain, states = GeneratorCritic(encoder, tokenizer, len(tokenizer)).read([p + ", " for p in PROMPTS], wrote)
    torch.testing.assert_close(plain.float(), encoder.encode(PROMPTS), atol=5e-3, rtol=5e-3)
    for row, (prompt, tail) in enumerate(zip(PROMPTS, TAILS, strict=True)):
        before = [tokenizer.decode(wrote.tokens[row][:t]) for t in range(len(wrote.tokens[row]))]
        whole = [t for t, text in enumerate(before) if not (tail + " ")[len(text)].isalnum()]
        assert len(whole) > 3 and before[-1] == tail
        expected = encoder.encode([prompt + before[t] for t in whole])
        torch.testing.assert_close(states[row, whole].float(), expected, atol=5e-3, rtol=5e-3)
        assert not states[row, len(before) :].any()


def test_what_a_word_is_worth_is_foreseen_from_the_state_behind_it(reward):
    tokenizer = load_tokenizer("embedded")
    critic = GeneratorCritic(reward.generator.encoder, tokenizer, len(tokenizer))
    draw = np.random.default_rng(0)
    words = ["sunset", "fog", "oil painting", "8k", "baroque", "portrait"]

    def rollouts():
        texts = [", " + ", ".join(draw.choice(words, 3, replace=False)) for _ in range(48)]
        wrote, prompts = written(tokenizer, texts), [PROMPTS[i % 3] for i in range(48)]
        returns = torch.tensor([float("sunset" in text) for text in texts])[:, None] * wrote.mask
        return prompts, *critic.read(prompts, wrote), wrote.mask, returns

    _, plain, states, mask, _ = rollouts()
    assert not critic.values(plain, states, mask).any()
    for _ in range(4):
        critic.learn(*rollouts())
    _, plain, states, mask, returns = rollouts()
    values = critic.values(plain, states, mask)
    last = mask.sum(1) - 1
    at_the_end, worth = values[torch.arange(48), last], returns[torch.arange(48), last]
    assert not values[~mask.bool()].any()
    assert (at_the_end - worth).square().mean() < 0.5 * worth.var()
    assert values[:, 0].std() < 0.5 * at_the_end.std()  # nothing is written yet


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
    settings = {"critic": "generator", "completions_per_prompt": 4, "save_strategy": "steps", "save_steps": 2}
    settings |= {"max_steps": 6, "num_ppo_epochs": 1, "max_new_tokens": 5, "lam": 1.0}

    def run(folder):
        model = RewardModel(reward.generator.encoder, LEARNING)
        draws = PromptReward(reward.generator, reward.rewards, images_per_prompt=1, fresh_seeds=True)
        learns = PredictedReward(draws, model, 0.5)
        own = settings | {"output_dir": str(tmp_path / folder)}
        return trainer(tokenizer, tmp_path, learns, rewards={"encoder": reward.generator.encoder}, **own)

    whole, again = run("run"), run("run")
    whole.train()
    assert len(logged(whole, "drawn")) == 3 and len(logged(whole, "predicted/coverage_90")) == 2
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    for name, weight in weights(whole).items():
        assert torch.equal(weight, again.model.state_dict()[name]), name
    again.save_beside(tmp_path)
    beside = RewardModel.load(tmp_path / FOLDER, reward.generator.encoder)
    assert beside.facts["rows"] == whole.reward_funcs[0].model.facts["rows"] > 4


def test_a_critic_without_an_encoder_is_refused(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="none with a CLIP encoder"):
        trainer(tokenizer, tmp_path, lambda completions: [0.0] * len(completions), critic="generator")
    with pytest.raises(ValueError, match="policy, copy, generator"):
        trainer(tokenizer, tmp_path, lambda completions: [0.0] * len(completions), critic="head")
