"""Questions that rules can make of a prompt: its subjects, their counts and colours, what they do and where.

Prompts are noun phrases in a row, and so are they read: a noun phrase, then a preposition or a participle, then the
next. Nouns, verbs and adjectives are told by `lemminflect`'s dictionary and by endings, and what is not clear is not
asked: a question too few costs a little of the measure, a wrong one costs all of its worth. So nothing is asked about
what is abstract ("inspiration"), denied ("without people"), compared ("like a cat") or quoted, and nothing about
modifiers behind commas.

    >>> [question.text for question in rules("two red foxes under a bridge")]
    ['Are there foxes?', 'Are there two foxes?', 'Are the foxes red?', 'Is there a bridge?',
     'Are the foxes under the bridge?']
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import lemminflect

from neuroprompt.degrading import OPENER, is_adjective, is_participle, is_past
from neuroprompt.locked import lock
from neuroprompt.modifiers import categorise
from neuroprompt.prompts import Prompt
from neuroprompt.questions.question import Question
from neuroprompt.questions.wording import (
    MASS,
    NUMBERS,
    are_there,
    is_colour,
    is_plural,
    is_there,
    with_article,
)

WHOLE = 'Does this figure show "{prompt}"?'
"""The question where rules find none: VQAScore's (Lin et al. 2024, arXiv 2404.01291)."""


@lru_cache(maxsize=1 << 14)
def rules(prompt: str) -> tuple[Question, ...]:
    """The questions that rules find in a prompt; the one about the whole where they find none.

    Args:
        prompt: Any text. Of notations such as ``(red hat:1.3)`` the words are read.
    """
    text = _QUOTED.sub(f" {_STOP} ", lock(prompt, keep_words=False).asked)
    questions = _Questions()
    opener = OPENER.match(text)
    if opener:
        questions.medium(opener[1] or opener[2])
        text = text[opener.end() :]
    if _titled(text):
        text = text.lower()
    for number, clause in enumerate(Prompt.parse(text).segments):
        if number == 0 or (_BEGINS.match(clause) and not categorise(clause)):
            questions.read(_Clause(_WORD.findall(clause)))
    return tuple(questions.made()) or (whole(prompt),)


def whole(prompt: str) -> Question:
    """The question whether a picture shows all of a prompt."""
    return Question(WHOLE.format(prompt=" ".join(prompt.split())), "global")


@dataclass(frozen=True)
class _Thing:
    """A noun phrase.

    Attributes:
        phrase: Its nouns: "traffic lights".
        several: Whether they are more than one.
        count: How many, in words; "" where it is not said.
        colours: "dark blue"; "red and white".
        looks: Other adjectives that a picture shows.
        spoken: With its article, if it takes one: "a bridge", "their kites", "snow".
        named: Whether it is a name, which takes no article of ours.
        end: Where its words end in the clause.
        takes: Whether it takes an article.
    """

    phrase: str
    several: bool
    count: str
    colours: str
    looks: tuple[str, ...]
    spoken: str
    named: bool
    end: int
    takes: bool = False

    @property
    def clear(self) -> bool:
        """Whether it can be asked about by itself: "violin", of "playing violin", cannot."""
        return self.named or self.several or self.takes or self.phrase.rpartition(" ")[2] in MASS

    @property
    def be(self) -> str:
        return "Are" if self.several else "Is"

    @property
    def the(self) -> str:
        """As something that was asked about before."""
        return self.phrase if self.named else f"the {self.phrase}"


class _Questions:
    """Gathers what clauses say, and asks it in order: each thing, and behind it what is said of it."""

    def __init__(self):
        self._media: list[str] = []
        self._things: list[_Thing] = []
        self._relations: list[tuple[_Thing, str, _Thing]] = []

    def medium(self, words: str) -> None:
        words = re.sub(r"^(?:an?|the) ", "", words, flags=re.IGNORECASE).lower()
        if words.split()[-1] in _MEDIA and not words.endswith("s"):
            self._media.append(words)

    def read(self, clause: "_Clause") -> None:
        for thing, link, other in clause.things():
            if link:
                self._relations.append((thing, link, other))
            elif thing.clear and not (thing.spoken.startswith("the ") and thing.phrase in self._known()):
                self._things.append(thing)  # and not what "the sloth" was before

    def _known(self) -> set[str]:
        return {thing.phrase for thing in self._things}

    def made(self) -> Iterator[Question]:
        for medium in self._media:
            yield Question(f"Is this {with_article(medium)}?", "global")
        counts = Counter(thing.phrase.lower() for thing in self._things)
        places: dict[str, int] = {}
        number = len(self._media)
        for thing in self._things:
            key, alone = thing.phrase.lower(), counts[thing.phrase.lower()] == 1
            made = [] if key in places else [self._entity(thing)]
            places.setdefault(key, number)
            parent = (places[key],)
            # Of "a red cube and a blue cube" neither is "the cube".
            phrase = thing.phrase if alone else f"{thing.colours} {thing.phrase}".strip()
            if thing.count and (alone or thing.colours):
                made.append(Question(are_there(phrase, thing.count), "count", parent))
            if thing.colours:
                asked = f"{thing.be} {thing.the} {thing.colours}?" if alone else self._there(thing, phrase)
                made.append(Question(asked, "colour", parent))
            made += [Question(f"{thing.be} {thing.the} {look}?", "attribute", parent) for look in thing.looks if alone]
            number += len(made)
            yield from made
        for thing, link, other in self._relations:
            keys = thing.phrase.lower(), other.phrase.lower()
            if counts[keys[0]] == 1 and counts[keys[1]] == other.clear:
                preposition = link.split()[-1]
                where = other.spoken if preposition == "in" or is_participle(preposition) else other.the
                parents = tuple(places[key] for key in keys if key in places)
                yield Question(f"{thing.be} {thing.the} {link} {where}?", "relation", parents)

    def _entity(self, thing: _Thing) -> Question:
        if thing.named:
            return Question(f"Does this figure show {thing.phrase}?")
        return Question(self._there(thing, thing.phrase))

    def _there(self, thing: _Thing, phrase: str) -> str:
        return are_there(phrase) if thing.several else is_there(with_article(phrase) if thing.takes else phrase)


class _Clause:
    """A clause as words, read from left to right."""

    def __init__(self, words: Sequence[str]):
        self.words = words
        keys = [self._key(place) for place in range(len(words))]
        self.bare = not any(key in _DETERMINERS or _number(key) for key in keys)  # of all articles: "boy on horse"

    def things(self) -> Iterator[tuple[_Thing, str, _Thing | None]]:
        """Each thing, with "" and None; and what stands in a relation: who, how, to what."""
        subject = self._thing(2 if self._key(0) == "there" and self._key(1) in _BE else 0, article=True)
        if not subject:
            return
        yield subject, "", None
        place, open_ = subject.end, True  # whether what follows is said of the subject
        while place < len(self.words):
            joined = self._key(place) in ("and", "&")
            link, after, means = ("", place + 1, _IS_THERE) if joined else self._link(place)
            found = self._thing(after, article=joined) if joined or means != _NOTHING else self._unlinked(place)
            if not found:
                open_, place = open_ and joined, max(after, place + 1)
                continue
            place = found.end
            if means == _NOT_SEEN:
                continue
            yield found, "", None
            if link and open_:
                yield subject, link, found
            if joined and open_:
                subject = found
            else:
                open_ = False

    # --- parts -------------------------------------------------------------------------------------------------------

    def _unlinked(self, place: int) -> _Thing | None:
        """A thing behind a verb, where an article or a number begins it."""
        before, key = self._key(place - 1), self._key(place)
        begins = key in ("a", "an") or _number(key)
        return self._thing(place) if begins and before not in _CLOSED and not is_adjective(before) else None

    def _link(self, place: int) -> tuple[str, int, int]:
        """How what comes next is tied to what was before, as it is asked ("" where it is not); where that begins; and
        what the tie means for it."""
        at = place
        at += self._key(at) in ("that", "which", "who")
        at += self._key(at) in _BE
        verb = ""
        if is_participle(self._key(at)):
            verb, at = self._key(at), at + 1
            if verb in _IMAGINED:
                return "", at, _NOT_SEEN
            at += self._key(at) in ("down", "up", "out")
        for words, shown in _PLACES:
            if tuple(map(self._key, range(at, at + len(words)))) == words:
                return f"{verb} {shown}".strip(), at + len(words), _IS_THERE
        if self._key(at) in _TIES or (self._key(at) == "of" and self._key(at - 1) in _HOLDERS):
            return "", at + 1, _IS_THERE
        return (verb, at, _IS_THERE) if verb else ("", place, _NOTHING)

    def _thing(self, place: int, article: bool = False) -> _Thing | None:
        """The noun phrase that begins there; None where none does, or what it means is not seen.

        `article` says that one thing without an article lacks it, and is no mass.
        """
        begin, typed = place, ""
        while self._key(place) in _DETERMINERS or self._is_part(place):
            if self._is_part(place):  # "a pair of shoes"
                typed, article, place = "", False, place + 2
            else:
                typed, place = self._key(place), place + 1
        count = _number(self._key(place))
        place += bool(count)
        start, name = place, self._name(place)
        colours: list[str] = []
        looks: list[str] = []
        while self._describes(place):
            key, before = self._key(place), self._key(place - 1)
            if is_colour(key):
                joint = "and " if before == "and" and colours else f"{before} " if before in _SHADES else ""
                colours.append(joint + key)
            elif key in _LOOKS:
                looks.append(key)
            place += 1
        end = place
        while self._is_noun(end, typed, inside=end > place) and end - place < 3:
            end += 1
        if name > start and name >= end and self._ends(name, typed):
            phrase = "the " * (typed == "the") + " ".join(self.words[start:name])
            return _Thing(phrase, False, "", "", (), phrase, True, name)
        capitals = self.words[1:] if begin == 0 and not typed else self.words
        words = [word.lower() for word in self.words[place:end] if not (word[0].isupper() and word in capitals)]
        if not words or not self._is_seen(words, typed, end):
            return None
        phrase, head = " ".join(words), words[-1]
        if typed == "the" and not _parts_of_speech(head):  # "the mona lisa"
            return _Thing(f"the {phrase}", False, "", "", (), f"the {phrase}", True, end)
        if f"{self._key(place - 1)} {words[0]}".removesuffix("s") in _ONE_THING:
            phrase, colours = f"{self._key(place - 1)} {phrase}", []
        many = count not in ("", "one")
        if many and not (is_plural(head) or head in _EITHER):  # "a two tier cake"
            return None
        several = many or (is_plural(head) and typed not in _ONE)
        takes = not several and (typed in _ONE or (head not in MASS and bool(typed or article or count or self.bare)))
        spoken = f"{typed} {phrase}" if typed not in ("", "a", "an") else with_article(phrase) if takes else phrase
        shown = "" if len(colours) > 2 else " ".join(colours)
        return _Thing(phrase, several, count if many else "", shown, tuple(looks), spoken, False, end, takes)

    def _is_part(self, place: int) -> bool:
        return self._key(place) in _PARTS and self._key(place + 1) == "of"

    def _describes(self, place: int) -> bool:
        """Whether the word there says of what kind the noun behind it is."""
        key, after = self._key(place), self._key(place + 1)
        follows = after not in _CLOSED and not is_participle(after)
        if key == "and":
            return is_colour(self._key(place - 1)) and is_colour(after)
        if is_colour(key):
            return follows or (after == "and" and is_colour(self._key(place + 2)))
        if key in _CLOSED or not follows or (place and self.words[place][0].isupper()):
            return False
        kinds = _parts_of_speech(key)
        described = "NOUN" not in kinds and bool(kinds & {"ADJ", "ADV"})
        return described or is_adjective(key) or is_participle(key) or is_past(key)

    def _is_noun(self, place: int, article: str, inside: bool) -> bool:
        """Whether the word there is a noun of the phrase; `inside`, whether one stands before it."""
        key, after = self._key(place), self._key(place + 1)
        if key in _CLOSED or not key.replace("-", "").isalpha() or is_participle(key):
            return False
        if inside and (_is_verb(key) or is_plural(self._key(place - 1)) or (article in _ONE and is_plural(key))):
            return False
        if is_colour(key):
            return key == "orange" and not inside
        kinds = _parts_of_speech(key)
        if is_adjective(key) or is_past(key):
            return "NOUN" in kinds and (after in _CLOSED - {"of"} or is_participle(after))
        named = article and not inside and kinds == {"VERB"} and after in _CLOSED  # "a log", which the dictionary lacks
        return bool("NOUN" in kinds or not kinds or named)

    def _name(self, place: int) -> int:
        """Where the name ends that begins there: words with capitals, and "of" between them."""
        end = place
        while self._capital(end):
            end += 1
            end += self._key(end) == "of" and self._capital(end + 1)
        if place == 0 and end == 1 and _parts_of_speech(self._key(0)):
            return 0  # a sentence begins with a capital
        return end

    def _capital(self, place: int) -> bool:
        return place < len(self.words) and self.words[place][0].isupper() and self._key(place) not in _CLOSED

    def _is_seen(self, words: Sequence[str], article: str, end: int) -> bool:
        """Whether these nouns are all there is of the phrase, and a picture shows what they mean; as far as lists and
        endings tell."""
        head = words[-1]
        lemma = (*lemminflect.getAllLemmas(head, upos="NOUN").get("NOUN", ()), head)[0]
        if {head, lemma} & _NOT_THINGS or (self._key(end) == "of" and head in _NOT_WHOLES):
            return False
        if lemma.endswith(_ABSTRACT) and lemma not in _CONCRETE:
            return False
        unknown = [word for word in words if not _parts_of_speech(word)]  # a name, a slip, or another language
        odd = len(unknown) > 1 or (unknown and (len(head) < 3 or head.endswith(("ic", "al", "ed"))))
        if odd and article != "the":
            return False
        return self._ends(end, article)

    def _ends(self, place: int, article: str) -> bool:
        """Whether a phrase of that article may end before the word there."""
        key = self._key(place)
        if is_past(key):
            return self._key(place + 1) in _CLOSED  # not so "a leather topped table"
        return (
            (key in _CLOSED and key != "can")  # "a trash can"
            or key.endswith("ly")
            or is_participle(key)
            or _is_verb(key)
            or (bool(_parts_of_speech(key)) and "NOUN" not in _parts_of_speech(key))
            or (article in _ONE and is_plural(key))  # "a dog barks"
        )

    def _key(self, place: int) -> str:
        return self.words[place].lower().replace("’", "'") if 0 <= place < len(self.words) else ""


_NOTHING, _IS_THERE, _NOT_SEEN = range(3)
"""What a word between two things means for the second: none, that a picture shows it, and that it does not."""


def _titled(text: str) -> bool:
    """Whether nearly all words have a capital, which then says nothing."""
    words = [word for word in _WORD.findall(text) if word[0].isalpha()]
    return len(words) > 2 and sum(word[0].isupper() for word in words) > 0.7 * len(words)


def _number(key: str) -> str:
    """The number in words; "" of what is none, or too many to count."""
    if key.isdecimal() and len(key) < 3 and 0 < int(key) < len(NUMBERS):
        return NUMBERS[int(key)]
    return key if key in NUMBERS[1:] else ""


@lru_cache(maxsize=1 << 14)
def _parts_of_speech(key: str) -> frozenset[str]:
    return frozenset(lemminflect.getAllLemmas(key)) if key.isascii() else frozenset()


@lru_cache(maxsize=1 << 14)
def _is_verb(key: str) -> bool:
    """Whether a word says what somebody does: "holds", "sits"."""
    return any(lemma in _DOINGS for lemma in lemminflect.getAllLemmas(key, upos="VERB").get("VERB", ()))


# --- words ---------------------------------------------------------------------------------------------------------

_STOP = "\0"
_WORD = re.compile(rf"[^\W_]+(?:['’-][^\W_]+)*|{_STOP}")
_QUOTED = re.compile(r"\"[^\"]*\"|“[^“”]*”|«[^«»]*»|(?<!\w)'(?=\w)[^']*'(?!\w)|‘[^‘’]*’(?!\w)")
_BEGINS = re.compile(r"(?:an?|the|there (?:is|are)|two|three|four|five|six|seven|eight|nine|ten) ", re.IGNORECASE)
_BE = frozenset("is are".split())
_ONE = ("a", "an")
_DETERMINERS = frozenset("a an the this that these those some several many his her its their my your our".split())
_SHADES = frozenset("dark light bright pale deep".split())
_MEDIA = frozenset(
    "painting watercolor watercolour illustration drawing sketch photo photograph portrait poster cartoon sculpture "
    "engraving etching print".split()
)
_PLACES = [
    (tuple(words.split()), shown)
    for words, shown in (
        ("to the left of", "to the left of"),
        ("on the left of", "to the left of"),
        ("left of", "to the left of"),
        ("to the right of", "to the right of"),
        ("on the right of", "to the right of"),
        ("right of", "to the right of"),
        ("in front of", "in front of"),
        ("on top of", "on top of"),
        ("next to", "next to"),
        *((word, word) for word in "on in under underneath beneath behind above below beside near inside over".split()),
    )
]
_TIES = frozenset("with at by between outside across through along around against wearing holding onto".split())
_CLOSED = frozenset(
    """a an the this that these those some several many his her its their my your our and or but nor of in on at with
    under over by through from into onto near behind between beside inside outside against across above below along
    around among beneath underneath before during without within toward towards up down off atop like next to for out
    about past as than is are was were be been being has have had do does did not no who which whose what where when
    while it he she they them him her us me i you we there here very all both each every other another more most such
    can will would could may might must if because so too also just only one's himself herself itself themselves
    each-other away together left right""".split()
) | {_STOP, ""}  # fmt: skip
_PARTS = frozenset(
    """group pair pairs couple bunch pile stack row line herd flock pack crowd team set lot lots number variety
    collection assortment host kind kinds type types sort sorts piece pieces slice
    slices dozens hundreds thousands family""".split()
)  # what follows "of" is what is seen
_HOLDERS = frozenset("bag basket bottle bouquet bowl box bucket cup field glass jar plate pot tray vase".split())
_EITHER = frozenset("aircraft bison deer fish moose salmon sheep".split())  # one, or several
_NOT_WHOLES = frozenset("top side front back middle center centre edge end rest".split()) | _PARTS
_IMAGINED = frozenset(
    """becoming resembling imagining dreaming thinking wanting missing trying pretending representing depicting showing
    featuring including saying spelling making having getting turning looking being considering feeling
    symbolizing""".split()
)  # participles whose object is not there to see
_NOT_THINGS = frozenset(
    """picture image photo photograph painting drawing illustration view close-up closeup portrait style background
    foreground front back top bottom side left right middle center centre corner end edge scene shot camera way kind
    type sort shape form size color colour time day night morning evening afternoon noon midnight summer winter spring
    autumn fall age era century year look place something anything nothing everything someone lot number variety part
    rest close closeup distance air direction motion action life love hope fear joy idea concept dream nature space
    future past detail quality resolution render rendering angle front-view position pose order use fun work job trick
    game party wedding war peace power energy freedom time-lapse logo design wallpaper movie film concept-art art
    artwork style world universe reality beauty happiness sadness anger history science math music sound silence sense
    mind soul spirit word words theory system process effect exposure half length focus depth height speed
    home""".split()
)
_ABSTRACT = ("tion", "sion", "ness", "ity", "ism", "ment", "ence", "ance", "ship", "hood", "cy", "ology", "dom")
_CONCRETE = frozenset(
    """station city lion fence scallion mansion monument instrument ship spaceship starship battleship apartment
    appliance ambulance pigeon dandelion medallion fountain entrance cement pharmacy ornament tent television carnation
    intersection university""".split()
)
_LOOKS = frozenset(
    "wooden striped spotted checkered plaid furry fluffy bearded bald rusty broken transparent round square "
    "triangular".split()
)
_ONE_THING = frozenset(
    "black hole; red panda; golden retriever; white house; green tea; orange juice; blue jay; black panther; red wine; "
    "white wine; golden gate; green screen; white board; black widow; golden hour; hot dog; hot air; flying saucer; "
    "shooting star; wild west; polar bear; rocking horse; rubber duck; living room; dining room; swimming pool; "
    "washing machine; sewing machine; praying mantis; stuffed animal".split("; ")
)  # of which the noun alone would be another
_DOINGS = frozenset(
    """attack bark bask bite blow bounce carry catch chase cheer climb crawl cross cry dance dive draw drink drive
    eat embrace enjoy fall feed fight float fly gallop gaze get give glide go graze grow hang have hide hold hop hover
    hug hunt jump kick kiss kneel laugh lay lead lean leap lick lie listen make march meditate observe perch play
    point pose pull push read relax rest ride roar roam rob run sail say scream see serve shine shout sing sit sleep
    sniff soar speak stand stare swim take talk think throw walk watch wear write""".split()
)
