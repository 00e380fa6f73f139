"""Evaluations drawn from a known truth, many at once."""

from __future__ import annotations

import numpy as np
from scipy import special

# Problems of a population; every evaluation draws its own from them, with replacement.
POPULATION = 5000


def population(generator, accuracies, correlation: float, agreement: float = 0.0) -> np.ndarray:
    """True accuracy of each problem under each model, (models, POPULATION).

    Beta-distributed with means `accuracies` and `correlation` of p (1 - p) between problems; the
    models are tied by a Gaussian copula of `agreement`. The truth to find is the mean over the population.
    """
    common = generator.standard_normal(POPULATION)
    models = []
    for accuracy in accuracies:
        own = generator.standard_normal(POPULATION)
        order = (np.sqrt(agreement) * common + np.sqrt(1 - agreement) * own).argsort().argsort()
        quantiles = (order + 0.5) / POPULATION
        if correlation == 0:
            models.append(np.full(POPULATION, accuracy))
        elif correlation == 1:
            models.append((quantiles < accuracy).astype(float))
        else:
            size = 1 / correlation - 1
            models.append(special.betaincinv(accuracy * size, (1 - accuracy) * size, quantiles))
    return np.array(models)


def evaluations(generator, models: np.ndarray, draws: int, problems: int, samples: int) -> np.ndarray:
    """Shares of right samples, (models, draws, problems); in one draw all models have the same problems."""
    chosen = generator.integers(POPULATION, size=(draws, problems))
    return generator.binomial(samples, models[:, chosen]) / samples
