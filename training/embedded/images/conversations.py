"""Pictures with all that they show, and what can truly and falsely be said and asked about them.

A rendering (pictures.py) shows one subject or one scene. Counts, colours and positions are in no icon's label, so two
fifths of the pictures are composed here: one to four copies of an icon, tinted icons, two icons beside or above one
another. From what is known, a picture makes true claims, false ones that are near (another subject of the same kind,
another colour or number, the relation turned round), and questions whose answer is yes as often as no. Words alone
hardly tell which: what is false of one picture is as often true of another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from neuroprompt.questions import wording

from .captions import OPENINGS, CommonModifiers, subject_phrase, write_caption
from .pictures import (
    BACKGROUNDS,
    COLOUR_SETS,
    MORE_SETS,
    NAMES,
    SETS,
    SIZE,
    SUBJECTS,
    cutout,
    held_out,
    load_icons,
    moved,
    read_subjects,
    scenes,
    sibling_held_out,
    with_quality,
)

DESCRIBE = "Describe this image in detail."
SHOWS = 'Does this figure show "{}"? Please answer yes or no.'

COLOURS = {
    "red": (212, 36, 36), "orange": (244, 136, 24), "yellow": (246, 208, 40), "green": (52, 160, 60),
    "blue": (44, 92, 216), "purple": (132, 60, 180), "pink": (250, 140, 184), "brown": (120, 76, 40),
    "black": (36, 36, 40), "grey": (148, 148, 152),
}  # fmt: skip
NUMBERS = ("one", "two", "three", "four")
# Turned round: which relation is false wherever this one is true.
OPPOSITES = {"to the left of": "to the right of", "to the right of": "to the left of", "above": "below",
             "below": "above"}  # fmt: skip
MODIFIERS = 4  # at most, in a prompt: more of them cost time and teach little
KINDS = ("show", "subject", "scene", "count", "colour", "relation")

# Words that two subjects may share without being alike.
GENERIC = frozenset(
    "a an and at of with in the on over face head portrait picture image photo drawing illustration old young golden "
    "big small little beautiful smiling flying walking running tropical fresh colorful ripe slice piece bowl magic "
    "wild great half cute happy baby new king fluffy striped giant wooden burning stack bunch pair pile hot fast food "
    "fried modern summer family white".split()
).union(COLOURS)
JOINTS = (" riding ", " wearing ", " playing ", " reading ", " drinking ", " sitting ", " under ", " on ", " with ",
          " in ")  # fmt: skip


def with_article(phrase: str) -> str:
    """A phrase of subjects.tsv as it is said, where "~" is for those that take no article."""
    return phrase[1:] if phrase.startswith("~") else wording.with_article(phrase)


class Lexicon:
    """How subjects are called, and which of them are alike.

    Attributes:
        phrases: subject -> phrases. nouns: those of them that take a number and a colour; only subjects that have some.
        kind: subject -> kind.
    """

    def __init__(self, listing: Path | None = None):
        known = read_subjects(listing) if listing else read_subjects()
        self.kind = {subject: kind for subject, (kind, _, _) in known.items()}
        self.weight = {subject: weight for subject, (_, weight, _) in known.items()}
        self.phrases = {subject: phrases for subject, (_, _, phrases) in known.items()}
        self.nouns = {
            subject: nouns
            for subject, phrases in self.phrases.items()
            if (nouns := [p for p in phrases if self._is_noun(p)]) and not phrases[0].startswith("~")
        }
        self._words = {s: self.words(s, NAMES.get(s, s), *phrases) for s, phrases in self.phrases.items()}
        self._of_kind = {k: [s for s in known if self.kind[s] == k] for k in set(self.kind.values())}
        self._all = list(known)

    @staticmethod
    def _is_noun(phrase: str) -> bool:
        words = phrase.lower().split(" ")
        joined = {"of", "on", "in", "with", "at", "white", "golden", *COLOURS}.intersection(words)
        return len(words) <= 2 and not joined and not phrase.startswith("~") and not words[-1].endswith(("s", "ing"))

    @staticmethod
    def words(*texts: str) -> frozenset[str]:
        """What may tell that two subjects are alike."""
        split = {w.strip("~,:").removesuffix("'s") for text in texts for w in text.lower().replace("-", " ").split()}
        return frozenset(split - GENERIC)

    def alike(self, subject: str, others: Sequence[str]) -> bool:
        """Whether a picture of one of `others` could be taken for one of `subject`."""
        words = self._words.get(subject) or self.words(subject)
        return any(subject == other or words & (self._words.get(other) or self.words(other)) for other in others)

    def another(self, present: Sequence[str], rng: np.random.Generator) -> str:
        """A subject that is not in a picture of `present`: half of the time of the same kind as one that is."""
        near = self._of_kind.get(self.kind.get(present[int(rng.integers(len(present)))]), self._all)
        for attempt in range(40):
            pool = near if attempt < 20 and rng.random() < 0.5 else self._all
            found = pool[int(rng.integers(len(pool)))]
            if not self.alike(found, present):
                return found
        return found

    def phrase(self, subject: str, rng: np.random.Generator) -> str:
        phrases = self.phrases[subject]
        return phrases[int(rng.integers(len(phrases)))]

    def noun(self, subject: str, rng: np.random.Generator) -> str:
        nouns = self.nouns[subject]
        return nouns[0] if rng.random() < 0.6 else nouns[int(rng.integers(len(nouns)))]


@dataclass
class Picture:
    """uint8 (64, 64, 3) RGB, what is in it, and how to speak of it.

    say: (truth, rng) -> a prompt that is true or false of it, as people write prompts.
    asks: kind -> (truth, rng) -> a question whose answer is yes (True) or no.
    """

    rgb: np.ndarray
    subjects: tuple[str, ...]
    say: Callable[[bool, np.random.Generator], str]
    asks: dict[str, Callable[[bool, np.random.Generator], str]] = field(default_factory=dict)

    def question(self, kind: str, truth: bool, rng: np.random.Generator) -> str:
        """A question of that kind; those about atoms are asked with and without "Please answer yes or no."."""
        if kind == "show":
            return SHOWS.format(self.say(truth, rng))
        question = self.asks[kind](truth, rng)
        return f"{question} Please answer yes or no." if rng.random() < 0.7 else question


class Sights:
    """Pictures about which something is known: renderings, and compositions of the icons of one split.

    Args:
        table: The pictures' table. split: "train" or "heldout", of the icons that are composed.
        common: Frequent modifiers, for prompts with style words.
        listing: A file like subjects.tsv.
    """

    def __init__(self, table: Path, split: str, common: CommonModifiers | None, listing: Path | None = None):
        self.lexicon = Lexicon(listing)
        if len(self.lexicon.nouns) < 3:
            raise ValueError(f"{listing} has fewer than three subjects that can be counted: add some")
        self.common = common
        self.scenes = scenes()
        self._with = {}  # subject -> numbers of the scenes that it is in
        for number, scene in enumerate(self.scenes):
            for layer in scene.layers:
                self._with.setdefault(layer.subject, []).append(number)
        icons = load_icons(table, listing=listing or SUBJECTS, sets=(*SETS, *MORE_SETS))
        weight = self.lexicon.weight
        heldout = np.array([held_out(i.subject, i.set, weight.get(i.subject, 1.0)) for i in icons.itertuples()])
        more = icons.set.isin(MORE_SETS).to_numpy()
        alike = np.array([sibling_held_out(i.subject, i.set, weight.get(i.subject, 1.0)) for i in icons.itertuples()])
        # subject -> (set, rgb), drawn in any set
        self.drawn: dict[str, list[tuple[str, np.ndarray]]] = {}
        for icon in icons[~heldout & ~(more & alike)].itertuples():
            self.drawn.setdefault(icon.subject, []).append((icon.set, icon.rgb))
        icons = icons[(heldout == (split == "heldout")) & ~more & icons.subject.isin(self.lexicon.nouns)]
        # set -> subject -> (rgb, opacity)
        self.icons: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
        for icon in icons.itertuples():
            self.icons.setdefault(icon.set, {})[icon.subject] = icon.rgb, opacity(icon.rgb, icon.set)
        self.icons = {name: icons for name, icons in self.icons.items() if len(icons) > 1}
        self._sets = list(self.icons)

    # ------------------------------------------------------------------------------------------------------ icons

    def icon(self, rng: np.random.Generator) -> Picture:
        """One that is learnt from, of any set, as another drawer might have placed it; each subject as often."""
        subject = pick(list(self.drawn), rng)
        icon_set, rgb = self.drawn[subject][int(rng.integers(len(self.drawn[subject])))]
        if icon_set in (*COLOUR_SETS, *MORE_SETS) and rng.random() < 0.35:
            alpha = cutout(rgb)[..., None]
            ground = BACKGROUNDS[list(BACKGROUNDS)[int(rng.integers(len(BACKGROUNDS)))]](rng)
            rgb = (rgb * alpha + ground * (1 - alpha)).clip(0, 255).astype(np.uint8)
        quality = ("high", "average", "average", "low")[int(rng.integers(4))]
        row = {"subject": subject, "scene": -1, "set": icon_set, "filter": "", "quality": quality, "background": ""}
        picture = self.rendering(row, with_quality(rgb, quality, rng), rng, plain=1.0)
        return self.moved(picture, rng)

    def moved(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """A picture of one subject or scene, moved so that all that is said of it stays true."""
        words = {word for subject in picture.subjects for p in self.lexicon.phrases.get(subject, (subject,))
                 for word in p.split(" ")}  # fmt: skip
        coloured = "colour" in picture.asks or words & set(COLOURS)
        rgb = moved(picture.rgb, rng, mirror="relation" not in picture.asks, recolour=not coloured)
        return replace(picture, rgb=rgb)

    # ------------------------------------------------------------------------------------------------- renderings

    def rendering(self, row: Mapping, rgb: np.ndarray, rng: np.random.Generator, plain: float = 0.7) -> Picture:
        """A rendering with what its row says; a prompt for it is plain with that chance, else has style words."""
        if row["scene"] >= 0:
            return self._scene(row, rgb, rng, plain)
        lexicon, subject = self.lexicon, row["subject"]

        def say(truth: bool, rng: np.random.Generator) -> str:
            named = subject if truth else lexicon.another([subject], rng)
            return self._prompt(row, lexicon.phrases[named], plain, rng)

        def exists(truth: bool, rng: np.random.Generator) -> str:
            named = subject if truth else lexicon.another([subject], rng)
            return there_is(with_article(lexicon.phrase(named, rng)), rng)

        asks = {"subject": exists}
        labelled = subject.lower().split(" ")[0]
        if labelled in COLOURS and not row["filter"] and row["quality"] != "low" and "emoji" in row["set"]:
            noun = " ".join(subject.lower().split(" ")[1:])

            def colour(truth: bool, rng: np.random.Generator) -> str:
                return f"Is the {noun} {labelled if truth else other(COLOURS, labelled, rng)}?"

            if not row["set"].endswith("high-contrast"):
                asks["colour"] = colour
        return Picture(rgb, (subject,), say, asks)

    def _prompt(self, row: Mapping, phrases: Sequence[str], plain: float, rng: np.random.Generator) -> str:
        if self.common is not None and rng.random() >= plain:
            parts = write_caption({**row, "phrases": list(phrases)}, self.common, rng).split(", ")
            return ", ".join(parts[: int(rng.integers(2, MODIFIERS + 2))])
        return opened(subject_phrase(phrases, rng), rng)

    def _scene(self, row: Mapping, rgb: np.ndarray, rng: np.random.Generator, plain: float) -> Picture:
        lexicon, scene = self.lexicon, self.scenes[row["scene"]]
        mirrored = rng.random() < 0.5  # or the cat would always be to the left of the dog
        rgb = rgb[:, ::-1] if mirrored else rgb
        present = tuple(dict.fromkeys(layer.subject for layer in scene.layers))

        def phrases(truth: bool, rng: np.random.Generator) -> Sequence[str]:
            if truth:
                return scene.phrases
            if rng.random() < 0.3:
                return lexicon.phrases[lexicon.another(present, rng)]
            near = self._with[present[int(rng.integers(len(present)))]]
            for _ in range(40):
                number = (
                    near[int(rng.integers(len(near)))] if rng.random() < 0.7 else int(rng.integers(len(self.scenes)))
                )
                found = self.scenes[number]
                if any(not lexicon.alike(layer.subject, present) for layer in found.layers):
                    return found.phrases
            return lexicon.phrases[lexicon.another(present, rng)]

        def whole(truth: bool, rng: np.random.Generator) -> str:
            found = phrases(truth, rng)
            phrase = found[int(rng.integers(len(found)))]
            joint = next((j for j in JOINTS if j in phrase), None)
            if joint is None or phrase.startswith("~") or rng.random() < 0.5:
                return there_is(with_article(phrase), rng)
            left, right = phrase.split(joint, 1)
            right = f"the {right[2:]}" if right.startswith("a ") and rng.random() < 0.5 else right
            return f"Is the {left}{joint}{right}?"

        def exists(truth: bool, rng: np.random.Generator) -> str:
            if truth:
                subject = present[int(rng.integers(len(present)))]
                name = NAMES.get(subject, subject)
            else:
                name = lexicon.phrase(lexicon.another(present, rng), rng)
            return there_is(with_article(name), rng)

        asks = {"scene": whole, "subject": exists}
        if len(scene.layers) == 2 and " and " in scene.phrases[0]:
            names = [NAMES.get(layer.subject, layer.subject) for layer in scene.layers]
            relation = "to the right of" if mirrored else "to the left of"
            asks["relation"] = lambda truth, rng: related(names, relation, truth, rng)
        return Picture(rgb, present, lambda truth, rng: self._prompt(row, phrases(truth, rng), plain, rng), asks)

    # ----------------------------------------------------------------------------------------------- compositions

    def composed(self, kind: str, rng: np.random.Generator) -> Picture:
        """A picture of icons of one set, for questions of a kind: "count", "colour" or "relation"."""
        return {"count": self._counted, "colour": self._coloured, "relation": self._pair}[kind](rng)

    def _draw(self, rng: np.random.Generator, number: int) -> tuple[str, list[str]]:
        """An icon set and `number` different subjects that are not alike."""
        icon_set = self._sets[int(rng.integers(len(self._sets)))]
        names = list(self.icons[icon_set])
        chosen = [names[int(rng.integers(len(names)))]]
        for _ in range(60):
            if len(chosen) == number:
                break
            found = names[int(rng.integers(len(names)))]
            if not self.lexicon.alike(found, chosen):
                chosen.append(found)
        return icon_set, chosen if len(chosen) == number else names[:number]

    def _counted(self, rng: np.random.Generator) -> Picture:
        lexicon = self.lexicon
        icon_set, (subject,) = self._draw(rng, 1)
        count = int(rng.integers(1, 5))
        colour = pick(COLOURS, rng) if rng.random() < 0.15 else None
        rgb = self._paint(icon_set, [(subject, colour)] * count, places(count, rng), rng)

        def say(truth: bool, rng: np.random.Generator) -> str:
            named, number = subject, count
            if not truth and rng.random() < 0.6:
                number = wrong_number(count, rng)
            elif not truth:
                named = self._other_noun([subject], rng)
            if not truth and number == 1:  # "a fox" is no lie about two foxes
                return opened(f"one {lexicon.noun(named, rng)}", rng)
            return numbered(lexicon.noun(named, rng), number, rng)

        def number(truth: bool, rng: np.random.Generator) -> str:
            return how_many(lexicon.noun(subject, rng), count if truth else wrong_number(count, rng), rng)

        def exists(truth: bool, rng: np.random.Generator) -> str:
            noun = lexicon.noun(subject if truth else self._other_noun([subject], rng), rng)
            if count > 1 and rng.random() < 0.5:
                return wording.are_there(wording.plural(noun))
            return there_is(with_article(noun), rng)

        return Picture(rgb, (subject,), say, {"count": number, "subject": exists})

    def _coloured(self, rng: np.random.Generator) -> Picture:
        lexicon = self.lexicon
        alone = rng.random() < 0.6
        icon_set, subjects = self._draw(rng, 1 if alone else 2)
        names = list(rng.permutation(list(COLOURS))[:2])
        where = [(0.5, 0.5, float(rng.uniform(0.6, 0.95)))] if alone else beside(rng)[0]
        rgb = self._paint(icon_set, list(zip(subjects, names, strict=False)), where, rng)

        def wrong(i: int, rng: np.random.Generator) -> str:
            """Half of the time the colour of the other thing."""
            return str(names[1 - i]) if not alone and rng.random() < 0.5 else other(COLOURS, names[i], rng)

        def say(truth: bool, rng: np.random.Generator) -> str:
            said = [(lexicon.noun(s, rng), str(c)) for s, c in zip(subjects, names, strict=False)]
            if not truth:
                i = int(rng.integers(len(said)))
                if rng.random() < 0.6:
                    said[i] = said[i][0], wrong(i, rng)
                else:
                    said[i] = lexicon.noun(self._other_noun(subjects, rng), rng), said[i][1]
            rng.shuffle(said)
            if rng.random() < 0.3:
                said = said[:1] if truth else said
            return opened(" and ".join(with_article(f"{c} {n}") for n, c in said), rng)

        def colour(truth: bool, rng: np.random.Generator) -> str:
            i = int(rng.integers(len(subjects)))
            said, noun = names[i] if truth else wrong(i, rng), lexicon.noun(subjects[i], rng)
            return f"Is the {noun} {said}?" if rng.random() < 0.75 else there_is(with_article(f"{said} {noun}"), rng)

        def exists(truth: bool, rng: np.random.Generator) -> str:
            named = subjects[int(rng.integers(len(subjects)))] if truth else self._other_noun(subjects, rng)
            return there_is(with_article(lexicon.noun(named, rng)), rng)

        return Picture(rgb, tuple(subjects), say, {"colour": colour, "subject": exists})

    def _pair(self, rng: np.random.Generator) -> Picture:
        lexicon = self.lexicon
        icon_set, subjects = self._draw(rng, 2)
        where, relation = beside(rng)
        rgb = self._paint(icon_set, [(s, None) for s in subjects], where, rng)

        def say(truth: bool, rng: np.random.Generator) -> str:
            named, true = [lexicon.noun(s, rng) for s in subjects], relation
            if not truth and rng.random() < 0.5:
                true = OPPOSITES[relation]
            elif not truth:
                named[int(rng.integers(2))] = lexicon.noun(self._other_noun(subjects, rng), rng)
            elif rng.random() < 0.4:  # nothing is said of where they are
                a, b = (with_article(n) for n in rng.permutation(named))
                return opened(f"{a} {('and', 'next to', 'with')[int(rng.integers(3))]} {b}", rng)
            if rng.random() < 0.5:
                named, true = named[::-1], OPPOSITES[true]
            return opened(f"{with_article(named[0])} {worded(true, rng)} {with_article(named[1])}", rng)

        def relates(truth: bool, rng: np.random.Generator) -> str:
            return related([lexicon.noun(s, rng) for s in subjects], relation, truth, rng)

        def exists(truth: bool, rng: np.random.Generator) -> str:
            named = subjects[int(rng.integers(2))] if truth else self._other_noun(subjects, rng)
            return there_is(with_article(lexicon.noun(named, rng)), rng)

        return Picture(rgb, tuple(subjects), say, {"relation": relates, "subject": exists})

    def _other_noun(self, present: Sequence[str], rng: np.random.Generator) -> str:
        for _ in range(40):
            found = self.lexicon.another(present, rng)
            if found in self.lexicon.nouns and found not in present:
                return found
        return pick([subject for subject in self.lexicon.nouns if subject not in present], rng)

    def _paint(
        self, icon_set: str, things: Sequence[tuple[str, str | None]], where, rng: np.random.Generator
    ) -> np.ndarray:
        """Icons with their tints (None: their own colours) at (x, y, scale), on a ground that leaves them visible."""
        light_on_dark = icon_set == "game-icons" and all(colour is None for _, colour in things)
        canvas = np.full((SIZE, SIZE, 3), 0.0 if light_on_dark else 255.0, np.float32)
        if not light_on_dark and rng.random() < 0.3:
            canvas = np.array(
                BACKGROUNDS[("blue sky", "green", "studio", "pink")[int(rng.integers(4))]](rng), np.float32
            )
        for (subject, colour), (x, y, scale) in zip(things, where, strict=True):
            rgb, opaque = self.icons[icon_set][subject]
            if colour is not None:
                rgb = tinted(rgb, COLOURS[colour], icon_set, rng)
            side = round(SIZE * scale)
            small = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
            weight = cv2.resize(opaque, (side, side), interpolation=cv2.INTER_AREA)
            top, left = round(SIZE * y - side / 2), round(SIZE * x - side / 2)
            y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, SIZE), min(left + side, SIZE)
            part = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
            alpha = weight[part][..., None]
            canvas[y0:y1, x0:x1] = small[part] * alpha + canvas[y0:y1, x0:x1] * (1 - alpha)
        quality = ("high", "average", "average")[int(rng.integers(3))]
        return with_quality(canvas.round().clip(0, 255).astype(np.uint8), quality, rng)


# ------------------------------------------------------------------------------------------------------------- pixels


def opacity(rgb: np.ndarray, icon_set: str) -> np.ndarray:
    """What of an icon is not background, float (64, 64)."""
    return rgb.mean(-1).astype(np.float32) / 255 if icon_set == "game-icons" else cutout(rgb)


def tinted(rgb: np.ndarray, colour: tuple[int, int, int], icon_set: str, rng: np.random.Generator) -> np.ndarray:
    """The icon in shades of one colour: light and dark stay apart, hue is gone; glyphs become silhouettes."""
    shade = np.array(colour, np.float32) * rng.uniform(0.85, 1.12) + rng.normal(0, 8, 3)
    if icon_set in ("game-icons", "fluent-emoji-high-contrast"):
        return np.broadcast_to(shade.clip(0, 255), rgb.shape).astype(np.uint8)
    light = rgb.astype(np.float32) @ np.array([0.30, 0.59, 0.11], np.float32) / 255
    light = (0.5 + 0.65 * light)[..., None]
    return np.clip(shade * np.minimum(light, 1) + 90 * np.maximum(light - 1, 0), 0, 255).astype(np.uint8)


def places(count: int, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """(x, y, scale) of `count` copies that do not touch: the cells of a grid, or a row."""
    if count == 1:
        scale = float(rng.uniform(0.4, 0.9))
        return [
            (
                0.5 + float(rng.uniform(-1, 1)) * (1 - scale) / 2,
                0.5 + float(rng.uniform(-1, 1)) * (1 - scale) / 2,
                scale,
            )
        ]
    if count <= 3 and rng.random() < 0.5:
        scale = 0.44 if count == 2 else 0.32
        row = [((i + 0.5) / count, 0.5 + float(rng.uniform(-0.12, 0.12)), scale) for i in range(count)]
        return row if rng.random() < 0.6 else [(y, x, s) for x, y, s in row]
    cells = rng.permutation(4)[:count]
    jitter = rng.uniform(-0.03, 0.03, (4, 2))
    return [(0.26 + 0.48 * (c % 2) + jitter[c, 0], 0.26 + 0.48 * (c // 2) + jitter[c, 1], 0.42) for c in cells]


def beside(rng: np.random.Generator) -> tuple[list[tuple[float, float, float]], str]:
    """The places of two things, and the relation of the first to the second."""
    scale, shift = float(rng.uniform(0.4, 0.5)), rng.uniform(-0.05, 0.05, 2)
    ends = [(0.26, 0.5 + float(shift[0]), scale), (0.74, 0.5 + float(shift[1]), scale)]
    relations = ["to the left of", "to the right of"]
    if rng.random() < 0.5:
        ends, relations = [(y, x, s) for x, y, s in ends], ["above", "below"]
    turn = int(rng.integers(2))
    return (ends[::-1] if turn else ends), relations[turn]


# -------------------------------------------------------------------------------------------------------------- words


def pick(items, rng: np.random.Generator):
    items = list(items)
    return items[int(rng.integers(len(items)))]


def other(items, one: str, rng: np.random.Generator) -> str:
    return pick([item for item in items if item != one], rng)


def opened(phrase: str, rng: np.random.Generator) -> str:
    """The phrase, now and then after "picture of" and its like."""
    return f"{'a ' if rng.random() < 0.4 else ''}{pick(OPENINGS, rng)} {phrase}" if rng.random() < 0.2 else phrase


def there_is(what: str, rng: np.random.Generator) -> str:
    if rng.random() < 0.7:
        return f"Is there {what}?"
    return pick((f"Is there {what} in the picture?", f"Is there {what} in the image?", f"Does the picture show {what}?",
                 f"Is this {what}?", f"Does the image show {what}?"), rng)  # fmt: skip


# Which number is said in place of another: each is as often false as it is true, or words would tell.
WRONG_NUMBERS = np.array([[0, 0.4, 0.2, 0.4], [0.4, 0, 0.4, 0.2], [0.2, 0.4, 0, 0.4], [0.4, 0.2, 0.4, 0]])


def wrong_number(count: int, rng: np.random.Generator) -> int:
    return 1 + int(rng.choice(len(NUMBERS), p=WRONG_NUMBERS[count - 1]))


def numbered(noun: str, count: int, rng: np.random.Generator) -> str:
    if count > 1:
        return opened(f"{NUMBERS[count - 1]} {wording.plural(noun)}", rng)
    return opened(with_article(noun) if rng.random() < 0.6 else f"one {noun}", rng)


def how_many(noun: str, count: int, rng: np.random.Generator) -> str:
    exactly = "exactly " if rng.random() < 0.15 else ""
    return (
        f"Is there {exactly}one {noun}?"
        if count == 1
        else f"Are there {exactly}{NUMBERS[count - 1]} {wording.plural(noun)}?"
    )


def worded(relation: str, rng: np.random.Generator) -> str:
    if relation.startswith("to the") and rng.random() < 0.25:
        return relation.removeprefix("to the ")
    return relation


def related(names: Sequence[str], relation: str, truth: bool, rng: np.random.Generator) -> str:
    """Whether the first is in that relation to the second, or the second in the opposite one to the first."""
    first, second = names
    if not truth:
        relation = OPPOSITES[relation]
    if rng.random() < 0.5:
        first, second, relation = second, first, OPPOSITES[relation]
    if rng.random() < 0.8:
        return f"Is the {first} {worded(relation, rng)} the {second}?"
    return f"Is there {with_article(first)} {worded(relation, rng)} {with_article(second)}?"
