"""Pictures of learned curves: one among its examples, or many over each other."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlpx.plots.figure import BLUE, GRAY, LEFT, ORANGE, new_figure, plain

Array = NDArray[np.float64]
Points = tuple[Array, Array]

# Points are drawn larger where there are at most so many of them, and only so many are drawn.
FEW_POINTS, MAX_POINTS = 20, 1000

GAP, MIN_OPACITY = 0.05, 0.05
# 95 % of the examples lie within so many standard deviations of x.
NEAR = 2.0
# The quantiles of the replicas between which most curves lie.
MOST = (0.05, 0.95)


def fit_curve(title: str, train: Points, test: Points, x: Array, true: Array, learned: Array) -> Figure:
    """Two panels over ``x``: the examples with the true and the learned curve, and below, the distances from the truth.

    The upper panel shows every example and the whole true curve. The lower panel shows the distance of every example,
    and that of the learned curve between the outermost training examples; beyond them the curve may leave the panel.
    """
    figure, upper = new_figure(title, "", "y")
    upper.set_position((LEFT, 0.41, 0.97 - LEFT, 0.5))
    upper.tick_params(labelbottom=False)
    lower = figure.add_axes((LEFT, 0.12, 0.97 - LEFT, 0.24), sharex=upper)
    plain(lower, "x", "y less truth")

    _points(upper, train, test)
    upper.plot(x, true, color=GRAY, linewidth=1.6, linestyle="--", label="true curve", zorder=4)
    upper.plot(x, learned, color=ORANGE, linewidth=2.2, label="learned curve", zorder=3)
    _view(upper, [train[1], test[1], true])
    upper.legend(frameon=False, fontsize=10, loc="lower right")

    noise = [(points[0], points[1] - np.interp(points[0], x, true)) for points in (train, test)]
    _points(lower, *noise)
    lower.axhline(0, color=GRAY, linewidth=1.6, linestyle="--", zorder=4)
    lower.plot(x, learned - true, color=ORANGE, linewidth=2.2, zorder=3)
    among = (x >= train[0].min()) & (x <= train[0].max())
    _view(lower, [noise[0][1], noise[1][1], (learned - true)[among]])
    return figure


def _points(axes: Axes, train: Points, test: Points) -> None:
    """Training examples as dots, test examples as rings behind them."""
    for (x, y), name, face, edge in ((test, "test", "none", GRAY), (train, "training", BLUE, "none")):
        label = f"{name} examples" if len(x) <= MAX_POINTS else f"first {MAX_POINTS} {name} examples"
        size = 24 if len(x) > FEW_POINTS else 60
        axes.scatter(x[:MAX_POINTS], y[:MAX_POINTS], s=size, facecolors=face, edgecolors=edge, alpha=0.8, label=label)


def _view(axes: Axes, shown: list[Array]) -> None:
    values = np.concatenate(shown)
    values = values[np.isfinite(values)]
    margin = 0.08 * (values.max() - values.min() or 1.0)
    axes.set_ylim(values.min() - margin, values.max() + margin)


def fit_curves(title: str, x: Array, true: Array, panels: Mapping[str, Array]) -> Figure:
    """Columns side by side, each of many faint curves (R, X) over ``x`` (X,), learned from as many training sets.

    The upper panel of a column shows the curves over the true curve, the lower panel their distance from it. The lower
    panel has a scale of its own, by which most curves are seen where most examples lie; beyond, they may leave it.
    """
    figure, first = new_figure("", "", "")
    figure.suptitle(title, fontsize=13, y=0.97)
    figure.set_size_inches(max(8, 4 * len(panels)), 4.5)
    margin = LEFT * 8 / figure.get_figwidth()
    width = (0.97 - margin + GAP) / len(panels)
    upper = first
    for i, (name, learned) in enumerate(panels.items()):
        place = (margin + i * width, width - GAP)
        if i:
            upper = figure.add_axes((0, 0, 1, 1), sharex=first, sharey=first)
        lower = figure.add_axes((0, 0, 1, 1), sharex=first)
        for axes, label, bottom in ((upper, "y", 0.53), (lower, "y less truth", 0.12)):
            axes.set_position((place[0], bottom, place[1], 0.35))
            plain(axes, "x" if axes is lower else "", "" if i else label)
            axes.yaxis.set_label_coords(-0.72 * margin / place[1], 0.5)
            axes.tick_params(labelbottom=axes is lower)
        upper.set_title(name, fontsize=10)
        opacity = max(MIN_OPACITY, 0.5 / math.sqrt(len(learned)))
        for axes, curves, zero in ((upper, learned, true), (lower, learned - true, 0 * true)):
            axes.plot(x, curves.T, color=ORANGE, linewidth=1, alpha=opacity, zorder=3)
            axes.plot(x, zero, color=GRAY, linewidth=1.6, linestyle="--", label="true curve", zorder=4)
        upper.set_xlim(x[0], x[-1])
        _view(upper, [true])
        _view(lower, list(np.quantile((learned - true)[:, np.abs(x) <= NEAR], MOST, axis=0)))
    first.plot([], [], color=ORANGE, label="a learned curve")
    first.legend(frameon=False, fontsize=10, loc="lower right")
    return figure
