"""Which class is taken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlpx.plots.figure import new_figure


def confusion_matrix(title: str, classes: Sequence[str], counts: NDArray[np.int64]) -> Figure:
    """``counts`` (C, C) of true class by guessed class; each cell is as dark as its share of its row."""
    figure, axes = new_figure(title, "predicted class", "true class")
    figure.set_size_inches(8, 6.4)
    axes.set_position((0.17, 0.165, 0.73, 0.775))
    axes.grid(visible=False)
    long_names = max(map(len, classes)) > 2
    axes.yaxis.set_label_coords(-0.19 if long_names else -0.06, 0.5)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[i, j] > 0.5 else "black"
            weight = "bold" if i == j else "normal"
            axes.text(j, i, f"{count}", ha="center", va="center", color=colour, fontsize=9, fontweight=weight)
    places = range(len(classes))
    axes.set_xticks(places, classes)
    if long_names:
        axes.tick_params(axis="x", labelrotation=35)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(places, classes)
    for i in places:
        axes.text(len(classes) - 0.4, i, f"{shares[i, i]:.1%}", ha="left", va="center", fontsize=10)
    axes.text(len(classes) - 0.4, -0.72, "right", ha="left", va="center", fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure
