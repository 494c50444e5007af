"""What noisy pictures say of prompts: a Gaussian process over what the generator reads.

A picture's value is taken as

    y(x, s) = μ + f(x) + g_s(x) + δ_x + γ_s + ε

where x is a vector that says what the prompt is (by the generator's own text encoder: a picture depends on the prompt
through nothing else), s the seed, and every term is Gaussian. Near prompts are worth alike (f, with the covariance
exp(-|x - x'|² / 2l²)); a seed is lucky for all prompts (γ), and luckier for prompts near each other (g, like f); a
prompt has something of its own (δ), and the rest is noise (ε). So the pictures of one prompt say something about those
near it, drawn or not, and few pictures count for little (shrinkage, against the winner's curse). How long l is, and how
the variance is shared out, is averaged over a grid, by likelihood (Rasmussen and Williams 2006, chapters 2 and 5).
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np


class Shares(NamedTuple):
    """A model: the length scale, in medians of the distance between drawn prompts, and the variance of each term."""

    length: float
    f: float
    g: float
    own: float
    luck: float

    @property
    def noise(self) -> float:
        """What is left of the variance between the pictures of one seed, which is 1."""
        return 1 - self.f - self.g - self.own


MODELS = [
    Shares(*shares) for shares in product((0.5, 0.8), (0.1, 0.3, 0.5, 0.7), (0.0, 0.2), (0.0, 0.1), (0.0, 0.2, 0.4))
]


class Posterior:
    """The values of prompts, given their pictures.

    Args:
        features: What each prompt is, drawn or not. (p, d)
        drawn: Which prompt each picture is of. (n,)
        seeds: Its seed, as any whole number. (n,)
        values: What it is worth. (n,)

    Attributes:
        mean, spread: Expected value of each prompt, over all seeds, and its standard deviation. (p,) each
    """

    def __init__(self, features: np.ndarray, drawn: Sequence[int], seeds: Sequence[int], values: Sequence[float]):
        drawn, seeds, y = np.asarray(drawn), np.asarray(seeds), np.asarray(values, np.float64)
        apart = _squared_distances(features)  # (p, p)
        known = apart[np.ix_(np.unique(drawn), np.unique(drawn))]
        apart /= np.median(known[known > 0]) if (known > 0).any() else 1.0
        near = {length: np.exp(-apart / (2 * length**2)) for length in {model.length for model in MODELS}}
        same, same_seed = (which[:, None] == which for which in (drawn, seeds))
        pairs = np.ix_(drawn, drawn)
        centred, n = y - y.mean(), len(y)
        roots, scales, evidence = [], [], []
        for model in MODELS:
            alike = near[model.length][pairs]
            covariance = 1.0 + model.f * alike + (model.luck + model.g * alike) * same_seed + model.own * same  # 1: μ
            roots.append(np.linalg.cholesky(covariance + (model.noise + _JITTER) * np.eye(n)))
            white = np.linalg.solve(roots[-1], centred)
            scales.append(max(white @ white / n, 1e-18))
            evidence.append(-0.5 * n * np.log(scales[-1]) - np.log(np.diag(roots[-1])).sum())
        weights = np.exp(np.asarray(evidence) - max(evidence))
        likely = np.flatnonzero(weights > 0.01)
        self._weights = weights[likely] / weights[likely].sum()
        self._near, self._drawn, self._level, self._centred = near, drawn, y.mean(), centred
        self._models = [(MODELS[i], roots[i], scales[i]) for i in likely]
        means, squares = [], []  # under each model
        for model, root, scale in self._models:
            mean, white = self._condition(model, root, slice(None))
            means.append(mean)
            squares.append(scale * (1.0 + model.f + model.own - (white**2).sum(0)) + mean**2)
        self.mean = self._weights @ means
        self.spread = np.sqrt(np.clip(self._weights @ squares - self.mean**2, 0, None))

    def sample(self, count: int, rng: np.random.Generator, among: Sequence[int]) -> np.ndarray:
        """Values as they may be of the prompts `among`, drawn jointly. (count, len(among))"""
        among = np.asarray(among)
        chosen = rng.choice(len(self._models), size=count, p=self._weights)
        samples = np.empty((count, len(among)))
        for i in np.unique(chosen):
            model, root, scale = self._models[i]
            mean, white = self._condition(model, root, among)
            covariance = scale * (self._prior(model, among, among) - white.T @ white)
            spread = np.linalg.cholesky(covariance + 1e-6 * covariance.diagonal().max() * np.eye(len(among)))
            rows = np.flatnonzero(chosen == i)
            samples[rows] = mean + rng.standard_normal((len(rows), len(among))) @ spread.T
        return samples

    def _condition(self, model: Shares, root: np.ndarray, among: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Means of the prompts `among`, (m,), and a root of what the pictures take from their covariance, (n, m)."""
        prior = self._prior(model, self._drawn, among)
        white = np.linalg.solve(root, np.column_stack([self._centred, prior]))
        return self._level + white[:, 1:].T @ white[:, 0], white[:, 1:]

    def _prior(self, model: Shares, rows: np.ndarray, columns: np.ndarray | slice) -> np.ndarray:
        """Covariance of prompts before there are pictures. (rows, columns)"""
        near = self._near[model.length]
        same = rows[:, None] == np.arange(len(near))[columns]
        return 1.0 + model.f * near[rows][:, columns] + model.own * same


_JITTER = 1e-9


def _squared_distances(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(0)  # the nearer to the origin, the less is lost in the difference
    squares = (x**2).sum(1)
    apart = np.maximum(0.0, squares[:, None] + squares - 2 * x @ x.T)
    apart[apart < 1e-9 * max(1e-300, apart.max())] = 0.0
    return apart
