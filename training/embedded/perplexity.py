"""How well a policy predicts what experts add to a prompt, beside two baselines that know less.

All predict the same tokens, those of the held-out completions and their end, given the plain prompt. Perplexity per
token depends on the tokenizer; per byte it can be compared between any two models.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuroprompt.formats import CONTINUE, PromptFormat
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
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: DatasetDict,
    split: str = "test",
    beside: Mapping[str, PreTrainedModel] | None = None,
) -> dict[str, tuple[Perplexity, Perplexity | None]]:
    """The policy and the baselines on the completions of one split; the baselines are made from the train split.

    Args:
        beside: Other policies of the same tokenizer, by what they are called.

    Returns:
        For each model, its perplexity on all completions and on those of which no eight tokens in a row stand in the
        train split (None where there are none). People try many subjects with one long tail: what a model remembers
        and what it has understood are different things.
    """
    train, held_out = encode_pairs(data["train"], tokenizer), encode_pairs(data[split], tokenizer)
    sizes = np.array([len(c.encode()) for c in data[split]["completion"][:]])
    models = {
        **{name: partial(policy_nats, of) for name, of in {"policy": model, **(beside or {})}.items()},
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


def encode_pairs(pairs: Dataset, tokenizer: PreTrainedTokenizerBase, asked: PromptFormat = CONTINUE) -> Pairs:
    """The data set's columns `prompt`, as it is asked, and `completion` as token ids, each completion closed by the end
    token."""
    prompts = asked.encode(tokenizer, pairs["prompt"][:])
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
        chosen = labels[:, 1:] >= 0
        logits = model(ids).logits[:, :-1][chosen].float()  # (tokens of completions, vocab)
        total += torch.nn.functional.cross_entropy(logits, labels[:, 1:][chosen], reduction="sum").item()
    return total


class KneserNey:
    """Interpolated Kneser-Ney n-gram model (Chen and Goodman, 1999, eq. 15-17), one discount per order.

    An n-gram is one integer, whatever the vocabulary: the number of its first n - 1 tokens among all that stand before
    a token, times the size of the vocabulary, plus its last token. They are counted by sorting; a look-up is a binary
    search.

    Args:
        pairs: What to count: prompts and completions, both.
        vocab_size: Of the tokenizer. What stands before the first token of a text is the token `vocab_size`.
        order: n, of the longest n-grams.
    """

    def __init__(self, pairs: Pairs, vocab_size: int, order: int = 4):
        if order < 1:
            raise ValueError(f"order is {order}: n-grams are of 1 token or more")
        self.order, self.vocab_size = order, vocab_size
        grams = np.concatenate([self.grams(p + c) for p, c in pairs])  # (tokens, order)
        self._contexts: list[NDArray[np.int64]] = []  # of 1, 2 … order - 1 tokens: their integers, sorted
        for n in range(1, order):
            self._contexts.append(np.unique(self._number(grams[:, order - 1 - n : -1])))
        self._tables = []
        first, counts = np.unique(self._number(grams), return_index=True, return_counts=True)[1:]
        for n in range(order, 0, -1):
            grams = grams[first][:, -n:]  # the different ones, in the order of their integers
            keys = self._number(grams)
            contexts, first = np.unique(keys // (vocab_size + 1), return_index=True)
            totals = np.add.reduceat(counts, first)
            kinds = np.diff(np.append(first, len(keys)))
            ones, twos = (counts == 1).sum(), (counts == 2).sum()
            discount = ones / (ones + 2 * twos) if ones else 0.5
            self._tables.append((keys, counts, contexts, totals, kinds, discount))
            # Lower orders count the distinct words before an n-gram, not its occurrences.
            first, counts = np.unique(self._number(grams[:, 1:]), return_index=True, return_counts=True)[1:]

    def grams(self, tokens: list[int]) -> NDArray[np.int32]:
        """The n-gram that ends at each token, (tokens, order)."""
        padded = np.array([self.vocab_size] * (self.order - 1) + tokens, dtype=np.int32)
        return np.lib.stride_tricks.sliding_window_view(padded, self.order)

    def nats(self, pairs: Pairs) -> float:
        """Total negative log-likelihood of the completions after their prompts."""
        grams = np.concatenate([self.grams(p + c)[len(p) :] for p, c in pairs])
        return float(-np.log(self.probability(grams)).sum())

    def probability(self, grams: NDArray[np.integer]) -> NDArray[np.float64]:
        """P(last token | the ones before) of n-grams, (n-grams, order)."""
        p = np.full(len(grams), 1.0 / self.vocab_size)
        for n in range(1, self.order + 1):
            keys, counts, contexts, totals, kinds, discount = self._tables[self.order - n]
            gram = self._number(grams[:, -n:])
            context = gram // (self.vocab_size + 1)
            at = np.searchsorted(contexts, context).clip(max=len(contexts) - 1)
            known = contexts[at] == context
            where = np.searchsorted(keys, gram).clip(max=len(keys) - 1)
            count = np.where(keys[where] == gram, counts[where], 0)
            mixed = (np.maximum(count - discount, 0) + discount * kinds[at] * p) / totals[at]
            p = np.where(known, mixed, p)
        return p

    def _number(self, grams: NDArray[np.integer]) -> NDArray[np.int64]:
        """The integers of n-grams, (n-grams, n); below 0 where the first n - 1 tokens never stood before a token."""
        numbers = np.zeros(len(grams), dtype=np.int64)
        for n, token in enumerate(grams.T):
            if n:
                contexts = self._contexts[n - 1]
                at = np.searchsorted(contexts, numbers).clip(max=len(contexts) - 1)
                numbers = np.where(contexts[at] == numbers, at, -1)
            numbers = np.where(numbers < 0, -1, numbers * (self.vocab_size + 1) + token)
        return numbers


class FixedSuffix:
    """Always the ten most frequent modifiers, in order of frequency: what a style preset does.

    A token is the one at the same place of the suffix with probability λ, or any token by its frequency; λ is fitted
    to the training completions by expectation maximisation.
    """

    def __init__(self, train: Pairs, completions: Sequence[str], tokenizer: PreTrainedTokenizerBase, size: int = 10):
        counts = Counter(m for c in completions for m in Prompt.parse(c).segments)
        self.modifiers = [m for m, _ in counts.most_common(size)]
        suffix = tokenizer(", " + ", ".join(self.modifiers), add_special_tokens=False)["input_ids"]
        self.suffix = np.array(suffix + [tokenizer.eos_token_id])
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
