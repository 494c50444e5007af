"""Ways to spend a budget of pictures on one prompt.

A strategy is a generator: it yields a `Propose` or a `Draw` and goes on when that is answered, so that many searches
run side by side and share the policy's batches and the generator's.

- ``best-of-n``: as many samples of the policy as the budget holds, each drawn alike; the highest mean wins.
- ``halving``: samples with a picture each; the better half gets more pictures, and so on (sequential halving, Karnin
  et al. 2013).
- ``beam``: lists of modifiers that grow by proposals conditioned on them, and are pruned; halving in each generation.
- ``bayes``: Bayesian optimisation over many more samples than can be drawn. A `Posterior` over what the generator reads
  tells from the pictures so far which samples deserve one, or another one (Thompson 1933), and which wins.
- ``evolve``: the same over lists that are bred from the best (unions and mutations, with the policy's help).

The first three compare texts on the same seeds in the same order (common random numbers), so that two of them are
equally lucky. The last two begin with different seeds, because near prompts are lucky with the same ones, and leave it
to the posterior to tell worth from luck.
"""

import itertools
import math
import random
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .candidates import Space, keys
from .posterior import Posterior
from .proposals import Ask, Terms


class Draw(NamedTuple):
    """Pictures wanted: (text, how manieth seed)."""

    pictures: list[tuple[str, int]]


class Propose(NamedTuple):
    """Proposals wanted, and the best rewrites so far with their values, for those who learn from examples.

    The answer is a list of proposals for each ask; then, where a chat model is asked too, one more: whole lists of
    modifiers.
    """

    asks: list[Ask]
    best: list[tuple[str, float]]


Steps = Generator[Draw | Propose, Any, Any]


class Search:
    """What a strategy knows and does.

    Args:
        space: The rewrites that may be drawn.
        budget: Pictures that may be drawn, those of the original included.
        pictures_each: Pictures of the original, and of each candidate where all get alike.
        terms: Single modifiers for mutations.
        seed: Of everything random here.
        encode: Texts to what the generator makes of them, (n, d); None where that is not known.

    Attributes:
        values: By text and seed (0, 1, …), what its pictures are worth.
        pick: The text that would win if the search ended now.
        gain: What it is worth more than the original, as far as is known.
        curve: (pictures drawn, gain of the pick) after each round.
    """

    def __init__(
        self,
        space: Space,
        budget: int,
        pictures_each: int,
        terms: Terms,
        seed: int,
        encode: Callable[[list[str]], np.ndarray] | None = None,
    ):
        self.space, self.budget, self.pictures_each, self.terms = space, budget, pictures_each, terms
        self.random, self.generator = random.Random(seed), np.random.default_rng(seed)
        self.encode = encode
        self.values: dict[str, dict[int, float]] = {}
        self.pick, self.gain = space.original, 0.0
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
        """What a text is worth on (its first so many of) its pictures."""
        return float(np.mean(list(self.values[text].values())[:pictures]))

    def features(self, texts: Sequence[str]) -> np.ndarray:
        """What each text is: as the generator reads it, or where that is not known, which modifiers it has. (n, d)"""
        if self.encode:
            if new := [text for text in texts if text not in self._features]:
                self._features |= zip(new, self.encode(new), strict=True)
            return np.stack([self._features[text] for text in texts])
        sets = [keys(self.space.modifiers[text]) for text in texts]
        columns = {name: i for i, name in enumerate(dict.fromkeys(name for of in sets for name in sorted(of)))}
        has = np.zeros((len(texts), len(columns)))
        for row, of in zip(has, sets, strict=True):
            row[[columns[name] for name in of]] = 1
        return has

    def candidates(self) -> list[str]:
        """The texts drawn so far that may win."""
        original = self.space.original
        return [text for text in self.values if text != original or self.space.original_allowed]

    def note(self, pick: str, gain: float) -> None:
        """Say which text is the best so far, and what it gains over the original."""
        self.pick, self.gain = pick, float(gain)
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

    def propose(self, asks: list[Ask]) -> Steps:
        """Proposals for each ask, and last, whole lists of modifiers from a chat model, if there is one."""
        ranked = sorted(self.values, key=self.mean, reverse=True)[:8]
        answers = yield Propose(asks, [(text, self.mean(text)) for text in ranked])
        return [*answers, []] if len(answers) == len(asks) else answers

    def sample(self, count: int) -> Steps:
        """Up to `count` different rewrites that the policy writes of the original; a chat model's come first."""
        texts: dict[str, None] = {}
        for _ in range(3):  # a policy that is sure of itself says the same thing again
            if len(texts) >= count or not self.space.open:
                break
            ask = Ask(self.space.original, self.space.original, count - len(texts), self.space.constraints)
            proposals, others = yield from self.propose([ask])
            made = (
                self.space.text(modifiers, self.random) for modifiers in [*others[: max(1, count // 4)], *proposals]
            )
            texts.update(dict.fromkeys(text for text in made if text))
        return list(texts)[:count]


def best_of_n(search: Search) -> Steps:
    """All candidates drawn alike; the best mean wins."""
    texts = yield from search.sample(max(1, search.left // search.pictures_each))
    yield from search.draw(dict.fromkeys(texts, search.pictures_each))
    _ranked(search, search.candidates())


def halving(search: Search) -> Steps:
    """Many candidates with a picture each, then fewer with more."""
    texts = yield from search.sample(max(1, round(_HALVED * search.left)))
    yield from _halve(search, [*_original(search), *texts], search.left)


def beam(search: Search) -> Steps:
    """Lists of modifiers, grown and pruned; the best few go on."""
    reserve = search.left // 4
    share = max(1, (search.left - reserve) // _GENERATIONS)
    lists: list[str] = [search.space.original]
    while search.left > reserve:
        budget = min(share, search.left - reserve)
        # Halving n, from a picture each to a few with four, costs about 2n.
        grown = yield from _grow(search, lists, max(1, budget // 2))
        if not grown:
            break
        survivors = yield from _halve(search, grown, budget, until=_BEAM)
        if not survivors:
            break
        # The user's own text begins the first generation; later it is a list like any other.
        lists = [text for text in lists if text in search.candidates()]
        lists = _ranked(search, [*lists, *survivors])[:_BEAM]
    yield from _halve(search, [text for text in lists if text in search.candidates()], search.left)


def bayes(search: Search) -> Steps:
    """Some of many samples with a picture each, then those that may be the best by what is known so far."""
    total = search.left
    texts = yield from search.sample(_POOL * total)
    yield from search.look(texts[: max(1, round(_FIRST * total))])
    while search.left > _LAST * total and search.candidates():
        yield from search.look(_thompson(search, _share(search), texts))
    yield from _finals(search)


def evolve(search: Search) -> Steps:
    """Samples with a picture each, then lists of modifiers bred from those that may be the best."""
    total = search.left
    texts = yield from search.sample(max(1, round(_BRED_FROM * total)))
    yield from search.look(texts)
    while search.left > _LAST * total and search.candidates():
        children = yield from _breed(search, _thompson(search, _CHILDREN * _share(search)))
        yield from search.look(_thompson(search, _share(search), children))
    yield from _finals(search)


STRATEGIES: dict[str, Callable[[Search], Steps]] = {
    "best-of-n": best_of_n,
    "halving": halving,
    "beam": beam,
    "bayes": bayes,
    "evolve": evolve,
}


# --- steps of strategies -------------------------------------------------------------------------------------------

_HALVED = 0.5  # candidates of `halving` per picture of the budget
_BEAM, _GENERATIONS = 4, 5
_POOL = 4  # samples that `bayes` chooses from, per picture of the budget
_FIRST, _LAST = 0.3, 0.1  # shares of the budget for the first samples, and for choosing among the drawn
_ROUNDS = 14
_BRED_FROM = 0.5  # share of the budget for the samples that `evolve` breeds from
_PER_SEED = 8  # pictures of the budget for each seed that texts begin with
_CHILDREN = 8  # bred for each picture of a round
_LIKELY = 512  # texts that Thompson sampling looks at, those with the highest upper bounds


def _share(search: Search) -> int:
    """Pictures of a round."""
    return max(1, round(search.budget / _ROUNDS))


def _thompson(search: Search, count: int, undrawn: Sequence[str] = ()) -> list[str]:
    """The best of the drawn and `undrawn` texts in each of `count` worlds as they may be (Thompson sampling)."""
    texts, posterior = _survey(search, undrawn)
    likely = _by_upper_bound(posterior, len(texts))[:_LIKELY]
    return [texts[likely[i]] for i in posterior.sample(count, search.generator, likely).argmax(1)]


def _finals(search: Search) -> Steps:
    """The rest of the pictures, for those of the drawn that may be the best (GP-UCB, Srinivas et al. 2010)."""
    while search.candidates():
        measured, posterior = _survey(search)
        if search.left <= 0 or len(measured) == 1:
            return
        yield from search.look([measured[i] for i in _by_upper_bound(posterior, len(measured))[: _share(search)]])


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
    drawn, seeds, values = zip(*rows, strict=True)
    posterior = Posterior(search.features(texts), drawn, seeds, values)
    best = int(posterior.mean[: len(measured)].argmax())
    search.note(measured[best], posterior.mean[best] - posterior.mean[texts.index(original)])
    return pool, posterior


def _halve(search: Search, texts: Iterable[str], budget: int, until: int = 1) -> Steps:
    """Sequential halving, down to `until` texts that have as many pictures. Returns them, the best first."""
    alive, end, each = list(dict.fromkeys(texts)), search.drawn + budget, 1
    while alive:
        yield from search.draw(dict.fromkeys(alive, each))
        alive = [text for text in alive if text in search.values]
        alive = _ranked(search, alive)
        left = min(end - search.drawn, search.left)
        if left <= 0 or len(alive) <= until:
            break
        alive = alive[: max(until, math.ceil(len(alive) / 2))]
        if len(alive) == 1:
            break
        rounds = max(1, math.ceil(math.log2(len(alive) / until)) + (until > 1))
        each += max(1, left // rounds // len(alive))
    return alive


def _ranked(search: Search, texts: Sequence[str]) -> list[str]:
    """The best first, compared on as many pictures as all have (the same seeds, so); it is noted."""
    common = min((len(search.values[text]) for text in texts), default=0)
    ranked = sorted(texts, key=lambda text: -search.mean(text, common))
    if ranked:
        search.note(ranked[0], search.mean(ranked[0]) - search.mean(search.space.original))
    return ranked


def _original(search: Search) -> list[str]:
    return [search.space.original] if search.space.original_allowed else []


def _grow(search: Search, lists: Sequence[str], count: int) -> Steps:
    """New texts: each list with the policy's next modifiers, with a term of the vocabulary, or without a modifier."""
    space, rng = search.space, search.random
    parents = [rng.choice(lists) for _ in range(count)]
    asks = [Ask(space.original, space.head(space.modifiers[parent]), 1, None, _SHORT) for parent in parents]
    *proposals, others = yield from search.propose(asks)
    grown: dict[str, None] = {}
    for parent, (proposal,) in zip(parents, proposals, strict=True):
        modifiers, die = list(space.modifiers[parent]), rng.random()
        if die < 0.15 and modifiers:
            modifiers.pop(rng.randrange(len(modifiers)))
        elif die < 0.3 or not proposal:
            modifiers.append(search.terms.draw(rng))
        else:
            modifiers += proposal[: rng.randint(1, 3)]
        grown[space.text(modifiers, rng)] = None
    grown |= dict.fromkeys(space.text(modifiers, rng) for modifiers in others[: max(1, count // 4)])
    return [text for text in grown if text and text not in search.values]


def _breed(search: Search, parents: Sequence[str]) -> Steps:
    """A child of each of `parents`, different from each other and from all that was drawn."""
    space, rng = search.space, search.random
    plans, asks = [], []
    for parent in parents:
        modifiers = space.modifiers[parent]
        operation = rng.choices(list(_OPERATIONS), weights=list(_OPERATIONS.values()))[0]
        cut = rng.randint(0, len(modifiers))
        plans.append((operation, modifiers, cut))
        if operation in ("regrow", "insert"):
            asks.append(Ask(space.original, space.head(modifiers[:cut]), 1, None, _SHORT))
    *proposals, others = yield from search.propose(asks)
    written = iter(proposals)
    children: dict[str, None] = dict.fromkeys(space.text(modifiers, rng) for modifiers in others)
    for operation, modifiers, cut in plans:
        before, after = list(modifiers[:cut]), list(modifiers[cut:])
        if operation == "regrow":
            child = before + list(next(written)[0])
        elif operation == "insert":
            child = before + list(next(written)[0][: rng.randint(1, 2)]) + after
        elif operation == "add":
            child = [*before, search.terms.draw(rng), *after]
        elif operation == "replace":
            child = [*before, search.terms.draw(rng), *after[1:]]
        elif operation == "delete":
            child = before + after[rng.randint(1, max(1, len(modifiers) // 2)) :]
        elif operation == "unite":
            child = [*modifiers, *space.modifiers[rng.choice(parents)]]
        else:
            child = rng.sample(modifiers, len(modifiers))
        children[space.text(child, rng)] = None
    return [text for text in children if text and text not in search.values]


_SHORT = 20  # the policy's tokens of a continuation: about four modifiers
# A union of two good lists keeps most of their worth, and has modifiers of both to gain from; a list that loses a part
# loses much.
_OPERATIONS = {"unite": 8, "insert": 3, "regrow": 2, "add": 2, "replace": 1, "delete": 2, "reorder": 2}
