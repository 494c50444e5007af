"""Search, pairs, SFT and PPO as one run, on the embedded models: stopped wherever it can be, and taken up."""

import json

import pytest
import torch

from neuroprompt.data import PromptData
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.policies import load_policy
from neuroprompt.programs import Stopped
from neuroprompt.scoring import PromptReward, RewardArguments
from neuroprompt.training import distil as stages
from neuroprompt.training.distil import DistilArguments, distil

PROMPTS = ["boy on a horse", "a castle", "a red fox", "an old fisherman", "a bowl of cherries", "mountain lake"]
REWARDS = {
    "generator": {"name": "embedded", "steps": 1, "batch_size": 16},
    "rewards": "pickscore:1",
    "reward_model": "embedded",
    "images_per_prompt": 1,
}
TRAINING = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True, "logging_steps": 1}
SFT = TRAINING | {
    "config": "configs/sft/embedded_distilled.yaml",
    "max_steps": 2,
    "minibatch_size": 4,
    "eval_steps": 1,
    "save_steps": 1,
    "sample_prompts": ["a castle"],
}
PPO = TRAINING | {
    "config": "configs/ppo/embedded.yaml",
    "queries": "",
    "total_episodes": 4,
    "rollout_batch_size": 4,
    "minibatch_size": 4,
    "completions_per_prompt": 2,
    "max_new_tokens": 4,
    "min_modifiers": 1,
    "num_ppo_epochs": 1,
    "eval_samples": 0,
    "eval_queries": None,
    "save_iterations": 1,
    "load_best_model_at_end": False,
    "generator": REWARDS["generator"],
}


def arguments(tmp_path, name="run", **settings):
    queries = tmp_path / "queries.txt"
    queries.write_text("\n".join(PROMPTS))
    settings = {"budget": 5, "samples": 1, "together": 2, "errors": 0, "least": -99.0} | settings
    settings = {"sft": SFT, "validation_share": 0.6, "device": "cpu"} | settings
    return DistilArguments(str(queries), output_dir=str(tmp_path / name), **settings)


def test_a_search_is_distilled_and_goes_on_wherever_it_was_stopped(tmp_path, monkeypatch):
    ppo = PPO | {"queries": str(tmp_path / "queries.txt")}
    run, reward = arguments(tmp_path, ppo=ppo), RewardArguments(**REWARDS)
    calls, measure = [], PromptReward.measure

    def interrupted(self, *args, **kwargs):
        calls.append(len(args[0]))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return measure(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(PromptReward, "measure", interrupted)
        with pytest.raises(Stopped, match="the same command goes on"):
            distil(run, reward)
    search = run.folder("search")
    assert len((search / "records.jsonl").read_text().splitlines()) == 2 and list(search.glob("state-2.json"))

    def stopped(*_):
        raise Stopped("after the search")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "train_sft", stopped)
        with pytest.raises(Stopped, match="after the search"):
            distil(run, reward)
    records = [json.loads(line) for line in (search / "records.jsonl").read_text().splitlines()]
    assert sorted(record["original"] for record in records) == sorted(PROMPTS) and not list(search.glob("state-*"))
    assert all(record["images"] == 5 == sum(n for *_, n in record["drawn"]) for record in records)
    assert all(record["selected_error"] > 0 for record in records if record["text"] != record["original"])
    pairs = PromptData.load(run.folder("pairs")).pairs
    rows = {row["prompt"] + row["completion"] for split in pairs.values() for row in split}
    assert rows == {record["text"] for record in records if record["text"] != record["original"]}
    assert pairs.keys() == {"train", "validation"} and all(c[0] == "," for c in pairs["train"]["completion"])

    def again(*_, **__):
        raise AssertionError("it was done already")

    with monkeypatch.context() as patch:  # what is drawn is drawn
        patch.setattr(stages, "optimize", again)
        patch.setattr(stages, "train_ppo", stopped)
        with pytest.raises(Stopped, match="after the search"):
            distil(run, reward)
    monkeypatch.setattr(stages, "optimize", again)
    monkeypatch.setattr(stages, "train_sft", again)
    distil(run, reward)
    assert PromptEnhancer.from_pretrained(str(run.folder("sft")), device="cpu")("a castle").text.startswith("a castle")
    # PPO trains adapters: all else is as SFT left it, which is not as it was before.
    before, learnt, ended = (
        load_policy(str(policy)).get_input_embeddings().weight
        for policy in ("embedded", *map(run.folder, ("sft", "ppo")))
    )
    assert torch.equal(learnt, ended) and not torch.equal(before, learnt)
    monkeypatch.setattr(stages, "train_ppo", again)
    distil(run, reward)
    with pytest.raises(ValueError, match=r"sft holds another training: .*max_steps"):
        distil(arguments(tmp_path, sft=SFT | {"max_steps": 3}), reward)
    with pytest.raises(ValueError, match=r"search holds another search: .*budget"):
        distil(arguments(tmp_path, budget=6), reward)


def test_processes_share_the_search(tmp_path, monkeypatch):
    """Each does its own units, and together they find what one finds."""
    one, two = arguments(tmp_path, "one"), arguments(tmp_path, "two")
    reward, found = RewardArguments(**REWARDS), []
    for run, shards in ((one, [(1, 1)]), (two, [(2, 2), (1, 2)])):
        for shard in shards:
            stages._search_shard(run, reward, PROMPTS, shard)
        assert not stages._experiment(run, PROMPTS).missing()
        found.append(list(stages._experiment(run, PROMPTS).records()))
    assert len(list(two.folder("search").glob("records-*-of-2.jsonl"))) == 2
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"sft": None}, "sft is not set"),
        ({"sft": "nowhere.yaml"}, "there is no file nowhere.yaml"),
        ({"sft": "{config: nowhere.yaml}"}, "there is no file nowhere.yaml"),
        ({"together": 0}, "together is 0"),
        ({"validation_share": 1.0}, "validation_share is 1.0"),
        ({"strategy": "luck"}, "unknown strategy 'luck'"),
    ],
)
def test_what_is_wrong_is_said_first(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **wrong)
