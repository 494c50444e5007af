import itertools
import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import GPT2Config, GPT2LMHeadModel

from neuroprompt.prompts import clip_tokenizer
from training.embedded.evaluate_policy import main
from training.embedded.perplexity import (
    FixedSuffix,
    KneserNey,
    Perplexity,
    compare_perplexities,
    encode_pairs,
    policy_nats,
)

PAIRS = Dataset.from_dict(
    {
        "prompt": ["a cat", "a castle on a hill", "a dog"],
        "completion": [", highly detailed, 8k", " by alphonse mucha, sharp focus", ", highly detailed, sharp focus"],
    }
)


def test_policy_nats_ignores_padding_and_prompts(enhancer):
    pairs = encode_pairs(PAIRS, enhancer.tokenizer)
    expected = 0.0
    for prompt, completion in pairs:
        with torch.no_grad():
            logprobs = enhancer.model(torch.tensor([prompt + completion])).logits[0].double().log_softmax(-1)
        expected -= sum(logprobs[len(prompt) - 1 + i, t].item() for i, t in enumerate(completion))
    assert policy_nats(enhancer.model, pairs, batch_size=2) == pytest.approx(expected, rel=1e-5)
    assert completion[-1] == enhancer.tokenizer.eos_token_id


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_sums_to_one(order):
    generator = np.random.default_rng(0)
    pairs = [(generator.integers(5, size=3).tolist(), generator.integers(5, size=6).tolist()) for _ in range(40)]
    model = KneserNey(pairs, vocab_size=6, order=order)
    for history in itertools.product(range(6), repeat=order - 1):
        p = model.probability(np.array([(*history, w) for w in range(6)]))
        assert (p > 0).all()
        assert p.sum() == pytest.approx(1, abs=1e-12)


def test_kneser_ney_bigram_by_hand():
    # Chen and Goodman's formula, written out for one history
    pairs = [([], [0, 1, 0, 1, 0, 2])]
    model = KneserNey(pairs, vocab_size=3, order=2)
    bigrams = {("^", 0): 1, (0, 1): 2, (1, 0): 2, (0, 2): 1}
    n1, n2 = 2, 2
    d = n1 / (n1 + 2 * n2)
    kinds = {0: 2, 1: 1, 2: 1}  # distinct words before 0 (^ and 1), 1 and 2
    m1, m2 = 2, 1
    e = m1 / (m1 + 2 * m2)
    lower = {w: (max(kinds[w] - e, 0) + e * 3 / 3) / sum(kinds.values()) for w in kinds}
    total = sum(c for (h, _), c in bigrams.items() if h == 0)
    for w in range(3):
        expected = (max(bigrams.get((0, w), 0) - d, 0) + d * 2 * lower[w]) / total
        assert model.probability(np.array([[0, w]]))[0] == pytest.approx(expected)


@pytest.mark.parametrize("vocab_size", [2**15 - 1, 2**15, 50_257, 151_936, 2**31 - 2])
def test_kneser_ney_takes_any_vocabulary(vocab_size):
    """What the tokens are called changes nothing."""
    generator = np.random.default_rng(1)
    lengths = generator.integers(1, 9, size=(80, 2))
    pairs = [(generator.integers(40, size=p).tolist(), generator.integers(40, size=c).tolist()) for p, c in lengths]
    names = generator.choice(vocab_size - 2, size=40, replace=False) + 2
    names[:2] = 0, vocab_size - 1
    renamed = [(names[p].tolist(), names[c].tolist()) for p, c in pairs]
    train, test = slice(60), slice(60, None)
    expected = KneserNey(pairs[train], vocab_size).nats(pairs[test])
    assert KneserNey(renamed[train], vocab_size).nats(renamed[test]) == pytest.approx(expected, rel=1e-12)


def test_fixed_suffix_prefers_its_suffix(enhancer):
    tokenizer = enhancer.tokenizer
    train = encode_pairs(PAIRS, tokenizer)
    model = FixedSuffix(train, PAIRS["completion"][:], tokenizer, size=2)
    assert model.modifiers == ["highly detailed", "sharp focus"]
    assert 0 < model.weight < 1
    same = encode_pairs(PAIRS.select([2]), tokenizer)
    other = encode_pairs(PAIRS.select([1]), tokenizer)
    assert model.nats(same) / len(same[0][1]) < model.nats(other) / len(other[0][1])


def test_comparison(enhancer):
    novel = {"prompt": "a whale", "completion": ", woodcut, salt and foam, moonlit, by nobody in particular at all"}
    test = Dataset.from_list([PAIRS[0], novel])
    found = compare_perplexities(enhancer.model, enhancer.tokenizer, DatasetDict(train=PAIRS, test=test))
    assert list(found) == ["policy", "4-gram, Kneser-Ney", "ten most frequent modifiers"]
    for everything, new in found.values():
        assert everything.bytes == len(", highly detailed, 8k") + len(novel["completion"])
        assert new.bytes == len(novel["completion"])
        assert new.nats < everything.nats
    assert found["policy"][0].per_token == pytest.approx(math.exp(found["policy"][0].loss))


def test_a_policy_of_a_large_vocabulary_is_compared():
    """CLIP's tokenizer, which puts tokens around every text, and a model of its 49,408 entries."""
    tokenizer = clip_tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=8, n_layer=1, n_head=1)
    found = compare_perplexities(GPT2LMHeadModel(config).eval(), tokenizer, DatasetDict(train=PAIRS, test=PAIRS))
    assert found["policy"][0].loss == pytest.approx(math.log(len(tokenizer)), rel=0.01)  # it knows nothing
    assert found["4-gram, Kneser-Ney"][0].loss < found["ten most frequent modifiers"][0].loss < found["policy"][0].loss


def test_perplexity_units():
    p = Perplexity(nats=10 * math.log(4), tokens=10, bytes=40)
    assert p.per_token == pytest.approx(4)
    assert p.per_byte == pytest.approx(4**0.25)


def test_policies_of_two_tokenizers_are_not_compared(enhancer, tmp_path):
    other = deepcopy(enhancer.tokenizer)
    other.add_tokens(["lighthousekeeper"])
    other.save_pretrained(tmp_path)
    model = deepcopy(enhancer.model)
    model.resize_token_embeddings(len(other))
    model.save_pretrained(tmp_path)
    (tmp_path / "prompts.txt").write_text("a castle\n")
    with pytest.raises(ValueError, match=f"--beside mine={tmp_path}: it has another tokenizer than embedded"):
        main("embedded", beside=[f"mine={tmp_path}"], prompts=str(tmp_path / "prompts.txt"))
