import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.completions import finish
from neuroprompt.fit import ANYTHING, is_unusual, kinds_of, log_lift
from neuroprompt.judge import Judge

USUAL = {
    "white ceramic mug on a wooden table": ["product photography", "natural light", "highly detailed", "8k"],
    "simple pencil sketch of an apple": ["black and white", "white background"],
    "low poly mountain": ["isometric"],
    "logo for a coffee roaster": ["vector", "minimalist"],
    "35mm photograph of a diner at night": ["film grain", "neon lights"],
    "pixel art knight with a torch": ["8k"],  # this contradicts, which is another question
}
UNUSUAL = {
    "white ceramic mug on a wooden table": ["steampunk", "by alphonse mucha", "anime"],
    "simple pencil sketch of an apple": ["concept art", "wide angle"],
    "a meadow full of poppies after rain": ["night time"],
    "toddler in a yellow raincoat jumping in a puddle": ["dark background", "portrait"],
    "logo for a coffee roaster": ["wide angle"],
    "low poly mountain": ["steampunk"],
    "a chalkboard that reads 2 + 2 = 5": ["horror", "fantasy"],
}


@pytest.mark.parametrize(("prompt", "modifier"), [(p, m) for p, ms in USUAL.items() for m in ms])
def test_what_people_write_there_is_usual(prompt, modifier):
    assert not is_unusual(prompt, modifier), log_lift(prompt, modifier)


@pytest.mark.parametrize(("prompt", "modifier"), [(p, m) for p, ms in UNUSUAL.items() for m in ms])
def test_what_people_do_not_write_there_is_unusual(prompt, modifier):
    assert is_unusual(prompt, modifier), log_lift(prompt, modifier)


def test_case_accents_and_hyphens_make_no_difference():
    assert log_lift("A Low-Poly MOUNTAIN", "Iso-Metric") == log_lift("a low poly mountain", "iso metric")


def test_a_prompt_that_says_nothing_of_it_makes_nothing_unusual():
    lifts = [log_lift("桜の下で眠る猫", m) for m in ("oil painting", "horror", "by monet", "night")]
    assert all(abs(lift) < 0.25 for lift in lifts)
    assert log_lift("a castle", "qwertyuiop") is None


def test_what_fits_anything_is_never_unusual():
    assert not kinds_of("8k") and not kinds_of("highly detailed") and kinds_of("horror")
    assert not kinds_of("8k") & ANYTHING


@given(st.text(max_size=80), st.text(max_size=40))
def test_any_text_is_read(prompt, modifier):
    lift = log_lift(prompt, modifier)
    assert lift is None or -30 < lift < 30


def test_what_is_unusual_goes_where_it_is_asked_for_and_what_is_required_stays():
    prompt, tail = "a meadow full of poppies after rain", ", night time, 8k"
    assert finish(prompt, tail, True, None)[1] == ["night time", "8k"]
    assert finish(prompt, tail, True, None, usual=True)[1] == ["8k"]
    assert Judge(prompt, usual=True).objection("night time") == "unusual"
    assert Judge(prompt, required=["starry night"], usual=True).objection("night time") != "unusual"
