"""The sequences of a beam search: candidates, running beams, and the best that are finished.

As in `transformers`' own beam search, so that prompts without constraints come out the same, token for token.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

NEVER = float("-inf")
FAR = 1e6  # ranks behind all others
UNFINISHED = NEVER  # of a finished sequence that is not there yet; `transformers` has -1e9, which long ones may score


@dataclass
class Candidates:
    """(batch, candidates) each, in the order in which they are preferred."""

    parent: Tensor
    token: Tensor
    score: Tensor  # log-probability of the sequence; -inf where there is no candidate
    # what a `Guide` knows besides
    is_eos: Tensor | None = None
    state: Tensor | None = None  # of the automaton; -1 at the end of the text
    satisfied: Tensor | None = None  # clauses, as bits
    met: Tensor | None = None  # those that are satisfied, or written but not yet followed by anything
    group: Tensor | None = None  # those that are compared with one another first
    hash: Tensor | None = None  # of the text
    closing: Tensor | None = None  # the policy has ended, and what is open is being written

    def in_order(self, order: Tensor) -> Candidates:
        """The candidates at these places, with all that a `Guide` knows of them. order: (batch, places)"""
        flags = [self.is_eos.long(), self.closing.long()]
        known = [self.state, self.satisfied, self.met, self.group, self.hash]
        numbers = torch.stack([self.parent, self.token, *flags, *known])
        parent, token, is_eos, closing, *known = numbers.gather(2, order.expand(len(numbers), *order.shape)).unbind()
        return Candidates(parent, token, self.score.gather(1, order), is_eos.bool(), *known, closing.bool())


@dataclass
class Beams:
    """The sequences of the search: running ones, and the best finished ones. Mirrors `GenerationMixin._beam_search`."""

    running: Tensor  # (batch, beams, max_length)
    score: Tensor  # (batch, beams) log-probability
    finished: Tensor  # (batch, beams, max_length), best first
    finished_score: Tensor  # (batch, beams) log-probability / length ** length_penalty
    length: Tensor  # (batch, beams) new tokens of the finished
    hash: Tensor  # (batch, beams) of the finished texts
    closed: Tensor  # (batch, beams) whether the end of a finished text is phrases that were still open: see `Guide`
    done: Tensor  # (batch, beams) whether there is a finished sequence
    active: Tensor  # (batch, 1) whether the finished ones may still change

    @classmethod
    def start(cls, blank: Tensor) -> Beams:
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
            closed=zeros.bool(),
            done=zeros.bool(),
            active=torch.ones((batch, 1), dtype=torch.bool, device=blank.device),
        )

    def finish(
        self,
        candidates,
        finished,
        left,
        step,
        length,
        early,
        length_penalty,
        constrained: Tensor | None,
        prose: Tensor | None,
    ) -> Beams:
        """Enters the candidates that end here; as in `transformers`, only those among the first `beams`, but of prompts
        with constraints all of them at the end of the budget, where few may be left that differ.

        `constrained`, `prose`: (batch,) which prompts have constraints, and have them in prose, where a text that had
        to be closed comes behind all that had not; None if none has."""
        beams = self.score.shape[1]
        may = torch.arange(finished.shape[1], device=left.device)[None] < beams
        if constrained is not None:
            may = may | (constrained & (left <= 0))[:, None]
        new = finished & may & (candidates.score > NEVER)
        closed = ~self.active | (self.done.all(dim=1, keepdim=True) if early is True else torch.zeros_like(self.active))
        new = new & ~closed
        if not bool(new.any()):
            return self
        score = candidates.score / ((step + 1) ** length_penalty)
        score = torch.cat([self.finished_score, torch.where(new, score, UNFINISHED)], dim=1)  # (batch, beams + pool)
        done = torch.cat([self.done, new], dim=1)
        hashes, closings = self.hash, self.closed
        if constrained is not None:
            closings = torch.cat([self.closed, candidates.closing], dim=1)
            hashes = torch.cat([self.hash, candidates.hash], dim=1)
            same = (hashes[:, :, None] == hashes[:, None]) & done[:, :, None] & done[:, None]
            position = torch.arange(hashes.shape[1], device=score.device)
            better = (score[:, None] > score[:, :, None]) | (
                (score[:, None] == score[:, :, None]) & (position[None] < position[:, None])
            )
            repeated = (same & better).any(dim=2) & constrained[:, None]
            score, done = score.masked_fill(repeated, UNFINISHED), done & ~repeated
        order = score if constrained is None else score.where(~(closings & prose[:, None]), score - FAR)
        best = order.topk(beams, dim=1).indices
        is_new, old, entry = best >= beams, best.clamp_max(beams - 1), (best - beams).clamp_min(0)
        sequences = torch.take_along_dim(self.running, candidates.parent.gather(1, entry)[:, :, None], dim=1)
        sequences[:, :, length] = candidates.token.gather(1, entry)
        kept = torch.take_along_dim(self.finished, old[:, :, None], dim=1)
        return Beams(
            running=self.running,
            score=self.score,
            finished=torch.where(is_new[:, :, None], sequences, kept),
            finished_score=score.gather(1, best),
            length=torch.where(is_new, step + 1, self.length.gather(1, old)),
            hash=self.hash if constrained is None else hashes.gather(1, best),
            closed=self.closed if constrained is None else closings.gather(1, best),
            done=done.gather(1, best),
            active=self.active,
        )

    def continued(self, candidates: Candidates, length: int) -> Tensor:
        """Every candidate's sequence. (batch, candidates, length + 1)"""
        sequences = torch.take_along_dim(self.running, candidates.parent[:, :, None], dim=1)
        sequences[:, :, length] = candidates.token
        return sequences[:, :, : length + 1]

    def advance(self, candidates: Candidates, chosen: Tensor, parent: Tensor, length: int) -> Beams:
        """Replaces the running beams by the `chosen` candidates."""
        self.running = torch.take_along_dim(self.running, parent[:, :, None], dim=1)
        self.running[:, :, length] = candidates.token.gather(1, chosen)
        self.score = candidates.score.gather(1, chosen)
        return self

    def judge(self, step: int, max_new: int, early: bool | str, length_penalty: float, left: Tensor) -> Beams:
        """Whether a running beam could still beat a finished one, by the heuristic that `transformers` uses."""
        reach = max_new if early == "never" and length_penalty > 0.0 else step + 1
        best = self.score.max(dim=1, keepdim=True).values / reach**length_penalty
        worst = torch.where(self.done, self.finished_score.min(dim=1, keepdim=True).values, UNFINISHED)
        self.active = self.active & (best > worst).any(dim=1, keepdim=True) & (left > 0)[:, None]
        if early is True:
            self.active = self.active & ~self.done.all(dim=1, keepdim=True)
        return self

    def select(self, keep: Tensor) -> Beams:
        return Beams(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})

    def put(self, where: Tensor, part: Beams) -> Beams:
        for field in fields(self):
            getattr(self, field.name)[where] = getattr(part, field.name)
        return self


def best_of(scores: Tensor, count: int, vocab: int, do_sample: bool) -> Candidates:
    """The `count` best of (batch, beams * vocab), or with `do_sample` as many drawn without replacement (by the Gumbel
    trick), in the order in which they are drawn."""
    order = scores
    if do_sample:
        order = scores - torch.empty_like(scores).exponential_().log()
    index = order.topk(min(count, order.shape[1]), dim=1).indices
    return Candidates(index // vocab, index % vocab, scores.gather(1, index))


def best_of_each(scores: Tensor, count: int, do_sample: bool) -> Candidates:
    """As `best_of`, the `count` best of every beam of (batch, beams, vocab): the first `count` are the best of all."""
    vocab, order = scores.shape[2], scores
    if do_sample:
        order = scores - torch.empty_like(scores).exponential_().log()
    order, token = order.topk(min(count, vocab), dim=2)
    index = order.flatten(1).sort(dim=1, descending=True, stable=True).indices
    token, parent = token.flatten(1).gather(1, index), index // token.shape[2]
    return Candidates(parent, token, scores.flatten(1).gather(1, parent * vocab + token))


def first_running(finished: Tensor, beams: int) -> Tensor:
    """Indices of the first `beams` candidates that go on, finished ones after them."""
    return finished.long().sort(dim=1, stable=True).indices[:, :beams]
