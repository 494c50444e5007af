"""The judge of modifiers, and what it leaves of a policy's rewrite."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.coherence import contradictions, repeated_groups, unknown_words
from neuroprompt.completions import finish
from neuroprompt.decoding import Constraints, check
from neuroprompt.judge import REASONS, Judge, faults
from neuroprompt.modifiers import CATEGORIES, vocabulary
from neuroprompt.prompts import Prompt

OBJECTIONS = {  # prompt, what was added, the next modifier: the reason
    ("a castle", "8k", "by greg rutkowski"): "name",
    ("a castle", "8k", "art by somebody unheard"): "name",
    ("a queen", "8k", "emma watson"): "name",
    ("a castle", "baroque", "by alphonse mucha"): "",
    ("a castle", "8k", "trending on artstation"): "site",
    ("a castle", "8k", "no watermark"): "jargon",
    ("a castle", "8k", "sharp foc"): "no words",
    ("a castle", "8k", "k"): "no words",
    ("a castle", "8k", "1990"): "no words",
    ("a castle", "8k", "in the style of"): "no words",
    ("a castle", "8k", "!!!"): "no words",
    ("a teapot", "8k", "detailed eyes"): "not of the subject",
    ("a woman", "8k", "detailed eyes"): "",
    ("a castle", "8k", "4k resolution"): "said before",
    ("a castle, digital painting", "8k", "painting"): "said before",
    ("a castle", "8k", "highly detailed 4k"): "said before",
    ("a castle, god rays", "soft lighting", "green light"): "said before",
    ("a castle", "dramatic cinematic lighting", "cinematic lighting"): "said before",
    ("pencil sketch of a fox", "", "octane render"): "contradiction",
    ("a fox", "oil on canvas", "octane render"): "contradiction",
    ("a shoggoth", "8k", "shoggoth shaped clouds"): "",
    ("a teapot on a table", "8k", "horror"): "unusual",
    ("a teapot on a table", "8k", "papyrus"): "unusual",  # too few say so anywhere to tell
    ("a teapot on a table", "8k, highly detailed", "cinematic"): "booster",
    ("a castle", "8k, highly detailed", "cinematic"): "",
    ("a castle", "by monet, by rembrandt", "by alphonse mucha"): "name",
    ("a castle", "8k", "amazing d art"): "no words",
    ("a castle", "8k", "high camera camera view"): "no words",
    ("a street", "80s", "retro 1950s"): "contradiction",
    ("ink drawing of a tree", "8k", "pencil sketch"): "contradiction",
    ("a mug", "white background", "blue background"): "said before",
}


@pytest.mark.parametrize("prompt, added, modifier", OBJECTIONS, ids=str)
def test_objections(prompt, added, modifier):
    reason = OBJECTIONS[prompt, added, modifier]
    judge = Judge(prompt, usual=reason in ("unusual", "booster"))
    for earlier in added.split(", "):
        judge.add(earlier)
    assert judge.objection(modifier) == reason


@pytest.mark.parametrize(
    ("head", "tail", "text"),
    [
        ("simple pencil sketch of an apple", ", cinematic lighting, 8k, white background", ", white background"),
        ("kitten yawning", ", 3, 4k, 8k, uhd, sharp foc", ", 4k"),
        ("a single pear", ", actor, by greg rutkowski, studio lighting", ", studio lighting"),
        ("by greg rutkowski, a castle", ", art by greg rutkowski, 8k", ", 8k"),
        ("a castle", ", trending on artstation, octane render, octane", ", octane render"),
        ("a castle", " by alphonse mucha, by mucha, oil painting", " by alphonse mucha, oil painting"),
        ("a castle", " on a hill at sunset, 8k", " on a hill at sunset, 8k"),
    ],
)
def test_what_a_person_would_not_sign_goes(head, tail, text):
    assert finish(head, tail, True, 77) == (head + text, list(Prompt.parse(text).segments))
    assert finish(head, tail, True, 77, coherent=False)[1] == list(dict.fromkeys(Prompt.parse(tail).segments))


OIL = Constraints(format="oil painting")


@pytest.mark.parametrize(
    ("wish", "tail", "text"),
    [
        # what is required goes before what the policy wrote, and is never judged
        (Constraints(format="pencil sketch"), ", octane render, 4k, pencil sketch", ", pencil sketch"),
        (Constraints(require="8k"), ", 4k, uhd, 8k, hd", ", 8k"),
        (Constraints(artist="greg rutkowski"), ", 8k, by greg rutkowski, artgerm", ", 8k, by greg rutkowski"),
        (Constraints(require=["xyzzy", "4k", "8k"]), ", xyzzy, 4k, plugh, 8k", ", xyzzy, 4k, 8k"),
        (Constraints(require="trending on artstation"), ", trending on artstation", ", trending on artstation"),
        # a phrase that a good modifier holds as well stands once
        (OIL, ", fine oil painting, baroque, oil painting", ", fine oil painting, baroque"),
        (OIL, ", oil painting, baroque, fine oil painting", ", baroque, fine oil painting"),
        (OIL, ", oil painting, oil painting by artgerm", ", oil painting"),
        (Constraints(require=["oil", "painting"]), ", oil, painting, baroque", ", oil, painting, baroque"),
    ],
)
def test_what_is_required_stays(wish, tail, text):
    assert finish("a cat", tail, True, 77, wish)[0] == "a cat" + text
    assert check("a cat" + text, wish)


heads = st.sampled_from(
    [
        "a cat",
        "simple pencil sketch of an apple",
        "photorealistic pixel art of a knight, 8k, 4k",
        "portrait of a queen by greg rutkowski",
        "a bowl of xyzzy, ",
        "flat vector icon of a bell;",
        "日本の城",
    ]
)
written = st.lists(
    st.one_of(
        st.sampled_from([term for category in CATEGORIES for term in list(vocabulary(category))[:120]]),
        st.sampled_from(["sharp foc", "k", "3", "detailed eyes", "art by", "(8k:1.2)", "no text", "emma watson", "猫"]),
    ),
    max_size=14,
)


@given(heads, written, st.booleans(), st.sampled_from([77, 24, None]))
def test_a_finished_prompt_has_no_fault_but_the_user_s_own(head, modifiers, ended, window):
    tail = "".join(f", {modifier}" for modifier in modifiers)
    text, added = finish(head, tail, ended, window)
    assert len(contradictions(text)) == len(contradictions(head))
    groups = {group: len(said) for group, said in repeated_groups(head).items()}
    assert {group: len(said) for group, said in repeated_groups(text).items()} == groups
    assert unknown_words(", ".join(added), known=[head]) == []
    assert finish(head, text[len(head) :], True, window) == (text, added)


wishes = st.fixed_dictionaries(
    {},
    optional={
        "format": st.sampled_from(["oil painting", "pencil sketch", "pixel art|3d render"]),
        "booster": st.sampled_from(["8k", "highly detailed", "trending on artstation"]),
        "artist": st.sampled_from(["greg rutkowski", "alphonse mucha"]),
        "require": st.sampled_from(["xyzzy", "k", "猫", "detailed eyes"]),
        "forbid": st.sampled_from(["4k", "matte painting", "cat"]),
    },
)


@given(st.sampled_from(["a dog", "photo of a teapot"]), wishes, written, st.randoms(use_true_random=False))
def test_what_is_required_stays_whatever_else_goes(head, wish, modifiers, random):
    wish = Constraints(**wish)
    allowed = [m for m in modifiers if check(m, Constraints(forbid=wish.forbid))]
    needed = [random.choice(phrases) for phrases in wish.clauses]
    listed = random.sample([*allowed, *needed], len(allowed) + len(needed))
    text, added = finish(head, "".join(f", {m}" for m in listed), True, None, wish)
    assert check(text, wish)
    assert finish(head, text[len(head) :], True, None, wish) == (text, added)
    others = [m for m in added if m not in needed]
    judge = Judge(head, needed)
    for modifier in others:
        alone = [m for m in added if m != modifier]
        assert not judge.objection(modifier) or not check(", ".join([head, *alone]), wish)
        judge.add(modifier)


def test_a_name_does_not_go_over_a_comma():
    assert faults("an owl", "an owl, psychedelic art, green light").living_artists == ()
    assert faults("an owl", "an owl, by art green").living_artists


def test_every_reason_is_given():
    assert {reason for reason in OBJECTIONS.values() if reason} == set(REASONS)


@pytest.mark.parametrize(
    ("prompt", "added", "modifier", "reason"),
    [
        ("fog over a birch forest", "8k", "foggy", "said before"),
        ("a castle", "cinematic", "cinematic lighting", "said before"),
        ("a castle", "award winning photo", "photorealistic", "said before"),
        ("a castle", "aerial view", "first person view", "said before"),
        ("a running shoe, side view", "8k", "close up", "contradiction"),
        ("stormy sea", "by ivan aivazovsky", "by claude monet", "name"),
        ("a castle", "elegant, 8k", "epic", "booster"),
        ("a castle", "highly detailed, 8k", "fog", ""),
    ],
)
def test_a_reader_wants_every_word_to_be_meant(prompt, added, modifier, reason):
    strict, other = Judge(prompt, usual=True), Judge(prompt)
    for earlier in added.split(", "):
        strict.add(earlier)
        other.add(earlier)
    assert strict.objection(modifier) == reason
    assert not other.objection(modifier)
