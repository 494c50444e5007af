"""NeuroLogic decoding: beam search under clauses of phrases, exact, batched, for any causal language model.

Lu et al., "NeuroLogic Decoding" (NAACL 2021, arXiv 2010.12884), as a decoding function for `generate`'s
`custom_generate` hook. As there, candidates are grouped by the set of clauses that they satisfy and the best of each
group survive, and a candidate that is on its way through a phrase is ranked higher in proportion. Unlike there,
constraints are about text (`automaton.py`), and they are met always: a token is only ever chosen if the tokens that
then remain surely suffice for the clauses that are then open, and the sequence ends only when all are satisfied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor
from transformers import MinLengthLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from transformers.generation import GenerateBeamDecoderOnlyOutput
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

from neuroprompt.decoding.beams import Beams, best_of, first_running, is_in
from neuroprompt.decoding.constraints import Constraints
from neuroprompt.decoding.guide import Guide

_ROWLESS = (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, MinLengthLogitsProcessor)
# transformers 5.24 renamed the argument and the output of every model that holds the cache
CACHE = "cache" if any(f.name == "cache" for f in fields(GenerateBeamDecoderOnlyOutput)) else "past_key_values"


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
    phrase_weight: float = 3.0,
    alpha: int = 8,
    beta: int = 2,
    **model_kwargs,
) -> Tensor | GenerateBeamDecoderOnlyOutput:
    """Continues every prompt by beam search so that the text, prompt included, meets the prompt's constraints.

    Not called by hand but given to `generate`, with the arguments below beside `generate`'s own: `num_beams`,
    `num_return_sequences` (texts that differ in more than case and whitespace), `max_new_tokens`, `min_new_tokens`,
    `length_penalty`, `early_stopping`, `do_sample` (stochastic beams), `eos_token_id`, logits processors and stopping
    criteria. Prompts without constraints get what `transformers`' own beam search gives, token for token.

    Args:
        constraints: one for all prompts, or one (or None) for each.
        processing_class: the tokenizer. (`generate` keeps an argument named `tokenizer` to itself.)
        token_budgets: (batch,) the most new tokens for each prompt, where fewer than `max_new_tokens`.
        phrase_weight: nats that each token of a satisfied clause counts in the ranking, and of a phrase under way in
            proportion to the part that is there (the paper's lambda). An open clause is still to be paid for: a beam
            that has paid is compared with one that has not as if both had, at about what a token of a required phrase
            costs (the constant heuristic of an A* search, cf. arXiv 2112.08726). At 0, phrases come when they must.
        alpha: the candidates considered are the `alpha * num_beams` most likely of a prompt, and as many as there are
            beams among those that advance a phrase.
        beta: candidates that satisfy more than `beta` clauses fewer than the best candidate does are dropped.

    Returns:
        (batch * num_return_sequences, length) token ids, padded on the right; with `return_dict_in_generate` a
        `GenerateBeamDecoderOnlyOutput` with `sequences_scores`. Where the constraints leave fewer texts than were asked
        for, the best is repeated.

    Raises:
        ConstraintError: a prompt has a forbidden phrase, a clause cannot be written, or the required text does not fit
            the budget; all before decoding.

    The guarantee is about `tokenizer.decode(sequence, skip_special_tokens=True, clean_up_tokenization_spaces=False)`.

    Example:
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
    max_new = generation_config.max_length - prompt_length
    budgets = torch.full((batch,), max_new, device=device)
    if token_budgets is not None:
        budgets = torch.minimum(budgets, torch.as_tensor(token_budgets, device=device))

    logits, model_kwargs = _prefill(model, input_ids, num_beams, model_kwargs)
    guide = Guide.start(
        _one_each(constraints, batch),
        processing_class,
        input_ids[::num_beams],
        model_kwargs,
        budgets,
        logits.shape[-1],
        num_beams,
    )
    eos_ids = [] if eos is None else eos.tolist()
    hf_pool = max(2, 1 + len(eos_ids)) * num_beams
    pool = hf_pool if guide is None else max(hf_pool, alpha * num_beams)
    plain_criteria = all(type(c) in (MaxLengthCriteria, EosTokenCriteria) for c in stopping_criteria)
    may_shrink = plain_criteria and all(_can_follow(p) for p in logits_processor)
    length_penalty = generation_config.length_penalty
    early = generation_config.early_stopping if num_beams > 1 else True  # one beam ends where it ends

    pad = generation_config._pad_token_tensor
    fill = int(pad) if pad is not None else eos_ids[0] if eos_ids else -1
    blank = torch.full((batch, num_beams, generation_config.max_length), fill, device=device)
    blank[:, :, :prompt_length] = input_ids.view(batch, num_beams, -1)
    beams = Beams.start(blank)
    results = beams  # grows as prompts are finished and leave the batch
    here = torch.arange(batch, device=device)  # the prompts still in the batch

    for step in range(max_new):
        length = prompt_length + step
        left = budgets - step - 1  # (batch,) tokens that may still follow this one
        raw = torch.log_softmax(logits.float(), dim=-1)  # (batch * beams, vocab)
        log_probs = raw
        if len(logits_processor):
            log_probs = logits_processor(beams.running[:, :, :length].flatten(0, 1), raw.clone())
        vocab = log_probs.shape[-1]

        # candidates: parent beam, token, log-probability, rank; (batch, candidates), best first
        if guide is None:
            scores = log_probs.view(-1, num_beams, vocab) + beams.score[:, :, None]
            candidates = best_of(scores.flatten(1), pool, vocab, generation_config.do_sample)
            is_eos = is_in(candidates.token, eos)
        else:
            candidates = guide.candidates(
                log_probs,
                raw,
                beams.score,
                left,
                eos,
                pool,
                hf_pool,
                phrase_weight,
                beta,
                generation_config.do_sample,
            )
            is_eos = candidates.is_eos

        sequences = None
        finished = is_eos | (left <= 0)[:, None]
        if not plain_criteria:
            sequences = torch.take_along_dim(beams.running, candidates.parent[:, :, None], dim=1)
            sequences[:, :, length] = candidates.token
            stop = stopping_criteria(sequences[:, :, : length + 1].flatten(0, 1), None).view_as(finished)
            finished = finished | (stop if guide is None else stop & guide.may_end(candidates))

        beams = beams.finish(
            candidates, finished, left, step, length, early, length_penalty, guide and guide.constrained
        )
        running = first_running(finished, num_beams)  # (batch, beams) indices of candidates
        parent = candidates.parent.gather(1, running)
        beams = beams.advance(candidates, running, parent, length)
        if guide is not None:
            guide.advance(candidates, running)
        beams = beams.judge(step, max_new, early, length_penalty, left)
        active = beams.active.squeeze(1)
        results = beams if len(here) == batch else results.put(here, beams)
        still = int(active.sum())
        if not still:
            break

        # prompts that are finished leave the batch once they are half of it
        flat_parent = (parent + num_beams * torch.arange(len(here), device=device)[:, None]).flatten()
        if may_shrink and still <= len(here) // 2:
            if len(here) == batch:
                results = beams
            keep = active.nonzero().squeeze(1)
            flat_parent = flat_parent.view(-1, num_beams)[keep].flatten()
            flat_keep = (keep[:, None] * num_beams + torch.arange(num_beams, device=device)).flatten()
            model_kwargs = {
                name: value[flat_keep] if isinstance(value, Tensor) and value.dim() and name != CACHE else value
                for name, value in model_kwargs.items()
            }
            here, budgets, beams = here[keep], budgets[keep], beams.select(keep)
            for processor in logits_processor:
                if hasattr(processor, "select"):
                    processor.select(keep)
            if guide is not None:
                guide.select(keep)
        _reorder(model, model_kwargs, flat_parent)
        inputs = model.prepare_inputs_for_generation(
            beams.running[:, :, : length + 1].flatten(0, 1),
            next_sequence_length=1 if model_kwargs.get("use_cache") else None,
            **model_kwargs,
        )
        outputs = model(**inputs, return_dict=True)
        model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs)
        logits = outputs.logits[:, -1].to(device)

    wanted = generation_config.num_return_sequences
    there = results.done[:, :wanted]
    if guide is not None and not bool(results.done[:, 0].all()):
        raise RuntimeError("the model's scores are NaN or leave no token: no sequence could be finished")
    pick = torch.where(there, torch.arange(wanted, device=device), 0)  # the best stands in for what is missing
    ids = torch.take_along_dim(results.finished, pick[:, :, None], dim=1).flatten(0, 1)
    lengths = results.length.gather(1, pick)
    ids = ids[:, : prompt_length + int(lengths.max())]
    if not generation_config.return_dict_in_generate:
        return ids
    return GenerateBeamDecoderOnlyOutput(
        sequences=ids,
        sequences_scores=results.finished_score.gather(1, pick).flatten(),
        **{CACHE: model_kwargs.get(CACHE)},
    )


def _one_each(constraints, batch: int) -> list[Constraints | None]:
    if constraints is None or isinstance(constraints, Constraints):
        return [constraints] * batch
    if len(constraints) != batch:
        raise ValueError(f"{len(constraints)} constraints for {batch} prompts: give one, or one for each")
    return list(constraints)


def _prefill(model, input_ids: Tensor, beams: int, model_kwargs: dict) -> tuple[Tensor, dict]:
    """Reads every prompt once, and repeats what it left in the cache for every beam."""
    cache = model_kwargs.get(CACHE)
    rows = input_ids.shape[0]
    once = beams > 1 and cache is not None and all(hasattr(layer, "batch_repeat_interleave") for layer in cache.layers)
    if once:
        input_ids = input_ids[::beams]
        model_kwargs = {
            name: value[::beams] if isinstance(value, Tensor) and value.dim() and value.shape[0] == rows else value
            for name, value in model_kwargs.items()
        }
    inputs = model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **model_kwargs)
    outputs = model(**inputs, return_dict=True)
    model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs)
    logits = outputs.logits[:, -1].to(input_ids.device)
    if once:
        model_kwargs[CACHE].batch_repeat_interleave(beams)
        logits = logits.repeat_interleave(beams, dim=0)
        model_kwargs = {
            name: value.repeat_interleave(beams, dim=0)
            if isinstance(value, Tensor) and value.dim() and value.shape[0] == rows // beams
            else value
            for name, value in model_kwargs.items()
        }
    return logits, model_kwargs


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
