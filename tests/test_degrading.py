import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.degrading import LEAST_ADDED, MAX_WORDS, content_words, core, degrade, head_noun, unsaid

PROSE = [
    "A red fox is sleeping under an old stone bridge, in soft morning light. Mist drifts over the river.",
    "An oil painting of a lonely lighthouse on a cliff, in the manner of Claude Monet. The mood is calm.",
    "In this photograph, two old men are playing chess in a park, seen from above. The background is blurred.",
    "This watercolor shows an ancient library with a glass dome, in the style of art nouveau. The colors are soft.",
]
TAGS = [
    "a portrait of an old fisherman with a long white beard, oil painting, highly detailed, by rembrandt",
    "8k, masterpiece, (a burning house:1.2) at night, <lora:film:0.7>, trending on artstation",
]


def words(text):
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.lower())


@pytest.mark.parametrize("expert", PROSE + TAGS)
def test_plain_prompts_say_less_in_the_same_words(expert):
    plain = degrade(expert)
    assert plain
    for prompt in plain:
        assert 2 <= len(prompt.split()) <= min(MAX_WORDS, len(words(expert)) - LEAST_ADDED)
        assert set(content_words(prompt)) <= set(words(expert)) and content_words(prompt)


# Clauses and words in any order, most of them no English, which the rules must survive as well.
@given(
    st.lists(
        st.sampled_from([*" ".join(PROSE + TAGS).split(" "), ",", ".", "a", "an", "with", "is", "standing"])
        | st.text(max_size=8),
        max_size=30,
    ).map(" ".join)
)
def test_whatever_the_text_nothing_is_added(expert):
    for prompt in degrade(expert):
        assert set(content_words(prompt)) <= set(words(expert))
        assert 2 <= len(prompt.split()) <= MAX_WORDS
        assert not unsaid(prompt, expert)


def test_each_strength_leaves_less():
    """By hash: the same on every machine, and in every process."""
    fox, lighthouse, *_ = PROSE
    assert degrade(fox) == [
        "red fox sleeping under stone bridge",
        "fox sleeping under stone bridge",
        "fox under stone bridge",
    ]
    assert degrade(lighthouse) == [
        "lonely lighthouse on cliff, oil painting, by claude monet",
        "lighthouse on cliff oil painting by claude monet",
        "lighthouse on cliff, oil painting, by claude monet",
    ]
    assert degrade("8k, masterpiece") == degrade("") == []


def test_a_medium_and_a_style_are_mostly_typed_and_a_photograph_is_not():
    def typed(medium, word):
        subjects = [
            f"a {noun} on a {place}" for noun in ("cat", "dog", "fox", "boat") for place in ("hill", "box", "mat")
        ]
        plain = [p for s in subjects for p in degrade(f"{medium} {s}, in soft light. The mood is calm and still.")]
        return sum(word in p for p in plain) / len(plain)

    assert typed("An oil painting of", "oil painting") > 0.6
    assert typed("A photograph of", "photo") < 0.4


def test_the_core_tells_subjects_apart_and_not_wordings():
    fox = PROSE[0]
    assert core(fox) == core(fox.replace("old ", "").replace("soft morning", "cold")) != core(PROSE[1])
    assert core("8k") == "8k"


@pytest.mark.parametrize(
    ("scene", "head"),
    [
        ("a red fox asleep under a bridge", "fox"),
        ("an old stone bridge", "bridge"),
        ("a giant walking in a city", "giant"),
    ],
)
def test_head_noun(scene, head):
    assert head_noun(scene) == head


def test_unsaid_allows_inflections_alone():
    assert unsaid("foxes under a bridge", "A fox sleeps under a bridge.") == []
    assert unsaid("fox under a red bridge", "A vixen sleeps under a bridge.") == ["fox", "red"]
