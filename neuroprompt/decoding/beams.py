"""The sequences of a beam search: candidates, running beams, and the best that are finished.

As in `transformers`' own beam search, so that prompts without constraints come out the same, token for token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from neuroprompt.decoding.arrays import Array, arrays_of

NEVER = float("-inf")
FAR = 1e6  # ranks behind all others
UNFINISHED = NEVER  # of a finished sequence that is not there yet; `transformers` has -1e9, which long ones may score


@dataclass
class Candidates:
    """(batch, candidates) each, in the order in which they are preferred."""

    parent: Array
    token: Array
    score: Array  # log-probability of the sequence; -inf where there is no candidate
    # what a `Guide` knows besides
    is_eos: Array | None = None
    state: Array | None = None  # of the automaton; -1 at the end of the text
    satisfied: Array | None = None  # clauses, as bits
    met: Array | None = None  # those that are satisfied, or written but not yet followed by anything
    group: Array | None = None  # those that are compared with one another first
    hash: Array | None = None  # of the text
    closing: Array | None = None  # the policy has ended, and what is open is being written

    def in_order(self, order: Array) -> Candidates:
        """The candidates at these places, with all that a `Guide` knows of them. order: (batch, places)"""
        xp = arrays_of(order)
        flags = [xp.astype(self.is_eos, xp.int64), xp.astype(self.closing, xp.int64)]
        known = [self.state, self.satisfied, self.met, self.group, self.hash]
        numbers = xp.stack([self.parent, self.token, *flags, *known])
        parent, token, is_eos, closing, *known = xp.take_along_axis(numbers, order[None], 2)
        score = xp.take_along_axis(self.score, order, 1)
        return Candidates(parent, token, score, is_eos != 0, *known, closing != 0)


@dataclass
class Beams:
    """The sequences of the search: running ones, and the best finished ones. Mirrors `GenerationMixin._beam_search`."""

    running: Array  # (batch, beams, max_length)
    score: Array  # (batch, beams) log-probability
    finished: Array  # (batch, beams, max_length), best first
    finished_score: Array  # (batch, beams) log-probability / length ** length_penalty
    length: Array  # (batch, beams) new tokens of the finished
    hash: Array  # (batch, beams) of the finished texts
    closed: Array  # (batch, beams) whether the end of a finished text is phrases that were still open: see `Guide`
    done: Array  # (batch, beams) whether there is a finished sequence
    active: Array  # (batch, 1) whether the finished ones may still change

    @classmethod
    def start(cls, blank: Array) -> Beams:
        xp, (batch, beams, _) = arrays_of(blank), blank.shape
        score = xp.full((batch, beams), NEVER)
        score[:, 0] = 0.0  # all beams are the prompt: only one may grow
        return cls(
            running=blank,
            score=score,
            finished=blank + 0,
            finished_score=xp.full((batch, beams), UNFINISHED),
            length=xp.full((batch, beams), 0),
            hash=xp.full((batch, beams), 0),
            closed=xp.full((batch, beams), False),
            done=xp.full((batch, beams), False),
            active=xp.full((batch, 1), True),
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
        constrained: Array | None,
        prose: Array | None,
    ) -> Beams:
        """Enters the candidates that end here; as in `transformers`, only those among the first `beams`, but of prompts
        with constraints all of them at the end of the budget, where few may be left that differ.

        `constrained`, `prose`: (batch,) which prompts have constraints, and have them in prose, where a text that had
        to be closed comes behind all that had not; None if none has."""
        xp, beams = arrays_of(left), self.score.shape[1]
        may = xp.arange(finished.shape[1])[None] < beams
        if constrained is not None:
            may = may | (constrained & (left <= 0))[:, None]
        new = finished & may & (candidates.score > NEVER)
        closed = ~self.active | (self.done.all(axis=1, keepdims=True) if early is True else False)
        new = new & ~closed
        if not bool(new.any()):
            return self
        score = candidates.score / ((step + 1) ** length_penalty)
        score = xp.concat([self.finished_score, xp.where(new, score, UNFINISHED)], axis=1)  # (batch, beams + pool)
        done = xp.concat([self.done, new], axis=1)
        hashes, closings = self.hash, self.closed
        if constrained is not None:
            closings = xp.concat([self.closed, candidates.closing], axis=1)
            hashes = xp.concat([self.hash, candidates.hash], axis=1)
            same = (hashes[:, :, None] == hashes[:, None]) & done[:, :, None] & done[:, None]
            position = xp.arange(hashes.shape[1])
            better = (score[:, None] > score[:, :, None]) | (
                (score[:, None] == score[:, :, None]) & (position[None] < position[:, None])
            )
            repeated = (same & better).any(axis=2) & constrained[:, None]
            score, done = xp.where(repeated, UNFINISHED, score), done & ~repeated
        order = score if constrained is None else xp.where(closings & prose[:, None], score - FAR, score)
        _, best = xp.top(order, beams)
        is_new, old, entry = best >= beams, best.clip(max=beams - 1), (best - beams).clip(min=0)
        parent = xp.take_along_axis(candidates.parent, entry, 1)
        sequences = xp.take_along_axis(self.running, parent[:, :, None], 1)
        sequences[:, :, length] = xp.take_along_axis(candidates.token, entry, 1)
        kept = xp.take_along_axis(self.finished, old[:, :, None], 1)
        return Beams(
            running=self.running,
            score=self.score,
            finished=xp.where(is_new[:, :, None], sequences, kept),
            finished_score=xp.take_along_axis(score, best, 1),
            length=xp.where(is_new, step + 1, xp.take_along_axis(self.length, old, 1)),
            hash=self.hash if constrained is None else xp.take_along_axis(hashes, best, 1),
            closed=self.closed if constrained is None else xp.take_along_axis(closings, best, 1),
            done=xp.take_along_axis(done, best, 1),
            active=self.active,
        )

    def continued(self, candidates: Candidates, length: int) -> Array:
        """Every candidate's sequence. (batch, candidates, length + 1)"""
        xp = arrays_of(self.running)
        sequences = xp.take_along_axis(self.running, candidates.parent[:, :, None], 1)
        sequences[:, :, length] = candidates.token
        return sequences[:, :, : length + 1]

    def advance(self, candidates: Candidates, chosen: Array, parent: Array, length: int) -> Beams:
        """Replaces the running beams by the `chosen` candidates."""
        xp = arrays_of(self.running)
        self.running = xp.take_along_axis(self.running, parent[:, :, None], 1)
        self.running[:, :, length] = xp.take_along_axis(candidates.token, chosen, 1)
        self.score = xp.take_along_axis(candidates.score, chosen, 1)
        return self

    def judge(self, step: int, max_new: int, early: bool | str, length_penalty: float, left: Array) -> Beams:
        """Whether a running beam could still beat a finished one, by the heuristic that `transformers` uses."""
        xp = arrays_of(self.score)
        reach = max_new if early == "never" and length_penalty > 0.0 else step + 1
        best = xp.amax(self.score, axis=1, keepdims=True) / reach**length_penalty
        worst = xp.where(self.done, xp.amin(self.finished_score, axis=1, keepdims=True), UNFINISHED)
        self.active = self.active & (best > worst).any(axis=1, keepdims=True) & (left > 0)[:, None]
        if early is True:
            self.active = self.active & ~self.done.all(axis=1, keepdims=True)
        return self

    def select(self, keep: Array) -> Beams:
        return Beams(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})

    def put(self, where: Array, part: Beams) -> Beams:
        for field in fields(self):
            getattr(self, field.name)[where] = getattr(part, field.name)
        return self


Order = Callable[[Array], Array]
"""What candidates are ordered by instead of their scores, such as these with noise."""


def best_of(scores: Array, count: int, vocab: int, order: Order | None = None) -> Candidates:
    """The `count` best of (batch, beams * vocab)."""
    xp = arrays_of(scores)
    _, index = xp.top(order(scores) if order else scores, min(count, scores.shape[1]))
    return Candidates(index // vocab, index % vocab, xp.take_along_axis(scores, index, 1))


def best_of_each(scores: Array, count: int, order: Order | None = None) -> Candidates:
    """As `best_of`, the `count` best of every beam of (batch, beams, vocab): the first `count` are the best of all."""
    xp, (batch, _, vocab) = arrays_of(scores), scores.shape
    ordered, token = xp.top(order(scores) if order else scores, min(count, vocab))
    index = xp.argsort(ordered.reshape(batch, -1), descending=True)
    parent, token = index // token.shape[2], xp.take_along_axis(token.reshape(batch, -1), index, 1)
    return Candidates(parent, token, xp.take_along_axis(scores.reshape(batch, -1), parent * vocab + token, 1))


def first_running(finished: Array, beams: int) -> Array:
    """Indices of the first `beams` candidates that go on, finished ones after them."""
    xp = arrays_of(finished)
    return xp.argsort(xp.astype(finished, xp.int8))[:, :beams]
