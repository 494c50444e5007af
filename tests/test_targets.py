import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.coherence import contradictions, group_of, repeated_groups
from neuroprompt.modifiers import suggestions
from neuroprompt.prompts import Prompt
from neuroprompt.targets import KEPT, MAX_MODIFIERS, REASONS, mend


@pytest.mark.parametrize(
    "prompt, completion, mended",
    [
        ("a castle", ", highly detailed, oil painting", ", highly detailed, oil painting"),
        # names
        ("a castle", ", by greg rutkowski, highly detailed", ", highly detailed"),
        ("a castle", " by alphonse mucha, highly detailed", " by alphonse mucha, highly detailed"),
        ("a castle", " by greg rutkowski, highly detailed", ", highly detailed"),
        ("a castle", ", art by artgerm and alphonse mucha, intricate", ", intricate"),
        ("a castle", ", intricate, thomas cole", ", intricate, by thomas cole"),
        # the same twice, and what contradicts
        ("a castle", ", 4k, 8k, uhd, sharp focus", ", 4k, sharp focus"),
        ("a 4k castle, sharp focus", ", very sharp, matte painting", ", matte painting"),
        ("pencil sketch of a fox", ", octane render, white background", ", white background"),
        ("a fox", ", watercolor, photorealistic, soft lighting", ", watercolor, soft lighting"),
        # broken, cut off, alone, jargon
        ("a fox", ", k, 3, highly detailed, sharp foc, the eye, 4k", ", highly detailed, 4k"),
        ("a fox", ", no text, watermark, old, anime", ", anime"),
        ("a fox", ", art by, in the style of, anime", ", anime"),
        # of the subject
        ("a bowl of strawberries", ", detailed face, actor, studio lighting", ", studio lighting"),
        # spelling
        ("a fox", "; (highly detailed:1.2) | [anime]", ", highly detailed, anime"),
        ("a fox", ", f 1. 8, and sharp focus!", ", f/1.8, sharp focus"),
        ("a fox", "", ""),
    ],
)
def test_targets_are_mended(prompt, completion, mended):
    assert mend(prompt, completion)[0] == mended


def test_reasons_are_given_for_each_modifier():
    completion = (
        ", by greg rutkowski, trending on pixiv, no text, sharp foc, riding home, detailed face, 8k, 4k, octane render"
    )
    _, became = mend("pencil drawing of a pear", completion)
    assert became == [
        "name", "site", "jargon", "no words", "no modifier", "not of the subject", "contradiction", "contradiction",
        "contradiction",
    ]  # fmt: skip


def test_artists_of_one_s_choice():
    completion = " by greg rutkowski, by alphonse mucha, oil painting"
    assert mend("a fox", completion, "all")[0] == " by greg rutkowski, by alphonse mucha, oil painting"
    assert mend("a fox", completion, "historical")[0] == ", by alphonse mucha, oil painting"
    assert mend("a fox", completion, "none")[0] == ", oil painting"


def test_one_completion_in_ten_says_artstation():
    said = sum("artstation" in mend(f"a fox number {i}", ", trending on artstation, 8k")[0] for i in range(1000))
    assert 60 < said < 140


modifiers = st.sampled_from(
    [term for c in ("style", "format", "booster", "vibe", "artist") for term, _ in suggestions(c, 150)]
)
subjects = st.sampled_from(
    ["a cat", "pencil sketch of an apple", "photo of a man", "logo for a bakery", "a castle, 8k", ""]
)


@given(subjects, st.lists(modifiers, max_size=25))
def test_mended_targets_say_nothing_twice_and_contradict_nothing(prompt, listed):
    completion = "".join(f", {m}" for m in listed)
    mended, became = mend(prompt, completion)
    parsed = Prompt.parse(mended)
    assert len(became) == len(Prompt.parse(completion).segments) and set(became) <= {KEPT, *REASONS}
    assert became.count(KEPT) == len(parsed.segments) <= MAX_MODIFIERS
    known = {group_of(s) for s in Prompt.parse(prompt).segments}
    assert all(group not in known for group in map(group_of, parsed.segments) if group)
    assert not repeated_groups(mended)
    assert len(contradictions(prompt + mended)) == len(contradictions(prompt))
    assert mend(prompt, mended)[0] == mended


def test_of_boosters_the_first_two_stay():
    kept, became = mend("a castle", ", highly detailed, 8k, sharp focus, golden hour, fog")
    assert kept == ", highly detailed, 8k, golden hour, fog"
    assert became == ["kept", "kept", "booster", "kept", "kept"]
