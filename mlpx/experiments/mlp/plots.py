"""Pictures of a perceptron: its confusion matrix, its mistakes, and the weights of its first layer."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlpx.plots.figure import ORANGE, new_figure

COLUMNS, ROWS = 7, 3
TILES = COLUMNS * ROWS
# The height of the two lines below an image, and the gap beside it, in pixels of the image.
CAPTION = 15
GAP = 8
MAX_SIGNED = 98
SIGNED_COLUMNS = 14


def confusion_matrix(title: str, classes: Sequence[str], counts: NDArray[np.int64]) -> Figure:
    """``counts`` (C, C) by true and by predicted class; a cell is as dark as its share of its row."""
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
            color = "white" if shares[i, j] > 0.5 else "black"
            weight = "bold" if i == j else "normal"
            axes.text(j, i, f"{count}", ha="center", va="center", color=color, fontsize=9, fontweight=weight)
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


def captioned_images(title: str, images: NDArray[np.uint8], captions: Sequence[tuple[str, str]]) -> Figure:
    """Up to 21 images (N, H, W), each with its true class and, below, the class that was predicted."""
    height, width = images.shape[1:]
    pitch_y, pitch_x = height + CAPTION, width + GAP
    sheet = np.full((ROWS * pitch_y, COLUMNS * pitch_x), 255, np.uint8)
    figure, axes = _sheet_figure(title)
    for i, (image, (truth, guess)) in enumerate(zip(images, captions, strict=True)):
        y, x = i // COLUMNS * pitch_y, i % COLUMNS * pitch_x + GAP // 2
        sheet[y : y + height, x : x + width] = image
        axes.text(x + width / 2, y + height + 3.5, truth, ha="center", va="center", fontsize=9.5)
        axes.text(x + width / 2, y + height + 9, guess, ha="center", va="center", fontsize=9, color=ORANGE)
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal")
    return figure


def signed_images(title: str, images: NDArray[np.float32]) -> Figure:
    """Images (N, H, W) of positive (red) and negative (blue) numbers: the 98 of largest norm, in descending order."""
    norms = np.linalg.norm(images.reshape(len(images), -1), axis=1)
    chosen = images[np.argsort(-norms, kind="stable")[:MAX_SIGNED]]
    columns = min(SIGNED_COLUMNS, math.ceil(math.sqrt(len(chosen) * 2)))
    height, width = (side + GAP // 4 for side in chosen.shape[1:])
    sheet = np.full((math.ceil(len(chosen) / columns) * height, columns * width), np.nan, np.float32)
    for i, image in enumerate(chosen):
        y, x = i // columns * height, i % columns * width
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    if len(chosen) < len(images):
        title += f", the {len(chosen)} strongest of {len(images)}"
    figure, axes = _sheet_figure(title)
    reach = float(np.quantile(np.abs(chosen), 0.995)) or 1.0
    drawn = axes.imshow(sheet, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest", aspect="equal")
    bar = figure.colorbar(drawn, cax=axes.inset_axes((1.015, 0, 0.013, 1)))
    bar.ax.tick_params(labelsize=9)
    axes.set_position((0.02, 0.04, 0.88, 0.86))
    axes.set_anchor("N")
    return figure


def _sheet_figure(title: str) -> tuple[Figure, Axes]:
    figure, axes = new_figure(title, "", "")
    axes.set_position((0.02, 0.02, 0.96, 0.88))
    axes.axis("off")
    return figure, axes
