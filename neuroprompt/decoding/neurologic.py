"""NeuroLogic decoding: beam search under clauses of phrases, exact, batched, for any causal language model.

Lu et al., "NeuroLogic Decoding" (NAACL 2021, arXiv 2010.12884), as a decoding function for `generate`'s
`custom_generate` hook. As there, candidates are grouped by the set of clauses that they satisfy and the best of each
group survive, and a candidate that is on its way through a phrase is ranked higher in proportion. Unlike there,
constraints are about text (`automaton.py`), and they are met always: a token is only ever chosen if the tokens that
then remain surely suffice for the clauses that are then open, and the sequence ends only when all are satisfied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from transformers import MinLengthLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from transformers.generation import GenerateBeamDecoderOnlyOutput
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

from neuroprompt.decoding.automaton import BANNED, DEAD_END, EXIT, FORBIDDEN, Automaton, Vocabulary
from neuroprompt.decoding.constraints import ConstraintError, Constraints

NEVER = float("-inf")
_ROWLESS = (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, MinLengthLogitsProcessor)
# transformers 5.24 renamed the argument and the output of every model that holds the cache
CACHE = "cache" if any(f.name == "cache" for f in fields(GenerateBeamDecoderOnlyOutput)) else "past_key_values"
UNFINISHED = -1.0e9  # the score of a finished sequence that is not there yet, as in `transformers`


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
    search = _Constrained.start(
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
    pool = hf_pool if search is None else max(hf_pool, alpha * num_beams)
    plain_criteria = all(type(c) in (MaxLengthCriteria, EosTokenCriteria) for c in stopping_criteria)
    may_shrink = plain_criteria and all(_can_follow(p) for p in logits_processor)
    length_penalty = generation_config.length_penalty
    early = generation_config.early_stopping if num_beams > 1 else True  # one beam ends where it ends

    pad = generation_config._pad_token_tensor
    fill = int(pad) if pad is not None else eos_ids[0] if eos_ids else -1
    blank = torch.full((batch, num_beams, generation_config.max_length), fill, device=device)
    blank[:, :, :prompt_length] = input_ids.view(batch, num_beams, -1)
    beams = _Beams.start(blank)
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
        if search is None:
            scores = log_probs.view(-1, num_beams, vocab) + beams.score[:, :, None]
            candidates = _topk(scores.flatten(1), pool, vocab, generation_config.do_sample)
            is_eos = _isin(candidates.token, eos)
        else:
            candidates = search.candidates(
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
            finished = finished | (stop if search is None else stop & search.may_end(candidates))

        beams = beams.finish(candidates, finished, left, step, length, early, length_penalty, search)
        running = _first_running(finished, num_beams)  # (batch, beams) indices of candidates
        parent = candidates.parent.gather(1, running)
        beams = beams.advance(candidates, running, parent, length)
        if search is not None:
            search.advance(candidates, running)
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
            if search is not None:
                search.select(keep)
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
    if search is not None and not bool(results.done[:, 0].all()):
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


@dataclass
class _Candidates:
    """(batch, candidates) each, in the order in which they are preferred."""

    parent: Tensor
    token: Tensor
    score: Tensor  # log-probability of the sequence; -inf where there is no candidate
    is_eos: Tensor | None = None
    state: Tensor | None = None
    satisfied: Tensor | None = None
    hash: Tensor | None = None


@dataclass
class _Beams:
    """The sequences of the search: running ones, and the best finished ones. Mirrors `GenerationMixin._beam_search`."""

    running: Tensor  # (batch, beams, max_length)
    score: Tensor  # (batch, beams) log-probability
    finished: Tensor  # (batch, beams, max_length), best first
    finished_score: Tensor  # (batch, beams) log-probability / length ** length_penalty
    length: Tensor  # (batch, beams) new tokens of the finished
    hash: Tensor  # (batch, beams) of the finished texts
    done: Tensor  # (batch, beams) whether there is a finished sequence
    active: Tensor  # (batch, 1) whether the finished ones may still change

    @classmethod
    def start(cls, blank: Tensor) -> _Beams:
        batch, beams, _ = blank.shape
        score = torch.full((batch, beams), NEVER, device=blank.device)
        score[:, 0] = 0.0  # all beams are the prompt: only one may grow
        zeros = torch.zeros((batch, beams), dtype=torch.long, device=blank.device)
        return cls(
            running=blank,
            score=score,
            finished=blank.clone(),
            finished_score=torch.full_like(score, UNFINISHED),
            length=zeros,
            hash=zeros,
            done=zeros.bool(),
            active=torch.ones((batch, 1), dtype=torch.bool, device=blank.device),
        )

    def finish(self, candidates, finished, left, step, length, early, length_penalty, search) -> _Beams:
        """Enters the candidates that end here; as in `transformers`, only those among the first `beams`, but of prompts
        with constraints all of them at the end of the budget, where few may be left that differ."""
        beams = self.score.shape[1]
        may = torch.arange(finished.shape[1], device=left.device)[None] < beams
        if search is not None:
            may = may | (search.constrained & (left <= 0))[:, None]
        new = finished & may & (candidates.score > NEVER)
        closed = ~self.active | (self.done.all(dim=1, keepdim=True) if early is True else torch.zeros_like(self.active))
        new = new & ~closed
        if not bool(new.any()):
            return self
        score = candidates.score / ((step + 1) ** length_penalty)
        score = torch.cat([self.finished_score, torch.where(new, score, UNFINISHED)], dim=1)  # (batch, beams + pool)
        done = torch.cat([self.done, new], dim=1)
        hashes = self.hash
        if search is not None:
            hashes = torch.cat([self.hash, candidates.hash], dim=1)
            same = (hashes[:, :, None] == hashes[:, None]) & done[:, :, None] & done[:, None]
            position = torch.arange(hashes.shape[1], device=score.device)
            better = (score[:, None] > score[:, :, None]) | (
                (score[:, None] == score[:, :, None]) & (position[None] < position[:, None])
            )
            repeated = (same & better).any(dim=2) & search.constrained[:, None]
            score, done = score.masked_fill(repeated, UNFINISHED), done & ~repeated
        best = score.topk(beams, dim=1).indices
        is_new, old, entry = best >= beams, best.clamp_max(beams - 1), (best - beams).clamp_min(0)
        sequences = torch.take_along_dim(self.running, candidates.parent.gather(1, entry)[:, :, None], dim=1)
        sequences[:, :, length] = candidates.token.gather(1, entry)
        kept = torch.take_along_dim(self.finished, old[:, :, None], dim=1)
        return _Beams(
            running=self.running,
            score=self.score,
            finished=torch.where(is_new[:, :, None], sequences, kept),
            finished_score=score.gather(1, best),
            length=torch.where(is_new, step + 1, self.length.gather(1, old)),
            hash=self.hash if search is None else hashes.gather(1, best),
            done=done.gather(1, best),
            active=self.active,
        )

    def advance(self, candidates: _Candidates, chosen: Tensor, parent: Tensor, length: int) -> _Beams:
        """Replaces the running beams by the `chosen` candidates."""
        self.running = torch.take_along_dim(self.running, parent[:, :, None], dim=1)
        self.running[:, :, length] = candidates.token.gather(1, chosen)
        self.score = candidates.score.gather(1, chosen)
        return self

    def judge(self, step: int, max_new: int, early: bool | str, length_penalty: float, left: Tensor) -> _Beams:
        """Whether a running beam could still beat a finished one, by the heuristic that `transformers` uses."""
        reach = max_new if early == "never" and length_penalty > 0.0 else step + 1
        best = self.score.max(dim=1, keepdim=True).values / reach**length_penalty
        worst = torch.where(self.done, self.finished_score.min(dim=1, keepdim=True).values, UNFINISHED)
        self.active = self.active & (best > worst).any(dim=1, keepdim=True) & (left > 0)[:, None]
        if early is True:
            self.active = self.active & ~self.done.all(dim=1, keepdim=True)
        return self

    def select(self, keep: Tensor) -> _Beams:
        return _Beams(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})

    def put(self, where: Tensor, part: _Beams) -> _Beams:
        for field in fields(self):
            getattr(self, field.name)[where] = getattr(part, field.name)
        return self


class _Constrained:
    """The constraints of a batch: where every beam stands, and what it may do.

    The prompts' automata are stacked into tables on the device. Rows are made when a state is first visited; that is
    the only work on the host, and it needs only the numbers of the new states.
    """

    def __init__(
        self, automata: list[Automaton | None], of_prompt: list[int], vocabulary: Vocabulary, size: int, device
    ):
        self.automata, self.size, self.device = automata, size, device
        self.automaton = torch.tensor(of_prompt, device=device)  # (batch,)
        self.constrained = torch.tensor([automata[i] is not None for i in of_prompt], device=device)  # (batch,)
        there = [automaton for automaton in automata if automaton is not None]
        self.clauses = max(len(automaton.price) for automaton in there)

        # base rows: row 0 for prompts without constraints, where any token is free
        free = np.zeros((1, size))
        self.base_state = self._tensor([free, *(a.base_state for a in there)], torch.int32)
        self.base_completed = self._tensor([free, *(a.base_completed for a in there)], torch.int64)
        self.cost = self._tensor([free, *(a.base_cost for a in there)], torch.int8)
        self.costs = len(self.cost)
        self.first_base = np.cumsum([0 if a is None else 3 for a in automata]) - 2
        self.base_advances = self._advances([np.zeros((0, 4)), *(part for a in there for part in a.advances)])
        self.rank = torch.as_tensor(vocabulary.rank, device=device)
        self.hash_factor = torch.as_tensor(vocabulary.hash_factor, device=device)
        self.hash_term = torch.as_tensor(vocabulary.hash_term, device=device)
        self.bits = torch.arange(self.clauses, device=device)
        self.price = torch.zeros((len(automata), self.clauses), dtype=torch.long, device=device)
        for i, automaton in enumerate(automata):
            if automaton is not None:
                self.price[i, : len(automaton.price)] = torch.as_tensor(automaton.price)
        self.everything = torch.tensor([a.everything if a else 0 for a in automata], device=device)[self.automaton]

        # rows of visited states, and their runs in one sorted array
        self.row_of = torch.full((len(automata), 1), -1, device=device)  # (automata, states)
        self.pending_of = torch.zeros((len(automata), 1), dtype=torch.long, device=device)
        self.rows = 0
        self.row_base = self.row_cost = self.row_pending = self._tensor([], torch.int64)
        self.row_advances = self._advances([])
        self.row_void = torch.zeros((0, 0), dtype=torch.long, device=device)
        self.run_key = self.run_state = self.run_completed = self._tensor([], torch.int64)

    @classmethod
    def start(
        cls, constraints, tokenizer, prompts: Tensor, model_kwargs: dict, budgets: Tensor, size: int, beams: int
    ) -> _Constrained | None:
        """Reads the prompts and checks that every constraint can be met; None if there is none."""
        if not any(constraints):
            return None
        if tokenizer is None:
            raise ValueError("constraints are about text: pass the tokenizer as `processing_class=tokenizer`")
        vocabulary = Vocabulary.of(tokenizer, size)
        mask = model_kwargs.get("attention_mask")
        tokens = prompts.tolist()
        if mask is not None:
            shown = mask[::beams, : prompts.shape[1]].tolist()
            tokens = [[t for t, m in zip(*pair, strict=True) if m] for pair in zip(tokens, shown, strict=True)]
        automata, of_prompt, states, satisfied = [], [], [], []
        for wish, ids, budget in zip(constraints, tokens, budgets.tolist(), strict=True):
            automaton, state, done = None, 0, 0
            if wish:
                text = vocabulary.text(ids)
                wish.refuse(text)
                automaton = vocabulary.automaton(wish.clauses, wish.forbidden)
                state, done = automaton.read(text)
                done &= automaton.everything
                if (need := automaton.need(state, automaton.everything & ~done)) > budget:
                    raise ConstraintError(_too_long(wish, automaton, state, done, need, budget, text))
            if automaton not in automata:
                automata.append(automaton)
            of_prompt.append(automata.index(automaton))
            states.append(state)
            satisfied.append(done)
        self = cls(automata, of_prompt, vocabulary, size, prompts.device)
        self.satisfied = torch.tensor(satisfied, device=self.device)[:, None].expand(-1, beams)  # (batch, beams)
        self.hash = torch.zeros((len(tokens), beams), dtype=torch.long, device=self.device)
        self.row = self._rows_for(torch.tensor(states, device=self.device)[:, None].expand(-1, beams))
        return self

    def candidates(
        self, log_probs, raw, score, left, eos, pool, free_pool, phrase_weight, beta, do_sample
    ) -> _Candidates:
        """The ways on, in the order of preference; see `neurologic`."""
        batch, beams = score.shape
        vocab = log_probs.shape[-1]
        row = self.row.flatten()
        everything = self.everything[:, None]
        open_clauses = everything & ~self.satisfied  # (batch, beams)
        pending = self.row_pending[self.row]
        is_open = (open_clauses[:, :, None] >> self.bits) & 1  # (batch, beams, clauses)
        price_of = self.price[self.automaton][:, None]  # (batch, 1, clauses)
        price = price_of * is_open
        total = price.sum(dim=2)

        def credit(clauses: Tensor) -> Tensor:  # (batch, n) sets -> (batch, n) nats
            return phrase_weight * (price_of * ((clauses[:, :, None] >> self.bits) & 1)).sum(dim=2)

        # any token, if from where it leads all that is open can be written: cost <= left + 1 - price of what is open
        limit = (left[:, None] + 1 - total).clamp(-1, DEAD_END - 1)
        limit = torch.where(self.constrained[:, None], limit, DEAD_END).to(torch.int8).view(-1, 1)
        closed = self.cost[self.row_cost[row]] > limit  # (batch * beams, vocab)
        may_end = (open_clauses & ~pending == 0) & (pending & FORBIDDEN == 0)
        closed[:, eos] = ~may_end.view(-1, 1)

        # tokens that advance a phrase, or complete it, by their own reckoning: left + price of the other clauses - 1
        advances = torch.cat([self.base_advances[self.row_base[row]], self.row_advances[row]], dim=1)
        token, clause, tokens_left, progress = advances.unbind(dim=2)  # (batch * beams, advances)
        pending_price = (price * ((pending[:, :, None] >> self.bits) & 1)).sum(dim=2, keepdim=True)
        zero = torch.zeros_like(pending_price)
        gain = torch.cat([price, pending_price, zero], dim=2).flatten(0, 1).gather(1, clause)  # what the entry pays for
        need = tokens_left + total.view(-1, 1) - gain - 1
        allowed = (gain > 0) & (need <= left.repeat_interleave(beams)[:, None])
        allowed &= self.cost[self.row_cost[row][:, None], token] < BANNED
        if self.row_void.shape[1]:
            from_base = self.base_advances.shape[1]
            allowed[:, :from_base] &= (token[:, :from_base, None] != self.row_void[row][:, None]).all(dim=2)

        base = score[:, :, None]
        whole = log_probs.masked_fill(closed, NEVER)
        part = log_probs.gather(1, token).masked_fill(~allowed, NEVER)
        # a model or processors that leave a beam nothing of what it may do are overruled
        stuck = (whole.amax(dim=1) == NEVER) & (part.amax(dim=1) == NEVER)
        if bool((stuck & (score.flatten() > NEVER)).any()):
            finite = raw.clamp_min(-1e4)
            whole = torch.where(stuck[:, None], finite.masked_fill(closed, NEVER), whole)
            part = torch.where(stuck[:, None], finite.gather(1, token).masked_fill(~allowed, NEVER), part)
        paid = credit((self.satisfied | pending) & everything)  # (batch, beams)
        whole = (whole.view(batch, beams, vocab) + base + paid[:, :, None]).flatten(1)
        likely = _topk(whole, pool, vocab, do_sample)
        part = (part.view(batch, beams, -1) + base + paid[:, :, None]).flatten(1)
        # what an entry adds of its phrase; an exit's is paid for already
        part_of = torch.where(clause < self.clauses, gain, 0) * progress / 1000
        bonus = phrase_weight * part_of.view(batch, -1)
        width = token.shape[1]
        best = (part + bonus).topk(min(max(2 * beams, 16), part.shape[1]), dim=1).indices
        parent = torch.cat([likely.parent, best // width], dim=1)
        under_way = torch.cat(
            [torch.full_like(likely.token, self.clauses), clause.view(batch, -1).gather(1, best)], dim=1
        )
        token = torch.cat([likely.token, token.view(batch, -1).gather(1, best)], dim=1)
        logp = torch.cat([likely.score, part.gather(1, best)], dim=1) - paid.gather(1, parent)
        came_from = self.row.gather(1, parent)
        state, completed = self._follow(came_from, token)
        is_eos = _isin(token, eos)
        satisfied = self.satisfied.gather(1, parent) | completed
        satisfied = torch.where(is_eos, everything, satisfied) & everything
        state = torch.where(is_eos, -1, state)
        # what is satisfied, or written but not yet followed by anything
        group = satisfied | (self.pending_of[self.automaton[:, None], state.clamp_min(0)] & everything)
        bonus = torch.cat([torch.zeros_like(likely.score), bonus.gather(1, best)], dim=1)
        bonus = bonus.masked_fill((group >> under_way.clamp(max=62)) & 1 == 1, 0.0)
        rank = logp + credit(group) + bonus
        # prompts without constraints see exactly what `transformers` would show them
        rank[:, free_pool:] = rank[:, free_pool:].masked_fill(~self.constrained[:, None], NEVER)

        rank, order = rank.sort(dim=1, descending=True, stable=True)
        parent, token, logp, is_eos, state, satisfied, group = (
            tensor.gather(1, order) for tensor in (parent, token, logp, is_eos, state, satisfied, group)
        )
        logp = logp.masked_fill(rank == NEVER, NEVER)
        hashes = self.hash.gather(1, parent)
        hashes = torch.where(is_eos, hashes, hashes * self.hash_factor[token] + self.hash_term[token])

        count = ((group[:, :, None] >> self.bits) & 1).sum(dim=2)
        valid = rank > NEVER
        most = count.masked_fill(~valid, -1).amax(dim=1, keepdim=True)
        valid &= count >= most - beta
        earlier = torch.ones((token.shape[1],) * 2, dtype=torch.bool, device=self.device).tril(-1) & valid[:, None]
        # of texts that read alike (case and whitespace aside) the beams need the best only
        same_text = (hashes[:, :, None] == hashes[:, None]) & (is_eos[:, :, None] == is_eos[:, None])
        valid &= ~((same_text & earlier).any(dim=2) & self.constrained[:, None])
        earlier = earlier & valid[:, None]
        place = ((group[:, :, None] == group[:, None]) & earlier).sum(dim=2)  # 0 for the best of its group
        order = place.masked_fill(~valid, token.shape[1]).sort(dim=1, stable=True).indices
        score = logp.masked_fill(~valid, NEVER).gather(1, order)
        numbers = torch.stack([parent, token, is_eos.long(), state, satisfied, hashes])
        parent, token, is_eos, state, satisfied, hashes = numbers.gather(2, order.expand_as(numbers)).unbind()
        return _Candidates(parent, token, score, is_eos=is_eos.bool(), state=state, satisfied=satisfied, hash=hashes)

    def may_end(self, candidates: _Candidates) -> Tensor:
        """Whether the text may end after each candidate."""
        pending = self.pending_of[self.automaton[:, None], candidates.state.clamp_min(0)]
        satisfied = (candidates.satisfied | pending) & self.everything[:, None] == self.everything[:, None]
        return candidates.is_eos | (satisfied & (pending & FORBIDDEN == 0))

    def advance(self, candidates: _Candidates, chosen: Tensor) -> None:
        """Moves the beams to the `chosen` candidates."""
        self.satisfied = candidates.satisfied.gather(1, chosen)
        self.hash = candidates.hash.gather(1, chosen)
        self.row = self._rows_for(candidates.state.gather(1, chosen).clamp_min(0))

    def select(self, keep: Tensor) -> None:
        """Keeps these prompts only."""
        for name in ("automaton", "constrained", "everything", "satisfied", "hash", "row"):
            setattr(self, name, getattr(self, name)[keep])

    def _follow(self, row: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """The state after each token, and what it completes."""
        run = torch.searchsorted(self.run_key, row * self.size + self.rank[token], right=True) - 1
        base = self.row_base[row]
        state = torch.where(self.run_state[run] >= 0, self.run_state[run], self.base_state[base, token].long())
        return state, self.run_completed[run] | self.base_completed[base, token]

    def _rows_for(self, states: Tensor) -> Tensor:
        """The rows of (batch, beams) states, made where they are not there."""
        automaton = self.automaton[:, None].expand_as(states)
        if self.rows:
            rows = self.row_of[automaton, states]
            if bool((rows >= 0).all()):
                return rows
            automaton_states = torch.stack([automaton, states], dim=2)[rows < 0]
        else:
            automaton_states = torch.stack([automaton, states], dim=2).flatten(0, 1)
        self._make_rows(torch.unique(automaton_states, dim=0).tolist())
        return self.row_of[automaton, states]

    def _make_rows(self, wanted: list[tuple[int, int]]) -> None:
        bases, costs, pendings, advances, voids, keys, states, completed = [], [], [], [], [], [], [], []
        for number, (i, state) in enumerate(wanted, start=self.rows):
            automaton = self.automata[i]
            if automaton is None:
                bases.append(0)
                costs.append(0)
                pendings.append(0)
                advances.append(np.zeros((0, 4)))
                voids.append(())
                parts = ([0], [-1], [0])
            else:
                row = automaton.row(state)
                bases.append(int(self.first_base[i]) + row.base)
                costs.append(bases[-1] if row.cost is None else self._add_cost(row.cost))
                pendings.append(automaton.pending(state))
                advances.append(row.advances)
                voids.append(row.void)
                parts = (row.start, row.state, row.completed)
            keys.append(np.asarray(parts[0]) + number * self.size)
            states.append(parts[1])
            completed.append(parts[2])
        self.row_base = torch.cat([self.row_base, torch.tensor(bases, device=self.device)])
        self.row_cost = torch.cat([self.row_cost, torch.tensor(costs, device=self.device)])
        self.row_pending = torch.cat([self.row_pending, torch.tensor(pendings, device=self.device)])
        self.run_key = torch.cat([self.run_key, self._tensor(keys, torch.int64)])
        self.run_state = torch.cat([self.run_state, self._tensor(states, torch.int64)])
        self.run_completed = torch.cat([self.run_completed, self._tensor(completed, torch.int64)])
        nothing = torch.tensor([0, self.clauses + 1, 0, 0], device=self.device)
        self.row_advances = _stack(self.row_advances, self._advances(advances), nothing)
        self.row_void = _stack(self.row_void, _padded(voids, -1, self.device), torch.tensor(-1, device=self.device))
        self._make_room()
        index = torch.tensor(wanted, device=self.device)
        self.row_of[index[:, 0], index[:, 1]] = torch.arange(self.rows, self.rows + len(wanted), device=self.device)
        self.rows += len(wanted)

    def _make_room(self) -> None:
        """Makes tables by state as wide as there are states."""
        states = max(1 if automaton is None else len(automaton) for automaton in self.automata)
        if (wide := self.row_of.shape[1]) >= states and self.rows:
            return
        more = (len(self.automata), 2 * states - wide)
        self.row_of = torch.cat([self.row_of, torch.full(more, -1, device=self.device)], dim=1)
        self.pending_of = torch.full(self.row_of.shape, FORBIDDEN, device=self.device)
        for i, automaton in enumerate(self.automata):
            known = np.zeros(1, np.int64) if automaton is None else automaton.character_pending
            self.pending_of[i, : len(known)] = torch.as_tensor(known)

    def _add_cost(self, cost: np.ndarray) -> int:
        if self.costs == len(self.cost):
            self.cost = torch.cat([self.cost, torch.empty_like(self.cost)])
        self.cost[self.costs] = torch.as_tensor(cost)
        self.costs += 1
        return self.costs - 1

    def _advances(self, parts: Sequence[np.ndarray]) -> Tensor:
        """(parts, n, 4): padded with entries of no clause; an exit's clause comes after all clauses."""
        padded = np.zeros((len(parts), max(1, *map(len, parts), 0), 4), dtype=np.int64)
        padded[:, :, 1] = self.clauses + 1
        for i, part in enumerate(parts):
            padded[i, : len(part)] = part
            padded[i, : len(part), 1][padded[i, : len(part), 1] == EXIT] = self.clauses
        return torch.as_tensor(padded, device=self.device)

    def _tensor(self, parts: Sequence, dtype: torch.dtype) -> Tensor:
        if not len(parts):
            return torch.zeros(0, dtype=dtype, device=self.device)
        return torch.cat([torch.as_tensor(part).to(dtype) for part in parts]).to(self.device)


def _stack(first: Tensor, second: Tensor, filler: Tensor) -> Tensor:
    """Two tables (rows, width, ...) as one, the narrower one padded with `filler`."""
    width = max(first.shape[1], second.shape[1])

    def padded(table: Tensor) -> Tensor:
        return torch.cat([table, filler.expand(len(table), width - table.shape[1], *filler.shape)], dim=1)

    return torch.cat([padded(first), padded(second)])


def _padded(lists: Sequence[Sequence[int]], filler: int, device) -> Tensor:
    width = max(map(len, lists), default=0)
    return torch.tensor([[*map(int, part), *[filler] * (width - len(part))] for part in lists], device=device).long()


def _too_long(wish, automaton, state, done, need, budget, text) -> str:
    missing = [phrases[0] for i, phrases in enumerate(wish.clauses) if not done >> i & 1]
    listed = ", ".join(map(repr, missing))
    return f"{listed} after {text!r} takes up to {need} tokens, and the budget is {budget}: require less, or allow more"


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


def _topk(scores: Tensor, count: int, vocab: int, do_sample: bool) -> _Candidates:
    """The `count` best of (batch, beams * vocab), or with `do_sample` as many drawn without replacement (by the Gumbel
    trick), in the order in which they are drawn."""
    order = scores
    if do_sample:
        order = scores - torch.empty_like(scores).exponential_().log()
    index = order.topk(min(count, order.shape[1]), dim=1).indices
    return _Candidates(index // vocab, index % vocab, scores.gather(1, index))


def _can_follow(processor) -> bool:
    """Whether a processor can do without the prompts that leave the batch: it knows no rows, or has `select`."""
    return hasattr(processor, "select") or isinstance(processor, _ROWLESS)


def _isin(tokens: Tensor, eos: Tensor | None) -> Tensor:
    return torch.zeros_like(tokens, dtype=torch.bool) if eos is None else torch.isin(tokens, eos)


def _first_running(finished: Tensor, beams: int) -> Tensor:
    """Indices of the first `beams` candidates that go on, finished ones after them."""
    return finished.long().sort(dim=1, stable=True).indices[:, :beams]
