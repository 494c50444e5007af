"""Training pictures for the embedded image models: openly licensed icons, put into scenes, filtered and damaged.

A *rendering* is one 64 x 64 picture with everything known about it: what it shows (`phrases`), in which icon set's
style, through which filter, on which background, and of which quality. Because the cause of every visible property is
known, captions can name it (captions.py), preference pairs can be made from it (preferences.py), and what a model draws
can be checked against what was asked (evaluate.py).

The source is a parquet table with one row per icon (build_images.py makes one); `subjects.tsv` beside this file chooses
the subjects and says how people would call them.
"""

import io
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from .loop import Items, as_it_is

SIZE = 64
SUBJECTS = Path(__file__).with_name("subjects.tsv")
QUALITIES = {"high": 0.42, "average": 0.38, "low": 0.20}

# Sets whose style a small model can learn, with their share. The first six are colour pictures on white, which can be
# cut out, filtered and put into scenes; the last two are black and white and stay as they are.
COLOUR_SETS = ("fluent-emoji-3d", "fluent-emoji-flat", "twemoji", "noto", "emojione", "streamline-emojis")
SETS = {
    "fluent-emoji-3d": 1.3,
    "fluent-emoji-flat": 1.0,
    "twemoji": 1.0,
    "noto": 1.0,
    "emojione": 1.0,
    "streamline-emojis": 1.0,
    "fluent-emoji-high-contrast": 0.6,
    "game-icons": 0.8,
}

# Further sets in which the same subjects are drawn, in styles that nothing here draws: for a model that only looks.
MORE_SETS = ("fluent-emoji", "noto-v1", "fxemoji", "emojione-monotone", "streamline-pixel", "openclipart")


# ---------------------------------------------------------------------------------------------------------- filters
# Each takes and returns uint8 (64, 64, 3) RGB. They stand for a medium that people ask for by name.


def _grey(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def _saturate(rgb: np.ndarray, factor: float) -> np.ndarray:
    grey = _grey(rgb)[..., None].astype(np.float32)
    return np.clip(grey + (rgb.astype(np.float32) - grey) * factor, 0, 255).astype(np.uint8)


def _contrast(rgb: np.ndarray, factor: float, middle: float = 128.0, shift: float = 0.0) -> np.ndarray:
    return np.clip((rgb.astype(np.float32) - middle) * factor + middle + shift, 0, 255).astype(np.uint8)


def _radial(power: float = 1.0) -> np.ndarray:
    """1 at the centre, 0 at the corners; (64, 64, 1)."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1) * 2 - 1
    return (np.clip(1 - np.hypot(x, y) / 1.4142, 0, 1) ** power)[..., None].astype(np.float32)


def _blend(top: np.ndarray, bottom: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.clip(top * alpha + bottom * (1 - alpha), 0, 255).astype(np.uint8)


def pencil_sketch(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour dodge of the grey picture with its blurred negative: the classic darkroom sketch."""
    grey = _grey(rgb).astype(np.float32)
    blurred = cv2.GaussianBlur(255 - grey, (0, 0), 2.5)
    dodge = np.clip(grey * 255 / np.maximum(255 - blurred, 1), 0, 255)
    shade = np.clip(0.75 * dodge + 0.25 * grey + rng.normal(0, 5, grey.shape), 0, 255)
    return np.repeat(shade[..., None], 3, 2).astype(np.uint8)


def line_art(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Thin black outlines on white, the morphological gradient of the smoothed picture."""
    smooth = cv2.bilateralFilter(rgb, 5, 40, 3)
    edges = np.max([cv2.morphologyEx(smooth[..., c], cv2.MORPH_GRADIENT, np.ones((2, 2))) for c in range(3)], 0)
    return np.repeat(255 - np.clip(edges.astype(np.int32) * 3 - 60, 0, 255)[..., None], 3, 2).astype(np.uint8)


def watercolor(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Edge-preserving smoothing, thinned pigment that pools at the edges, warm paper."""
    smooth = cv2.edgePreservingFilter(rgb, flags=1, sigma_s=12, sigma_r=0.5).astype(np.float32)
    blotches = cv2.resize(rng.normal(0, 1, (8, 8)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    edges = cv2.GaussianBlur(cv2.morphologyEx(_grey(rgb), cv2.MORPH_GRADIENT, np.ones((3, 3))), (0, 0), 0.7)
    washed = 255 - (255 - smooth) * (0.62 + 0.10 * blotches[..., None]) - 0.22 * edges[..., None].astype(np.float32)
    return np.clip(washed * np.array([1.0, 0.985, 0.94], np.float32), 0, 255).astype(np.uint8)


def oil_painting(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Kuwahara filter (each pixel takes the mean of its calmest quadrant) over a dark ground, as old canvases have."""
    ground = np.array([112, 84, 56], np.float32) * (0.6 + 0.8 * _radial(0.7)) + rng.normal(0, 9, (SIZE, SIZE, 1))
    source = _blend(rgb.astype(np.float32), ground, cutout(rgb)[..., None])
    mean = cv2.blur(source.astype(np.float32), (3, 3))
    square = cv2.blur(source.astype(np.float32) ** 2, (3, 3))
    spread = (square - mean**2).sum(-1)
    shifts = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    means = np.stack([np.roll(mean, s, (0, 1)) for s in shifts])
    calmest = np.stack([np.roll(spread, s, (0, 1)) for s in shifts]).argmin(0)
    return _saturate(np.take_along_axis(means, calmest[None, ..., None], 0)[0].astype(np.uint8), 1.2)


def black_and_white(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.repeat(_contrast(_grey(rgb)[..., None], 1.15), 3, 2)


def sepia(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brown toning, faded blacks and a vignette: an old photograph."""
    toned = _grey(rgb)[..., None] / 255 * np.array([232, 205, 162], np.float32) + np.array([18, 12, 6], np.float32)
    return np.clip(toned * (0.55 + 0.5 * _radial(0.5)), 0, 255).astype(np.uint8)


def neon(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Glowing coloured outlines on black."""
    edges = np.stack([cv2.morphologyEx(rgb[..., c], cv2.MORPH_GRADIENT, np.ones((2, 2))) for c in range(3)], -1)
    hue = np.array([(255, 40, 200), (40, 220, 255), (140, 80, 255)][int(rng.integers(3))], np.float32)
    strength = np.clip(edges.max(-1, keepdims=True).astype(np.float32) * 2.2, 0, 255) / 255
    lines = strength * (0.65 * hue + 0.35 * _saturate(255 - rgb, 2).astype(np.float32))
    glow = cv2.GaussianBlur(lines, (0, 0), 2.5)
    return np.clip(np.array([10, 6, 24], np.float32) + lines + 1.1 * glow, 0, 255).astype(np.uint8)


def stained_glass(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Voronoi cells of one bright colour each, between dark leads; the background is glass too."""
    pane = np.array([(90, 140, 220), (220, 170, 70), (120, 80, 180)][int(rng.integers(3))], np.float32)
    source = _blend(rgb.astype(np.float32), pane + rng.normal(0, 14, (SIZE, SIZE, 3)), cutout(rgb)[..., None])
    seeds = rng.uniform(0, SIZE, (230, 2))
    grid = np.stack(np.mgrid[0:SIZE, 0:SIZE], -1).reshape(-1, 1, 2)
    nearest = ((grid - seeds) ** 2).sum(-1).argmin(1)
    count = np.maximum(np.bincount(nearest, minlength=len(seeds)), 1)
    colour = np.stack([np.bincount(nearest, source[..., c].ravel(), len(seeds)) / count for c in range(3)], -1)
    cells = nearest.reshape(SIZE, SIZE)
    leads = (cells != np.roll(cells, 1, 0)) | (cells != np.roll(cells, 1, 1))
    glass = _saturate(np.clip(colour[cells], 0, 255).astype(np.uint8), 1.5)
    return np.where(leads[..., None], (glass * 0.35).astype(np.uint8), glass)


def pixel_art(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sixteen blocks across, few tones."""
    blocks = cv2.resize(rgb, (16, 16), interpolation=cv2.INTER_AREA)
    return cv2.resize((blocks // 36 * 36 + 3), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)


def golden_hour(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Low warm light from one side, an orange sky behind."""
    sky = _vertical((255, 205, 120), (240, 130, 70))
    light = np.linspace(1.12, 0.72, SIZE, dtype=np.float32)[None, :, None][:, :: int(rng.choice([1, -1]))]
    lit = rgb.astype(np.float32) * np.array([1.05, 0.86, 0.62], np.float32) * light
    return _blend(lit, sky, cutout(rgb)[..., None])


def synthwave(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Duotone from deep violet over magenta to cyan, on a dark ground."""
    tone = (_grey(rgb).astype(np.float32) / 255)[..., None]
    stops = np.array([(28, 8, 60), (230, 40, 160), (90, 240, 255)], np.float32)
    low, high = np.clip(tone * 2, 0, 1), np.clip(tone * 2 - 1, 0, 1)
    duotone = stops[0] + (stops[1] - stops[0]) * low + (stops[2] - stops[1]) * high
    return _blend(duotone, _vertical((22, 8, 48), (90, 20, 110)), cutout(rgb)[..., None])


def chiaroscuro(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A spot of light on the subject, the rest in darkness."""
    lit = _contrast(rgb, 1.2, 110).astype(np.float32) * (0.35 + 0.9 * _radial(0.8))
    return _blend(lit, np.array([30, 22, 20], np.float32) * (0.5 + 1.5 * _radial(1.5)), cutout(rgb)[..., None])


def pastel(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Chalky light colours on tinted paper."""
    paper = np.array([(250, 232, 238), (228, 240, 250), (244, 240, 224)][int(rng.integers(3))], np.float32)
    chalk = 255 - (255 - _saturate(rgb, 0.8).astype(np.float32)) * 0.55 + rng.normal(0, 5, (SIZE, SIZE, 1))
    return _blend(chalk, paper, cutout(rgb)[..., None])


def woodblock(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A print in five inks (cream, ochre, vermilion, teal, indigo), as Japanese woodblocks and old posters have."""
    inks = np.array([(240, 226, 190), (216, 168, 92), (196, 72, 48), (90, 140, 140), (36, 48, 84)], np.float32)
    smooth = cv2.bilateralFilter(rgb, 5, 60, 3).astype(np.float32)
    # Lightness counts more than hue, so that shapes stay readable in so few inks.
    weight = np.array([0.30, 0.59, 0.11], np.float32)
    light = ((smooth @ weight)[..., None] - inks @ weight) ** 2
    return inks[(((smooth[..., None, :] - inks) ** 2).sum(-1) + 2 * light).argmin(-1)].astype(np.uint8)


FILTERS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "pencil sketch": pencil_sketch,
    "line art": line_art,
    "watercolor": watercolor,
    "oil painting": oil_painting,
    "black and white": black_and_white,
    "sepia": sepia,
    "neon": neon,
    "stained glass": stained_glass,
    "pixel art": pixel_art,
    "golden hour": golden_hour,
    "synthwave": synthwave,
    "chiaroscuro": chiaroscuro,
    "pastel": pastel,
    "woodblock": woodblock,
}


# ------------------------------------------------------------------------------------------------------ backgrounds


def _vertical(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> np.ndarray:
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    return np.broadcast_to(
        np.array(top, np.float32) * (1 - ramp) + np.array(bottom, np.float32) * ramp, (SIZE, SIZE, 3)
    )


def _stars(sky: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    sky = sky.copy()
    y, x = rng.integers(0, SIZE, (2, count))
    sky[y, x] = rng.uniform(150, 255, (count, 1))
    return sky


BACKGROUNDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "blue sky": lambda rng: _vertical((96, 172, 240), (206, 234, 252)),
    "sunset sky": lambda rng: _vertical((90, 60, 140), (255, 150, 90)),
    "night sky": lambda rng: _stars(_vertical((12, 16, 48), (44, 56, 104)), rng, 22),
    "outer space": lambda rng: _stars(_vertical((8, 4, 20), (52, 16, 72)), rng, 34),
    "green": lambda rng: _vertical((150, 200, 110), (56, 120, 60)),
    "studio": lambda rng: 120 + 120 * _radial(0.6).repeat(3, 2),
    "pink": lambda rng: _vertical((255, 214, 226), (250, 170, 196)),
    "dark": lambda rng: 18 + 46 * _radial(1.2).repeat(3, 2),
}


def cutout(rgb: np.ndarray) -> np.ndarray:
    """Opacity of a picture on white, float (64, 64): white that is connected to the border is background."""
    padded = cv2.copyMakeBorder(rgb, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    mask = np.zeros((SIZE + 4, SIZE + 4), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (255 << 8)
    cv2.floodFill(padded, mask, (0, 0), 0, (12, 12, 12), (12, 12, 12), flags)
    return cv2.GaussianBlur(1 - mask[2:-2, 2:-2].astype(np.float32) / 255, (0, 0), 0.6)


# ---------------------------------------------------------------------------------------------------------- quality


def with_quality(rgb: np.ndarray, quality: str, rng: np.random.Generator) -> np.ndarray:
    """high: crisp and colourful; average: a little soft and pale; low: damaged in one or two of five ways."""
    if quality == "high":
        sharp = cv2.addWeighted(rgb, 1.6, cv2.GaussianBlur(rgb, (0, 0), 1.0), -0.6, 0)
        return _contrast(_saturate(sharp, 1.35), 1.06)
    if quality == "average":
        soft = cv2.GaussianBlur(rgb, (0, 0), 0.55)
        return _contrast(_saturate(soft, 0.78), 0.9, 128, 4)
    for damage in rng.choice(5, size=int(rng.integers(1, 3)), replace=False):
        if damage == 0:
            rgb = cv2.GaussianBlur(rgb, (0, 0), float(rng.uniform(1.2, 1.9)))
        elif damage == 1:
            rgb = np.clip(rgb + rng.normal(0, rng.uniform(18, 34), rgb.shape), 0, 255).astype(np.uint8)
        elif damage == 2:
            _, code = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(4, 14))])
            rgb = cv2.imdecode(code, cv2.IMREAD_COLOR)
        elif damage == 3:
            rgb = _contrast(_saturate(rgb, 0.45), 0.5, 128, float(rng.uniform(10, 40)))
        else:
            small = int(rng.integers(18, 26))
            rgb = cv2.resize(cv2.resize(rgb, (small, small), interpolation=cv2.INTER_AREA), (SIZE, SIZE))
            rgb = _saturate(rgb, 0.7)
    return rgb


# ----------------------------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True)
class Layer:
    """One icon in a scene: which subject, how large (1 fills the picture), and where its centre lies."""

    subject: str
    scale: float
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """Several icons of one set in one picture, drawn from back to front."""

    kind: str
    phrases: tuple[str, ...]
    layers: tuple[Layer, ...]
    weight: float = 1.0
    # The bowl hides the lower half of what lies in it: only this part of the last layer is drawn.
    crop_last: float = 0.0


NAMES = {
    "cat face": "cat", "dog face": "dog", "rabbit face": "rabbit", "monkey face": "monkey", "pig face": "pig",
    "horse racing": "horse", "red apple": "apple", "tangerine": "orange", "hamburger": "burger",
    "man mage": "wizard", "woman mage": "witch", "Santa Claus": "santa claus", "deciduous tree": "tree",
    "evergreen tree": "pine tree", "snow-capped mountain": "mountain", "Japanese castle": "japanese castle",
    "automobile": "car", "headphone": "headphones", "motor scooter": "scooter", "T-Rex": "dinosaur", "old woman":
    "old woman", "sun behind cloud": "sun", "cloud with lightning": "thunderstorm", "cloud with rain": "rain cloud",
    "skull": "skeleton",
}  # fmt: skip


def _name(subject: str) -> str:
    return NAMES.get(subject, subject)


def _plural(name: str) -> str:
    if name in ("cherries", "grapes", "blueberries", "popcorn", "candy"):
        return name
    return name[:-1] + "ies" if name.endswith("y") else name + ("es" if name.endswith(("o", "ch")) else "s")


def scenes() -> list[Scene]:
    """Everyday scenes that no single icon shows: riding, playing, wearing, a bowl of something, a sky above, pairs."""
    made: list[Scene] = []
    riders = ("robot", "astronaut", "boy", "girl", "cat face", "dog face", "panda", "bear", "Santa Claus", "princess",
              "ninja", "man mage", "alien", "man", "woman", "rabbit face", "fox", "skull")  # fmt: skip
    for rider in riders:
        for mount in ("horse", "elephant", "unicorn", "dragon", "motor scooter", "skateboard"):
            a, b = _name(rider), _name(mount)
            phrases = (f"{a} riding a {b}", f"{a} on a {b}", f"{a} sitting on a {b}")
            weight = {"horse": 3.0, "dragon": 1.5}.get(mount, 0.7) * (2 if rider in ("boy", "astronaut", "girl") else 1)
            made.append(Scene("person", phrases, (Layer(rider, 0.5, 0.5, 0.27), Layer(mount, 0.78, 0.5, 0.6)), weight))
    players = ("robot", "cat face", "dog face", "boy", "girl", "panda", "bear", "astronaut", "man", "woman", "alien",
               "skull", "fox", "monkey face", "ghost")  # fmt: skip
    for player in players:
        for instrument in ("guitar", "violin", "trumpet", "saxophone", "drum"):
            a = _name(player)
            phrases = (f"{a} playing {instrument}", f"{a} playing the {instrument}", f"{a} with a {instrument}",
                       f"{a} playing a {instrument}")  # fmt: skip
            weight = (4.0 if instrument == "guitar" else 0.6) * (5 if player == "robot" else 1)
            layers = (Layer(player, 0.74, 0.42, 0.39), Layer(instrument, 0.6, 0.66, 0.68))
            made.append(Scene("person", phrases, layers, weight))
    for fruit in ("strawberry", "cherries", "red apple", "lemon", "tangerine", "tomato", "egg", "peach", "cookie",
                  "grapes", "pear", "candy"):  # fmt: skip
        a = _plural(_name(fruit))
        phrases = (f"bowl of {a}", f"bowl with {a}", f"bowl full of {a}", f"~{a} in a bowl", f"bowl of fresh {a}")
        heap = [(0.3, 0.36), (0.7, 0.36), (0.5, 0.24), (0.36, 0.5), (0.64, 0.5), (0.5, 0.44)]
        layers = (*(Layer(fruit, 0.38, x, y) for x, y in heap), Layer("cooked rice", 0.95, 0.5, 0.52))
        made.append(Scene("food", phrases, layers, 12.0 if fruit == "strawberry" else 2.0, crop_last=0.5))
    wearers = ("cat face", "dog face", "robot", "panda", "bear", "boy", "girl", "rabbit face", "fox", "skull", "frog",
               "ghost", "monkey face", "pig face", "lion", "koala")  # fmt: skip
    for wearer in wearers:
        a = _name(wearer)
        body = Layer(wearer, 0.74, 0.5, 0.62)
        for hat in ("top hat", "crown"):
            b = "hat" if hat == "top hat" else hat
            phrases = (f"{a} wearing a {hat}", f"{a} with a {b}", f"{a} in a {hat}", f"{a} wearing a {b}")
            made.append(Scene("animal", phrases, (body, Layer(hat, 0.46, 0.5, 0.2)), 1.0))
        phrases = (f"{a} wearing sunglasses", f"{a} with sunglasses", f"cool {a} with dark glasses")
        made.append(Scene("animal", phrases, (body, Layer("sunglasses", 0.5, 0.5, 0.56)), 1.0))
        phrases = (f"{a} reading a book", f"{a} with a book", f"{a} with an open book")
        made.append(Scene("animal", phrases, (Layer(wearer, 0.7, 0.5, 0.38), Layer("open book", 0.6, 0.5, 0.76)), 0.7))
        phrases = (f"{a} drinking coffee", f"{a} with a cup of coffee", f"{a} drinking tea")
        made.append(
            Scene("animal", phrases, (Layer(wearer, 0.7, 0.42, 0.42), Layer("hot beverage", 0.42, 0.74, 0.74)), 0.5)
        )
    grounds = ("castle", "house", "Japanese castle", "church", "deciduous tree", "evergreen tree", "sailboat", "hut",
               "snow-capped mountain", "palm tree", "tent", "camel", "wolf", "cactus", "owl")  # fmt: skip
    skies = {"crescent moon": "under the moon", "rainbow": "under a rainbow", "sun behind cloud": "under the sun",
             "cloud with rain": "in the rain", "cloud with lightning": "in a thunderstorm", "star": "under a star",
             "snowflake": "in the snow", "fireworks": "with fireworks"}  # fmt: skip
    for ground in grounds:
        for sky, words in skies.items():
            a = _name(ground)
            phrases = (f"{a} {words}", f"{a} {words}", f"{a} and a {_name(sky)}")
            layers = (Layer(sky, 0.36, 0.78, 0.22), Layer(ground, 0.74, 0.44, 0.6))
            made.append(Scene("scene", phrases, layers, 3.0 if ground == "castle" else 0.7))
    hills = ("castle", "house", "church", "Japanese castle", "deciduous tree", "tent", "goat", "wolf")
    for top in hills:
        a = _name(top)
        phrases = (f"{a} on a hill", f"{a} on a mountain", f"{a} on top of a mountain", f"{a} in the mountains")
        layers = (Layer("snow-capped mountain", 1.0, 0.5, 0.66), Layer(top, 0.5, 0.5, 0.34))
        made.append(Scene("scene", phrases, layers, 4.0 if top == "castle" else 1.0))
    mates = ("cat", "dog", "horse", "robot", "boy", "girl", "red apple", "banana", "castle", "house", "deciduous tree",
             "automobile", "bicycle", "rose", "sunflower", "owl", "penguin", "panda", "hamburger", "pizza", "guitar",
             "red heart", "star", "rocket", "balloon", "teddy bear", "books", "hot beverage", "soccer ball",
             "umbrella", "butterfly", "mushroom", "dragon", "princess", "ghost", "wine glass")  # fmt: skip
    for i, left in enumerate(mates):
        for right in mates[i + 1 :]:
            a, b = _name(left), _name(right)
            c, d = (f"an {n}" if n[0] in "aeiou" else n if n == "books" else f"a {n}" for n in (a, b))
            phrases = (f"{a} and {d}", f"{b} and {c}", f"{a} next to {d}", f"{b} beside {c}", f"{a} with {d}")
            made.append(Scene("scene", phrases, (Layer(left, 0.52, 0.27, 0.55), Layer(right, 0.52, 0.73, 0.55)), 0.12))
    return made


def _place(canvas: np.ndarray, alpha: np.ndarray, icon: np.ndarray, layer: Layer, lower_part: float = 0.0) -> None:
    """Paste an icon on white onto a float canvas in place, cut out along its outline."""
    side = max(8, round(SIZE * layer.scale))
    small = cv2.resize(icon, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    opaque = cv2.resize(cutout(icon), (side, side), interpolation=cv2.INTER_AREA)
    if lower_part:
        opaque[: round(side * lower_part)] = 0
    top, left = round(SIZE * layer.y - side / 2), round(SIZE * layer.x - side / 2)
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, SIZE), min(left + side, SIZE)
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    where = (slice(y0, y1), slice(x0, x1))
    weight = opaque[part][..., None]
    canvas[where] = small[part] * weight + canvas[where] * (1 - weight)
    alpha[where] = np.maximum(alpha[where], opaque[part])


def compose(scene: Scene, icons: dict[str, np.ndarray]) -> np.ndarray:
    """The scene on white from the icons of one set, uint8 (64, 64, 3)."""
    canvas, alpha = np.full((SIZE, SIZE, 3), 255, np.float32), np.zeros((SIZE, SIZE), np.float32)
    for i, layer in enumerate(scene.layers):
        last = i == len(scene.layers) - 1
        _place(canvas, alpha, icons[layer.subject], layer, scene.crop_last if last else 0.0)
    return canvas.round().astype(np.uint8)


# -------------------------------------------------------------------------------------------------------- renderings


def read_subjects(path: Path = SUBJECTS) -> dict[str, tuple[str, float, tuple[str, ...]]]:
    """subject -> (kind, weight, phrases)."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {subject: (kind, float(weight), tuple(phrases.split("; "))) for subject, kind, weight, phrases in rows}


def load_icons(
    table: Path, subjects: str = "common", listing: Path = SUBJECTS, sets: Iterable[str] = SETS
) -> pd.DataFrame:
    """The icons to learn: columns subject, kind, weight, phrases, set, author, terms, rgb.

    `subjects`: "common" for those of the listing in these sets, "all" for every row of the table (then label and tags
    serve as phrases; for a GPU). `listing`: a file like subjects.tsv.
    """
    rows = pd.read_parquet(table)
    chosen = read_subjects(listing)
    if missing := sorted(set(chosen) - set(rows.subject)):
        raise ValueError(f"{table} has no picture of {', '.join(missing[:5])}: rebuild it with build_images.py")
    records = []
    for row in rows.itertuples():
        known = row.subject in chosen and row.set in sets and isinstance(row.key, str)
        if not known and subjects != "all":
            continue
        kind, weight, phrases = chosen.get(row.subject, ("object", 0.5, (row.subject.lower(), *list(row.tags)[:3])))
        rgb = np.asarray(Image.open(io.BytesIO(row.image)).convert("RGB"))
        records.append((row.subject, kind, weight * SETS.get(row.set, 0.5), phrases, row.set, row.author, rgb))
    return pd.DataFrame(records, columns=["subject", "kind", "weight", "phrases", "set", "author", "rgb"])


def held_out(subject: str, icon_set: str, weight: float) -> bool:
    """Whether this subject in this style is kept from training (one in thirty; never the most asked-for subjects)."""
    return weight < 3 and zlib.crc32(f"{subject}|{icon_set}".encode()) % 30 == 0


def sibling_held_out(subject: str, icon_set: str, weight: float) -> bool:
    """Whether the subject is held out in a set of the same house ("noto-v1" and "noto"), whose drawing may be alike."""
    house = icon_set.split("-")[0]
    return any(held_out(subject, other, weight) for other in SETS if other.split("-")[0] == house)


def moved(rgb: np.ndarray, rng: np.random.Generator, mirror: bool = True, recolour: bool = True) -> np.ndarray:
    """The picture a little turned, larger or smaller and aside, as another drawer might have placed it: mirrored or
    not, in other colours or in none, and sometimes with a part covered."""
    angle, scale = float(rng.uniform(-14, 14)), float(rng.uniform(0.72, 1.12))
    turn = cv2.getRotationMatrix2D((SIZE / 2 - 0.5, SIZE / 2 - 0.5), angle, scale)
    turn[0, 0:2] *= rng.uniform(0.88, 1.12)
    turn[:, 2] += rng.uniform(-5, 5, 2)
    rgb = cv2.warpAffine(rgb, turn, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if mirror and rng.random() < 0.5:
        rgb = np.ascontiguousarray(rgb[:, ::-1])
    chance = rng.random()
    if recolour and chance < 0.15:
        rgb = np.repeat(_grey(rgb)[..., None], 3, 2)
    elif recolour and chance < 0.4:
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int32) + int(rng.integers(-25, 26))) % 180
        rgb = _saturate(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), float(rng.uniform(0.5, 1.5)))
    elif chance < 0.6:
        rgb = _contrast(rgb, float(rng.uniform(0.7, 1.3)), 128, float(rng.uniform(-25, 25)))
    if rng.random() < 0.2:
        height, width = rng.integers(8, 24, 2)
        y, x = int(rng.integers(SIZE - height)), int(rng.integers(SIZE - width))
        rgb = rgb.copy()
        rgb[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    return rgb


def make_renderings(
    table: Path,
    count: int,
    out: Path,
    subjects: str = "common",
    seed: int = 0,
    listing: Path = SUBJECTS,
    workers: int = 1,
) -> None:
    """Make `count` renderings in the folder `out`: images.npy, (count, 64, 64, 3), and renderings.parquet beside it.

    Each has a random generator of its own, so `workers` processes make the same ones.
    """
    icons = load_icons(table, subjects, listing)
    rng = np.random.default_rng(seed)
    by_set = {s: dict(zip(g.subject, g.rgb, strict=True)) for s, g in icons.groupby("set")}
    all_scenes = scenes()
    chosen = read_subjects(listing)
    out_of_training = np.array(
        [held_out(i.subject, i.set, chosen.get(i.subject, ("", 1.0, ()))[1]) for i in icons.itertuples()]
    )
    # Below proportion to the weights, so that rare subjects are still seen; each icon at least four times.
    share = np.where(out_of_training, 0, np.sqrt(icons.weight.to_numpy()))
    singles = round(count * 0.82)
    repeats = np.repeat(np.flatnonzero(~out_of_training), 4)
    picks = np.concatenate([repeats, rng.choice(len(icons), max(singles - len(repeats), 0), p=share / share.sum())])
    picks = np.concatenate([picks, np.repeat(np.flatnonzero(out_of_training), 3)])

    plans: list[dict] = []
    for index in picks:
        icon = icons.iloc[index]
        plans.append(
            {
                "subject": icon.subject,
                "kind": icon.kind,
                "phrases": list(icon.phrases),
                "set": icon["set"],
                "author": icon.author,
                "split": "heldout" if out_of_training[index] else "train",
                "icon": int(index),
                "scene": -1,
            }
        )
    # (scene, set) pairs whose icons are all there
    possible = [
        (number, icon_set)
        for number, scene in enumerate(all_scenes)
        for icon_set in COLOUR_SETS
        if all(layer.subject in by_set.get(icon_set, ()) for layer in scene.layers)
    ]
    weights = np.array([all_scenes[number].weight for number, _ in possible])
    wanted = max(count - len(plans), 0) if possible else 0
    for index in rng.choice(len(possible), wanted, p=weights / weights.sum()) if wanted else ():
        number, icon_set = possible[index]
        scene = all_scenes[number]
        plans.append(
            {
                "subject": scene.phrases[0].lstrip("~"),
                "kind": scene.kind,
                "phrases": list(scene.phrases),
                "set": icon_set,
                "author": "",
                "split": "train",
                "icon": -1,
                "scene": number,
            }
        )

    def render(index: int) -> tuple[dict, np.ndarray]:
        plan, rng = plans[index], np.random.default_rng((seed, index))
        if plan["scene"] < 0:
            rgb = icons.rgb.iloc[plan["icon"]]
        else:
            rgb = compose(all_scenes[plan["scene"]], by_set[plan["set"]])
        quality = str(rng.choice(list(QUALITIES), p=list(QUALITIES.values())))
        medium = background = ""
        if plan["set"] in COLOUR_SETS:
            chance = rng.random()
            if chance < 0.28:
                medium = str(rng.choice(list(FILTERS)))
                rgb = FILTERS[medium](rgb, rng)
            elif chance < 0.42:
                background = str(rng.choice(list(BACKGROUNDS)))
                rgb = _blend(rgb.astype(np.float32), BACKGROUNDS[background](rng), cutout(rgb)[..., None])
        known = {**plan, "phrases": json.dumps(plan["phrases"]), "quality": quality, "filter": medium}
        return known | {"background": background}, with_quality(rgb, quality, rng)

    out.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(out / "images.npy.part", "w+", np.uint8, (len(plans), SIZE, SIZE, 3))
    # In parts: handing over a rendering takes as long as making it.
    starts = range(0, len(plans), 256)
    parts = Items(lambda n: [render(i) for i in range(starts[n], min(starts[n] + 256, len(plans)))], len(starts))
    made = DataLoader(parts, None, collate_fn=as_it_is, num_workers=0 if workers == 1 else workers)
    rows = []
    with tqdm(total=len(plans), desc="rendering", mininterval=5) as bar:
        for part in made:
            images[len(rows) : len(rows) + len(part)] = [rgb for _, rgb in part]
            rows += [row for row, _ in part]
            bar.update(len(part))
    images.flush()
    pd.DataFrame(rows).drop(columns="icon").to_parquet(out / "renderings.parquet")
    (out / "images.npy.part").rename(out / "images.npy")
