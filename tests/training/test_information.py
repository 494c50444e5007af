"""What modifiers say about their prompts: against one text at a time in float64, and what is kept of pairs."""

import json
import math
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.policies import load_policy, load_tokenizer, read_prompts
from neuroprompt.prompts import Prompt
from neuroprompt.training.information import InformationConfig, information, keep_informative, trimmed

PAIRS = [
    ("a castle", ", fog, 8k, by night"),
    ("logo of a fox, flat", " and clean, vector; white background"),
    ("portrait of an old man with a long white beard", ", studio lighting"),
    ("a bowl of strawberries", ", food photography, bokeh, 35mm"),
]


@pytest.fixture(scope="module")
def policy():
    return load_policy("embedded", dtype="float32").eval(), load_tokenizer("embedded")


def test_information_is_what_one_text_at_a_time_says(policy):
    model, tokenizer = policy
    references = [["a dragon", "two cats in the rain"]] * len(PAIRS)
    found = information(model, tokenizer, PAIRS, references)
    double = load_policy("embedded", dtype="float64").eval()

    @torch.inference_mode()
    def logprobs(prompt, tail):
        (head,) = read_prompts(tokenizer, [prompt])
        ids = torch.tensor([head + tokenizer(tail, add_special_tokens=False)["input_ids"]])
        chosen = torch.log_softmax(double(ids).logits[0, :-1], -1).gather(-1, ids[0, 1:, None])[:, 0]
        return chosen[len(head) - 1 :]

    for (prompt, tail), others, nats in zip(PAIRS, references, found, strict=True):
        segments = Prompt.parse(tail).segments
        assert len(nats) == len(segments)
        texts = [logprobs(text, tail) for text in (prompt, *others)]
        offsets = tokenizer(tail, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        for segment, said in zip(segments, nats, strict=True):
            first = tail.index(segment)
            mine = [i for i, (a, b) in enumerate(offsets) if b > first and a < first + len(segment)]
            own, *rest = (text[mine].sum().item() for text in texts)
            assert said == pytest.approx(own - math.log(sum(map(math.exp, rest)) / len(rest)), rel=1e-3, abs=2e-3)


numbers = st.floats(-5, 5)


@given(st.lists(numbers, max_size=8), st.integers(0, 3), st.integers(1, 3))
def test_what_is_kept_says_something_but_for_a_few_commonplaces(said, commonplaces, informative):
    config = InformationConfig(commonplaces=commonplaces, min_informative=informative)
    names = [f"m{i}" for i in range(len(said))]
    kept = Prompt.parse(trimmed("".join(f", {name}" for name in names), said, config)).segments
    telling = [name for name, nats in zip(names, said, strict=True) if nats >= config.least]
    if len(telling) < informative:
        assert not kept
        return
    assert [name for name in kept if name in telling] == telling
    common = {name: said[names.index(name)] for name in kept if name not in telling}
    assert all(nats >= config.below for nats in common.values())
    left = [n for name, n in zip(names, said, strict=True) if name not in kept and config.below <= n < config.least]
    assert not common or max(left, default=-9) <= min(common.values())
    assert len(set(common.values())) <= commonplaces


def test_pairs_are_kept_with_what_says_something(policy):
    pairs = Dataset.from_dict(
        {
            "prompt": [prompt for prompt, _ in PAIRS] + ["word " * 60],
            "completion": [tail for _, tail in PAIRS] + [", fog"],
            "medium": [""] * 5,
        }
    )
    everything = InformationConfig(least=-99, below=-99, min_informative=1, frequent=1)
    kept = keep_informative(pairs, *policy, everything, "embedded")
    assert kept.column_names == ["prompt", "completion", "medium"]
    assert list(zip(kept["prompt"], kept["completion"], strict=True)) == PAIRS  # but for the long one
    some = keep_informative(pairs, *policy, InformationConfig(min_informative=1, frequent=1), "embedded")
    texts = dict(zip(some["prompt"], some["completion"], strict=True))
    whole = dict(PAIRS)
    assert texts and all(
        set(Prompt.parse(t).segments) <= set(Prompt.parse(whole[p]).segments) for p, t in texts.items()
    )
    assert len(keep_informative(pairs, *policy, replace(everything, limit=2), "embedded")) == 2
    frequent = replace(everything, frequent=0.19)
    assert not len(keep_informative(pairs, *policy, frequent, "embedded"))  # each of them is in a fifth of the pairs


@pytest.mark.parametrize("setting", [{"least": -1.0}, {"references": 0}, {"min_informative": 0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=json.dumps(next(iter(setting.values())))):
        InformationConfig(**setting)
