"""Curves over epochs of groups of runs: the median of each group, and a band that holds its runs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlpx.plots.effects import FEW_CURVES, head, scale_up, shades
from mlpx.plots.figure import GRAY, new_figure, plain

DASHES: Sequence[Any] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)))
"""Eight ways to draw a line, so that colors are not needed to tell one from another."""
MOST_GROUPS = len(DASHES)
LETTER, MARK = 0.0092, 0.075
"""The widths of a letter and of a line in the legend, as shares of the figure's."""
TOP, BOTTOM = 0.85, 0.13


class GroupCurve(NamedTuple):
    """What the runs of a group measured at some epochs.

    Args:
        label: Its name in the legend; without one it is drawn in gray, in the background.
        epochs: The epochs, (E,).
        middle: The median, (E,).
        low: The lower end of the band, (E,).
        high: The upper end, (E,).
    """

    label: str
    epochs: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


class GroupPanel(NamedTuple):
    """What one pair of axes shows.

    Args:
        label: Of the vertical axis.
        kind: A ``share`` is shown in percent.
        log: Whether the vertical axis is logarithmic, if the values allow it.
        curves: A curve a group; the named ones are at most :data:`MOST_GROUPS`, in the same order in each panel.
    """

    label: str
    kind: str
    log: bool
    curves: Sequence[GroupCurve]


def curves_of_groups(title: str, about: str, panels: Sequence[GroupPanel], *, in_order: bool) -> Figure:
    """One or two panels side by side, with a legend beside them.

    Args:
        title: Of the figure.
        about: What stands below the title.
        panels: The panels.
        in_order: Whether the groups have an order, which their colors then show.
    """
    named = [curve.label for curve in panels[0].curves if curve.label]
    figure, first = new_figure("", "epoch", "")
    head(figure, title, about)
    margin = MARK + LETTER * max(map(len, named)) if len(named) > 1 else 0.0
    width = (1 - margin) / len(panels)
    axes = [first, *(figure.add_axes((number * width, 0, width, 1)) for number in range(1, len(panels)))]
    colors = shades(len(named), in_order=in_order)
    for number, (place, panel) in enumerate(zip(axes, panels, strict=True)):
        place.set_position((number * width + 0.08, BOTTOM, width - 0.11, TOP - BOTTOM - 0.04))
        plain(place, "epoch", "")
        place.set_title(panel.label, fontsize=11)
        _draw(place, panel, colors)
    if len(named) > 1:
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=9, frameon=False, handlelength=3)
    return figure


def _draw(axes: Axes, panel: GroupPanel, colors: Sequence[str]) -> None:
    for curve in panel.curves:
        if not curve.label:
            axes.plot(curve.epochs, curve.middle, color=GRAY, alpha=0.3, linewidth=0.8, zorder=1)
    named = [curve for curve in panel.curves if curve.label]
    for curve, color, dashes in zip(named, colors, DASHES, strict=False):
        (line,) = axes.plot(curve.epochs, curve.middle, label=curve.label, color=color, linewidth=1.8, markersize=4)
        line.set_linestyle(dashes)
        line.set_marker("o" if len(curve.epochs) == 1 else "none")
        if len(named) <= FEW_CURVES:
            axes.fill_between(curve.epochs, curve.low, curve.high, color=color, alpha=0.13, lw=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    scale_up(axes, panel.kind, [curve.middle for curve in panel.curves], log=panel.log)
