"""NeuroLogic decoding: a beam search under clauses of phrases, exact, batched, for any causal language model.

Lu et al., "NeuroLogic Decoding" (NAACL 2021, arXiv 2010.12884). As there, candidates are grouped by the set of clauses
that they satisfy and the best of each group survive, and a candidate that is on its way through a phrase is ranked
higher in proportion. Unlike there, constraints are about text (`automaton.py`), and they are met always: a token is
only ever chosen if the tokens that then remain surely suffice for the clauses that are then open. And where the model
would end, a beam closes: what is open is written there and then, and the sequence ends (`guide.py`).

It is written once for NumPy and torch (`arrays.py`), and of the model it wants two functions (`LanguageModel`): the one
of `neurologic.py` is any model of `transformers`, that of `language_models.gpt2` needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from neuroprompt.decoding.arrays import Array, arrays_of
from neuroprompt.decoding.beams import Beams, Candidates, Order, best_of, first_running
from neuroprompt.decoding.constraints import Constraints
from neuroprompt.decoding.guide import Guide, Preferences
from neuroprompt.decoding.processors import Processor
from neuroprompt.decoding.vocabulary import CACHE_BYTES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LanguageModel(Protocol):
    """What has read the prompts, and goes on from there; its cache is its own business."""

    def prefill(self, beams: int) -> Array:
        """The logits of each prompt's first new token, once for each beam. (prompts * beams, vocab)"""
        ...

    def step(self, sequences: Array, parent: Array) -> Array:
        """The logits of the next token. (rows, vocab)

        Args:
            sequences: (rows, length), which end in one token more than before.
            parent: (rows,) of which row of the step before each is the continuation: another beam of its prompt. Rows
                of prompts that have left the batch are nobody's.
        """
        ...


class Found(NamedTuple):
    """What a search found, (prompts * returned) each.

    Args:
        sequences: (…, length) token ids, padded on the right.
        scores: log-probability / length ** length_penalty.
        closed: whether the search wrote phrases that were still open one by one at the end: of prose, those for which
            the budget did not suffice.
    """

    sequences: Array
    scores: Array
    closed: Array


def search(
    model: LanguageModel,
    prompts: Array,
    *,
    budgets: Array,
    eos: Array,
    pad: int,
    beams: int = 1,
    returned: int = 1,
    constraints: Sequence[Constraints | None] = (),
    counted: Sequence[Sequence[int]] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
    phrase_weight: float | None = None,
    beta: int = 2,
    cache_bytes: int = CACHE_BYTES,
    processors: Sequence[Processor] = (),
    length_penalty: float = 1.0,
    early: bool | str = True,
    order: Order | None = None,
    stops: Callable[[Array], Array] | None = None,
    may_shrink: bool = True,
) -> Found:
    """Continues every prompt by beam search so that the text, prompt included, meets the prompt's constraints.

    Prompts without constraints get what `transformers`' own beam search gives, token for token.

    Args:
        model: has read the prompts, and says what comes next.
        prompts: (batch, length) token ids.
        budgets: (batch,) the most new tokens of each.
        eos: the tokens that end a text; there may be none.
        pad: what stands behind the end.
        beams: width of the search.
        returned: the texts of each prompt, that differ in more than case and whitespace.
        constraints, counted: of each prompt, its constraints or None, and its tokens that count as text; none where
            there are no constraints at all.
        tokenizer: of the constraints.
        phrase_weight, beta, cache_bytes: as of `neurologic`.
        processors: of the log-probabilities of the next token.
        length_penalty, early: as in `transformers`, whose `early_stopping` the latter is.
        order: what candidates are preferred by instead of their scores, such as these with noise.
        stops: which of (batch * candidates, length) sequences end besides.
        may_shrink: whether the prompts that are finished may leave the batch; the processors then have `select`.

    Raises:
        ConstraintError: a prompt has a forbidden phrase, a clause cannot be written, or the required text does not fit
            the budget; all before decoding.
        RuntimeError: the model's scores are NaN, or the processors leave no token.
    """
    xp, (batch, prompt_length) = arrays_of(prompts), prompts.shape
    max_new = int(xp.amax(budgets, axis=0))
    preferences = Preferences(eos, max(2, 1 + len(eos)) * beams, phrase_weight, beta, order)
    early = early if beams > 1 else True  # one beam ends where it ends

    logits = model.prefill(beams)
    guide = Guide.start(constraints, tokenizer, counted, budgets, logits.shape[-1], beams, preferences, cache_bytes)
    blank = xp.full((batch, beams, prompt_length + max_new), pad)
    blank[:, :, :prompt_length] = prompts[:, None]
    sequences = Beams.start(blank)
    results = sequences  # grows as prompts are finished and leave the batch
    here = xp.arange(batch)  # the prompts still in the batch

    for step in range(max_new):
        length = prompt_length + step
        left = budgets - step - 1  # (batch,) tokens that may still follow this one
        log_probs = raw = xp.log_softmax(logits)  # (batch * beams, vocab)
        if processors:
            log_probs, so_far = raw + 0, sequences.running[:, :, :length].reshape(-1, length)
            for processor in processors:
                log_probs = processor(so_far, log_probs)
        if guide is None:
            candidates = _likeliest(log_probs, sequences.score, preferences)
        else:
            candidates = guide.candidates(log_probs, raw, sequences.score, left)

        finished = candidates.is_eos | (left <= 0)[:, None]
        if stops:
            stop = stops(sequences.continued(candidates, length).reshape(-1, length + 1)).reshape(finished.shape)
            finished = finished | (stop if guide is None else stop & guide.may_end(candidates))
        which = (None, None) if guide is None else (guide.constrained, guide.prose)
        sequences = sequences.finish(candidates, finished, left, step, length, early, length_penalty, *which)
        running = first_running(finished, beams)  # (batch, beams) indices of candidates
        parent = xp.take_along_axis(candidates.parent, running, 1)
        sequences = sequences.advance(candidates, running, parent, length)
        if guide is not None:
            guide.advance(candidates, running)
        sequences = sequences.judge(step, max_new, early, length_penalty, left)
        results = sequences if len(here) == batch else results.put(here, sequences)
        active = sequences.active[:, 0]
        still = int(active.sum())
        if not still:
            break

        rows = parent + beams * xp.arange(len(here))[:, None]
        if may_shrink and still <= len(here) // 2:  # finished prompts leave the batch once they are half of it
            keep = xp.arange(len(here))[active]
            rows, here, budgets, sequences = rows[keep], here[keep], budgets[keep], sequences.select(keep)
            for follower in (guide, *processors):
                if hasattr(follower, "select"):  # transformers' own that know no rows have none
                    follower.select(keep)
        logits = model.step(sequences.running[:, :, : length + 1].reshape(-1, length + 1), rows.reshape(-1))

    if guide is not None and not bool(results.done[:, 0].all()):
        raise RuntimeError("the model's scores are NaN or leave no token: no sequence could be finished")
    pick = xp.where(results.done[:, :returned], xp.arange(returned), 0)  # the best for what is missing
    ids = xp.take_along_axis(results.finished, pick[:, :, None], 1).reshape(-1, prompt_length + max_new)
    longest = int(xp.amax(xp.take_along_axis(results.length, pick, 1).reshape(-1), axis=0))
    return Found(
        ids[:, : prompt_length + longest],
        xp.take_along_axis(results.finished_score, pick, 1).reshape(-1),
        xp.take_along_axis(results.closed, pick, 1).reshape(-1),
    )


def _likeliest(log_probs: Array, score: Array, preferences: Preferences) -> Candidates:
    """The candidates of a search without constraints."""
    vocab = log_probs.shape[-1]
    scores = (log_probs.reshape(*score.shape, vocab) + score[:, :, None]).reshape(len(score), -1)
    found = best_of(scores, preferences.pool, vocab, preferences.order)
    found.is_eos = arrays_of(score).isin(found.token, preferences.eos)
    return found
