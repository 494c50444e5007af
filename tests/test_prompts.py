import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neuroprompt.prompts import (
    Prompt,
    Window,
    clip_tokenizer,
    count_clip_tokens,
    join_negatives,
    modifier_key,
    normalise,
    split_negative,
)

prompt_texts = st.text(st.sampled_from(list("ab é日😀,;|.()[]{}<>:\\\n\t BREAK-1")), max_size=60) | st.text(max_size=60)


@given(prompt_texts)
def test_parse_loses_nothing(text):
    prompt = Prompt.parse(text)
    assert str(prompt) == text
    assert len(prompt.separators) == len(prompt.segments) + 1
    assert all(s and s == s.strip() for s in prompt.segments)


pieces = st.lists(st.sampled_from(["a", "ab", "st", *".,;|() \n\\", "..", "BREAK"]), max_size=9).map("".join)


@given(prompt_texts | pieces)
@example("ab.;")
@example("ab..")
@example("a\n.")
@example("a. .,a")
@example("ab.BREAK")
def test_normalise_is_idempotent_and_tidy(text):
    once = normalise(text)
    assert normalise(once) == once
    assert once == once.strip()
    assert "  " not in once


@given(prompt_texts)
def test_normalise_keeps_every_word(text):
    def letters(t):
        return [c for c in t if c.isalnum()]

    assert sorted(letters(normalise(text))) == sorted(letters(normalise(normalise(text))))
    assert (
        "".join(letters(Prompt.parse(text).subject))
        == "".join(letters(text))[: len(letters(Prompt.parse(text).subject))]
    )


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("boy on a horse", ["boy on a horse"]),
        ("a castle, highly detailed,8k", ["a castle", "highly detailed", "8k"]),
        ("a (red, blue:1.3) cat, [x, y]", ["a (red, blue:1.3) cat", "[x, y]"]),
        ("a cat, <lora:name:0.8>, {a|b}", ["a cat", "<lora:name:0.8>", "{a|b}"]),
        ("a cat BREAK a dog", ["a cat", "a dog"]),
        ("BREAKFAST in bed", ["BREAKFAST in bed"]),
        ("a sad cat :(, rain, (fog", ["a sad cat :(", "rain", "(fog"]),
        ("by j. c. leyendecker. st. paul", ["by j. c. leyendecker", "st. paul"]),
        (r"a \(cat\), rain", [r"a \(cat\)", "rain"]),
        ("f 1.8, 35 mm", ["f 1.8", "35 mm"]),
        ("a cat | a dog\na bird; a fish", ["a cat", "a dog", "a bird", "a fish"]),
        ("", []),
        (" ,, ", []),
    ],
)
def test_segments(text, segments):
    assert list(Prompt.parse(text).segments) == segments


def test_parse_is_linear():
    text = "(" * 20_000 + "a, b " * 10_000 + ")" * 100
    assert str(Prompt.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "tidy"),
    [
        ("  a   cat ,highly detailed,, 8k , ", "a cat, highly detailed, 8k"),
        ("a cat|a dog", "a cat | a dog"),
        ("(red,  blue:1.3) cat", "(red, blue:1.3) cat"),
        ("a cat\x00\x07 sleeps", "a cat sleeps"),
        ("a cat.  a dog", "a cat. a dog"),
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_normalise(text, tidy):
    assert normalise(text) == tidy


def test_keep_takes_the_separator_along():
    prompt = Prompt.parse("a cat, 8k | sharp focus; by monet")
    assert str(prompt.keep([True, False, True, True])) == "a cat | sharp focus; by monet"


def test_modifier_key_ignores_typing():
    assert len({modifier_key(t) for t in ["Highly-Detailed", "(highly detailed:1.2)", "highly  detailed!!!"]}) == 1
    assert modifier_key("f 1.8") != modifier_key("f 1.4")
    assert modifier_key("!!!") == "!!!"


def test_clip_tokens_agree_with_open_clip():
    from open_clip.tokenizer import SimpleTokenizer

    reference = SimpleTokenizer()
    generator = random.Random(0)
    words = [
        "boy",
        "horse's",
        "8k",
        "café",
        "日本",
        "😀",
        "(art:1.2)",
        "<lora:x>",
        "it's",
        "ultra-detailed",
        "!!",
        "1920x1080",
    ]
    for _ in range(200):
        text = " ".join(generator.choices(words, k=generator.randint(0, 12)))
        assert clip_tokenizer()(text)["input_ids"][1:-1] == reference.encode(text)
        assert count_clip_tokens(text) == len(reference.encode(text)) + 2


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        ("a fox\nNegative prompt: blurry, ugly\nSteps: 20, Sampler: Euler a, Seed: 1", "a fox", "blurry, ugly"),
        ("a fox,\nin snow\nNegative prompt: blurry\nugly", "a fox,\nin snow", "blurry\nugly"),
        ("a fox\r\nnegative prompt:blurry\r\nSteps: 20, Seed: 1\r\n", "a fox", "blurry"),
        ("a fox\nSteps: 20, Seed: 1", "a fox", None),
        ("a fox\nNegative prompt:\nSteps: 20, Seed: 1", "a fox", None),
        ("Negative prompt: blurry", "", "blurry"),
        (
            'a sign "Negative prompt: none", steps: 20, stairs ',
            'a sign "Negative prompt: none", steps: 20, stairs ',
            None,
        ),
        ("Steps: 3 of them, leading up\na door", "Steps: 3 of them, leading up\na door", None),
    ],
)
def test_split_negative(text, prompt, negative):
    assert split_negative(text) == (prompt, negative)


def test_a_window_is_a_number_of_clip_tokens_or_counted_as_its_generator_reads():
    text = "a castle, " * 3
    for window, tokens in ((11, count_clip_tokens(text)), (Window(11, "words", lambda t: len(t.split())), 6)):
        window = Window.of(window)
        assert window.count(text) == tokens and window.room(text) == 11 - tokens
    assert Window.of(11).holds(text) and not Window.of(10).holds(text) and Window.of(None).holds(text * 1000)


@given(prompt_texts)
def test_an_estimate_is_above_clips_count_and_what_is_saved_says_how_it_was_counted(text):
    own = Window(256, "T5", len)
    assert [Window.of(w).setting for w in (77, None, own)] == [77, None, {"tokens": 256, "counter": "T5"}]
    saved = Window.of(json.loads(json.dumps(own.setting)))
    assert saved == Window.estimated(256) and saved.count(text) > count_clip_tokens(text)


def test_negative_prompts_are_joined_without_saying_anything_twice():
    assert join_negatives("blurry, ugly", None, "Blurry", "", "text, ugly") == "blurry, ugly, text, ugly"
    assert join_negatives("(worst quality:1.4), ", "people") == "(worst quality:1.4), people"
    assert join_negatives(None, "") is None
