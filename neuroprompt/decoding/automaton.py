"""All phrases of a constraint set as one automaton over characters, lifted to a tokenizer's vocabulary.

The text that a constraint is about is folded (see `constraints.py`); the decoder moves in tokens (`vocabulary.py`). An
`Automaton` stands between the two: an Aho–Corasick automaton over folded characters, and for each of its states what
every token would do there. (Lifting a character automaton to tokens through a trie is the idea of Outlines' index,
Willard and Louf 2023, arXiv 2307.09702.)

**The character automaton.** Its states are the prefixes of all phrases, and three roots for "no phrase begun":
`AFTER_WORD` (the last character is a word character, so a phrase beginning with one cannot begin), `AFTER_NONWORD`,
and `AFTER_SEPARATOR` (where a modifier begins). There are two tries: forbidden phrases, and those that begin with a
connective, may begin at any word boundary and hang below `AFTER_NONWORD`; other required phrases begin modifiers and
hang below `AFTER_SEPARATOR`. After any text the state is the longest suffix of the folded text that is a prefix of a
phrase where it may begin. A phrase that has been read is *pending* in the state (`pending[state]`, clauses as bits):
a required one is completed by the separator or the end that makes it a whole modifier, a forbidden one, which is one
more bit, by leaving the state over any character that makes a boundary, or on arrival where it ends in a nonword
character and needs none. A space in a state whose prefix ends in a space stays there: whitespace is normalised.
With `anywhere`, for prose, required phrases hang below `AFTER_NONWORD` too, and any boundary completes them.

**The lift.** Let q be a state with root r(q), at the end of its chain of failure links. Reading a token from q ends
where reading it from r(q) ends, unless a phrase that began before the token is still under way at its end; and it
completes what it completes from r(q), and besides only phrases that began before it. So the row of any state is a
*base row*, that of r(q), with few exceptions, which one walk down phrase trie and vocabulary trie together finds. The
three base rows themselves are exceptions to what tokens do without any phrase (`_Blank`, once a vocabulary): those in
which a phrase begins, found in NumPy below all nodes of the trie at once where one may. With the tokens sorted as in
the trie, the exceptions are runs of neighbours. Nothing that an automaton holds is as wide as the vocabulary; rows are
made when a state is first visited.

**Pieces of characters.** A token may end inside a UTF-8 character. The state is then q with the bytes begun (`inside`),
and its row has the tokens that go on with valid UTF-8; any other would make U+FFFD.

**The way out.** For every state, `escape` is the number of tokens that surely lead to `AFTER_SEPARATOR` without
anything forbidden, and for every clause `price` is the number of tokens that write its cheapest phrase from there,
and one separator. Along each such path of tokens (`on_path`) the number that is left is known for every state. Hence
the number of tokens that surely meet all open clauses O from state q is

    need(q, O) = min( escape[q] + price(O),  min over paths of i in O through q:  left_i(q) + price(O without i) ) - 1

(the last separator is not needed). From a state with need n > 0 some token always leads to one with at most n - 1. So a
search that only ever moves to states with need at most the number of tokens that remain can neither run into a dead end
nor run out of budget. This is what makes the decoder exact.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neuroprompt.decoding.constraints import (
    CONNECTIVES,
    MARK,
    MAX_CLAUSES,
    NONWORD,
    WORD,
    ConstraintError,
    char_class,
    fold,
    fold_phrase,
)
from neuroprompt.decoding.vocabulary import Vocabulary, spans

AFTER_WORD, AFTER_NONWORD, AFTER_SEPARATOR = 0, 1, 2  # the roots
FORBIDDEN = 1 << MAX_CLAUSES  # the bit beside the clauses' own
BANNED, DEAD_END = 127, 126  # costs of tokens; anything less is a number of tokens
EXIT = MAX_CLAUSES  # stands for "what is pending" where a clause is named
DELIMITERS = ","  # that the decoder writes between modifiers
CLOSING = 3  # this many tokens before a clause must be written, no new word is begun that might have to be cut
# what a token costs that a row does not name: as in the base row; `CLOSING` more where it would spoil a phrase that is
# there (a modifier of its own, or one that may stand anywhere); it is banned
SAME, DEARER, DEARER_IN_PROSE, SHUT = range(4)
WHOLE = (1 << 24) - 1  # of a state, the bits of its state between characters; above them are the bytes begun
ROW_OBJECTS, AUTOMATON_OBJECTS, PHRASE_OBJECTS = 1000, 4000, 400  # bytes, about, beside the arrays' numbers


class Row(NamedTuple):
    """What every token does in one state: what it does in base row `base`, but from rank `start[j]` (up to the next
    start) on, it leads to `state[j]` (where that is not -1) and completes `completed[j]` besides. A base row is one,
    too, over what tokens do without phrases."""

    base: int
    start: np.ndarray  # (runs,) int64, rising, the first 0
    state: np.ndarray  # (runs,) int64
    completed: np.ndarray  # (runs,) int64 bits
    others: int  # what all tokens but these cost: `SAME`, `DEARER`, `DEARER_IN_PROSE` or `SHUT`
    token: np.ndarray  # (tokens,) int32, rising
    cost: np.ndarray  # (tokens,) int8
    advances: np.ndarray  # (advances, 4): see `Automaton`; clause `EXIT` for a token that completes what is pending
    void: np.ndarray  # tokens among the base row's advances that lead elsewhere here

    @property
    def nbytes(self) -> int:
        """About what it holds in memory."""
        return ROW_OBJECTS + sum(part.nbytes for part in self if isinstance(part, np.ndarray))


class Automaton:
    """The phrases of one constraint set over one vocabulary.

    States 0 to 2 are the roots; then come the phrases' prefixes. A state inside a character is the state before it and,
    above the bits of `WHOLE`, the bytes begun.

    Attributes:
        nbytes: about what it holds in memory.
        blank: what tokens do without phrases, which all automata over the vocabulary share.
        bases: the rows of the three roots. Their `advances` are the tokens that begin a required phrase: token, clause,
            tokens left to write and separate the phrase, and thousandths of the phrase written.
        cost_of_kind: (kinds,) int8 what tokens of each kind of `blank` cost: tokens from there to a separator, or
            `BANNED`.
        price: (clauses,) tokens that write each clause's cheapest phrase after a separator, and one separator.
        anywhere: whether required phrases may stand anywhere between word boundaries.

    Raises:
        ConstraintError: a clause cannot be written by this tokenizer without a forbidden phrase.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        clauses: Sequence[Sequence[str]],
        forbidden: Sequence[str],
        anywhere: bool = False,
    ):
        if len(clauses) > MAX_CLAUSES:
            raise ConstraintError(f"{len(clauses)} clauses are more than the {MAX_CLAUSES} that one prompt can have")
        self.vocabulary, self.clauses, self.forbidden, self.anywhere = vocabulary, clauses, forbidden, anywhere
        self.blank = _Blank.of(vocabulary)
        self.everything = (1 << len(clauses)) - 1  # the bits of all clauses
        self._bounded = FORBIDDEN | (self.everything if anywhere else 0)  # what any boundary completes
        self._build_characters(clauses, forbidden)
        self._build_escapes()
        self._build_paths(clauses)
        self._build_bases()
        self._rows: dict[int, Row] = {}
        arrays = (value for value in vars(self).values() if isinstance(value, np.ndarray))
        phrases = len(forbidden) + sum(map(len, clauses))
        self.nbytes = AUTOMATON_OBJECTS + PHRASE_OBJECTS * phrases + sum(array.nbytes for array in arrays)
        self.nbytes += sum(row.nbytes for row in self.bases)

    @staticmethod
    def of(
        vocabulary: Vocabulary, clauses: Sequence[Sequence[str]], forbidden: Sequence[str], anywhere: bool = False
    ) -> Automaton:
        """The automaton of these phrases over this vocabulary, kept in `vocabulary.automata`."""
        key = (tuple(map(tuple, clauses)), tuple(forbidden), anywhere)
        return vocabulary.automata.get(key) or vocabulary.automata.keep(key, Automaton(vocabulary, *key))

    def __len__(self) -> int:
        """The number of states, those inside a character left out."""
        return len(self.depth)

    def read(self, text: str, state: int = AFTER_SEPARATOR) -> tuple[int, int]:
        """The state after `text`, and the clauses (and `FORBIDDEN`) completed on the way."""
        completed = 0
        for char in fold(text):
            state, done = self._step(state, char)
            completed |= done
        return state, completed

    def pending(self, state: int) -> int:
        """The clauses that the end of the text would complete in `state`; with `FORBIDDEN` it may not end there."""
        return FORBIDDEN if state > WHOLE else int(self.character_pending[state])

    def need(self, state: int, open_clauses: int) -> int:
        """The number of tokens that surely meet the clauses in the bits `open_clauses` from `state`."""
        pending = self.pending(state)
        if not pending & FORBIDDEN and not open_clauses & ~pending:
            return 0
        escape = int(self.escape[state]) if state <= WHOLE else self._cost_inside(*outside(state))
        needs = [escape + self._price(open_clauses)]
        if state <= WHOLE and self._exit_cost[state] < DEAD_END:
            needs.append(int(self._exit_cost[state]) + self._price(open_clauses & ~pending))
        needs += [
            left + self._price(open_clauses & ~(1 << clause))
            for clause, left, _ in self._paths[self._path_start(state) : self._path_start(state + 1)].tolist()
            if open_clauses >> clause & 1
        ]
        return max(min(needs) - 1, 0)

    def may_be_delimited(self, state: int, open_clauses: int, tokens: int) -> bool:
        """Whether a separator may come next, and the clauses of the bits `open_clauses` be met with so many tokens."""
        following, completed = self._step(state, DELIMITERS)
        return not completed & FORBIDDEN and int(self._landing[following]) + self._price(open_clauses) <= tokens

    def row(self, state: int) -> Row:
        """What every token does in `state`."""
        if state not in self._rows:
            row = self._row(state) if state <= WHOLE else self._row_inside(*outside(state))
            self._rows[state] = row
            self.nbytes += row.nbytes
        return self._rows[state]

    # -- the character automaton

    def _build_characters(self, clauses: Sequence[Sequence[str]], forbidden: Sequence[str]) -> None:
        goto: list[dict[str, int]] = [{}, {}, {}]  # what may stand anywhere hangs below AFTER_NONWORD
        chars, parent, own = [" ", " ", ","], [-1] * 3, [0] * 3
        bits = [(fold_phrase(phrase), 1 << clause) for clause, phrases in enumerate(clauses) for phrase in phrases]
        loose = "" if self.anywhere else CONNECTIVES
        patterns = [(AFTER_NONWORD if p.startswith(loose) else AFTER_SEPARATOR, p, bit) for p, bit in bits]
        patterns += [(AFTER_NONWORD, fold_phrase(phrase), FORBIDDEN) for phrase in forbidden]
        free_of = [False] * 3  # whether a state's prefix may begin anywhere
        for node, phrase, bit in patterns:
            below_nonword = node == AFTER_NONWORD
            for char in phrase:
                if (child := goto[node].get(char)) is None:
                    child = goto[node][char] = len(chars)
                    goto.append({})
                    chars.append(char)
                    parent.append(node)
                    own.append(0)
                    free_of.append(below_nonword)
                node = child
            own[node] |= bit
        states = len(chars)
        # symbols: every character of a phrase, space, separators, and one for all others of each class
        self._symbol = {char: i + 3 for i, char in enumerate(sorted({*chars, *DELIMITERS, " "}))}
        symbol_class = np.array([NONWORD, WORD, MARK, *map(char_class, self._symbol)])
        columns = np.array([self._symbol[char] for char in chars])
        space, separators = self._symbol[" "], [self._symbol[char] for char in DELIMITERS]
        delta = np.zeros((states, len(symbol_class)), dtype=np.int32)
        delta[:3, symbol_class == NONWORD] = AFTER_NONWORD
        delta[:3, symbol_class == WORD] = AFTER_WORD
        delta[:3, symbol_class == MARK] = np.array([AFTER_WORD, AFTER_NONWORD, AFTER_NONWORD])[:, None]
        delta[:3, separators] = AFTER_SEPARATOR
        delta[AFTER_SEPARATOR, space] = AFTER_SEPARATOR
        depth = np.zeros(states, dtype=np.int32)
        fail, root = np.zeros(states, dtype=np.int64), np.arange(states)
        ends_word = np.zeros(states, dtype=bool)
        ends_word[AFTER_WORD] = True
        pending = np.array(own, dtype=np.int64)
        parent = np.array(parent, dtype=np.int64)

        def below(nodes: Sequence[int]) -> np.ndarray:
            return np.array([child for node in nodes for child in goto[node].values()], dtype=np.int64)

        def grow(level: np.ndarray) -> np.ndarray:
            """Completes the nodes of one depth, whose failure links are complete, and enters their children."""
            depth[level] = depth[parent[level]] + 1
            kind = symbol_class[columns[level]]
            ends_word[level] = np.where(kind == MARK, ends_word[parent[level]], kind == WORD)
            pending[level] |= pending[fail[level]]
            root[level] = root[fail[level]]
            delta[level] = delta[fail[level]]
            after_space = level[columns[level] == space]
            delta[after_space, space] = after_space
            children = below(level)
            fail[children] = delta[fail[parent[children]], columns[children]]
            delta[parent[children], columns[children]] = children
            return children

        free, leading = below([AFTER_NONWORD]), below([AFTER_SEPARATOR])
        first = columns[free]
        fail[free] = delta[AFTER_SEPARATOR, first]  # before the children are entered: a root
        delta[AFTER_SEPARATOR, first] = delta[AFTER_NONWORD, first] = free
        beyond_words = symbol_class[first] != WORD
        delta[AFTER_WORD, first[beyond_words]] = free[beyond_words]
        fail[leading] = delta[AFTER_NONWORD, columns[leading]]
        delta[AFTER_SEPARATOR, columns[leading]] = leading
        while len(free) or len(leading):
            free = grow(free)  # first: what leads a modifier may fail to the same text anywhere
            leading = grow(leading)
        # a forbidden phrase that ends in a nonword character is complete on arrival
        self._arrival = np.where(ends_word, 0, pending & FORBIDDEN)
        self.character_pending = np.where(ends_word, pending, pending & ~FORBIDDEN)
        self.depth, self._delta, self._chars = depth, delta, list(self._symbol)
        self._symbol_class, self._ends_word = symbol_class, ends_word
        self._root, self._free = root, np.array(free_of)
        # whether a character of each class is a boundary for a phrase that may stand anywhere: [ends_word, class]
        self._boundary = np.array([[True, True, False], [True, False, False]])
        self._delimits = np.zeros(len(symbol_class), dtype=bool)
        self._delimits[separators] = True

    def _symbol_of(self, char: str) -> int:
        return self._symbol.get(char) or char_class(char)

    def _completed(self, states: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """What is completed by reading each symbol in each state; both are broadcast."""
        pending = self.character_pending[states]
        boundary = self._boundary[self._ends_word[states].astype(np.int8), self._symbol_class[symbols]]
        delimited = np.where(self._delimits[symbols], pending & self.everything, 0)
        bounded = np.where(boundary, pending & self._bounded, 0)
        return delimited | bounded | self._arrival[self._delta[states, symbols]]

    def _step(self, state: int, char: str) -> tuple[int, int]:
        """As `_completed`, for one character, in plain numbers."""
        symbol = self._symbol_of(char)
        following, pending = int(self._delta[state, symbol]), int(self.character_pending[state])
        completed = int(self._arrival[following])
        if pending and self._delimits[symbol]:
            completed |= pending & self.everything
        if pending & self._bounded and self._boundary[int(self._ends_word[state]), self._symbol_class[symbol]]:
            completed |= pending & self._bounded
        return following, completed

    # -- the way out

    def _build_escapes(self) -> None:
        """`escape`: tokens to a separator over single characters other than spaces, which any state may read."""
        tokens: dict[int, int] = {}  # symbol -> a token of just one such character
        for char, token in self.blank.single.items():
            tokens.setdefault(self._symbol_of(char), token)
        states, symbols = np.arange(len(self.depth))[:, None], np.arange(len(self._symbol_class))
        forbidden = self._completed(states, symbols) & FORBIDDEN != 0  # (states, symbols)
        written = np.zeros(len(self._symbol_class), dtype=bool)
        written[list(tokens)] = True
        words = written.copy()
        words[self._symbol[" "]] = False
        steps = np.flatnonzero(words)
        # Only the way to a required phrase may pause on a forbidden one, to go on within its last word: models pushed
        # away from "artstation" would otherwise write "artstationd".
        pausing = self.character_pending & FORBIDDEN != 0
        following, closed = self._delta[:, steps], (forbidden | pausing[self._delta])[:, steps]
        escape = np.full(len(self.depth), DEAD_END, dtype=np.int8)
        escape[AFTER_SEPARATOR] = 0
        while len(steps):
            shorter = np.minimum(escape, np.where(closed, DEAD_END, escape[following] + 1).min(axis=1)).astype(np.int8)
            if (shorter == escape).all():
                break
            escape = shorter
        self.escape = escape
        # tokens to a separator from where each symbol leads
        self._landing = np.where(pausing, DEAD_END, escape).astype(np.int8)
        cost_after = np.where(forbidden, DEAD_END, self._landing[self._delta])
        self._cost_after = cost_after.astype(np.int8)  # (states, symbols)
        # the same for what is pending, which a separator completes
        leaving = np.where(self._delimits & written, self._cost_after + 1, DEAD_END)
        self._exit_cost = np.minimum(leaving.min(axis=1), DEAD_END)
        by_symbol = np.array([tokens.get(symbol, -1) for symbol in range(len(self._symbol_class))])
        self._exit = by_symbol[leaving.argmin(axis=1)]
        # for tokens that end inside a character, the symbols of the characters that `blank.missing` tokens make of it
        ending = np.array([self._symbol_of(char) for char in self.blank.endings], dtype=np.int16)
        self._tail_symbol = ending[self.blank.ending]  # (tails, ways)

    def _cost(self, states: np.ndarray, tails: np.ndarray) -> np.ndarray:
        """What tokens cost that lead to these states, and there begin these of `vocabulary.tails` (or none: -1)."""
        cost = self._landing[states]
        if len(begun := np.flatnonzero(tails >= 0)):
            tail = tails[begun]
            # At least one more than is missing, even where the character leads to `AFTER_SEPARATOR` (a space after
            # ","): the last token of a way out may be saved only if the text could end without it.
            ways = np.maximum(1, self._cost_after[states[begun, None], self._tail_symbol[tail]])
            cost[begun] = np.minimum((ways + self.blank.missing[tail]).min(axis=1, initial=DEAD_END), DEAD_END)
        return cost

    def _cost_inside(self, state: int, begun: bytes) -> int:
        """As `_cost`, of one state, with any bytes begun."""
        ways = (
            missing + max(1, int(self._cost_after[state, self._symbol_of(char)]))
            for missing, char in self.vocabulary.endings(begun)
        )
        return min(min(ways, default=DEAD_END), DEAD_END)

    def _price(self, open_clauses: int) -> int:
        return sum(int(price) for clause, price in enumerate(self.price) if open_clauses >> clause & 1)

    def _build_paths(self, clauses: Sequence[Sequence[str]]) -> None:
        """For each required phrase, the fewest tokens that write it, from every byte of it on."""
        paths: list[tuple[int, int, int, int]] = []  # state there, clause, tokens left, thousandths that are there
        token_of, longest = self.vocabulary.token_of, self.vocabulary.longest
        self.price = np.full(len(clauses), DEAD_END, dtype=np.int64)
        for clause, phrases in enumerate(clauses):
            best: dict[int, tuple[int, int, int, int]] = {}
            for phrase in phrases:
                written = self.vocabulary.written(phrase)
                states = self._trace(written if fold_phrase(written) == fold_phrase(phrase) else phrase)
                if states is None:
                    continue
                text, where = states  # bytes, and the state after each of them
                leave = int(self._exit_cost[where[-1]])
                left = [DEAD_END] * len(text) + [leave]
                for start in range(len(text) - 1, -1, -1):
                    for stop in range(start + 1, min(start + longest, len(text)) + 1):
                        if left[stop] + 1 < left[start] and text[start:stop] in token_of:
                            left[start] = left[stop] + 1
                spaced = 1 + min(
                    (left[n] for n in range(len(text) + 1) if b" " + text[:n] in token_of), default=DEAD_END
                )
                # the price has room for the space before the phrase, whether or not it is a token of its own
                self.price[clause] = min(self.price[clause], max(spaced, left[0]))
                for position, state in enumerate(where[1:], start=1):
                    if state not in best or left[position] < best[state][2]:
                        best[state] = (state, clause, left[position], round(1000 * (position / len(text))))
            if self.price[clause] >= DEAD_END:
                shown = " | ".join(repr(phrase) for phrase in phrases[:3]) + (" | …" if len(phrases) > 3 else "")
                raise ConstraintError(f"no way to write {shown} that leaves out every forbidden phrase")
            paths += best.values()
        paths.sort(key=lambda path: path[:2])
        self._path_state, self._paths = np.split(np.array(paths, dtype=np.int64).reshape(-1, 4), [1], axis=1)
        self._path_state = self._path_state.ravel()

    def _path_start(self, state: int) -> int:
        return int(np.searchsorted(self._path_state, state))

    def _trace(self, phrase: str) -> tuple[bytes, list[int]] | None:
        text, state = phrase.encode(), AFTER_SEPARATOR
        where = [state]
        for char in phrase:
            piece = char.encode()
            where += [inside(state, piece[:n]) for n in range(1, len(piece))]
            for folded in fold(char):
                state, completed = self._step(state, folded)
                if completed & FORBIDDEN:
                    return None
            where.append(state)
        return text, where

    # -- the lift

    def _build_bases(self) -> None:
        vocabulary = self.vocabulary
        # what tokens cost that begin or go on with no phrase
        state, tail = np.divmod(np.arange(3 * (len(vocabulary.tails) + 1)), len(vocabulary.tails) + 1)
        cost = np.repeat(self._cost(state, tail - 1), 2)
        dearer = np.tile([False, True], len(state)) & np.repeat((state != AFTER_SEPARATOR) | (tail > 0), 2)
        cost[dearer & (cost < DEAD_END - CLOSING)] += CLOSING
        self.cost_of_kind = np.append(cost, BANNED).astype(np.int8)
        roots, nodes, states, events = self._begun()
        self.bases: list[Row] = []
        for root in range(3):
            own, on = roots == root, events[:, 0] == root
            ranks = spans(vocabulary.low[nodes[own]], vocabulary.owned[nodes[own]])
            there = np.repeat(states[own], vocabulary.owned[nodes[own]])
            low, high = vocabulary.low[events[on, 1]], vocabulary.high[events[on, 1]]
            self.bases.append(self._base(root, ranks, there, np.stack([low, high, events[on, 2]], axis=1)))

    def _begun(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """From each root, the nodes of the vocabulary's trie where a phrase is under way: (n,) root, node, and state;
        and (events, 3): root, and below which node what is completed."""
        vocabulary = self.vocabulary
        firsts = np.flatnonzero((self._delta[:3] > AFTER_SEPARATOR).any(axis=0)).tolist()
        over = [vocabulary.nodes_over(self._chars[symbol - 3]) for symbol in firsts]
        symbol = np.repeat(np.array(firsts, dtype=np.int64), list(map(len, over)))
        node = np.concatenate([np.zeros(0, np.int64), *over])
        state = self._delta[self.blank.state[:, vocabulary.parent[node]], symbol]
        root, at = np.nonzero(state > AFTER_SEPARATOR)  # where one begins; all are followed at once
        node, state = node[at], state[root, at]
        bits = self._arrival[state]
        symbols = np.array([self._symbol_of(char) for char in vocabulary.alphabet])
        found = []
        while len(node):
            found.append(np.stack([root, node, state, bits]))
            root, node, state = (part[state > AFTER_SEPARATOR] for part in (root, node, state))
            child, of = vocabulary.children(node)
            before, symbol, root, node = state[of], symbols[vocabulary.char_index[child]], root[of], child
            state, bits = self._delta[before, symbol], self._completed(before, symbol)
            matters = (state > AFTER_SEPARATOR) | (bits != 0)
            root, node, state, bits = root[matters], node[matters], state[matters], bits[matters]
        root, node, state, bits = np.concatenate([np.zeros((4, 0), np.int64), *found], axis=1)
        events = np.stack([root, node, bits], axis=1)[bits != 0]
        # of the phrases that are under way at a node, the state is that of the first to begin
        order = np.lexsort((self.depth[state], node, root))
        root, node, state = root[order], node[order], state[order]
        last = np.append((root[1:] != root[:-1]) | (node[1:] != node[:-1]), True)[: len(root)]
        last &= state > AFTER_SEPARATOR
        return root[last], node[last], state[last], events

    def _base(self, root: int, ranks: np.ndarray, states: np.ndarray, events: np.ndarray) -> Row:
        """A base row: these ranks lead to these states, and events complete something."""
        blank = self.blank
        tokens, cost, there = self._moved(ranks, states)
        token, cost = _with_bans(tokens, cost, self._banned(events))
        # what begins a required phrase, or a character of one
        tails = blank.tail_token[~np.isin(blank.tail_token, tokens)]
        begins = np.concatenate([tokens, tails])
        there = np.concatenate([there, blank.tail_state[root, ~np.isin(blank.tail_token, tokens)]])
        favoured = (there > AFTER_SEPARATOR) & ~np.isin(begins, token[cost == BANNED])
        if not self.anywhere and root != AFTER_SEPARATOR:
            # within a modifier the connective is the policy's own choice, and only what is behind it is favoured
            favoured &= ~self._free[there & WHOLE]
        order = np.argsort(begins[favoured])
        advances = self._advances(begins[favoured][order], there[favoured][order])
        runs = _runs(ranks, self._begin_inside(ranks, states), events)
        return Row(root, *runs, SAME, token, cost, advances, np.zeros(0, np.int64))

    def _moved(self, ranks: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of tokens that lead to these states between characters: their numbers, costs, and states."""
        tokens, there = self.vocabulary.at_rank[ranks], self._begin_inside(ranks, states)
        cost = self._cost(states, self.vocabulary.tail[ranks])
        # those that begin a word are made dearer, so that none is begun that might have to be cut
        begin = self.vocabulary.space_begins[tokens] & (there != AFTER_SEPARATOR) & (cost < DEAD_END - CLOSING)
        cost[begin] += CLOSING
        return tokens, cost, there

    def _begin_inside(self, ranks: np.ndarray, states: np.ndarray) -> np.ndarray:
        return states | self.blank.begun[self.vocabulary.tail[ranks]]

    def _banned(self, events: np.ndarray) -> np.ndarray:
        """The tokens that complete a forbidden phrase in one of these events: (n, 3) from rank, to rank, bits."""
        low, high, _ = events[events[:, 2] & FORBIDDEN != 0].T
        return self.vocabulary.at_rank[spans(low, high - low)]

    def _base_cost(self, root: int, tokens: np.ndarray) -> np.ndarray:
        cost, base = self.cost_of_kind[self.blank.kind[root, tokens]], self.bases[root]
        if len(base.token):
            at = np.searchsorted(base.token, tokens).clip(max=len(base.token) - 1)
            cost = np.where(base.token[at] == tokens, base.cost[at], cost)
        return cost

    def _advances(self, tokens: np.ndarray, states: np.ndarray) -> np.ndarray:
        first, last = (np.searchsorted(self._path_state, states, side) for side in ("left", "right"))
        found = self._paths[spans(first, last - first)]
        return np.concatenate([np.repeat(tokens, last - first)[:, None], found], axis=1)

    def _row(self, state: int) -> Row:
        """Walks down the vocabulary's trie along what the phrases that are under way in `state` go on with."""
        vocabulary, base = self.vocabulary, int(self._root[state])
        nothing = np.zeros(0, np.int64)
        if state <= AFTER_SEPARATOR:
            runs = _runs(nothing, nothing, nothing.reshape(0, 3))
            return Row(base, *runs, SAME, nothing, nothing, self._advances(nothing, nothing), nothing)
        nodes, states = [], []
        events: list[tuple[int, int, int]] = []  # ranks [low, high) complete something
        stack = [(0, state, 0)]  # trie node, state there, characters read
        while stack:
            node, here, read = stack.pop()
            nodes.append(node)
            states.append(here)
            pending = int(self.character_pending[here])
            if bounded := pending & self._bounded:
                kinds = (NONWORD,) if self._ends_word[here] else (NONWORD, WORD)
                if node == 0:
                    events += [(*vocabulary.beginning_with[kind], bounded) for kind in kinds]
                else:
                    children = vocabulary.children(np.array([node]))[0]
                    children = children[np.isin(vocabulary.alphabet_class[vocabulary.char_index[children]], kinds)]
                    events += [(int(vocabulary.low[child]), int(vocabulary.high[child]), bounded) for child in children]
            if delimited := pending & ~self._bounded:
                for char in DELIMITERS:
                    if (child := vocabulary.child(node, char)) is not None:
                        events.append((int(vocabulary.low[child]), int(vocabulary.high[child]), delimited))
            for symbol in self._going_on(here, read):
                if (child := vocabulary.child(node, self._chars[symbol - 3])) is not None:
                    following = int(self._delta[here, symbol])
                    if arrival := int(self._arrival[following]):
                        events.append((int(vocabulary.low[child]), int(vocabulary.high[child]), arrival))
                    stack.append((child, following, read + (symbol != self._symbol[" "] or following != here)))
        # the moves token by token
        at, here = np.array(nodes), np.array(states)
        ranks = spans(vocabulary.low[at], vocabulary.owned[at])
        here = np.repeat(here, vocabulary.owned[at])
        tokens, cost, there = self._moved(ranks, here)
        spanned = np.array(events, dtype=np.int64).reshape(-1, 3)
        base_cost = self._base_cost(base, tokens)
        cost[base_cost == BANNED] = BANNED
        banned = self._banned(spanned)
        complete = bool(self.character_pending[state] & self.everything)
        closing = complete and self._exit_cost[state] <= self.escape[state]
        others = SAME if not closing else DEARER_IN_PROSE if self.anywhere else DEARER
        if closing:  # nor is a phrase that is written spoilt late by writing on
            spoiling = self.blank.spoiling[others, tokens]
            cost[spoiling & (cost < DEAD_END - CLOSING)] += CLOSING
            named = slice(None)
        else:
            named = cost != base_cost
        token, named_cost = _with_bans(tokens[named], cost[named], banned)
        favoured = slice(None)
        if self._delta[state, self._symbol[" "]] == state:  # a second space is read, but not written
            favoured = ~vocabulary.space_begins[tokens]
        advances = self._advances(tokens[favoured], there[favoured])
        if complete and self._exit_cost[state] < DEAD_END:
            exit_ = (self._exit[state], EXIT, self._exit_cost[state] - 1, 1000)
            advances = np.concatenate([advances, np.array([exit_])])
        void = tokens[np.isin(tokens, self.bases[base].advances[:, 0])]
        runs = _runs(ranks, there, spanned)
        return Row(base, *runs, others, token, named_cost, advances, void)

    def _going_on(self, state: int, read: int) -> list[int]:
        """The symbols that lead from `state` on in a phrase that began more than `read` characters ago."""
        following, space = self._delta[state], self._symbol[" "]
        on = self.depth[following] > read + 1
        on[space] |= following[space] == state
        return np.flatnonzero(on).tolist()

    def _row_inside(self, state: int, begun: bytes) -> Row:
        """The row inside a character: the tokens that go on with it."""
        moves, costs = [], []
        for token, text, tail in self.vocabulary.after(begun):
            here, completed = state, 0
            for char in text:
                here, done = self._step(here, char)
                completed |= done
            moves.append((int(self.vocabulary.rank[token]), inside(here, tail), completed))
            cost = self._cost_inside(here, tail) if tail else int(self._landing[here])
            costs.append((token, BANNED if completed & FORBIDDEN else cost, inside(here, tail)))
        ranks, states, completed = np.array(sorted(moves), dtype=np.int64).reshape(-1, 3).T
        runs = _runs(ranks, states, np.stack([ranks, ranks + 1, completed], axis=1))
        token, cost, there = np.array(sorted(costs), dtype=np.int64).reshape(-1, 3).T
        advances = self._advances(token[cost != BANNED], there[cost != BANNED])
        named = (token.astype(np.int32), cost.astype(np.int8))
        return Row(AFTER_WORD, *runs, SHUT, *named, advances, np.zeros(0, np.int64))


class _Blank:
    """What the tokens of a vocabulary do where there are no phrases.

    Attributes:
        state: (3, nodes) the root after each node of the vocabulary's trie, from each root.
        kind: (3, vocab) what each token's cost depends on: the root that it leads to, which of `vocabulary.tails` it
            begins there, and whether it begins a word; an index of `Automaton.cost_of_kind`.
        after: (3, vocab) each token's next state, from each root.
        tail_token, tail_state: (n,) and (3, n) the tokens that end inside a character, and where they lead.
        begun: (tails + 1,) the bits of a state in which a tail is begun; the last for none.
        missing, ending: (tails, ways) the tokens that end a tail's character, and what it is then: an index of
            `endings`, characters that stand for their kinds.
        single: a token of just one character, for each that has one.
        spoiling: (3, vocab) what a phrase that is there should not be gone on with late, for rows whose other tokens
            are `SAME`, `DEARER` and `DEARER_IN_PROSE`.
    """

    def __init__(self, vocabulary: Vocabulary):
        kinds = vocabulary.alphabet_class
        delta = np.empty((3, len(kinds)), dtype=np.int64)
        delta[:] = np.where(kinds == WORD, AFTER_WORD, AFTER_NONWORD)
        delta[AFTER_WORD, kinds == MARK] = AFTER_WORD
        delta[:, [vocabulary.index[char] for char in DELIMITERS if char in vocabulary.index]] = AFTER_SEPARATOR
        if " " in vocabulary.index:
            delta[AFTER_SEPARATOR, vocabulary.index[" "]] = AFTER_SEPARATOR
        state = np.zeros((3, len(vocabulary.parent)), dtype=np.int8)
        state[:, 0] = np.arange(3)
        for level in vocabulary.levels:
            state[:, level] = delta[state[:, vocabulary.parent[level]], vocabulary.char_index[level]]
        self.state = state
        self.begun = np.array([inside(0, tail) for tail in [*vocabulary.tails, b""]], dtype=np.int64)
        words = len(vocabulary.node_of_rank)
        tokens, there = vocabulary.at_rank[:words], state[:, vocabulary.node_of_rank].astype(np.int64)
        kind = 2 * (there * (len(vocabulary.tails) + 1) + vocabulary.tail + 1) + vocabulary.space_begins[tokens]
        self.kind = np.full((3, vocabulary.size), 6 * (len(vocabulary.tails) + 1), dtype=np.int16)
        self.kind[:, tokens] = kind
        self.after = np.zeros((3, vocabulary.size), dtype=np.int64)  # each token's next state
        self.after[:, tokens] = there | self.begun[vocabulary.tail]
        self.tail_token = np.sort(tokens[vocabulary.tail >= 0])
        self.tail_state = self.after[:, self.tail_token]
        ways = [vocabulary.endings(tail) for tail in vocabulary.tails]
        most = max(map(len, ways), default=0)
        self.endings = sorted({char for way in ways for _, char in way} | {" "})
        self.missing = np.full((len(ways), most), DEAD_END, dtype=np.int16)
        self.ending = np.zeros((len(ways), most), dtype=np.int64)
        for tail, way in enumerate(ways):
            for i, (missing, char) in enumerate(way):
                self.missing[tail, i], self.ending[tail, i] = missing, self.endings.index(char)
        self.single = {}
        for child in vocabulary.children(np.zeros(1, np.int64))[0].tolist():
            if vocabulary.plain[child] > vocabulary.low[child]:
                self.single[vocabulary.char[child]] = int(vocabulary.at_rank[vocabulary.low[child]])
        separating = np.zeros(vocabulary.size, dtype=bool)  # tokens that begin with a separator
        for char in DELIMITERS:
            if (child := vocabulary.child(0, char)) is not None:
                separating[vocabulary.at_rank[vocabulary.low[child] : vocabulary.high[child]]] = True
        self.spoiling = np.stack([np.zeros_like(separating), ~separating, vocabulary.joins])

    @staticmethod
    def of(vocabulary: Vocabulary) -> _Blank:
        """That of `vocabulary`, made once."""
        if vocabulary not in _BLANKS:
            _BLANKS[vocabulary] = _Blank(vocabulary)
        return _BLANKS[vocabulary]


_BLANKS: weakref.WeakKeyDictionary[Vocabulary, _Blank] = weakref.WeakKeyDictionary()


def inside(state: int, begun: bytes) -> int:
    """The state with these bytes of a character begun."""
    return state | int.from_bytes(begun, "big") << WHOLE.bit_length()


def outside(state: int) -> tuple[int, bytes]:
    """The state before the character that is begun, and its bytes."""
    begun = state >> WHOLE.bit_length()
    return state & WHOLE, begun.to_bytes((begun.bit_length() + 7) // 8, "big")


def _with_bans(tokens: np.ndarray, cost: np.ndarray, banned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, rising, and their costs: `BANNED` where they are, whatever else is said of them."""
    tokens = np.concatenate([tokens, banned])
    cost = np.concatenate([cost, np.full(len(banned), BANNED)])
    order = np.lexsort((cost, tokens))
    tokens, cost = tokens[order], cost[order]
    last = np.append(tokens[1:] != tokens[:-1], True)[: len(tokens)]
    return tokens[last].astype(np.int32), cost[last].astype(np.int8)


def _runs(ranks: np.ndarray, states: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As disjoint runs: the states to which these ranks lead, and events (from rank, to rank, bits), which may overlap.
    Starts, states (-1: the base row's), bits."""
    start = np.unique(np.concatenate([[0], ranks, ranks + 1, events[:, 0], events[:, 1]])).astype(np.int64)
    state, bits = np.full(len(start), -1, np.int64), np.zeros(len(start), np.int64)
    state[np.searchsorted(start, ranks)] = states
    if len(events):
        first, last = np.searchsorted(start, events[:, 0]), np.searchsorted(start, events[:, 1])
        np.bitwise_or.at(bits, spans(first, last - first), np.repeat(events[:, 2], last - first))
    own = np.append(True, (state[1:] != state[:-1]) | (bits[1:] != bits[:-1]))
    return start[own], state[own], bits[own]
