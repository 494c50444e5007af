"""Processors of log-probabilities for rewriting: arrays alone, and nothing that depends on what else is in the batch.

Each takes the sequences so far, (rows, length), and the scores of what may follow, (rows, vocab), as `transformers`'
own do, and is told by `select` which prompts are left of the batch (see `search`).
"""

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

import numpy as np

from neuroprompt.decoding.arrays import Array, Arrays, arrays_of, on_torch
from neuroprompt.prompts import SEPARATORS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Processor(Protocol):
    """What changes the scores of the next token."""

    def __call__(self, input_ids: Array, scores: Array) -> Array: ...
    def select(self, prompts: Array) -> None: ...


class _Rowless:
    def select(self, prompts: Array) -> None:
        """Nothing here belongs to a prompt, so that prompts may leave the batch."""


class NoRepeatedNGrams(_Rowless):
    """Closes the tokens that would complete an n-gram which the row holds already.

    As `transformers.NoRepeatNGramLogitsProcessor`, by comparisons of arrays instead of a loop over rows and tokens.

    Args:
        size: n.
        start: Tokens of the (padded) input that do not count, such as a chat's, which an answer may repeat.
    """

    def __init__(self, size: int, start: int = 0):
        self.size, self.start = size, start

    def __call__(self, input_ids: Array, scores: Array) -> Array:
        n, input_ids = self.size, input_ids[:, self.start :]
        if input_ids.shape[1] < n:
            return scores
        xp, ends = arrays_of(input_ids), input_ids[:, n - 1 :]  # of each n-gram its last token
        begun = xp.full(tuple(ends.shape), True)
        for i in range(n - 1):
            own = input_ids[:, i : i + ends.shape[1]]
            begun &= own == input_ids[:, input_ids.shape[1] - n + 1 + i, None]
        return xp.close(scores, ends, begun)


class MinModifiers:
    """Closes the end of the sequence to those that have not written `counts` separators yet.

    Args:
        separators: See `separator_tokens`. (vocab,)
        eos_token_id: The end of the sequence.
        counts: Modifiers that must be begun, for each prompt. (prompts,)
        prompt_length: Tokens of the (padded) input, which do not count.
    """

    def __init__(self, separators: Array, eos_token_id: int, counts: Array, prompt_length: int):
        self.separators, self.eos, self.counts, self.start = separators, eos_token_id, counts, prompt_length

    def select(self, prompts: Array) -> None:
        """Keep the counts of these prompts; the others have left the batch."""
        self.counts = self.counts[prompts]

    def __call__(self, input_ids: Array, scores: Array) -> Array:
        xp = arrays_of(scores)
        begun = self.separators[input_ids[:, self.start :]].sum(1).reshape(len(self.counts), -1)  # (prompts, beams)
        few = (begun < self.counts[:, None]).reshape(-1)
        scores[:, self.eos] = xp.where(few, -math.inf, scores[:, self.eos])
        return scores


class StopsAsEnd(_Rowless):
    """Takes tokens that would stop a text for its end: their probability is the end's, and none of them is written.

    Args:
        stops: Tokens that hold what a text stops at (`stop_tokens`).
        ends: Tokens that end it; the first gets the probability.
    """

    def __init__(self, stops: Array, ends: Array):
        self.stops, self.ends = stops, ends

    def __call__(self, input_ids: Array, scores: Array) -> Array:
        xp = arrays_of(scores)
        scores[:, self.ends[0]] = xp.logsumexp(xp.concat([scores[:, self.ends[:1]], scores[:, self.stops]], axis=1))
        scores[:, self.stops] = -math.inf
        return scores


class Suppressed(_Rowless):
    """Closes tokens that are never written."""

    def __init__(self, tokens: Array):
        self.tokens = tokens

    def __call__(self, input_ids: Array, scores: Array) -> Array:
        scores[:, self.tokens] = -math.inf
        return scores


def stop_tokens(tokenizer: "PreTrainedTokenizerBase", stops: Sequence[str]) -> np.ndarray:
    """Tokens whose text begins with one of the `stops`, as "\\n" is of "\\n\\n". (n,)"""
    if not stops:
        return np.zeros(0, np.int64)
    ordinary = sorted({*range(len(tokenizer))} - {*tokenizer.all_special_ids})
    texts = tokenizer.batch_decode([[token] for token in ordinary], clean_up_tokenization_spaces=False)
    found = [token for token, text in zip(ordinary, texts, strict=True) if text.startswith(tuple(stops))]
    return np.array(found, np.int64)


def separator_tokens(tokenizer: "PreTrainedTokenizerBase", vocab_size: int, xp: Arrays | None = None) -> Array:
    """Which tokens hold a mark that ends a modifier, by default as a tensor. (vocab,) bool"""
    tokens = tokenizer.convert_ids_to_tokens(range(vocab_size))  # None beyond the tokenizer's own
    holds = [any(mark in (token or "") for mark in SEPARATORS.strip()) for token in tokens]
    return (xp or on_torch()).asarray(holds)


class GumbelNoise:
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

    def __init__(self, seeds: Array, prompt_length: int, scale: float = 1.0, among: "Sequence[Warper]" = ()):
        self.seeds = arrays_of(seeds).wide.asarray(seeds)
        self.start, self.scale, self.among = prompt_length, scale, among

    def select(self, prompts: Array) -> None:
        """Keep the noise of these prompts; the others have left the batch."""
        self.seeds = self.seeds[arrays_of(self.seeds).asarray(prompts)]

    def __call__(self, input_ids: Array, scores: Array) -> Array:
        xp, wide, step = arrays_of(scores), arrays_of(self.seeds), input_ids.shape[1] - self.start
        tokens = wide.arange(scores.shape[1])
        bits = _splitmix(_splitmix(self.seeds + step)[:, None] + tokens)  # (prompts, vocab)
        uniform = (wide.astype((bits >> 11) & (2**53 - 1), wide.float64) + 0.5) * 2.0**-53
        noise = -self.scale * xp.asarray(wide.astype(wide.log(-wide.log(uniform)), wide.float32))
        noisy = (scores.reshape(len(noise), -1, scores.shape[1]) + noise[:, None]).reshape(scores.shape)
        if not self.among:
            return noisy
        left = scores
        for warper in self.among:
            left = warper(input_ids, left)
        return xp.where(left > -math.inf, noisy, scores)


def noise_seed(*parts: object) -> int:
    """A seed for `GumbelNoise` (64 bits, signed) that belongs to these parts, such as a seed and a prompt."""
    digest = blake2b(":".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


Warper = Callable[[Array, Array], Array]


class Temperature(_Rowless):
    """Divides log-probabilities."""

    def __init__(self, temperature: float):
        self.temperature = temperature

    def __call__(self, input_ids: Array, scores: Array) -> Array:
        return scores / self.temperature


class TopK(_Rowless):
    """Closes all but the k likeliest tokens, and those that are as likely as the last of them."""

    def __init__(self, k: int):
        self.k = k

    def __call__(self, input_ids: Array, scores: Array) -> Array:
        xp = arrays_of(scores)
        return xp.where(scores < xp.least_of_top(scores, min(self.k, scores.shape[1])), -math.inf, scores)


class TopP(_Rowless):
    """Closes all but the likeliest tokens whose probabilities come to `share`."""

    def __init__(self, share: float):
        self.share = share

    def __call__(self, input_ids: Array, scores: Array) -> Array:
        xp = arrays_of(scores)
        order = xp.argsort(scores)
        below = xp.exp(xp.log_softmax(xp.take_along_axis(scores, order, 1))).cumsum(axis=1)
        closed = below <= 1 - self.share
        closed[:, -1:] = False
        return xp.where(xp.take_along_axis(closed, xp.argsort(order), 1), -math.inf, scores)


class MinP(_Rowless):
    """Closes the tokens that are less likely than so large a part of the likeliest one's probability."""

    def __init__(self, part: float):
        self.part = part

    def __call__(self, input_ids: Array, scores: Array) -> Array:
        xp = arrays_of(scores)
        probs = xp.exp(xp.log_softmax(scores))
        return xp.where(probs < self.part * xp.amax(probs, axis=1, keepdims=True), -math.inf, scores)


def sampling_warpers(temperature: float, top_k: int, top_p: float) -> list[Processor]:
    """What makes log-probabilities those that are sampled from; `top_k` 0 and `top_p` 1 take all tokens."""
    warpers: list[Processor] = [Temperature(float(temperature))]
    if top_k:
        warpers.append(TopK(top_k))
    if top_p < 1:
        warpers.append(TopP(top_p))
    return warpers


def _splitmix(x: Array) -> Array:
    """SplitMix64's finaliser on int64 (arithmetic wraps around; shifts are made logical by a mask)."""
    x = x * -7046029254386353131  # 0x9E3779B97F4A7C15
    x = (x ^ ((x >> 30) & (2**34 - 1))) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ ((x >> 27) & (2**37 - 1))) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ ((x >> 31) & (2**33 - 1))
