"""A reward whose optimum is known, and a policy that knows nothing of it."""

import random
import zlib
from collections import Counter
from functools import cache
from types import SimpleNamespace

import numpy as np

from neuroprompt.decoding import Constraints
from neuroprompt.prompts import Prompt, join_negatives, modifier_key
from neuroprompt.rewards import Component, RewardSet
from neuroprompt.scoring import Measured, PromptReward
from neuroprompt.search import Ask, SearchConfig, optimize

TERMS = [
    f"{a} {b}"
    for a in ("soft", "golden", "misty", "vivid", "stark", "ornate")
    for b in ("light", "lines", "ink", "mood", "detail", "paint")
]

WISH = Constraints(artist="alphonse mucha", require=["golden hour|sunset"], forbid=["ink", "vivid lines"])


@cache
def unit(*parts) -> float:
    """A normal deviate that belongs to its arguments."""
    return random.Random(zlib.crc32(repr(parts).encode())).gauss(0, 1)


class World(PromptReward):
    """Modifiers with utilities of their own, per prompt; more than five get in each other's way; pairs interact."""

    def __init__(self, noise=0.45, luck=0.6, **settings):
        generator = SimpleNamespace(
            name="world",
            fingerprint="world",
            config=SimpleNamespace(batch_size=16),
            takes_negative=True,
            negative_for=join_negatives,
        )
        names = {"beauty": 1.0, "clip": 0.0, "aesthetic": 0.0}
        components = [Component(SimpleNamespace(name=n, fingerprint=n), w) for n, w in names.items()]
        super().__init__(generator, RewardSet(components), **settings)
        self.noise, self.luck, self.drawn, self.calls = noise, luck, [], 0
        self.stop_after = None  # calls, then Ctrl-C

    def truth(self, text, original):
        modifiers = sorted({modifier_key(m) for m in Prompt.parse(text[len(original) :]).segments})
        value = sum(0.6 * unit(m) + 0.4 * unit(original, m) for m in modifiers)
        value += sum(0.3 * unit("pair", a, b) for a in modifiers for b in modifiers if a < b)
        return value - 0.4 * max(0, len(modifiers) - 5) ** 2

    def measure(self, texts, originals, seeds, negatives=None, on_image=None, use_cache=True):
        self.calls += 1
        if self.stop_after is not None and self.calls > self.stop_after:
            raise KeyboardInterrupt
        self.drawn += list(zip(texts, originals, seeds, strict=True))
        beauty = [
            self.truth(t, o) + self.luck * unit("seed", o, s) + self.noise * unit(t, s)
            for t, o, s in self.drawn[-len(texts) :]
        ]
        scores = {
            "beauty": beauty,
            "clip": [unit("clip", t) for t in texts],
            "aesthetic": [unit("aes", t) for t in texts],
        }
        return Measured({k: np.array(v) for k, v in scores.items()}, np.zeros(len(texts), bool), {}, len(texts))


def policy(asks: list[Ask], seed: int):
    """A policy that knows what is frequent, and nothing of what is good."""
    answers, asked = [], Counter()
    for ask in asks:
        asked[ask] += 1
        rng = random.Random(f"{seed} {ask.original} {asked[ask]}")
        weights = [1 / (k + 3) for k in range(len(TERMS))]
        answers.append(
            [tuple(dict.fromkeys(rng.choices(TERMS, weights, k=rng.randint(3, 7)))) for _ in range(ask.count)]
        )
    return answers


def search(prompts, strategy="bayes", budget=32, reward=None, propose=policy, **settings):
    config = SearchConfig(
        strategy, budget, **{k: settings.pop(k) for k in ("held_out", "seed", "axes", "negatives") if k in settings}
    )
    return optimize(prompts, reward or World(), propose, config, **settings)
