"""What is said of R trainings side by side: the median of each metric, and how far the replicas spread around it.

Replicas are numbered from 0. Those that are left out have diverged: what is said, is said of the others.
"""

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from mlpx.settings.metrics import EXTREMES, SPREAD, Metric
from mlpx.training.experiment import Values


def summary(values: Mapping[str, Values], left_out: Collection[int] = ()) -> dict[str, float]:
    """Each metric's median over the replicas, mean, standard deviation (n - 1), and 10 % and 90 % quantiles.

    Where there is one value, that is all. Values that are not finite make what depends on them not finite. A single
    replica that is not left out has no standard deviation (nan), and where all are left out, each figure is nan.
    """
    numbers: dict[str, float] = {}
    for name, of_replicas in values.items():
        if len(of_replicas) == 1:
            (numbers[name],) = of_replicas
            continue
        array = np.array(_kept(of_replicas, left_out) or [math.nan])
        with np.errstate(all="ignore"):
            low, median, high = np.quantile(array, (0.1, 0.5, 0.9))
            std = array.std(ddof=1) if len(array) > 1 else math.nan
            spread = (array.mean(), std, low, high)
        numbers[name] = float(median)
        numbers |= zip((f"{name}_{kind}" for kind in SPREAD), map(float, spread), strict=True)
    return numbers


def _kept(of_replicas: Values, left_out: Collection[int]) -> Values:
    return [value for replica, value in enumerate(of_replicas) if replica not in left_out]


def extremes(values: Mapping[str, Values], left_out: Collection[int] = ()) -> dict[str, float]:
    """The least and the greatest value of each metric that several replicas have, not all of which are left out."""
    return {
        f"{kind}_{name}": choose(_kept(of_replicas, left_out))
        for name, of_replicas in values.items()
        if len(of_replicas) > 1
        for kind, choose in zip(EXTREMES, (min, max), strict=True)
    }


def to_csv(seeds: Sequence[int], values: Mapping[str, Values], left_out: Collection[int] = ()) -> bytes:
    """A row a replica: its number, its seed, and its own values, or empty cells where it is left out."""
    several = {name: of_replicas for name, of_replicas in values.items() if len(of_replicas) > 1}
    rows = zip(*several.values(), strict=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("replica", "seed", *several))
    for replica, (seed, row) in enumerate(zip(seeds, rows, strict=True)):
        writer.writerow((replica, seed, *([""] * len(several) if replica in left_out else row)))
    return text.getvalue().encode()


def in_words(metrics: Sequence[Metric], values: Mapping[str, Values], left_out: Collection[int] = ()) -> str:
    """Mean ± standard deviation of each of ``metrics``; the value alone of a single replica that is not left out."""
    kept = {metric: _kept(values[metric.name], left_out) for metric in metrics}
    if all(len(of_replicas) == 1 for of_replicas in kept.values()):
        return ", ".join(f"{metric.title} {metric.shown(value)}" for metric, (value,) in kept.items())
    numbers = summary(values, left_out)
    parts = []
    for metric in metrics:
        mean, std = numbers[f"{metric.name}_mean"], numbers[f"{metric.name}_std"]
        parts.append(f"{metric.title} {metric.shown_with(mean, std)}")
    return f"{', '.join(parts)} (mean ± standard deviation)"
