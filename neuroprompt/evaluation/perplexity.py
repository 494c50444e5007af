"""How well a policy predicts what experts add to a prompt, beside two baselines that know less.

All predict the same tokens, those of the held-out completions and their end, given the plain prompt. Perplexity per
token depends on the tokenizer; per byte it can be compared between any two models.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuroprompt.prompts import Prompt

Pairs = list[tuple[list[int], list[int]]]
"""Token ids of prompt and completion; the completion's end token included."""


@dataclass(frozen=True)
class Perplexity:
    """Total negative log-likelihood in nats, over so many tokens (ends included) and UTF-8 bytes of completions."""

    nats: float
    tokens: int
    bytes: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def per_token(self) -> float:
        return math.exp(self.loss)

    @property
    def per_byte(self) -> float:
        return math.exp(self.nats / self.bytes)


def compare_perplexities(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: DatasetDict, split: str = "test"
) -> dict[str, tuple[Perplexity, Perplexity | None]]:
    """The policy and the baselines on the completions of one split; the baselines are made from the train split.

    Returns:
        For each model, its perplexity on all completions and on those of which no eight tokens in a row stand in the
        train split (None where there are none). People try many subjects with one long tail: what a model remembers
        and what it has understood are different things.
    """
    train, held_out = encode_pairs(data["train"], tokenizer), encode_pairs(data[split], tokenizer)
    sizes = np.array([len(c.encode()) for c in data[split]["completion"][:]])
    models = {
        "policy": lambda pairs: policy_nats(model, pairs),
        "4-gram, Kneser-Ney": KneserNey(train, model.config.vocab_size).nats,
        "ten most frequent modifiers": FixedSuffix(train, data["train"]["completion"][:], tokenizer).nats,
    }
    everything = np.ones(len(held_out), dtype=bool)

    def measure(nats, chosen: NDArray[np.bool_]) -> Perplexity | None:
        pairs = [pair for pair, wanted in zip(held_out, chosen, strict=True) if wanted]
        if not pairs:
            return None
        return Perplexity(nats(pairs), sum(len(c) for _, c in pairs), int(sizes[chosen].sum()))

    new = ~_repeats(train, [c for _, c in held_out])
    return {name: (measure(nats, everything), measure(nats, new)) for name, nats in models.items()}


def encode_pairs(pairs: Dataset, tokenizer: PreTrainedTokenizerBase) -> Pairs:
    """The data set's columns `prompt` and `completion` as token ids, each completion closed by the end token."""
    prompts = tokenizer(pairs["prompt"][:], add_special_tokens=False, return_attention_mask=False)["input_ids"]
    completions = tokenizer(pairs["completion"][:], add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return [(p, c + [tokenizer.eos_token_id]) for p, c in zip(prompts, completions, strict=True)]


@torch.inference_mode()
def policy_nats(model: PreTrainedModel, pairs: Pairs, batch_size: int = 32) -> float:
    """Total negative log-likelihood of the completions under a causal LM, in nats."""
    total = 0.0
    ordered = sorted(pairs, key=lambda p: len(p[0]) + len(p[1]))
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        length = max(len(p) + len(c) for p, c in batch)
        ids = torch.zeros(len(batch), length, dtype=torch.long)
        labels = torch.full((len(batch), length), -100)
        for i, (prompt, completion) in enumerate(batch):
            ids[i, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
            labels[i, len(prompt) : len(prompt) + len(completion)] = torch.tensor(completion)
        ids, labels = ids.to(model.device), labels.to(model.device)
        # Padding stands on the right, where a causal model does not look back from.
        logits = model(ids).logits[:, :-1].float()  # (batch, length - 1, vocab)
        total += torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
        ).item()
    return total


class KneserNey:
    """Interpolated Kneser-Ney n-gram model (Chen and Goodman, 1999, eq. 15-17), one discount per order.

    N-grams are packed into 64-bit integers and counted by sorting; a look-up is a binary search.

    Args:
        pairs: What to count: prompts and completions, both.
        vocab_size: Below 2^15.
        order: 1 to 4.
    """

    def __init__(self, pairs: Pairs, vocab_size: int, order: int = 4):
        if vocab_size >= 2**_BITS or not 1 <= order <= 4:
            raise ValueError(f"n-grams of order {order} over {vocab_size} tokens do not fit 64 bits")
        self.order, self.vocab_size = order, vocab_size
        grams = np.concatenate([_grams(p + c, order) for p, c in pairs])
        self.tables = []
        keys, counts = np.unique(grams, return_counts=True)
        for n in range(order, 0, -1):
            contexts, first = np.unique(keys >> _BITS, return_index=True)
            totals = np.add.reduceat(counts, first)
            kinds = np.diff(np.append(first, len(keys)))
            ones, twos = (counts == 1).sum(), (counts == 2).sum()
            discount = ones / (ones + 2 * twos) if ones else 0.5
            self.tables.append((keys, counts, contexts, totals, kinds, discount))
            # Lower orders count the distinct words before an n-gram, not its occurrences.
            keys, counts = np.unique(keys & ((1 << _BITS * (n - 1)) - 1), return_counts=True)

    def nats(self, pairs: Pairs) -> float:
        """Total negative log-likelihood of the completions after their prompts."""
        grams = np.concatenate([_grams(p + c, self.order)[len(p) :] for p, c in pairs])
        return float(-np.log(self.probability(grams)).sum())

    def probability(self, grams: NDArray[np.int64]) -> NDArray[np.float64]:
        """P(last token | the ones before) of packed n-grams."""
        p = np.full(len(grams), 1.0 / self.vocab_size)
        for n in range(1, self.order + 1):
            keys, counts, contexts, totals, kinds, discount = self.tables[self.order - n]
            gram = grams & ((1 << _BITS * n) - 1)
            context = gram >> _BITS
            at = np.searchsorted(contexts, context).clip(max=len(contexts) - 1)
            known = contexts[at] == context
            where = np.searchsorted(keys, gram).clip(max=len(keys) - 1)
            count = np.where(keys[where] == gram, counts[where], 0)
            mixed = (np.maximum(count - discount, 0) + discount * kinds[at] * p) / totals[at]
            p = np.where(known, mixed, p)
        return p


class FixedSuffix:
    """Always the ten most frequent modifiers, in order of frequency: what a style preset does.

    A token is the one at the same place of the suffix with probability λ, or any token by its frequency; λ is fitted
    to the training completions by expectation maximisation.
    """

    def __init__(self, train: Pairs, completions: Sequence[str], tokenizer: PreTrainedTokenizerBase, size: int = 10):
        counts = Counter(m for c in completions for m in Prompt.parse(c).segments)
        self.modifiers = [m for m, _ in counts.most_common(size)]
        self.suffix = np.array(tokenizer(", " + ", ".join(self.modifiers))["input_ids"] + [tokenizer.eos_token_id])
        tokens = np.bincount(np.concatenate([c for _, c in train]), minlength=len(tokenizer)) + 1.0
        self.frequency = tokens / tokens.sum()
        self.weight = 0.5
        hits, frequencies = self._hits(train)
        for _ in range(50):
            share = self.weight * hits / (self.weight * hits + (1 - self.weight) * frequencies)
            self.weight = float(share.mean())

    def nats(self, pairs: Pairs) -> float:
        hits, frequencies = self._hits(pairs)
        return float(-np.log(self.weight * hits + (1 - self.weight) * frequencies).sum())

    def _hits(self, pairs: Pairs) -> tuple[NDArray, NDArray]:
        tokens = np.concatenate([c for _, c in pairs])
        places = np.concatenate([np.arange(len(c)) for _, c in pairs])
        expected = self.suffix[places.clip(max=len(self.suffix) - 1)]
        return (tokens == expected) & (places < len(self.suffix)), self.frequency[tokens]


def _repeats(train: Pairs, completions: list[list[int]], size: int = 8) -> NDArray[np.bool_]:
    """Which completions share `size` tokens in a row with the train split (shorter ones: are not counted as new)."""

    def hashes(tokens: list[int]) -> NDArray[np.int64]:
        if len(tokens) < size:
            return np.zeros(0, dtype=np.int64)
        windows = np.lib.stride_tricks.sliding_window_view(np.array(tokens, dtype=np.int64), size)
        powers = np.array([pow(1_000_003, i, 2**61) for i in range(size)], dtype=np.int64)
        return ((windows + 1) * powers).sum(1)  # modulo 2^64

    known = np.unique(np.concatenate([hashes(p + c) for p, c in train]))

    def repeats(tokens: list[int]) -> bool:
        found = hashes(tokens)
        return not len(found) or bool((known[np.searchsorted(known, found).clip(max=len(known) - 1)] == found).any())

    return np.array([repeats(c) for c in completions])


_BITS = 15


def _grams(tokens: list[int], order: int) -> NDArray[np.int64]:
    """The packed n-gram that ends at each token; before the first stands the padding 2^15 - 1."""
    padded = np.array([2**_BITS - 1] * (order - 1) + tokens, dtype=np.int64)
    packed = np.zeros(len(tokens), dtype=np.int64)
    for i in range(order):
        packed = (packed << _BITS) | padded[i : i + len(tokens)]
    return packed
