"""The decoder against `transformers`' own beam search (without constraints) and against plain search in the text that
it writes (with them). The checker here is a third one: it cuts text into letters with their marks and compares lists.
"""

import itertools
import re
import unicodedata

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from neuroprompt.decoding import ConstraintError, Constraints, check
from neuroprompt.decoding.automaton import Automaton
from neuroprompt.decoding.neurologic import neurologic
from neuroprompt.decoding.vocabulary import Vocabulary

PROMPTS = ["a boy on a horse", "portrait of", "an old house by the sea,", "fog"]


def letters(text: str) -> list[str]:
    """Base characters with their marks, folded; one space for any whitespace."""
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())
    found = []
    for char in text:
        if "\ufe00" <= char <= "\ufe0f":
            continue
        if unicodedata.category(char)[0] == "M" and found:
            found[-1] += char
        elif not char.isspace():
            found.append(char)
        elif found[-1:] != [" "]:
            found.append(" ")
    return found


def in_a_word(letter: str) -> bool:
    unspaced = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "MYANMAR", "KHMER")
    return (letter[0].isalnum() or letter[0] == "_") and not unicodedata.name(letter[0], "").startswith(unspaced)


def says(text: str, phrase: str) -> bool:
    wanted = letters(phrase.strip())
    there = [" ", *letters(text), " "]
    for start in range(1, len(there) - len(wanted)):
        stop = start + len(wanted)
        if there[start:stop] == wanted:
            before = in_a_word(wanted[0]) and in_a_word(there[start - 1])
            after = in_a_word(wanted[-1]) and in_a_word(there[stop])
            if not before and not after:
                return True
    return False


def assert_meets(text: str, wish: Constraints):
    for phrases in wish.clauses:
        assert any(says(text, phrase) for phrase in phrases), (text, phrases)
    for phrase in wish.forbidden:
        assert not says(text, phrase), (text, phrase)
    assert "\ufffd" not in text
    assert check(text, wish)


def encode(tokenizer, prompts):
    start = tokenizer.bos_token or tokenizer.eos_token
    texts = [prompt or start for prompt in prompts]
    return tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)


def decode(tokenizer, ids):
    return [tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False) for row in ids]


def write(model, tokenizer, prompts, constraints, **kwargs):
    ids = model.generate(
        **encode(tokenizer, prompts),
        custom_generate=neurologic,
        constraints=constraints,
        processing_class=tokenizer,
        **{"max_new_tokens": 60, "num_beams": 3, "do_sample": False, **kwargs},
    )
    return decode(tokenizer, ids)


@pytest.fixture(params=["gpt2", "llama"])
def both(request):
    """(model, tokenizer) of each kind."""
    return request.getfixturevalue(f"{request.param}_model"), request.getfixturevalue(f"{request.param}_tokenizer")


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("num_beams, num_return_sequences", [(2, 1), (5, 3)])
def test_without_constraints_it_is_beam_search(both, length_penalty, early_stopping, num_beams, num_return_sequences):
    model, tokenizer = both
    inputs = encode(tokenizer, PROMPTS)
    arguments = {
        "num_beams": num_beams,
        "num_return_sequences": num_return_sequences,
        "length_penalty": length_penalty,
        "early_stopping": early_stopping,
        "max_new_tokens": 16,
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_scores": True,
        "eos_token_id": [tokenizer.eos_token_id, 40, 41, 42, 43, 44],  # so that sequences do end
    }
    expected = model.generate(**inputs, **arguments)
    result = model.generate(**inputs, custom_generate=neurologic, **arguments)
    assert torch.equal(result.sequences, expected.sequences)
    torch.testing.assert_close(result.sequences_scores, expected.sequences_scores)
    # and beside prompts with constraints
    wishes = [None, Constraints(require="fog"), Constraints(), None]
    mixed = model.generate(
        **inputs, custom_generate=neurologic, constraints=wishes, processing_class=tokenizer, **arguments
    ).sequences.view(4, num_return_sequences, -1)
    alone = expected.sequences.view(4, num_return_sequences, -1)
    for prompt in (0, 2, 3):
        width = min(mixed.shape[2], alone.shape[2])
        assert torch.equal(mixed[prompt, :, :width], alone[prompt, :, :width])


def test_min_new_tokens_and_processors_without_constraints(both):
    model, tokenizer = both
    inputs = encode(tokenizer, PROMPTS)
    arguments = {
        "num_beams": 3,
        "min_new_tokens": 6,
        "max_new_tokens": 12,
        "no_repeat_ngram_size": 2,
        "do_sample": False,
    }
    expected = model.generate(**inputs, **arguments, eos_token_id=list(range(30, 60)))
    result = model.generate(**inputs, **arguments, eos_token_id=list(range(30, 60)), custom_generate=neurologic)
    assert torch.equal(result, expected)


# Words that are prefixes, suffixes and infixes of one another; punctuation, digits, accents, emoji, scripts.
WORDS = (
    "art arts artist start deco a b an the of 8k 35mm f/1.8 low-poly low poly cat's cat café naïve Élan mucha alphonse "
    "☀ ☀️ 🎨 👩‍🎨 blurry not golden hour fog , ; -- c++ 富士 山 straße x y z İ σς _ é e \u00b2 # (a:1.2)"
).split(" ")
phrases = st.builds(
    lambda parts, join: join.join(parts),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
    st.sampled_from([" ", " ", ", ", "-", ""]),
)


@st.composite
def wishes(draw):
    require = draw(st.lists(st.lists(phrases, min_size=1, max_size=5), min_size=1, max_size=8))
    forbid = draw(st.lists(phrases, max_size=50))
    try:
        wish = Constraints(require=require, forbid=forbid)
        prompt = draw(st.sampled_from([*PROMPTS, ""]))
        wish.refuse(prompt)
    except ConstraintError:
        assume(False)
    return prompt, wish


def assert_all_met(model, tokenizer, examples, kwargs, slack):
    """Writes for all examples in one batch; with `slack`, with budgets of just what is needed and so much more."""
    vocabulary = Vocabulary.of(tokenizer, model.get_output_embeddings().weight.shape[0])
    prompts, constraints, budgets = [], [], []
    ids = encode(tokenizer, [prompt for prompt, _ in examples])["input_ids"].tolist()
    for (prompt, wish), tokens in zip(examples, ids, strict=True):
        try:
            automaton = Automaton.of(vocabulary, wish.written, wish.forbidden)
        except ConstraintError as error:  # named before decoding: a phrase cannot be written between separators
            assert "no way to write" in str(error)
            continue
        text = vocabulary.text(tokens)
        state, _ = automaton.read(text)
        done = sum(1 << i for i, match in enumerate(check(text, wish).matches) if match and match.end < len(text))
        prompts.append(prompt)
        constraints.append(wish)
        budgets.append(max(1, automaton.need(state, automaton.everything & ~done)) + (60 if slack is None else slack))
    if prompts:
        texts = write(
            model, tokenizer, prompts, constraints, max_new_tokens=max(budgets), token_budgets=budgets, **kwargs
        )
        for text, wish in zip(texts, constraints, strict=True):
            assert_meets(text, wish)
    return len(prompts)


settings_of_search = st.fixed_dictionaries(
    {"num_beams": st.sampled_from([1, 2, 4]), "do_sample": st.booleans()},
    optional={
        "min_new_tokens": st.just(8),
        "length_penalty": st.sampled_from([0.0, 2.0, -9.0]),
        "phrase_weight": st.sampled_from([0.0, 5.0]),
        "beta": st.sampled_from([0, 5]),
        "early_stopping": st.just(True),
    },
)
slacks = st.sampled_from([None, 0, 1, 3, 9])


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(examples=st.lists(wishes(), min_size=8, max_size=8), kwargs=settings_of_search, slack=slacks)
def test_constraints_are_always_met(both, examples, kwargs, slack):
    assert_all_met(*both, examples, kwargs, slack)


@pytest.mark.exhaustive
def test_constraints_are_always_met_10000_times(gpt2_model, gpt2_tokenizer, llama_model, llama_tokenizer):
    """10,000 random constraint sets over two tokenizers: all satisfied, nothing forbidden."""
    counts = {"GPT-2 (byte-level BPE)": 0, "Llama (byte fallback)": 0}
    pairs = dict(zip(counts, [(gpt2_model, gpt2_tokenizer), (llama_model, llama_tokenizer)], strict=True))

    @settings(max_examples=220, suppress_health_check=list(HealthCheck), database=None)
    @given(examples=st.lists(wishes(), min_size=32, max_size=32), kwargs=settings_of_search, slack=slacks)
    def meet(name, examples, kwargs, slack):
        counts[name] += assert_all_met(*pairs[name], examples, kwargs, slack)

    for name in itertools.chain(counts):
        while counts[name] < 5000:
            meet(name)
    print(counts)
    assert sum(counts.values()) >= 10_000


WISH = Constraints(
    artist="alphonse mucha",
    style="baroque|art deco",
    require=["golden hour|sunset", "☀"],
    forbid=["blurry", "art", "fogs"],
)


def test_every_returned_sequence_is_another_text(both):
    model, tokenizer = both
    texts = write(model, tokenizer, PROMPTS, WISH, num_beams=8, num_return_sequences=4)
    for prompt in range(4):
        several = texts[4 * prompt : 4 * prompt + 4]
        assert len({"".join(text.split()).lower() for text in several}) == 4
        for text in several:
            assert_meets(text, WISH)


def test_a_prompt_is_continued_alike_alone_and_in_a_batch(both):
    model, tokenizer = both
    together = write(model, tokenizer, PROMPTS, WISH, max_new_tokens=40)
    apart = [write(model, tokenizer, [prompt], WISH, max_new_tokens=40)[0] for prompt in PROMPTS]
    assert together == apart


def test_what_is_written_does_not_depend_on_what_is_kept(both):
    model, tokenizer = both
    automata = Vocabulary.of(tokenizer, model.get_output_embeddings().weight.shape[0]).automata
    sets = [
        Constraints(require=pair, forbid=["blurry", "art"])
        for pair in itertools.combinations("fog ☀ 8k deco".split(), 2)
    ]
    prompts, arguments = PROMPTS * 3, {"max_new_tokens": 40}
    automata.clear()
    kept = [write(model, tokenizer, prompts, [*sets, *sets], **arguments) for _ in range(2)]
    assert len(automata) == len(sets)
    for limit in (0, automata.nbytes // 3):
        assert write(model, tokenizer, prompts, [*sets, *sets], cache_bytes=limit, **arguments) == kept[0] == kept[1]
        assert automata.nbytes <= limit and len(automata) < len(sets)


def test_what_the_prompt_says_counts(both):
    model, tokenizer = both
    wish = Constraints(require=["fog", "golden hour"], forbid="hour, a")
    for prompt in ("fog at golden hour", "fog at the golden", "fo"):
        text = write(model, tokenizer, [prompt], wish, max_new_tokens=20)[0]
        assert_meets(text, wish)
        assert text.strip().startswith(prompt)


def test_phrases_that_are_forced_are_modifiers_of_their_own(both):
    """With no token to spare, what is still required is written between separators."""
    model, tokenizer = both
    phrases = ["alphonse mucha", "oil painting", "art deco"]
    for length in range(12, 60):
        try:
            text = write(model, tokenizer, ["a boy on a horse"], Constraints(require=phrases), max_new_tokens=length)[0]
        except ConstraintError:
            continue
        modifiers = [part.strip() for part in text.lower().split(",")]
        ends = [phrase for part in modifiers[1:] for phrase in phrases if part.endswith(phrase)]
        assert len(ends) >= 2  # the first may come in the slack of the bound, anywhere
        return
    raise AssertionError("no budget is enough")


def test_where_the_policy_ends_what_is_open_is_written_and_the_text_ends(enhancer):
    """Greedily, and with no weight on phrases that it would not write, the text is its own and the phrases."""
    model, tokenizer = enhancer.model, enhancer.tokenizer
    prompts = ["a boy on a horse", "portrait of an old queen", "a city in the rain", "a fox"]
    arguments = {"num_beams": 1, "phrase_weight": 0.0, "no_repeat_ngram_size": 2, "max_new_tokens": 120}
    free = write(model, tokenizer, prompts, None, **arguments)
    wish = Constraints(require=["red hat", "ohwx woman", "富士山"], artist="egon schiele")
    for own, text in zip(free, write(model, tokenizer, prompts, wish, **arguments), strict=True):
        assert text.startswith(f"{own},")
        added = [re.sub("^(by|in the style of) ", "", part.strip()) for part in text.removeprefix(f"{own},").split(",")]
        assert sorted(map(str.casefold, added)) == ["egon schiele", "ohwx woman", "red hat", "富士山"]


def test_what_is_required_is_a_modifier_of_its_own_or_stands_behind_a_connective(enhancer):
    model, tokenizer = enhancer.model, enhancer.tokenizer
    prompts = ["a boy on a horse", "portrait of an old queen", "a city in the rain,", "a red"]
    phrases = {"artist": "egon schiele", "style": "art deco", "require": ["red hat", "(masterpiece:1.2)", "山"]}
    torch.manual_seed(0)
    for beams, sampled in itertools.product((1, 4), (True, False)):
        texts = write(model, tokenizer, prompts, Constraints(**phrases), num_beams=beams, do_sample=sampled)
        for text in texts:
            modifiers = [part.strip().casefold() for part in text.split(",")]
            assert {"art deco", "red hat", "(masterpiece:1.2)", "山"} <= {*modifiers}, text
            by = ("by egon schiele", "style of egon schiele")
            assert any(modifier == "egon schiele" or modifier.endswith(by) for modifier in modifiers), text


def test_no_modifier_is_begun_that_a_budget_might_cut(enhancer):
    model, tokenizer = enhancer.model, enhancer.tokenizer
    wish = Constraints(require=["red hat", "ohwx woman"])
    greedily = {"num_beams": 1, "phrase_weight": 0.0}
    free = write(model, tokenizer, ["a boy on a horse"], None, num_beams=1)[0]
    own = set(free.split(", "))
    budgets = list(range(12, 40))
    prompts = ["a boy on a horse"] * len(budgets)
    for text in write(model, tokenizer, prompts, wish, token_budgets=budgets, max_new_tokens=39, **greedily):
        assert set(text.split(", ")) <= own | {"red hat", "ohwx woman"}


def test_constraints_are_met_beside_processors_and_criteria_that_want_otherwise(both):
    model, tokenizer = both

    class OnlyTheBest(LogitsProcessor):
        """Leaves one token."""

        def __call__(self, input_ids, scores):
            assert input_ids.shape[0] == scores.shape[0] == 4 * 3
            return scores.masked_fill(scores < scores.amax(dim=1, keepdim=True), float("-inf"))

    class Soon(StoppingCriteria):
        """Stops everything after five tokens."""

        def __call__(self, input_ids, scores, **kwargs):
            return torch.full((len(input_ids),), input_ids.shape[1] > 12)

    for text in write(model, tokenizer, PROMPTS, WISH, logits_processor=LogitsProcessorList([OnlyTheBest()])):
        assert_meets(text, WISH)
    for text in write(model, tokenizer, PROMPTS, WISH, stopping_criteria=StoppingCriteriaList([Soon()])):
        assert_meets(text, WISH)
    for text in write(model, tokenizer, PROMPTS, WISH, bad_words_ids=[[i] for i in range(3, 400)]):
        assert_meets(text, WISH)


def test_every_prompt_has_its_own_constraints_and_budget(both):
    model, tokenizer = both
    constraints = [WISH, None, Constraints(require="fog"), Constraints(forbid="a")]
    inputs = encode(tokenizer, PROMPTS[:3] + ["portrait"])
    ids = model.generate(
        **inputs,
        custom_generate=neurologic,
        constraints=constraints,
        processing_class=tokenizer,
        token_budgets=[60, 3, 30, 10],
        num_beams=3,
        max_new_tokens=60,
        do_sample=False,
    )
    for text, wish in zip(decode(tokenizer, ids), constraints, strict=True):
        assert_meets(text, wish or Constraints())
    written = (ids[:, inputs["input_ids"].shape[1] :] != tokenizer.pad_token_id).sum(dim=1)
    assert (written <= torch.tensor([60, 3, 30, 10])).all()


def test_a_model_without_an_end_token_writes_as_far_as_it_may(both, monkeypatch):
    model, tokenizer = both
    for config in (model.config, model.generation_config):
        monkeypatch.setattr(config, "eos_token_id", None)
    for text in write(model, tokenizer, PROMPTS, WISH, pad_token_id=tokenizer.pad_token_id):
        assert_meets(text, WISH)


def test_forbidden_phrases_alone(both):
    wish = Constraints(forbid=["met", "of", "og", "bo", "artstation", "is", "the light"])
    for text in write(*both, PROMPTS[:1] + PROMPTS[3:], wish):
        assert_meets(text, wish)


def test_no_text_ends_inside_a_character(llama_model, llama_tokenizer):
    """This model writes U+2000 by bytes after a comma: a space, which the automaton does not count as going on."""
    wish, budgets = Constraints(require=",", forbid="fog"), list(range(4, 40))
    arguments = {"max_new_tokens": 40, "token_budgets": budgets, "num_beams": 4}
    for text in write(llama_model, llama_tokenizer, [""] * len(budgets), wish, **arguments):
        assert_meets(text, wish)


def test_the_way_through_a_phrase_is_favoured_by_its_weight(gpt2_model, gpt2_tokenizer):
    wish = Constraints(require="oil painting")
    arguments = {"max_new_tokens": 40, "num_beams": 1}
    short, long = (
        write(gpt2_model, gpt2_tokenizer, ["a boy,"], wish, phrase_weight=weight, **arguments)[0]
        for weight in (50.0, 0.0)
    )
    short, long = (" ".join(text.split()) for text in (short, long))
    assert 0 < short.find("oil painting") < long.find("oil painting")


def test_what_cannot_be_met_is_said_before_decoding(both):
    model, tokenizer = both
    with pytest.raises(
        ConstraintError, match=r"'alphonse mucha', 'baroque'.* takes up to .* tokens, and the budget is 3"
    ):
        write(model, tokenizer, ["a boy"], Constraints(artist="alphonse mucha", style="baroque"), max_new_tokens=3)
    with pytest.raises(ConstraintError, match="the prompt itself says 'fog', which is forbidden"):
        write(model, tokenizer, ["fog"], Constraints(forbid="fog"))
    with pytest.raises(ValueError, match="pass the tokenizer as `processing_class=tokenizer`"):
        inputs = encode(tokenizer, ["a"])
        model.generate(**inputs, custom_generate=neurologic, constraints=Constraints(require="fog"), max_new_tokens=9)
    with pytest.raises(ValueError, match="2 constraints for 1 prompts"):
        write(model, tokenizer, ["a boy"], [None, Constraints(require="fog")])
