"""A learned curve among the points that it was fitted to, and how far it is from the truth."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlpx.plots.figure import BLUE, GREY, LEFT, ORANGE, new_figure, plain

Array = NDArray[np.float64]
Points = tuple[Array, Array]

FEW_POINTS = 20
MAX_POINTS = 1000


def fit_curve(title: str, train: Points, test: Points, x: Array, true: Array, learned: Array) -> Figure:
    """Above, the points (x, y) with the true and the learned curve over ``x``; below, the same less the true curve.

    The upper view holds every point and the true curve; the lower one holds the points, and the learned curve's error
    where there are training points, so that what lies beyond them may leave it.
    """
    figure, upper = new_figure(title, "", "y")
    upper.set_position((LEFT, 0.41, 0.97 - LEFT, 0.5))
    upper.tick_params(labelbottom=False)
    lower = figure.add_axes((LEFT, 0.12, 0.97 - LEFT, 0.24), sharex=upper)
    plain(lower, "x", "y less truth")

    _points(upper, train, test)
    upper.plot(x, true, color=GREY, linewidth=1.6, linestyle="--", label="true curve", zorder=4)
    upper.plot(x, learned, color=ORANGE, linewidth=2.2, label="learned curve", zorder=3)
    _view(upper, [train[1], test[1], true])
    upper.legend(frameon=False, fontsize=10, loc="lower right")

    noise = [(points[0], points[1] - np.interp(points[0], x, true)) for points in (train, test)]
    _points(lower, *noise)
    lower.axhline(0, color=GREY, linewidth=1.6, linestyle="--", zorder=4)
    lower.plot(x, learned - true, color=ORANGE, linewidth=2.2, zorder=3)
    among = (x >= train[0].min()) & (x <= train[0].max())
    _view(lower, [noise[0][1], noise[1][1], (learned - true)[among]])
    return figure


def _points(axes: Axes, train: Points, test: Points) -> None:
    """Training examples as dots, test examples as rings behind them."""
    for (x, y), name, face, edge in ((test, "test", "none", GREY), (train, "training", BLUE, "none")):
        label = f"{name} examples" if len(x) <= MAX_POINTS else f"first {MAX_POINTS} {name} examples"
        size = 24 if len(x) > FEW_POINTS else 60
        axes.scatter(x[:MAX_POINTS], y[:MAX_POINTS], s=size, facecolors=face, edgecolors=edge, alpha=0.8, label=label)


def _view(axes: Axes, shown: list[Array]) -> None:
    values = np.concatenate(shown)
    values = values[np.isfinite(values)]
    margin = 0.08 * (values.max() - values.min() or 1.0)
    axes.set_ylim(values.min() - margin, values.max() + margin)
