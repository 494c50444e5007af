"""What may be drawn."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from neuroprompt.decoding import check
from neuroprompt.prompts import CLIP_WINDOW, count_clip_tokens, modifier_key
from neuroprompt.search.candidates import Space
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
        keys = [modifier_key(m) for m in space.modifiers[text]]
        assert len(set(keys)) == len(keys)


def test_what_a_person_would_not_sign_is_not_drawn_unless_all_is_asked_for():
    modifiers = ["octane render", "by greg rutkowski", "graphite", "white background"]
    made, kept = (Space("a pencil sketch", coherent=c).text(modifiers, random.Random(0)) for c in (True, False))
    assert kept == "a pencil sketch, octane render, by greg rutkowski, graphite, white background"
    assert made == "a pencil sketch, white background"
