import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.questions import Question, rules, whole
from neuroprompt.questions.question import in_order

PIECES = ["a ", " red ", " two ", " fox", " of ", " and ", " on ", " A", "\0"]


def asked(prompt):
    return [question.text for question in rules(prompt)]


@pytest.mark.parametrize(
    "prompt, questions",
    [
        ("owl", "Is there an owl?"),
        ("boy on a horse", "Is there a boy? Is there a horse? Is the boy on the horse?"),
        ("three foxes", "Are there foxes? Are there three foxes?"),
        ("two red foxes under a bridge", "Are there foxes? Are there two foxes? Are the foxes red? Is there a bridge? "
         "Are the foxes under the bridge?"),
        ("an owl to the left of a fox", "Is there an owl? Is there a fox? Is the owl to the left of the fox?"),
        ("a red cube and a blue cube", "Is there a cube? Is there a red cube? Is there a blue cube?"),
        ("the red and white umbrellas", "Are there umbrellas? Are the umbrellas red and white?"),
        ("a watercolor painting of a cat riding a dragon", "Is this a watercolor painting? Is there a cat? Is there a "
         "dragon? Is the cat riding a dragon?"),
        ("a pair of brown suede shoes", "Are there suede shoes? Are the suede shoes brown?"),
        ("a bear playing violin in the snow", "Is there a bear? Is there snow? Is the bear playing violin?"),
        ("a bowl of cherries, 8k, trending on artstation", "Is there a bowl? Are there cherries?"),
        ("A sloth on a log. The sloth is holding a banana.", "Is there a sloth? Is there a log? Is there a banana? "
         "Is the sloth on the log? Is the sloth holding a banana?"),
        ("Pikachu in front of the Eiffel Tower", "Does this figure show Pikachu? Does this figure show the Eiffel "
         "Tower? Is Pikachu in front of the Eiffel Tower?"),
        ("(a red:1.3) fox <lora:film:0.7>", "Is there a fox? Is the fox red?"),
        # Nothing about what is a part of a name, compared, denied, imagined, of a picture, or what nobody sees.
        ("alien wearing a top hat", "Is there an alien? Is there a hat? Is the alien wearing a hat?"),
        ("a black hole", "Is there a black hole?"),
        ("a hot dog", "Is there a hot dog?"),
        ("a dog that looks like a cat", "Is there a dog?"),
        ("a street without people", "Is there a street?"),
        ("a cat dreaming about becoming a tiger", "Is there a cat?"),
        ("a t-shirt with 'a fox' written on it", "Is there a t-shirt?"),
        (4000 * "a pair of " + "shoes", "Are there shoes?"),
        ("inspiration", 'Does this figure show "inspiration"?'),
        ("ein roter Fuchs", 'Does this figure show "ein roter Fuchs"?'),
        ("", 'Does this figure show ""?'),
    ],
)  # fmt: skip
def test_what_rules_ask(prompt, questions):
    assert " ".join(asked(prompt)) == questions


def test_what_is_said_of_a_thing_waits_for_it():
    cube, red, sphere, blue, on = rules("a red cube on a blue sphere")
    assert (red.kind, red.parents, blue.parents, on.kind, on.parents) == ("colour", (0,), (2,), "relation", (0, 2))
    assert not cube.parents and not sphere.parents and cube.kind == sphere.kind == "entity"


def test_where_rules_find_nothing_the_whole_is_asked():
    assert rules("\n  hope\t ") == (whole("hope"),) == (Question('Does this figure show "hope"?', "global"),)


@given(st.lists(st.sampled_from([*"aeiou nst,.'\"()<>:", *PIECES])).map("".join))
def test_any_text_has_questions_in_an_order(prompt):
    questions = rules(prompt)
    assert questions and in_order([question.parents for question in questions])
    assert all(question.text.endswith("?") for question in questions)
