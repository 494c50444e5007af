import numpy as np

from neuroprompt.search.posterior import MODELS, Posterior


def test_the_posterior_against_the_definition():
    """Conditioning the joint Gaussian by plain linear algebra, one model after another."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3))
    drawn, seeds = rng.integers(0, 6, 14), rng.integers(0, 3, 14)
    pictures, y = list(zip(drawn, seeds, strict=True)), rng.normal(size=14)
    ours = Posterior(x, drawn, seeds, y)
    distances = [((x[i] - x[j]) ** 2).sum() for i in set(drawn) for j in set(drawn) if i != j]
    means, evidence, covariances = [], [], []
    for length, f, g, own, luck in MODELS:

        def near(i, j, length=length):
            return np.exp(-((x[i] - x[j]) ** 2).sum() / np.median(distances) / (2 * length**2))

        noise = 1 - f - g - own
        k = np.array([[1 + f * near(i, j) + own * (i == j) for j in range(8)] for i in range(8)])
        c = np.array(
            [
                [
                    k[i, j] + (luck + g * near(i, j)) * (s == t) + (noise + 1e-9) * (m == n)
                    for n, (j, t) in enumerate(pictures)
                ]
                for m, (i, s) in enumerate(pictures)
            ]
        )
        centred, inverse = y - y.mean(), np.linalg.inv(c)
        scale = centred @ inverse @ centred / len(y)
        evidence.append(-0.5 * len(y) * np.log(scale) - 0.5 * np.linalg.slogdet(c)[1])
        means.append(y.mean() + k[:, drawn] @ inverse @ centred)
        covariances.append(scale * (k - k[:, drawn] @ inverse @ k[drawn]))
    weights = np.exp(np.array(evidence) - max(evidence))
    weights = np.where(weights > 0.01, weights, 0) / weights[weights > 0.01].sum()
    mean = weights @ np.array(means)
    np.testing.assert_allclose(ours.mean, mean, atol=1e-6)
    samples = ours.sample(20_000, np.random.default_rng(1), range(8))
    spread = np.sqrt(np.einsum("m,mpp->p", weights, covariances) + weights @ (np.array(means) - mean) ** 2)
    np.testing.assert_allclose(ours.spread, spread, atol=1e-6)
    apart = np.array([m[6] - m[2] for m in means])
    variances = np.array([c[6, 6] + c[2, 2] - 2 * c[6, 2] for c in covariances])
    error = np.sqrt(weights @ (variances + (apart - weights @ apart) ** 2))
    np.testing.assert_allclose(ours.gain(6, 2), (weights @ apart, error), atol=1e-6)
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.04)
    np.testing.assert_allclose(samples.std(0), spread, rtol=0.06)
    few = ours.sample(20_000, np.random.default_rng(2), [6, 2])
    np.testing.assert_allclose(np.cov(few.T), np.cov(samples[:, [6, 2]].T), rtol=0.1)
