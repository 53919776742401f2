"""Loss curves."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from mlpx.plots.figure import BLUE, GREEN, GREY, ORANGE, new_figure, plain

PARTS = {"train": ("training, while it learns", BLUE), "val": ("validation", GREEN), "test": ("test", ORANGE)}


def _plain_number(value: float, _position: object) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e6 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def loss_curves(
    title: str, rows: Mapping[str, Sequence[float]], labels: Mapping[str, str], floor: tuple[str, float] | None = None
) -> Figure:
    """Up to three losses, the columns of ``labels``, by epoch on a log scale.

    A dashed ``floor`` (label, loss) is what none can stay below.
    """
    figure, axes = new_figure(title, "epoch", "mean squared error")
    for (column, label), colour in zip(labels.items(), (BLUE, ORANGE, GREEN), strict=False):
        marker = "o" if len(rows[column]) < 3 else None
        axes.plot(rows["epoch"], rows[column], label=label, color=colour, linewidth=2, marker=marker)
        _draw_band(axes, rows, column, colour)
    if floor is not None and floor[1] > 0:
        axes.axhline(floor[1], label=floor[0], color=GREY, linewidth=1.2, linestyle="--")
    _mark_whole_epochs(axes)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(_plain_number))  # 0.01, not the slower 10^-2
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=11)
    return figure


def losses_and_accuracies(title: str, rows: Mapping[str, Sequence[float]]) -> Figure:
    """Side by side, train and test loss and train and test accuracy by epoch."""
    figure, left, right = _side_by_side(title, "cross-entropy", "accuracy")
    _draw_columns(left, rows, "train_loss", "test_loss")
    _draw_columns(right, rows, "train_accuracy", "test_accuracy")
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.legend(frameon=False, fontsize=11)
    return figure


def losses_and_quality(title: str, rows: Mapping[str, Sequence[float]], quality: str, quality_name: str) -> Figure:
    """Side by side, the three losses and the column ``quality`` by epoch: BLEU of 100, or else a share in percent."""
    figure, left, right = _side_by_side(title, "cross-entropy in nats", quality_name)
    _draw_columns(left, rows, "train_loss", "val_loss", "test_loss")
    _draw_columns(right, rows, quality)
    top = 1.0
    if quality.endswith("bleu"):
        top = max((value for value in rows[quality] if math.isfinite(value)), default=0) or 1.0
    else:
        right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.set_ylim(-0.02 * top, 1.02 * top)
    left.legend(frameon=False, fontsize=11)
    return figure


def _side_by_side(title: str, left_name: str, right_name: str) -> tuple[Figure, Axes, Axes]:
    """A figure with two pairs of axes over epochs."""
    figure, left = new_figure(title, "epoch", "")
    left.set_title("")
    left.set_position((0.08, 0.12, 0.39, 0.74))
    right = figure.add_axes((0.58, 0.12, 0.39, 0.74))
    plain(right, "epoch", "")
    figure.suptitle(title, fontsize=13, y=0.96)
    for axes, name in ((left, left_name), (right, right_name)):
        axes.set_title(name, fontsize=11)
        _mark_whole_epochs(axes)
    return figure, left, right


def _mark_whole_epochs(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def _draw_columns(axes: Axes, rows: Mapping[str, Sequence[float]], *columns: str) -> None:
    """A curve for each column, in the look of the part of the data that it begins with."""
    for column in columns:
        label, colour = PARTS[column.partition("_")[0]]
        marker = "o" if sum(map(math.isfinite, rows[column])) < 15 else None
        axes.plot(rows["epoch"], rows[column], label=label, color=colour, linewidth=2, marker=marker, markersize=4)
        _draw_band(axes, rows, column, colour)


def _draw_band(axes: Axes, rows: Mapping[str, Sequence[float]], column: str, colour: str) -> None:
    """Of replicas, whose median the curve is, the span in which eight of ten lie."""
    if f"{column}_p10" in rows:
        axes.fill_between(rows["epoch"], rows[f"{column}_p10"], rows[f"{column}_p90"], color=colour, alpha=0.2, lw=0)
