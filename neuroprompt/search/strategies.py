"""Ways to spend a budget of pictures on one prompt.

A strategy is a generator: it yields a `Propose` or a `Draw` and goes on when that is answered, so that many searches
run side by side and share the policy's batches and the generator's.

- ``best-of-n``: as many samples of the policy as the budget holds, each drawn alike; the highest mean wins. All are
  drawn with the same seeds in the same order (common random numbers), so that two of them are equally lucky.
- ``bayes``: Bayesian optimisation over many more samples than can be drawn. A `Posterior` over what the generator reads
  tells from the pictures so far which samples deserve one, or another one (Thompson 1933), and which wins. Texts begin
  with different seeds, because near prompts are lucky with the same ones, and it is left to the posterior to tell worth
  from luck.
"""

import itertools
import math
import random
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from neuroprompt.prompts import Prompt
from neuroprompt.scoring import known_mean

from .candidates import Space, keys
from .posterior import Posterior
from .proposals import Ask


class Draw(NamedTuple):
    """Pictures wanted: (text, how manieth seed). The answer is what each is worth; NaN where nothing is known of it."""

    pictures: list[tuple[str, int]]


class Propose(NamedTuple):
    """Proposals wanted of the policy (None: of none), and the best rewrites so far with their values, for a chat model.

    The answer is the policy's lists of modifiers, and the chat model's.
    """

    ask: Ask | None
    best: list[tuple[str, float]]


Steps = Generator[Draw | Propose, Any, Any]


class Search:
    """What a strategy knows and does.

    Args:
        space: The rewrites that may be drawn.
        budget: Pictures that may be drawn, those of the original included.
        pictures_each: Pictures of the original, and of each candidate where all get alike.
        seed: Of everything random here.
        encode: Texts to what the generator makes of them, (n, d); None where that is not known.
        has_chat: Whether a chat model proposes, too.
        samples: Rewrites to choose from, per picture of the budget, where not all are drawn.

    Attributes:
        values: By text and seed (0, 1, …), what its pictures are worth.
        pick: The text that would win if the search ended now.
        gain: What it is worth more than the original, as far as is known.
        error: Standard deviation of that; None where the strategy does not know it.
        curve: (pictures drawn, gain of the pick) after each round.
    """

    def __init__(
        self,
        space: Space,
        budget: int,
        pictures_each: int,
        seed: int,
        encode: Callable[[list[str]], np.ndarray] | None = None,
        has_chat: bool = False,
        samples: int = 4,
    ):
        self.space, self.budget, self.pictures_each = space, budget, pictures_each
        self.encode, self.has_chat, self.samples = encode, has_chat, samples
        self.random, self.generator = random.Random(seed), np.random.default_rng(seed)
        self.values: dict[str, dict[int, float]] = {}
        self.pick, self.gain, self.error = space.original, 0.0, None
        self.curve: list[tuple[int, float]] = []
        self._features: dict[str, np.ndarray] = {}
        self._first_seeds: dict[str, int] = {}

    @property
    def drawn(self) -> int:
        """Pictures drawn so far."""
        return sum(map(len, self.values.values()))

    @property
    def left(self) -> int:
        """Pictures that may still be drawn, those that the original is to have set apart."""
        owed = 0 if self.space.original in self.values else self.pictures_each
        return self.budget - self.drawn - owed

    def mean(self, text: str, pictures: int | None = None) -> float:
        """What a text is worth on (its first so many of) its pictures; NaN if nothing is known of them."""
        return float(known_mean(np.array(list(self.values[text].values())[:pictures])))

    def features(self, texts: Sequence[str]) -> np.ndarray:
        """What each text is: as the generator reads it, and its negative prompt where these are searched; or where that
        is not known, which modifiers it has, and which phrases there. (n, d)"""
        drawn = [self.space.drawn[text] for text in texts]
        if self.encode:
            sides = [[d.text for d in drawn]] + [[d.negative or "" for d in drawn]] * self.space.negatives
            if new := [text for text in dict.fromkeys(itertools.chain(*sides)) if text not in self._features]:
                self._features |= zip(new, self.encode(new), strict=True)
            return np.hstack([np.stack([self._features[text] for text in side]) for side in sides])
        sets = [
            keys(d.modifiers) | {f"no {key}" for key in keys(Prompt.parse(d.negative or "").segments)} for d in drawn
        ]
        columns = {name: i for i, name in enumerate(dict.fromkeys(name for own in sets for name in sorted(own)))}
        has = np.zeros((len(texts), len(columns)))
        for row, own in zip(has, sets, strict=True):
            row[[columns[name] for name in own]] = 1
        return has

    def candidates(self) -> list[str]:
        """The texts drawn so far that may win: those that meet the constraints, and of which something is known."""
        return [
            text
            for text in self.values
            if (text != self.space.original or self.space.original_allowed) and math.isfinite(self.mean(text))
        ]

    def note(self, pick: str, gain: float, error: float | None = None) -> None:
        """Say which text is the best so far, and what it gains over the original, with its standard deviation."""
        self.pick, self.gain, self.error = pick, float(gain), error
        self.curve.append((self.drawn, self.gain))

    def draw(self, wanted: Mapping[str, int]) -> Steps:
        """Draw texts until each has so many pictures, or the budget is spent; low seeds first."""
        pictures = [(text, k) for text, n in wanted.items() for k in range(len(self.values.get(text, ())), n)]
        yield from self._draw(sorted(pictures, key=lambda picture: picture[1]))

    def look(self, texts: Iterable[str]) -> Steps:
        """Draw one more picture of each text, as often as it is named, until the budget is spent.

        Texts begin with different seeds of the first few, go on with the others of these, and then with new ones.
        """
        seeds = max(1, self.budget // _PER_SEED)
        used: dict[str, set[int]] = {}
        pictures = []
        for text in texts:
            first = self._first_seeds.setdefault(text, len(self._first_seeds))
            turns = itertools.chain(((first + k) % seeds for k in range(seeds)), itertools.count(seeds))
            seed = next(k for k in turns if k not in used.setdefault(text, set(self.values.get(text, ()))))
            used[text].add(seed)
            pictures.append((text, seed))
        yield from self._draw(pictures)

    def _draw(self, pictures: list[tuple[str, int]]) -> Steps:
        """Draw these texts with these seeds, as far as the budget goes; before all else, the original."""
        pictures = pictures[: max(0, self.left)]
        if not self.values:
            own = [(self.space.original, k) for k in range(self.pictures_each)]
            pictures = own + [picture for picture in pictures if picture not in own]
        if pictures:
            for (text, k), value in zip(pictures, (yield Draw(pictures)), strict=True):
                self.values.setdefault(text, {})[k] = float(value)

    def sample(self, count: int) -> Steps:
        """Up to `count` different rewrites that the policy writes of the original; a chat model's come first."""
        texts: dict[str, None] = {}
        for _ in range(3):  # a policy that is sure of itself says the same thing again
            if len(texts) >= count or not self.space.open:
                break
            ask = Ask(self.space.original, count - len(texts), self.space.constraints)
            proposals, others = yield Propose(ask, self._best())
            texts |= dict.fromkeys(self._texts([*others[: max(1, count // 4)], *proposals]))
        return list(texts)[:count]

    def suggestions(self) -> Steps:
        """What a chat model makes of the best so far (OPRO, Yang et al. 2023); nothing without one."""
        if not self.has_chat:
            return []
        _, others = yield Propose(None, self._best())
        return self._texts(others)

    def _best(self) -> list[tuple[str, float]]:
        known = [text for text in self.values if math.isfinite(self.mean(text))]
        best = sorted(known, key=self.mean, reverse=True)[:8]
        return [(self.space.drawn[text].text, self.mean(text)) for text in best]

    def _texts(self, proposals: Iterable[Sequence[str]]) -> list[str]:
        return [text for modifiers in proposals if (text := self.space.text(modifiers, self.random))]


def best_of_n(search: Search) -> Steps:
    """All candidates drawn alike; the best mean wins."""
    texts = yield from search.sample(max(1, search.left // search.pictures_each))
    yield from search.draw(dict.fromkeys(texts, search.pictures_each))
    if candidates := search.candidates():
        common = min(len(search.values[text]) for text in candidates)  # where the budget did not do for all
        best = max(candidates, key=lambda text: np.nan_to_num(search.mean(text, common), nan=-math.inf))
        search.note(best, search.mean(best) - search.mean(search.space.original))


def bayes(search: Search) -> Steps:
    """Some of many samples with a picture each, then those that may be the best by what is known so far."""
    total = search.left
    texts = yield from search.sample(search.samples * total)
    yield from search.look(texts[: max(1, round(_FIRST * total))])
    while search.left > _LAST * total and search.candidates():
        texts += yield from search.suggestions()
        yield from search.look(_thompson(search, texts))
    yield from _finals(search)


STRATEGIES: dict[str, Callable[[Search], Steps]] = {"best-of-n": best_of_n, "bayes": bayes}


# --- the steps of `bayes` --------------------------------------------------------------------------------------------

_FIRST, _LAST = 0.3, 0.1  # shares of the budget for the first samples, and for choosing among the drawn
_ROUNDS = 14
_PER_SEED = 8  # pictures of the budget for each seed that texts begin with
_LIKELY = 512  # texts that Thompson sampling looks at, those with the highest upper bounds


def _thompson(search: Search, undrawn: Sequence[str]) -> list[str]:
    """The best of the drawn and `undrawn` texts in each of some worlds as they may be (Thompson sampling)."""
    texts, posterior = _survey(search, undrawn)
    likely = _by_upper_bound(posterior, len(texts))[:_LIKELY]
    return [texts[likely[i]] for i in posterior.sample(_share(search), search.generator, likely).argmax(1)]


def _finals(search: Search) -> Steps:
    """The rest of the pictures, for those of the drawn that may be the best (GP-UCB, Srinivas et al. 2010)."""
    while search.candidates():
        measured, posterior = _survey(search)
        if search.left <= 0 or len(measured) == 1:
            return
        yield from search.look([measured[i] for i in _by_upper_bound(posterior, len(measured))[: _share(search)]])


def _share(search: Search) -> int:
    """Pictures of a round."""
    return max(1, round(search.budget / _ROUNDS))


def _by_upper_bound(posterior: Posterior, count: int) -> np.ndarray:
    """The first `count` texts, those that may be best first. (count,)"""
    return np.argsort(-(posterior.mean + posterior.spread)[:count], kind="stable")


def _survey(search: Search, undrawn: Sequence[str] = ()) -> tuple[list[str], Posterior]:
    """What is known, from all pictures, of the candidates drawn and of `undrawn`; the best of the drawn is noted.

    Returns:
        These texts, and the posterior of them in this order, and of the original behind them.
    """
    measured, original = search.candidates(), search.space.original
    pool = list(dict.fromkeys([*measured, *undrawn]))
    texts = list(dict.fromkeys([*pool, original]))
    rows = [(i, seed, v) for i, text in enumerate(texts) for seed, v in search.values.get(text, {}).items()]
    drawn, seeds, values = zip(*(row for row in rows if math.isfinite(row[2])), strict=True)
    posterior = Posterior(search.features(texts), drawn, seeds, values)
    best = int(posterior.mean[: len(measured)].argmax())
    search.note(measured[best], *posterior.gain(best, texts.index(original)))
    return pool, posterior
