"""What may be drawn."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from neuroprompt.decoding import check
from neuroprompt.prompts import CLIP_WINDOW, count_clip_tokens, modifier_key, split_negative
from neuroprompt.search.candidates import Space
from neuroprompt.search.negatives import MOST, PHRASES
from tests.search.world import TERMS, WISH


@settings(max_examples=40)
@given(
    st.lists(
        st.one_of(st.sampled_from([*TERMS, "by greg rutkowski", "a, b", "(x", "", "\n"]), st.text(max_size=20)),
        max_size=12,
    )
)
def test_any_list_of_modifiers_becomes_an_allowed_text(modifiers):
    for wish in (None, WISH):
        space = Space("a castle", wish)
        text = space.text(modifiers, random.Random(0))
        if text is None:
            continue
        assert text.startswith("a castle") and count_clip_tokens(text) <= CLIP_WINDOW
        assert not wish or check(text, wish)
        keys = [modifier_key(m) for m in space.drawn[text].modifiers]
        assert len(set(keys)) == len(keys)


def test_what_a_person_would_not_sign_is_not_drawn_unless_all_is_asked_for():
    modifiers = ["octane render", "by greg rutkowski", "graphite", "white background"]
    made, kept = (Space("a pencil sketch", coherent=c).text(modifiers, random.Random(0)) for c in (True, False))
    assert kept == "a pencil sketch, octane render, by greg rutkowski, graphite, white background"
    assert made == "a pencil sketch, white background"


@given(st.lists(st.sampled_from(TERMS), max_size=5), st.integers(0, 99))
def test_a_candidate_may_have_a_negative_prompt_beside_it(modifiers, seed):
    """Of usual phrases, behind what is forbidden, with nothing that the text says; the rewrite itself is as ever."""
    original = "a blurry photograph of a logo"
    space = Space(original, WISH, negatives=True)
    candidate = space.text(modifiers, random.Random(seed))
    drawn = space.drawn[candidate]
    assert split_negative(candidate) in ((drawn.text, drawn.negative), (drawn.text, None))
    assert drawn.text == Space(original, WISH).text(modifiers, random.Random(seed))
    forbidden, chosen = drawn.negative.split(", ")[:2], drawn.negative.split(", ")[2:]
    assert forbidden == list(WISH.forbid) and len(chosen) <= MOST and set(chosen) <= set(PHRASES)
    assert not {"blurry", "photograph", "logo"} & set(chosen)
    assert space.drawn[original] == (original, (), None)


def test_where_there_is_no_room_negative_prompts_are_searched_alone():
    full = "a castle by the sea " * 20
    assert not Space(full).open and Space(full, negatives=True).open
    space = Space(full, negatives=True)
    candidates = [space.text(["ink"], random.Random(seed)) for seed in range(9)]
    assert {space.drawn[candidate].text for candidate in candidates} == {full} and len(set(candidates)) > 3
