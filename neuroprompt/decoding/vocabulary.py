"""A tokenizer's vocabulary as byte strings and as one trie of folded text, made once.

The text that a constraint is about is folded (see `constraints.py`); the decoder moves in tokens. Here is what every
token says, in the form in which an `Automaton` can be lifted to all of them at once.
"""

from __future__ import annotations

import itertools
import json
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuroprompt.decoding.constraints import MARK, NONWORD, WORD, char_class, fold

if TYPE_CHECKING:
    from neuroprompt.decoding.automaton import Automaton


CACHE_BYTES = 256 << 20  # of automata that are kept for a vocabulary, by default


class Automata:
    """The automata that were used last, as many as fit `limit` bytes. What is let go while a search uses it is the
    search's own until its end; an automaton grows while it is used, so it is for its user to `trim`."""

    def __init__(self, limit: int = CACHE_BYTES):
        self.limit = limit
        self._kept: OrderedDict[tuple, Automaton] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """About what they hold in memory."""
        return sum(automaton.nbytes for automaton in self._kept.values())

    def get(self, key: tuple) -> Automaton | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: tuple, automaton: Automaton) -> Automaton:
        self._kept[key] = automaton
        self.trim()
        return automaton

    def trim(self) -> None:
        """Lets go of those not used for longest until the rest fit."""
        size = self.nbytes
        while size > self.limit:
            size -= self._kept.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        self._kept.clear()


class Vocabulary:
    """A tokenizer as byte strings and as a trie of folded strings.

    Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM2) and SentencePiece-like tokenizers (Llama 2, Gemma: "▁" for a space,
    with or without byte fallback) are understood. Special and added tokens stand for no text and are never written.

    Args:
        tokenizer: a `transformers` tokenizer with a `tokenizers` backend.
        size: the width of the model's logits, where it is more than the tokenizer's length.

    Raises:
        ValueError: the tokenizer is of another kind, or its decoding is not the concatenation of its tokens.
    """

    def __init__(self, tokenizer, size: int | None = None):
        self.size = max(size or 0, len(tokenizer))
        self.bytes = _token_bytes(tokenizer) + [None] * (self.size - len(tokenizer))
        normalizer = tokenizer.backend_tokenizer.normalizer
        # how the tokenizer itself would write a phrase; SentencePiece's normalizers turn spaces into "▁"
        self.written = lambda text: (normalizer.normalize_str(text) if normalizer else text).replace("▁", " ").strip()
        self.token_of = {}  # bytes -> a token that stands for them
        for token, piece in enumerate(self.bytes):
            if piece:
                self.token_of.setdefault(piece, token)
        self.longest = max(map(len, self.token_of), default=0)
        self._build_trie()
        self.hash_factor, self.hash_term = _text_hashes(self.bytes)
        self.automata = Automata()
        self._after: dict[bytes, list[tuple[int, str, bytes]]] = {}
        self._endings: dict[bytes, list[tuple[int, str]]] = {}

    @staticmethod
    def of(tokenizer, size: int | None = None) -> Vocabulary:
        """The vocabulary of `tokenizer`, made once."""
        known = _VOCABULARIES.setdefault(tokenizer, {})
        key = (len(tokenizer), size)
        if key not in known:
            known[key] = Vocabulary(tokenizer, size)
        return known[key]

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens decode to, special ones left out."""
        return b"".join(self.bytes[token] or b"" for token in tokens).decode("utf-8", "replace")

    def after(self, begun: bytes) -> list[tuple[int, str, bytes]]:
        """The tokens that may follow a character of which `begun` is there: (token, folded text, bytes begun then)."""
        if begun not in self._after:
            found = []
            for token in self.continuing:
                if (split := _split(begun + self.bytes[token])) is not None:
                    found.append((token, fold(split[0]), split[1]))
            self._after[begun] = found
        return self._after[begun]

    def endings(self, begun: bytes) -> list[tuple[int, str]]:
        """Ways to end a begun character with single-byte tokens: (tokens needed, folded text), one of each class."""
        if begun not in self._endings:
            lead = begun[0]
            missing = (2 if lead < 0xE0 else 3 if lead < 0xF0 else 4) - len(begun)
            ways = {}
            bytes_there = [bytes([byte]) for byte in range(0x80, 0xC0) if bytes([byte]) in self.token_of]
            middles = [bytes(middle) for middle in itertools.product(b"\x80\x90\xa0\xb0", repeat=missing - 1)]
            for middle, last in itertools.product(middles, bytes_there):
                if all(middle[i : i + 1] in self.token_of for i in range(len(middle))):
                    split = _split(begun + middle + last)
                    if split and not split[1] and len(text := fold(split[0])) == 1:
                        ways.setdefault(char_class(text), (missing, text))
                if len(ways) == 3:
                    break
            self._endings[begun] = list(ways.values())
        return self._endings[begun]

    def child(self, node: int, char: str) -> int | None:
        """The trie node below `node` over `char`."""
        return self._children.get(node * 0x110000 + ord(char))

    def children(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The trie nodes below each of `nodes`, and which of these each is below."""
        count = self._child_count[nodes]
        return self._by_parent[spans(self._first_child[nodes], count)], np.repeat(np.arange(len(nodes)), count)

    def nodes_over(self, char: str) -> np.ndarray:
        """The trie nodes that are reached over `char`."""
        if (index := self.index.get(char)) is None:
            return self._by_char[:0]
        return self._by_char[self._first_over[index] : self._first_over[index + 1]]

    def _build_trie(self) -> None:
        tokens_of: dict[str, list[tuple[bytes, int]]] = {}
        self.continuing = []  # tokens that begin inside a character
        for token, piece in enumerate(self.bytes):
            if piece:
                if (split := _split(piece)) is not None:
                    tokens_of.setdefault(fold(split[0]), []).append((split[1], token))
                elif 0x80 <= piece[0] < 0xC0:
                    self.continuing.append(token)
        # by the first character's class, so that "tokens that begin with a nonword character" are neighbours
        strings = sorted(tokens_of, key=lambda string: (char_class(string[0]) if string else -1, string))
        parent, chars, low, plain, high, depth = [-1], [" "], [0], [0], [0], [0]
        self._children = {}
        at_rank, node_of_rank, tail_of_rank, path, previous = [], [], [], [0], ""
        for string in strings:
            common = next((i for i, (a, b) in enumerate(zip(string, previous, strict=False)) if a != b), None)
            common = min(len(string), len(previous)) if common is None else common
            while len(path) > common + 1:
                high[path.pop()] = len(at_rank)
            for char in string[common:]:
                self._children[path[-1] * 0x110000 + ord(char)] = len(parent)
                parent.append(path[-1])
                chars.append(char)
                depth.append(len(path))
                low.append(len(at_rank))
                plain.append(len(at_rank))
                high.append(0)
                path.append(len(parent) - 1)
            for tail, token in sorted(tokens_of[string]):
                if not tail:
                    plain[path[-1]] = len(at_rank) + 1
                at_rank.append(token)
                tail_of_rank.append(tail)
                node_of_rank.append(path[-1])
            previous = string
        for node in path:
            high[node] = len(at_rank)
        self.char, self.parent = chars, np.array(parent)
        # the tokens below each node have the ranks [low, high), and [low, low + owned) those that end there
        self.low, self.plain, self.high = np.array(low), np.array(plain), np.array(high)
        self.node_of_rank = np.array(node_of_rank)
        self.owned = np.bincount(self.node_of_rank, minlength=len(parent))
        # what tokens that end inside a character begin of it, and which of these each token does; -1 for none
        self.tails = sorted(set(filter(None, tail_of_rank)))
        self.tail = np.array([self.tails.index(tail) if tail else -1 for tail in tail_of_rank])
        alphabet = sorted(set(chars))
        self.alphabet = alphabet  # the trie's characters
        self.index = {char: i for i, char in enumerate(alphabet)}
        self.char_index = np.array([self.index[char] for char in chars])  # (nodes,)
        self.alphabet_class = np.array([char_class(char) for char in alphabet])
        order = np.argsort(depth, kind="stable")
        self.levels = np.split(order, np.cumsum(np.bincount(depth))[:-1])[1:]  # nodes by depth, the root left out
        self._child_count = np.bincount(self.parent[1:], minlength=len(parent))
        self._first_child = np.cumsum(self._child_count) - self._child_count
        self._by_parent = np.argsort(self.parent[1:], kind="stable") + 1
        self._by_char = np.argsort(self.char_index[1:], kind="stable") + 1
        self._first_over = np.searchsorted(self.char_index[self._by_char], np.arange(len(alphabet) + 1))
        # tokens outside the trie come after those in it
        outside = sorted(set(range(self.size)) - set(at_rank))
        self.at_rank = np.array(at_rank + outside)
        self.rank = np.empty(self.size, dtype=np.int64)
        self.rank[self.at_rank] = np.arange(self.size)
        tops = {NONWORD: [0, 0], WORD: [0, 0], MARK: [0, 0]}
        for child in self.children(np.zeros(1, np.int64))[0].tolist():
            span = tops[char_class(chars[child])]
            span[0] = low[child] if span[1] == 0 else span[0]
            span[1] = high[child]
        self.beginning_with = {kind: tuple(span) for kind, span in tops.items()}  # class -> ranks [low, high)
        # tokens that go on with the word or character before them, or may: those that only begin a character
        self.joins = np.zeros(self.size, dtype=bool)
        self.joins[self.continuing] = True
        self.joins[self.at_rank[plain[0] : self.owned[0]]] = True
        for kind in (WORD, MARK):
            self.joins[self.at_rank[slice(*self.beginning_with[kind])]] = True
        self.space_begins = np.zeros(self.size, dtype=bool)
        if (space := self.child(0, " ")) is not None:
            self.space_begins[self.at_rank[low[space] : high[space]]] = True


def spans(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The numbers of all spans [start, start + length), one after the other."""
    return np.repeat(start - np.cumsum(length) + length, length) + np.arange(length.sum())


_VOCABULARIES: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _split(piece: bytes) -> tuple[str, bytes] | None:
    """Whole characters and the bytes of one begun at the end; None where `piece` is no part of UTF-8 from a start."""
    try:
        return piece.decode(), b""
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return None
        return piece[: error.start].decode(), piece[error.start :]


def _token_bytes(tokenizer) -> list[bytes | None]:
    """Every token's bytes; None for those that stand for no text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"{type(tokenizer).__name__} has no `tokenizers` backend, so its bytes are not known")
    decoder = json.loads(backend.to_str())["decoder"] or {}
    kinds = {part["type"] for part in decoder.get("decoders", [decoder]) if "type" in part}
    if "ByteLevel" in kinds:
        byte_of = _byte_level_alphabet()

        def piece_of(string: str) -> bytes:
            return bytes(byte_of[char] for char in string)

    elif kinds & {"Metaspace", "ByteFallback", "Replace"}:
        fallback = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)} if "ByteFallback" in kinds else {}

        def piece_of(string: str) -> bytes:
            return fallback.get(string) or string.replace("▁", " ").encode()

    else:
        raise ValueError(
            f"cannot read the bytes of {type(tokenizer).__name__}'s tokens (decoder: {sorted(kinds) or 'none'});"
            " byte-level BPE and SentencePiece-like tokenizers are supported"
        )
    silent = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    strings = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    pieces = [None if i in silent or not string else piece_of(string) for i, string in enumerate(strings)]
    probe = "a café, 8k; it's ☀ 富士山 (the end)."
    ids = [i for i in tokenizer(probe, add_special_tokens=False)["input_ids"] if i not in silent]
    said = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if b"".join(pieces[i] or b"" for i in ids).decode("utf-8", "replace").strip() != said.strip():
        raise ValueError(f"{type(tokenizer).__name__} does not decode to the bytes of its tokens: {said!r}")
    return pieces


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {**{chr(byte): byte for byte in kept}, **{chr(0x100 + i): byte for i, byte in enumerate(moved)}}


def _text_hashes(pieces: list[bytes | None]) -> tuple[np.ndarray, np.ndarray]:
    """A polynomial hash of text without whitespace and ASCII case, as an affine map per token: h -> h * factor + term
    (modulo 2^64). Equal texts have equal hashes, however they are cut into tokens."""
    base = np.uint64(0x9E3779B97F4A7C15)
    blanks = bytes(i for i in range(128) if chr(i).isspace())
    stripped = [(piece or b"").translate(None, blanks).lower() for piece in pieces]
    factor, term = np.ones(len(pieces), np.uint64), np.zeros(len(pieces), np.uint64)
    for position in range(max(map(len, stripped), default=0)):
        going_on = np.array([i for i, piece in enumerate(stripped) if len(piece) > position])
        read = np.array([stripped[i][position] + 1 for i in going_on], np.uint64)
        factor[going_on] *= base
        term[going_on] = term[going_on] * base + read
    return factor.view(np.int64), term.view(np.int64)
