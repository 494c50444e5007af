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
completes what it completes from r(q), and besides only phrases that began before it. So three *base rows* over the
whole vocabulary are computed once, level by level over the trie in NumPy, and the row of any other state is a base
row with few exceptions, which one walk down phrase trie and vocabulary trie together finds. With the tokens sorted as
in the trie, the exceptions are runs of neighbours; rows are kept as runs and made when a state is first visited.

**Pieces of characters.** A token may end inside a UTF-8 character. The state is then (q, bytes begun), and its row
has the tokens that go on with valid UTF-8; any other would make U+FFFD.

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

from collections.abc import Sequence
from dataclasses import dataclass
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
from neuroprompt.decoding.vocabulary import Vocabulary

AFTER_WORD, AFTER_NONWORD, AFTER_SEPARATOR = 0, 1, 2  # the roots
FORBIDDEN = 1 << MAX_CLAUSES  # the bit beside the clauses' own
BANNED, DEAD_END = 127, 126  # costs of tokens; anything less is a number of tokens
EXIT = MAX_CLAUSES  # stands for "what is pending" where a clause is named
DELIMITERS = ","  # that the decoder writes between modifiers
OBJECTS = 3000  # bytes, about, that a state's or a row's objects take beside their arrays' numbers
CACHE_BYTES = 256 << 20  # of automata that are kept for a vocabulary
CLOSING = 3  # this many tokens before a clause must be written, no new word is begun that might have to be cut


class Row(NamedTuple):
    """What every token does in one state: base row `base`, but from rank `start[j]` (up to the next start) on, it leads
    to `state[j]` (where that is not -1) and completes `completed[j]` besides."""

    base: int
    start: np.ndarray  # (runs,) int64, rising, the first 0
    state: np.ndarray  # (runs,) int64
    completed: np.ndarray  # (runs,) int64 bits
    cost: np.ndarray | None  # (vocab,) int8, or None where it is the base row's
    advances: np.ndarray  # (advances, 4): see `Automaton`; clause `EXIT` for a token that completes what is pending
    void: np.ndarray  # tokens among the base row's advances that lead elsewhere here


@dataclass(frozen=True)
class _Path:
    clause: int
    left: int
    progress: float


class Automaton:
    """The phrases of one constraint set over one vocabulary.

    States 0 to 2 are the roots; then come the phrases' prefixes, and, as they are met, states inside a character.

    Attributes:
        nbytes: about what it holds in memory.
        base_state, base_completed, base_cost: (3, vocab): from each root, each token's next state, the clauses that it
            completes (bits, `FORBIDDEN` among them), and its cost: tokens from there to a separator; `BANNED`.
        advances: three arrays (n, 4), for each root the tokens that begin a required phrase: token, clause, tokens left
            to write and separate the phrase, and thousandths of the phrase written.
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
        self.everything = (1 << len(clauses)) - 1  # the bits of all clauses
        self._bounded = FORBIDDEN | (self.everything if anywhere else 0)  # what any boundary completes
        self._build_characters(clauses, forbidden)
        self._build_escapes()
        self._separating = np.zeros(vocabulary.size, dtype=bool)  # tokens that begin with a separator
        for char in DELIMITERS:
            if (child := vocabulary.child(0, char)) is not None:
                self._separating[vocabulary.at_rank[vocabulary.low[child] : vocabulary.high[child]]] = True
        # what a phrase that is there should not be gone on with late
        self._spoiling = vocabulary.joins if anywhere else ~self._separating
        self._inside: dict[tuple[int, bytes], int] = {}
        self._where: list[tuple[int, bytes]] = [(state, b"") for state in range(len(self.depth))]
        self._rows: dict[int, Row] = {}
        self._build_paths(clauses)
        self._build_base_rows()
        arrays = (value for value in vars(self).values() if isinstance(value, np.ndarray))
        self.nbytes = sum(array.nbytes for array in arrays) + OBJECTS * len(self.depth)  # of tables and rows

    @staticmethod
    def of(
        vocabulary: Vocabulary, clauses: Sequence[Sequence[str]], forbidden: Sequence[str], anywhere: bool = False
    ) -> Automaton:
        """The automaton of these phrases over this vocabulary. Those last used are kept, up to `CACHE_BYTES`."""
        known = vocabulary.automata
        key = (tuple(map(tuple, clauses)), tuple(forbidden), anywhere)
        if key not in known:
            known[key] = Automaton(vocabulary, *key)
        known.move_to_end(key)
        size = sum(automaton.nbytes for automaton in known.values())
        while size > CACHE_BYTES and len(known) > 1:
            size -= known.popitem(last=False)[1].nbytes
        return known[key]

    def __len__(self) -> int:
        """The number of states met so far."""
        return len(self._where)

    def read(self, text: str, state: int = AFTER_SEPARATOR) -> tuple[int, int]:
        """The state after `text`, and the clauses (and `FORBIDDEN`) completed on the way."""
        completed = 0
        for char in fold(text):
            state, done = self._step(state, char)
            completed |= done
        return state, completed

    def pending(self, state: int) -> int:
        """The clauses that the end of the text would complete in `state`; with `FORBIDDEN` it may not end there."""
        character_state, begun = self._where[state]
        return FORBIDDEN if begun else int(self.character_pending[character_state])

    def need(self, state: int, open_clauses: int) -> int:
        """The number of tokens that surely meet the clauses in the bits `open_clauses` from `state`."""
        pending = self.pending(state)
        if not pending & FORBIDDEN and not open_clauses & ~pending:
            return 0
        needs = [self._cost_of(state) + self._price(open_clauses)]
        if not self._where[state][1] and self._exit_cost[state] < DEAD_END:
            needs.append(int(self._exit_cost[state]) + self._price(open_clauses & ~pending))
        needs += [
            path.left + self._price(open_clauses & ~(1 << path.clause))
            for path in self._paths.get(self._where[state], ())
            if open_clauses >> path.clause & 1
        ]
        return max(min(needs) - 1, 0)

    def may_be_delimited(self, state: int, open_clauses: int, tokens: int) -> bool:
        """Whether a separator may come next, and the clauses of the bits `open_clauses` be met with so many tokens."""
        following, completed = self._step(state, DELIMITERS)
        return not completed & FORBIDDEN and int(self._landing[following]) + self._price(open_clauses) <= tokens

    def row(self, state: int) -> Row:
        """What every token does in `state`."""
        if state not in self._rows:
            character_state, begun = self._where[state]
            row = self._rows[state] = self._row_inside(character_state, begun) if begun else self._row(state)
            self.nbytes += OBJECTS + sum(part.nbytes for part in row if isinstance(part, np.ndarray))
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
        depth = np.zeros(states, dtype=np.int64)
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
        self._goto, self._fail, self.depth, self._delta = goto, fail.tolist(), depth, delta
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
        for child in self.vocabulary.children(0):
            if self.vocabulary.plain[child] > self.vocabulary.low[child]:
                token = int(self.vocabulary.at_rank[self.vocabulary.low[child]])
                tokens.setdefault(self._symbol_of(self.vocabulary.char[child]), token)
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
        escape = np.full(len(self.depth), DEAD_END, dtype=np.int16)
        escape[AFTER_SEPARATOR] = 0
        while len(steps):
            shorter = np.minimum(escape, np.where(closed, DEAD_END, escape[following] + 1).min(axis=1)).astype(np.int16)
            if (shorter == escape).all():
                break
            escape = shorter
        self.escape = escape
        # tokens to a separator from where each symbol leads
        self._landing = np.where(pausing, DEAD_END, escape)
        self._cost_after = np.where(forbidden, DEAD_END, self._landing[self._delta])  # (states, symbols)
        # the same for what is pending, which a separator completes
        leaving = np.where(self._delimits & written, self._cost_after + 1, DEAD_END)
        self._exit_cost = np.minimum(leaving.min(axis=1), DEAD_END)
        self._exit = np.array([tokens.get(symbol, -1) for symbol in leaving.argmin(axis=1).tolist()])
        # for tokens that only begin a character, the ways to end it
        endings = [
            [(missing, self._symbol_of(char)) for missing, char in self.vocabulary.endings(tail)]
            for tail in self.vocabulary.bare_tails
        ]
        ways = max(map(len, endings), default=0)
        padded = np.array([way + [(DEAD_END, 0)] * (ways - len(way)) for way in endings], dtype=np.int64)
        self._tail_missing, self._tail_symbol = padded.reshape(-1, ways, 2).transpose(2, 0, 1)  # (tails, ways)

    def _cost_inside(self, state: int, begun: bytes) -> int:
        # At least one more than is missing, even where the character leads to `AFTER_SEPARATOR` (a space after ","):
        # the last token of a way out may be saved only if the text could end without it.
        ways = (
            missing + max(1, int(self._cost_after[state, self._symbol_of(char)]))
            for missing, char in self.vocabulary.endings(begun)
        )
        return min(min(ways, default=DEAD_END), DEAD_END)

    def _price(self, open_clauses: int) -> int:
        return sum(int(price) for clause, price in enumerate(self.price) if open_clauses >> clause & 1)

    def _build_paths(self, clauses: Sequence[Sequence[str]]) -> None:
        """For each required phrase, the fewest tokens that write it, from every byte of it on."""
        self._paths: dict[tuple[int, bytes], list[_Path]] = {}
        token_of, longest = self.vocabulary.token_of, self.vocabulary.longest
        self.price = np.full(len(clauses), DEAD_END, dtype=np.int64)
        for clause, phrases in enumerate(clauses):
            best: dict[tuple[int, bytes], _Path] = {}
            for phrase in phrases:
                written = self.vocabulary.written(phrase)
                states = self._trace(written if fold_phrase(written) == fold_phrase(phrase) else phrase)
                if states is None:
                    continue
                text, where = states  # bytes, and the state after each of them
                leave = int(self._exit_cost[where[-1][0]])
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
                for position in range(1, len(text) + 1):
                    path = _Path(clause, left[position], position / len(text))
                    known = best.get(where[position])
                    if known is None or path.left < known.left:
                        best[where[position]] = path
            if self.price[clause] >= DEAD_END:
                shown = " | ".join(repr(phrase) for phrase in phrases[:3]) + (" | …" if len(phrases) > 3 else "")
                raise ConstraintError(f"no way to write {shown} that leaves out every forbidden phrase")
            for state, path in best.items():
                self._paths.setdefault(state, []).append(path)

    def _trace(self, phrase: str) -> tuple[bytes, list[tuple[int, bytes]]] | None:
        text, state = phrase.encode(), AFTER_SEPARATOR
        where: list[tuple[int, bytes]] = [(state, b"")]
        for char in phrase:
            piece = char.encode()
            where += [(state, piece[:n]) for n in range(1, len(piece))]
            for folded in fold(char):
                state, completed = self._step(state, folded)
                if completed & FORBIDDEN:
                    return None
            where.append((state, b""))
        return text, where

    # -- the lift

    def _state_inside(self, state: int, begun: bytes) -> int:
        if not begun:
            return state
        if (state, begun) not in self._inside:
            self._inside[state, begun] = len(self._where)
            self._where.append((state, begun))
        return self._inside[state, begun]

    def _cost_of(self, state: int) -> int:
        if state < len(self.escape):
            return int(self.escape[state])
        return self._cost_inside(*self._where[state])

    def _build_base_rows(self) -> None:
        vocabulary = self.vocabulary
        symbol = vocabulary.alphabet_class.copy()  # a class is the symbol of its characters that no phrase has
        for char, number in self._symbol.items():
            if char in vocabulary.index:
                symbol[vocabulary.index[char]] = number
        symbol = symbol[vocabulary.char_index]  # (nodes,)
        nodes = len(symbol)
        state = np.zeros((3, nodes), dtype=np.int64)
        completed = np.zeros((3, nodes), dtype=np.int64)
        state[:, 0] = np.arange(3)
        eventful = bool(self.character_pending.any() or self._arrival.any())
        for level in vocabulary.levels:
            up, over = vocabulary.parent[level], symbol[level]
            before = state[:, up]
            state[:, level] = self._delta[before, over]
            if eventful:
                completed[:, level] = completed[:, up] | self._completed(before, over)
        words = len(vocabulary.node_of_rank)
        tokens = vocabulary.at_rank[:words]
        self.base_state = np.zeros((3, vocabulary.size), dtype=np.int32)
        self.base_completed = np.zeros((3, vocabulary.size), dtype=np.int64)
        self.base_cost = np.full((3, vocabulary.size), BANNED, dtype=np.int8)
        self.base_state[:, tokens] = state[:, vocabulary.node_of_rank]
        self.base_completed[:, tokens] = completed[:, vocabulary.node_of_rank]
        self.base_cost[:, tokens] = self._landing[self.base_state[:, tokens]]
        for rank, tail in vocabulary.tails.items():
            token = vocabulary.at_rank[rank]
            for root in range(3):
                inside = self._state_inside(int(self.base_state[root, token]), tail)
                self.base_state[root, token] = inside
                self.base_cost[root, token] = self._cost_of(inside)
        every = np.broadcast_to(np.arange(vocabulary.size), self.base_cost.shape)
        self.base_cost[self._opens_word(every, self.base_state, self.base_cost)] += CLOSING
        self.base_cost[self.base_completed & FORBIDDEN != 0] = BANNED
        on_path = np.zeros(len(self._where), dtype=bool)
        on_path[[self._state_inside(*where) for where in self._paths if where in self._inside or not where[1]]] = True
        on_path[:3] = False
        self.advances = []
        self._begins = on_path[self.base_state] & (self.base_cost != BANNED)  # (3, vocab)
        if not self.anywhere:
            # within a modifier the connective is the policy's own choice, and only what is behind it is favoured
            free = self._free[[state for state, _ in self._where]]
            self._begins[:AFTER_SEPARATOR] &= ~free[self.base_state[:AFTER_SEPARATOR]]
        for root in range(3):
            found = np.flatnonzero(self._begins[root])
            self.advances.append(
                self._advances(zip(found.tolist(), self.base_state[root, found].tolist(), strict=True))
            )

    def _opens_word(self, tokens: np.ndarray, states: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Which tokens begin a word. They are made dearer, so that none is begun that might have to be cut."""
        return self.vocabulary.space_begins[tokens] & (states != AFTER_SEPARATOR) & (cost < DEAD_END - CLOSING)

    def _advances(self, tokens_and_states) -> np.ndarray:
        rows = [
            (token, path.clause, path.left, round(1000 * path.progress))
            for token, state in tokens_and_states
            for path in self._paths.get(self._where[state], ())
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, 4)

    def _row(self, state: int) -> Row:
        """Walks down the vocabulary's trie along what the phrases that are under way in `state` go on with."""
        vocabulary, base = self.vocabulary, int(self._root[state])
        if state <= AFTER_SEPARATOR:
            nothing = np.zeros(0, np.int64)
            return Row(base, *_runs([], []), None, self._advances(()), nothing)
        moves: list[tuple[int, int, int]] = []  # ranks [low, high) lead to a state
        events: list[tuple[int, int, int]] = []  # ranks [low, high) complete something
        costs: list[int] = []  # of the moves
        stack = [(0, state, 0)]  # trie node, state there, characters read
        while stack:
            node, here, read = stack.pop()
            low, plain, owned = vocabulary.low[node], vocabulary.plain[node], vocabulary.owned[node]
            if plain > low:
                moves.append((low, plain, here))
                costs.append(int(self._landing[here]))
            for rank in range(plain, low + owned):
                moves.append((rank, rank + 1, self._state_inside(here, vocabulary.tails[rank])))
            if node == 0:
                ways = self._tail_missing + np.maximum(1, self._cost_after[here, self._tail_symbol])
                costs += ways.min(axis=1).tolist() if ways.size else []
            else:
                costs += [self._cost_inside(here, vocabulary.tails[rank]) for rank in range(plain, low + owned)]
            pending = int(self.character_pending[here])
            if bounded := pending & self._bounded:
                kinds = (NONWORD,) if self._ends_word[here] else (NONWORD, WORD)
                if node == 0:
                    events += [(*vocabulary.beginning_with[kind], bounded) for kind in kinds]
                else:
                    for child in vocabulary.children(node):
                        if char_class(vocabulary.char[child]) in kinds:
                            events.append((vocabulary.low[child], vocabulary.high[child], bounded))
            if delimited := pending & ~self._bounded:
                for char in DELIMITERS:
                    if (child := vocabulary.child(node, char)) is not None:
                        events.append((vocabulary.low[child], vocabulary.high[child], delimited))
            for char in self._going_on(here, read):
                if (child := vocabulary.child(node, char)) is not None:
                    following = int(self._delta[here, self._symbol[char]])
                    if arrival := int(self._arrival[following]):
                        events.append((vocabulary.low[child], vocabulary.high[child], arrival))
                    stack.append((child, following, read + (char != " " or following != here)))
        # the moves token by token
        lows, highs, states = np.array(moves or [(0, 0, 0)]).T
        width = highs - lows
        ranks = np.repeat(lows - np.cumsum(width) + width, width) + np.arange(width.sum())
        tokens, there = vocabulary.at_rank[ranks], np.repeat(states, width)
        cost = np.repeat(np.minimum(np.array(costs or [0]), DEAD_END), width).astype(np.int8)
        cost[self._opens_word(tokens, there, cost)] += CLOSING
        cost[self.base_completed[base, tokens] & FORBIDDEN != 0] = BANNED
        closing = self.character_pending[state] & self.everything and self._exit_cost[state] <= self.escape[state]
        bans = [vocabulary.at_rank[low:high] for low, high, bits in events if bits & FORBIDDEN]
        row_cost = None
        if bans or closing or (cost != self.base_cost[base, tokens]).any():
            row_cost = self.base_cost[base].copy()
            row_cost[tokens] = cost
            if closing:  # nor is a phrase that is written spoilt late by writing on
                onwards = self._spoiling & (row_cost < DEAD_END - CLOSING)
                row_cost[onwards] += CLOSING
            for banned in bans:
                row_cost[banned] = BANNED
        on_path = np.array([self._where[state] in self._paths for state in states.tolist()])
        found = np.repeat(on_path, width)
        if self._delta[state, self._symbol[" "]] == state:  # a second space is read, but not written
            found &= ~vocabulary.space_begins[tokens]
        advances = self._advances(zip(tokens[found].tolist(), there[found].tolist(), strict=True))
        if self.character_pending[state] & self.everything and self._exit_cost[state] < DEAD_END:
            exit_ = (self._exit[state], EXIT, self._exit_cost[state] - 1, 1000)
            advances = np.concatenate([advances, np.array([exit_])])
        void = tokens[self._begins[base, tokens]]
        return Row(base, *_runs(moves, events), row_cost, advances, void)

    def _going_on(self, state: int, read: int) -> set[str]:
        """The characters that lead from `state` on in a phrase that began more than `read` characters ago."""
        chars = set()
        if state > AFTER_SEPARATOR and self._delta[state, self._symbol[" "]] == state:
            chars.add(" ")
        while self.depth[state] > read:
            chars.update(self._goto[state])
            state = self._fail[state]
        return chars

    def _row_inside(self, state: int, begun: bytes) -> Row:
        """The row inside a character: the tokens that go on with it."""
        runs, reached = {}, []
        cost = np.full(self.vocabulary.size, BANNED, dtype=np.int8)
        for token, text, tail in self.vocabulary.after(begun):
            here, completed = state, 0
            for char in text:
                here, done = self._step(here, char)
                completed |= done
            there = self._state_inside(here, tail)
            runs[int(self.vocabulary.rank[token])] = (there, completed)
            if not completed & FORBIDDEN:
                cost[token] = self._cost_inside(here, tail) if tail else self._landing[here]
                reached.append((token, there))
        ranks = sorted(runs)
        start = np.array([0, *ranks], dtype=np.int64)
        states = np.array([-1, *(runs[rank][0] for rank in ranks)], dtype=np.int64)
        completed = np.array([0, *(runs[rank][1] for rank in ranks)], dtype=np.int64)
        return Row(AFTER_WORD, start, states, completed, cost, self._advances(reached), np.zeros(0, np.int64))


def _runs(moves: list[tuple[int, int, int]], events: list[tuple[int, int, int]]):
    """Overlapping spans as disjoint runs: starts, states (-1: the base row's), bits."""
    if not moves and not events:
        return np.zeros(1, np.int64), np.full(1, -1, np.int64), np.zeros(1, np.int64)
    start = np.unique([0] + [edge for low, high, _ in moves + events for edge in (low, high)])
    state, bits = np.full(len(start), -1, np.int64), np.zeros(len(start), np.int64)
    for spans, array, join in ((moves, state, False), (events, bits, True)):
        if spans:
            lows, highs, values = (np.array(column) for column in zip(*spans, strict=True))
            firsts, lasts = np.searchsorted(start, lows), np.searchsorted(start, highs)
            for first, last, value in zip(firsts.tolist(), lasts.tolist(), values.tolist(), strict=True):
                array[first:last] = array[first:last] | value if join else value
    return start, state, bits
