"""A prompt as text: its segments, its length in CLIP tokens, and nothing lost on the way.

A prompt for a diffusion model is a list of clauses: a subject, then modifiers, set apart by commas (or ``;``, ``|``,
line breaks, full stops, ``BREAK``). `Prompt.parse` cuts a text at those separators and keeps every character, so that
``str(Prompt.parse(text)) == text``. Separators inside brackets do not count: ``(red, blue:1.3)``, ``[word]`` and
``<lora:name:0.8>`` stay as typed.

CLIP's byte-pair encoding ships with the package, so that a prompt can be measured against the 77-token window of Stable
Diffusion's text encoder on any machine.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

CLIP_WINDOW = 77
"""Tokens that Stable Diffusion's text encoder reads, begin and end tokens included."""
SEPARATORS = " \t\r\n,;|"
"""What may stand between modifiers, and goes where the policy writes on: the marks and the blanks around them."""


@dataclass(frozen=True)
class Prompt:
    """A text cut into segments; ``str()`` gives the text back, character for character.

    Attributes:
        segments: The clauses, without the blanks and separators around them. Never empty strings, unless the whole
            text has no clause at all.
        separators: What stands before each segment and, last, after the final one; ``len(segments) + 1`` of them.
    """

    segments: tuple[str, ...]
    separators: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Prompt":
        """Cut `text` at its top-level separators. Linear in its length."""
        segments, separators, begin, gap = [], [], 0, 0
        for cut in [*_separators(text), (len(text), len(text))]:
            segment = text[begin : cut[0]]
            stripped = segment.strip()
            if stripped:
                start = begin + segment.index(stripped)
                segments.append(stripped)
                separators.append(text[gap:start])
                gap = start + len(stripped)
            begin = cut[1]
        return cls(tuple(segments), (*separators, text[gap:]))

    def __str__(self) -> str:
        return "".join(s for pair in zip(self.separators, (*self.segments, ""), strict=True) for s in pair)

    @property
    def subject(self) -> str:
        """The first clause, or ``""``."""
        return self.segments[0] if self.segments else ""

    @property
    def modifiers(self) -> tuple[str, ...]:
        """The clauses after the first."""
        return self.segments[1:]

    def keep(self, wanted: Sequence[bool]) -> "Prompt":
        """The prompt with only the segments for which `wanted` is true; each goes with the separator before it."""
        kept = [i for i, w in enumerate(wanted) if w]
        return Prompt(tuple(self.segments[i] for i in kept), (*(self.separators[i] for i in kept), self.separators[-1]))


def normalise(text: str) -> str:
    """One space between words, none before a comma and one after it, no empty clauses; brackets stay as typed.

    Unicode is composed (NFC) and control characters become spaces. The words themselves are left alone.
    """
    text = _CONTROL.sub(" ", unicodedata.normalize("NFC", text))
    prompt = Prompt.parse(text)
    between = [_tidy(s, before) for s, before in zip(prompt.separators[1:-1], prompt.segments, strict=False)]
    separators = [""] + between + [""] * bool(prompt.segments)
    return str(Prompt(tuple(_BLANKS.sub(" ", s) for s in prompt.segments), tuple(separators)))


def split_negative(text: str) -> tuple[str, str | None]:
    """The prompt and the negative prompt of a text as A1111 writes it; its last line, of settings, is dropped.

    >>> split_negative("a fox\\nNegative prompt: blurry, ugly\\nSteps: 20, Sampler: Euler a, Seed: 1")
    ('a fox', 'blurry, ugly')
    """
    prompt, *negative = _NEGATIVE.split(_SETTINGS.sub("", text), maxsplit=1)
    if not negative:
        return prompt, None
    return prompt.rstrip(), negative[0].strip() or None


def join_negatives(*parts: str | None) -> str | None:
    """One negative prompt of several, without those that say nothing new; None where there is nothing to say.

    >>> join_negatives("blurry, ugly", None, "Blurry", "text")
    'blurry, ugly, text'
    """
    kept, known = [], set()
    for part in parts:
        keys = {modifier_key(segment) for segment in Prompt.parse(part or "").segments}
        if not keys <= known:
            kept.append((part or "").strip(SEPARATORS))
            known |= keys
    return ", ".join(kept) or None


def modifier_key(segment: str) -> str:
    """What makes two modifiers the same: case, hyphens, emphasis, punctuation at the ends and ``by``/``and`` aside.

    >>> modifier_key("(Highly-Detailed:1.2)") == modifier_key("highly detailed!!!")
    True
    """
    key = _WEIGHT.sub("", segment.casefold().replace("-", " "))
    return " ".join(_EDGES.sub("", key).split()) or key


def count_clip_tokens(text: str) -> int:
    """Tokens of `text` in CLIP's own encoding, begin and end tokens included (an empty text has 2)."""
    return len(_clip_encoding().encode(text).ids)


@dataclass(frozen=True)
class Window:
    """How much of a prompt a generator reads, and how that is counted.

    Attributes:
        tokens: That are read, those included that the encoder sets around a text; None for any number.
        counter: What counts them, in messages and in saved settings: ``CLIP``, the name of a generator's own tokenizer
            (``T5``, ``Qwen2``), or ``estimated``: from CLIP's count, where a generator is known by its family alone.
        count: The tokens of a text.

    Examples:
        >>> Window().holds("boy on a horse"), Window().room("boy on a horse")
        (True, 71)
    """

    tokens: int | None = CLIP_WINDOW
    counter: str = "CLIP"
    count: Callable[[str], int] = field(default=count_clip_tokens, compare=False, repr=False)

    @classmethod
    def of(cls, window: "WindowLike") -> "Window":
        """The window that a number of CLIP tokens says, or what `setting` gave; a window as it is."""
        if isinstance(window, Window):
            return window
        return cls.estimated(window["tokens"]) if isinstance(window, Mapping) else cls(window)

    @classmethod
    def estimated(cls, tokens: int) -> "Window":
        """A window of so many tokens of an encoder whose tokenizer is not at hand."""
        return cls(tokens, "estimated", estimate_tokens)

    def room(self, text: str) -> int:
        """The tokens that the text leaves; below 0 where it is too long."""
        return _ANY_NUMBER if self.tokens is None else self.tokens - self.count(text)

    def holds(self, text: str) -> bool:
        """Whether all of the text is read."""
        return self.room(text) >= 0

    @property
    def setting(self) -> int | dict[str, Any] | None:
        """The window as JSON: its number of tokens, and where these are not CLIP's, also what counts them."""
        return self.tokens if self.counter == "CLIP" else {"tokens": self.tokens, "counter": self.counter}


WindowLike = Window | Mapping[str, Any] | int | None
"""A window, as who sets one may say it: also as a number of CLIP tokens, None for any number."""


def estimate_tokens(text: str) -> int:
    """About as many tokens as the tokenizer of T5 or of a language model makes of a text, and rather too many."""
    return math.ceil(_PER_CLIP_TOKEN * count_clip_tokens(text))


@cache
def clip_tokenizer():
    """CLIP's tokenizer (49,408 entries), made from its merges.

    Returns:
        `transformers.CLIPTokenizer`; truncation is left to the caller.
    """
    from transformers import CLIPTokenizer

    vocab, merges = _clip_vocabulary()
    # A text of any length is counted: the limit of 77 is the callers' business, not a warning's.
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=10**9)


@cache
def _clip_encoding():
    """What encodes for it, a `tokenizers.Tokenizer`, without `transformers`, which takes seconds to import."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    vocab, merges = _clip_vocabulary()
    begin, end = "<|startoftext|>", "<|endoftext|>"
    made = Tokenizer(models.BPE(vocab, merges, unk_token=end, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    blanks = normalizers.Replace(Regex(r"\s+"), " ")
    made.normalizer = normalizers.Sequence([normalizers.NFC(), blanks, normalizers.Lowercase()])
    words = Regex(
        rf"{re.escape(begin)}|{re.escape(end)}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+"
    )
    split = pre_tokenizers.Split(words, behavior="removed", invert=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (begin, end)])
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(token, vocab[token]) for token in (begin, end)]
    )
    return made


def _clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    lines = Path(__file__).with_name("assets").joinpath("clip-merges.txt").read_text("utf-8").split("\n")
    merges = [tuple(line.split(" ")) for line in lines if line]
    alphabet = _byte_alphabet()
    vocab = [*alphabet, *(a + "</w>" for a in alphabet), *(a + b for a, b in merges)]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(vocab)}, merges


_ANY_NUMBER = 10**9  # of tokens
# Of people's prompts of 20 CLIP tokens or more (Stable Diffusion's Discord), SmolLM2's tokenizer makes 1.15 tokens of
# each of CLIP's on the average, and 1.38 at most in 99 of 100. T5's was not there to be measured.
_PER_CLIP_TOKEN = 1.4

# --- cutting -----------------------------------------------------------------------------------------------------

_CLOSERS = {")": "(", "]": "[", "}": "{", ">": "<"}
_MARKS = r"[,;|\n、。]"
_TOKEN = re.compile(rf"\\.|[()\[\]{{}}<>]|BREAK\b|{_MARKS}|(?<!\.)\.+(?=\s|$|{_MARKS}|BREAK\b)", re.DOTALL)
# Full stops that end no clause: initials ("j. c. leyendecker") and abbreviations ("st. paul").
_ABBREVIATION = re.compile(
    r"(?:^|[\s.(])(?:\w|mr|mrs|ms|dr|st|vs|no|jr|sr|prof|ft|feat|vol|pt|nr|etc|mt)\Z", re.IGNORECASE
)
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # all but the line break, which separates
_BLANKS = re.compile(r"\s+")
_EDGES = re.compile(r"(?<!\w)[^\w\s]+|[^\w\s]+(?!\w)")  # punctuation that does not stand inside a word
_NEGATIVE = re.compile(r"^[ \t]*Negative prompt:", re.MULTILINE | re.IGNORECASE)
_SETTINGS = re.compile(r"(?:\n|\A)[ \t]*Steps: *\d+,[^\n]*\s*\Z")  # A1111's line of settings begins with the steps
_WEIGHT = re.compile(r":\s*[\d.]+(?=\s*[)\]}>]?\s*$)")


def _separators(text: str) -> list[tuple[int, int]]:
    """Spans of the separators that stand outside all (closed) brackets."""
    found, openers, closed = [], [], []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in "([{<":
            openers.append((token, match.start(), len(found)))
        elif token in _CLOSERS:
            # Forget the openers that never closed: a lone "(" or "<3" must not swallow the commas after it.
            depth = next((i for i in range(len(openers) - 1, -1, -1) if openers[i][0] == _CLOSERS[token]), None)
            if depth is not None:
                closed.append((openers[depth][1], openers[depth][2]))
                del found[openers[depth][2] :]
                del openers[depth:]
        elif token[0] == "\\" or (
            token == "." and _ABBREVIATION.search(text[max(0, match.start() - 8) : match.start()])
        ):
            continue
        elif token == "BREAK" and match.start() and text[match.start() - 1].isalnum():
            continue
        else:
            found.append(match.span())
    return found


def _tidy(separator: str, before: str) -> str:
    core = separator.strip(" \t\r\n")
    if "BREAK" in core:
        return " BREAK "
    if "|" in core:
        return " | "
    if core[:1] in {",", ";"} or (core[:1] == "." and not before.endswith(".")):
        return core[0] + " "
    return ", "


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in the order of CLIP's vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
