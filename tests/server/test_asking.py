"""Whom a request asks, and how: one of several policies, for a family of generators, with an instruction; what is kept
and what the picture must not show. A chat model of random weights stands for one that retells."""

import pytest
from starlette.testclient import TestClient

from neuroprompt import Constraints
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.families import FAMILIES
from neuroprompt.server import work
from neuroprompt.server.app import create_app
from neuroprompt.server.errors import Problem
from neuroprompt.server.settings import ServeSettings
from neuroprompt.server.work import Asking, Rewrite
from tests.checkpoints.policies import qwen3

PROMPT = "two red foxes under an old bridge"
SHORT = {"num_beams": 2, "max_new_tokens": 48}  # since a random model does not end by itself


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return qwen3(tmp_path_factory.mktemp("policies") / "chat", place=4096, size=4352)


@pytest.fixture(scope="module")
def settings(chat):
    return ServeSettings(model=["embedded", str(chat)], generator="none", device="cpu")


@pytest.fixture(scope="module")
def answers(settings):
    return work.policy(settings)


def ask(answers, prompt=PROMPT, wish=(), decoding=(), **asking):
    ((made,),) = answers([Rewrite(prompt, 0, dict(wish), dict(decoding), Asking(**asking))])
    return made


def test_another_policy_is_the_librarys_and_its_words_are_marked(answers, chat):
    wish, decoding = {"forbid": ["ugly"]}, {"keep": ("old bridge",), "negative": "blurry", **SHORT}
    made = ask(answers, wish=wish, decoding=decoding, model="chat", family="flux")
    policy = PromptEnhancer.from_pretrained(chat, device="cpu").asked(family=FAMILIES["flux"])
    expected = policy(PROMPT, Constraints(**wish), **decoding)
    assert (made["text"], made["negative"]) == (expected.text, "blurry, ugly")
    marked = [made["text"][start:end].lower() for start, end in made["kept"]]
    assert {"red", "old bridge"} <= {*marked}
    assert ask(answers)["kept"] is None  # of a policy that continues: they are at the head


def test_a_family_is_a_window_and_an_instruction_another_question(answers):
    long = ", ".join(["a castle of many towers"] * 30)
    assert "the window has 77" in ask(answers, long)["warning"]
    assert "the window has 77" not in (ask(answers, long, family="flux", decoding=SHORT)["warning"] or "")
    said = (None, "Write a haiku.", "Say it: {prompt}")
    asked = [ask(answers, model="chat", instruction=instruction, decoding=SHORT) for instruction in said]
    assert len({made["score"] for made in asked}) == 3  # which is of the answer after what was asked


def test_what_differs_is_not_decoded_together():
    same = Rewrite("a", asking=Asking("chat", "flux"))
    for other in (Asking("embedded", "flux"), Asking("chat", "sdxl"), Asking("chat", "flux", "Write a haiku.")):
        assert Rewrite("b", asking=other).group != same.group == Rewrite("b", asking=Asking("chat", "flux")).group


def test_an_instruction_that_cannot_be_followed_and_a_model_that_is_broken_are_problems_of_their_request(
    answers, settings, chat
):
    (problem,) = answers([Rewrite(PROMPT, asking=Asking(instruction="Write a haiku."))])
    assert problem.status == 422 and "embedded is no chat model: write {prompt}" in str(problem)
    assert str(chat.parent) not in str(problem)
    weights = chat / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    try:
        with pytest.raises(Problem, match=r"^chat could not be loaded: the server's log says why$"):
            work._load_another("chat", settings)
    finally:
        weights.write_bytes(whole)


def test_models_are_named_by_their_folders_and_others_are_not_asked(settings, chat):
    assert [*settings.policies] == ["embedded", "chat"]
    client = TestClient(create_app(settings), "http://127.0.0.1")
    for body, says in (
        ({"model": str(chat)}, "is not served here: choose from embedded, chat"),
        ({"for": "dall-e"}, "for: Input should be 'sd15'"),
        ({"instruction": "x" * 2001}, "2,001 characters in the instruction are too many"),
        ({"keep": ["x" * 2001]}, "2,001 characters in phrases"),
    ):
        answer = client.post("/v1/enhance", json={"prompts": "a cat"} | body)
        assert answer.status_code == 422 and says in answer.json()["error"]["message"], answer.text
    info = client.get("/info").json()
    assert info["policies"] == [{"name": "embedded", "retells": None}, {"name": "chat", "retells": None}]  # not yet
    with pytest.raises(ValueError, match="two models are called 'chat'"):
        ServeSettings(model=[str(chat), "chat"])
    with pytest.raises(ValueError, match="no family of generators 'dall-e'"):
        ServeSettings(family="dall-e")


def test_the_operators_generator_says_the_family():
    named = {"black-forest-labs/FLUX.1-dev": "flux", "embedded": "sd15", "none": None, "http://flux.example": None}
    for generator, family in named.items():
        made_for = ServeSettings(generator=generator).made_for
        assert (made_for and made_for.name) == family
    assert ServeSettings(generator="none", family="sdxl").made_for is FAMILIES["sdxl"]
