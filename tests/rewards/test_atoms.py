"""The reward atoms on a tiny random model of a real family: what each question gets, and what becomes of it."""

import math

import pytest
import torch

from neuroprompt.cli.options import RewardOptions
from neuroprompt.questions import SHOWN, Question, rules, write_questions
from neuroprompt.rewards import Component, RewardSet, load_rewards
from neuroprompt.rewards.atoms import LEAST, Atoms, load
from neuroprompt.rewards.encoders import Encoders
from neuroprompt.scoring import RewardArguments
from tests.checkpoints.vision_language import smolvlm

KNOWN = {
    "a castle": (
        Question("Is there a castle?"),
        Question("Is there no dog?", "entity", (), "no"),
        Question("How many castles are in the image?", "count", (1,), "four"),
    )
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return smolvlm(tmp_path_factory.mktemp("vlm") / "smolvlm")


@pytest.fixture(scope="module")
def encoders():
    return Encoders(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    path = tmp_path_factory.mktemp("questions") / "questions.json"
    write_questions(path, KNOWN)
    return path


def test_each_question_is_asked_alone_and_the_mean_is_over_what_is_left(encoders, folder, known, images):
    atoms = load(folder, encoders, known)
    castle, wish = " a castle", "a red cat"  # the file knows a prompt without the blanks around it
    answers = atoms.answers([castle, wish], images[:2])
    assert [[question for question, _ in own] for own in answers] == [[*KNOWN["a castle"]], [*rules(wish)]]
    yes = atoms.model.yes(
        images[:1].repeat(2, 1, 1, 1), [f"{q.text} Please answer yes or no." for q, _ in answers[0][:2]]
    )
    soft = [score for _, score in answers[0]]
    assert soft[:2] == pytest.approx([yes[0].item(), 1 - yes[1].item()], abs=1e-6)
    assert soft[1] >= SHOWN  # since a random model says nothing but by chance
    spoken = atoms.model.likelihood(images[:1], [f"{KNOWN['a castle'][2].text} Answer in one word."], ["four"])
    assert soft[2] == pytest.approx(spoken.exp().item(), abs=1e-6)
    assert answers[1][1][1] == 0  # "Is the cat red?": no cat is shown
    scores = atoms([castle, wish], images[:2])
    assert scores.dtype == torch.float32
    assert scores.tolist() == pytest.approx([sum(s for _, s in own) / len(own) for own in answers], abs=1e-6)


def test_the_geometric_mean_is_of_whole_prompts():
    model = type("Model", (), {"device": torch.device("cpu")})()
    own = [(Question("?"), 0.9), (Question("?"), 0.4), (Question("?"), 0.0)]
    assert Atoms(model, mean="geometric").score([own]).item() == pytest.approx((0.9 * 0.4 * LEAST) ** (1 / 3))


def test_a_set_measures_it_once_and_tells_the_answers(encoders, folder, known, images):
    rewards = load_rewards(f"atoms[{folder}]", atoms=known, device="cpu")
    answers = {}
    scores = rewards(["a castle"], images[:1], answers=answers)["atoms"]
    assert scores.item() == pytest.approx(sum(score for _, score in answers["atoms"][0]) / 3, abs=1e-6)
    other = RewardSet([Component(load(folder, encoders))]).components[0].reward
    assert other.fingerprint != rewards.components[0].reward.fingerprint  # other questions, other scores
    assert math.isnan(rewards(["a castle"], images[:1] * math.nan)["atoms"].item())


@pytest.mark.parametrize("wrong", [{"mean": "harmonic"}, {"questions": "missing.json"}])
def test_what_is_wrong_comes_before_the_model(encoders, wrong):
    with pytest.raises(ValueError, match=r"harmonic|missing\.json"):
        load("no/model", encoders, **wrong)


def test_a_question_file_without_its_reward_or_its_prompts_is_a_mistake(known, folder, capsys):
    assert RewardArguments(rewards="pickscore", judge="atoms", atoms=str(known))
    with pytest.raises(ValueError, match="neither rewards nor judge name it"):
        RewardArguments(rewards="pickscore", atoms=str(known))
    with pytest.raises(ValueError, match=r"questions\.json has no questions about 'an owl'"):
        RewardOptions(atoms=str(known)).check(["an owl", "a fox"])
    RewardOptions(atoms=str(known)).check(["an owl", " a castle"])
    assert "rules ask about 1 prompt" in capsys.readouterr().err
    measured = RewardOptions(rewards="vqa", atoms=str(known), reward_model=str(folder)).load(["embedded"], "cpu")
    assert [(c.reward.name, c.weight) for c in measured.components] == [("vqa", 1.0), ("atoms", 0.0)]


def test_where_models_come_from_is_asked_of_those_that_are_not_named(known):
    named = "vqa[a/model],hps[http://localhost:8808]"
    assert not RewardOptions(rewards=named).takes_source
    assert RewardOptions(rewards=named, atoms=str(known)).takes_source and RewardOptions().takes_source
