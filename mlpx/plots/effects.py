"""What changes of settings do to what many runs measured: curves over a setting, rows of results, and strips of seeds.

Each value that is drawn stands for several seeds. Where they are many, the median is drawn, and a band holds eight in
ten of them; of fewer than :data:`FEW_SEEDS`, the band holds all.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)
from numpy.typing import NDArray

from mlpx.plots.figure import BLUE, GRAY, GREEN, LEFT, ORANGE, new_figure, plain, plain_number

FEW_SEEDS = 5
"""Of fewer values there is no telling where eight in ten of them lie."""
# The other colors of Okabe and Ito come after those that every picture uses.
PALETTE = (BLUE, ORANGE, GREEN, "#cc79a7", "#e69f00", "#56b4e9", "#000000")
FEW_TICKS, FEW_LABELS = 9, 11
"""So many values of a setting can each have a tick on the axis, and so many curves an entry in the legend."""
FEW_POINTS = 60
"""A row or a strip of at most so many seeds shows each of them."""
FEW_CURVES = 5
"""Bands of more curves than this, and curves in their background, would hide one another."""
LARGE_FACTOR, LARGE_SPREAD = 10.0, 30.0
"""Settings whose extremes are closer than the first factor have a linear axis; losses farther apart than the second
have a logarithmic one.
"""
FEW_DECADES = 100.0
"""A logarithmic axis that does not reach over this factor has ticks between the powers of ten."""
MOST_DECADES = 8.0
"""A logarithmic axis shows no more powers of ten than this, so that a loss of 1e-30 does not flatten all others."""
MARKERS, SHAPES = "xv^sd", "os^DvP*X"
"""The marks of what has no value, and those on curves."""
MOST_MARKS = 2 * FEW_TICKS + 3
HEADROOM, MOST_HEADROOM = 0.045, 0.25
"""The share of the axis that a row of marks takes at the top, and that of all rows together."""
TOP, BOTTOM = 0.85, 0.13
MARK, LETTER = 0.055, 0.0108
"""The widths of a mark in the legend and of a letter of 10 points, as shares of the figure's."""

Value = float | str
Array = NDArray[np.float64]
Picture = Figure
"""What the functions of this module return, for those that may not import matplotlib."""


class Across(NamedTuple):
    """The horizontal axis.

    Args:
        label: The setting.
        values: Its values, in the order in which curves give theirs; texts are drawn at even distances.
    """

    label: str
    values: Sequence[Value]


class Curve(NamedTuple):
    """A curve.

    Args:
        label: Its name in the legend.
        values: What the seeds measured at each value of the setting; empty where none did.
        color: Its color.
        is_background: It is thin and dashed, and has neither band nor name.
    """

    label: str
    values: Sequence[Sequence[float]]
    color: str
    is_background: bool = False


class Panel(NamedTuple):
    """What one pair of axes shows.

    Args:
        label: Of the vertical axis.
        kind: A ``share`` is shown in percent.
        log: Whether the vertical axis is logarithmic, if the values allow it.
        curves: The curves, or strips.
    """

    label: str
    kind: str
    log: bool
    curves: Sequence[Curve]


class Lost(NamedTuple):
    """Seeds that have no value, marked at the upper edge.

    Args:
        label: What became of them, for the legend.
        places: Where on the horizontal axis they are missing, as indices of its values.
        color: Of the curve in which they are missing.
        row: The row of the marks, from 0, so that those of several curves can be told apart.
    """

    label: str
    places: Sequence[int]
    color: str = GRAY
    row: int = 0


class Row(NamedTuple):
    """A row of results.

    Args:
        label: What was done.
        center: The mean or the median; ``nan`` where there is none.
        interval: What is drawn as a bar around it, if anything.
        points: What each seed measured.
        note: What stands at the right end.
        is_certain: Whether the dot is full.
    """

    label: str
    center: float
    interval: tuple[float, float] | None
    points: Sequence[float]
    note: str = ""
    is_certain: bool = True


def shades(count: int, *, in_order: bool) -> list[str]:
    """Colors that can be told apart; those of an order go from dark to light."""
    if not in_order and count <= len(PALETTE):
        return list(PALETTE[:count])
    return [to_hex(color) for color in matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, count))]


def middle_and_band(values: Sequence[float], seeds: int) -> tuple[float, float, float]:
    """The median, and the ends of the band of values that stand for so many seeds; ``nan`` where there are none."""
    if not values:
        return math.nan, math.nan, math.nan
    low, middle, high = np.quantile(values, (0.0, 0.5, 1.0) if seeds < FEW_SEEDS else (0.1, 0.5, 0.9))
    return float(middle), float(low), float(high)


def curves_over(
    title: str, about: str, across: Across, panels: Sequence[Panel], lost: Sequence[Lost], seeds: int, legend: str = ""
) -> Figure:
    """The curves of each panel over a setting.

    Args:
        title: Of the figure.
        about: What stands below the title.
        across: The horizontal axis.
        panels: One or more, side by side.
        lost: What has no value.
        seeds: The number of seeds that a value stands for, which decides the kind of band.
        legend: The title of a legend beside the panels; without one it stands in the first panel.
    """
    entries = [*(curve.label for curve in panels[0].curves), *(each.label for each in lost), legend]
    longest = max(len(line) for entry in entries for line in entry.split("\n"))
    figure, axes = _panels(title, about, across.label, panels, MARK + 0.95 * LETTER * longest if legend else 0)
    x = _places(across.values)
    for place, panel in zip(axes, panels, strict=True):
        _scale_across(place, across, len(panels))
        shown = [
            (curve, np.array([middle_and_band(values, seeds) for values in curve.values]).T) for curve in panel.curves
        ]
        named = sum(not curve.is_background for curve in panel.curves)
        for number, (curve, (middle, low, high)) in enumerate(shown):
            if curve.is_background:
                place.plot(x, middle, color=curve.color, linewidth=1, linestyle="--", alpha=0.7, zorder=2)
                continue
            # The marks tell curves apart for those who do not see their colors.
            (line,) = place.plot(x, middle, label=curve.label, color=curve.color, linewidth=2, markersize=5)
            line.set_marker(SHAPES[number % len(SHAPES)])
            line.set_markevery(-(-len(x) // MOST_MARKS))
            if named <= FEW_CURVES:
                place.fill_between(x, low, high, color=curve.color, alpha=0.17, lw=0)
        scale_up(place, panel.kind, [middle for _, (middle, _, _) in shown], log=panel.log)
        _mark(place, x, lost)
    _legend(axes, lost, legend)
    return figure


def strips(title: str, about: str, panels: Sequence[Panel], seeds: int) -> Figure:
    """The values of seeds, a strip of dots for each curve, whose only value they are, with their median."""
    figure, axes = _panels(title, about, "", panels)
    for place, panel in zip(axes, panels, strict=True):
        middles = []
        for number, curve in enumerate(panel.curves):
            values = np.sort(np.array(curve.values[0]))
            # Neighbors in value lie far apart in width, by the golden ratio.
            across = number + 0.36 * (np.arange(len(values)) * 0.618 % 1 - 0.5)
            place.scatter(across, values, s=26 if len(values) <= FEW_POINTS else 10, color=curve.color, alpha=0.6, lw=0)
            middle, low, high = middle_and_band(list(values), seeds)
            middles.append(np.array([middle]))
            place.plot([number + 0.27] * 2, [low, high], color=curve.color, linewidth=2)
            place.plot([number + 0.2, number + 0.34], [middle] * 2, color=curve.color, linewidth=3)
        place.set_xlim(-0.6, len(panel.curves) - 0.4)
        place.xaxis.set_major_locator(FixedLocator(range(len(panel.curves))))
        place.xaxis.set_major_formatter(FixedFormatter([curve.label for curve in panel.curves]))
        place.tick_params(axis="x", length=0, labelsize=11)
        scale_up(place, panel.kind, middles, log=panel.log)
    return figure


def rows(
    title: str, about: str, xlabel: str, entries: Sequence[Row], *, kind: str, log: bool, zero: str = ""
) -> Figure:
    """A row for each entry, the first one on top.

    Args:
        title: Of the figure.
        about: What stands below the title.
        xlabel: Of the horizontal axis.
        entries: The rows.
        kind: A ``share`` is shown in percent.
        log: Whether the horizontal axis is logarithmic, if the values allow it.
        zero: What the line at 0 is called; without a name there is none.
    """
    figure, axes = new_figure("", xlabel, "")
    head(figure, title, about)
    size = 10 if len(entries) <= 16 else 8
    letter = LETTER * size / 10
    left = min(0.4, max(LEFT, 0.035 + letter * max(len(entry.label) for entry in entries)))
    right = 0.97 - 0.9 * letter * max(len(entry.note) for entry in entries)
    top = TOP - 0.03 if zero else TOP
    axes.set_position((left, BOTTOM, right - left, top - BOTTOM))
    if zero:
        axes.axvline(0, color=GRAY, linewidth=1.4, linestyle="--", zorder=1)
        axes.text(0, 1.01, zero, transform=axes.get_xaxis_transform(), ha="center", fontsize=9, color=GRAY)
    for y, entry in enumerate(entries):
        _draw_row(axes, y, entry, size)
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_yticks(range(len(entries)), [entry.label for entry in entries], fontsize=size, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    values = [entry.center for entry in entries if math.isfinite(entry.center)]
    if log and values and min(values) > 0 and all(end > 0 for entry in entries for end in entry.interval or ()):
        axes.set_xscale("log")
        _number_by_factors(axes.xaxis)
    elif kind == "share":
        axes.xaxis.set_major_formatter(PercentFormatter(1))
    return figure


def _draw_row(axes: Axes, y: int, entry: Row, size: float) -> None:
    if len(entry.points) <= FEW_POINTS:
        axes.scatter(entry.points, [y] * len(entry.points), s=14, color=GRAY, alpha=0.35, lw=0, zorder=2)
    if entry.interval is not None:
        axes.plot(entry.interval, [y, y], color=BLUE, linewidth=2.2, zorder=3, solid_capstyle="butt")
    face = BLUE if entry.is_certain else "white"
    axes.plot([entry.center], [y], "o", color=BLUE, markerfacecolor=face, markersize=7, markeredgewidth=1.6, zorder=4)
    axes.text(
        *(1.01, y, entry.note), transform=axes.get_yaxis_transform(), va="center", fontsize=0.9 * size, color=GRAY
    )


# The frame


def head(figure: Figure, title: str, about: str) -> None:
    """Write the title, and below it what the figure shows."""
    figure.suptitle(title, fontsize=13, y=0.975, parse_math=False)
    figure.text(0.5, 0.905, about, ha="center", va="center", fontsize=9.5, color=GRAY, parse_math=False)


def _panels(
    title: str, about: str, xlabel: str, panels: Sequence[Panel], margin: float = 0
) -> tuple[Figure, list[Axes]]:
    """The figure, with a pair of axes for each panel, side by side, and a margin at the right."""
    figure, first = new_figure("", xlabel, panels[0].label if len(panels) == 1 else "")
    head(figure, title, about)
    if len(panels) == 1:
        first.set_position((LEFT, BOTTOM, 0.97 - margin - LEFT, TOP - BOTTOM))
        return figure, [first]
    width = (1 - margin) / len(panels)
    axes = [first, *(figure.add_axes((number * width, 0, width, 1)) for number in range(1, len(panels)))]
    for number, (place, panel) in enumerate(zip(axes, panels, strict=True)):
        place.set_position((number * width + 0.08, BOTTOM, width - 0.11, TOP - BOTTOM - 0.04))
        plain(place, xlabel, "")
        place.set_title(panel.label, fontsize=11)
    return figure, axes


def _legend(axes: Sequence[Axes], lost: Sequence[Lost], title: str) -> None:
    """The curves of the first panel, and what the marks mean."""
    handles, labels = axes[0].get_legend_handles_labels()
    if len(labels) > FEW_LABELS:
        kept = sorted({round(place) for place in np.linspace(0, len(labels) - 1, FEW_LABELS)})
        handles, labels = [handles[index] for index in kept], [labels[index] for index in kept]
    for number, label in enumerate(dict.fromkeys(each.label for each in lost)):
        mark = MARKERS[number % len(MARKERS)]
        handles.append(Line2D([], [], color=GRAY, marker=mark, linestyle="none", markeredgewidth=1.8))
        labels.append(label)
    if not labels:
        return
    if title:
        legend = axes[-1].legend(
            *(handles, labels), title=title, loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=10, frameon=False
        )
        legend.get_title().set_fontsize(10)
        legend.set_alignment("left")
    else:
        legend = axes[0].legend(handles, labels, fontsize=10, framealpha=0.8, edgecolor="none")
    for text in legend.get_texts():
        text.set_parse_math(False)


def _mark(axes: Axes, x: Sequence[float], lost: Sequence[Lost]) -> None:
    """Mark at the upper edge, in rows above all that is drawn, what has no value."""
    if not lost:
        return
    kinds = list(dict.fromkeys(each.label for each in lost))
    number = 1 + max(each.row for each in lost)
    step = min(HEADROOM, MOST_HEADROOM / number)
    room = step * (number + 1)
    to_axis, from_axis = axes.yaxis.get_transform(), axes.yaxis.get_transform().inverted()
    low, high = to_axis.transform(axes.get_ylim())
    axes.set_ylim(*from_axis.transform([low, low + (high - low) / (1 - room)]))
    for each in lost:
        axes.plot(
            [x[index] for index in each.places],
            [1 - step * (0.6 + each.row)] * len(each.places),
            color=each.color,
            marker=MARKERS[kinds.index(each.label) % len(MARKERS)],
            markersize=6,
            markeredgewidth=1.8,
            linestyle="none",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


# Scales


def _numbers(values: Sequence[Value]) -> list[float] | None:
    """The values, if all of them are numbers, and none is 0 beside others that need a logarithmic axis."""
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) < len(values) or (0 in numbers and _is_log([value for value in numbers if value])):
        return None
    return numbers


def _is_log(numbers: Sequence[float]) -> bool:
    """Whether the values are spread over factors: they are more even by their logarithms than by themselves."""
    if len(numbers) < 3 or min(numbers) <= 0 or max(numbers) < LARGE_FACTOR * min(numbers):
        return False
    return _largest_gap([math.log(number) for number in numbers]) < _largest_gap(numbers)


def _largest_gap(numbers: Iterable[float]) -> float:
    """The largest distance of neighbors, as a share of the whole."""
    values = sorted(numbers)
    return max(np.diff(values)) / (values[-1] - values[0])


def _places(values: Sequence[Value]) -> Sequence[float]:
    numbers = _numbers(values)
    return range(len(values)) if numbers is None else numbers


def _scale_across(axes: Axes, across: Across, panels: int) -> None:
    numbers, places = _numbers(across.values), _places(across.values)
    texts = [value if isinstance(value, str) else f"{value:g}" for value in across.values]
    if numbers is not None and _is_log(numbers):
        axes.set_xscale("log")
        axes.set_xlim(min(numbers) / 1.15, max(numbers) * 1.15)
    else:
        margin = 0.4 if numbers is None else 0.03 * (max(places) - min(places)) or 0.5
        axes.set_xlim(min(places) - margin, max(places) + margin)
    if numbers is None or len(numbers) <= FEW_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(places))
        axes.xaxis.set_major_formatter(FixedFormatter(texts))
        axes.xaxis.set_minor_locator(NullLocator())
        for label in axes.get_xticklabels():
            label.set_parse_math(False)
        if sum(len(text) + 2 for text in texts) > 100 / panels:
            axes.tick_params(axis="x", labelsize=8, rotation=25)
    elif _is_log(numbers):
        _number_by_factors(axes.xaxis)
    else:
        whole = all(isinstance(number, int) for number in numbers)
        axes.xaxis.set_major_locator(MaxNLocator(11, steps=[1, 2, 5, 10], integer=whole))


def scale_up(axes: Axes, kind: str, middles: Iterable[Sequence[float] | Array], *, log: bool) -> None:
    """Make the vertical axis logarithmic where it should be and can be, and show a ``share`` in percent."""
    values = np.concatenate([[], *middles])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    # A loss of 300 would flatten those about 0.3 on the axis of a loss that is usually linear.
    if low > 0 and (log or (kind == "loss" and high > LARGE_SPREAD * low)):
        axes.set_yscale("log")
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, top / 10**MOST_DECADES), top)
        _number_by_factors(axes.yaxis)
    elif kind == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(1))


def _number_by_factors(axis: Axis) -> None:
    """Ticks of a logarithmic axis at powers of ten, and between them where these would be too few."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < FEW_DECADES * low else (1,)))
    axis.set_major_formatter(FuncFormatter(plain_number))
    axis.set_minor_formatter(NullFormatter())
