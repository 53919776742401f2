"""A learned curve among the points that it was fitted to."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlpx.plots.figure import BLUE, GREY, ORANGE, new_figure

Points = tuple[NDArray[np.float64], NDArray[np.float64]]


def fit_curve(title: str, train: Points, test: Points, true: Points, learned: Points) -> Figure:
    """Training and test points with the true and the learned curve; each argument is a pair (x, y).

    The view holds every point and the true curve; a learned curve that leaves it is cut.
    """
    figure, axes = new_figure(title, "x", "y")
    axes.scatter(*train, s=26, color=BLUE, alpha=0.75, linewidths=0, label="training examples", zorder=3)
    axes.scatter(*test, s=26, facecolors="none", edgecolors=GREY, linewidths=0.9, label="test examples", zorder=2)
    axes.plot(*true, color=GREY, linewidth=1.6, linestyle="--", label="true curve")
    axes.plot(*learned, color=ORANGE, linewidth=2.2, label="learned curve", zorder=4)
    y = np.concatenate([train[1], test[1], true[1]])
    margin = 0.06 * (y.max() - y.min() or 1.0)
    axes.set_ylim(y.min() - margin, y.max() + margin)
    axes.legend(frameon=False, fontsize=11, loc="upper left")
    return figure
