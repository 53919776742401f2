"""What is said of R trainings side by side: the median of each figure, and how far the replicas spread around it."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mlpx.errors import Diverged

Figure = float | list[float]
"""A number, or one for each of several replicas."""

SPREAD = ("mean", "std", "p10", "p90")
EXTREMES = ("min", "max")


def figure(values: list[float]) -> Figure:
    """A figure of one replica or several."""
    return values if len(values) > 1 else values[0]


def listed(figure: Figure) -> list[float]:
    """A figure's number for each replica."""
    return figure if isinstance(figure, list) else [figure]


def names(figures: Sequence[str], replicas: int) -> tuple[str, ...]:
    """What :func:`summary` calls the figures of so many replicas, each one's median first."""
    kinds = ("", *(f"_{kind}" for kind in SPREAD)) if replicas > 1 else ("",)
    return tuple(name + kind for name in figures for kind in kinds)


def extreme_names(figures: Sequence[str], replicas: int) -> tuple[str, ...]:
    """What :func:`extremes` calls them."""
    return tuple(f"{kind}_{name}" for name in figures for kind in EXTREMES) if replicas > 1 else ()


def summary(figures: Mapping[str, Figure]) -> dict[str, float]:
    """Each figure's median over the replicas, mean, standard deviation (n - 1), and 10 % and 90 % quantiles.

    A figure that is one number stays as it is. Those that are not finite make what depends on them not finite.
    """
    found: dict[str, float] = {}
    for name, figure in figures.items():
        if not isinstance(figure, list):
            found[name] = figure
            continue
        values = np.array(figure)
        with np.errstate(all="ignore"):
            low, median, high = np.quantile(values, (0.1, 0.5, 0.9))
            numbers = (median, values.mean(), values.std(ddof=1), low, high)
        found |= zip(names([name], len(figure)), map(float, numbers), strict=True)
    return found


def extremes(figures: Mapping[str, Figure]) -> dict[str, float]:
    """The least and the greatest of each figure that several replicas have."""
    found: dict[str, float] = {}
    for name, figure in figures.items():
        if isinstance(figure, list):
            found |= zip(extreme_names([name], len(figure)), (min(figure), max(figure)), strict=True)
    return found


def to_csv(seeds: Sequence[int], figures: Mapping[str, Figure]) -> bytes:
    """A row a replica: its number, its seed, and its own figures."""
    several = {name: figure for name, figure in figures.items() if isinstance(figure, list)}
    text = io.StringIO()
    rows = zip(range(len(seeds)), seeds, *several.values(), strict=True)
    csv.writer(text, lineterminator="\n").writerows([("replica", "seed", *several), *rows])
    return text.getvalue().encode()


def main_columns(columns: Iterable[str]) -> list[str]:
    """``columns`` without those that tell the spread of another."""
    names = list(columns)
    spread = {f"{name}_{kind}" for name in names for kind in SPREAD}
    return [name for name in names if name not in spread]


def in_words(figures: Mapping[str, Figure], names: Sequence[str]) -> str:
    """Mean ± standard deviation of each of ``names``."""
    found = summary(figures)
    parts = []
    for name in names:
        mean, std = found[f"{name}_mean"], found[f"{name}_std"]
        spread = f"{mean:.2%} ± {std:.2%}" if name.endswith("accuracy") else f"{mean:.4g} ± {std:.2g}"
        parts.append(f"{name.replace('_', ' ')} {spread}")
    return f"{', '.join(parts)} (mean ± standard deviation)"


def require_finite(figures: Mapping[str, Figure], epoch: int) -> None:
    """Raise Diverged for the first figure that is not finite."""
    for name, figure in figures.items():
        for replica, value in enumerate(listed(figure)):
            if not math.isfinite(value):
                which = f"{name} of replica {replica}" if isinstance(figure, list) else name
                raise Diverged("diverged", f"{which} is {value} at epoch {epoch}", "Try a lower --lr.")
