"""What of a prompt must be in its retelling, and how it is written there: the words that the user keeps.

A policy that retells a prompt writes prose of its own. `lock` reads the prompt before: `Locked.asked` is the prompt as
language, which the policy is asked about; `Locked.clauses` are the words that its answer must have, in some inflection;
and `Locked.restore` sets back what prose cannot hold, as the user typed it.

- **No language:** `<lora:film:0.7>`, `embedding:name`, `--ar 16:9`. Not asked about; set back at the start if that is
  where it was, at the end otherwise.
- **Notation around words:** `(red hat:1.3)`, `((red))`, `[red]`, `[cat:dog:0.5]`, `[cat|dog]`, `\\(red\\)`. The words
  are asked about (what an edit ends with, the first of alternatives), stand together in the answer, and are written
  there as typed. A list in brackets is one notation for each of its parts.
- **Quoted text, `<names>`, names_with_underscores, and what the user names (`keep`):** to the letter.
- **`BREAK`:** asked as a comma; set back before the clause that has the first word which only the part after it has,
  and at the end where the retelling goes another way. `AND` between prompts is asked as "and", and stays that.
- **Content words:** all but articles, prepositions, pronouns, auxiliaries, conjunctions and courtesy ("please draw me a
  picture of"). Names stand together, numbers are digits or words, and what is denied stays denied ("without people").

Inflections are those of `lemminflect`'s dictionary, in the reading that prompts mean: "building" is no form of "build".
A word that it doesn't know, one of another language say, is kept in the form that it has.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import NamedTuple

from neuroprompt.decoding.constraints import (
    MARK,
    MAX_CLAUSES,
    WORD,
    Constraints,
    char_class,
    check,
    fold_phrase,
    occurrences,
)


@dataclass(frozen=True)
class Notation:
    """A part of the prompt that is written as it was typed.

    Attributes:
        typed: As the user typed it: "(red hat:1.3)".
        shown: As language: "red hat"; "" where it is none.
        spellings: How an answer may write it, one of which `typed` has or is; none where it is no language.
        in_front: Nothing but tags stood before it, and it is one.
    """

    typed: str
    shown: str = ""
    spellings: tuple[str, ...] = ()
    in_front: bool = False


@dataclass(frozen=True)
class Locked:
    """What of a prompt its retelling keeps.

    Attributes:
        asked: The prompt as language, on one line; "" where it has none.
        clauses: For `Constraints(require=clauses, anywhere=True)`; the phrases of one are alternatives. `asked` meets
            them all.
        notations: What is set back, in the order of the prompt.
        leads: Of each part after a `BREAK`, the first clause that no part before it has; () if there is none.
        left_out: Clauses beyond the 62 that there may be, the last of the prompt: they are asked, but not locked.
    """

    asked: str
    clauses: tuple[tuple[str, ...], ...] = ()
    notations: tuple[Notation, ...] = ()
    leads: tuple[tuple[str, ...], ...] = ()
    left_out: tuple[tuple[str, ...], ...] = ()

    @property
    def verbatim(self) -> tuple[str, ...]:
        """What a restored text holds to the letter."""
        return tuple(notation.typed for notation in self.notations)

    def restore(self, text: str) -> str:
        """`text` with every notation as the user typed it. What is there already stays, so that a text can be restored
        twice; what has no place goes to the end."""
        breaks = self.leads[len(_BREAK.findall(text)) :]
        wanted = Counter(self.notations)
        there = {notation: [*_exactly(notation.typed, text)] for notation in wanted}
        if not breaks and all(len(there[notation]) >= wanted[notation] for notation in wanted):
            return text.strip()
        taken = bytearray(len(text))
        for notation in sorted(wanted, key=lambda notation: -len(notation.typed)):  # a longer one may have others in it
            wanted[notation] -= len(_take(wanted[notation], there[notation], taken))
        edits, front, end = [], [], []
        for notation, count in wanted.items():
            spelled = (place for spelling in notation.spellings if count for place in occurrences(text, spelling))
            places = _take(count, sorted(spelled), taken)
            edits += [(*place, notation.typed) for place in places]
            (front if notation.in_front else end).extend([notation.typed] * (count - len(places)))
        after = 0
        for lead in breaks:
            word = min((start for phrase in lead for start, _ in occurrences(text, phrase)), default=0)
            begins = [match.end() for match in _CLAUSE_END.finditer(text, after, word) if not taken[match.end() - 1]]
            if begins:
                after = begins[-1]
                edits.append((after, after, "BREAK "))
            else:
                end.append("BREAK")
        for start, stop, typed in sorted(edits, reverse=True):
            text = text[:start] + typed + text[stop:]
        return " ".join(piece for piece in (*front, text.strip(), *end) if piece)


def lock(prompt: str, keep: Sequence[str] = (), keep_words: bool = True) -> Locked:
    """What of `prompt` must be in a retelling of it.

    Args:
        prompt: Any text, in A1111's or ComfyUI's notation where it has one.
        keep: Phrases that stay to the letter; one that the prompt has not is asked for behind it.
        keep_words: Also every content word, in that form or an inflection of it.

    Examples:
        >>> locked = lock('two (red:1.3) foxes, <lora:film:0.7>, a sign "OPEN"')
        >>> locked.asked
        'two red foxes, a sign "OPEN"'
        >>> locked.restore('Under a sign that says “open”, 2 foxes, red as rust, are asleep.')
        'Under a sign that says "OPEN", 2 foxes, (red:1.3) as rust, are asleep. <lora:film:0.7>'
    """
    reader = _Reader()
    text = reader.read(_clean(prompt))
    for phrase in keep:
        text = reader.keep(text, _clean(phrase))
    parts = [_spaced(reader.language(part)) for part in _BREAK.split(text)]
    asked = reader.shown(", ".join(part for part in parts if part))

    read = [[*filter(None, map(_phrases, _clauses(part, reader.here)))] for part in parts]
    possible = _met(asked, dict.fromkeys(clause for clauses in read for clause in clauses))
    found: dict[tuple[str, ...], None] = {}  # in order
    leads = []
    for clauses in read:
        new = [clause for clause in clauses if clause in possible and clause not in found]
        leads.append(new[0] if new else ())
        found |= dict.fromkeys(new)
    first = {_phrases(notation.spellings) for notation in reader.here.values()}
    ranked = sorted((c for c in found if keep_words or c in first), key=lambda clause: clause not in first)
    return Locked(
        asked, tuple(ranked[:MAX_CLAUSES]), reader.notations(text), tuple(leads[1:]), tuple(ranked[MAX_CLAUSES:])
    )


def in_other_script(prompt: str, answer: str) -> bool:
    """Whether `answer` is written in another script than `prompt`: most of its letters are of one that hardly any of
    the prompt's is. Han, kana and Hangul count as one."""
    asked, given = _scripts(prompt), _scripts(answer)
    if not asked or not given:
        return False
    most = max(set(given), key=given.count)
    return asked.count(most) < len(asked) / 4


# --- notation ----------------------------------------------------------------------------------------------------

_BREAK = re.compile(r"(?<![^\W_])BREAK\b")
_CLAUSE_END = re.compile(r"[.!?;,]\s+")
_FIRST, _LAST = 0xF0000, 0xFFFFD  # a plane for private use, whose characters stand for notations while a text is read
_PRIVATE = re.compile(f"[{chr(_FIRST)}-{chr(_LAST)}]")
_NO_TEXT = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_TAG = re.compile(
    r"<[a-z]\w*:[^<>\n]+>"  # <lora:film:0.7>, <hypernet:…>, <lyco:…>
    r"|\bembedding:[\w.\-/]*\w(?::[\d.]+)?"
    r"|(?<!\S)--[a-z]+[ =][\d.]+(?::[\d.]+)?(?!\S)"  # Midjourney's --ar 16:9
)
_NAME = re.compile(r"<[\w\-]+>|(?<![\w\-])(?=[\w\-]*[^\W_]_[^\W_])[\w\-]+")
_ESCAPED = re.compile(r"\\\(([^()\\\n]+)\\\)")
_QUOTES = ('""', "“”", "''", "‘’", "«»", "„“", "「」", "『』")
_QUOTED = re.compile(
    r'(?<!\w)"(?=\S)[^"\n]+(?<=\S)"|“[^“”\n]+”|„[^„“\n]+“|«[^«»\n]+»|「[^「」]+」|『[^『』]+』'
    # An apostrophe ends nothing within a word: "the words 'don't panic'".
    r"|(?<!\w)'(?=\w)(?:[^'\n]|(?<=\w)'(?=\w))+(?<=\S)'(?!\w)|(?<!\w)‘(?=\S)(?:[^‘’\n]|(?<=\w)’(?=\w))+’(?!\w)"
)
_GROUP = re.compile(r"\(([^()\[\]{}]+)\)|\[([^()\[\]{}]+)\]|\{([^()\[\]{}]+)\}")
_WEIGHT = re.compile(r"\s*:\s*-?[\d.]+\s*\Z")
_COMPOSED = re.compile(r"(?:\s*:[\d.]+)?\s+AND\s+(?=\S)")
_DEPTH = 20  # brackets within brackets; what is deeper stays as it is


class _Reader:
    """Puts a character for private use where a notation stands, so that what is read on is language."""

    def __init__(self):
        self.here: dict[str, Notation] = {}

    def read(self, text: str) -> str:
        """`text` with characters of `here` for its notations."""
        if (whole := _QUOTED.fullmatch(text.strip())) and len(whole[0].split()) > 3:
            text = whole[0][1:-1]  # quotes around all of it are a shell's or a file's
        text = _TAG.sub(lambda m: self._put(m[0]), text)
        text = _QUOTED.sub(lambda m: self._put(m[0], m[0], [a + m[0][1:-1] + b for a, b in _QUOTES]), text)
        text = _NAME.sub(lambda m: self._put(m[0], m[0]), text)
        text = _ESCAPED.sub(lambda m: self._put(m[0], f"({m[1]})"), text)
        for _ in range(_DEPTH):
            text, groups = _GROUP.subn(self._group, text)
            if not groups:
                break
        return text if text == text.upper() else _COMPOSED.sub(" and ", text)

    def keep(self, text: str, phrase: str) -> str:
        """`text` in which `phrase` stays to the letter."""
        typed, inner = phrase.strip(), _Reader()
        shown = _spaced(inner.shown(inner.language(inner.read(phrase))))
        if not typed or any(typed in self.here[char].typed for char in text if char in self.here):
            return text
        if not fold_phrase(shown):
            return text + self._put(typed)
        places = list(occurrences(text, shown))
        for start, stop in reversed(places):
            text = text[:start] + self._put(typed, shown) + text[stop:]
        return text if places else f"{text}, {self._put(typed, shown)}"

    def language(self, text: str) -> str:
        """`text` without what is no language."""
        return _PRIVATE.sub(lambda m: m[0] if self.here[m[0]].shown else "", text)

    def shown(self, text: str) -> str:
        """`text` as it is asked."""
        return _PRIVATE.sub(lambda m: self.here[m[0]].shown, text)

    def notations(self, text: str) -> tuple[Notation, ...]:
        """Those of `text`, in its order."""
        found, in_front = [], True
        for char in text:
            notation = self.here.get(char)
            in_front = in_front and (char in " ,\n" if notation is None else not notation.shown)
            if notation:
                found.append(replace(notation, in_front=in_front))
        return tuple(found)

    def _group(self, match: re.Match) -> str:
        text, opening, closing = match[0][1:-1], match[0][0], match[0][-1]
        if "|" in text and opening != "(":
            chosen = next((part for part in text.split("|") if part.strip()), "")
            return self._put(match[0], _WEIGHT.sub("", chosen))
        weight = m[0] if (m := _WEIGHT.search(text)) else ""
        text = text.removesuffix(weight)
        if opening == "[" and weight:
            return self._put(match[0], next((part for part in reversed(text.split(":")) if part.strip()), ""))
        return ",".join(
            part.replace(part.strip(), self._put(opening + part.strip() + weight + closing, part))
            if part.strip()
            else part
            for part in text.split(",")
        )

    def _put(self, typed: str, shown: str = "", spellings: Sequence[str] = ()) -> str:
        inner = self.here.get(shown.strip())
        shown = self.shown(shown).strip()
        shown = shown if fold_phrase(shown) else ""
        if len(self.here) > _LAST - _FIRST:
            return shown
        typed = _PRIVATE.sub(lambda m: self.here[m[0]].typed, typed)
        char = chr(_FIRST + len(self.here))
        spellings = tuple(spellings) or (inner.spellings if inner else (shown,) if shown else ())
        if spellings and not any(_has(typed, spelling) for spelling in spellings):  # "\\(red\\)"
            spellings = (*spellings, typed)
        self.here[char] = Notation(typed, shown, spellings)
        return char


def _clean(text: str) -> str:
    """`text` without what no answer can hold."""
    return _CONTROL.sub(" ", _PRIVATE.sub("", _NO_TEXT.sub("", text)))


def _spaced(text: str) -> str:
    """`text` on one line, one blank between words and after a comma, without empty clauses."""
    text = re.sub(r"(?<![\s.,;:!?]) *\n|\s*\|", ", ", unicodedata.normalize("NFC", text.strip()))
    text = re.sub(r" ?,(?: ?,)*", ",", re.sub(r"\s+", " ", text))
    return re.sub(r",(?=[^\s\d])|(?<!\d),(?=\d)", ", ", text).strip(" ,;")


def _exactly(typed: str, text: str) -> Iterator[tuple[int, int]]:
    """Where `text` has `typed`, to the letter, and not within a word."""
    for start, stop in (match.span() for match in re.finditer(re.escape(typed), text)):
        edges = text[max(start - 1, 0) : start + 1], text[stop - 1 : stop + 1]
        if not any(len(edge) == 2 and set(map(char_class, edge)) == {WORD} for edge in edges):
            yield start, stop


def _take(count: int, places: Iterable[tuple[int, int]], taken: bytearray) -> list[tuple[int, int]]:
    """The first `count` of `places` of which no character is `taken`; then theirs are."""
    found = []
    for start, stop in places:
        if len(found) < count and not any(taken[start:stop]):
            taken[start:stop] = b"\1" * (stop - start)
            found.append((start, stop))
    return found


def _phrases(spellings: Iterable[str]) -> tuple[str, ...]:
    """Phrases as constraints can have them: none is empty, begins with a combining mark, or has a bar in it."""
    phrases = []
    for spelling in spellings:
        phrase = max((part.strip() for part in spelling.split("|")), key=len)
        while phrase and char_class(fold_phrase(phrase)[:1] or "a") == MARK:
            phrase = phrase[1:].strip()
        if fold_phrase(phrase):
            phrases.append(phrase)
    return tuple(dict.fromkeys(phrases))


def _clauses(part: str, here: Mapping[str, Notation]) -> Iterator[Sequence[str]]:
    """Of the notations of `part`, then of its words."""
    yield from (here[char].spellings for char in part if char in here)
    yield from _Part(part, here).clauses()


def _met(text: str, clauses: Iterable[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Those of `clauses` that `text` meets: not those of a word that a notation cuts off, as in "(cat)s"."""
    clauses = list(clauses)
    blocks = [clauses[begin : begin + MAX_CLAUSES] for begin in range(0, len(clauses), MAX_CLAUSES)]
    found = ((block, check(text, Constraints(require=block)).matches) for block in blocks)
    return {clause for block, matches in found for clause, match in zip(block, matches, strict=True) if match}


def _has(text: str, phrase: str) -> bool:
    return next(occurrences(text, phrase), None) is not None


def _scripts(text: str) -> list[str]:
    """The script of each letter."""
    names = (unicodedata.name(unicodedata.normalize("NFKC", char)[0], "").split() for char in text if char.isalpha())
    return ["CJK" if name[0] in _EAST_ASIAN else name[0] for name in names if name]


_EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL"}

# --- words -------------------------------------------------------------------------------------------------------

_STOPS = frozenset(
    """a an the this that these those some any each every either other another such own same all
    i me my mine myself we us our ours ourselves you your yours yourself he him his himself she her hers herself it its
    itself they them their theirs themselves one ones who whom whose which what someone something everyone everything
    be am is are was were been being have has had having do does did doing done will would shall should may might must
    could can let lets
    and or but nor so yet if because since unless although though while whereas as than then when where why how whether
    about above across after against along alongside amid amidst among amongst around at atop before behind below
    beneath beside besides between beyond by despite down during except for from in inside into like near next of off
    on onto opposite out outside over past per through throughout till to toward towards under underneath until unto up
    upon via with within
    there here just also too very really quite rather most much please""".split()
)
_FOREIGN_STOPS = {
    "de": """der die das den dem des ein eine einen einem einer eines und oder aber mit von vom zu zum zur im in am an
    auf aus bei beim bis durch für gegen hinter neben über um unter vor zwischen ist sind war wird werden hat haben sich
    er sie es ihr ihre ihrem ihren sein seine seinem seinen welcher als wie während wo bitte mir""",
    "fr": """le la les l un une des du de d et ou mais avec dans sur sous par pour vers chez entre derrière devant à au
    aux en est sont était qui que son sa ses leur leurs ce cette ces il elle ils elles se s comme""",
    "es": """el la los las un una unos unas y e o u pero con de del en sobre bajo por para entre hacia desde detrás a al
    es son está están que su sus este esta se como""",
    "it": """il lo la i gli le l un uno una e o ma con di d del dello della dei degli delle in nel nella nei su sul
    sulla sotto per tra fra da dal dalla a al alla è sono che suo sua si come""",
    "pt": """o a os as um uma uns umas e ou mas com de do da dos das em no na nos nas sobre sob por para entre é são
    está que seu sua se como""",
    "nl": "de het een en of maar met van in op onder boven bij voor achter naast tussen door naar uit aan is zijn die",
    "ru": "и или но а в во на над под за перед у к ко с со из от до по для о об при между он она оно они это его её их",
}
_NOTS = frozenset("without no not never cannot".split())
_FOREIGN_NOTS = {
    "de": "ohne kein keine keinen keinem keiner nicht nie",
    "fr": "sans pas jamais",
    "es": "sin no nunca",
    "it": "senza non mai",
    "pt": "sem não nunca",
    "nl": "zonder geen niet",
    "ru": "без не нет",
}
_DETERMINERS = frozenset("a an the any its his her their my your our some".split())
_CONTRACTED = frozenset("s m d t re ve ll".split())
_SAYS_NOTHING = re.compile(
    r"\A(?:please |can you |could you |i want |i would like |i'd like |i need )*(?:(?:to )?"
    r"(?:draw|create|make|generate|show|give|imagine|render|produce)\b(?= (?:me|us|an?|the|some|\d)\b)(?: me| us)?)?"
    r"(?: ?(?:(?:an?|the) )?(?:picture|image|pic) of\b)?"
    r"|\b(?:in front of|because of|instead of|such as|as well as|in the style of)\b",
    re.IGNORECASE,
)
_QUOTES_FOLLOW = frozenset("says say saying reads read reading".split())  # which an answer may say otherwise
_FIXED = frozenset(  # words whose other forms mean something else
    """arms bar best better born customs evening glass glasses goods grounds least left less lit looks morning pants
    people right shorts spectacles woods worn""".split()
)
_THINGS = frozenset(  # words that are a thing first, though verbs have them, too
    """bedding being building ceiling clothing covering cutting drawing dressing drink dwelling earring engraving
    etching feeling filling flooring fly frosting housing icing king lay lettering lighting lightning living look
    meaning offering opening packaging painting ping railing recording recycling rendering ring scaffolding seating
    show sibling spring stand string stuffing swing topping warning wedding wing wiring wrapping""".split()
)
_DOINGS = frozenset(  # nouns that say what the verb says
    """approach attack bite catch chase cheer climb crash cry cuddle dance dive dream drink drive embrace fall fight
    float fly gallop gaze glide glow grin grip hold hug hunt jog jump kick kiss laugh lay lean leap lie look melt nap
    peek play pose push pull read ride roar run scream shine shout show sleep smile sneeze sniff sprint stand stare
    stroll surf swim swoop talk throw wait walk wear whisper yawn""".split()
)
_UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen""".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBERS = [*_UNITS, *(f"{ten}-{unit}".removesuffix("-zero") for ten in _TENS for unit in _UNITS[:10])]  # 0 to 99
_TOKEN = re.compile(r"x|[wd][wdm]*(?:(?:j|(?<=d)p(?=d)|/(?=d))[wd][wdm]*)*|e[em]*")


class _Token(NamedTuple):
    text: str
    start: int
    end: int
    kind: str  # of its first character: "x" a notation, "e" an emoji, "w" a letter, "d" a digit

    @property
    def key(self) -> str:
        return self.text.casefold().replace("’", "'")

    @property
    def capital(self) -> bool:
        return self.text[0].isupper()


class _Part:
    """A part of a prompt as words: language, with characters of `here` for its notations."""

    def __init__(self, text: str, here: Mapping[str, Notation]):
        self.text, self.here = text, here
        shape = "".join(map(_shape, text))
        self.tokens = [_Token(text[m.start() : m.end()], *m.span(), m[0][0]) for m in _TOKEN.finditer(shape)]
        self.silent = {
            place
            for match in _SAYS_NOTHING.finditer(text)
            for place, token in enumerate(self.tokens)
            if match.start() <= token.start < match.end()
        }
        self.stops, self.nots = _STOPS, _NOTS
        keys = {token.key.partition("'")[0] for token in self.tokens if not token.capital}  # of "Los Angeles" none
        language = max(_FOREIGN_STOPS, key=lambda name: len(keys & frozenset.union(*_foreign(name))))
        stops, nots = _foreign(language)
        if len(keys & (stops | nots)) > len(keys & (_STOPS | _NOTS)):
            self.stops, self.nots = _STOPS | stops, nots | (_NOTS - stops)
        words = [token for token in self.tokens if token.kind == "w" and token.key not in self.stops]
        small = any(token.key in self.stops and not token.capital for token in self.tokens)
        # A capital says nothing where nearly all words have one, "Of" and "The" as well.
        self.titled = not small and len(words) > 3 and sum(token.capital for token in words) > 0.8 * len(words)

    def clauses(self) -> Iterator[tuple[str, ...]]:
        """One for each content word, name and denial."""
        place = 0
        while place < len(self.tokens):
            token = self.tokens[place]
            if token.key in self.nots or token.key.endswith("n't"):
                clauses, place = self._denied(place)
                yield from clauses
                continue
            last = self._end_of_name(place)
            if last > place:
                yield (_bare(self.text[token.start : self.tokens[last].end]),)
            elif word := self._content(place):
                named = token.capital and not self.titled and not self._begins_sentence(token)
                yield (word,) if named and word.isalpha() else _forms(word)
            place = last + 1

    def _content(self, place: int) -> str:
        """What is to be kept of a word; "" if it says nothing."""
        token = self.tokens[place]
        before, after = self._key(place - 1), self._key(place + 1)
        if token.kind == "x" or place in self.silent:
            return ""
        if token.key in _QUOTES_FOLLOW and (notation := self.here.get(after)) and notation.typed[0] in "\"'“‘«„「『":
            return ""
        if token.key in _CONTRACTED and self.text[token.start - 1 : token.start] in ("'", "’"):
            return ""
        if token.key == "can" and (before in _DETERMINERS or after == "of"):
            return token.text
        if token.key == "one":
            counts = place + 1 < len(self.tokens) and after not in self.stops and self._joined(place + 1)
            return token.text if counts else ""
        if token.text.isupper() and len(token.text) > 1 and not self.text.isupper():  # "US", "IT"
            return token.text
        head, _, tail = token.text.replace("’", "'").partition("'")
        if head.casefold() not in self.stops:
            return token.text
        return "" if tail.casefold() in self.stops | _CONTRACTED else tail  # "it's"; "d'un", "d'hiver"

    def _end_of_name(self, place: int) -> int:
        """The last place of the name that begins here: words with capitals, a blank between them."""
        first = self.tokens[place]
        if self.titled or not first.capital or (first.key in self.stops and first.key not in ("will", "may")):
            return place
        while place + 1 < len(self.tokens) and self._joined(place + 1):
            after = self.tokens[place + 1]
            if not after.capital or after.key in self.stops:
                break
            place += 1
        return place

    def _denied(self, place: int) -> tuple[list[tuple[str, ...]], int]:
        """The clauses of the denial that begins at `place`, and the place after it: one for what is denied, up to a
        word that says nothing (but for "of"), and one for what follows it after "or"."""
        word, begin = self.tokens[place].key, self.tokens[place].start
        first, last = self._object(place + 1)
        if last < first:
            return [(self.tokens[place].text,)], place + 1
        nots = ("without", "no") if word in ("without", "no") else ("not", "never")
        known = _denials(nots, self._words(first, last)) if word in _NOTS or "'" in word else ()
        clauses = [(self._between(begin, last), *known)]
        place = last + 1
        while self._key(place) in ("or", "nor"):
            first, last = self._object(place + 1)
            if last < first:
                break
            spelled = _denials(("or", "nor", *nots), self._words(first, last))
            clauses.append((self._between(self.tokens[place].start, last), *spelled))
            place = last + 1
        return clauses, place

    def _object(self, place: int) -> tuple[int, int]:
        """The first and the last place of what a denial at the place before denies; none if the last is before it."""
        while self._key(place) in _DETERMINERS and self._joined(place):
            place += 1
        first, last = place, place - 1
        while place < len(self.tokens) and self._joined(place) and place - first < 5:
            token = self.tokens[place]
            if token.key in self.stops and not (last >= first and (token.key == "of" or self._key(place - 1) == "of")):
                break
            if token.kind not in "wd" or (last >= first and token.key.endswith("ing")):
                break
            if token.key not in self.stops:
                last = place
            place += 1
        return first, last

    def _between(self, start: int, last: int) -> str:
        return self.text[start : self.tokens[last].end]

    def _words(self, first: int, last: int) -> str:
        return self._between(self.tokens[first].start, last)

    def _key(self, place: int) -> str:
        return self.tokens[place].key if 0 <= place < len(self.tokens) else ""

    def _joined(self, place: int) -> bool:
        """Whether blanks alone stand before the word."""
        return place < len(self.tokens) and self.text[self.tokens[place - 1].end : self.tokens[place].start].isspace()

    def _begins_sentence(self, token: _Token) -> bool:
        before = self.text[: token.start].rstrip(" \"'“«(")
        return not before or before[-1] in ".!?:"


def _shape(char: str) -> str:
    """One letter for what a character is to a word."""
    if _PRIVATE.match(char):
        return "x"
    if char in "-'’‑.&":
        return "j"
    if char in ",:/":
        return "/" if char == "/" else "p"
    if char.isdecimal():
        return "d"
    category = unicodedata.category(char)
    if category[0] == "M":
        return "m"
    if char.isalnum():
        return "w"
    return "e" if category == "So" or char == "\u200d" or "\U0001f3fb" <= char <= "\U0001f3ff" else " "


@cache
def _foreign(language: str) -> tuple[frozenset[str], frozenset[str]]:
    """The words of a language that say nothing, and those that deny."""
    return frozenset(_FOREIGN_STOPS[language].split()), frozenset(_FOREIGN_NOTS[language].split())


def _denials(nots: Sequence[str], words: str) -> Iterator[str]:
    """Every way to deny `words` with one of `nots`."""
    for form in [words] if " of " in words else _forms_of_last(words):
        yield from (f"{word} {form}" for word in nots)
        if "without" in nots:
            yield f"without any {form}"
            if not form.endswith("s"):
                yield f"without {'an' if form[0].lower() in 'aeiou' else 'a'} {form}"


def _bare(word: str) -> str:
    """Without the ending of a possessive."""
    return re.sub(r"['’]s?\Z", "", word) or word


def _forms_of_last(words: str) -> tuple[str, ...]:
    """`words` in the forms of the last of them."""
    head, last = re.fullmatch(r"(.*[\s\-])?(.*)", words, re.DOTALL).groups()
    return tuple((head or "") + form for form in _forms(last))


@lru_cache(maxsize=1 << 14)
def _forms(word: str) -> tuple[str, ...]:
    """`word`, first, and what may stand for it."""
    word = _bare(word)
    key = word.lower()
    if key == "one":
        return (word, "1", "single")
    if key in _NUMBERS:
        return (*_hyphens(word), str(_NUMBERS.index(key)))
    if re.fullmatch(r"[1-9]?[0-9]", word):
        return (word, *_hyphens(_NUMBERS[int(word)]))
    if "-" in word.strip("-"):
        return tuple(spelled for form in _forms_of_last(word) for spelled in _hyphens(form))
    if "'" in word or "’" in word:
        return tuple(dict.fromkeys((word, word.replace("'", "’"), word.replace("’", "'"))))
    return (word, *(form for form in dict.fromkeys(_inflections(key)) if form != key))


def _hyphens(word: str) -> tuple[str, ...]:
    """`word`, and with blanks for its hyphens."""
    return tuple(dict.fromkeys((word, word.replace("-", " "))))


def _inflections(word: str) -> Iterator[str]:
    """The forms of an English word in the reading that a prompt means: a thing rather than what is done ("a watch"),
    what is done rather than a thing where it ends in -ing ("running"), and of what has been done no other form."""
    import lemminflect

    lemmas = lemminflect.getAllLemmas(word) if word.isascii() and word not in _FIXED else {}
    nouns, verbs = lemmas.get("NOUN", ()), lemmas.get("VERB", ())
    doing = word.endswith("ing") and word not in _THINGS and verbs and word not in verbs
    if not doing and {"ADJ", "ADV"} & lemmas.keys():
        return
    if nouns and not doing:
        # "leaves" are of a leaf, not of a leave; "glasses" are their own.
        noun = word if word in nouns else nouns[-1]
        yield from _paradigm(noun, "NOUN")
        if noun not in _DOINGS - _THINGS:
            return
        verbs = (noun,)
    for verb in verbs:
        tags = lemminflect.getAllInflections(verb, upos="VERB")
        done = tags.get("VBN", tags.get("VBD", ()))
        forms = done + tags.get("VBD", ()) if word in done else _paradigm(verb, "VERB")
        yield from (form for form in forms if not _is_thing(form))


def _is_thing(form: str) -> bool:
    import lemminflect

    nouns = lemminflect.getAllLemmas(form, upos="NOUN").get("NOUN", ())
    return any(form in _THINGS or (noun not in _DOINGS and not noun.endswith("ing")) for noun in nouns)


def _paradigm(lemma: str, kind: str) -> tuple[str, ...]:
    import lemminflect

    tags = lemminflect.getAllInflections(lemma, upos=kind)
    return (lemma, *(form for forms in tags.values() for form in forms))
