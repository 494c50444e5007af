"""A plain prompt in, an expert one out: the policy continues the user's text with modifiers.

The user's words stay as they are, at the head of the result; what the policy adds are whole modifiers, none twice, and
the whole fits the text encoder's window. Required phrases are there and forbidden ones are not (see `decoding`). Beam
search gives the one best prompt, sampling gives variants; both give a prompt the same result whatever stands beside it
in the batch. Which of the two, and how, a policy can say in its `generation_config.json`.

Plain beam search gives nearly every prompt the same tail, the likeliest one of all ("one suffix for everything", the
known fault of trained rewriters). So the search runs on log-probabilities with a little noise that belongs to the
prompt (`diversity`): perturb-and-MAP, between the mode at 0 and a sample at 1.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from neuroprompt.completions import SEPARATORS, _listing, check_prompt, finish
from neuroprompt.decoding import Constraints, Satisfaction, check
from neuroprompt.decoding.neurologic import neurologic
from neuroprompt.decoding.processors import GumbelNoise, MinModifiers, NoRepeatedNGrams, sampling_warpers
from neuroprompt.models import ModelError, pick_device
from neuroprompt.modifiers import categorise
from neuroprompt.policies import load_policy, load_tokenizer, read_prompts
from neuroprompt.prompts import CLIP_WINDOW, count_clip_tokens


class Modifier(NamedTuple):
    """A modifier that the policy added, and its category (one of `neuroprompt.modifiers.CATEGORIES`, or None)."""

    text: str
    category: str | None


@dataclass(frozen=True)
class EnhancedPrompt:
    """What became of one prompt.

    Attributes:
        original: The user's text.
        text: The result; it starts with `original`.
        modifiers: What was added, in order.
        score: Mean log-probability per added token under the policy, in nats; 0.0 where nothing was added, and None
            where it was not asked for.
        seed: What it was made with.
        clip_tokens: Length of `text` for the text encoder, begin and end tokens included.
        constraints: Which words of `text` met which clause, and where; None where nothing was asked for.
        warning: Why nothing was added, if nothing was.
    """

    original: str
    text: str
    modifiers: tuple[Modifier, ...] = ()
    score: float | None = 0.0
    seed: int = 0
    clip_tokens: int = 0
    constraints: Satisfaction | None = None
    warning: str | None = None

    def to_dict(self) -> dict:
        """As plain JSON types."""
        return asdict(self) | {"modifiers": [m._asdict() for m in self.modifiers]}


class PromptEnhancer:
    """Rewrites prompts with a causal language model.

    Args:
        model: Any causal LM of `transformers`.
        tokenizer: Its tokenizer.

    Example:
        >>> enhancer = PromptEnhancer.from_pretrained()
        >>> enhancer("boy on a horse").text.startswith("boy on a horse, ")
        True
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.model = model.eval()
        self.tokenizer = tokenizer
        if tokenizer.eos_token_id is None:
            raise ModelError(f"the tokenizer of {model.name_or_path} has no end-of-sequence token")
        if (most := max(tokenizer.get_vocab().values())) >= (rows := model.get_input_embeddings().weight.shape[0]):
            raise ModelError(
                f"the tokenizer of {model.name_or_path} is another model's: it has {most + 1} entries, and the model "
                f"reads {rows}"
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left"
        self._positions = getattr(model.config, "max_position_embeddings", None) or 10**9
        self._ends_modifier = torch.tensor(
            [
                bool(re.search("[,;|]", t or ""))
                for t in tokenizer.convert_ids_to_tokens(range(model.config.vocab_size))
            ],
            device=model.device,
        )

    @classmethod
    def from_pretrained(
        cls, name: str | Path = "embedded", device: str | None = None, dtype: str | torch.dtype | None = None
    ) -> "PromptEnhancer":
        """Load a policy.

        Args:
            name: ``embedded``, a folder, or a hub id.
            device: Such as ``cuda``; by default the accelerator if there is one.
            dtype: Of the weights; float32 on a CPU and the checkpoint's own elsewhere by default.

        Raises:
            ModelError: The model cannot be loaded, or is not what its config says; pickled weights are refused, and no
                code that comes with a model is run.
        """
        where = pick_device(device)
        model = load_policy(name, where, dtype=dtype or ("float32" if where.type == "cpu" else "auto"))
        return cls(model, load_tokenizer(name))

    @torch.inference_mode()
    def __call__(
        self,
        prompts: str | Sequence[str],
        constraints: Constraints | Sequence[Constraints | None] | None = None,
        *,
        num_return_sequences: int = 1,
        do_sample: bool | None = None,
        seed: int = 0,
        num_beams: int = 5,
        diversity: float | None = None,
        length_penalty: float = 1.0,
        temperature: float | None = None,
        top_k: int = 100,
        top_p: float = 1.0,
        max_new_tokens: int | None = None,
        min_modifiers: int = 4,
        window: int = CLIP_WINDOW,
        batch_size: int = 160,
        output_scores: bool = True,
    ) -> "EnhancedPrompt | list[EnhancedPrompt] | list[list[EnhancedPrompt]]":
        """Rewrite one prompt or many. The decoding arguments are named as in `transformers.GenerationConfig`.

        What `do_sample`, `temperature` and `diversity` are by default, the policy's `generation_config.json` may say.

        Args:
            prompts: A text, or a sequence of texts.
            constraints: What the results must and must not say: one for all prompts, or one (or None) for each.
            num_return_sequences: Variants per prompt.
            do_sample: Sample instead of searching; by default where the policy says so, or several variants are asked
                for. Where there are constraints to meet, a sample is what the beam search finds in a sample's noise.
            seed: A prompt's results depend on the seed, the prompt and the arguments alone.
            num_beams: Width of the beam search.
            diversity: Scale of the noise on the log-probabilities that beam search sees; 0 is plain beam search, and
                0.7 the default.
            length_penalty: Exponent of the length in a beam's score.
            temperature: Of sampling; 0.9 by default.
            top_k, top_p: Of sampling; `top_k=0` and `top_p=1` take all tokens.
            max_new_tokens: Of the policy, at most; by default as many as the window may hold.
            min_modifiers: The policy may not end before that many (the window may still end it).
            window: CLIP tokens that the result may have, begin and end tokens included.
            batch_size: Sequences that are decoded at once; with beam search a prompt takes `num_beams` of them.
            output_scores: Work out the `score` of each result, which takes about as long as to sample it.

        Returns:
            An `EnhancedPrompt` for a text and a list of them, in order, for a sequence; with `num_return_sequences`
            above 1, a list of variants in the place of each.

        Raises:
            TypeError: A prompt is no string.
            ValueError: A prompt is empty or holds a NUL character, or an argument is out of range.
            ConstraintError: (a ValueError) The constraints cannot be met; found before decoding.
        """
        single = isinstance(prompts, str)
        texts = [prompts] if single else list(prompts)
        own = self.model.generation_config
        diversity = getattr(own, "diversity", DIVERSITY) if diversity is None else diversity
        temperature = (own.temperature or TEMPERATURE) if temperature is None else temperature
        if do_sample is None:
            do_sample = bool(own.do_sample) or num_return_sequences > 1
        _check_ranges(
            num_return_sequences=num_return_sequences,
            num_beams=num_beams,
            diversity=diversity,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_modifiers=min_modifiers,
            window=window,
            batch_size=batch_size,
        )
        wishes = (
            [constraints] * len(texts) if constraints is None or isinstance(constraints, Constraints) else constraints
        )
        if len(wishes) != len(texts):
            raise ValueError(f"{len(wishes)} constraints for {len(texts)} prompts: give one, or one for each")
        if not do_sample and num_return_sequences > num_beams:
            raise ValueError(f"{num_beams} beams cannot return {num_return_sequences} prompts: sample them")
        for text, wish in zip(texts, wishes, strict=True):
            check_prompt(text, wish, window)

        settings = GenerationConfig(
            num_beams=num_beams,
            num_return_sequences=1 if do_sample else num_return_sequences,
            length_penalty=length_penalty,
            do_sample=False,  # what is random is noise that belongs to the row: see GumbelNoise
            temperature=1.0,  # the policy's own would be merged in, and warned of without do_sample
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        warpers = sampling_warpers(temperature, top_k, top_p)
        noise = 1.0 if do_sample else diversity
        variants = num_return_sequences if do_sample else 1
        rows = [
            _Row(text, variant, wish or None, window - count_clip_tokens(text))
            for text, wish in zip(texts, wishes, strict=True)
            for variant in range(variants)
        ]
        results = {row: [_unchanged(row, window, seed)] * settings.num_return_sequences for row in rows}
        todo = {row for row in rows if row.room > 0}
        for batch, beams in _batches(todo, num_beams, do_sample, batch_size):
            settings.num_beams, settings.early_stopping = beams, beams > 1
            tails = self._continue(batch, settings, warpers * do_sample, noise, seed, min_modifiers, max_new_tokens)
            finished = [
                [finish(row.text, tail, ended, window, row.constraints) for tail, ended in of]
                for row, of in zip(batch, tails, strict=True)
            ]
            heads = [row.text.rstrip(SEPARATORS) for row in batch]
            tails = [(head, text[len(head) :]) for head, of in zip(heads, finished, strict=True) for text, _ in of]
            scores = self._score(tails) if output_scores else repeat(None)
            for row, of in zip(batch, finished, strict=True):
                results[row] = [
                    EnhancedPrompt(
                        original=row.text,
                        text=text,
                        modifiers=tuple(Modifier(m, categorise(m)) for m in modifiers),
                        score=next(scores),
                        seed=seed,
                        clip_tokens=count_clip_tokens(text),
                        constraints=check(text, row.constraints) if row.constraints else None,
                        warning=None if modifiers else _nothing(row),
                    )
                    for text, modifiers in of
                ]
        flat = iter(rows)
        grouped = [[e for _ in range(variants) for e in results[next(flat)]] for _ in texts]
        unpacked = [g[0] for g in grouped] if num_return_sequences == 1 else grouped
        return unpacked[0] if single else unpacked

    def _continue(
        self,
        rows: "list[_Row]",
        settings: GenerationConfig,
        warpers: list[LogitsProcessor],
        noise: float,
        seed: int,
        min_modifiers: int,
        max_new_tokens: int | None,
    ) -> list[list[tuple[str, bool]]]:
        """What the policy adds to each row: (text, whether it ended by itself), `num_return_sequences` of them."""
        heads = [r.text.rstrip(SEPARATORS) for r in rows]
        # Budgets and what is cut off belong to the row, so that its result does not depend on its batch.
        budgets = [self._budget(r, max_new_tokens) for r in rows]
        tokens = read_prompts(self.tokenizer, heads, [self._positions - budget for budget in budgets])
        inputs = self.tokenizer.pad({"input_ids": tokens}, return_tensors="pt").to(self.model.device)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]  # (rows, length)
        length = ids.shape[1]
        processors = LogitsProcessorList(
            [
                NoRepeatedNGrams(3),
                MinModifiers(self._ends_modifier, self.tokenizer.eos_token_id, min_modifiers, length),
                *warpers,
            ]
        )
        if noise:
            seeds = torch.tensor([_row_seed(seed, r) for r in rows], device=self.model.device)
            processors.append(GumbelNoise(seeds, length, noise))
        settings.max_new_tokens = max(budgets)
        output = self.model.generate(
            ids,
            attention_mask=mask,
            generation_config=settings,
            logits_processor=processors,
            custom_generate=neurologic,
            constraints=[r.constraints for r in rows],
            token_budgets=budgets,
            processing_class=self.tokenizer,
            phrase_weight=PHRASE_WEIGHT,
        )
        added = output[:, length:]  # (rows * returned, new tokens)
        ended = (added == self.tokenizer.eos_token_id).any(1).tolist()
        tails = self.tokenizer.batch_decode(added, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        returned = settings.num_return_sequences
        return [list(zip(tails, ended, strict=True))[i : i + returned] for i in range(0, len(tails), returned)]

    def _budget(self, row: "_Row", max_new_tokens: int | None) -> int:
        """The policy's tokens that a row may get: enough for its room in the window and for what is required."""
        budget = max_new_tokens or math.ceil(TOKENS_PER_CLIP_TOKEN * row.room)
        if row.constraints:
            required = _listing(row.text, row.constraints)[len(row.text) :]
            budget = max(budget, 8 + 2 * len(self.tokenizer(required)["input_ids"]))
        return min(budget, self._positions // 2)

    def _score(self, pairs: list[tuple[str, str]]) -> Iterator[float]:
        """Mean log-probability of the second text's tokens after the first, for each pair."""
        texts = [tail for _, tail in pairs]
        tails = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        heads = read_prompts(self.tokenizer, [head for head, _ in pairs], [self._positions - len(t) for t in tails])
        sequences = [(h + t)[-self._positions :] for h, t in zip(heads, tails, strict=True)]
        length = max(map(len, sequences))
        # Filled on the CPU: on a GPU each of these small writes would wait for the device.
        ids = torch.full((len(pairs), length), self.tokenizer.pad_token_id)
        real = torch.zeros_like(ids)
        scored = torch.zeros_like(ids, dtype=torch.bool)
        for i, (sequence, tail) in enumerate(zip(sequences, tails, strict=True)):
            ids[i, : len(sequence)] = torch.tensor(sequence)
            real[i, : len(sequence)] = 1
            scored[i, max(1, len(sequence) - len(tail)) : len(sequence)] = bool(tail)
        ids, real, scored = (tensor.to(self.model.device) for tensor in (ids, real, scored))
        logits = self.model(ids, attention_mask=real).logits[:, :-1].float()  # (pairs, length - 1, vocab)
        logprobs = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        scored = scored[:, 1:]
        yield from ((logprobs * scored).sum(1) / scored.sum(1).clamp(min=1)).tolist()


# --- details -----------------------------------------------------------------------------------------------------

# Small vocabularies cut words finer than CLIP's 49,408 entries do.
TOKENS_PER_CLIP_TOKEN = 1.25
# What a required token is worth in nats. A policy after PPO is sure of itself and puts off what it would not write:
# with the decoder's own 3, such rewrites fill the window before they come to what is required.
PHRASE_WEIGHT = 8.0

# Where a policy does not say its own: how much noise the search gets, and at which temperature samples are drawn. Those
# that pictures choose from are drawn at this one in any case: they should differ more than one that is used as it is.
DIVERSITY = 0.7
TEMPERATURE = 0.9


_RANGES = {
    "num_return_sequences": (1, 1_000_000),
    "num_beams": (1, 10_000),
    "diversity": (0, 10),
    "temperature": (0.001, 1000),
    "top_k": (0, math.inf),
    "top_p": (1e-9, 1),
    "min_modifiers": (0, 1_000_000),
    "window": (3, 1_000_000),
    "batch_size": (1, math.inf),
}  # beyond, numbers overflow, and scores come to NaN: nothing would be written, or what nobody asked for


class _Row(NamedTuple):
    text: str
    variant: int
    constraints: Constraints | None
    room: int  # CLIP tokens left by the text


def _batches(rows: set[_Row], num_beams: int, do_sample: bool, batch_size: int) -> Iterator[tuple[list[_Row], int]]:
    """The rows in batches, each with its number of beams: samples need none, unless there are constraints to meet."""
    free = {row for row in rows if do_sample and not row.constraints}
    for group, beams in ((free, 1), (rows - free, num_beams)):
        # Rows of like length share a batch: less padding, and a common budget of new tokens.
        ordered = sorted(group, key=lambda r: (r.room, r.text, r.variant))
        size = max(1, batch_size // beams)
        for start in range(0, len(ordered), size):
            yield ordered[start : start + size], beams


def _unchanged(row: _Row, window: int, seed: int) -> EnhancedPrompt:
    tokens = window - row.room
    return EnhancedPrompt(
        original=row.text,
        text=row.text,
        seed=seed,
        clip_tokens=tokens,
        constraints=check(row.text, row.constraints) if row.constraints else None,
        warning=f"left as it is: {tokens} CLIP tokens, and the window has {window}" if row.room <= 0 else None,
    )


def _nothing(row: _Row) -> str:
    """Why a result is the prompt as it was."""
    why = f"nothing was added: nothing new that the policy wrote fits the window (CLIP tokens left: {row.room})"
    forbidden = row.constraints.forbid if row.constraints else ()
    return f"{why} without {', '.join(map(repr, forbidden))}" if forbidden else why


def _check_ranges(**settings: float) -> None:
    for name, value in settings.items():
        low, high = _RANGES[name]
        if not low <= value <= high:  # as NaN is not
            most = "up" if high == math.inf else f"to {high:,}"
            raise ValueError(f"{name} is {value}: give a number from {low} {most}")


def _row_seed(seed: int, row: _Row) -> int:
    digest = blake2b(f"{seed}:{row.variant}:{row.text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
