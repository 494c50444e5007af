"""Rows for a reward model: drawn, of an evaluation and of a search, each worth what the reward itself says."""

import json

import pytest

from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.evaluation.harness import evaluate
from neuroprompt.evaluation.methods import parse_methods
from neuroprompt.images import ImageGenerator
from neuroprompt.reward_model import RewardModel, RewardModelConfig
from neuroprompt.rewards import load_rewards
from neuroprompt.scoring import PromptReward, RewardArguments
from neuroprompt.search import SearchConfig, optimize
from neuroprompt.training.reward_model import RewardModelArguments, _of_results, train_reward_model

PROMPTS = ["boy on a horse", "a castle", "a red fox"]
QUICK = RewardModelConfig(members=2, hidden=[8], fit_steps=20)


@pytest.fixture(scope="module")
def reward():
    generator = ImageGenerator.from_pretrained("embedded", device="cpu", steps=1)
    return PromptReward(generator, load_rewards("pickscore:1,clip:0", "embedded", "cpu"), images_per_prompt=2)


@pytest.fixture(scope="module")
def results(reward, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "evaluation"
    evaluate(PROMPTS, parse_methods("plain,suffix,random"), reward, folder, examples=0)
    return folder


def test_rows_of_an_evaluation(reward, results):
    _, about, rows = _of_results(str(results))
    assert len(rows) == 9 and {row.pictures for row in rows} == {2} and about["generator"]["name"] == "embedded"
    known = reward.score([row.plain for row in rows], [row.text for row in rows])
    assert [row.gain for row in rows] == pytest.approx(known, abs=2e-3)  # batches round


def test_rows_of_a_search(reward, enhancer, tmp_path):
    state = tmp_path / "search.json"
    optimize("a castle", reward, enhancer, SearchConfig(budget=8, held_out=0, strategy="best-of-n"), state=state)
    _, about, rows = _of_results(str(state))
    settings = reward.settings()
    assert about["generator"]["fingerprint"] == reward.generator.fingerprint
    assert about["rewards"] == json.loads(json.dumps(settings["rewards"]))
    (original,) = [row for row in rows if row.text == "a castle"]
    assert original.gain == 0 and len(rows) == 4 and all(row.pictures == 2 for row in rows)
    state.write_text("{}")
    with pytest.raises(ValueError, match="is no state of a search"):
        _of_results(str(state))


def test_it_is_drawn_once_and_learnt_from_beside_results(reward, results, tmp_path, monkeypatch, capsys):
    queries = tmp_path / "queries.txt"
    queries.write_text("\n".join(PROMPTS))
    rewards = RewardArguments(
        generator={"name": "embedded", "steps": 1}, rewards="pickscore:1", reward_model="embedded", images_per_prompt=1
    )
    arguments = RewardModelArguments(
        [str(results)], str(queries), samples=2, device="cpu", output_dir=str(tmp_path / "reward_model")
    )
    model = train_reward_model(arguments, QUICK, rewards)
    assert 12 < model.facts["rows"] <= 15 and model.facts["prompts"] == 3
    assert "the reward model is in" in capsys.readouterr().err
    loaded = RewardModel.load(arguments.folder, reward.generator.encoder)
    assert loaded.facts == model.facts and loaded.facts["rewards"]["pickscore"]["weight"] == 1

    def nothing(*_, **__):
        raise AssertionError("it was drawn already")

    monkeypatch.setattr(PromptEnhancer, "from_pretrained", nothing)
    again = train_reward_model(arguments, QUICK, rewards)
    assert again.facts == model.facts and (again.score(PROMPTS, PROMPTS) == model.score(PROMPTS, PROMPTS)).all()
    other = RewardArguments(generator={"name": "embedded", "steps": 2}, rewards="pickscore:1", reward_model="embedded")
    with pytest.raises(ValueError, match="holds another drawing"):
        train_reward_model(arguments, QUICK, other)


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to learn from"):
        RewardModelArguments(output_dir=str(tmp_path))
    with pytest.raises(ValueError, match="output_dir is not set"):
        RewardModelArguments(queries="prompts.txt")
