"""Logits processors, beside those of `transformers` and beside probability theory."""

import pytest
import torch
from transformers import NoRepeatNGramLogitsProcessor

from neuroprompt.decoding.processors import (
    GumbelNoise,
    MinModifiers,
    NoRepeatedNGrams,
    noise_seed,
    sampling_warpers,
    separator_tokens,
)


def test_gumbel_noise_samples_from_the_softmax():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0]).expand(20_000, 4)
    seeds = torch.arange(20_000) * 7919
    ids = torch.zeros(20_000, 5, dtype=torch.long)
    counts = GumbelNoise(seeds, 5)(ids, logits).argmax(1).bincount(minlength=4) / 20_000
    assert torch.allclose(counts, logits[0].softmax(0), atol=0.015)  # four standard errors
    # steps are independent of each other
    next_ids = torch.zeros(20_000, 6, dtype=torch.long)
    first = GumbelNoise(seeds, 5)(ids, logits).argmax(1)
    second = GumbelNoise(seeds, 5)(next_ids, logits).argmax(1)
    expected = (logits[0].softmax(0) ** 2).sum()
    assert ((first == second).double().mean() - expected).abs() < 0.015


def test_the_noise_belongs_to_the_prompt_wherever_it_stands():
    seeds, ids, logits = torch.tensor([noise_seed(0, t) for t in "abc"]), torch.zeros(6, 4).long(), torch.zeros(6, 9)
    whole = GumbelNoise(seeds, 2)(ids, logits)
    assert torch.equal(whole[0], whole[1]) and not torch.equal(whole[0], whole[2])  # two beams of the first
    noise = GumbelNoise(seeds, 2)
    noise.select(torch.tensor([2, 0]))
    assert torch.equal(noise(ids[:2], logits[:2]), whole[[4, 0]])


def test_a_seed_is_of_all_its_parts():
    seeds = {noise_seed(*parts) for parts in [(0, 0, "a"), (0, 1, "a"), (1, 0, "a"), (0, 0, "b"), (0, "a")]}
    assert len(seeds) == 5 and all(-(2**63) <= seed < 2**63 for seed in seeds)
    assert noise_seed(7, "\ud800") == noise_seed(7, "\ud800")  # half of a surrogate pair, as prompts may hold


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_repeated_ngrams_as_in_transformers(size):
    ids = torch.randint(0, 4, (64, 12), generator=torch.Generator().manual_seed(0))
    scores = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    expected = NoRepeatNGramLogitsProcessor(size)(ids, scores.clone())
    assert torch.equal(NoRepeatedNGrams(size)(ids, scores.clone()), expected) and expected.isinf().any()


def test_the_end_waits_for_modifiers(gpt2_tokenizer):
    separators = separator_tokens(gpt2_tokenizer, len(gpt2_tokenizer) + 3)
    comma, word = (gpt2_tokenizer(text)["input_ids"][0] for text in (",", "fog"))
    assert separators[comma] and not separators[word] and not separators[-3:].any()
    ids = torch.tensor([[comma, word, word], [word, comma, word], [word, comma, comma]])  # the first is the prompt's
    end = gpt2_tokenizer.eos_token_id
    scores = MinModifiers(separators, end, torch.full((3,), 2), 1)(ids, torch.zeros(3, len(separators)))
    assert scores[:, end].tolist() == [-torch.inf, -torch.inf, 0.0] and (scores[:, word] == 0).all()


def test_warpers_that_change_nothing_are_left_out():
    assert [type(w).__name__ for w in sampling_warpers(0.5, 0, 1.0)] == ["Temperature"]
    assert len(sampling_warpers(0.5, 10, 0.9)) == 3
