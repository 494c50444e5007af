"""What every beam may do under its prompt's constraints: the automata of a batch as tables on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

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
from neuroprompt.decoding.beams import NEVER, Candidates, best_of_each
from neuroprompt.decoding.constraints import MAX_CLAUSES, ConstraintError, Constraints, check
from neuroprompt.decoding.vocabulary import CACHE_BYTES, Vocabulary

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
        phrase_weight, beta, do_sample: as in `neurologic`.
    """

    eos: Tensor
    pool: int
    phrase_weight: float | None
    beta: int
    do_sample: bool


class Debt(NamedTuple):
    """What the beams have still to write."""

    pending: Tensor  # (batch, beams) bits: the clauses that the end of the text would complete, and `FORBIDDEN`
    price: Tensor  # (batch, beams, clauses) tokens that surely write the clause; 0 where it is met
    total: Tensor  # (batch, beams) of all clauses
    may_end: Tensor  # (batch, beams)


class Moves(NamedTuple):
    """How each beam ends: the open one by the separator with which it begins to close, the closing one by its best
    next token. (batch, beams) each"""

    token: Tensor
    logp: Tensor  # -inf where there is none


class Advances(NamedTuple):
    """Tokens that advance a phrase, or complete it. (batch * beams, advances) each"""

    token: Tensor
    clause: Tensor  # behind all clauses come "what is pending", and padding
    gain: Tensor  # tokens of the debt that the phrase pays
    progress: Tensor  # thousandths of the phrase that are there with the token
    allowed: Tensor  # whether all that is open can surely be written then


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
        device: torch.device,
        preferences: Preferences,
    ):
        self.automata, self.size, self.device, self.preferences = automata, size, device, preferences
        self.automaton = torch.tensor(of_prompt, device=device)  # (batch,)
        self.constrained = torch.tensor([automata[i] is not None for i in of_prompt], device=device)  # (batch,)
        prose = [bool(automata[i] and automata[i].anywhere) for i in of_prompt]
        self.prose = torch.tensor(prose, device=device)  # (batch,) whether phrases may stand anywhere
        weights = [PROSE_WEIGHT if free else PHRASE_WEIGHT for free in prose]
        if preferences.phrase_weight is not None:
            weights = [float(preferences.phrase_weight)] * len(prose)
        self.weight = torch.tensor(weights, device=device)  # (batch,)
        self.kept = vocabulary.automata
        self.separator = vocabulary.token_of.get(DELIMITERS.encode())
        there = [automaton for automaton in automata if automaton is not None]
        self.clauses = max(len(automaton.price) for automaton in there)

        self.rank = torch.as_tensor(vocabulary.rank, device=device)
        self.joins = torch.as_tensor(vocabulary.joins, device=device)
        self.hash_factor = torch.as_tensor(vocabulary.hash_factor, device=device)
        self.hash_term = torch.as_tensor(vocabulary.hash_term, device=device)
        self.bits = torch.arange(self.clauses, device=device)
        price = torch.zeros((len(automata), self.clauses), dtype=torch.long, device=device)
        for i, automaton in enumerate(automata):
            if automaton is not None:
                price[i, : len(automaton.price)] = torch.as_tensor(automaton.price)
        self.price = price[self.automaton][:, None]  # (batch, 1, clauses)
        self.everything = torch.tensor([a.everything if a else 0 for a in automata], device=device)[self.automaton]

        # (automata, states between characters): what the end of the text would complete
        pendings = [torch.zeros(1) if a is None else torch.as_tensor(a.character_pending) for a in automata]
        self.pending_of = torch.nn.utils.rnn.pad_sequence([p.long() for p in pendings], True).to(device)

        # base rows, of which row 0 is for prompts without constraints, where any token is free; then those of visited
        # states; and the runs of all in one sorted array
        bases = [_FREE, *(row for a in there for row in a.bases)]
        self.first_base = np.cumsum([0 if a is None else 3 for a in automata]) - 2
        self.base_advances = self._padded_advances([row.advances for row in bases])
        blank = there[0].blank
        self.after = torch.as_tensor(blank.after, device=device)
        self.spoiling = torch.as_tensor(blank.spoiling, device=device)
        cost_of_kind = torch.as_tensor(np.stack([a.cost_of_kind for a in there]), device=device)
        cost = cost_of_kind[:, torch.as_tensor(blank.kind, device=device).long()].flatten(0, 1)
        self.cost = torch.cat([torch.zeros((1, size), dtype=torch.int8, device=device), cost])
        self.costs = len(self.cost)
        self._name_costs(0, bases)
        self.rows = len(bases)
        self.row_base = self.row_cost = torch.arange(len(bases), device=device)
        self.row_root = torch.tensor([row.base for row in bases], device=device)
        self.row_pending = torch.zeros_like(self.row_base)
        self.row_separated = torch.zeros_like(self.row_base, dtype=torch.bool)
        self.row_advances = self._padded_advances([np.zeros((0, 4))] * len(bases))
        self.row_void = torch.full((len(bases), 0), -1, device=device)
        self.run_key = self.run_state = self.run_completed = self._tensor([], torch.int64)
        self._add_runs(0, bases)
        self.visited = self._tensor([], torch.int64)  # rising: see `_key`; and the row of each
        self.row_of = self._tensor([], torch.int64)

    @classmethod
    def start(
        cls,
        constraints: Sequence[Constraints | None],
        tokenizer: PreTrainedTokenizerBase | None,
        tokens: Sequence[Sequence[int]],
        budgets: Tensor,
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
        self = cls(automata, of_prompt, vocabulary, size, budgets.device, preferences)
        self.satisfied = torch.tensor(satisfied, device=self.device)[:, None].expand(-1, beams)  # (batch, beams)
        self.hash = torch.zeros((len(tokens), beams), dtype=torch.long, device=self.device)
        self.closing = torch.zeros_like(self.hash, dtype=torch.bool)
        # what the prompt's last word meets must not be spoilt by going on with the word
        self.kept_word = torch.tensor(ends_whole, device=self.device)[:, None] if any(ends_whole) else None
        self.row = self._rows_for(torch.tensor(states, device=self.device)[:, None].expand(-1, beams))
        return self

    def candidates(self, log_probs: Tensor, raw: Tensor, score: Tensor, left: Tensor) -> Candidates:
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
        rank, order = rank.sort(dim=1, descending=True, stable=True)
        found = found.in_order(order)
        found.score = found.score.masked_fill(rank == NEVER, NEVER)
        return self._by_turns(found, rank > NEVER)

    def may_end(self, candidates: Candidates) -> Tensor:
        """Whether the text may end after each candidate."""
        pending = self._pending_in(candidates.state)
        satisfied = (candidates.satisfied | pending) & self.everything[:, None] == self.everything[:, None]
        return candidates.is_eos | (satisfied & (pending & FORBIDDEN == 0))

    def advance(self, candidates: Candidates, chosen: Tensor) -> None:
        """Moves the beams to the `chosen` candidates."""
        self.satisfied = candidates.satisfied.gather(1, chosen)
        self.hash = candidates.hash.gather(1, chosen)
        self.closing = candidates.closing.gather(1, chosen)
        self.kept_word = None  # the first token is written
        self.row = self._rows_for(candidates.state.gather(1, chosen).clamp_min(0))

    def select(self, keep: Tensor) -> None:
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
        return Debt(pending, price, price.sum(dim=2), may_end)

    def _advances(self, debt: Debt, left: Tensor) -> Advances:
        """The tokens that advance a phrase, judged by what is left of it: left + price of the other clauses - 1."""
        row = self.row.flatten()
        entries = torch.cat([self.base_advances[self.row_base[row]], self.row_advances[row]], dim=1)
        token, clause, tokens_left, progress = entries.unbind(dim=2)
        pending_price = (debt.price * self._members(debt.pending)).sum(dim=2, keepdim=True)
        price = torch.cat([debt.price, pending_price, torch.zeros_like(pending_price)], dim=2)
        gain = price.flatten(0, 1).gather(1, clause)
        need = tokens_left + debt.total.view(-1, 1) - gain - 1
        allowed = (gain > 0) & (need <= left.repeat_interleave(self.row.shape[1])[:, None])
        allowed &= self.cost[self.row_cost[row][:, None], token] < BANNED
        if self.kept_word is not None:
            allowed &= ~(self.kept_word.repeat_interleave(self.row.shape[1], dim=0) & self.joins[token])
        from_base = self.base_advances.shape[1]
        if self.row_void.shape[1]:
            allowed[:, :from_base] &= (token[:, :from_base, None] != self.row_void[row][:, None]).all(dim=2)
        # what the end of a budget forces stands behind a separator in prose, too
        late = self.prose[:, None] & (self.closing | (left[:, None] + 1 - debt.total < ROOM))
        allowed[:, :from_base] &= ~(late & ~self.row_separated[self.row]).view(-1, 1)
        return Advances(token, clause, gain, progress, allowed)

    def _start_closing(self, debt: Debt, advances: Advances, left: Tensor) -> None:
        """Beams between two modifiers whose budget has no room for another one close; those that cannot go on closing
        (what they began has become forbidden) open again."""
        room = left[:, None] + 1 - debt.total
        full = self.row_separated[self.row] & ~debt.may_end & (debt.total > 0) & (room < ROOM)
        can = advances.allowed.any(dim=1).view_as(self.closing)
        self.closing = (self.closing | full) & torch.where(debt.may_end, len(self.preferences.eos) > 0, can)

    def _closed(self, debt: Debt, left: Tensor) -> Tensor:
        """The tokens from which what is open can no longer surely be written: cost > left + 1 - price of what is open.
        (batch * beams, vocab)"""
        limit = (left[:, None] + 1 - debt.total).clamp(-1, DEAD_END - 1).masked_fill(self.closing, -1)
        limit = torch.where(self.constrained[:, None], limit, DEAD_END).to(torch.int8).view(-1, 1)
        closed = self.cost.index_select(0, self.row_cost[self.row.flatten()]) > limit
        if self.kept_word is not None:
            closed |= self.kept_word.repeat_interleave(self.row.shape[1], dim=0) & self.joins
        closed[:, self.preferences.eos] = (~debt.may_end | self.closing).view(-1, 1)
        return closed

    def _ends(self, log_probs: Tensor, raw: Tensor, debt: Debt, closed: Tensor, advances: Advances) -> Moves:
        """Where the policy ends, what is open is written there and then: a beam may begin to close for the probability
        of the end, and then writes the phrases that the policy finds likeliest, one by one; what sets them apart, and
        the end itself, are paid for. Prose does not end before everything is met, and closes only for want of room."""
        own, beams = self.preferences, self.row.shape
        nothing = torch.full(beams, NEVER, device=self.device)
        if not self.clauses:
            return Moves(torch.zeros_like(self.row), nothing)
        begin, separator, eos = nothing, self.separator, own.eos[0] if len(own.eos) else 0
        if len(own.eos) and separator is not None:
            ready = (debt.total > 0) & ~debt.may_end & ~self.row_separated[self.row] & ~self.prose[:, None]
            ready &= ~closed[:, separator].view(beams)
            begin = torch.where(ready, log_probs[:, own.eos].amax(dim=1).view(beams), NEVER)
        said = raw.gather(1, advances.token).clamp_min(-1e4)
        said = said.masked_fill(advances.clause == self.clauses, 0.0).masked_fill(~advances.allowed, NEVER)
        best = (said + self._bonus(advances)).argmax(dim=1, keepdim=True)
        token = torch.where(debt.may_end, eos, advances.token.gather(1, best).view(beams))
        logp = said.gather(1, best).view(beams).masked_fill(debt.may_end, 0.0)
        return Moves(torch.where(self.closing, token, separator or 0), torch.where(self.closing, logp, begin))

    def _bonus(self, advances: Advances) -> Tensor:
        """What each token adds of its phrase, in nats; what is pending is paid for already."""
        gain = torch.where(advances.clause < self.clauses, advances.gain, 0)
        weight = self.weight.repeat_interleave(self.row.shape[1])[:, None]
        return weight * gain * advances.progress / 1000

    def _admitted(
        self, log_probs: Tensor, raw: Tensor, worth: Tensor, closed: Tensor, advances: Advances
    ) -> tuple[Tensor, Tensor]:
        """What the beams are worth with each token, and with those that advance a phrase: `worth` and the token's
        log-probability, -inf for what may not be. (batch, beams, vocab) and (batch, beams, advances)

        A model or processors that leave a beam nothing of what it may do are overruled."""
        allowed = advances.allowed & ~self.closing.view(-1, 1)
        before = worth.view(-1, 1)
        whole = (log_probs + before).masked_fill_(closed, NEVER)
        part = (log_probs.gather(1, advances.token) + before).masked_fill_(~allowed, NEVER)
        stuck = (whole.amax(dim=1) == NEVER) & (part.amax(dim=1) == NEVER) & ~self.closing.flatten()
        if bool((stuck & (worth.flatten() > NEVER)).any()):
            finite = raw.clamp_min(-1e4) + before
            own = finite.gather(1, advances.token).masked_fill(~allowed, NEVER)
            whole = torch.where(stuck[:, None], finite.masked_fill(closed, NEVER), whole)
            part = torch.where(stuck[:, None], own, part)
        return whole.view(*worth.shape, -1), part.view(*worth.shape, -1)

    def _best(
        self, whole: Tensor, part: Tensor, ends: Moves, score: Tensor, worth: Tensor, advances: Advances
    ) -> tuple[Candidates, Tensor]:
        """The most likely tokens of each beam, behind them the prompt's best that advance a phrase, and each beam's way
        to end; and the ranks of all, in nats."""
        (batch, beams, width), own = part.shape, self.preferences
        likely = best_of_each(whole, own.pool, own.do_sample)
        bonus = self._bonus(advances).view(batch, -1)
        part = part.flatten(1)
        best = (part + bonus).topk(min(max(2 * beams, 16), part.shape[1]), dim=1).indices

        every_beam = torch.arange(beams, device=self.device).expand(batch, -1)
        parent = torch.cat([likely.parent, best // width, every_beam], dim=1)
        token = torch.cat([likely.token, advances.token.view(batch, -1).gather(1, best), ends.token], dim=1)
        logp = torch.cat([likely.score, part.gather(1, best), ends.logp + worth], dim=1)
        logp = logp + (score - worth).nan_to_num(0.0).gather(1, parent)
        found = self._after(parent, token, logp)
        found.closing[:, -beams:] = True

        no_clause = torch.full_like(likely.token, self.clauses)
        under_way = torch.cat([no_clause, advances.clause.view(batch, -1).gather(1, best), no_clause[:, :beams]], dim=1)
        bonus = torch.cat([torch.zeros_like(likely.score), bonus.gather(1, best), torch.zeros_like(score)], dim=1)
        is_there = (found.met >> under_way.clamp(max=62)) & 1 == 1
        bonus = bonus.masked_fill(is_there, 0.0)
        rank = logp + self._credit(found.met) + bonus
        # the beginning of a rare word is no match for words that come by themselves: in prose it has its own group
        begun = self.prose[:, None] & (under_way < self.clauses) & ~is_there
        found.group = torch.where(begun, ~(found.met * MAX_CLAUSES + under_way), found.met)
        rank[:, -beams:] += torch.where(self.closing, FIRST, 0.0)
        # prompts without constraints see exactly what `transformers` would show them
        rank[:, own.pool :] = rank[:, own.pool :].masked_fill(~self.constrained[:, None], NEVER)
        return found, rank

    def _after(self, parent: Tensor, token: Tensor, logp: Tensor) -> Candidates:
        """Where each token leads."""
        everything, is_eos = self.everything[:, None], torch.isin(token, self.preferences.eos)
        state, completed = self._follow(self.row.gather(1, parent), token)
        state = torch.where(is_eos, -1, state)
        satisfied = self.satisfied.gather(1, parent) | completed
        satisfied = torch.where(is_eos, everything, satisfied) & everything
        met = satisfied | (self._pending_in(state) & everything)
        hashes = self.hash.gather(1, parent)
        hashes = torch.where(is_eos, hashes, hashes * self.hash_factor[token] + self.hash_term[token])
        return Candidates(parent, token, logp, is_eos, state, satisfied, met, met, hashes, torch.zeros_like(is_eos))

    def _by_turns(self, found: Candidates, valid: Tensor) -> Candidates:
        """Those that go on closing keep their place. Behind them the best candidate of each group (those that have met
        the same clauses, and in prose are on their way through the same phrase), then the second best, and so on; what
        has met too few clauses, or reads like one before it, counts no more."""
        kept = found.closing & self.closing.gather(1, found.parent)
        count = self._members(found.met).sum(dim=2)
        most = count.masked_fill(~valid | kept, -1).amax(dim=1, keepdim=True)
        valid &= kept | (count >= most - self.preferences.beta)
        places = found.token.shape[1]
        earlier = torch.ones((places, places), dtype=torch.bool, device=self.device).tril(-1) & valid[:, None]
        # of texts that read alike (case and whitespace aside) the beams need the best only
        alike = found.hash[:, :, None] == found.hash[:, None]
        for kind in (found.is_eos, found.closing):
            alike &= kind[:, :, None] == kind[:, None]
        valid &= ~((alike & earlier).any(dim=2) & self.constrained[:, None])
        earlier = earlier & (valid & ~kept)[:, None]
        place = ((found.group[:, :, None] == found.group[:, None]) & earlier).sum(dim=2)  # 0 for the best of its group
        place = place.masked_fill(kept, -1).masked_fill(~valid, places)
        order = place.sort(dim=1, stable=True).indices
        found.score = found.score.masked_fill(~valid, NEVER)
        return found.in_order(order)

    def _members(self, clauses: Tensor) -> Tensor:
        """Sets of clauses, (batch, n) bits, as zeros and ones. (batch, n, clauses)"""
        return (clauses[:, :, None] >> self.bits) & 1

    def _credit(self, clauses: Tensor) -> Tensor:
        """What the clauses of each set are worth, in nats. (batch, n) to (batch, n)"""
        return self.weight[:, None] * (self.price * self._members(clauses)).sum(dim=2)

    def _pending_in(self, states: Tensor) -> Tensor:
        """What the end of the text would complete in each of (batch, n) states, as bits."""
        states = states.clamp_min(0)
        return torch.where(states > WHOLE, FORBIDDEN, self.pending_of[self.automaton[:, None], states & WHOLE])

    # -- the tables

    def _follow(self, row: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """The state after each token, and what it completes: as the row says, or its base row, or where there are no
        phrases."""
        base, rank = self.row_base[row], self.rank[token]
        own, of_base = (
            torch.searchsorted(self.run_key, number * self.size + rank, right=True) - 1 for number in (row, base)
        )
        state = self.run_state[of_base]
        state = torch.where(state >= 0, state, self.after[self.row_root[base], token])
        state = torch.where(self.run_state[own] >= 0, self.run_state[own], state)
        return state, self.run_completed[own] | self.run_completed[of_base]

    def _key(self, states: Tensor) -> Tensor:
        """(batch, beams) states with their automata's numbers, as one number each."""
        return self.automaton[:, None] << _STATE_BITS | states

    def _rows_for(self, states: Tensor) -> Tensor:
        """The rows of (batch, beams) states, made where they are not there."""
        keys = self._key(states)
        if len(self.visited):
            at = torch.searchsorted(self.visited, keys).clamp_max(len(self.visited) - 1)
            missing = keys[self.visited[at] != keys]
            if not len(missing):
                return self.row_of[at]
        else:
            missing = keys
        self._make_rows(torch.unique(missing))
        return self.row_of[torch.searchsorted(self.visited, keys)]

    def _make_rows(self, keys: Tensor) -> None:
        bases, pendings, separated, rows = [], [], [], []
        for key in keys.tolist():
            i, state = key >> _STATE_BITS, key & ((1 << _STATE_BITS) - 1)
            automaton = self.automata[i]
            rows.append(_FREE if automaton is None else automaton.row(state))
            bases.append(0 if automaton is None else int(self.first_base[i]) + rows[-1].base)
            pendings.append(0 if automaton is None else automaton.pending(state))
            separated.append(automaton is not None and state == AFTER_SEPARATOR)
        numbers = torch.arange(self.rows, self.rows + len(rows), device=self.device)
        base = torch.tensor(bases, device=self.device)
        self.row_base = torch.cat([self.row_base, base])
        self.row_cost = torch.cat([self.row_cost, self._add_costs(base, rows)])
        self.row_pending = torch.cat([self.row_pending, torch.tensor(pendings, device=self.device)])
        self.row_separated = torch.cat([self.row_separated, torch.tensor(separated, device=self.device)])
        self._add_runs(self.rows, rows)
        nothing = torch.tensor([0, self.clauses + 1, 0, 0], device=self.device)
        self.row_advances = _stack(self.row_advances, self._padded_advances([row.advances for row in rows]), nothing)
        voids = _padded([row.void for row in rows], -1, self.device)
        self.row_void = _stack(self.row_void, voids, torch.tensor(-1, device=self.device))
        self.visited, order = torch.cat([self.visited, keys]).sort()
        self.row_of = torch.cat([self.row_of, numbers])[order]
        self.rows += len(rows)
        self.kept.trim()

    def _add_runs(self, first: int, rows: Sequence[Row]) -> None:
        """The runs of `rows`, the first of which has the number `first`."""
        keys = [row.start + number * self.size for number, row in enumerate(rows, start=first)]
        self.run_key = torch.cat([self.run_key, self._tensor(keys, torch.int64)])
        self.run_state = torch.cat([self.run_state, self._tensor([row.state for row in rows], torch.int64)])
        completed = self._tensor([row.completed for row in rows], torch.int64)
        self.run_completed = torch.cat([self.run_completed, completed])

    def _add_costs(self, base: Tensor, rows: Sequence[Row]) -> Tensor:
        """Where in `cost` each row's costs are: its base row's, or made here."""
        own = [i for i, row in enumerate(rows) if row.others != SAME or len(row.token)]
        if not own:
            return base
        while len(self.cost) < self.costs + len(own):
            self.cost = torch.cat([self.cost, torch.empty_like(self.cost)])
        others = torch.tensor([rows[i].others for i in own], device=self.device)
        made = self.cost[base[own]]
        dearer = self.spoiling[others.clamp_max(DEARER_IN_PROSE)] & (made < DEAD_END - CLOSING)
        made = torch.where(dearer, made + CLOSING, made).masked_fill((others == SHUT)[:, None], BANNED)
        numbers = torch.arange(self.costs, self.costs + len(own), device=self.device)
        self.cost[numbers] = made
        self._name_costs(self.costs, [rows[i] for i in own])
        self.costs += len(own)
        return base.index_put((torch.tensor(own, device=self.device),), numbers)

    def _name_costs(self, first: int, rows: Sequence[Row]) -> None:
        """The costs that `rows` name, in `cost` from the number `first` on."""
        number = np.repeat(np.arange(first, first + len(rows)), [len(row.token) for row in rows])
        at = (torch.as_tensor(number, device=self.device), self._tensor([row.token for row in rows], torch.int64))
        self.cost[at] = self._tensor([row.cost for row in rows], torch.int8)

    def _padded_advances(self, parts: Sequence[np.ndarray]) -> Tensor:
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


# what a prompt without constraints may do: any token, which leads nowhere and completes nothing
_NONE = np.zeros(0, np.int64)
_FREE = Row(0, np.array([0]), np.array([0]), np.array([0]), SAME, _NONE, _NONE, np.zeros((0, 4)), _NONE)
_STATE_BITS = 48  # of a state: half of them are the bytes of a character that is begun


def _stack(first: Tensor, second: Tensor, filler: Tensor) -> Tensor:
    """Two tables (rows, width, ...) as one, the narrower one padded with `filler`."""
    width = max(first.shape[1], second.shape[1])

    def padded(table: Tensor) -> Tensor:
        return torch.cat([table, filler.expand(len(table), width - table.shape[1], *filler.shape)], dim=1)

    return torch.cat([padded(first), padded(second)])


def _padded(lists: Sequence[Sequence[int]], filler: int, device) -> Tensor:
    width = max(map(len, lists), default=0)
    return torch.tensor([[*map(int, part), *[filler] * (width - len(part))] for part in lists], device=device).long()


def _too_long(wish: Constraints, done: int, need: int, budget: int, text: str) -> str:
    missing = [phrases[0] for i, phrases in enumerate(wish.clauses) if not done >> i & 1]
    listed = ", ".join(map(repr, missing))
    return f"{listed} after {text!r} takes up to {need} tokens, and the budget is {budget}: require less, or allow more"
