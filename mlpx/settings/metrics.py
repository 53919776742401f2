"""What a run measures: each metric is declared once, and all that is said of it elsewhere follows from that.

Free of torch and numpy, so that what only reads runs can know metrics too.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["loss", "number", "share", "score", "count", "speed", "seconds"]

SPREAD = ("mean", "std", "p10", "p90")
EXTREMES = ("min", "max")


@dataclass(frozen=True)
class Metric:
    """A number that a run measures.

    Args:
        name: What ``metrics.csv``, ``run.json`` and ``--check`` call it.
        kind: How it is shown: a ``loss`` must stay finite, or the training has diverged; a ``share`` is a fraction,
            shown in percent; a ``score`` goes from 0 to 100; a ``speed`` is per second.
        better: Whether a lower or a higher value is better; ``None`` where neither is.
        axis: The label of the axis of ``loss.png`` that it is drawn on; empty where it is not drawn.
        curve: What the picture calls its curve.
        log: Its axis is logarithmic.
        is_main: It is shown where many runs are listed or compared.
        at_end: It is computed at the end alone, so it is no column of the table.
        shared: It is one number for all replicas, not one for each.
        optional: Its place, from 1, in the order in which a terminal too narrow for all columns leaves them out; 0 for
            a column that always stays.
        is_spread: It tells how the replicas spread around another metric.
    """

    name: str
    kind: Kind = "number"
    better: Literal["lower", "higher"] | None = None
    axis: str = ""
    curve: str = ""
    log: bool = False
    is_main: bool = False
    at_end: bool = False
    shared: bool = False
    optional: int = 0
    is_spread: bool = False

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    def shown(self, value: float) -> str:
        """A value as a person reads it.

        Four significant digits; whole numbers and speeds whole, shares in percent, seconds to the hundredth.
        """
        if isinstance(value, int):
            return str(value)
        if self.kind == "speed" and math.isfinite(value):
            return f"{value:.0f}"
        if self.kind == "share":
            return f"{value:.2%}"
        return f"{value:.2f}" if self.kind == "seconds" else f"{value:#.4g}".rstrip(".")

    def shown_with(self, mean: float, std: float) -> str:
        """Mean ± standard deviation as a person reads them: to two digits of the deviation."""
        if self.kind == "share":
            return f"{mean:.2%} ± {std:.2%}"
        if 1e-6 < std < 1e6 and abs(mean) < 1e6:
            decimals = max(0, 1 - math.floor(math.log10(std)))
            return f"{mean:.{decimals}f} ± {std:.{decimals}f}"
        return f"{mean:.4g} ± {std:.2g}"


EPOCH = Metric("epoch", "count", shared=True)
SECONDS = Metric("seconds", "seconds", better="lower", shared=True)
NUM_DIVERGED = Metric("num_diverged", "count", better="lower", at_end=True, shared=True)


def with_spread(metrics: Iterable[Metric], replicas: int) -> list[Metric]:
    """``metrics``, each that several replicas have followed by what tells its spread around the median."""
    return [
        each
        for metric in metrics
        for each in (
            metric,
            *(_spread_of(metric, f"{metric.name}_{kind}") for kind in SPREAD if replicas > 1 and not metric.shared),
        )
    ]


def _spread_of(metric: Metric, name: str) -> Metric:
    return replace(metric, name=name, is_spread=True, axis="", is_main=False)


def by_axis(metrics: Iterable[Metric]) -> dict[str, list[Metric]]:
    """The metrics that are drawn on an axis together, by its label."""
    axes: dict[str, list[Metric]] = {}
    for metric in metrics:
        axes.setdefault(metric.axis or metric.title, []).append(metric)
    return axes


def columns(metrics: Iterable[Metric], replicas: int) -> list[Metric]:
    """The columns of the table and of ``metrics.csv``: ``epoch``, those of ``metrics`` with a row, ``seconds``."""
    return [EPOCH, *with_spread([metric for metric in metrics if not metric.at_end], replicas), SECONDS]


def final(metrics: Sequence[Metric], replicas: int) -> list[Metric]:
    """All metrics of a finished run: the columns, those of its end, the number of diverged replicas, and extremes."""
    at_end = with_spread([metric for metric in metrics if metric.at_end], replicas)
    if replicas > 1:
        at_end.append(NUM_DIVERGED)
    extremes = [
        _spread_of(metric, f"{kind}_{metric.name}")
        for metric in metrics
        for kind in EXTREMES
        if replicas > 1 and not metric.shared
    ]
    return [*columns(metrics, replicas), *at_end, *extremes]
