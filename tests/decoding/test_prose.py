"""Required phrases in the prose that a chat model answers with: anywhere, and in the answer alone.

The judge is a third one, beside `check` and that of `test_neurologic`: a regular expression over folded text.
"""

import itertools
import unicodedata

import pytest
import regex
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessor, LogitsProcessorList

from neuroprompt.decoding import ConstraintError, Constraints, check
from neuroprompt.decoding.automaton import Automaton
from neuroprompt.decoding.beams import Beams, Candidates
from neuroprompt.decoding.neurologic import neurologic
from neuroprompt.decoding.processors import NoRepeatedNGrams
from neuroprompt.decoding.vocabulary import Vocabulary
from tests.decoding.conftest import byte_level, gpt2, llama, sentencepiece

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking %}"
    "{{ '<think>\nThe user wants ' + messages[-1]['content'] + '.\n</think>\n\n' }}{% endif %}"
)
INSTRUCT = "[INST] {{ messages[-1]['content'] }} [/INST]{% if enable_thinking %} [THINK]fox[/THINK]{% endif %}"


@pytest.fixture(scope="module")
def chats():
    """(model, tokenizer) of each kind, with a chat template."""
    bytewise, pieces = byte_level(lowercase=False, size=500), sentencepiece(size=500)
    bytewise.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]})
    bytewise.chat_template, pieces.chat_template = CHATML, INSTRUCT
    return [(gpt2(bytewise), bytewise), (llama(pieces), pieces)]


WORD = r"[[\p{L}\p{N}_]--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}ー]]"


def folded(text: str) -> str:
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())
    return " ".join(regex.sub(r"[\ufe00-\ufe0f]", "", text).split())


def says(text: str, phrase: str) -> bool:
    wanted = folded(phrase)
    before = rf"(?<!{WORD}\p{{M}}*)" if regex.match(WORD, wanted, regex.V1) else ""
    after = rf"(?!{WORD})" if regex.search(WORD + r"\p{M}*$", wanted, regex.V1) else ""
    return bool(regex.search(before + regex.escape(wanted) + r"(?!\p{M})" + after, folded(text), regex.V1))


def assert_meets(text: str, wish: Constraints):
    for phrases in wish.clauses:
        assert any(says(text, phrase) for phrase in phrases), (text, phrases)
    for phrase in wish.forbidden:
        assert not says(text, phrase), (text, phrase)
    assert "\ufffd" not in text


def ask(tokenizer, prompts, begun=None, thinking=False):
    """The chats as the model reads them, padded, and the tokens of each that count."""
    chats, counted = [], []
    for prompt, start in zip(prompts, begun or [""] * len(prompts), strict=True):
        messages = [{"role": "system", "content": "Retell."}, {"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, enable_thinking=thinking)
        counted.append(tokenizer(start, add_special_tokens=False)["input_ids"])
        chats.append(tokenizer(text, add_special_tokens=False)["input_ids"] + counted[-1])
    return tokenizer.pad({"input_ids": chats}, return_tensors="pt"), counted


def answer(model, tokenizer, prompts, wishes, begun=None, thinking=False, **kwargs):
    """Every answer, what it began with included, and whether it had to be closed."""
    inputs, counted = ask(tokenizer, prompts, begun, thinking)
    output = model.generate(
        **inputs,
        custom_generate=neurologic,
        constraints=wishes,
        processing_class=tokenizer,
        counted=counted,
        return_dict_in_generate=True,
        **{"max_new_tokens": 60, "num_beams": 3, "do_sample": False, **kwargs},
    )
    written = output.sequences[:, inputs["input_ids"].shape[1] :].tolist()
    each = len(written) // len(prompts)
    whole = [counted[i // each] + new for i, new in enumerate(written)]
    return tokenizer.batch_decode(whole, skip_special_tokens=True, clean_up_tokenization_spaces=False), output.closed


# words that are prefixes, suffixes and infixes of one another, in scripts with marks and without spaces
WORDS = (
    "fox art artist cat's naïve Élan straße İstanbul हिन्दी 富士 山 안녕 が か ☀️ 👩‍🎨 c++ U.S. f/1.8 "
    "low-poly no. a 8k what? _x é"
).split(" ")
INFLECTED = [
    ("fox", "foxes"),
    ("art", "arts"),
    ("run", "runs", "running", "ran"),
    ("city", "cities"),
    ("leaf", "leaves"),
]
phrases = st.one_of(
    st.sampled_from(WORDS),
    st.builds(" ".join, st.lists(st.sampled_from(WORDS), min_size=2, max_size=3)),
    st.builds(
        "{}{}{}".format, st.sampled_from('"“('), st.sampled_from(["OPEN", "art", "café 8k"]), st.sampled_from('"”)!')
    ),
)
clauses = st.one_of(st.sampled_from(INFLECTED), phrases.map(lambda phrase: (phrase,)))


@st.composite
def cases(draw):
    """What the user says, all of what is locked in it; the answer that is begun; what is required and forbidden."""
    require = draw(st.lists(clauses, min_size=1, max_size=7))
    forbid = draw(st.lists(phrases, max_size=8))
    try:
        wish = Constraints(require=require, forbid=forbid, anywhere=True)
        begun = draw(st.sampled_from(["", "", "A photo of", "foxes, art", "f"]))
        wish.refuse(begun)
    except ConstraintError:
        assume(False)
    return " ".join(itertools.chain(*require, forbid)), begun, wish


def assert_all_met(model, tokenizer, examples, kwargs, slack):
    """Answers all examples in one batch, with budgets of just what is needed and `slack` tokens more."""
    vocabulary = Vocabulary.of(tokenizer, model.get_output_embeddings().weight.shape[0])
    held, budgets = [], []
    for prompt, begun, wish in examples:
        try:
            automaton = Automaton.of(vocabulary, wish.written, wish.forbidden, wish.anywhere)
        except ConstraintError as error:  # a phrase cannot be written between separators: named before decoding
            assert "no way to write" in str(error)
            continue
        state, _ = automaton.read(vocabulary.text(tokenizer(begun, add_special_tokens=False)["input_ids"]))
        budgets.append(automaton.need(state, automaton.everything) + 1 + slack)
        held.append((prompt, begun, wish))
    if not held:
        return 0
    prompts, begun, wishes = map(list, zip(*held, strict=True))
    texts, _ = answer(
        model, tokenizer, prompts, wishes, begun, token_budgets=budgets, max_new_tokens=max(budgets), **kwargs
    )
    each = len(texts) // len(prompts)
    for i, text in enumerate(texts):
        assert_meets(text, wishes[i // each])
        assert check(text, wishes[i // each])
    return len(held)


settings_of_search = st.fixed_dictionaries(
    {"num_beams": st.sampled_from([1, 2, 4]), "do_sample": st.booleans(), "thinking": st.booleans()},
    optional={"phrase_weight": st.sampled_from([0.0, 3.0]), "early_stopping": st.just(True)},
).flatmap(lambda kwargs: st.sampled_from([1, kwargs["num_beams"]]).map(lambda n: {**kwargs, "num_return_sequences": n}))
slacks = st.sampled_from([0, 2, 9, 30])


@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from([0, 1]),
    examples=st.lists(cases(), min_size=16, max_size=16),
    kwargs=settings_of_search,
    slack=slacks,
)
def test_what_is_locked_is_in_the_answer(chats, kind, examples, kwargs, slack):
    assert_all_met(*chats[kind], examples, kwargs, slack)


@pytest.mark.exhaustive
def test_what_is_locked_is_in_the_answer_10000_times(chats):
    counts = [0, 0]

    @settings(max_examples=160, suppress_health_check=list(HealthCheck), database=None)
    @given(examples=st.lists(cases(), min_size=32, max_size=32), kwargs=settings_of_search, slack=slacks)
    def meet(kind, examples, kwargs, slack):
        counts[kind] += assert_all_met(*chats[kind], examples, kwargs, slack)

    for kind in (0, 1):
        while counts[kind] < 5000:
            meet(kind)
    print(counts)


WISH = Constraints(require=[("fox", "foxes"), "old", ("bridge", "bridges")], forbid="art", anywhere=True)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("thinking", [False, True])
def test_what_the_user_says_or_the_thinking_meets_nothing(chats, kind, thinking):
    said = "a fox asleep under an old bridge, art"  # and what is forbidden in it is no error
    for text in answer(*chats[kind], [said, said], WISH, thinking=thinking)[0]:
        assert_meets(text, WISH)


def test_what_an_answer_begins_with_counts(chats):
    (text,), _ = answer(
        *chats[0], ["a fox"], Constraints(require="old fox", forbid="bridge", anywhere=True), ["An old fox"]
    )
    assert folded(text).count("old fox") == 1
    with pytest.raises(ConstraintError, match="the prompt itself says 'art'"):
        answer(*chats[0], ["a fox"], WISH, ["An art"])


class TheEnd(LogitsProcessor):
    """Always wants to end."""

    def __init__(self, eos):
        self.eos = eos

    def __call__(self, input_ids, scores):
        scores[:, self.eos] = 0.0
        return scores


def test_prose_ends_as_soon_as_all_is_said_and_no_sooner(chats):
    for model, tokenizer in chats:
        early = LogitsProcessorList([TheEnd(tokenizer.eos_token_id)])
        arguments = {"logits_processor": early, "phrase_weight": 9.0, "num_beams": 1}
        (text,), closed = answer(model, tokenizer, ["x"], WISH, **arguments)
        assert_meets(text, WISH)
        assert not closed and folded(text).endswith(("fox", "foxes", "old", "bridge", "bridges"))


def test_what_a_budget_forces_is_set_apart_and_said(chats):
    for model, tokenizer in chats:
        (text,), closed = answer(model, tokenizer, ["x"], WISH, max_new_tokens=22, phrase_weight=0.0, num_beams=1)
        *_, before_last, last = (folded(part) for part in text.split(","))
        assert closed and {before_last, last} < {"fox", "old", "bridge"}


def test_an_unlikely_phrase_does_not_wait_for_the_end_of_the_budget(chats):
    for model, tokenizer in chats:
        texts, closed = answer(model, tokenizer, ["x"], Constraints(require="ohwx woman", anywhere=True), num_beams=4)
        assert says(texts[0], "ohwx woman") and not closed


@pytest.mark.parametrize("prose", [True, False])
def test_texts_that_had_to_be_closed_come_last_in_prose(prose):
    beams = Beams.start(torch.zeros((1, 2, 4), dtype=torch.long))
    every, both = torch.ones((1, 2), dtype=torch.bool), torch.tensor([[1, 2]])
    found = Candidates(both - 1, both, torch.tensor([[-1.0, -9.0]]), is_eos=every, hash=both)
    found.closing = torch.tensor([[True, False]])
    beams = beams.finish(found, every, torch.tensor([5]), 0, 1, False, 1.0, every[0, :1], torch.tensor([prose]))
    assert beams.finished[0, :, 1].tolist() == ([2, 1] if prose else [1, 2])
    assert beams.closed[0].tolist() == ([False, True] if prose else [True, False])
    assert sorted(beams.finished_score[0].tolist()) == [-9.0, -1.0]


def test_what_comes_back_is_as_many_different_texts(chats):
    for model, tokenizer in chats:
        texts, _ = answer(model, tokenizer, ["a fox", "art"], WISH, num_beams=8, num_return_sequences=4)
        for several in (texts[:4], texts[4:]):
            assert len({"".join(text.split()).lower() for text in several}) == 4
            for text in several:
                assert_meets(text, WISH)


def test_where_phrases_may_stand_is_no_wish_but_sets_wishes_apart():
    assert not Constraints(anywhere=True)
    assert len({Constraints(require="fog"), Constraints(require="fog", anywhere=True)}) == 2
    assert Constraints(artist="klimt", anywhere=True).written == (("klimt",),)


def test_repetitions_of_the_question_are_no_repetitions(chats):
    _, tokenizer = chats[0]
    ids = torch.tensor([tokenizer("a fox, a fox, a")["input_ids"]])
    following = ids[0, 1]
    scores = torch.zeros(1, len(tokenizer))
    assert NoRepeatedNGrams(2)(ids, scores.clone())[0, following] == float("-inf")
    assert not NoRepeatedNGrams(2, start=ids.shape[1] - 2)(ids, scores.clone()).any()
