import copy
import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from neuroprompt.coherence import (
    contradictions,
    controls,
    fits_anything,
    is_understood,
    repeated_groups,
    unknown_words,
)
from neuroprompt.decoding import ConstraintError, Constraints, occurrences
from neuroprompt.enhancer import EnhancedPrompt, PromptEnhancer
from neuroprompt.formats import CONTINUE
from neuroprompt.models import ModelError
from neuroprompt.prompts import Prompt, count_clip_tokens, modifier_key

SUBJECTS = [
    "boy on a horse",
    "A Castle",
    "portrait of an old fisherman mending his nets on the pier in the evening",
    "robot playing guitar, oil painting",
    "two cats, ",
    "ein Hund",
    "日本の城 🏯",
    "(a red fox:1.3) in <lora:snow:0.8>",
]


def assert_sound(result: EnhancedPrompt, original: str, window: int = 77):
    assert result.original == original
    assert result.text.startswith(original)
    assert result.clip_tokens == count_clip_tokens(result.text) <= window
    keys = [modifier_key(s) for s in Prompt.parse(result.text).segments]
    assert len(keys) == len(set(keys))
    assert not result.text[len(original) :].endswith((",", " ", "by", " in the style of"))
    assert [m.text for m in result.modifiers] == list(Prompt.parse(result.text[len(original) :]).segments)
    assert math.isfinite(result.score) and result.score < 0


def test_one_prompt_gets_modifiers(enhancer):
    result = enhancer("boy on a horse")
    assert_sound(result, "boy on a horse")
    assert len(result.modifiers) >= 3
    assert any(m.category for m in result.modifiers)


def test_a_list_gives_a_list_in_order(enhancer):
    results = enhancer(SUBJECTS)
    for result, subject in zip(results, SUBJECTS, strict=True):
        assert_sound(result, subject)
    assert len({r.text[len(r.original) :] for r in results}) == len(SUBJECTS)
    assert enhancer([]) == []


def test_rewrite_gives_variants_by_prompt_and_a_call_what_is_handy(enhancer):
    one, two = (enhancer.rewrite(SUBJECTS[:3], num_return_sequences=n) for n in (1, 2))
    assert [len(variants) for variants in one + two] == [1, 1, 1, 2, 2, 2]

    def same(results, others):  # but for scores, which are sums of another batch
        for result, other in zip(results, others, strict=True):
            assert replace(result, score=None) == replace(other, score=None)
            assert result.score == pytest.approx(other.score, abs=1e-4)

    same(enhancer(SUBJECTS[:3]), [variants[0] for variants in one])
    same([enhancer(SUBJECTS[0])], one[0])
    for variants, others in zip(enhancer(SUBJECTS[:3], num_return_sequences=2), two, strict=True):
        same(variants, others)
    same(enhancer(SUBJECTS[0], num_return_sequences=2), two[0])
    assert enhancer.rewrite([]) == []


def test_each_prompt_may_have_a_seed_of_its_own(enhancer):
    prompts, seeds = ["a red fox", "a red fox", "a castle"], [7, 8, 7]
    together = enhancer.rewrite(prompts, seeds=seeds, num_return_sequences=2)
    for prompt, seed, variants in zip(prompts, seeds, together, strict=True):
        (alone,) = enhancer.rewrite([prompt], seed=seed, num_return_sequences=2)
        assert [(v.text, v.seed) for v in variants] == [(v.text, seed) for v in alone]
    assert [v.text for v in together[0]] != [v.text for v in together[1]]


@pytest.mark.parametrize("arguments", [{}, {"seed": 3, "num_return_sequences": 3}])
def test_results_do_not_depend_on_the_batch(enhancer, arguments):
    subjects = SUBJECTS[:: 2 if arguments else 1]
    together = enhancer.rewrite(subjects, **arguments)
    shuffled = random.Random(0).sample(range(len(subjects)), len(subjects))
    elsewhere = enhancer.rewrite([subjects[i] for i in shuffled], batch_size=3, **arguments)
    for i, again in zip(shuffled, elsewhere, strict=True):
        assert [result.text for result in together[i]] == [result.text for result in again]
    for i in (0, 2, -1):
        (alone,) = enhancer.rewrite([subjects[i]], **arguments)
        assert [result.text for result in together[i]] == [result.text for result in alone]


def test_variants_differ_and_repeat_by_seed(enhancer):
    first = enhancer("boy on a horse", num_return_sequences=4, seed=7)
    assert len({r.text for r in first}) == 4
    assert all(r.seed == 7 for r in first)
    for result in first:
        assert_sound(result, "boy on a horse")
    assert [r.text for r in enhancer("boy on a horse", num_return_sequences=4, seed=7)] == [r.text for r in first]
    assert {r.text for r in enhancer("boy on a horse", num_return_sequences=4, seed=8)}.isdisjoint(
        r.text for r in first
    )
    # the variants that were asked for first stay when more are asked for
    assert [r.text for r in enhancer("boy on a horse", num_return_sequences=6, seed=7)][:4] == [r.text for r in first]


def test_beam_search_returns_different_prompts(enhancer):
    results = enhancer("boy on a horse", num_return_sequences=3, do_sample=False)
    assert len({r.text for r in results}) == 3


def test_the_score_is_the_policys_own(enhancer):
    result = enhancer("boy on a horse")
    ids = CONTINUE.encode(enhancer.tokenizer, ["boy on a horse"])[0]
    added = enhancer.tokenizer(result.text[len(result.original) :])["input_ids"]
    with torch.no_grad():
        logits = enhancer.model(torch.tensor([ids + added])).logits[0].double()
    logprobs = torch.log_softmax(logits, -1)
    expected = sum(logprobs[len(ids) - 1 + i, token].item() for i, token in enumerate(added)) / len(added)
    assert result.score == pytest.approx(expected, abs=1e-4)


def test_scores_are_left_out_where_nobody_wants_them(enhancer):
    arguments = {"num_return_sequences": 3, "do_sample": True, "seed": 2}
    full, bare = enhancer("a castle", **arguments), enhancer("a castle", output_scores=False, **arguments)
    assert bare == [replace(result, score=None) for result in full]


@pytest.mark.parametrize("window", [12, 30, 77, 120])
def test_the_window_holds(enhancer, window):
    for result in enhancer(["boy on a horse", "a castle, oil painting"], window=window):
        assert result.clip_tokens <= window


def test_a_prompt_beyond_the_window_is_left_alone(enhancer):
    long = "a very long story " * 40
    result, short = enhancer([long, "a castle"])
    assert result.text == long
    assert "77" in result.warning
    assert short.modifiers


def test_a_prompt_longer_than_the_policy_reads(enhancer):
    text = "word " * 300
    result = enhancer(text.strip(), window=500)
    assert result.text.startswith(text.strip())


@pytest.mark.parametrize("bad", ["", "  \n", ",,", "a\0b"])
def test_bad_prompts(enhancer, bad):
    with pytest.raises(ValueError):
        enhancer(bad)
    with pytest.raises(ValueError):
        enhancer(["a castle", bad])


def test_bad_arguments(enhancer):
    with pytest.raises(TypeError, match="int"):
        enhancer(["a castle", 3])
    with pytest.raises(ValueError, match="temperature"):
        enhancer("a castle", seed=1, temperature=0.0)
    with pytest.raises(ValueError, match="sample"):
        enhancer("a castle", num_return_sequences=9, do_sample=False)
    for name, value in {
        "num_return_sequences": 10**20, "num_beams": 0, "batch_size": 0, "min_modifiers": 10**20, "window": -1,
        "temperature": math.inf, "diversity": math.inf, "top_k": -1, "top_p": math.nan,
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name} is {value}: give a number from"):
            enhancer("a castle", **{name: value})
    for temperature in (1e-30, 1e30, math.nan):
        with pytest.raises(ValueError, match="temperature"):
            enhancer("a castle", do_sample=True, temperature=temperature)


def test_the_ends_of_the_ranges_write_something(enhancer):
    for arguments in (
        {"do_sample": True, "temperature": 0.001},
        {"do_sample": True, "temperature": 1000.0, "seed": 3},  # without a separator there is no whole modifier
        {"do_sample": True, "top_p": 1e-9},
        {"do_sample": False, "diversity": 0.0},
        {"min_modifiers": 1_000_000},
        {"window": 1_000_000},
    ):
        assert enhancer("a castle", coherent=False, **arguments).modifiers, arguments


@pytest.mark.parametrize("sample", [False, True])
def test_why_nothing_was_added_is_said(enhancer, sample):
    result = enhancer("a cat", window=5, do_sample=sample)
    assert result.text == "a cat" and "CLIP tokens left: 1" in result.warning
    result = enhancer("a cat", Constraints(forbid=[","]), do_sample=sample)
    assert result.text == "a cat" and "','" in result.warning


@settings(max_examples=3)
@given(st.lists(st.text(min_size=1, max_size=40), min_size=8, max_size=8))
def test_any_text_is_kept_with_whole_modifiers_or_a_reason(enhancer, texts):
    empty = [text for text in texts if not text.strip(" \t\r\n,;|") or "\0" in text]
    for text in empty:
        with pytest.raises(ValueError):
            enhancer(text)
    for result in enhancer([text for text in texts if text not in empty], num_beams=1, max_new_tokens=12):
        text = result.original
        assert result.text.startswith(text)
        assert (result.text == text) == (not result.modifiers) == (result.warning is not None)
        added = Prompt.parse(result.text[len(text) :])
        assert list(added.segments) == [m.text for m in result.modifiers] and unknown_words(str(added), [text]) == []


ODD = {
    "x": "nothing in it to be described",
    "?!": "nothing in it to be described",
    "<lora:snow:0.8>": "nothing in it to be described",
    "https://example.com/cat.png": "nothing in it to be described",
    "def f(x): return x + 1": "code",
    "a fox and " * 30: "the window has 77",
    "a fox " * 500: "the window has 77",
    "the " * 75: "",  # all but the last token of the window
    "a fox and a hound, " * 10 + "a tree": "",  # 60 tokens
    "ein roter Fuchs im Wald": "",
    "dibujo a lápiz de un caballo": "",
    "富士山": "",
    "قطة على كرسي": "",
    "🦊": "",
    "(fox:1.2)": "",
    "asdf qwer": "",
    "RED FOX IN THE SNOW": "",
    "a red fox\nin the snow\nat night": "",
    "<p>a red fox</p>": "",
}


def test_odd_prompts_get_what_fits_or_a_reason(enhancer):
    for (prompt, reason), result in zip(ODD.items(), enhancer(list(ODD)), strict=True):
        assert result.text.startswith(prompt) and (result.text == prompt) == bool(result.warning), prompt
        assert reason in (result.warning or "") and not (reason and result.modifiers), (prompt, result.warning)
        assert result.clip_tokens == count_clip_tokens(result.text) and not contradictions(result.text)
        if not is_understood(prompt):
            assert all(fits_anything(m.text, controls(prompt)) for m in result.modifiers), result.text


def test_odd_prompts_are_the_policys_where_nobody_judges_and_get_what_is_required(enhancer):
    assert enhancer("!!!", coherent=False).modifiers
    assert "fog" in enhancer("!!!", Constraints(require="fog")).text
    assert enhancer("!!!", Constraints(forbid="fog")).text == "!!!"


def test_models_that_cannot_be_loaded(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x02")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not a model")
    (tmp_path / "file.bin").write_bytes(b"")
    for name, words in [
        ("empty", "no model folder"),
        ("pickled", "pickled weights"),
        ("broken", "cannot load"),
        ("file.bin", "is a file"),
        ("missing", "there is no folder"),
    ]:
        with pytest.raises(ModelError, match=words) as error:
            PromptEnhancer.from_pretrained(str(tmp_path / name), device="cpu")
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="embedded"):
        PromptEnhancer.from_pretrained("embedded-nothing")


def test_the_package_offers_it():
    import neuroprompt

    assert neuroprompt.PromptEnhancer is PromptEnhancer
    assert all(getattr(neuroprompt, name) for name in neuroprompt.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        neuroprompt.nothing  # noqa: B018


WISH = Constraints(
    artist="alphonse mucha", style="baroque|rococo", require=["golden hour", "fog"], forbid=["8k", "smooth"]
)


@pytest.mark.parametrize(
    "arguments", [{"num_return_sequences": 2}, {"do_sample": False}, {"do_sample": False, "diversity": 0.0}]
)
def test_constraints_are_met(enhancer, arguments):
    for variants in enhancer.rewrite(SUBJECTS[::2], WISH, **arguments):
        for result in variants:
            assert_sound(result, result.original)
            assert result.constraints
            assert all(result.text[m.start : m.end].lower() == m.phrase for m in result.constraints.matches)
            assert "8k" not in result.text


@pytest.mark.parametrize(
    "own",
    [
        {"do_sample": False, "diversity": 0.0, "usual": True},
        {"do_sample": True, "temperature": 0.3},
        {"do_sample": True},
    ],
)
def test_a_policy_says_how_it_is_decoded(enhancer, tmp_path, own):
    model = copy.deepcopy(enhancer.model)
    settings = GenerationConfig(**own)
    settings._from_model_config = False  # with it, the library reads no settings but its own
    model.generation_config = settings
    model.save_pretrained(tmp_path)
    enhancer.tokenizer.save_pretrained(tmp_path)
    policy, few = PromptEnhancer.from_pretrained(tmp_path), SUBJECTS[:2]
    assert policy(few) == enhancer(few, **{"temperature": 0.9, "usual": False} | own)
    usual = own.get("usual", False)
    for asked in ({"do_sample": False, "diversity": 0.4}, {"do_sample": True, "temperature": 1.5}):
        assert policy(few, **asked) == enhancer(few, **asked, usual=usual)
    assert not usual or policy(SUBJECTS) != policy(SUBJECTS, usual=False)
    results = {str(policy(few, do_sample=d, temperature=t)) for d, t in [(False, None), (True, 0.3), (True, 1.5)]}
    assert len(results) == 3


@pytest.mark.parametrize("sample", [False, True])
def test_each_prompt_has_its_own_constraints(enhancer, sample):
    wishes = [WISH, None, Constraints(vibe="cinematic")]
    first, second, third = enhancer(["a fox", "a house", "an owl"], wishes, do_sample=sample)
    assert first.constraints and second.constraints is None and third.constraints
    assert first.text == enhancer("a fox", WISH, do_sample=sample).text
    assert second.text == enhancer("a house", do_sample=sample).text


@pytest.mark.parametrize("window", [20, 24, 30, 77])
def test_constraints_fit_the_window_or_are_refused(enhancer, window):
    wish = Constraints(require=["art nouveau", "golden hour", "volumetric lighting", "wide angle", "oil painting"])
    try:
        result = enhancer("a castle on a hill", wish, window=window)
    except ConstraintError as error:
        assert window == 20
        assert "window has 20" in str(error)
        return
    assert result.constraints
    assert result.clip_tokens <= window


def test_the_users_own_words_satisfy(enhancer):
    result = enhancer("a castle in the Fog", Constraints(require="fog"))
    assert result.constraints.matches[0].start == len("a castle in the ")
    full = "a castle in the fog " + "word " * 80
    unchanged = enhancer(full, Constraints(require="fog"))
    assert unchanged.text == full
    assert unchanged.constraints
    with pytest.raises(ConstraintError, match="itself says 'Fog'"):
        enhancer("a castle in the Fog", Constraints(forbid="fog"))
    with pytest.raises(ValueError, match="1 constraints for 2 prompts"):
        enhancer(["a", "b"], [Constraints(require="fog")])


@pytest.mark.parametrize("arguments", [{}, {"do_sample": True}])
def test_rewrites_contradict_nothing_and_say_nothing_twice_unless_all_is_asked_for(enhancer, arguments):
    things = ("an apple", "a castle", "two cats", "a ship", "a robot", "a city at night", "a queen", "a dragon")
    sketches = [f"{medium} of {thing}" for medium in ("pencil sketch", "watercolor", "charcoal") for thing in things]
    texts, all_of_it = ([r.text for r in enhancer(sketches, coherent=c, **arguments)] for c in (True, False))
    for text in texts:
        assert not contradictions(text) and not repeated_groups(text), text
    assert any(map(contradictions, all_of_it)) and any(map(repeated_groups, all_of_it))


def test_what_must_not_be_added_may_be_in_the_prompt(enhancer):
    liked = sorted({modifier.text for prompt in ("boy on a horse", "a fox") for modifier in enhancer(prompt).modifiers})
    prompts = ["boy on a horse", "a fox", *liked, f"a fox, {liked[0]}", f"{liked[-1]} of a fox"]
    wish = Constraints(never_add=liked, style="baroque")
    for original, result in zip(prompts, enhancer(prompts, wish), strict=True):
        assert result.text.startswith(original)
        assert result.constraints and "baroque" in result.text
        assert not [phrase for phrase in liked if any(occurrences(result.text[len(original) :], phrase))]
    with pytest.raises(ConstraintError, match="'8K' is also forbidden"):
        Constraints(never_add="8k", require="8K")
