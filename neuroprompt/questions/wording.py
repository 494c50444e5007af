"""Questions in good English: articles, plurals, numbers."""

import re

import lemminflect

from neuroprompt.degrading import COLOURS

NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
"""In words, as questions have them."""
MASS = frozenset(
    """armor armour art beer bread broccoli cake champagne cheese chocolate clothing coffee dirt dust equipment fire
    foam fog food frosting fruit fur furniture garbage graffiti grass hair hay ice jewelry juice lava lightning luggage
    makeup meat milk mist money moonlight mud music paper pasta pizza rain rice sand sashimi silverware smoke snow soup
    spaghetti steam sunlight sushi tea text traffic vegetation water wine wood writing""".split()
)
"""Nouns that take no article."""
_ALWAYS_PLURAL = frozenset(
    """binoculars clothes glasses goggles headphones jeans leggings overalls pajamas pants people police scissors shorts
    spectacles sunglasses tights trousers""".split()
)
_AN = re.compile(
    r"(?!uni(?!n)|ufo|us[aeiu]|ut[aei]|uk|eu|one\b|once\b)[aeiou]|hour|honest|heir|x-ray|mri\b", re.IGNORECASE
)


def with_article(phrase: str) -> str:
    """ "a fox", "an owl", "a unicorn"."""
    return f"{'an' if _AN.match(phrase) else 'a'} {phrase}"


def is_there(phrase: str) -> str:
    """Whether the picture shows one: "Is there a fox?", "Is there snow?"."""
    return f"Is there {phrase}?"


def are_there(phrase: str, count: str = "") -> str:
    """Whether it shows several: "Are there foxes?", "Are there three foxes?"."""
    return f"Are there {count}{' ' * bool(count)}{phrase}?"


def plural(phrase: str) -> str:
    """ "traffic lights" of "traffic light"."""
    head, space, last = phrase.rpartition(" ")
    return head + space + (lemminflect.getInflection(last, "NNS") or (f"{last}s",))[0]


def is_plural(noun: str) -> bool:
    """Whether a noun is several, as far as its form tells."""
    key = noun.lower()
    lemmas = lemminflect.getAllLemmas(key, upos="NOUN").get("NOUN", ())
    return key in _ALWAYS_PLURAL or bool(lemmas and key not in lemmas and key not in MASS)


def count_in_words(count: int) -> str:
    return NUMBERS[count] if 0 <= count < len(NUMBERS) else str(count)


def is_colour(word: str) -> bool:
    return word.lower() in COLOURS
