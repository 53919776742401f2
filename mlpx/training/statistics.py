"""What is said of R trainings side by side: the median of each metric, and how far the replicas spread around it."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mlpx.errors import Diverged
from mlpx.settings.metrics import EXTREMES, SPREAD, Metric
from mlpx.training.experiment import Values


def summary(values: Mapping[str, Values]) -> dict[str, float]:
    """Each metric's median over the replicas, mean, standard deviation (n - 1), and 10 % and 90 % quantiles.

    Where there is one value, that is all. Values that are not finite make what depends on them not finite.
    """
    numbers: dict[str, float] = {}
    for name, of_replicas in values.items():
        if len(of_replicas) == 1:
            (numbers[name],) = of_replicas
            continue
        array = np.array(of_replicas)
        with np.errstate(all="ignore"):
            low, median, high = np.quantile(array, (0.1, 0.5, 0.9))
            spread = (array.mean(), array.std(ddof=1), low, high)
        numbers[name] = float(median)
        numbers |= zip((f"{name}_{kind}" for kind in SPREAD), map(float, spread), strict=True)
    return numbers


def extremes(values: Mapping[str, Values]) -> dict[str, float]:
    """The least and the greatest value of each metric that several replicas have."""
    return {
        f"{kind}_{name}": extreme
        for name, of_replicas in values.items()
        if len(of_replicas) > 1
        for kind, extreme in zip(EXTREMES, (min(of_replicas), max(of_replicas)), strict=True)
    }


def to_csv(seeds: Sequence[int], values: Mapping[str, Values]) -> bytes:
    """A row a replica: its number, its seed, and its own values."""
    several = {name: of_replicas for name, of_replicas in values.items() if len(of_replicas) > 1}
    text = io.StringIO()
    rows = zip(range(len(seeds)), seeds, *several.values(), strict=True)
    csv.writer(text, lineterminator="\n").writerows([("replica", "seed", *several), *rows])
    return text.getvalue().encode()


def in_words(metrics: Sequence[Metric], values: Mapping[str, Values]) -> str:
    """Mean ± standard deviation of each of ``metrics``."""
    numbers = summary(values)
    parts = []
    for metric in metrics:
        mean, std = numbers[f"{metric.name}_mean"], numbers[f"{metric.name}_std"]
        parts.append(f"{metric.title} {metric.shown_with(mean, std)}")
    return f"{', '.join(parts)} (mean ± standard deviation)"


def require_finite(metrics: Sequence[Metric], values: Mapping[str, Values], epoch: int) -> None:
    """Raise Diverged for the first loss that is not finite."""
    for name in (metric.name for metric in metrics if metric.kind == "loss" and metric.name in values):
        for replica, value in enumerate(values[name]):
            if not math.isfinite(value):
                which = f"{name} of replica {replica}" if len(values[name]) > 1 else name
                raise Diverged("diverged", f"{which} is {value} at epoch {epoch}", "Try a lower --lr.")
