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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import lemminflect

from neuroprompt.decoding.constraints import MARK, MAX_CLAUSES, char_class, fold_phrase, occurrences
from neuroprompt.prompts import normalise


@dataclass(frozen=True)
class Notation:
    """A part of the prompt that is written as it was typed.

    Attributes:
        typed: As the user typed it: "(red hat:1.3)".
        shown: As language: "red hat"; "" where it is none.
        spellings: How an answer may write it; none where it is no language.
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
        taken: list[tuple[int, int]] = []
        longest = sorted(self.notations, key=lambda notation: -len(notation.typed))  # which may have others in it
        there = [notation for notation in longest if _take(_exactly(notation.typed, text), taken)]
        missing = list((Counter(self.notations) - Counter(there)).elements())
        edits, front, end = [], [], []
        for notation in missing:
            places = sorted(place for spelling in notation.spellings for place in occurrences(text, spelling))
            if place := _take(places, taken):
                edits.append((*place, notation.typed))
            else:
                (front if notation.in_front else end).append(notation.typed)
        after = 0
        for lead in self.leads[len(_BREAK.findall(text)) :]:
            word = min((start for phrase in lead for start, _ in occurrences(text, phrase)), default=0)
            begins = [match.end() for match in _CLAUSE_END.finditer(text, after, word)]
            begins = [begin for begin in begins if not any(start < begin < stop for start, stop in taken)]
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
    parts = [normalise(reader.language(part)) for part in _BREAK.split(text)]
    asked = reader.shown(", ".join(part for part in parts if part))

    found: dict[tuple[str, ...], None] = {}  # in order
    leads = []
    for part in parts:
        clauses = [_phrases(reader.here[char].spellings) for char in part if char in reader.here]
        clauses += map(_phrases, _word_clauses(part)) if keep_words else []
        clauses = [clause for clause in clauses if any(_has(asked, phrase) for phrase in clause)]
        leads.append(next((clause for clause in clauses if clause not in found), ()))
        found |= dict.fromkeys(clauses)
    first = {_phrases(notation.spellings) for notation in reader.here.values()}
    ranked = sorted(found, key=lambda clause: clause not in first)
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
    r"|\bembedding:[\w.\-/]*\w"
    r"|(?<!\S)--[a-z]+[ =][\d.]+(?::[\d.]+)?(?!\S)"  # Midjourney's --ar 16:9
)
_NAME = re.compile(r"<[\w\-]+>|(?<![\w\-])[^\W_][\w\-]*_[\w\-]*[^\W_](?![\w\-])")
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
        shown = normalise(inner.shown(inner.language(inner.read(phrase))))
        if not typed or any(typed in self.here[char].typed for char in text if char in self.here):
            return text
        if not shown:
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
        if len(self.here) > _LAST - _FIRST:
            return shown
        typed = _PRIVATE.sub(lambda m: self.here[m[0]].typed, typed)
        char = chr(_FIRST + len(self.here))
        spellings = tuple(spellings) or (inner.spellings if inner else (shown,) if shown else ())
        self.here[char] = Notation(typed, shown, spellings)
        return char


def _clean(text: str) -> str:
    """`text` without what no answer can hold."""
    return _CONTROL.sub(" ", _PRIVATE.sub("", _NO_TEXT.sub("", text)))


def _exactly(typed: str, text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in re.finditer(re.escape(typed), text))


def _take(places: Iterable[tuple[int, int]], taken: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The first of `places` that overlaps none of `taken`, which it is put to."""
    free = (p for p in places if not any(p[0] < stop and start < p[1] for start, stop in taken))
    if place := next(free, None):
        taken.append(place)
    return place


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


def _has(text: str, phrase: str) -> bool:
    return next(occurrences(text, phrase), None) is not None


def _scripts(text: str) -> list[str]:
    """The script of each letter."""
    names = (unicodedata.name(unicodedata.normalize("NFKC", char)[0], "").split() for char in text if char.isalpha())
    return ["CJK" if name[0] in _EAST_ASIAN else name[0] for name in names if name]


_EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL"}

# --- words -------------------------------------------------------------------------------------------------------

_STOP = frozenset(
    """a an the this that these those some any each every either other another such own same
    i me my mine myself we us our ours ourselves you your yours yourself he him his himself she her hers herself it its
    itself they them their theirs themselves one ones who whom whose which what someone something everyone everything
    be am is are was were been being have has had having do does did doing done will would shall should may might must
    could can cannot let lets
    and or but nor so yet if because since unless although though while whereas as than then when where why how whether
    about above across after against along alongside amid amidst among amongst around at atop before behind below
    beneath beside besides between beyond by despite down during except for from in inside into like near next of off
    on onto opposite out outside over past per through throughout till to toward towards under underneath until unto up
    upon via with within
    there here just also too very really quite rather please""".split()
)
_FOREIGN_STOPS = {
    "de": """der die das den dem des ein eine einen einem einer eines und oder aber mit von vom zu zum zur im in am an
    auf aus bei beim bis durch für gegen hinter neben über um unter vor zwischen ist sind war wird werden hat haben sich
    er sie es ihr ihre ihrem ihren sein seine seinem seinen der welcher als wie während wo bitte mir""",
    "fr": """le la les l un une des du de d et ou mais avec dans sur sous par pour vers chez entre derrière devant à au
    aux en est sont était qui que son sa ses leur leurs ce cette ces il elle ils elles se s comme""",
    "es": """el la los las un una unos unas y e o u pero con de del en sobre bajo por para entre hacia desde detrás a al
    es son está están que su sus este esta se como""",
    "it": """il lo la i gli le un uno una e o ma con di del dello della dei degli delle in nel nella nei su sul sulla
    sotto per tra fra da dal dalla a al alla è sono che suo sua si come""",
    "pt": """o a os as um uma uns umas e ou mas com de do da dos das em no na nos nas sobre sob por para entre é são
    está que seu sua se como""",
    "nl": "de het een en of maar met van in op onder boven bij voor achter naast tussen door naar uit aan is zijn die",
    "ru": "и или но а в во на над под за перед у к ко с со из от до по для о об при между он она оно они это его её их",
}
_NOT = frozenset("without no not never".split())
_FOREIGN_NOT = frozenset(
    "ohne kein keine keinen keinem keiner nicht sans pas sin non senza sem não zonder geen без не".split()
)
_DETERMINERS = frozenset("a an the any its his her their my your our some more".split())
_SAYS_NOTHING = re.compile(
    r"\A(?:please |can you |could you |i want |i would like |i'd like |i need )*(?:(?:to )?"
    r"(?:draw|create|make|generate|show|give|imagine|render|produce)\b(?= (?:me|us|an?|the|some|\d)\b)(?: me| us)?)?"
    r"(?: ?(?:(?:an?|the) )?(?:picture|image|pic) of\b)?"
    r"|\b(?:in front of|because of|instead of|such as|as well as|in the style of)\b",
    re.IGNORECASE,
)
_FIXED = frozenset(  # whose other forms mean something else
    """glasses sunglasses woods goods looks pants shorts people evening morning left right better best more most less
    spectacles arms customs grounds lit born worn""".split()
)
_LEMMAS = {"leaves": "leaf", "axes": "axe", "dice": "dice", "knives": "knife", "wolves": "wolf", "lives": "life"}
_THINGS = frozenset(  # of words that a verb has, too: a thing first
    """being bedding building ceiling clothing covering crossing cutting dwelling drawing dressing earring engraving
    etching feeling filling flooring fly frosting heading housing icing king landing lay lettering lighting lightning
    living look meaning meeting offering opening packaging painting parking ping railing recording recycling rendering
    ring saying scaffolding seating setting show sibling spring stand string stuffing swing topping warning wedding wing
    wiring wrapping writing drink""".split()
)
_DOINGS = frozenset(  # nouns that say what the verb says
    """attack bite chase cheer climb crash cry cuddle dance dive dream drink embrace fall fight float fly gallop gaze
    glide glow grin hug hunt jog jump kick kiss laugh lay leap lie look melt nap peek play pose ride roar run scream
    shine shout show sleep smile sneeze sniff sprint stand stare stroll surf swim swoop talk wait walk wear whisper
    yawn""".split()
)
_NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty""".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_JOINER, _POINT = frozenset("-'’‑.&"), frozenset(",:/")
_TOKEN = re.compile(r"x|[wd][wdm]*(?:(?:j|(?<=d)p(?=d))[wd][wdm]*)*|e[em]*")


class _Token(NamedTuple):
    text: str
    start: int
    end: int
    kind: str  # "x" a notation, "e" emoji, "w" a word

    @property
    def key(self) -> str:
        return self.text.casefold().replace("’", "'")


def _tokens(text: str) -> list[_Token]:
    shape = "".join(map(_shape, text))
    return [
        _Token(text[m.start() : m.end()], *m.span(), "w" if m[0][0] == "d" else m[0][0]) for m in _TOKEN.finditer(shape)
    ]


def _shape(char: str) -> str:
    """One letter for what a character is to a word."""
    if _PRIVATE.match(char):
        return "x"
    if char in _JOINER:
        return "j"
    if char in _POINT:
        return "p"
    if char.isdecimal():
        return "d"
    category = unicodedata.category(char)
    if category[0] == "M":
        return "m"
    if char.isalnum():
        return "w"
    if category == "So" or char == "\u200d" or "\U0001f3fb" <= char <= "\U0001f3ff":
        return "e"
    return " "


def _word_clauses(text: str) -> Iterator[tuple[str, ...]]:
    """The clauses of the content words of `text`, which is language but for its notations."""
    tokens = _tokens(text)
    nothing = {i for m in _SAYS_NOTHING.finditer(text) for i, t in enumerate(tokens) if m.start() <= t.start < m.end()}
    stops, titled = _stops_of(tokens), _is_titled(tokens)
    place = 0
    while place < len(tokens):
        token = tokens[place]
        before = tokens[place - 1].key if place else ""
        after = tokens[place + 1].key if place + 1 < len(tokens) else ""
        is_can = token.key == "can" and (before in _DETERMINERS or after == "of")
        if token.kind == "x" or place in nothing:
            place += 1
        elif token.key in _NOT or token.key in _FOREIGN_NOT or token.key.endswith("n't") or token.key == "cannot":
            place, clauses = _denied(text, tokens, place, stops)
            yield from clauses
        elif token.key in stops and not is_can:
            place += 1
        else:
            last = place
            while not titled and last + 1 < len(tokens) and _goes_on(text, tokens, last, stops):
                last += 1
            if last > place:
                yield (_bare(text[token.start : tokens[last].end]),)
            else:
                named = not titled and token.text[0].isupper() and not _begins_sentence(text, token)
                yield (token.text,) if named and "-" not in token.text else _forms(token.text)
            place = last + 1


def _goes_on(text: str, tokens: Sequence[_Token], place: int, stops: frozenset[str]) -> bool:
    """Whether a name has the next word, too."""
    token, after = tokens[place : place + 2]
    capital = token.text[0].isupper() and after.text[0].isupper() and after.kind == "w"
    return capital and text[token.end : after.start] == " " and after.key not in stops


def _denied(
    text: str, tokens: Sequence[_Token], place: int, stops: frozenset[str]
) -> tuple[int, list[tuple[str, ...]]]:
    """The clauses of a denial that begins at `place`, and the place after it.

    What is denied are the words up to the next that says nothing, and "of" with what follows it."""
    word = tokens[place].key
    begin = tokens[place].start
    first = place + 1
    while first < len(tokens) and tokens[first].key in _DETERMINERS:
        first += 1
    last = first
    while last < len(tokens) and tokens[last].kind == "w" and _close(text, tokens, last):
        key = tokens[last].key
        if (
            key in stops
            and not (key == "of" and last > first)
            and not (key in _DETERMINERS and tokens[last - 1].key == "of")
        ):
            break
        if last > first and key.endswith("ing"):
            break
        if last - first == 4:
            break
        last += 1
    while last > first and tokens[last - 1].key in stops:
        last -= 1
    if last == first:
        return place + 1, [(tokens[place].text,)]
    object_ = text[tokens[first].start : tokens[last - 1].end]
    forms = _last_forms(object_)
    phrases = [text[begin : tokens[last - 1].end]]
    if word in ("without", "no"):
        phrases += [
            f"{no} {form}" for form in forms for no in ("without", "no", "without any", "without a", "without an")
        ]
    elif word in _FOREIGN_NOT:
        pass
    else:
        phrases += [f"{no} {form}" for form in forms for no in ("not", "isn't", "aren't", "doesn't", "don't", "never")]
    clauses = [tuple(phrases)]
    if last + 1 < len(tokens) and tokens[last].key in ("or", "nor") and _close(text, tokens, last):
        end = last + 1
        while end < len(tokens) and tokens[end].key in _DETERMINERS:
            end += 1
        if end < len(tokens) and tokens[end].kind == "w" and tokens[end].key not in stops:
            other = tokens[end]
            starts = ("or", "nor", "no", "without", "not", "or any", "or a", "without any")
            clauses.append(
                (text[tokens[last].start : other.end], *(f"{s} {form}" for form in _forms(other.text) for s in starts))
            )
            last = end + 1
    return last, clauses


def _close(text: str, tokens: Sequence[_Token], place: int) -> bool:
    """Whether only a blank stands before the token."""
    return not text[tokens[place - 1].end : tokens[place].start].strip()


def _begins_sentence(text: str, token: _Token) -> bool:
    before = text[: token.start].rstrip(" \"'“«(")
    return not before or before[-1] in ".!?:\n"


def _is_titled(tokens: Sequence[_Token]) -> bool:
    """Whether capitals say nothing, since (nearly) every word has one."""
    words = [t for t in tokens if t.kind == "w" and t.key not in _STOP and t.text[0].isalpha()]
    return len(words) > 3 and 2 * sum(t.text[0].isupper() for t in words) > len(words)


def _stops_of(tokens: Sequence[_Token]) -> frozenset[str]:
    """The words that say nothing in the language of `tokens`, English or another, and in English."""
    keys = {t.key for t in tokens}
    hits = {language: len(keys & words) for language, words in _foreign_stops().items()}
    language = max(hits, key=hits.__getitem__)
    return _STOP | _foreign_stops()[language] if hits[language] > len(keys & _STOP) else _STOP


@lru_cache(maxsize=1)
def _foreign_stops() -> dict[str, frozenset[str]]:
    return {language: frozenset(words.split()) for language, words in _FOREIGN_STOPS.items()}


def _bare(word: str) -> str:
    """Without a possessive's ending."""
    return re.sub(r"['’]s?\Z", "", word)


@lru_cache(maxsize=1 << 14)
def _forms(word: str) -> tuple[str, ...]:
    """`word` and the forms that it can have instead."""
    word = _bare(word)
    key = word.lower()
    if key.isdecimal() and key.isascii():
        return (word, *_spelled(key))
    if key in _NUMBERS and key != "one":
        return (word, str(_NUMBERS.index(key)))
    if key in _TENS:
        return (word, str(10 * _TENS.index(key) + 20))
    if "-" in word:
        return tuple(dict.fromkeys((*_last_forms(word), *(f.replace("-", " ") for f in _last_forms(word)))))
    if "'" in word or "’" in word:
        return (word, word.replace("'", "’"), word.replace("’", "'"))
    return tuple(dict.fromkeys((word, *_inflections(key))))


def _last_forms(words: str) -> tuple[str, ...]:
    """`words` in the forms of the last of them."""
    head, last = re.fullmatch(r"(.*[\s\-])?(\S+?)", words, re.DOTALL).groups()
    return tuple((head or "") + form for form in _forms(last)) if last != words or "-" not in words else (words,)


def _spelled(number: str) -> tuple[str, ...]:
    value = int(number) if len(number) < 3 else 100
    if value > 99 or number != str(value):
        return ()
    if value <= 20:
        return (_NUMBERS[value],)
    ten, unit = _TENS[value // 10 - 2], value % 10
    return (f"{ten}-{_NUMBERS[unit]}", f"{ten} {_NUMBERS[unit]}") if unit else (ten,)


def _inflections(word: str) -> tuple[str, ...]:
    """The forms of an English word in the reading that a prompt means."""
    if word in _FIXED or len(word) < 3 or not word.isascii() or not word.isalpha():
        return ()
    lemmas = lemminflect.getAllLemmas(word)
    doing = word.endswith("ing") and word not in _THINGS and "VERB" in lemmas and word not in lemmas["VERB"]
    if not doing and {"ADJ", "ADV"} & lemmas.keys():
        return ()
    if word in _LEMMAS:
        return _paradigm(_LEMMAS[word], "NOUN")
    if "NOUN" in lemmas and not doing:
        nouns = [word] if word in lemmas["NOUN"] else lemmas["NOUN"]
        forms = [form for noun in nouns for form in _paradigm(noun, "NOUN")]
        if nouns[0] in _DOINGS - _THINGS:
            forms += _paradigm(nouns[0], "VERB")
        return tuple(forms)
    if "VERB" not in lemmas:
        return ()
    forms = [form for verb in lemmas["VERB"] for form in _paradigm(verb, "VERB")]
    return tuple(form for form in forms if form == word or not _is_thing(form))


def _is_thing(form: str) -> bool:
    nouns = lemminflect.getAllLemmas(form, upos="NOUN").get("NOUN", ())
    return any(form in _THINGS or (noun not in _DOINGS and not noun.endswith("ing")) for noun in nouns)


def _paradigm(lemma: str, kind: str) -> tuple[str, ...]:
    tags = lemminflect.getAllInflections(lemma, upos=kind)
    return (lemma, *(form for forms in tags.values() for form in forms))
