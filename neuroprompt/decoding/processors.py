"""Logits processors for rewriting: tensors alone, and nothing that depends on what else is in the batch."""

import math
from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from neuroprompt.models import float64_device
from neuroprompt.prompts import SEPARATORS


class NoRepeatedNGrams(LogitsProcessor):
    """Closes the tokens that would complete an n-gram which the row holds already.

    As `transformers.NoRepeatNGramLogitsProcessor`, by comparisons of tensors instead of a loop over rows and tokens.

    Args:
        size: n.
        start: Tokens of the (padded) input that do not count, such as a chat's, which an answer may repeat.
    """

    def __init__(self, size: int, start: int = 0):
        self.size, self.start = size, start

    def select(self, prompts: Tensor) -> None:
        """Nothing here belongs to a prompt, so that prompts may leave the batch (see `neurologic`)."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        n, input_ids = self.size, input_ids[:, self.start :]
        if input_ids.shape[1] < n:
            return scores
        windows = input_ids.unfold(1, n, 1)  # (rows, windows, n)
        last = input_ids[:, None, input_ids.shape[1] - n + 1 :]  # (rows, 1, n - 1)
        begun = (windows[..., :-1] == last).all(-1)  # (rows, windows)
        closed = torch.where(begun, -math.inf, 0.0).to(scores.dtype)
        return scores.scatter_add(1, windows[..., -1], closed)


class MinModifiers(LogitsProcessor):
    """Closes the end of the sequence to those that have not written `counts` separators yet.

    Args:
        separators: See `separator_tokens`. (vocab,)
        eos_token_id: The end of the sequence.
        counts: Modifiers that must be begun, for each prompt. (prompts,)
        prompt_length: Tokens of the (padded) input, which do not count.
    """

    def __init__(self, separators: Tensor, eos_token_id: int, counts: Tensor, prompt_length: int):
        self.separators, self.eos, self.counts, self.start = separators, eos_token_id, counts, prompt_length

    def select(self, prompts: Tensor) -> None:
        """Keep the counts of these prompts; the others have left the batch."""
        self.counts = self.counts[prompts]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        begun = self.separators[input_ids[:, self.start :]].sum(1).view(len(self.counts), -1)  # (prompts, beams)
        few = (begun < self.counts[:, None]).flatten()
        scores[:, self.eos] = scores[:, self.eos].masked_fill(few, -math.inf)
        return scores


class StopsAsEnd(LogitsProcessor):
    """Takes tokens that would stop a text for its end: their probability is the end's, and none of them is written.

    Args:
        stops: Tokens that hold what a text stops at (`stop_tokens`).
        ends: Tokens that end it; the first gets the probability.
    """

    def __init__(self, stops: Tensor, ends: Tensor):
        self.stops, self.ends = stops, ends

    def select(self, prompts: Tensor) -> None:
        """Nothing here belongs to a prompt."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        stopped = torch.cat([scores[:, self.ends[:1]], scores[:, self.stops]], dim=1).logsumexp(1)
        scores = scores.index_fill(1, self.stops, -math.inf)
        scores[:, self.ends[0]] = stopped
        return scores


def stop_tokens(tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> Tensor:
    """Tokens whose text begins with one of the `stops`, as "\\n" is of "\\n\\n". (n,)"""
    if not stops:
        return torch.zeros(0, dtype=torch.long)
    ordinary = sorted({*range(len(tokenizer))} - {*tokenizer.all_special_ids})
    texts = tokenizer.batch_decode([[token] for token in ordinary], clean_up_tokenization_spaces=False)
    return torch.tensor([t for t, text in zip(ordinary, texts, strict=True) if text.startswith(tuple(stops))]).long()


def separator_tokens(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> Tensor:
    """Which tokens hold a mark that ends a modifier. (vocab,) bool"""
    tokens = tokenizer.convert_ids_to_tokens(range(vocab_size))  # None beyond the tokenizer's own
    return torch.tensor([any(mark in (token or "") for mark in SEPARATORS.strip()) for token in tokens])


class GumbelNoise(LogitsProcessor):
    """Turns an argmax into a sample (the Gumbel-max trick), with noise that belongs to the prompt and not to the batch.

    The noise of a token is a hash (SplitMix64; Steele et al., 2014) of the seed, the step and the token, so that
    a prompt is sampled alike in any batch, on any device, and without a generator per row.

    Args:
        seeds: One per prompt, such as `noise_seed` gives; its beams share it. (prompts,)
        prompt_length: Tokens of the (padded) input: steps count from there.
        scale: 1 makes an argmax a sample; less draws a search away from the mode by as much.
        among: Warpers; what they leave gets noise, by default all tokens. The others can still be chosen: a search may
            need them. But of the tens of thousands of a large vocabulary that nobody would write, one is lucky at
            nearly every step.
    """

    def __init__(self, seeds: Tensor, prompt_length: int, scale: float = 1.0, among: Sequence[LogitsProcessor] = ()):
        self.seeds, self.start, self.scale = seeds.to(float64_device(seeds.device)), prompt_length, scale
        self.among = among

    def select(self, prompts: Tensor) -> None:
        """Keep the noise of these prompts; the others have left the batch."""
        self.seeds = self.seeds[prompts.to(self.seeds.device)]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self.start
        tokens = torch.arange(scores.shape[1], device=self.seeds.device)
        bits = _splitmix(_splitmix(self.seeds + step)[:, None] + tokens)  # (prompts, vocab)
        uniform = ((bits >> 11) & (2**53 - 1)).double().add_(0.5).mul_(2.0**-53)
        noise = -self.scale * torch.log(-torch.log(uniform)).to(scores.dtype).to(scores.device)
        noisy = (scores.view(len(noise), -1, scores.shape[1]) + noise[:, None]).view_as(scores)
        if not self.among:
            return noisy
        left = scores
        for warper in self.among:
            left = warper(input_ids, left)
        return torch.where(left > -math.inf, noisy, scores)


def noise_seed(*parts: object) -> int:
    """A seed for `GumbelNoise` (64 bits, signed) that belongs to these parts, such as a seed and a prompt."""
    digest = blake2b(":".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def sampling_warpers(temperature: float, top_k: int, top_p: float) -> list[LogitsProcessor]:
    """What makes log-probabilities those that are sampled from; `top_k` 0 and `top_p` 1 take all tokens."""
    warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(float(temperature))]
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    return warpers


def _splitmix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 (arithmetic wraps around; shifts are made logical by a mask)."""
    x = x * -7046029254386353131  # 0x9E3779B97F4A7C15
    x = (x ^ ((x >> 30) & (2**34 - 1))) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ ((x >> 27) & (2**37 - 1))) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ ((x >> 31) & (2**33 - 1))
