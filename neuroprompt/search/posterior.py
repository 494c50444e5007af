"""What noisy pictures say of prompts: a Gaussian process over sets of modifiers.

A picture's value is taken as

    y(x, s) = μ + f(x) + δ_x + γ_s + ε

where x is the set of modifiers, s the seed, and every term is Gaussian: sets are worth alike as far as they are alike
(f, with the covariance |x ∩ x'| / |x ∪ x'|, the kernel of Tanimoto or Jaccard; Ralaivola et al. 2005), a prompt has
something of its own (δ), a seed is lucky for all prompts (γ), and the rest is noise (ε). So the pictures of one prompt
say something about those that share modifiers with it, drawn or not, and few pictures count for little (shrinkage,
against the winner's curse). How the variance is shared out is averaged over a grid, by likelihood (Rasmussen and
Williams 2006, chapters 2 and 5).
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

_SHARES = [
    (alike, own, seed, 1 - alike - own - seed)
    for alike, own, seed in product((0.1, 0.3, 0.5, 0.7), (0.05, 0.15), (0.0, 0.2, 0.4))
    if alike + own + seed <= 0.91
]


class Posterior:
    """The values of prompts, given their pictures.

    Args:
        prompts: Modifiers of each prompt in question, drawn or not. (p,)
        drawn: Which prompt each picture is of. (n,)
        seeds: Its seed, as any whole number. (n,)
        values: What it is worth. (n,)
        count: Only the first so many prompts are in question; the others are there for their pictures.

    Attributes:
        mean, spread: Expected value of each prompt in question, and its standard deviation. (p,) each
    """

    def __init__(
        self,
        prompts: Sequence[frozenset[str]],
        drawn: Sequence[int],
        seeds: Sequence[int],
        values: Sequence[float],
        count: int | None = None,
    ):
        drawn, seeds, y = np.asarray(drawn), np.asarray(seeds), np.asarray(values, np.float64)
        names = {name: i for i, name in enumerate(dict.fromkeys(n for p in prompts for n in sorted(p)))}
        has = np.zeros((len(prompts), max(1, len(names))))
        for row, prompt in enumerate(prompts):
            has[row, [names[name] for name in prompt]] = 1
        both, sizes = has @ has.T, has.sum(1)
        shared = both / np.maximum(1, sizes[:, None] + sizes - both)  # (prompts, prompts)
        np.fill_diagonal(shared, 1)  # of no modifiers, too
        same = np.eye(len(prompts))
        same_seed = (seeds[:, None] == seeds).astype(float)  # (n, n)
        pairs = np.ix_(drawn, drawn)
        centred, n = y - y.mean(), len(y)
        roots, scales, evidence = [], [], []
        for alike, own, seed, noise in _SHARES:
            covariance = 1.0 + alike * shared[pairs] + own * same[pairs] + seed * same_seed  # 1: the level
            roots.append(np.linalg.cholesky(covariance + (noise + 1e-9) * np.eye(n)))
            white = np.linalg.solve(roots[-1], centred)
            scales.append(max(white @ white / n, 1e-18))
            evidence.append(-0.5 * n * np.log(scales[-1]) - np.log(np.diag(roots[-1])).sum())
        weights = np.exp(np.asarray(evidence) - max(evidence))
        likely = np.flatnonzero(weights > 0.01)
        self._weights = weights[likely] / weights[likely].sum()
        self._models = []  # mean (p,) and covariance (p, p) under each
        for model in likely:
            alike, own, _, _ = _SHARES[model]
            prior = 1.0 + alike * shared + own * same
            white = np.linalg.solve(roots[model], np.column_stack([centred, prior[drawn, :count]]))  # (n, 1 + p)
            mean = y.mean() + white[:, 1:].T @ white[:, 0]
            self._models.append((mean, scales[model] * (prior[:count, :count] - white[:, 1:].T @ white[:, 1:])))
        weighed = list(zip(self._weights, self._models, strict=True))
        self.mean = sum(weight * mean for weight, (mean, _) in weighed)
        squares = sum(weight * (covariance.diagonal() + mean**2) for weight, (mean, covariance) in weighed)
        self.spread = np.sqrt(np.clip(squares - self.mean**2, 0, None))

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Values as they may be, drawn jointly. (count, p)"""
        chosen = rng.choice(len(self._models), size=count, p=self._weights)
        samples = np.empty((count, len(self.mean)))
        for model in np.unique(chosen):
            mean, covariance = self._models[model]
            values, vectors = np.linalg.eigh(covariance)
            rows = np.flatnonzero(chosen == model)
            noise = rng.standard_normal((len(rows), len(mean)))
            samples[rows] = mean + (noise * np.sqrt(np.clip(values, 0, None))) @ vectors.T
        return samples
