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
import torch


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
        near = np.exp(-apart / (2 * np.array(_LENGTHS)[:, None, None] ** 2))  # (lengths, p, p)
        same, same_seed = (which[:, None] == which for which in (drawn, seeds))
        alike, of = near[:, drawn[:, None], drawn], np.array([_LENGTHS.index(model.length) for model in MODELS])
        f, g, own, luck, noise = (
            np.array([getattr(model, term) for model in MODELS])[:, None, None]
            for term in ("f", "g", "own", "luck", "noise")
        )
        # All models at once, (models, n, n); 1 is μ.
        covariance = 1.0 + f * alike[of] + (luck + g * alike[of]) * same_seed + own * same
        roots = np.linalg.cholesky(covariance + (noise + _JITTER) * np.eye(len(y)))
        centred = y - y.mean()
        white = _whiten(roots, np.broadcast_to(centred[:, None], (len(MODELS), len(y), 1)))[..., 0]
        scales = np.maximum((white**2).mean(1), 1e-18)
        evidence = -0.5 * len(y) * np.log(scales) - np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(1)
        weights = np.exp(evidence - evidence.max())
        likely = np.flatnonzero(weights > 0.01)
        self._weights = weights[likely] / weights[likely].sum()
        self._near, self._models, self._scales = near[of[likely]], [MODELS[i] for i in likely], scales[likely]
        f, own = f[likely], own[likely]
        prior = 1.0 + f * self._near[:, drawn] + own * (drawn[:, None] == np.arange(len(features)))  # (k, n, p)
        self._white = _whiten(roots[likely], prior)  # what the pictures take from the covariance, a root of it
        self._means = y.mean() + np.einsum("kn,knp->kp", white[likely], self._white)
        squares = self._scales[:, None] * (1.0 + f[:, 0] + own[:, 0] - (self._white**2).sum(1)) + self._means**2
        self.mean = self._weights @ self._means
        self.spread = np.sqrt(np.clip(self._weights @ squares - self.mean**2, 0, None))

    def sample(self, count: int, rng: np.random.Generator, among: Sequence[int]) -> np.ndarray:
        """Values as they may be of the prompts `among`, drawn jointly. (count, len(among))"""
        among = np.asarray(among)
        chosen = rng.choice(len(self._models), size=count, p=self._weights)
        samples = np.empty((count, len(among)))
        for i in np.unique(chosen):
            covariance = self._covariance(i, among)
            spread = np.linalg.cholesky(covariance + 1e-6 * covariance.diagonal().max() * np.eye(len(among)))
            rows = np.flatnonzero(chosen == i)
            samples[rows] = self._means[i, among] + rng.standard_normal((len(rows), len(among))) @ spread.T
        return samples

    def gain(self, prompt: int, over: int) -> tuple[float, float]:
        """What a prompt is worth more than another, over all seeds: the expectation and its standard deviation."""
        if prompt == over:
            return 0.0, 0.0
        gains = self._means[:, prompt] - self._means[:, over]
        pairs = np.stack([self._covariance(i, np.array([prompt, over])) for i in range(len(self._models))])
        variances = pairs[:, 0, 0] + pairs[:, 1, 1] - 2 * pairs[:, 0, 1]
        mean = float(self._weights @ gains)
        return mean, float(np.sqrt(max(0.0, self._weights @ (variances + gains**2) - mean**2)))

    def _covariance(self, i: int, among: np.ndarray) -> np.ndarray:
        """Of the prompts `among` under the i-th likely model, given the pictures. (len(among), len(among))"""
        model, white = self._models[i], self._white[i][:, among]
        prior = 1.0 + model.f * self._near[i][np.ix_(among, among)] + model.own * np.eye(len(among))
        return self._scales[i] * (prior - white.T @ white)


_LENGTHS = sorted({model.length for model in MODELS})


def _whiten(roots: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """L⁻¹ X of lower triangles L, (models, n, n) and (models, n, m)."""
    solved = torch.linalg.solve_triangular(torch.from_numpy(roots), torch.tensor(columns), upper=False)
    return solved.numpy()


_JITTER = 1e-9


def _squared_distances(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(0)  # the nearer to the origin, the less is lost in the difference
    squares = (x**2).sum(1)
    apart = np.maximum(0.0, squares[:, None] + squares - 2 * x @ x.T)
    apart[apart < 1e-9 * max(1e-300, apart.max())] = 0.0
    return apart
