"""NeuroLogic decoding: beam search under clauses of phrases, exact, batched, for any causal language model.

Lu et al., "NeuroLogic Decoding" (NAACL 2021, arXiv 2010.12884), as a decoding function for `generate`'s
`custom_generate` hook. As there, candidates are grouped by the set of clauses that they satisfy and the best of each
group survive, and a candidate that is on its way through a phrase is ranked higher in proportion. Unlike there,
constraints are about text (`automaton.py`), and they are met always: a token is only ever chosen if the tokens that
then remain surely suffice for the clauses that are then open. And where the model would end, a beam closes: what is
open is written there and then, and the sequence ends (`guide.py`).
"""

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

from neuroprompt.decoding.beams import Beams, Candidates, best_of, first_running
from neuroprompt.decoding.constraints import Constraints, one_each
from neuroprompt.decoding.guide import Guide, Preferences
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
    num_beams = generation_config.num_beams
    batch, prompt_length = input_ids.shape[0] // num_beams, input_ids.shape[1]
    device = input_ids.device
    eos = generation_config._eos_token_tensor
    eos = torch.zeros(0, dtype=torch.long, device=device) if eos is None else eos
    max_new = generation_config.max_length - prompt_length
    budgets = torch.full((batch,), max_new, device=device)
    if token_budgets is not None:
        budgets = torch.minimum(budgets, torch.as_tensor(token_budgets, device=device))
    pool = max(2, 1 + len(eos)) * num_beams
    preferences = Preferences(eos, pool, phrase_weight, beta, generation_config.do_sample)
    length_penalty = generation_config.length_penalty
    early = generation_config.early_stopping if num_beams > 1 else True  # one beam ends where it ends
    plain_criteria = all(type(c) in (MaxLengthCriteria, EosTokenCriteria) for c in stopping_criteria)
    may_shrink = plain_criteria and all(_can_follow(p) for p in logits_processor)

    logits, model_kwargs = _prefill(model, input_ids, num_beams, model_kwargs)
    tokens = _without_padding(input_ids, model_kwargs.get("attention_mask"), num_beams) if counted is None else counted
    wishes = one_each(constraints, batch)
    guide = Guide.start(
        wishes, processing_class, tokens, budgets, logits.shape[-1], num_beams, preferences, cache_bytes
    )
    beams = Beams.start(_blank(input_ids, generation_config, eos))
    results = beams  # grows as prompts are finished and leave the batch
    here = torch.arange(batch, device=device)  # the prompts still in the batch

    for step in range(max_new):
        length = prompt_length + step
        left = budgets - step - 1  # (batch,) tokens that may still follow this one
        raw = torch.log_softmax(logits.float(), dim=-1)  # (batch * beams, vocab)
        log_probs = raw
        if len(logits_processor):
            log_probs = logits_processor(beams.running[:, :, :length].flatten(0, 1), raw.clone())
        if guide is None:
            candidates = _likeliest(log_probs, beams.score, preferences)
        else:
            candidates = guide.candidates(log_probs, raw, beams.score, left)

        finished = candidates.is_eos | (left <= 0)[:, None]
        if not plain_criteria:
            stop = stopping_criteria(beams.continued(candidates, length).flatten(0, 1), None).view_as(finished)
            finished = finished | (stop if guide is None else stop & guide.may_end(candidates))
        which = (None, None) if guide is None else (guide.constrained, guide.prose)
        beams = beams.finish(candidates, finished, left, step, length, early, length_penalty, *which)
        running = first_running(finished, num_beams)  # (batch, beams) indices of candidates
        parent = candidates.parent.gather(1, running)
        beams = beams.advance(candidates, running, parent, length)
        if guide is not None:
            guide.advance(candidates, running)
        beams = beams.judge(step, max_new, early, length_penalty, left)
        results = beams if len(here) == batch else results.put(here, beams)
        active = beams.active.squeeze(1)
        still = int(active.sum())
        if not still:
            break

        rows = (parent + num_beams * torch.arange(len(here), device=device)[:, None]).flatten()
        if may_shrink and still <= len(here) // 2:  # finished prompts leave the batch once they are half of it
            keep = active.nonzero().squeeze(1)
            rows = rows.view(-1, num_beams)[keep].flatten()
            kept_rows = (keep[:, None] * num_beams + torch.arange(num_beams, device=device)).flatten()
            model_kwargs = _by_row(model_kwargs, len(here) * num_beams, lambda value, kept=kept_rows: value[kept])
            here, budgets, beams = here[keep], budgets[keep], beams.select(keep)
            for follower in (guide, *logits_processor):
                if hasattr(follower, "select"):
                    follower.select(keep)
        _reorder(model, model_kwargs, rows)
        logits, model_kwargs = _forward(
            model,
            beams.running[:, :, : length + 1].flatten(0, 1),
            model_kwargs,
            next_sequence_length=1 if model_kwargs.get("use_cache") else None,
        )

    if guide is not None and not bool(results.done[:, 0].all()):
        raise RuntimeError("the model's scores are NaN or leave no token: no sequence could be finished")
    wanted = generation_config.num_return_sequences
    pick = torch.where(results.done[:, :wanted], torch.arange(wanted, device=device), 0)  # the best for what is missing
    ids = torch.take_along_dim(results.finished, pick[:, :, None], dim=1).flatten(0, 1)
    ids = ids[:, : prompt_length + int(results.length.gather(1, pick).max())]
    if not generation_config.return_dict_in_generate:
        return ids
    return NeurologicOutput(
        sequences=ids,
        sequences_scores=results.finished_score.gather(1, pick).flatten(),
        closed=results.closed.gather(1, pick).flatten(),
        **{CACHE: model_kwargs.get(CACHE)},
    )


def _without_padding(input_ids: Tensor, mask: Tensor | None, beams: int) -> list[list[int]]:
    """The tokens of each prompt, which is there once for each of its beams."""
    tokens = input_ids[::beams].tolist()
    if mask is None:
        return tokens
    shown = mask[::beams, : input_ids.shape[1]].tolist()
    return [[t for t, m in zip(*pair, strict=True) if m] for pair in zip(tokens, shown, strict=True)]


def _blank(input_ids: Tensor, generation_config, eos: Tensor) -> Tensor:
    """The prompts with room for what is to be written. (batch, beams, max_length)"""
    pad = generation_config._pad_token_tensor
    fill = int(pad) if pad is not None else int(eos[0]) if len(eos) else -1
    blank = torch.full((len(input_ids), generation_config.max_length), fill, device=input_ids.device)
    blank[:, : input_ids.shape[1]] = input_ids
    return blank.view(-1, generation_config.num_beams, generation_config.max_length)


def _likeliest(log_probs: Tensor, score: Tensor, preferences: Preferences) -> Candidates:
    """The candidates of a search without constraints."""
    vocab = log_probs.shape[-1]
    scores = log_probs.view(*score.shape, vocab) + score[:, :, None]
    found = best_of(scores.flatten(1), preferences.pool, vocab, preferences.do_sample)
    found.is_eos = torch.isin(found.token, preferences.eos)
    return found


def _prefill(model, input_ids: Tensor, beams: int, model_kwargs: dict) -> tuple[Tensor, dict]:
    """Reads every prompt once, and repeats what it left in the cache for every beam."""
    cache, rows = model_kwargs.get(CACHE), len(input_ids)
    if beams == 1 or cache is None or not all(hasattr(layer, "batch_repeat_interleave") for layer in cache.layers):
        return _forward(model, input_ids, model_kwargs, is_first_iteration=True)
    model_kwargs = _by_row(model_kwargs, rows, lambda value: value[::beams])
    logits, model_kwargs = _forward(model, input_ids[::beams], model_kwargs, is_first_iteration=True)
    model_kwargs[CACHE].batch_repeat_interleave(beams)
    repeated = _by_row(model_kwargs, rows // beams, lambda value: value.repeat_interleave(beams, dim=0))
    return logits.repeat_interleave(beams, dim=0), repeated


def _forward(model, input_ids: Tensor, model_kwargs: dict, **how) -> tuple[Tensor, dict]:
    """Logits of the next token, (rows, vocab), and what `model` is to be given with it."""
    inputs = model.prepare_inputs_for_generation(input_ids, **how, **model_kwargs)
    outputs = model(**inputs, return_dict=True)
    model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs)
    return outputs.logits[:, -1].to(input_ids.device), model_kwargs


def _by_row(model_kwargs: dict, rows: int, change: Callable[[Tensor], Tensor]) -> dict:
    """`model_kwargs`, its tensors with a row for each sequence changed. (The cache is no tensor.)"""
    return {
        name: change(value) if isinstance(value, Tensor) and value.dim() and len(value) == rows else value
        for name, value in model_kwargs.items()
    }


def _reorder(model, model_kwargs: dict, parent: Tensor) -> None:
    cache = model_kwargs.get(CACHE)
    if cache is None:
        return
    if hasattr(model, "_reorder_cache"):
        model_kwargs[CACHE] = model._reorder_cache(cache, parent)
    else:
        cache.reorder_cache(parent)


def _can_follow(processor) -> bool:
    """Whether a processor can do without the prompts that leave the batch: it knows no rows, or has `select`."""
    return hasattr(processor, "select") or isinstance(processor, _ROWLESS)
