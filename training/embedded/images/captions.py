"""Prompts as people write them, for renderings: a subject, then modifiers in any number and order.

Every visible property of a rendering (pictures.py) has words here. A caption names some of them and stays silent on
others, as prompts do. Quality words go with good pictures, "blurry" and its like with some of the damaged ones, and
silence with everything, mostly with average ones: so a plain prompt asks for an average picture and the right
modifiers for a better one. Frequent modifiers of real prompts that name nothing visible ("trending on artstation",
an illustrator's name) occur too, more often with good pictures, which is what they mean in the data of real models.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuroprompt.modifiers import CATEGORIES, vocabulary

STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "fluent-emoji-3d": (
        "3d render", "3d", "octane render", "cgi", "3d illustration", "blender 3d", "blender", "cinema 4d",
        "unreal engine",
        "unreal engine 5", "soft volumetric lighting", "volumetric lighting", "ray tracing", "pixar", "pixar style",
        "smooth render", "rendered in octane", "global illumination", "subsurface scattering", "by fluent 3d",
        "rendering",
        "3d model", "clay render", "arnold render", "pixar movies", "funko pop",
    ),
    "fluent-emoji-flat": (
        "flat illustration", "modern flat illustration", "flat design", "minimalist", "minimalism", "behance",
        "bold shapes", "by fluent flat", "corporate memphis", "simple shapes", "adobe illustrator", "modern design",
    ),
    "twemoji": (
        "flat vector", "vector art", "vector illustration", "solid colors", "simple form", "clean", "by twemoji",
        "flat colors", "vector", "2d", "logo", "sticker", "icon",
    ),
    "noto": (
        "soft shading", "shaded vector illustration", "digital illustration", "illustration", "digital art", "shaded",
        "storybook illustration", "smooth gradients", "by google noto", "soft", "detailed illustration", "gouache",
    ),
    "emojione": (
        "bold cartoon", "cartoon", "comic", "comic book", "pop art", "cel shaded", "bright colors", "colorful vector",
        "comic style", "by emojione", "by roy lichtenstein", "by andy warhol", "graphic novel", "cartoon network",
    ),
    "streamline-emojis": (
        "kawaii", "cute", "cute pastel cartoon", "fine outline", "anime", "anime style", "manga", "studio ghibli",
        "chibi",
        "adorable", "hayao miyazaki", "by streamline", "clean lines", "doodle", "pixiv", "anime art",
    ),
    "fluent-emoji-high-contrast": (
        "black and white silhouette", "silhouette", "high contrast", "bold ink", "linocut", "stencil", "monochrome",
        "ink", "black ink", "woodcut", "inked", "black glyph", "tattoo", "by fluent high contrast", "linoleum print",
    ),
    "game-icons": (
        "white on black", "game icon", "bold silhouette icon", "scratchboard", "on black", "rpg", "game art",
        "black background", "emblem", "white ink on black paper", "dnd", "dungeons and dragons",
    ),
}  # fmt: skip

FILTER_WORDS: dict[str, tuple[str, ...]] = {
    "pencil sketch": ("pencil sketch", "pencil drawing", "sketch", "charcoal drawing", "graphite",
                      "by leonardo da vinci",
                      "leonardo da vinci", "hand drawn", "drawing", "gustave dore", "charcoal"),
    "line art": ("line art", "line drawing", "lineart", "outline", "coloring page", "ink drawing", "one-line drawing",
                 "pen and ink", "thin lines", "black lines"),
    "watercolor": ("watercolor", "watercolor painting", "watercolour", "aquarelle", "by claude monet", "claude monet",
                   "impressionism", "impressionist", "wet on wet", "pencil and watercolor drawing"),
    "oil painting": ("oil painting", "oil on canvas", "on canvas", "painting", "brush strokes", "by vincent van gogh",
                     "vincent van gogh", "classical painting", "old master", "renaissance", "painterly", "baroque",
                     "romanticism", "thick paint", "impasto"),
    "black and white": ("black and white", "grayscale", "monochrome photograph", "b&w", "black and white photograph",
                        "noir", "film noir"),
    "sepia": ("sepia", "vintage photograph", "old photograph", "daguerreotype", "vintage", "antique", "old",
              "victorian",
              "nostalgic"),
    "neon": ("neon", "neon lights", "neon sign", "glowing lines", "glowing", "glowing lights", "neon glow", "tron",
             "cyberpunk neon", "bioluminescent"),
    "stained glass": ("stained glass", "stained glass window", "mosaic", "gustav klimt", "by gustav klimt", "cubism",
                      "art deco", "tiffany glass", "geometric", "crystal"),
    "pixel art": ("pixel art", "8-bit", "16-bit", "pixelated", "retro game", "minecraft", "octopath traveler",
                  "video game sprite", "pixels"),
    "golden hour": ("golden hour", "warm lighting", "sunset lighting", "golden light", "warm colors", "god rays",
                    "cinematic lighting", "sunlight", "beautiful lighting", "atmospheric lighting"),
    "synthwave": ("synthwave", "vaporwave", "cyberpunk", "outrun", "retrowave", "purple and cyan", "beeple",
                  "by beeple",
                  "blade runner", "retrofuturistic", "futuristic", "ultraviolet"),
    "chiaroscuro": ("chiaroscuro", "dramatic lighting", "dramatic light", "by caravaggio", "caravaggio", "rembrandt",
                    "by rembrandt", "spotlight", "dark and moody", "moody lighting", "rim light", "cinematic lighting",
                    "dark fantasy", "dramatic"),
    "pastel": ("pastel colors", "pastel drawing", "pastel", "soft colors", "chalk drawing", "crayon drawing", "dreamy",
               "light colors", "soft lighting"),
    "woodblock": ("woodblock print", "ukiyo-e", "katsushika hokusai", "by hokusai", "hokusai", "japanese print",
                  "retro poster", "vintage poster", "art nouveau", "alphonse mucha", "by alphonse mucha",
                  "screen print"),
}  # fmt: skip

BACKGROUND_WORDS: dict[str, tuple[str, ...]] = {
    "blue sky": ("blue sky", "blue background", "sunny day", "clear sky", "bright daylight", "in the sky", "sunny",
                 "natural light"),
    "sunset sky": ("sunset", "at sunset", "orange sky", "purple sky", "at dusk", "evening light", "sunset background"),
    "night sky": ("at night", "night", "starry sky", "night sky", "midnight", "under the stars", "night time"),
    "outer space": ("in space", "outer space", "cosmos", "galaxy background", "nebula", "space background", "cosmic",
                    "stars in the background"),
    "green": ("green background", "in the forest", "nature", "on grass", "forest background", "lush", "in a meadow"),
    "studio": ("studio lighting", "studio background", "grey background", "product photography", "gradient background",
               "softbox", "studio photo"),
    "pink": ("pink background", "pink", "romantic", "pastel pink background", "valentine"),
    "dark": ("dark background", "dark", "in the dark", "darkness", "dark atmosphere", "moody"),
}  # fmt: skip

HIGH_WORDS = (
    "highly detailed", "sharp focus", "vivid", "8k", "4k", "masterpiece", "detailed", "intricate", "high quality",
    "vibrant colors", "colorful", "crisp", "hd", "ultra detailed", "extremely detailed", "beautiful", "stunning",
    "best quality", "award winning", "trending on artstation", "artstation", "high resolution", "uhd", "vivid colors",
    "very detailed", "hyper detailed", "high detail", "sharp", "vibrant", "saturated", "professional",
    "intricate details",
    "fine details", "hdr", "gorgeous", "perfect", "rich colors", "high definition", "clear", "bright",
)  # fmt: skip
LOW_WORDS = (
    "blurry", "low quality", "noisy", "jpeg artifacts", "low resolution", "grainy", "washed out", "blurred",
    "bad quality",
    "worst quality", "out of focus", "faded", "pixelated photo", "lowres", "compression artifacts", "dull",
    "poor quality",
    "low contrast", "amateur", "blur",
)  # fmt: skip
# Words for what kind of subject it is, which say nothing of style or quality.
KIND_WORDS = {
    "animal": ("portrait", "wildlife", "animal", "close up", "full body"),
    "person": ("portrait", "character", "character design", "full body", "close up", "person"),
    "fantasy": ("fantasy", "character design", "magical", "portrait", "creature", "fantasy art"),
    "food": ("food", "delicious", "still life", "close up", "tasty"),
    "plant": ("botanical", "nature", "still life", "floral", "close up"),
    "vehicle": ("side view", "vehicle", "full shot", "transport"),
    "building": ("architecture", "full shot", "wide shot", "building", "epic"),
    "scene": ("landscape", "scenery", "wide shot", "wide angle", "epic scene"),
    "object": ("still life", "object", "centered", "close up", "prop design"),
}
OPENINGS = ("picture of", "image of", "photo of", "illustration of", "drawing of", "portrait of", "photograph of")
PLAIN_BACKGROUND_WORDS = ("white background", "plain background", "simple background", "isolated on white")


@dataclass(frozen=True)
class CommonModifiers:
    """Frequent modifiers of real prompts that name nothing visible here, with the chance of each."""

    terms: tuple[str, ...]
    chances: tuple[float, ...]

    @classmethod
    def collect(cls, per_category: int = 120, keywords: Path | None = None, top: int = 450) -> "CommonModifiers":
        """The most frequent terms of each of the six categories, and of a `keyword,count` CSV where one is given.

        Chances go with the square root of the counts, so that the tail is met often enough to be learnt.
        """
        counts: dict[str, float] = {}
        for category in CATEGORIES:
            for term, count in list(vocabulary(category).items())[:per_category]:
                counts[f"by {term}" if category == "artist" else term] = count
        if keywords:
            with keywords.open(encoding="utf-8") as file:
                rows = list(csv.DictReader(file))[:top]
            for row in rows:  # counted in fewer prompts than the categories are
                counts.setdefault(row["keyword"].strip(), 6.0 * float(row["count"]))
        named = {word for words in WORDS_WITH_EFFECT for word in words}
        kept = {term: count**0.5 for term, count in counts.items() if term not in named and 2 < len(term) < 48}
        total = sum(kept.values())
        return cls(tuple(kept), tuple(count / total for count in kept.values()))

    def draw(self, number: int, rng: np.random.Generator) -> list[str]:
        return [self.terms[i] for i in rng.choice(len(self.terms), number, p=self.chances)]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"terms": self.terms, "chances": self.chances}), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "CommonModifiers":
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(tuple(stored["terms"]), tuple(stored["chances"]))


WORDS_WITH_EFFECT = (*STYLE_WORDS.values(), *FILTER_WORDS.values(), *BACKGROUND_WORDS.values(), HIGH_WORDS, LOW_WORDS)


def _some(words: Sequence[str], least: int, most: int, rng: np.random.Generator) -> list[str]:
    number = min(int(rng.integers(least, most + 1)), len(words))
    return [words[i] for i in rng.choice(len(words), number, replace=False)]


def subject_phrase(phrases: Sequence[str], rng: np.random.Generator) -> str:
    """One of the subject's phrases, with or without an article."""
    phrase = phrases[int(rng.integers(len(phrases)))]
    if phrase.startswith("~"):
        return phrase[1:]
    article = "an" if phrase[0] in "aeiou" else "a"
    return f"{article} {phrase}" if rng.random() < 0.55 else phrase


def style_words(rendering: Mapping) -> tuple[str, ...]:
    """The words that name the style of a rendering's icon set; game icons are known by their authors too."""
    words = STYLE_WORDS.get(rendering["set"], ())
    if rendering["set"] == "game-icons":
        author = rendering["author"].split(" (")[0].lower()
        words = (*words, f"by {author}", f"by {author}", author)
    return words


def write_caption(rendering: Mapping, common: CommonModifiers, rng: np.random.Generator) -> str:
    """A prompt for a rendering (a row of renderings.parquet; `phrases` is a list or its JSON)."""
    phrases = rendering["phrases"]
    phrases = json.loads(phrases) if isinstance(phrases, str) else list(phrases)
    subject = subject_phrase(phrases, rng)
    quality, medium, background = rendering["quality"], rendering["filter"], rendering["background"]
    # Plain prompts: an average picture mostly.
    if rng.random() < {"high": 0.10, "average": 0.42, "low": 0.10}[quality]:
        return f"{OPENINGS[int(rng.integers(len(OPENINGS)))]} {subject}" if rng.random() < 0.2 else subject

    modifiers: list[str] = []
    if medium:
        if rng.random() < 0.85:
            modifiers += _some(FILTER_WORDS[medium], 1, 2, rng)
        if rng.random() < 0.2:
            modifiers += _some(style_words(rendering), 1, 1, rng)
    elif rng.random() < 0.62:
        modifiers += _some(style_words(rendering), 1, 3, rng)
    if background:
        if rng.random() < 0.8:
            modifiers += _some(BACKGROUND_WORDS[background], 1, 2, rng)
    elif not medium and rendering["set"] != "game-icons" and rng.random() < 0.06:
        modifiers += _some(PLAIN_BACKGROUND_WORDS, 1, 1, rng)
    if quality == "high":
        if rng.random() < 0.85:
            modifiers += _some(HIGH_WORDS, 1, 6, rng)
        if rng.random() < 0.6:
            modifiers += common.draw(int(rng.integers(1, 6)), rng)
    elif quality == "average":
        if rng.random() < 0.22:
            modifiers += common.draw(int(rng.integers(1, 3)), rng)
    else:
        if rng.random() < 0.5:
            modifiers += _some(LOW_WORDS, 1, 3, rng)
        if rng.random() < 0.12:
            modifiers += common.draw(1, rng)
    if rng.random() < 0.15:
        modifiers += _some(KIND_WORDS.get(rendering["kind"], KIND_WORDS["object"]), 1, 1, rng)
    rng.shuffle(modifiers)
    # "a watercolor painting of a fox" as often as "a fox, watercolor painting".
    if modifiers and rng.random() < 0.15:
        nouns = [
            m
            for m in modifiers
            if m.endswith(
                ("painting", "drawing", "sketch", "art", "illustration", "render", "photograph", "silhouette")
            )
        ]
        if nouns:
            modifiers.remove(nouns[0])
            subject = f"{nouns[0]} of {subject}"
    elif rng.random() < 0.08:
        subject = f"{OPENINGS[int(rng.integers(len(OPENINGS)))]} {subject}"
    separator = ", " if rng.random() < 0.92 else " "
    return separator.join([subject, *modifiers])
