"""A user's own function as a reward: named by its file, from specs, YAML and the command line."""

import re
import sys

import pytest
import torch
import yaml

from neuroprompt.image_files import PictureInfo, save_image
from neuroprompt.rewards import load_reward, load_rewards, parse_spec
from neuroprompt.runs.arguments import read_arguments
from neuroprompt.scoring import DrawingError, RewardArguments, build_reward
from tests.rehearsal.documents import documented_reward
from tests.test_cli import command  # noqa: F401

FILE = """\
import torch
from beside import FACTOR

def brightness(prompts, images):
    return FACTOR * images.mean((1, 2, 3))

def length(prompts, images):
    return [len(prompt) for prompt in prompts]

def brevity(prompts, images, texts):
    return [-len(text) for text in texts]

def fails(prompts, images):
    part = images[:, 0]
    return part / {}["nothing"]

def none(prompts, images): return None
def one(prompts, images): return images.mean()
def square(prompts, images): return torch.zeros(2, len(images))
def words(prompts, images): return prompts

number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with `mine.py` and a module beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "beside.py").write_text("FACTOR = 2.0\n")
    (tmp_path / "broken.py").write_text("x = 1\nif x\n")
    (tmp_path / "stops.py").write_text("\nraise KeyError('a\\nb')\n")
    yield tmp_path
    for name in ("mine", "beside", "broken", "stops"):
        sys.modules.pop(name, None)


def test_a_function_counts_as_any_reward(folder, prompts, images):
    spec = "clip:0, mine.py:brightness:0.5@0.9, mine:length:-1"
    assert [tuple(part) for part in parse_spec(spec)] == [
        ("clip", None, 0.0, None),
        ("mine.py:brightness", None, 0.5, 0.9),
        ("mine:length", None, -1.0, None),
    ]
    rewards = load_rewards(spec, "embedded", "cpu")
    assert [(c.reward.name, c.weight, c.cap) for c in rewards.components[1:]] == [
        ("brightness", 0.5, 0.9),
        ("length", -1.0, None),
    ]
    scores = rewards(prompts, images)
    assert torch.equal(scores["brightness"], 2 * images.mean((1, 2, 3))) and scores["brightness"].dtype == torch.float32
    assert scores["length"].tolist() == [14.0, 20.0, 14.0, 9.0]
    assert load_reward(str(folder / "mine.py") + ":length")(prompts, images).tolist() == scores["length"].tolist()


def test_a_function_may_read_what_was_drawn(folder, prompts, images):
    rewards = load_rewards("mine.py:brevity")
    assert rewards(prompts, images)["brevity"].tolist() == [-len(prompt) for prompt in prompts]
    assert rewards(prompts, images, ["ab"] * len(prompts))["brevity"].tolist() == [-2] * len(prompts)


def test_names_that_are_there_twice(folder, prompts, images):
    (folder / "other.py").write_text("def length(prompts, images): return [0.0] * len(prompts)\n")
    rewards = load_rewards("mine.py:length,other.py:length:2,mine.py:brightness", device="cpu")
    assert list(rewards(prompts, images)) == ["mine.py:length", "other.py:length", "brightness"]
    (folder / "other.py").write_text("def clip(prompts, images): return [0.0] * len(prompts)\n")
    assert list(load_rewards("clip,other.py:clip", "embedded", "cpu")(prompts, images))[1] == "other.py:clip"


def test_the_fingerprint_is_of_the_file_and_the_name(folder):
    first, other = load_reward("mine.py:length"), load_reward("mine.py:brightness")
    assert load_reward("mine.py:length").fingerprint == first.fingerprint == load_reward("mine:length").fingerprint
    (folder / "mine.py").write_text(FILE.replace("len(prompt)", "2 * len(prompt)"))
    assert len({first.fingerprint, other.fingerprint, load_reward("mine.py:length").fingerprint}) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.py:length", "there is no file nowhere.py"),
        ("no_module:length", "there is no module 'no_module'"),
        ("no.module:length:1", "there is no module 'no.module'"),
        ("mine.py:brightnes:0.5", "mine.py has no function 'brightnes': 'brightness'?"),
        ("mine.py:number", "mine.py has no function 'number'"),
        ("mine.py", "there is no reward 'mine.py' (in 'mine.py'): choose from pickscore"),
        ("mine.py[x]:length", "there is no reward 'mine.py' (in 'mine.py[x]:length')"),
        ("mine.py:length[x]", "cannot read 'mine.py:length[x]'"),
        ("mine.py:length:much", "the weight in 'mine.py:length:much' must be a number, not 'much'"),
        ("mine.py:length,mine.py:length:2", "has mine.py:length twice"),
        ("broken.py:x", "broken.py cannot be loaded in line 2: SyntaxError: expected ':'"),
        ("stops.py:x", "stops.py cannot be loaded in line 2: KeyError: 'a\\nb'"),
        ("clip:x", "the weight in 'clip:x' must be a number"),
    ],
)
def test_what_cannot_be_loaded(folder, spec, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_rewards(f"pickscore,{spec}", "no/model", "cpu")  # it comes out before models are loaded
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails", "mine.py:fails fails in line 15: KeyError: 'nothing'"),
        ("none", "mine.py:none gives a NoneType for 4 pictures: it must give a tensor or list of shape (4,)"),
        ("one", "mine.py:one gives a Tensor of shape () for 4 pictures"),
        ("square", "mine.py:square gives a Tensor of shape (2, 4) for 4 pictures"),
        ("words", "mine.py:words gives a list for 4 pictures"),
    ],
)
def test_what_a_function_does_wrong(folder, name, message, prompts, images):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_rewards(f"mine.py:{name}")(prompts, images)
    assert "\n" not in str(error.value)


def test_the_documented_reward(folder, images):
    (folder / "my_file.py").write_text(documented_reward())
    scores = load_rewards("my_file.py:colourful")(
        ["a cat"] * 5, torch.cat([images, images[:1].mean(1, True).expand(1, 3, -1, -1)])
    )
    assert (
        scores["colourful"][-1] == pytest.approx(0, abs=1e-6) and scores["colourful"][:-1].min() > 0.05
    )  # grey, others


def test_from_yaml_to_a_reward(folder):
    """As `training/ppo.py --config my.yaml` reads it."""
    settings = {"generator": {"steps": 1}, "rewards": "clip:0,mine.py:brightness:0.5@0.4", "reward_model": "embedded"}
    (folder / "my.yaml").write_text(yaml.safe_dump(settings | {"relative": "brightness", "images_per_prompt": 1}))
    (arguments,) = read_arguments([RewardArguments], "", ["--config", "my.yaml"])
    reward = build_reward(arguments, "cpu")
    got = reward(["a castle"], [", night"])[0]
    plain, rewritten = (
        reward.measure([t], ["a castle"], reward.seeds("a castle")) for t in ("a castle", "a castle, night")
    )
    capped = [min(m.scores["brightness"][0], 0.4) for m in (rewritten, plain)]
    assert got == pytest.approx(0.5 * (capped[0] - capped[1]), abs=1e-4)
    with pytest.raises(ValueError, match=r"there is no file yours\.py"):
        read_arguments([RewardArguments], "", ["--config", "my.yaml", "--rewards", "yours.py:brightness"])
    broken = build_reward(RewardArguments({"steps": 1}, rewards="mine.py:fails"), "cpu")
    with pytest.raises(
        DrawingError, match=r"'a castle, night'.*: ValueError: mine.py:fails fails in line 15: KeyError"
    ):
        broken.score(["a castle"], ["a castle, night"])


def test_from_the_command_line(folder, command):  # noqa: F811
    image = torch.full((3, 8, 8), 0.25)
    save_image(image, "a.png", PictureInfo("a cat", "a cat, 8k", 0, "embedded"))
    code, out, err = command("score", "a.png", "--rewards", "mine.py:brightness,mine.py:length:0", "--json")
    assert code == 0 and '"brightness": 0.50' in out and '"length": 5.0' in out, err
    words = ["--steps", 1, "--methods", "plain", "-o", "g.png", "--rewards"]
    code, _, err = command("grid", "a cat", *words, "mine.py:brightness")
    assert code == 0 and (folder / "g.png").is_file(), err
    code, _, err = command("grid", "a cat", *words, "mine.py:brightnes")
    assert code == 2 and "error: mine.py has no function 'brightnes': 'brightness'?" in err and err.count("\n") == 1
    code, _, err = command("score", "a.png", "--rewards", "mine.py:fails")
    assert code == 2 and "a.png: mine.py:fails fails in line 15: KeyError: 'nothing'" in err
