"""Episodes: the sampler draws from the distribution that the update sees, and nothing depends on the batch."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from neuroprompt.coherence import controls
from neuroprompt.formats import RETELL, control_tokens
from neuroprompt.ppo.losses import token_logprobs
from neuroprompt.ppo.model import PolicyWithValue, disable_dropout
from neuroprompt.ppo.rollouts import (
    TRAINING,
    QuerySampler,
    Rollouts,
    diversity,
    encode,
    eos_closed,
    generator,
    model_inputs,
    row_noise,
    sample,
)
from tests.checkpoints.policies import qwen3
from tests.ppo.conftest import WORDS

PROMPTS = ["red fox", "castle sea fog red fox", "sea", "dark castle"]
SEPARATORS = torch.tensor([word in {",", "fog", "8k", "art", "dark"} for word in WORDS])


@pytest.fixture
def model(policy):
    disable_dropout(policy)
    return PolicyWithValue(policy).eval()


def write(model, tokenizer, prompts=PROMPTS, indices=None, temperature=1.3, min_modifiers=0, tokens=9, never=()):
    queries = encode(prompts, tokenizer, 32, None, tokens)
    noise = row_noise(0, TRAINING, 5, range(len(prompts)) if indices is None else indices, tokens)
    never = torch.tensor(never, dtype=torch.long)
    ids, lengths = sample(model.policy, queries, noise, 0, temperature, SEPARATORS, min_modifiers, never)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return queries, ids, mask, noise


@pytest.mark.parametrize(("min_modifiers", "never"), [(0, []), (2, []), (2, [3, 8])])
def test_tokens_are_drawn_from_what_the_update_sees(model, tokenizer, min_modifiers, never):
    """On a padded batch: the update's probabilities and the same noise give the very tokens that were sampled."""
    settings = {"min_modifiers": min_modifiers, "never": never}
    queries, ids, mask, noise = write(model, tokenizer, PROMPTS * 16, tokens=12, **settings)
    assert len(set(mask.sum(1).tolist())) > 1
    with torch.no_grad():
        outputs = model(**model_inputs(queries.ids, queries.mask, ids, mask))
    closed = eos_closed(ids, SEPARATORS, min_modifiers)
    here, suppressed = closed[mask.bool()], torch.tensor(never, dtype=torch.long)
    every = torch.stack(
        [
            token_logprobs(
                outputs.logits.clone(), torch.full_like(here, v, dtype=torch.long), 1.3, here, 0, suppressed
            )[0]
            for v in range(len(WORDS))
        ],
        dim=1,
    )
    drawn = torch.searchsorted(
        every.exp().cumsum(1).double(), noise[:, : ids.shape[1]][mask.bool()][:, None], right=True
    )
    assert torch.equal(drawn.squeeze(1), ids[mask.bool()])
    ends = (ids == 0) & mask.bool()
    assert ends.any() and not (ends & closed).any()
    assert not torch.isin(ids[mask.bool()], suppressed).any()


def test_samples_follow_the_distribution(model, tokenizer):
    """4,000 first tokens, against the exact probabilities (chi-square, 13 degrees of freedom)."""
    _, ids, _, _ = write(model, tokenizer, ["red fox"] * 4000, tokens=1)
    logits = model.policy(torch.tensor([[3, 4]])).logits[0, -1]
    expected = 4000 * torch.softmax(logits / 1.3, -1)
    counts = torch.bincount(ids[:, 0], minlength=len(WORDS))
    assert ((counts - expected) ** 2 / expected).sum() < 34.5  # p = 0.001


def test_a_row_does_not_see_its_batch(model, tokenizer):
    _, ids, mask, _ = write(model, tokenizer, PROMPTS * 4)
    for row in range(16):
        _, alone, alone_mask, _ = write(model, tokenizer, [PROMPTS[row % 4]], indices=[row])
        assert alone[0][alone_mask[0].bool()].tolist() == ids[row][mask[row].bool()].tolist()


def test_rows_end_at_the_end_token_or_their_budget(model, tokenizer):
    queries = encode(PROMPTS * 8, tokenizer, 32, None, 9)
    queries.budgets = torch.arange(32) % 9 + 1
    ids, lengths = sample(model.policy, queries, row_noise(0, TRAINING, 0, range(32), 9), 0, 1.0)
    for row, n, budget in zip(ids.tolist(), lengths.tolist(), queries.budgets.tolist(), strict=True):
        assert 1 <= n <= budget and 0 not in row[: n - 1] and not any(row[n:])
        assert n == budget or row[n - 1] == 0
    assert ids.shape[1] == lengths.max()


def test_no_more_steps_than_rows_need(model, tokenizer):
    """Generation stops when all rows have ended, and rows that have ended are not computed."""
    seen = []
    hook = model.policy.register_forward_pre_hook(lambda m, a, k: seen.append(len(k["input_ids"])), with_kwargs=True)
    queries = encode(PROMPTS * 8, tokenizer, 32, None, 12)
    queries.budgets = torch.tensor([2] * 30 + [5] * 2)
    sample(model.policy, queries, row_noise(0, TRAINING, 0, range(32), 12), 0, 1.0)
    hook.remove()
    assert len(seen) <= 5 and seen[0] == 32 and seen[-1] <= 2


def test_prompts_are_put_as_at_inference(enhancer, monkeypatch):
    texts = ["boy on a horse", "a castle, ", "portrait of an old fisherman by the sea"]
    queries = encode(texts, enhancer.tokenizer, 160, 77, None)
    for i, text in enumerate(texts):
        row = queries.ids[i][queries.mask[i].bool()].tolist()
        told = control_tokens(enhancer.tokenizer)[controls(text)] + text.rstrip(", ")
        assert row == enhancer.tokenizer(told, add_special_tokens=False)["input_ids"]
    assert (queries.mask[:, -1] == 1).all()
    budgets, generate = [], enhancer.model.generate

    def record(*arguments, token_budgets, **settings):
        budgets.extend(token_budgets)
        return generate(*arguments, token_budgets=token_budgets, **settings)

    monkeypatch.setattr(enhancer.model, "generate", record)
    for text in texts:
        enhancer(text, output_scores=False, coherent=False)  # once
    assert queries.budgets.tolist() == budgets


def test_long_and_empty_prompts(tokenizer):
    queries = encode(["red fox " * 30], tokenizer, 32, None, 9)
    assert queries.ids.shape[1] + queries.budgets[0] == 32
    with pytest.raises(ValueError, match="no token"):
        encode([" , "], tokenizer, 32, None, 9)


def test_the_mask_is_the_enhancers(tokenizer):
    from neuroprompt.decoding.processors import MinModifiers

    ids = torch.tensor([[2, 5, 2, 6, 2, 0], [5, 6, 2, 7, 8, 0]])
    closed = eos_closed(ids, SEPARATORS, 2)
    for t in range(6):
        scores = MinModifiers(SEPARATORS, 0, torch.tensor([2, 2]), 0)(ids[:, :t], torch.zeros(2, len(WORDS)))
        assert (scores[:, 0] == -torch.inf).tolist() == closed[:, t].tolist()
    assert not eos_closed(ids, SEPARATORS, 0).any()


@given(st.integers(1, 12), st.integers(0, 9), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5))
def test_every_pass_asks_every_prompt_at_most_once(prompts, extra, copies, repeats, epoch):
    size, batch = 3 * prompts + extra % prompts, prompts * copies
    sampler = QuerySampler(size, batch, copies, repeats, 0, lambda: epoch)
    rows = list(sampler)
    assert len(rows) == len(sampler) == 3 * batch * repeats
    assert set(Counter(rows).values()) == {copies * repeats} and set(rows) <= set(range(size))
    for i in range(0, len(rows), batch * repeats):
        block = rows[i : i + batch * repeats]
        assert all(block[j : j + batch] == block[:batch] for j in range(0, len(block), batch))
        assert all(len(set(block[j : j + copies])) == 1 for j in range(0, batch, copies))
    assert rows == list(QuerySampler(size, batch, copies, repeats, 0, lambda: epoch))


def test_passes_and_seeds_differ():
    orders = [list(QuerySampler(50, 10, 1, 1, seed, lambda e=epoch: e)) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    with pytest.raises(ValueError, match="cannot fill a batch of 60"):
        QuerySampler(50, 120, 2, 1, 0, lambda: 0)


def test_noise_belongs_to_its_place():
    noise = row_noise(3, TRAINING, 7, range(6), 40)
    assert torch.equal(noise[2:4], row_noise(3, TRAINING, 7, [2, 3], 40))
    assert torch.equal(noise[:, :9], row_noise(3, TRAINING, 7, range(6), 9))
    others = [row_noise(4, TRAINING, 7, [0], 40), row_noise(3, 1, 7, [0], 40), row_noise(3, TRAINING, 8, [0], 40)]
    assert len({row.sum().item() for row in [*noise, *(o[0] for o in others)]}) == 9
    assert (noise >= 0).all() and (noise < 1).all()
    assert generator(-1, 0).random() != generator(1, 0).random()


def test_minibatches_are_cut_to_what_is_there(tmp_path):
    def padded(rows, left=False):
        width = max(map(len, rows)) + 3
        return torch.tensor([([0] * (width - len(r)) + r) if left else (r + [0] * (width - len(r))) for r in rows])

    prompts, completions = [[3, 4], [5, 6, 7], [8]], [[2, 7, 0], [9], [10, 0]]
    mask = padded([[1] * len(c) for c in completions])
    numbers = padded([[float(10 * i + t) for t in range(len(c))] for i, c in enumerate(completions)])
    rollouts = Rollouts(
        padded(prompts, left=True),
        padded([[1] * len(p) for p in prompts], left=True),
        padded(completions),
        mask,
        mask.bool(),
        numbers,
        numbers + 0.1,
        numbers + 0.2,
        numbers + 0.3,
    )
    batch = rollouts.minibatch(torch.tensor([2, 0]))
    assert batch["input_ids"].tolist() == [[0, 8, 10, 0, 0], [3, 4, 2, 7, 0]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert batch["tokens"].tolist() == [10, 0, 2, 7, 0]
    assert batch["returns"].tolist() == pytest.approx([20.3, 21.3, 0.3, 1.3, 2.3])
    assert rollouts.tokens(torch.tensor([0, 2])) == 5 and len(rollouts) == 3
    rollouts.save(tmp_path / "rollouts.safetensors")
    again = Rollouts.load(tmp_path / "rollouts.safetensors")
    assert all(torch.equal(v, vars(again)[k]) for k, v in vars(rollouts).items())


def test_prompts_that_are_replaced_are_asked_as_at_inference_and_never_cut(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(qwen3(tmp_path, place=4096, size=4352))
    prompts, thinking = ["(red:1.3) fox, <lora:film:0.7>", "an owl"], replace(RETELL, thinking=50)
    for asked in (RETELL, thinking):
        queries = encode(prompts, tokenizer, 4096, 77, None, asked)
        rows = [ids[mask.bool()].tolist() for ids, mask in zip(queries.ids, queries.mask, strict=True)]
        assert rows == asked.encode(tokenizer, ["red fox", "an owl"])
        most = asked.thinking + math.ceil(1.25 * 77)
        assert all(most < budget < most + 16 for budget in queries.budgets.tolist())
    assert encode(prompts, tokenizer, 4096, None, 20, thinking).budgets.tolist() == [70, 70]
    longest = max(map(len, RETELL.encode(tokenizer, ["red fox", "an owl"])))
    encode(prompts, tokenizer, longest + 20, 77, 20, RETELL)
    with pytest.raises(ValueError, match=f"takes {longest} tokens as it is asked, .* reads {longest + 19}"):
        encode(prompts, tokenizer, longest + 19, 77, 20, RETELL)


def test_diversity():
    assert diversity([", oil painting, 8k"] * 4) == (0.25, 0.25)
    assert diversity([", oil painting, 8k", ", Oil Painting, 8k", ", fog"]) == (2 / 3, 3 / 5)
    assert diversity(["", ""]) == (0.5, 0.0)


def test_of_texts_that_replace_prompts_what_they_add_is_compared():
    prompts = ["a fox", "an owl", "a red fox"]
    alike = [f"{prompt.capitalize()} in golden light." for prompt in prompts]
    assert diversity(alike, prompts) == (1 / 3, 3 / 9)
    assert diversity(["A fox sleeps.", "An owl looks down.", "A red fox."], prompts) == (1, 1)
