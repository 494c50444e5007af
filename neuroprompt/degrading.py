"""Expert prompts made worse: what a beginner might have typed for the same picture.

A policy that retells learns from pairs (plain, expert), and people only publish the second half. The first is made of
it, as denoisers make their inputs: adjectives, clauses and articles are dropped, the subject is cut down to 2 to 12
words, now and then the order or an article goes wrong.

    "A red fox is sleeping under an old stone bridge, in soft morning light. Mist drifts over the river."
    mild:   "red fox sleeping under stone bridge"
    medium: "fox sleeping under stone bridge"
    strong: "fox under stone bridge"

Words are left out and moved, never added or inflected: what a plain prompt says is in its expert text (`unsaid` tells
what is not), and so a policy that must keep the user's words can learn from it. All is decided by a hash of the text.
Parts of speech are guessed from word lists and endings, which English prompts, being noun phrases, mostly bear out.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from neuroprompt.decoding.constraints import occurrences
from neuroprompt.locked import lock
from neuroprompt.modifiers import categorise
from neuroprompt.prompts import Prompt

MAX_WORDS = 12
"""Words of the longest plain prompt."""
LEAST_ADDED = 4
"""Words that an expert text must have beyond its plain prompt: a copy teaches nothing."""


@dataclass(frozen=True)
class Strength:
    """How much worse a prompt becomes; the chances are drawn per text, or per word where it says so.

    Attributes:
        words: The most that is left of the subject.
        adjectives: The chance of each adjective to stay; a colour's is `colours`.
        articles: The chance that the articles stay.
        prepositions: The chance that the prepositions stay.
        verbs: The chance of each "sleeping" before "under a bridge" to stay.
        medium: The chance that the medium is said, and a style or an artist: a policy that never reads them learns to
            add them unasked. Of a photograph `photo`, which most pictures are.
        extra: The chance that a short clause from further back is said.
        swapped: The chance that the last part comes first.
    """

    words: int
    adjectives: float
    colours: float
    articles: float
    prepositions: float = 1.0
    verbs: float = 1.0
    medium: float = 0.8
    photo: float = 0.15
    extra: float = 0.15
    swapped: float = 0.0


STRENGTHS = (
    Strength(words=12, adjectives=0.6, colours=0.9, articles=0.7),
    Strength(words=8, adjectives=0.25, colours=0.6, articles=0.35),
    Strength(words=5, adjectives=0.0, colours=0.3, articles=0.0, prepositions=0.6, verbs=0.5, swapped=0.12),
)
"""Mild, medium, strong."""


def degrade(expert: str) -> list[str]:
    """Plain prompts for an expert prompt, mildest first and each once; none where no subject is found in it.

    Args:
        expert: Prose or tags, of any length.
    """
    scene = _read(expert)
    plain = [_worsen(scene, strength, f"{number}\n{expert}") for number, strength in enumerate(STRENGTHS)]
    most = min(MAX_WORDS, len(_words(expert)) - LEAST_ADDED)
    fit = (p for p in dict.fromkeys(plain) if 2 <= len(p.split()) <= most and content_words(p))
    return [p for p in fit if not unsaid(p, expert)]


def core(expert: str) -> str:
    """What an expert prompt is about, in its fewest words, whatever the hash says: texts about the same thing share it,
    and belong to the same split."""
    bare = Strength(words=4, adjectives=0, colours=0, articles=0, prepositions=0, medium=0, photo=0, extra=0)
    return _worsen(_read(expert), bare, "") or expert


def unsaid(plain: str, expert: str) -> list[str]:
    """What a retelling of `plain` must say (`locked.lock`), and `expert` does not."""
    clauses = lock(plain).clauses
    return [clause[0] for clause in clauses if not any(any(occurrences(expert, phrase)) for phrase in clause)]


def content_words(text: str) -> list[str]:
    """The words of a text that say what is seen: all but articles, prepositions, pronouns and the like."""
    return [word for word in _words(text) if word not in _FUNCTION]


def head_noun(scene: str) -> str | None:
    """What a noun phrase is about: "fox" for "a red fox asleep under a bridge"; None where that is not clear."""
    parts = _read(scene).parts
    words = [w.lower() for w in (parts[0] if parts else ()) if w.lower() not in _FUNCTION]
    nouns = [w for w in words if not is_adjective(w)] or words  # "a giant"
    return nouns[-1] if nouns and nouns[-1].isalpha() else None


def is_adjective(word: str) -> bool:
    """Whether a word is an adjective or an adverb, as far as a list and endings tell."""
    key = word.lower()
    return key in _ADJECTIVES or key in COLOURS or (len(key) > 5 and key.endswith(_ENDINGS) and key not in _NOUNS)


def share(text: str, question: str) -> float:
    """A number in [0, 1) that is drawn by hash, and is another one for each question asked about a text."""
    digest = hashlib.blake2b(f"{question}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scene:
    """A subject in parts: a noun phrase, then what is said of it, each from its preposition or participle on.

    Attributes:
        medium: "oil painting", or "".
        parts: "a red fox", "sleeping", "under an old bridge", each as words.
        manner: "art nouveau style", "by claude monet", or "".
        extras: Short clauses from further back: "in the rain".
    """

    medium: str
    manner: str
    parts: tuple[tuple[str, ...], ...]
    extras: tuple[str, ...]


def _read(expert: str) -> _Scene:
    text = _BRACKETS.sub("", expert)
    opener = OPENER.match(text)
    segments = Prompt.parse(_SENTENCE.split(text[opener.end() :] if opener else text)[0]).segments
    known = [categorise(segment) for segment in segments]
    first = 0 if opener else known.index(None) if None in known else len(segments)
    if first >= len(segments):
        return _Scene("", "", (), ())
    media = (s for s, category in zip(segments, known, strict=True) if category == "format" and len(s.split()) <= 3)
    medium = _medium(opener[1] or opener[2]) if opener else next(media, "")
    subject, by = segments[first], _MANNER.search(segments[first])
    manner = next((m for s in (*segments[first + 1 :], subject) if (m := _MANNER.search(f" {s}"))), None)
    extras = tuple(s for s in segments[first + 1 : 4] if 2 <= len(s.split()) <= 4 and s != medium and _is_extra(s))
    parts = _parts(_WORD.findall(subject[: by.start()] if by else subject))
    return _Scene(medium.lower(), _typed(manner) if manner else "", parts, extras)


def _typed(manner: re.Match) -> str:
    name = manner[2].strip().lower()
    return f"{name} style" if manner[1].lower().startswith("style") else f"by {name}"


def _parts(words: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    parts: list[list[str]] = [[]]
    keys = ["", *(word.lower() for word in words), ""]
    for word, before, key, after in zip(words, keys, keys[1:], keys[2:], strict=False):
        if key in _AUXILIARIES and parts[-1]:
            continue
        verb = is_participle(key) and (
            after in _PREPOSITIONS or after in _DETERMINERS or not (before in _DETERMINERS or is_adjective(before))
        )
        opens = (
            (key in _PREPOSITIONS and key != "of" and before not in _PREPOSITIONS)
            or key in _CONNECTIVES | _DROPPED
            or verb
            or (is_past(key) and after in _PREPOSITIONS and before not in _DETERMINERS)
        )
        # "walking in", "covered with": the preposition goes with what stands before it.
        follows = key in _PREPOSITIONS and len(parts[-1]) == 1 and (is_participle(before) or is_past(before))
        if opens and parts[-1] and not follows:
            parts.append([])
        parts[-1].append(word)
    return tuple(tuple(part) for part in parts if part)


def _is_extra(clause: str) -> bool:
    words = clause.lower().split()
    return bool(_PLAIN.fullmatch(clause)) and words[0] not in _NOT_TYPED and not is_adjective(words[-1])


def _medium(phrase: str) -> str:
    words = [w for w in phrase.split() if w.lower() not in _DETERMINERS]
    return " ".join(words[-2:]).lower() if len(words) <= 3 else words[-1].lower()


def _worsen(scene: _Scene, strength: Strength, text: str) -> str:
    def chance(question: str, likelihood: float) -> bool:
        return share(text, question) < likelihood

    articles, prepositions = chance("articles", strength.articles), chance("prepositions", strength.prepositions)

    def stays(word: str, place: str, is_last: bool) -> bool:
        key = word.lower()
        if key in _DROPPED:
            return False
        if key in _DETERMINERS or key in _CONNECTIVES:
            return articles
        if key in _PREPOSITIONS:
            return prepositions or key == "of"
        if is_last or not is_adjective(key):
            return True
        return chance(place, strength.colours if key in COLOURS else strength.adjectives)

    parts: list[list[str]] = []
    for number, part in enumerate(scene.parts):
        if number and _is_acting(part) and not chance(f"verb {number}", strength.verbs):
            part = part[1:]  # "under an old bridge"
        words = [w for place, w in enumerate(part) if stays(w, f"{number} {place}", place == len(part) - 1)]
        while words and words[-1].lower() in _FUNCTION:
            words.pop()
        if words:
            parts.append(words)
    while len(parts) > 1 and sum(map(len, parts)) > strength.words:
        parts.pop()
    if len(parts) == 2 and _is_place(parts[1]) and chance("swap", strength.swapped):
        parts = [parts[1][1:], parts[0]]  # "bridge fox"
    plain = " ".join(word for part in parts for word in part)
    if not plain or len(plain.split()) > MAX_WORDS:
        return ""

    comma = ", " if chance("comma", 0.5) else " "
    if articles:
        plain = _ARTICLE.sub(lambda m: f"{'an' if m[1][0] in 'aeiouAEIOU' else 'a'} {m[1]}", plain)
        if chance("wrong article", 0.04):
            plain = re.sub(r"\ban ", "a ", plain, count=1)
    if scene.medium and chance("medium", strength.photo if "photo" in scene.medium else strength.medium):
        before = chance("medium first", 1 / 3)
        plain = f"{scene.medium} of {plain}" if before else f"{plain}{comma}{scene.medium}"
    if scene.manner and chance("manner", strength.medium):
        plain = f"{plain}{comma}{scene.manner}"
    elif scene.extras and chance("extra", strength.extra):
        extra = [w for w in _WORD.findall(scene.extras[0]) if w.lower() not in _DETERMINERS | _DROPPED]
        plain = f"{plain}{comma}{' '.join(extra)}"
    return plain if chance("capitals", 0.06) else plain.lower()


def _is_acting(part: Sequence[str]) -> bool:
    """Whether a part is "sleeping under an old bridge"."""
    return len(part) > 2 and is_participle(part[0].lower()) and part[1].lower() in _PLACES


def _is_place(words: Sequence[str]) -> bool:
    """Whether what is left of a part is "under bridge"."""
    return len(words) == 2 and words[0].lower() in _PREPOSITIONS


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def is_past(key: str) -> bool:
    """Whether a word in lower case is a past participle, likewise."""
    return key in _PAST or (len(key) > 4 and key.endswith("ed") and key not in _NOUNS)


def is_participle(key: str) -> bool:
    """Whether a word in lower case is a present participle, and no thing such as a building."""
    return len(key) > 4 and key.endswith("ing") and key not in _NOUNS_IN_ING


# --- words -----------------------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE = re.compile(r"(?<=\w\w)\.\s+(?=[A-Z])")
_PLAIN = re.compile(r"[a-zA-Z' -]+")
_BRACKETS = re.compile(r"<[^<>]*>|[()\[\]{}]|:+-?\d+(?:\.\d+)?")
_MEDIA = (
    r"photo(?:graph)?|painting|watercolou?r|illustration|drawing|sketch|render|shot|picture|image|portrait|artwork|art|"
    r"poster|view|close-up|closeup|still|print|engraving|etching|cartoon|panel|sculpture|scene|window|photography"
)
_GROUND = r"(?: on (?:canvas|paper|35mm film))?"
OPENER = re.compile(
    rf"\s*(?:((?:an? |the )?(?:[\w-]+ ){{0,4}}?(?:{_MEDIA}))s?{_GROUND} (?:of|showing|depicting) |"
    rf"(?:in )?th(?:is|e) ((?:[\w-]+ ){{0,4}}?(?:{_MEDIA}))s?{_GROUND}(?:,| shows| depicts) )",
    re.IGNORECASE,
)
_MANNER = re.compile(
    r"\s(?:(?:painted|drawn|made|art|in the|in) )?(style of|manner of|by) "
    r"((?!(?:the|an?|his|her|its|their) )[\w.' -]{3,40}|the [A-Z][\w -]{3,30})(?=,|\.?$)",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"\ban? (\w+)", re.IGNORECASE)

_DETERMINERS = frozenset("a an the this that these those some his her its their my your our".split())
_PREPOSITIONS = frozenset(
    "of in on at with under over by through from into onto near behind between beside inside outside against across "
    "above below along around among amongst beneath before during without within toward towards up down off atop like "
    "next to for out about past as".split()
)
_PLACES = frozenset("in on at under over behind near beside between inside above below on by among".split())
_CONNECTIVES = frozenset("and or but".split())
_AUXILIARIES = frozenset("is are was were be being been has have had".split())
_DROPPED = frozenset(
    "very extremely really quite so that there it he she they who which whose where when while".split()
)
_FUNCTION = (
    _DETERMINERS | _PREPOSITIONS | _CONNECTIVES | _AUXILIARIES | _DROPPED
    | frozenset("i you we me him them us it's not no do does did will would can could may might must than then".split())
)  # fmt: skip
COLOURS = frozenset(
    "red green blue yellow orange purple pink black white grey gray brown golden silver turquoise violet crimson "
    "magenta".split()
)
_ADJECTIVES = frozenset(
    "dim saturated old young big small large little huge tiny giant tall short long wide narrow deep high low new "
    "ancient modern beautiful pretty handsome cute adorable ugly sad happy angry lonely lone single whole full empty "
    "dark bright light pale soft hard rough smooth sharp warm cold hot cool wet dry clean dirty dusty rusty fresh "
    "rotten raw ripe heavy strong weak thin thick fat slim skinny slender round square flat curved broken cracked "
    "ruined abandoned haunted rich poor elegant fancy ornate simple plain rare strange weird odd creepy scary spooky "
    "eerie evil wild calm quiet loud cosy cozy vast massive enormous colossal gigantic immense grand great mighty "
    "majestic fierce brave noble royal proud wise mad crazy insane sleepy tired hungry drunk dead alive asleep vintage "
    "retro antique futuristic medieval victorian gothic alien magic mystic secret hidden lost distant remote foggy "
    "misty rainy snowy sunny stormy cloudy lush dense dimly lit overgrown intricate detailed delicate tattered worn "
    "weathered wrinkled bearded hooded masked armored armoured winged horned colored coloured painted carved polished "
    "shiny glossy matte transparent translucent iridescent neon vivid vibrant pastel muted serene real fake cybernetic "
    "bionic anthropomorphic female male chubby fluffy furry hairy bald blonde redheaded dapper stern serious super "
    "ultra highly perfect good best bad crystal-clear floating".split()
)
_ENDINGS = ("ful", "less", "ous", "ish", "ly", "ical", "ible", "able", "ive", "esque", "like")
_PAST = frozenset("made seen lit built sat shown held set worn".split())
# How nobody begins what he types as a second thought.
_NOT_TYPED = frozenset("seen shown with full caught as lit rendered outlined half by".split())
_NOUNS = frozenset(
    "shed seed speed breed steed greed weed family butterfly dragonfly assembly jelly belly table vegetable constable "
    "cable stable detective octopus hippopotamus platypus archive olive native motive fish goldfish jellyfish starfish "
    "catfish dish british parish rubbish polish firefly monopoly lily italy unless bus cactus house mouse".split()
)
_NOUNS_IN_ING = frozenset(
    "building buildings ceiling painting drawing wedding evening morning king ring wing string spring clothing "
    "lightning thing something everything nothing anything lighting viking dumpling duckling sapling pudding sibling "
    "engraving earring offering clearing crossing awning stocking railing carving during sling swing bring".split()
)
