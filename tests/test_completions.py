"""Rewrites as text: what may be asked, and what becomes of what a policy wrote."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.completions import append, check_prompt, finish, shortest_rewrite, why_left
from neuroprompt.decoding import ConstraintError, Constraints, check
from neuroprompt.prompts import Prompt, Window, count_clip_tokens


@pytest.mark.parametrize(
    ("head", "tail", "ended", "text"),
    [
        ("a cat", ", 8k, sharp focus", True, "a cat, 8k, sharp focus"),
        ("a cat", ", 8k, sharp foc", False, "a cat, 8k"),
        ("a cat", ", 8k, 8K, (8k:1.2), sharp focus", True, "a cat, 8k, sharp focus"),
        ("a cat, 8k", ", 8k, sharp focus", True, "a cat, 8k, sharp focus"),
        ("a cat,", ", 8k", True, "a cat, 8k"),
        ("a cat, ", ", 8k", True, "a cat, 8k"),
        ("a cat, ", ", cat, 8k", True, "a cat, 8k"),
        ("a cat", " by alphonse mucha, in the style of", True, "a cat by alphonse mucha"),
        ("a cat", ", 8k, art by", True, "a cat, 8k"),
        ("a cat", ", 8k, art", True, "a cat, 8k"),
        ("a cat", ", 8k, (open", True, "a cat, 8k"),
        ("a cat", "", True, "a cat"),
        ("A CAT", " . ", True, "A CAT"),
    ],
)
def test_finish(head, tail, ended, text):
    result, modifiers = finish(head, tail, ended, 77)
    assert result == text
    assert modifiers == list(Prompt.parse(text[len(head) :]).segments)


WISH = Constraints(artist="alphonse mucha", require=["golden hour|sunset"], forbid=["blurry", "sun"])


@given(
    st.lists(st.sampled_from(["8k", "by alphonse mucha", "at sunset", "golden hour", "(x:1.2)", "in the"])),
    st.booleans(),
)
def test_what_is_required_stays_whatever_the_window(written, ended):
    tail = "".join(f", {modifier}" for modifier in [*written, "alphonse mucha", "golden hour", "8k"])
    for head in ("a cat", "a cat, ", "a cat at sunset"):
        least = count_clip_tokens(shortest_rewrite(head, WISH))
        for window in (least, least + 4, 77):
            text, added = finish(head, tail, ended, window, WISH)
            assert text.startswith(head) and check(text, WISH) and count_clip_tokens(text) <= window
            assert added == list(Prompt.parse(text[len(head) :]).segments)


def test_a_window_of_other_tokens_holds_as_one_of_clips_does():
    """Required phrases stay, the rest goes where the generator's own tokenizer counts too many, and messages say so."""
    window = Window(7, "T5", lambda text: len(text.split()))
    made = ("a cat, 8k, golden hour", ["8k", "golden hour"])
    wish = Constraints(require=["golden hour"])
    assert finish("a cat", ", 8k, golden hour, matte, oil painting", True, window, wish)[1][-1] == "matte"
    assert finish("a cat", ", 8k, golden hour, oil painting", True, Window(5, "T5", window.count), wish) == made
    assert append("a cat", ["8k", "oil painting"], Window(3, "T5", window.count)) == ("a cat, 8k", ["8k"])
    with pytest.raises(ConstraintError, match="takes 4 T5 tokens, and the window has 3"):
        check_prompt("a cat", wish, Window(3, "T5", window.count))


def test_the_shortest_rewrite_adds_what_is_missing_alone():
    assert shortest_rewrite("a cat", WISH) == "a cat, alphonse mucha, sunset"
    assert shortest_rewrite("a cat, ", WISH) == "a cat, alphonse mucha, sunset"
    assert shortest_rewrite("a cat at sunset;", WISH) == "a cat at sunset; alphonse mucha"
    assert shortest_rewrite("sunset by alphonse mucha", WISH) == "sunset by alphonse mucha"


@pytest.mark.parametrize(
    ("prompt", "constraints", "error", "message"),
    [
        (3, None, TypeError, "must be a string, not int"),
        ("", None, ValueError, "the prompt is empty$"),
        (", ;", None, ValueError, "the prompt is empty: ', ;'"),
        ("a\0cat", None, ValueError, r"NUL character: 'a\\x00cat'"),
        ("a\ud800cat", None, ValueError, r"half a character: 'a\\ud800cat'"),
        ("a blurry cat", WISH, ConstraintError, "itself says 'blurry'"),
        (
            "a cat " * 36,
            WISH,
            ConstraintError,
            r"takes 79 CLIP tokens, and the window has 77",
        ),
    ],
)
def test_what_cannot_be_rewritten_is_said(prompt, constraints, error, message):
    with pytest.raises(error, match=message):
        check_prompt(prompt, constraints)


def test_a_prompt_is_checked_without_pytorch():
    """The text work is light: what is wrong with a prompt comes out before a second of imports."""
    script = (
        "import sys, neuroprompt.completions as c; c.check_prompt('a cat'); "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_required_phrases_are_spelt_as_they_were_given_and_set_apart_by_a_blank():
    wish = Constraints(require=["Straße", "富士山", "OPEN sign"])
    text, added = finish("a cat", ",strasse,富士山,  highly  detailed, open  sign", True, None, wish)
    assert text == "a cat, Straße, 富士山, highly detailed, OPEN sign"
    assert added == ["Straße", "富士山", "highly detailed", "OPEN sign"]


@pytest.mark.parametrize(
    "text",
    ["x", "Z", "é", "!!!", "...", "12345", "8k", "(a:1.2)", "<lora:epiNoise:0.8>", "<lora:a:1>, <lora:b:0.5>", "<br/>",
     "https://example.com/cat.png", "www.example.com", "═══", "-- 16:9"],
)  # fmt: skip
def test_what_describes_nothing_is_left(text):
    assert "nothing in it" in why_left(text)


@pytest.mark.parametrize(
    "text",
    ["def f(x): return x + 1", "SELECT * FROM users WHERE id = 1;", "for (int i = 0; i < n; i++) { sum += a[i]; }",
     "import numpy as np", "console.log('fox')", "#include <stdio.h>", "if a == b: pass", "run(fox);"],
)  # fmt: skip
def test_code_is_left(text):
    assert "code" in why_left(text)


@pytest.mark.parametrize(
    "text",
    ["ox", "猫", "🦊", "ا", "ก", "(fox:1.2)", "((masterpiece)), [[fox]], {red}", "a fox (red) {blue}; a tree",
     "<b>a fox</b>", "https://example.com/cat.png a fox", "a c++ logo", "select a fox from the pack",
     "the function of art (modern)", "st. paul's cathedral", "cat -> dog",
     "seed=42, a fox", "a.m. light", '{"name": "fox", "size": 3}', "asdf qwer"],
)  # fmt: skip
def test_everything_else_is_rewritten(text):
    assert why_left(text) is None


@pytest.mark.parametrize(
    ("head", "tail", "text"),
    [
        ("ein roter Fuchs", ", golden hour, portrait, 8k, by van gogh", "ein roter Fuchs, 8k"),
        ("acuarela de un gato", ", 8k, portrait, loose brush strokes", "acuarela de un gato, loose brush strokes"),
        ("dibujo de un gato", ", photo, 8k, graphite on paper", "dibujo de un gato, graphite on paper"),
        ("猫", ", digital painting, detailed face, sharp focus", "猫, sharp focus"),
    ],
)
def test_what_is_added_to_a_text_that_is_not_understood_fits_any_picture(head, tail, text):
    assert finish(head, tail, True, 77, understood=False)[0] == text
    assert finish(head, tail, True, 77, coherent=False, understood=False)[0] == head + tail


def test_what_is_required_of_a_text_that_is_not_understood_stands_and_counts():
    wish = Constraints(require=["oil painting", "golden hour"])
    tail = ", oil painting, thick brush strokes, photo, golden hour, portrait"
    text, _ = finish("ein Fuchs", tail, True, 77, wish, understood=False)
    assert text == "ein Fuchs, oil painting, thick brush strokes, golden hour"


def test_separators_that_a_policy_doubles_are_one():
    assert finish("a castle", ",, fog, ,8k", True, None)[0] == "a castle, fog, 8k"


@pytest.mark.parametrize(
    ("head", "tail", "text"),
    [
        ("one distant truck", " engine, sunset", "one distant truck, sunset"),
        ("in the style of Dali", "tan, sunset", "in the style of Dali, sunset"),
        ("a castle", " and a red horse, sunset", "a castle, sunset"),
        ("a castle", " by alphonse mucha, sunset", "a castle by alphonse mucha, sunset"),
        ("a castle, ", "red walls, sunset", "a castle, red walls, sunset"),
    ],
)
def test_the_last_word_of_the_user_does_not_become_another(head, tail, text):
    assert finish(head, tail, True, None)[0] == text


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        (", Mount Fuji runway portrayed, 8k", ", Mount Fuji, 8k"),
        (", painting of Mount Fuji, 8k", ", painting of Mount Fuji, 8k"),
        (", (mount fuji:1.2), 8k", ", (Mount Fuji:1.2), 8k"),
    ],
)
def test_a_required_phrase_is_set_free_of_what_is_no_modifier(tail, text):
    assert finish("a farol", tail, True, None, Constraints(require="Mount Fuji"))[0] == "a farol" + text
