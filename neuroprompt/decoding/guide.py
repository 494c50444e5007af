"""What every beam may do under its prompt's constraints: the automata of a batch as tables on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neuroprompt.decoding.arrays import Array, Arrays, arrays_of
from neuroprompt.decoding.automaton import (
    AFTER_SEPARATOR,
    AFTER_WORD,
    BANNED,
    CLOSING,
    DEAD_END,
    DEARER_IN_PROSE,
    DELIMITERS,
    EXIT,
    FORBIDDEN,
    SAME,
    SHUT,
    WHOLE,
    Automaton,
    Row,
)
from neuroprompt.decoding.beams import NEVER, Candidates, Order, best_of_each
from neuroprompt.decoding.constraints import MAX_CLAUSES, ConstraintError, Constraints, check
from neuroprompt.decoding.vocabulary import CACHE_BYTES, Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROOM = 12  # tokens: where a budget has less, no further modifier is begun that might have to be cut
FIRST = 1e9  # rank above all others
PHRASE_WEIGHT = 3.0  # by default, in nats; and in prose, where words come by themselves, and should not in a heap:
PROSE_WEIGHT = 0.5


@dataclass(frozen=True)
class Preferences:
    """How candidates are found and ranked.

    Args:
        eos: the tokens that end a text; there may be none.
        pool: how many of the most likely tokens of a beam are considered, and of a prompt without constraints: as many
            as `transformers` considers.
        phrase_weight, beta: as in `neurologic`.
        order: what the tokens are preferred by instead of their scores, if so.
    """

    eos: Array
    pool: int
    phrase_weight: float | None
    beta: int
    order: Order | None = None


class Debt(NamedTuple):
    """What the beams have still to write."""

    pending: Array  # (batch, beams) bits: the clauses that the end of the text would complete, and `FORBIDDEN`
    price: Array  # (batch, beams, clauses) tokens that surely write the clause; 0 where it is met
    total: Array  # (batch, beams) of all clauses
    may_end: Array  # (batch, beams)


class Moves(NamedTuple):
    """How each beam ends: the open one by the separator with which it begins to close, the closing one by its best
    next token. (batch, beams) each"""

    token: Array
    logp: Array  # -inf where there is none


class Advances(NamedTuple):
    """Tokens that advance a phrase, or complete it. (batch * beams, advances) each"""

    token: Array
    clause: Array  # behind all clauses come "what is pending", and padding
    gain: Array  # tokens of the debt that the phrase pays
    progress: Array  # thousandths of the phrase that are there with the token
    allowed: Array  # whether all that is open can surely be written then


class Guide:
    """The constraints of a batch: where every beam stands, and what it may do.

    The prompts' automata are stacked into tables on the device. Rows are made when a state is first visited; that is
    the only work on the host, and it needs only the numbers of the new states.
    """

    def __init__(
        self,
        automata: list[Automaton | None],
        of_prompt: list[int],
        vocabulary: Vocabulary,
        size: int,
        xp: Arrays,
        preferences: Preferences,
    ):
        self.automata, self.size, self.xp, self.preferences = automata, size, xp, preferences
        self.automaton = xp.asarray(of_prompt)  # (batch,)
        self.constrained = xp.asarray([automata[i] is not None for i in of_prompt])  # (batch,)
        prose = [bool(automata[i] and automata[i].anywhere) for i in of_prompt]
        self.prose = xp.asarray(prose)  # (batch,) whether phrases may stand anywhere
        weights = [PROSE_WEIGHT if free else PHRASE_WEIGHT for free in prose]
        if preferences.phrase_weight is not None:
            weights = [float(preferences.phrase_weight)] * len(prose)
        self.weight = xp.asarray(weights, xp.float32)  # (batch,)
        self.kept = vocabulary.automata
        self.separator = vocabulary.token_of.get(DELIMITERS.encode())
        there = [automaton for automaton in automata if automaton is not None]
        self.clauses = max(len(automaton.price) for automaton in there)

        self.rank = xp.asarray(vocabulary.rank)
        self.joins = xp.asarray(vocabulary.joins)
        self.hash_factor = xp.asarray(vocabulary.hash_factor)
        self.hash_term = xp.asarray(vocabulary.hash_term)
        self.bits = xp.arange(self.clauses)
        price = np.zeros((len(automata), self.clauses), np.int64)
        for i, automaton in enumerate(automata):
            if automaton is not None:
                price[i, : len(automaton.price)] = automaton.price
        self.price = xp.asarray(price[of_prompt][:, None])  # (batch, 1, clauses)
        self.everything = xp.asarray([automata[i].everything if automata[i] else 0 for i in of_prompt])  # (batch,)

        # (automata, states between characters): what the end of the text would complete
        pending = [np.zeros(1, np.int64) if a is None else a.character_pending for a in automata]
        self.pending_of = xp.asarray(_padded(pending, 0))

        # base rows, of which row 0 is for prompts without constraints, where any token is free; then those of visited
        # states; and the runs of all in one sorted array
        bases = [_FREE, *(row for a in there for row in a.bases)]
        self.first_base = np.cumsum([0 if a is None else 3 for a in automata]) - 2
        self.base_advances = self._padded_advances([row.advances for row in bases])
        blank = there[0].blank
        self.after = xp.asarray(blank.after)
        self.spoiling = xp.asarray(blank.spoiling)
        cost_of_kind = xp.asarray(np.stack([a.cost_of_kind for a in there]))
        cost = cost_of_kind[:, xp.asarray(blank.kind, xp.int64)].reshape(-1, size)
        self.cost = xp.concat([xp.full((1, size), 0, xp.int8), cost])
        self.costs = len(self.cost)
        self._name_costs(0, bases)
        self.rows = len(bases)
        self.row_base = self.row_cost = xp.arange(len(bases))
        self.row_root = xp.asarray([row.base for row in bases])
        self.row_pending = xp.full((len(bases),), 0)
        self.row_separated = xp.full((len(bases),), False)
        self.row_advances = self._padded_advances([row.advances[:0] for row in bases])
        self.row_void = xp.full((len(bases), 0), -1)
        self.run_key = self.run_state = self.run_completed = xp.full((0,), 0)
        self._add_runs(0, bases)
        self.visited = self.row_of = xp.full((0,), 0)  # rising: see `_key`; and the row of each

    @classmethod
    def start(
        cls,
        constraints: Sequence[Constraints | None],
        tokenizer: PreTrainedTokenizerBase | None,
        tokens: Sequence[Sequence[int]],
        budgets: Array,
        size: int,
        beams: int,
        preferences: Preferences,
        cache_bytes: int = CACHE_BYTES,
    ) -> Guide | None:
        """Reads the prompts and checks that every constraint can be met; None if there is none.

        Args:
            constraints, tokens, budgets: of each prompt; the tokens that count, and the most new ones.
            size: the width of the model's logits.
            cache_bytes: of automata that are kept for later searches.

        Raises:
            ConstraintError: a constraint cannot be met.
        """
        if not any(constraints):
            return None
        if tokenizer is None:
            raise ValueError("constraints are about text: pass the tokenizer as `processing_class=tokenizer`")
        vocabulary = Vocabulary.of(tokenizer, size)
        vocabulary.automata.limit = cache_bytes
        automata, of_prompt, states, satisfied, ends_whole = [], [], [], [], []
        number_of: dict[Constraints | None, int] = {}  # in `automata`
        for wish, ids, budget in zip(constraints, tokens, budgets.tolist(), strict=True):
            wish = wish or None
            automaton, state, done, at_end = None, 0, 0, 0
            if wish:
                text = vocabulary.text(ids)
                wish.refuse(text)
                if wish in number_of:
                    automaton = automata[number_of[wish]]
                else:
                    automaton = Automaton.of(vocabulary, wish.written, wish.forbidden, wish.anywhere)
                state, _ = automaton.read(text)
                if automaton.pending(state) & FORBIDDEN:  # the prompt ends in what must not be added: it may go on
                    state = AFTER_WORD
                matches = check(text, wish).matches
                done = sum(1 << i for i, match in enumerate(matches) if match and match.end < len(text))
                at_end = sum(1 << i for i, match in enumerate(matches) if match) & ~done
                if not automaton.may_be_delimited(state, automaton.everything & ~(done | at_end), budget):
                    at_end = 0
                done |= at_end
                if (need := automaton.need(state, automaton.everything & ~done)) > budget:
                    raise ConstraintError(_too_long(wish, done, need, budget, text))
            if wish not in number_of:
                number_of[wish] = len(automata)
                automata.append(automaton)
            of_prompt.append(number_of[wish])
            states.append(state)
            satisfied.append(done)
            ends_whole.append(bool(at_end))
        xp, shape = arrays_of(budgets), (len(tokens), beams)
        self = cls(automata, of_prompt, vocabulary, size, xp, preferences)
        self.satisfied = xp.broadcast_to(xp.asarray(satisfied)[:, None], shape)
        self.hash = xp.full(shape, 0)
        self.closing = xp.full(shape, False)
        # what the prompt's last word meets must not be spoilt by going on with the word
        self.kept_word = xp.asarray(ends_whole)[:, None] if any(ends_whole) else None
        self.row = self._rows_for(xp.broadcast_to(xp.asarray(states)[:, None], shape))
        return self

    def candidates(self, log_probs: Array, raw: Array, score: Array, left: Array) -> Candidates:
        """The ways on, in the order of preference; see `neurologic`.

        Args:
            log_probs: (batch * beams, vocab) of the next token, as the logits processors leave them.
            raw: (batch * beams, vocab) the same as the model says them.
            score: (batch, beams) log-probability of what is written.
            left: (batch,) tokens that may still follow the next one.
        """
        debt = self._debt()
        advances = self._advances(debt, left)
        self._start_closing(debt, advances, left)
        closed = self._closed(debt, left)
        ends = self._ends(log_probs, raw, debt, closed, advances)
        worth = score + self._credit((self.satisfied | debt.pending) & self.everything[:, None])  # (batch, beams)
        whole, part = self._admitted(log_probs, raw, worth, closed, advances)
        found, rank = self._best(whole, part, ends, score, worth, advances)
        order = self.xp.argsort(rank, descending=True)
        rank, found = self._gather(rank, order), found.in_order(order)
        found.score = self.xp.where(rank == NEVER, NEVER, found.score)
        return self._by_turns(found, rank > NEVER)

    def may_end(self, candidates: Candidates) -> Array:
        """Whether the text may end after each candidate."""
        pending = self._pending_in(candidates.state)
        satisfied = (candidates.satisfied | pending) & self.everything[:, None] == self.everything[:, None]
        return candidates.is_eos | (satisfied & (pending & FORBIDDEN == 0))

    def advance(self, candidates: Candidates, chosen: Array) -> None:
        """Moves the beams to the `chosen` candidates."""
        self.satisfied = self._gather(candidates.satisfied, chosen)
        self.hash = self._gather(candidates.hash, chosen)
        self.closing = self._gather(candidates.closing, chosen)
        self.kept_word = None  # the first token is written
        self.row = self._rows_for(self._gather(candidates.state, chosen).clip(min=0))

    def select(self, keep: Array) -> None:
        """Keeps these prompts only."""
        of_prompts = ("automaton", "constrained", "prose", "weight", "everything", "price")
        for name in (*of_prompts, "satisfied", "hash", "closing", "row"):
            setattr(self, name, getattr(self, name)[keep])

    # -- the steps of `candidates`

    def _debt(self) -> Debt:
        everything = self.everything[:, None]
        open_clauses = everything & ~self.satisfied
        pending = self.row_pending[self.row]
        price = self.price * self._members(open_clauses)
        may_end = (open_clauses & ~pending == 0) & (pending & FORBIDDEN == 0)
        return Debt(pending, price, price.sum(axis=2), may_end)

    def _advances(self, debt: Debt, left: Array) -> Advances:
        """The tokens that advance a phrase, judged by what is left of it: left + price of the other clauses - 1."""
        xp, row, beams = self.xp, self.row.reshape(-1), self.row.shape[1]
        entries = xp.concat([self.base_advances[self.row_base[row]], self.row_advances[row]], axis=1)
        token, clause, tokens_left, progress = (entries[:, :, i] for i in range(4))
        pending_price = (debt.price * self._members(debt.pending)).sum(axis=2, keepdims=True)
        price = xp.concat([debt.price, pending_price, xp.zeros_like(pending_price)], axis=2)
        gain = self._gather(price.reshape(len(row), -1), clause)
        need = tokens_left + debt.total.reshape(-1, 1) - gain - 1
        allowed = (gain > 0) & (need <= xp.repeat(left, beams)[:, None])
        allowed &= self.cost[self.row_cost[row][:, None], token] < BANNED
        if self.kept_word is not None:
            allowed &= ~(xp.repeat(self.kept_word, beams) & self.joins[token])
        from_base = self.base_advances.shape[1]
        if self.row_void.shape[1]:
            allowed[:, :from_base] &= (token[:, :from_base, None] != self.row_void[row][:, None]).all(axis=2)
        # what the end of a budget forces stands behind a separator in prose, too
        late = self.prose[:, None] & (self.closing | (left[:, None] + 1 - debt.total < ROOM))
        allowed[:, :from_base] &= ~(late & ~self.row_separated[self.row]).reshape(-1, 1)
        return Advances(token, clause, gain, progress, allowed)

    def _start_closing(self, debt: Debt, advances: Advances, left: Array) -> None:
        """Beams between two modifiers whose budget has no room for another one close; those that cannot go on closing
        (what they began has become forbidden) open again."""
        room = left[:, None] + 1 - debt.total
        full = self.row_separated[self.row] & ~debt.may_end & (debt.total > 0) & (room < ROOM)
        can = advances.allowed.any(axis=1).reshape(self.closing.shape)
        self.closing = (self.closing | full) & self.xp.where(debt.may_end, len(self.preferences.eos) > 0, can)

    def _closed(self, debt: Debt, left: Array) -> Array:
        """The tokens from which what is open can no longer surely be written: cost > left + 1 - price of what is open.
        (batch * beams, vocab)"""
        xp = self.xp
        limit = xp.where(self.closing, -1, (left[:, None] + 1 - debt.total).clip(-1, DEAD_END - 1))
        limit = xp.astype(xp.where(self.constrained[:, None], limit, DEAD_END), xp.int8).reshape(-1, 1)
        closed = self.cost[self.row_cost[self.row.reshape(-1)]] > limit
        if self.kept_word is not None:
            closed |= xp.repeat(self.kept_word, self.row.shape[1]) & self.joins
        closed[:, self.preferences.eos] = (~debt.may_end | self.closing).reshape(-1, 1)
        return closed

    def _ends(self, log_probs: Array, raw: Array, debt: Debt, closed: Array, advances: Advances) -> Moves:
        """Where the policy ends, what is open is written there and then: a beam may begin to close for the probability
        of the end, and then writes the phrases that the policy finds likeliest, one by one; what sets them apart, and
        the end itself, are paid for. Prose does not end before everything is met, and closes only for want of room."""
        xp, own, beams = self.xp, self.preferences, self.row.shape
        nothing = xp.full(beams, NEVER)
        if not self.clauses:
            return Moves(xp.zeros_like(self.row), nothing)
        begin, separator, eos = nothing, self.separator, own.eos[0] if len(own.eos) else 0
        if len(own.eos) and separator is not None:
            ready = (debt.total > 0) & ~debt.may_end & ~self.row_separated[self.row] & ~self.prose[:, None]
            ready &= ~closed[:, separator].reshape(beams)
            begin = xp.where(ready, xp.amax(log_probs[:, own.eos], axis=1).reshape(beams), NEVER)
        said = xp.where(advances.clause == self.clauses, 0.0, self._gather(raw, advances.token).clip(min=-1e4))
        said = xp.where(advances.allowed, said, NEVER)
        best = (said + self._bonus(advances)).argmax(axis=1, keepdims=True)
        token = xp.where(debt.may_end, eos, self._gather(advances.token, best).reshape(beams))
        logp = xp.where(debt.may_end, 0.0, self._gather(said, best).reshape(beams))
        return Moves(xp.where(self.closing, token, separator or 0), xp.where(self.closing, logp, begin))

    def _bonus(self, advances: Advances) -> Array:
        """What each token adds of its phrase, in nats; what is pending is paid for already."""
        xp = self.xp
        gain = xp.where(advances.clause < self.clauses, advances.gain, 0)
        weight = xp.repeat(self.weight, self.row.shape[1])[:, None]
        return weight * xp.astype(gain, xp.float32) * xp.astype(advances.progress, xp.float32) / 1000

    def _admitted(
        self, log_probs: Array, raw: Array, worth: Array, closed: Array, advances: Advances
    ) -> tuple[Array, Array]:
        """What the beams are worth with each token, and with those that advance a phrase: `worth` and the token's
        log-probability, -inf for what may not be. (batch, beams, vocab) and (batch, beams, advances)

        A model or processors that leave a beam nothing of what it may do are overruled."""
        xp, allowed = self.xp, advances.allowed & ~self.closing.reshape(-1, 1)
        before = worth.reshape(-1, 1)
        whole = xp.where(closed, NEVER, log_probs + before)
        part = xp.where(allowed, self._gather(log_probs, advances.token) + before, NEVER)
        stuck = (xp.amax(whole, axis=1) == NEVER) & (xp.amax(part, axis=1) == NEVER) & ~self.closing.reshape(-1)
        if bool((stuck & (worth.reshape(-1) > NEVER)).any()):
            finite = raw.clip(min=-1e4) + before
            own = xp.where(allowed, self._gather(finite, advances.token), NEVER)
            whole = xp.where(stuck[:, None], xp.where(closed, NEVER, finite), whole)
            part = xp.where(stuck[:, None], own, part)
        return whole.reshape(*worth.shape, -1), part.reshape(*worth.shape, -1)

    def _best(
        self, whole: Array, part: Array, ends: Moves, score: Array, worth: Array, advances: Advances
    ) -> tuple[Candidates, Array]:
        """The most likely tokens of each beam, behind them the prompt's best that advance a phrase, and each beam's way
        to end; and the ranks of all, in nats."""
        xp, (batch, beams, width), own = self.xp, part.shape, self.preferences
        likely = best_of_each(whole, own.pool, own.order)
        bonus = self._bonus(advances).reshape(batch, -1)
        part = part.reshape(batch, -1)
        _, best = xp.top(part + bonus, min(max(2 * beams, 16), part.shape[1]))

        every_beam = xp.broadcast_to(xp.arange(beams), (batch, beams))
        parent = xp.concat([likely.parent, best // width, every_beam], axis=1)
        token = [likely.token, self._gather(advances.token.reshape(batch, -1), best), ends.token]
        logp = xp.concat([likely.score, self._gather(part, best), ends.logp + worth], axis=1)
        dead = worth == NEVER
        logp = logp + self._gather(xp.where(dead, 0.0, score) - xp.where(dead, 0.0, worth), parent)
        found = self._after(parent, xp.concat(token, axis=1), logp)
        found.closing[:, -beams:] = True

        no_clause = xp.full(likely.token.shape, self.clauses)
        under_way = self._gather(advances.clause.reshape(batch, -1), best)
        under_way = xp.concat([no_clause, under_way, no_clause[:, :beams]], axis=1)
        bonus = xp.concat([xp.zeros_like(likely.score), self._gather(bonus, best), xp.zeros_like(score)], axis=1)
        is_there = (found.met >> under_way.clip(max=62)) & 1 == 1
        bonus = xp.where(is_there, 0.0, bonus)
        rank = logp + self._credit(found.met) + bonus
        # the beginning of a rare word is no match for words that come by themselves: in prose it has its own group
        begun = self.prose[:, None] & (under_way < self.clauses) & ~is_there
        found.group = xp.where(begun, ~(found.met * MAX_CLAUSES + under_way), found.met)
        rank[:, -beams:] += xp.where(self.closing, FIRST, 0.0)
        # prompts without constraints see exactly what `transformers` would show them
        rank[:, own.pool :] = xp.where(self.constrained[:, None], rank[:, own.pool :], NEVER)
        return found, rank

    def _after(self, parent: Array, token: Array, logp: Array) -> Candidates:
        """Where each token leads."""
        xp, everything, is_eos = self.xp, self.everything[:, None], self.xp.isin(token, self.preferences.eos)
        state, completed = self._follow(self._gather(self.row, parent), token)
        state = xp.where(is_eos, -1, state)
        satisfied = self._gather(self.satisfied, parent) | completed
        satisfied = xp.where(is_eos, everything, satisfied) & everything
        met = satisfied | (self._pending_in(state) & everything)
        hashes = self._gather(self.hash, parent)
        hashes = xp.where(is_eos, hashes, hashes * self.hash_factor[token] + self.hash_term[token])
        return Candidates(parent, token, logp, is_eos, state, satisfied, met, met, hashes, xp.zeros_like(is_eos))

    def _by_turns(self, found: Candidates, valid: Array) -> Candidates:
        """Those that go on closing keep their place. Behind them the best candidate of each group (those that have met
        the same clauses, and in prose are on their way through the same phrase), then the second best, and so on; what
        has met too few clauses, or reads like one before it, counts no more."""
        xp, kept = self.xp, found.closing & self._gather(self.closing, found.parent)
        count = self._members(found.met).sum(axis=2)
        most = xp.amax(xp.where(~valid | kept, -1, count), axis=1, keepdims=True)
        valid &= kept | (count >= most - self.preferences.beta)
        places = xp.arange(found.token.shape[1])
        earlier = (places[None] < places[:, None]) & valid[:, None]
        # of texts that read alike (case and whitespace aside) the beams need the best only
        alike = found.hash[:, :, None] == found.hash[:, None]
        for kind in (found.is_eos, found.closing):
            alike &= kind[:, :, None] == kind[:, None]
        valid &= ~((alike & earlier).any(axis=2) & self.constrained[:, None])
        earlier = earlier & (valid & ~kept)[:, None]
        place = ((found.group[:, :, None] == found.group[:, None]) & earlier).sum(axis=2)  # 0 for the best of its group
        place = xp.where(valid, xp.where(kept, -1, place), len(places))
        found.score = xp.where(valid, found.score, NEVER)
        return found.in_order(xp.argsort(place))

    def _members(self, clauses: Array) -> Array:
        """Sets of clauses, (batch, n) bits, as zeros and ones. (batch, n, clauses)"""
        return (clauses[:, :, None] >> self.bits) & 1

    def _credit(self, clauses: Array) -> Array:
        """What the clauses of each set are worth, in nats. (batch, n) to (batch, n)"""
        return self.weight[:, None] * self.xp.astype((self.price * self._members(clauses)).sum(axis=2), self.xp.float32)

    def _pending_in(self, states: Array) -> Array:
        """What the end of the text would complete in each of (batch, n) states, as bits."""
        states = states.clip(min=0)
        pending = self.pending_of[self.automaton[:, None], states & WHOLE]
        return self.xp.where(states > WHOLE, FORBIDDEN, pending)

    def _gather(self, array: Array, index: Array) -> Array:
        """What is at these places of each row. (rows, n)"""
        return self.xp.take_along_axis(array, index, 1)

    # -- the tables

    def _follow(self, row: Array, token: Array) -> tuple[Array, Array]:
        """The state after each token, and what it completes: as the row says, or its base row, or where there are no
        phrases."""
        xp, base, rank = self.xp, self.row_base[row], self.rank[token]
        own, of_base = (
            xp.searchsorted(self.run_key, number * self.size + rank, side="right") - 1 for number in (row, base)
        )
        state, there = self.run_state[of_base], self.run_state[own]
        state = xp.where(state >= 0, state, self.after[self.row_root[base], token])
        return xp.where(there >= 0, there, state), self.run_completed[own] | self.run_completed[of_base]

    def _key(self, states: Array) -> Array:
        """(batch, beams) states with their automata's numbers, as one number each."""
        return self.automaton[:, None] << _STATE_BITS | states

    def _rows_for(self, states: Array) -> Array:
        """The rows of (batch, beams) states, made where they are not there."""
        missing = keys = self._key(states)
        if len(self.visited):
            at = self.xp.searchsorted(self.visited, keys).clip(max=len(self.visited) - 1)
            missing = keys[self.visited[at] != keys]
            if not len(missing):
                return self.row_of[at]
        self._make_rows(self.xp.unique(missing))
        return self.row_of[self.xp.searchsorted(self.visited, keys)]

    def _make_rows(self, keys: Array) -> None:
        xp, bases, pendings, separated, rows = self.xp, [], [], [], []
        for key in keys.tolist():
            i, state = key >> _STATE_BITS, key & ((1 << _STATE_BITS) - 1)
            automaton = self.automata[i]
            rows.append(_FREE if automaton is None else automaton.row(state))
            bases.append(0 if automaton is None else int(self.first_base[i]) + rows[-1].base)
            pendings.append(0 if automaton is None else automaton.pending(state))
            separated.append(automaton is not None and state == AFTER_SEPARATOR)
        self.row_base = xp.concat([self.row_base, xp.asarray(bases)])
        self.row_cost = xp.concat([self.row_cost, xp.asarray(self._add_costs(bases, rows))])
        self.row_pending = xp.concat([self.row_pending, xp.asarray(pendings)])
        self.row_separated = xp.concat([self.row_separated, xp.asarray(separated)])
        self._add_runs(self.rows, rows)
        advances = self._padded_advances([row.advances for row in rows])
        self.row_advances = _stack(self.row_advances, advances, [0, self.clauses + 1, 0, 0])
        self.row_void = _stack(self.row_void, xp.asarray(_padded([row.void for row in rows], -1)), -1)
        visited = xp.concat([self.visited, keys])
        order = xp.argsort(visited)
        self.visited = visited[order]
        self.row_of = xp.concat([self.row_of, xp.arange(len(rows)) + self.rows])[order]
        self.rows += len(rows)
        self.kept.trim()

    def _add_runs(self, first: int, rows: Sequence[Row]) -> None:
        """The runs of `rows`, the first of which has the number `first`."""
        keys = [row.start + number * self.size for number, row in enumerate(rows, start=first)]
        self.run_key = self.xp.concat([self.run_key, self._array(keys, np.int64)])
        self.run_state = self.xp.concat([self.run_state, self._array([row.state for row in rows], np.int64)])
        completed = self._array([row.completed for row in rows], np.int64)
        self.run_completed = self.xp.concat([self.run_completed, completed])

    def _add_costs(self, bases: list[int], rows: Sequence[Row]) -> list[int]:
        """Where in `cost` each row's costs are: its base row's, or made here."""
        own = [i for i, row in enumerate(rows) if row.others != SAME or len(row.token)]
        if not own:
            return bases
        xp, count = self.xp, len(own)
        while len(self.cost) < self.costs + count:
            self.cost = xp.concat([self.cost, xp.empty_like(self.cost)])
        others = xp.asarray([rows[i].others for i in own])
        made = self.cost[xp.asarray([bases[i] for i in own])]
        dearer = self.spoiling[others.clip(max=DEARER_IN_PROSE)] & (made < DEAD_END - CLOSING)
        made = xp.where(dearer, made + CLOSING, made)
        self.cost[self.costs : self.costs + count] = xp.where((others == SHUT)[:, None], BANNED, made)
        self._name_costs(self.costs, [rows[i] for i in own])
        numbers = dict(zip(own, range(self.costs, self.costs + count), strict=True))
        self.costs += count
        return [numbers.get(i, base) for i, base in enumerate(bases)]

    def _name_costs(self, first: int, rows: Sequence[Row]) -> None:
        """The costs that `rows` name, in `cost` from the number `first` on."""
        number = np.repeat(np.arange(first, first + len(rows)), [len(row.token) for row in rows])
        token = self._array([row.token for row in rows], np.int64)
        self.cost[self.xp.asarray(number), token] = self._array([row.cost for row in rows], np.int8)

    def _padded_advances(self, parts: Sequence[np.ndarray]) -> Array:
        """(parts, n, 4): padded with entries of no clause; an exit's clause comes after all clauses."""
        padded = np.zeros((len(parts), max(1, *map(len, parts), 0), 4), dtype=np.int64)
        padded[:, :, 1] = self.clauses + 1
        for i, part in enumerate(parts):
            padded[i, : len(part)] = part
            padded[i, : len(part), 1][padded[i, : len(part), 1] == EXIT] = self.clauses
        return self.xp.asarray(padded)

    def _array(self, parts: Sequence, dtype: type) -> Array:
        """The parts, one behind the other."""
        return self.xp.asarray(np.concatenate([np.asarray(part, dtype) for part in parts]))


# what a prompt without constraints may do: any token, which leads nowhere and completes nothing
_NONE = np.zeros(0, np.int64)
_FREE = Row(0, np.array([0]), np.array([0]), np.array([0]), SAME, _NONE, _NONE, np.zeros((0, 4)), _NONE)
_STATE_BITS = 48  # of a state: half of them are the bytes of a character that is begun


def _stack(first: Array, second: Array, filler) -> Array:
    """Two tables (rows, width, ...) as one, the narrower one padded with `filler`."""
    xp, width = arrays_of(first), max(first.shape[1], second.shape[1])

    def padded(table: Array) -> Array:
        more = xp.full((len(table), width - table.shape[1], *table.shape[2:]), 0)
        return xp.concat([table, more + xp.asarray(filler)], axis=1)

    return xp.concat([padded(first), padded(second)])


def _padded(lists: Sequence[np.ndarray], filler: int) -> np.ndarray:
    padded = np.full((len(lists), max(map(len, lists), default=0)), filler)
    for row, part in zip(padded, lists, strict=True):
        row[: len(part)] = part
    return padded


def _too_long(wish: Constraints, done: int, need: int, budget: int, text: str) -> str:
    missing = [phrases[0] for i, phrases in enumerate(wish.clauses) if not done >> i & 1]
    listed = ", ".join(map(repr, missing))
    return f"{listed} after {text!r} takes up to {need} tokens, and the budget is {budget}: require less, or allow more"
