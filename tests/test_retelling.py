"""Policies that retell: whatever they write, the user's words are in the result.

The models are tiny and random: what they say makes no sense, and so nothing but the search puts the words there.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from neuroprompt import retelling
from neuroprompt.decoding import ConstraintError, Constraints, check
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.formats import RETELL, Answer, PromptFormat
from neuroprompt.locked import lock
from neuroprompt.prompts import Window
from neuroprompt.retelling import Retelling
from tests.decoding.conftest import byte_level, gpt2, llama, sentencepiece
from tests.decoding.test_prose import says  # a judge of its own

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)
INST = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}[/INST]"
STOPS = ("\n", *"~^`|[]{}=*+@#$%;")  # which a random model writes soon, and so comes to an end
ASKED = replace(RETELL, stop=STOPS)
THINKING = replace(ASKED, thinking=12)
PROMPTS = [
    "a red fox asleep under an old bridge",
    "two cats and 3 dogs, no people",
    'a shop with a sign that says "OPEN"',
    "ohwx woman, (golden:1.3) hour, <lora:film:0.7>",
    "ein Fuchs unter einer Brücke",
    "富士山と桜",
]


def chatting(tokenizer, model, template, asked):
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    made = model(tokenizer)
    return PromptEnhancer(made, tokenizer, asked)


@pytest.fixture(scope="module", params=["bytes", "bytes, thinking", "pieces", "pieces, thinking"])
def enhancer(request):
    kind, _, thinks = request.param.partition(", ")
    asked = THINKING if thinks else ASKED
    if kind == "bytes":
        return chatting(byte_level(lowercase=False, size=500), gpt2, CHATML, asked)
    return chatting(sentencepiece(size=500), llama, INST, asked)


@pytest.fixture(scope="module")
def one():
    return chatting(byte_level(lowercase=False, size=500), gpt2, CHATML, ASKED)


UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"


def assert_kept(result):
    locked, text = lock(result.original), result.text
    assert locked.clauses
    for notation in locked.notations:
        if not notation.shown:  # a tag, which may stand within a phrase where a text is left as it is
            text = text.replace(notation.typed, " ")
    for phrases in locked.clauses:
        assert any(says(text, phrase) for phrase in phrases), (result.original, result.text, phrases)


def test_every_content_word_is_in_the_answer(enhancer):
    for result in enhancer(PROMPTS, output_scores=False):
        assert_kept(result)
        assert result.clip_tokens <= 77 and "<think>" not in result.text and "<|im" not in result.text
    assert '"OPEN"' in enhancer(PROMPTS[2], output_scores=False).text
    noted = enhancer(PROMPTS[3], output_scores=False).text
    assert "(golden:1.3)" in noted and "<lora:film:0.7>" in noted


def test_what_is_required_and_forbidden(enhancer):
    wish = Constraints(require=["fog|mist"], artist="Claude Monet", forbid=["foxes", "art", "a"])
    result = enhancer("red fox under bridge", wish, output_scores=False)
    assert_kept(result)
    assert says(result.text, "fog") or says(result.text, "mist")
    assert "Claude Monet" in result.text and not any(says(result.text, p) for p in ("foxes", "art", "a"))
    assert result.constraints and result.constraints.names == ("artist", "require")
    assert result.negative == "foxes, art, a"


def test_a_batch_changes_nothing_and_sets_are_each_ones_own(one):
    prompts, wishes = PROMPTS[:4], [None, Constraints(forbid="fox"), Constraints(require="snow"), None]
    together = one(prompts, wishes, output_scores=False, window=120)
    for prompt, wish, result in zip(prompts, wishes, together, strict=True):
        assert one(prompt, wish, output_scores=False, window=120) == result
    assert says(together[2].text, "snow")


@pytest.mark.parametrize("sampled", [True, False])
def test_variants_keep_the_words(one, sampled):
    variants = one("a red fox", num_return_sequences=3, do_sample=sampled)
    answered = [v.text for v in variants if not v.warning]
    assert len(set(answered)) == len(answered) and (len(answered) > 1 or not sampled)
    for result in variants:
        assert_kept(result)
        assert result.score < 0


def test_seeds_give_other_texts(one):
    assert one("a red fox", seed=1).text != one("a red fox", seed=2).text == one("a red fox", seed=2).text


def test_free_answers_keep_what_is_named_alone(one):
    prompt = "a red fox beside a brook, ohwx woman"
    for seed in range(8):  # of a random model, which comes to an end or not
        free = one(prompt, keep_words=False, keep=["ohwx woman", "not there"], output_scores=False, seed=seed)
        assert "ohwx woman" in free.text
        if free.unaided:
            break
    assert free.unaided and not says(free.text, "brook")


def test_words_that_the_user_has_are_no_error_for_an_operators_list(one):
    assert says(one("a red fox", Constraints(never_add=["fox", "red"]), output_scores=False).text, "fox")


def test_conflicts_are_named_before_decoding(one, monkeypatch):
    monkeypatch.setattr(one.model, "generate", None)
    with pytest.raises(ConstraintError, match="the prompt itself says 'fox', which is forbidden"):
        one("a red fox", Constraints(forbid="fox"))
    with pytest.raises(ConstraintError, match="the window has 12"):
        one("a red fox", Constraints(require="a long phrase that is much too long for this"), window=12)
    left = one("a red fox asleep under an old bridge", window=6)
    assert left.text == left.original and "the window has 6" in left.warning


def test_what_cannot_be_read_becomes_the_users_own_words(one, monkeypatch):
    """A model that never comes to an answer: the prompt comes back, with the reason, and nothing is lost."""
    monkeypatch.setattr(PromptFormat, "read", lambda self, prompt, written, ended=True: Answer("", "it was cut off"))
    result = one("a red fox", Constraints(require="fog"))
    assert result.text == "a red fox, fog" and not result.unaided
    assert result.warning == "left as it is: it was cut off"


def test_an_answer_that_fails_begins_again_with_the_users_words(one, monkeypatch):
    read, asked = PromptFormat.read, []

    def once(self, prompt, written, ended=True):
        asked.append(written)
        return Answer("", "it wrote nothing") if len(asked) == 1 else read(self, prompt, written, ended)

    monkeypatch.setattr(PromptFormat, "read", once)
    result = one("a red fox")
    assert len(asked) == 2 and asked[1].startswith("A red fox")
    assert result.text.startswith("A red fox") and not result.unaided and not result.warning


def test_a_model_that_never_stops_thinking_answers_all_the_same():
    enhancer = chatting(byte_level(lowercase=False, size=500), gpt2, CHATML + "{{ '<think>\n' }}", THINKING)
    with torch.no_grad():
        enhancer.model.lm_head.weight[enhancer.tokenizer.eos_token_id] = -100.0
    result = enhancer("a red fox", output_scores=False)
    assert_kept(result)
    assert "think" not in result.text


def finish(original, answer, window=77, wish=None, prose=True):
    return Retelling.of(original, wish, (), True, PromptFormat(dialect="prose" if prose else "tags")).finish(
        Answer(answer), Window.of(window)
    )


def test_what_is_too_long_loses_sentences_that_are_not_needed():
    whole = "A red fox sleeps. Mist hangs over the river, and the moon is bright."
    assert finish("red fox", whole).text == whole
    assert finish("red fox", whole, window=12).text == "A red fox sleeps."
    assert finish("red fox, moon", whole, window=12).problem == "what must be said does not fit the window"
    clauses = "A red fox sleeps under a bridge, while mist hangs over the river and its banks."
    assert finish("red fox", clauses, window=12).text == "A red fox sleeps under a bridge."
    tags = finish("red fox", "red fox, mist, river banks, oil painting", window=8, prose=False)
    assert tags.text == "red fox, mist"


def test_notation_is_set_back_and_survives_shortening():
    whole = "A red fox sleeps. Mist hangs over the river, and the moon is bright."
    assert finish("(red:1.2) fox <lora:a:1>", whole).text.startswith("A (red:1.2) fox sleeps.")
    assert finish("red fox <lora:a:1>", whole, window=20).text == "A red fox sleeps. <lora:a:1>"


def test_answers_that_are_none():
    assert finish("red fox", "A red cat.").problem == "it left out 'fox'"
    assert finish("a red fox", "一只红狐狸睡在桥下").problem == "it answered in another script"
    assert finish("red fox", "A fox.", wish=Constraints(forbid="fox", require="red")).problem


def test_kept_words_can_be_shown():
    text = "Two foxes, red as rust, sleep."
    assert [text[a:b] for a, b in retelling.kept("2 red foxes", text)] == ["Two", "foxes", "red"]


words = st.sampled_from("fox foxes red river 3 two cat's naïve Brücke 富士 low-poly OPEN women running".split())
pieces = st.one_of(
    words,
    st.builds("({}:{})".format, words, st.sampled_from(["1.3", "0.8"])),
    st.builds('"{}"'.format, words),
    st.sampled_from(["<lora:film:0.7>", "BREAK", "without people", "embedding:x", ",", "a", "on the"]),
)


def assert_meets(enhancer, cases):
    asked, wishes = [], []
    for prompt, require, forbid in cases:
        if any(says(prompt, phrase) for phrase in forbid) or not lock(prompt).clauses:
            continue
        asked.append(prompt)
        allowed = [[phrase] for phrase in require if not any(says(phrase, word) for word in forbid)]
        wishes.append(Constraints(require=allowed, forbid=forbid))
    for result, wish in zip(
        enhancer(asked, wishes, output_scores=False, num_beams=3, max_new_tokens=40), wishes, strict=True
    ):
        assert_kept(result)
        for notation in lock(result.original).verbatim:
            assert notation in result.text
        bare = result.text
        for notation in lock(result.original).verbatim:
            bare = bare.replace(notation, " ")
        assert not any(says(bare, phrase) for phrase in wish.forbid), (result.original, bare, wish.forbid)
        assert check(result.text, Constraints(require=wish.require))


cases = st.lists(
    st.tuples(
        st.lists(pieces, min_size=1, max_size=6).map(" ".join),
        st.lists(st.sampled_from(["fog", "golden hour", "Claude Monet", "art."]), max_size=2, unique=True),
        st.lists(st.sampled_from(["blurry", "art", "the", "of", "snow", "é"]), max_size=3, unique=True),
    ),
    min_size=8,
    max_size=8,
)
# a case takes a second: none is made smaller
phases = (Phase.explicit, Phase.reuse, Phase.generate)
unhurried = settings(deadline=None, suppress_health_check=list(HealthCheck), phases=phases)


@settings(unhurried, max_examples=2)  # of eight prompts each
@given(cases)
def test_locked_words_are_kept_whatever_is_asked(enhancer, cases):
    assert_meets(enhancer, cases)


@pytest.mark.exhaustive
@settings(unhurried, max_examples=320)
@given(cases)
def test_locked_words_are_kept_in_ten_thousand_cases(enhancer, cases):
    assert_meets(enhancer, cases)
