"""Loss curves: what a run measured, by epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from mlpx.plots.figure import BLUE, GRAY, GREEN, ORANGE, new_figure, plain, plain_number

# By the first word of a column's name; others are green, and dash-dotted.
COLORS, DASHES = {"train": BLUE, "test": ORANGE}, {"train": "--", "test": "-"}
FEW_ROWS = 15  # so few that each is marked

Rows = Mapping[str, Sequence[float]]


class Panel(NamedTuple):
    """What one pair of axes shows.

    Args:
        label: Of the vertical axis.
        kind: A ``share`` is shown in percent; a ``share`` or a ``score`` that begins near zero is shown from zero on.
        curves: The label of each curve by its column.
        log: Whether the vertical axis is logarithmic.
    """

    label: str
    kind: str
    curves: Mapping[str, str]
    log: bool = False


def loss_curves(title: str, panels: Sequence[Panel], rows: Rows, *, floor: tuple[str, float] | None = None) -> Figure:
    """One panel, or two side by side, over the column ``epoch`` of ``rows``.

    Of several replicas, whose median is the curve, a band holds eight in ten.

    Args:
        title: Of the figure.
        panels: One or two.
        rows: The columns by name; those ending in ``_p10`` and ``_p90`` are the band.
        floor: The label and the height of a dashed line in the first panel, below which no loss can stay.
    """
    figure, axes = _axes(title, panels)
    for place, panel in zip(axes, panels, strict=True):
        for column, label in panel.curves.items():
            _draw(place, rows, column, label)
        if floor is not None and floor[1] > 0 and place is axes[0]:
            place.axhline(floor[1], label=floor[0], color=GRAY, linewidth=1.2, linestyle="--")
        place.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        if panel.log and any(value > 0 for column in panel.curves for value in rows[column]):
            place.set_yscale("log")
            place.yaxis.set_major_formatter(FuncFormatter(plain_number))  # 0.01, not the slower 10^-2
            place.yaxis.set_minor_formatter(NullFormatter())
        _scale(place, panel, rows)
    axes[0].legend(frameon=False, fontsize=11)
    return figure


def _axes(title: str, panels: Sequence[Panel]) -> tuple[Figure, list[Axes]]:
    if len(panels) == 1:
        figure, axes = new_figure(title, "epoch", panels[0].label)
        return figure, [axes]
    figure, left = new_figure(title, "epoch", "")
    left.set_title("")
    left.set_position((0.08, 0.12, 0.39, 0.74))
    right = figure.add_axes((0.58, 0.12, 0.39, 0.74))
    plain(right, "epoch", "")
    figure.suptitle(title, fontsize=13, y=0.96)
    for axes, panel in zip((left, right), panels, strict=True):
        axes.set_title(panel.label, fontsize=11)
    return figure, [left, right]


def _draw(axes: Axes, rows: Rows, column: str, label: str) -> None:
    first_word = column.partition("_")[0]
    color, dashes = COLORS.get(first_word, GREEN), DASHES.get(first_word, "-.")
    (line,) = axes.plot(rows["epoch"], rows[column], dashes, label=label, color=color, linewidth=2, markersize=4)
    line.set_marker("o" if sum(map(math.isfinite, rows[column])) < FEW_ROWS else "none")
    if f"{column}_p10" in rows:
        axes.fill_between(rows["epoch"], rows[f"{column}_p10"], rows[f"{column}_p90"], color=color, alpha=0.2, lw=0)


def _scale(axes: Axes, panel: Panel, rows: Rows) -> None:
    """Shares in percent; shares and scores that begin near zero are shown from zero to the top."""
    if panel.kind == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    values = [value for column in panel.curves for value in rows[column] if math.isfinite(value)]
    if panel.kind in ("share", "score") and values and min(values) <= max(values) / 2:
        top = 1.0 if panel.kind == "share" else max(values) or 1.0
        axes.set_ylim(-0.02 * top, 1.02 * top)
