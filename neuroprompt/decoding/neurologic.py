"""NeuroLogic decoding (`search.py`) as a decoding function for `generate`'s `custom_generate` hook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from transformers import (
    MinLengthLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation import GenerateBeamDecoderOnlyOutput
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

from neuroprompt.decoding.constraints import Constraints, one_each
from neuroprompt.decoding.search import search
from neuroprompt.decoding.vocabulary import CACHE_BYTES

_ROWLESS = (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    MinLengthLogitsProcessor,
    SuppressTokensLogitsProcessor,
)
# transformers 5.24 renamed the argument and the output of every model that holds the cache
CACHE = "cache" if any(f.name == "cache" for f in fields(GenerateBeamDecoderOnlyOutput)) else "past_key_values"


@dataclass
class NeurologicOutput(GenerateBeamDecoderOnlyOutput):
    """What `generate` returns with `return_dict_in_generate`.

    Args:
        closed: (batch * num_return_sequences,) bool: the texts at whose end the search wrote, one by one, phrases that
            were still open: of prose, those for which the budget did not suffice.
    """

    closed: Tensor | None = None


def neurologic(
    model,
    input_ids: Tensor,
    logits_processor,
    stopping_criteria,
    generation_config,
    *,
    constraints: Constraints | Sequence[Constraints | None] | None = None,
    processing_class=None,
    token_budgets: Sequence[int] | Tensor | None = None,
    counted: Sequence[Sequence[int]] | None = None,
    phrase_weight: float | None = None,
    beta: int = 2,
    cache_bytes: int = CACHE_BYTES,
    **model_kwargs,
) -> Tensor | NeurologicOutput:
    """Continues every prompt by beam search so that the text, prompt included, meets the prompt's constraints.

    Required phrases are written as modifiers of their own, or behind a connective; those that may stand `anywhere`,
    where the search finds a place in the sentence.

    Not called by hand but given to `generate`, with the arguments below beside `generate`'s own: `num_beams`,
    `num_return_sequences` (texts that differ in more than case and whitespace), `max_new_tokens`, `min_new_tokens`,
    `length_penalty`, `early_stopping`, `do_sample` (stochastic beams), `eos_token_id`, logits processors and stopping
    criteria. Prompts without constraints get what `transformers`' own beam search gives, token for token.

    Args:
        constraints: one for all prompts, or one (or None) for each.
        processing_class: the tokenizer. (`generate` keeps an argument named `tokenizer` to itself.)
        token_budgets: (batch,) the most new tokens for each prompt, where fewer than `max_new_tokens`.
        counted: the tokens of each prompt that count as text; all of them where it is not given. Of a chat they are
            those of the answer that is begun, if any: what the user says in it meets nothing.
        phrase_weight: nats that each token of a satisfied clause counts in the ranking, by default 3 (where phrases may
            stand `anywhere` 0.5: with more of them, prose rushes through its words), and of a phrase under way in
            proportion to the part that is there (the paper's lambda). An open clause is still to be paid for: a beam
            that has paid is compared with one that has not as if both had, at about what a token of a required phrase
            costs (the constant heuristic of an A* search, cf. arXiv 2112.08726). At 0, phrases come when they must.
        beta: candidates that satisfy more than `beta` clauses fewer than the best candidate does are dropped.
        cache_bytes: of automata that are kept for later calls over the same tokenizer; those not used for longest leave
            first. What a call works with is not part of it.

    Returns:
        (batch * num_return_sequences, length) token ids, padded on the right; with `return_dict_in_generate` a
        `NeurologicOutput` with `sequences_scores` and `closed`. Where the constraints leave fewer texts than were asked
        for, the best is repeated.

    Raises:
        ConstraintError: a prompt has a forbidden phrase, a clause cannot be written, or the required text does not fit
            the budget; all before decoding.

    The guarantee is about `tokenizer.decode(sequence, skip_special_tokens=True, clean_up_tokenization_spaces=False)`.

    Examples:
        >>> from transformers import AutoModelForCausalLM, AutoTokenizer
        >>> model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")
        >>> tokenizer = AutoTokenizer.from_pretrained("openai-community/gpt2")
        >>> wish = Constraints(require=["golden hour|sunset", "fog"], forbid=["people"])
        >>> ids = model.generate(
        ...     **tokenizer("A harbour town,", return_tensors="pt"),
        ...     custom_generate=neurologic, constraints=wish, processing_class=tokenizer,
        ...     num_beams=5, max_new_tokens=40,
        ... )
        >>> print(tokenizer.decode(ids[0], skip_special_tokens=True))
    """
    if model.config.is_encoder_decoder:
        raise ValueError("neurologic continues a prompt: encoder-decoder models are not supported")
    beams, device = generation_config.num_beams, input_ids.device
    batch, prompt_length = input_ids.shape[0] // beams, input_ids.shape[1]
    eos, pad = generation_config._eos_token_tensor, generation_config._pad_token_tensor
    eos = torch.zeros(0, dtype=torch.long, device=device) if eos is None else eos
    budgets = torch.full((batch,), generation_config.max_length - prompt_length, device=device)
    if token_budgets is not None:
        budgets = torch.minimum(budgets, torch.as_tensor(token_budgets, device=device))
    wishes = one_each(constraints, batch)
    if counted is None:
        counted = _without_padding(input_ids, model_kwargs.get("attention_mask"), beams)
    plain_criteria = all(type(c) in (MaxLengthCriteria, EosTokenCriteria) for c in stopping_criteria)
    reader = _Reader(model, input_ids, model_kwargs)
    found = search(
        reader,
        input_ids[::beams],
        budgets=budgets,
        eos=eos,
        pad=int(pad) if pad is not None else int(eos[0]) if len(eos) else -1,
        beams=beams,
        returned=generation_config.num_return_sequences,
        constraints=wishes,
        counted=counted,
        tokenizer=processing_class,
        phrase_weight=phrase_weight,
        beta=beta,
        cache_bytes=cache_bytes,
        processors=logits_processor,
        length_penalty=generation_config.length_penalty,
        early=generation_config.early_stopping,
        order=_drawn if generation_config.do_sample else None,
        stops=None if plain_criteria else lambda sequences: stopping_criteria(sequences, None),
        may_shrink=plain_criteria and all(_can_follow(p) for p in logits_processor),
    )
    if not generation_config.return_dict_in_generate:
        return found.sequences
    return NeurologicOutput(
        sequences=found.sequences,
        sequences_scores=found.scores,
        closed=found.closed,
        **{CACHE: reader.kwargs.get(CACHE)},
    )


class _Reader:
    """A model as the search wants it.

    Args:
        model: one of `transformers`.
        input_ids: (prompts * beams, length).
        kwargs: what `generate` gives a decoding function for the model.
    """

    def __init__(self, model, input_ids: Tensor, kwargs: dict):
        self.model, self.ids, self.kwargs, self.rows = model, input_ids, kwargs, len(input_ids)

    def prefill(self, beams: int) -> Tensor:
        """Reads every prompt once, and repeats what it left in the cache for every beam."""
        cache = self.kwargs.get(CACHE)
        if beams == 1 or cache is None or not all(hasattr(layer, "batch_repeat_interleave") for layer in cache.layers):
            return self._forward(self.ids, is_first_iteration=True)
        self._change(self.rows, lambda value: value[::beams])
        logits = self._forward(self.ids[::beams], is_first_iteration=True)
        self.kwargs[CACHE].batch_repeat_interleave(beams)
        self._change(self.rows // beams, lambda value: value.repeat_interleave(beams, dim=0))
        return logits.repeat_interleave(beams, dim=0)

    def step(self, sequences: Tensor, parent: Tensor) -> Tensor:
        if len(parent) < self.rows:  # what belongs to a row is the same for all beams of its prompt
            self._change(self.rows, lambda value: value[parent])
            self.rows = len(parent)
        cache = self.kwargs.get(CACHE)
        if cache is not None and hasattr(self.model, "_reorder_cache"):
            self.kwargs[CACHE] = self.model._reorder_cache(cache, parent)
        elif cache is not None:
            cache.reorder_cache(parent)
        return self._forward(sequences, next_sequence_length=1 if self.kwargs.get("use_cache") else None)

    def _forward(self, ids: Tensor, **how) -> Tensor:
        """Logits of the next token, (rows, vocab)."""
        inputs = self.model.prepare_inputs_for_generation(ids, **how, **self.kwargs)
        outputs = self.model(**inputs, return_dict=True)
        self.kwargs = self.model._update_model_kwargs_for_generation(outputs, self.kwargs)
        return outputs.logits[:, -1].to(ids.device)

    def _change(self, rows: int, change: Callable[[Tensor], Tensor]) -> None:
        """Changes the tensors that have a row for each sequence. (The cache is no tensor.)"""
        self.kwargs = {
            name: change(value) if isinstance(value, Tensor) and value.dim() and len(value) == rows else value
            for name, value in self.kwargs.items()
        }


def _drawn(scores: Tensor) -> Tensor:
    """The scores with noise, by which the best are draws without replacement (the Gumbel trick)."""
    return scores - torch.empty_like(scores).exponential_().log()


def _without_padding(input_ids: Tensor, mask: Tensor | None, beams: int) -> list[list[int]]:
    """The tokens of each prompt, which is there once for each of its beams."""
    tokens = input_ids[::beams].tolist()
    if mask is None:
        return tokens
    shown = mask[::beams, : input_ids.shape[1]].tolist()
    return [[t for t, m in zip(*pair, strict=True) if m] for pair in zip(tokens, shown, strict=True)]


def _can_follow(processor) -> bool:
    """Whether a processor can do without the prompts that leave the batch: it knows no rows, or has `select`."""
    return hasattr(processor, "select") or isinstance(processor, _ROWLESS)
