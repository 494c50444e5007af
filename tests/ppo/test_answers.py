"""Rewards of a policy whose text replaces the prompt are of the prompts that its answers are."""

import pytest

from neuroprompt.formats import CONTINUE, RETELL
from neuroprompt.ppo.answers import OfAnswers, finished, kept

PROMPT = "red foxes under a bridge"
WRITTEN = {
    'Here is the prompt: "A red fox sleeps under a stone bridge."': "A red fox sleeps under a stone bridge.",
    "<think>\nA fox.\n</think>\n\nTwo foxes at dawn.": "Two foxes at dawn.",
    "": None,
    "<think>\nWhat is a fox": None,
    "A red fox sleeps. Under": None,  # which did not come to its end
}
END = 7


def rewards(function, **settings):
    log = {}
    of_answers = OfAnswers(function, RETELL, END, **settings)
    ids = [[1, END] if text is not None else [1] for text in WRITTEN.values()]
    columns = {
        "prompts": [PROMPT] * len(WRITTEN),
        "completions": list(WRITTEN),
        "completion_ids": ids,
        "trainer_state": 5,
    }
    return of_answers(**columns, number=list(range(len(WRITTEN))), log_metric=log.__setitem__), log


def test_a_function_gets_the_answers_that_are_prompts_and_others_a_floor():
    seen = {}

    def length(prompts, completions, texts, number, trainer_state, log_metric):
        seen.update(texts=texts, completions=completions, number=number, state=trainer_state)
        log_metric("mine", 3)
        return [float(len(text)) for text in texts]

    given, log = rewards(length, unparsed_reward=-4.0)
    there = [text for text in WRITTEN.values() if text]
    assert given == [*map(len, there), -4, -4, -4]
    assert seen == {"texts": there, "completions": list(WRITTEN)[:2], "number": [0, 1], "state": 5}
    assert log == {"unparsed": 3 / 5, "kept": pytest.approx((1 + 1 / 3) / 2), "mine": 3}


def test_where_no_answer_is_a_prompt_no_function_is_asked(monkeypatch):
    monkeypatch.setitem(globals(), "WRITTEN", {"": None, "<think>": None})
    given, log = rewards(lambda prompts: 1 / 0)
    assert given == [-2, -2] and log == {"unparsed": 1}


def test_a_coroutine_function_is_awaited():
    async def one(texts):
        return [1.0] * len(texts)

    assert rewards(one)[0][:2] == [1, 1]


def test_an_answer_is_shortened_to_the_window_by_whole_sentences_and_gets_back_what_was_typed():
    long = "A red fox sleeps. " + "Mist drifts over the river and the old stones. " * 20
    text = finished(RETELL, "(red:1.3) fox", long, True, 32).text
    assert text.startswith("A (red:1.3) fox sleeps. Mist") and text.endswith("stones.") and len(text) < 140
    assert finished(CONTINUE, "a fox", ", oil painting, 8", False, 77).text == "a fox, oil painting"


@pytest.mark.parametrize(
    ("prompt", "text", "share"),
    [("red foxes", "A fox.", 1 / 2), ("two red foxes", "2 foxes, red as rust", 1), ("the", "A fox.", 1)],
)
def test_words_are_kept_in_whatever_form(prompt, text, share):
    assert kept(prompt, text) == share
