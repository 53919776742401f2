"""Noisy cubic data: y = 5 + 1.2 x - 3.4 x²/2! + 5.6 x³/3! + ε, with x ~ N(0, 1) and ε ~ N(0, noise_std²).

Features are φᵢ(x) = xⁱ/i!. Because x is Gaussian, the expected loss of any polynomial is known exactly.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TRUE_WEIGHTS = (5.0, 1.2, -3.4, 5.6)


class Points(NamedTuple):
    """``x`` and ``y``, both (N,)."""

    x: Array
    y: Array


def sample(seed: int, num_train: int, num_test: int, noise_std: float) -> tuple[Points, Points]:
    """A training and a test set. Fewer examples of the same seed are the first ones of many."""
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)]

    def draw(count: int, x_stream: np.random.Generator, noise_stream: np.random.Generator) -> Points:
        x = x_stream.standard_normal(count)
        return Points(x, true_curve(x) + noise_std * noise_stream.standard_normal(count))

    return draw(num_train, *streams[:2]), draw(num_test, *streams[2:])


def features(x: Array, degree: int) -> Array:
    """xⁱ/i! for i = 0 … degree: (N,) to (N, degree + 1)."""
    powers = np.arange(degree + 1)
    return x[:, None] ** powers / np.array([math.factorial(i) for i in powers], dtype=np.float64)


def true_curve(x: Array) -> Array:
    """The labels without noise, (N,)."""
    curve: Array = features(x, len(TRUE_WEIGHTS) - 1) @ np.array(TRUE_WEIGHTS)
    return curve


def true_weights(count: int) -> Array:
    """The true weights, padded with zeros to ``count``."""
    return np.array([*TRUE_WEIGHTS, *[0.0] * (count - len(TRUE_WEIGHTS))])


@functools.cache
def moments(count: int) -> Array:
    """M (count, count) with Mᵢⱼ = E[φᵢ(x) φⱼ(x)] = (i+j-1)!! / (i! j!) for even i+j, else 0.

    By the moments of the standard normal distribution, E[xⁿ] = (n-1)!! for even n.
    """
    matrix = np.zeros((count, count))
    for i in range(count):
        for j in range(i % 2, count, 2):
            matrix[i, j] = math.prod(range(i + j - 1, 0, -2)) / (math.factorial(i) * math.factorial(j))
    matrix.setflags(write=False)  # it is cached
    return matrix


def generalization_loss(weights: Array, noise_std: float) -> Array:
    """The exact expected squared error E[(ŷ - y)²] = (w - w*)ᵀ M (w - w*) + noise_std², for weights (…, D): (…)."""
    count = max(weights.shape[-1], len(TRUE_WEIGHTS))
    padding = [(0, 0)] * (weights.ndim - 1) + [(0, count - weights.shape[-1])]
    error = np.pad(weights.astype(np.float64), padding) - true_weights(count)
    with np.errstate(all="ignore"):  # weights that blew up give nan, which the loop reports
        loss: Array = np.einsum("...i,ij,...j->...", error, moments(count), error) + noise_std**2
    return loss


def signal_variance() -> float:
    """The variance of the labels without noise over the distribution of x."""
    w, m = np.array(TRUE_WEIGHTS), moments(len(TRUE_WEIGHTS))
    return float(w @ m @ w - (w @ m[0]) ** 2)


def least_squares(train: Points, degree: int) -> Array:
    """The weights (degree + 1,) of least training error, of least norm where there are many."""
    return np.linalg.lstsq(features(train.x, degree), train.y, rcond=None)[0].astype(np.float64)
