"""Prose of the prompts that people wrote as lists: what the policy that retells learns to write.

    python -m training.embedded.retelling --source prompts.parquet --output data/prose.jsonl
    python scripts/prepare_data.py --source data/prose.jsonl --format retell --output data/retelling

Clean prose is rare among prompts, but one in fifteen begins with a scene in good English ("a cozy cabin in a snowy
forest with smoke coming from the chimney, digital art, warm light, 8k"). Such a scene is kept in its words, and its
modifiers are said in sentences, as `retelling.tsv` has them:

    This digital illustration shows a cozy cabin in a snowy forest with smoke coming from the chimney, in a magical
    atmosphere. Warm light fills the scene. Muted tones let the cabin stand out quietly.

Of modifiers that are too few, others are added that people usually write behind such scenes: the mood and the tones
here. Scenes with words that no dictionary has, living people, and what `retelling_refused.tsv` lists go; so do
modifiers that are not in the table, and the later of two that contradict each other. Which wording is taken is drawn
by a hash of the scene.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from neuroprompt.artists import historical, names_celebrity, names_in
from neuroprompt.coherence import contradictions, is_word, subjects_of
from neuroprompt.data import is_adult
from neuroprompt.degrading import content_words, core, head_noun, is_adjective, share
from neuroprompt.fit import log_lift
from neuroprompt.modifiers import categorise, spelling_key
from neuroprompt.prompts import Prompt

WORDS = (15, 60)
"""Of a text, least and most."""
LEAST_LIFT = 0.3
"""From which `fit.log_lift` on a modifier is usual behind a scene, and is added to one that has too few."""


@dataclass(frozen=True)
class Saying:
    """How a modifier is said in prose: a row of `retelling.tsv`.

    Attributes:
        key: The first of the modifiers.
        slot: What it is about; a text says one of each.
        phrases: For the sentence that shows the scene: ", in soft light"; of a medium its nouns.
        sentences: By themselves; `{it}` is the subject.
    """

    key: str
    slot: str
    phrases: tuple[str, ...]
    sentences: tuple[str, ...]


def tell(prompt: str) -> str | None:
    """The prompt as one to four sentences, or None where it holds no scene in good English or too little else."""
    opener, scene, segments = _scene(prompt)
    if not scene:
        return None
    details, said = _read(segments, opener, scene)
    _add_usual(said, scene)
    if said.keys().isdisjoint(_TELLING):
        return None
    text = _compose(scene, details, said)
    return text if WORDS[0] <= len(text.split()) <= WORDS[1] else None


def main(
    source: Annotated[Path, typer.Option(help="A .parquet file with the column `prompt`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .jsonl file to write: `text`, one a line.")],
) -> None:
    """Write the prose of a file of prompts."""
    import pyarrow.parquet as pq

    prompts = pq.read_table(source, columns=["prompt"])["prompt"]
    texts: dict[str, None] = {}
    subjects: Counter[str] = Counter()
    for prompt in prompts:
        if (text := tell(prompt.as_py() or "")) and text not in texts and subjects[key := core(text)] < MAX_ALIKE:
            subjects[key] += 1
            texts[text] = None
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    typer.echo(f"{len(texts):,} texts of {len(prompts):,} prompts in {output}")


MAX_ALIKE = 2
"""Texts about the same thing (`degrading.core`)."""


# --- reading ---------------------------------------------------------------------------------------------------------


def _scene(prompt: str) -> tuple[str, str, tuple[str, ...]]:
    """The medium that a prompt opens with ("oil painting" or ""), its scene, or "", and the segments after it."""
    prompt = prompt.lower()
    start = _OPENER.match(prompt)
    opener, rest = (start[1], prompt[start.end() :]) if start else ("", prompt)
    first = re.split(r"[,.;|]", rest, maxsplit=1)[0].strip()  # much faster than all of `Prompt.parse`, for most
    if not _is_scene(first):
        return "", "", ()
    return opener, _mended(first), Prompt.parse(rest).segments[1:]


def _is_scene(text: str) -> bool:
    words = text.split()
    return (
        6 <= len(words) <= 32
        and words[0] in _COUNTS
        and _is_english(words, text)
        and sum(w in _FUNCTION for w in words) >= len(words) / 4
        and bool(subjects_of(text))
    )


def _is_english(words: list[str], text: str) -> bool:
    """Whether a clause is whole, and in words that a dictionary has and a good prompt may have."""
    return not (
        not _PLAIN.fullmatch(text)
        or _refused().search(text)
        or words[-1] in _FUNCTION
        or is_adjective(words[-1])
        or any(map(str.__eq__, words, words[1:]))
        or not all(is_word(w, in_dictionary=True) for w in spelling_key(text).split())
        or is_adult(text)
        or names_celebrity(text)
        or names_in(text)
    )


def _read(segments: tuple[str, ...], opener: str, scene: str) -> tuple[list[str], dict[str, Saying]]:
    """The clauses that go on with the scene, and what of the modifiers is said, by slot."""
    details: list[str] = []
    said: dict[str, Saying] = {}
    keys: list[str] = []
    if opener and (saying := _saying(opener)):
        said[saying.slot], keys = saying, [opener]
    words = set(scene.split())
    for i, segment in enumerate(segments):
        if saying := _saying(segment):
            timed = saying.slot == "setting" and not words.isdisjoint(_TIMES)
            own = not words.isdisjoint(content_words(segment)) and saying.slot not in ("medium", "look")
            if saying.slot in said or timed or own or _clashes(saying, said, scene):
                continue
            if contradictions(", ".join([scene, *keys, segment])):
                continue
            said[saying.slot] = saying
            keys.append(segment)
        elif name := _old_master(segment):
            said.setdefault("artist", Saying("", "artist", (f"in the manner of {name}",), ()))
        elif i == len(details) < 3 and _is_detail(segment, scene):  # right behind the scene, not after modifiers
            details.append(_mended(_ARTICLE_FIRST.sub("with ", segment)))
    if "medium" in said:
        said.pop("look", None)
    return details, said


def _add_usual(said: dict[str, Saying], scene: str) -> None:
    """Add a medium and what else it takes to `said`, of what people usually write behind such scenes."""
    if not said.keys() & {"medium", "look"} and share(scene, "medium?") < 0.6:
        _add_of("medium", said, scene)
    wanted = 2 + int(2.5 * share(scene, "wanted"))
    words = set(scene.split())
    outside = "place" in subjects_of(scene) and words.isdisjoint(_TIMES | _INSIDE)
    slots = {"light", "palette", "mood", "view"} | ({"setting"} if outside else set())
    for slot in sorted(slots - said.keys(), key=lambda slot: share(scene, slot)):
        if len(said.keys() & _TELLING) < wanted:
            _add_of(slot, said, scene)


def _add_of(slot: str, said: dict[str, Saying], scene: str) -> None:
    lifts = {key: lift for key in _ADDED[slot] if (lift := log_lift(scene, key) or 0) > LEAST_LIFT}
    best = sorted(lifts, key=lifts.__getitem__, reverse=True)[:3]
    if best:
        key = _pick(best, scene, slot)
        if not _clashes(_sayings()[key], said, scene):
            if not contradictions(", ".join([scene, *(s.key for s in said.values()), key])):
                said[slot] = _sayings()[key]


def _clashes(saying: Saying, said: dict[str, Saying], scene: str) -> bool:
    """Whether what is said does not go with the scene, or with what is said already (`_CLASHES`)."""
    there = {*(other.key for other in said.values()), *scene.split(), *subjects_of(scene)}
    return not _CLASHES.get(saying.key, frozenset()).isdisjoint(there) or any(
        saying.key in _CLASHES.get(key, ()) for key in there
    )


def _is_detail(text: str, scene: str) -> bool:
    words = text.split()
    return (
        3 <= len(words) <= 14
        and (words[0] in _DETAILS or (words[0].endswith("ing") and len(words[0]) > 4) or words[0] in ("a", "an"))
        and not (words[0] in ("a", "an") and _VERB.search(text))
        and categorise(text) is None
        and _is_english(words, text)
        and len(set(content_words(text)) & set(content_words(scene))) < 2
    )


def _saying(segment: str) -> Saying | None:
    key = spelling_key(segment)
    return _sayings().get(key) or _sayings().get(_INTENSE.sub("", key))


def _old_master(segment: str) -> str:
    """The long dead artist whom a segment names, if it names nobody else: "Claude Monet"."""
    names = names_in(segment)
    if len(names) != 1 or not historical().get(names[0].term, "").startswith("died"):
        return ""
    if len(spelling_key(segment).split()) > names[0].end - names[0].start + 3:
        return ""
    return " ".join(w if w in _PARTICLES else _initials(w) or _sentence(w) for w in names[0].term.split())


def _initials(word: str) -> str:
    return "" if re.search("[aeiouy]", word) else " ".join(f"{letter.upper()}." for letter in word if letter != ".")


@cache
def _sayings() -> dict[str, Saying]:
    return {
        spelling_key(key): Saying(
            keys.split(" | ")[0], slot, tuple(phrases.split(" | ")), tuple(sentences.split(" | "))
        )
        for slot, keys, phrases, sentences in _rows("retelling.tsv")
        for key in keys.split(" | ")
    }


@cache
def _refused() -> re.Pattern:
    words = (
        re.escape(word).replace(r"\*", r"\w*")
        for _, words in _rows("retelling_refused.tsv")
        for word in words.split(" | ")
    )
    return re.compile(rf"\b(?:{'|'.join(words)})\b")


def _rows(name: str) -> list[list[str]]:
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


# --- writing ---------------------------------------------------------------------------------------------------------


def _compose(scene: str, details: list[str], said: dict[str, Saying]) -> str:
    it = _subject(scene)
    phrases, sentences = [], []
    for slot in ("setting", "light", "palette", "view", "artist", "style", "mood", "finish"):
        saying = said.get(slot)
        if not saying or share(scene, f"say {slot}") >= _SAID.get(slot, 1):
            continue
        possible = tuple(s for s in saying.sentences if it or "{it}" not in s)
        in_scene = len(phrases) < 2 and share(scene, f"where {slot}") < 0.5
        if (in_scene or not possible) and len(phrases) < 2:
            phrases.append(_pick(saying.phrases, scene, slot))
        elif possible and len(sentences) < 3:
            sentences.append(_sentence(_pick(possible, scene, slot).replace("{it}", it)))
    medium = said.get("medium") or said.get("look")
    if medium and len(sentences) < 2 and share(scene, "medium's own") < 0.25:
        possible = tuple(s for s in medium.sentences if it or "{it}" not in s)
        if possible:
            sentences.append(_sentence(_pick(possible, scene, "medium's").replace("{it}", it)))
    opening = _opening(scene, _pick(medium.phrases, scene, "medium") if medium else "")
    return " ".join([_sentence(", ".join([opening, *details, *phrases]) + "."), *sentences])


def _opening(scene: str, medium: str) -> str:
    dice = share(scene, "opening")
    finite = _VERB.search(scene)
    if medium:
        if finite or (dice < 0.15 and _with_verb(scene) != scene):
            return f"in this {medium}, {_with_verb(scene)}"
        return f"this {medium} shows {scene}" if dice < 0.3 else f"{_article(medium)} {medium} of {scene}"
    return scene if finite or dice < 0.3 else _with_verb(scene)


def _pick(of: Sequence[str], scene: str, question: str) -> str:
    return of[int(share(scene, question) * len(of))]


def _with_verb(scene: str) -> str:
    """ "a fox is sleeping under a bridge" for "a fox sleeping under a bridge"."""
    match = None if _VERB.search(scene) else _ACTING.match(scene)
    if not match:
        return scene
    plural = match[1].split()[0] in _PLURAL
    return f"{match[1]} {'are' if plural else 'is'} {scene[match.end(1) + 1 :]}"


def _subject(scene: str) -> str:
    """ "the fox", where the scene is about one thing that is known; or ""."""
    noun = head_noun(scene)
    one = scene.split()[0] in ("a", "an", "the", "one") and noun and not noun.endswith("s")
    return f"the {noun}" if one and subjects_of(noun) else ""


def _mended(text: str) -> str:
    """Articles that agree with the next word, no stray blanks around hyphens and apostrophes, "I" as a capital."""
    text = " ".join(w[0].upper() + w[1:] if w.removesuffix("'s") in _PROPER else w for w in text.split())
    text = re.sub(r"\s*([-'])\s+(?=\w)|\s+([-'])\s*(?=\w)", lambda m: m[1] or m[2], text).strip(" -'")
    return re.sub(r"\b(an?) (\w+)", lambda m: f"{_article(m[2])} {m[2]}", text)


def _article(word: str) -> str:
    return "an" if re.match(r"(?!uni|use|uto|eu|one|once|ufo)[aeiou]|hour|honest|heir", word.lower()) else "a"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


# --- words -----------------------------------------------------------------------------------------------------------

# What may be added to a scene that has too little, if `fit.log_lift` finds it usual there.
_ADDED = {
    "medium": (
        "photo", "oil painting", "watercolor", "digital painting", "illustration", "3d render", "pencil drawing",
    ),
    "setting": ("golden hour", "fog", "sunset", "rain"),
    "light": (
        "cinematic lighting", "dramatic lighting", "volumetric lighting", "soft lighting", "natural light", "rim light",
        "warm lighting", "ambient lighting",
    ),
    "palette": ("vibrant colors", "muted colors", "pastel colors", "dark colors"),
    "mood": ("eerie", "mysterious", "dreamy", "moody", "calm", "cozy", "epic", "whimsical", "magical"),
    "view": ("wide angle", "close up", "low angle", "depth of field"),
}  # fmt: skip
# By the first of a row's modifiers: what does not go with it, of other rows, of a scene's words, and what it is about.
_DARK = frozenset(
    "night midnight nighttime moonlight moonlit dusk sunset twilight stars starry cave underground".split()
)
_DAY = frozenset({"golden hour", "sunset", "sunrise", "summer", "sunny", "daylight", "noon", "sunlight", "day"})
_CLASHES = {
    "natural light": _DARK | {"night sky", "neon lights"},
    "studio lighting": _DARK | _DAY | {"place", "golden hour", "fog", "rain", "snow", "storm", "space", "nebula"},
    "moonlight": _DAY,
    "sharp focus": frozenset({"depth of field"}),
    "golden hour": _DARK | {"underwater", "sea", "ocean"},
    "warm lighting": frozenset({"moonlit", "moonlight", "snow", "winter"}),
    "rain": frozenset({"sea", "ocean", "underwater", "desert", "beach", "sunny", "summer"}),
}
_TELLING = frozenset("setting light palette mood view style".split())
_INSIDE = frozenset(
    "room bedroom kitchen bathroom library office cafe restaurant bar shop store market mall museum hospital school "
    "factory laboratory lab station interior corridor hallway tunnel subway arena dungeon stadium planet galaxy nebula "
    "mars space universe earth moon sun sky sea ocean underwater".split()
)
# The share of texts that say it, where the source has it: old masters and detail would be in every second.
_SAID = {"finish": 0.3, "artist": 0.25, "view": 0.8}
_COUNTS = frozenset("a an the two three four five six several many some".split())
_PLURAL = frozenset("two three four five six several many some".split())
_TIMES = frozenset(
    "night midnight sunset dusk twilight sunrise dawn morning evening noon day daytime afternoon moonlight sunlight "
    "moonlit sunny storm stormy rain rainy snow snowy winter summer autumn spring fog foggy misty underwater space "
    "background".split()
)
_DETAILS = frozenset(
    "with wearing holding surrounded covered made dressed filled lit in on under behind against beside near among "
    "through over seen decorated adorned wrapped carved painted".split()
)
_FUNCTION = frozenset(
    "a an the of in on at with and under over by through from into near behind between beside inside against across "
    "above below along around while as is are that who which his her its their to for".split()
)
_PROPER = frozenset(
    "japanese chinese african american egyptian greek roman victorian russian french german italian indian mexican "
    "asian european norwegian persian arab arabic arabian british english spanish turkish korean thai tibetan celtic "
    "scottish irish dutch swedish ukrainian brazilian venetian mongolian aztec mayan cuban scandinavian nordic "
    "balinese hawaiian polish hungarian byzantine edwardian georgian japan china india egypt greece russia france "
    "germany italy mexico africa america europe asia norway england britain spain turkey korea tibet scotland ireland "
    "ukraine brazil venice tokyo paris london rome berlin moscow amsterdam manhattan chicago california alaska iceland "
    "antarctica hawaii vietnam cuba mars jupiter saturn venus christmas halloween".split()
)
_PARTICLES = frozenset("van von de der den da di du la le del y the ter".split())
_MEDIUM = (
    "oil painting|watercolou?r painting|watercolou?r|digital painting|matte painting|acrylic painting|painting|"
    "digital illustration|illustration|pencil drawing|pencil sketch|ink drawing|charcoal drawing|line drawing|drawing|"
    "sketch|3d render|render|film still|movie still|polaroid photo|polaroid|macro photo|macro shot|product photo|"
    "vintage photo|photograph|photo|photography|digital art|concept art|pixel art|close-up|close up|closeup|wide shot|"
    "low angle shot|aerial view|portrait|picture|image|poster|sculpture"
)
_OPENER = re.compile(rf"^(?:(?:an? |the )?(?:[a-z-]+ ){{0,2}}?({_MEDIUM})s? (?:of|showing|depicting) )")
_PLAIN = re.compile(r"[a-z ,'-]*")
_ARTICLE_FIRST = re.compile(r"^(?=an? )")
_INTENSE = re.compile(
    r"^(?:(?:an?|the|very|highly|ultra|extremely|super|insanely|beautiful|beautifully|amazing|stunning|perfect|in|with|"
    r"at|as|under|and|some|detailed|hyper|professional|realistic) )+"
)
_VERB = re.compile(
    r"(?<!who )(?<!that )(?<!which )\b(?:is|are|has|have|(?:holds|sits|stands|wears|looks|stares|fades|pushes|pulls|"
    r"walks|runs|leans|rides|plays|flies|floats|hangs|watches|reaches|drinks|eats|sleeps|battles|fights|rises|falls|"
    r"emerges|shoots|towers|lies|leads|gets|goes|comes|gives|takes|makes|seems|appears|tries|turns|becomes|melts|burns|"
    r"breaks|jumps|climbs|dances|swims|carries|reads|sings|smiles|casts|grows|gazes|sails|drives|flows|shines|glows|"
    r"waits|hides|enters|leaves|meets|crosses|follows|explores|discovers?|throws|opens|closes|covers|overlooks|blooms|"
    r"resembles|does|chases|catches|offers|finds|lives|works|travels|wanders|wakes|teaches|attacks|spins|crawls|uses)"
    r"(?= (?:an?|the|his|her|their|its|in|on|at|into|onto|up|down|out|over|through|from|under|off|like|to|against|"
    r"around|across|toward|towards|by|along|above|away|unicorn|himself|herself)\b))"
    r"(?! of\b)"
)
_ACTING = re.compile(
    r"((?:(?!with|in|on|at|from|under|and|to|for|inside|near|made|while|as|who|that|which)\b\w+[ -]){1,5}?\w+) "
    r"(?:holding|sitting|standing|walking|wearing|playing|riding|flying|sleeping|looking|running|eating|drinking|reading|"
    r"floating|dancing|swimming|climbing|fighting|carrying|driving|jumping|lying|laying|emerging|growing|watching|"
    r"singing|smiling|cooking|painting|working|hiding|rising|crossing|exploring|chasing|falling|surfing|hovering|"
    r"sailing|talking|kissing|hugging|writing|waiting|resting|gazing|staring|leaning|crawling|hanging|burning|melting|"
    r"glowing|towering|overlooking|traveling|wandering|diving|skateboarding|fishing|hunting)\b (?=\w)"
)


if __name__ == "__main__":
    typer.run(main)
