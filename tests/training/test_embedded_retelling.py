import re

import pytest

from neuroprompt.artists import names_somebody
from neuroprompt.degrading import content_words
from training.embedded.retelling import _rows, tell

SCENE = "a cozy cabin in a snowy forest with smoke coming from the chimney"


def test_a_list_becomes_prose_that_says_its_scene_and_its_modifiers():
    text = tell(f"{SCENE}, oil painting, soft lighting, muted colors, highly detailed, trending on artstation")
    assert set(content_words(SCENE)) <= set(content_words(text))
    assert "oil painting" in text and re.search(r"soft|diffuse|gently", text.lower()) and "artstation" not in text
    assert re.fullmatch(r"(?:[A-Z][^.]+\.(?: |$)){1,5}", text) and 15 <= len(text.split()) <= 60
    assert text == tell(f"{SCENE}, oil painting, soft lighting, muted colors, highly detailed, trending on artstation")


def test_of_contradictions_the_first_is_said_and_living_artists_are_not_named():
    text = tell(f"{SCENE}, at night, pencil sketch, photograph, studio lighting, by greg rutkowski, by monet")
    assert "pencil" in text and "photograph" not in text and "udio" not in text
    assert "rutkowski" not in text.lower() and not names_somebody(text)


@pytest.mark.parametrize(
    "prompt",
    [
        "cabin",  # no scene
        "a man holding a gun in front of a burning house in the forest, oil painting, 8k",
        "a portrait of emma watson in a garden with a cat on her lap, soft lighting",
        "a cozy kabin in a snowwy forest with smoke coming from the chimney, soft lighting",  # no words
        "please make a picture of a house in the forest with a small garden, soft lighting",
        f"{SCENE} by, oil painting, soft lighting",
    ],
)
def test_what_a_good_writer_would_not_sign_is_left_out(prompt):
    assert tell(prompt) is None


def test_the_table_is_whole():
    """Each modifier is said in one way, and each row has something to say."""
    rows = _rows("retelling.tsv")
    keys = [key for _, keys, _, _ in rows for key in keys.split(" | ")]
    assert len(keys) == len(set(keys))
    for _, _, phrases, sentences in rows:
        assert all(phrase and not phrase.endswith(".") for phrase in phrases.split(" | "))
        assert all(re.fullmatch(r"(?:[A-Z]|\{it\} ).*\.", sentence) for sentence in sentences.split(" | "))
