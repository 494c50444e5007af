import gc
import random
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from neuroprompt.decoding import ConstraintError, occurrences
from neuroprompt.decoding.automaton import BANNED, CLOSING, DEAD_END, EXIT, FORBIDDEN, SHUT, Automaton
from neuroprompt.decoding.constraints import CONNECTIVES, fold
from neuroprompt.decoding.vocabulary import CACHE_BYTES, Vocabulary

PHRASES = (
    "art|artist|art deco|deco|8k|mucha|alphonse mucha|cha, b|café|naïve art|☀|low-poly|poly|f/1.8|cat's|cat|--|a|by a|"
    "golden hour|hour|the|富士|c++|blurry|not blurry|oil painting, 8k|👩‍🎨"
).split("|")
TOKENIZERS = ["gpt2_tokenizer", "lowercase_tokenizer", "llama_tokenizer"]


@pytest.fixture(params=TOKENIZERS)
def vocabulary(request):
    return Vocabulary.of(request.getfixturevalue(request.param))


def random_automaton(vocabulary, rng, anywhere=False):
    while True:
        phrases = rng.sample(PHRASES, 8)
        clauses, forbidden = (phrases[:2], phrases[2:3], phrases[3:4]), phrases[4:]
        try:
            return Automaton(vocabulary, clauses, forbidden, anywhere)
        except ConstraintError:  # a required phrase holds a forbidden one
            continue


def price(automaton, clauses):
    """Tokens that surely write the clauses in these bits."""
    return sum(int(tokens) for clause, tokens in enumerate(automaton.price) if clauses >> clause & 1)


def stands(phrase, text, anywhere):
    """Whether `phrase` is in `text`: anywhere, or as a modifier of its own, or at its end behind a connective."""
    if anywhere:
        return any(occurrences(text, phrase))
    text = fold(text)
    before = r"(?:^|\W)" if fold(phrase).startswith(CONNECTIVES) else r"(?:^|,) ?"
    return bool(re.search(before + re.escape(fold(phrase).strip()) + r"(?=,|$)", text))


def entry(automaton, row, token):
    """What `row` says of `token`: next state, bits, cost."""
    base, blank, rank = automaton.bases[row.base], automaton.blank, automaton.vocabulary.rank[token]
    state, completed = int(blank.after[row.base, token]), 0
    for part in (base, row):
        run = np.searchsorted(part.start, rank, side="right") - 1
        state = int(part.state[run]) if part.state[run] >= 0 else state
        completed |= int(part.completed[run])
    cost = int(automaton.cost_of_kind[blank.kind[row.base, token]])
    for part in (base, row):
        if part.others == SHUT:
            cost = BANNED
        elif blank.spoiling[part.others, token] and cost < DEAD_END - CLOSING:
            cost += CLOSING
        named = np.flatnonzero(part.token == token)
        cost = int(part.cost[named[0]]) if len(named) else cost
    return state, completed, cost


def test_the_bytes_of_tokens_are_what_they_decode_to(request, vocabulary):
    text = "a boy, by Alphonse Mucha; ☀️ café 富士 (the end) 👩‍🎨"
    for name in TOKENIZERS:
        tokenizer = request.getfixturevalue(name)
        if Vocabulary.of(tokenizer) is vocabulary:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            said = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            assert vocabulary.text(ids).removeprefix(" ") == said
            assert vocabulary.text([tokenizer.eos_token_id]) == ""


@pytest.mark.parametrize("anywhere", [False, True])
def test_rows_agree_with_reading_the_text(vocabulary, anywhere):
    """Along random walks, every token's next state and what it completes are those of the text read from its start, and
    what is satisfied is what plain search finds."""
    rng = random.Random(0)
    for _ in range(12):
        automaton, inside = random_automaton(vocabulary, rng, anywhere), {}
        for _ in range(6):
            tokens, state, satisfied = [], 2, 0
            for _ in range(20):
                row = automaton.row(state)
                likely = [*row.advances[:, 0], *automaton.bases[row.base].advances[:, 0]]
                token = int(rng.choice(likely)) if likely and rng.random() < 0.5 else rng.randrange(vocabulary.size)
                following, completed, cost = entry(automaton, row, token)
                if not vocabulary.bytes[token]:
                    assert cost == BANNED
                    continue
                written = b"".join(vocabulary.bytes[t] for t in [*tokens, token])
                try:
                    whole, begun = written.decode(), b""
                except UnicodeDecodeError as error:
                    if error.reason != "unexpected end of data":
                        assert cost == BANNED
                        continue
                    whole, begun = written[: error.start].decode(), written[error.start :]
                state_read, completed_read = automaton.read(whole)
                if begun:  # inside a character there are states of their own, one for each way there
                    assert inside.setdefault((state_read, begun), following) == following
                else:
                    assert following == state_read
                assert satisfied | completed == completed_read
                assert (cost == BANNED) == bool(completed & FORBIDDEN)
                if cost == BANNED:
                    continue
                tokens.append(token)
                state, satisfied = following, satisfied | completed
                if not begun:
                    ending = satisfied | automaton.pending(state)
                    for clause, phrases in enumerate(automaton.clauses):
                        assert bool(ending >> clause & 1) == any(stands(p, whole, anywhere) for p in phrases)
                    found = any(any(occurrences(whole, p)) for p in automaton.forbidden)
                    assert bool(ending & FORBIDDEN) == found
            assert len(set(inside.values())) == len(inside)


@pytest.mark.parametrize("anywhere", [False, True])
def test_there_is_always_a_token_that_needs_one_less(vocabulary, anywhere):
    """The invariant that makes the decoder exact: from a state with need n some admitted token leads to one with need
    at most n - 1, whatever was written before."""
    rng = random.Random(1)
    for _ in range(12):
        automaton = random_automaton(vocabulary, rng, anywhere)
        state, still_open = automaton.read(rng.choice(["a boy", "an art", "golden", "oil painting,", "by"]))
        if still_open & FORBIDDEN or automaton.pending(state) & FORBIDDEN:
            continue
        still_open = automaton.everything & ~still_open
        left = automaton.need(state, still_open) + rng.randrange(12)
        while left:
            row = automaton.row(state)
            total = price(automaton, still_open)
            admitted = {}
            for token in range(vocabulary.size):
                following, completed, cost = entry(automaton, row, token)
                if cost < DEAD_END and cost <= left - total:
                    admitted[token] = (following, still_open & ~completed)
            own = [tuple(map(int, advance)) for advance in row.advances]
            begins = automaton.bases[row.base].advances
            base = [tuple(map(int, advance)) for advance in begins if advance[0] not in row.void]
            for token, clause, tokens_left, _ in own + base:
                following, completed, cost = entry(automaton, row, token)
                paid = automaton.pending(state) & still_open if clause == EXIT else still_open & 1 << clause
                if cost < BANNED and paid and tokens_left + total - price(automaton, paid) - 1 <= left - 1:
                    admitted[token] = (following, still_open & ~completed)
            needs = {token: automaton.need(*after) for token, after in admitted.items()}
            ends = not still_open & ~automaton.pending(state) and not automaton.pending(state) & FORBIDDEN
            assert needs or ends
            if not needs:
                break
            assert max(needs.values()) <= left - 1
            state, still_open = admitted[rng.choice(list(needs))]
            left -= 1
        assert not still_open & ~automaton.pending(state)
        assert not automaton.pending(state) & FORBIDDEN


def test_words_are_not_begun_late(gpt2_tokenizer):
    vocabulary = Vocabulary.of(gpt2_tokenizer)
    automaton = Automaton(vocabulary, [["fog"]], [])
    comma, horse = (gpt2_tokenizer(text)["input_ids"][0] for text in (",", " horse"))
    state, _ = automaton.read("a boy")
    row = automaton.row(state)
    assert entry(automaton, row, comma)[2] == 0
    assert entry(automaton, row, horse)[2] == 1 + CLOSING


def test_what_cannot_be_written_is_named(gpt2_tokenizer):
    with pytest.raises(ConstraintError, match="no way to write 'art deco' that leaves out every forbidden phrase"):
        Automaton(Vocabulary.of(gpt2_tokenizer), [["art deco"]], ["deco"])


def test_other_tokenizers_are_refused():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ValueError, match="cannot read the bytes"):
        Vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"))


def test_automata_and_vocabularies_are_kept(gpt2_tokenizer):
    vocabulary = Vocabulary.of(gpt2_tokenizer)
    vocabulary.automata.limit = CACHE_BYTES
    assert Vocabulary.of(gpt2_tokenizer) is vocabulary
    kept = Automaton.of(vocabulary, [["fog"]], ["x"])
    assert kept is Automaton.of(vocabulary, (("fog",),), ("x",))
    assert kept is not Automaton.of(vocabulary, [["fog"]], ["x"], anywhere=True)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(
    uses=st.lists(st.tuples(st.sampled_from(PHRASES[:12]), st.integers(0, 9)), min_size=1, max_size=20),
    limit=st.integers(0, 400_000),
)
def test_what_is_kept_fits_its_bound_and_was_used_last(gpt2_tokenizer, uses, limit):
    vocabulary, order = Vocabulary.of(gpt2_tokenizer), []
    vocabulary.automata.clear()
    vocabulary.automata.limit = limit
    for phrase, states in uses:
        automaton = Automaton.of(vocabulary, [[phrase]], [])
        for state in range(min(states, len(automaton))):  # as a search does: it grows
            automaton.row(state)
        vocabulary.automata.trim()
        assert vocabulary.automata.nbytes <= limit
        key = (((phrase,),), (), False)
        order = [*(k for k in order if k != key), key]
        kept = [k for k in order if vocabulary.automata.get(k)]
        assert kept == order[len(order) - len(kept) :]


def test_automata_take_the_memory_that_they_say(gpt2_tokenizer):
    vocabulary, rng = Vocabulary.of(gpt2_tokenizer), random.Random(2)
    random_automaton(vocabulary, rng).row(3)  # what is made once
    tracemalloc.start()
    made = [random_automaton(vocabulary, rng, anywhere=i % 2 == 1) for i in range(20)]
    for automaton in made:
        for state in range(3, len(automaton), 3):
            automaton.row(state)
    gc.collect()
    traced = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.8 < sum(automaton.nbytes for automaton in made) / traced < 1.25
