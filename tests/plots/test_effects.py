"""What settings do to what many runs measured."""

import itertools
import math
import statistics
import struct
from collections.abc import Sequence

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlpx.plots import effects
from mlpx.plots.effects import Across, Curve, Lost, Panel, Row, Value
from mlpx.plots.figure import BLUE, ORANGE, png

FACTORS = [0.001, 0.01, 0.1, 1.0]


def xs(line: Line2D) -> list[float]:
    """Where the points of a line lie."""
    return [float(x) for x in np.asarray(line.get_xdata(), dtype=float)]


def ys(line: Line2D) -> list[float]:
    """How high the points of a line lie."""
    return [float(y) for y in np.asarray(line.get_ydata(), dtype=float)]


def points(dots: Collection) -> list[list[float]]:
    """The places of dots."""
    found: list[list[float]] = np.asarray(dots.get_offsets(), dtype=float).tolist()
    return found


def panel(curves: Sequence[Curve], kind: str = "loss", *, log: bool = False) -> Panel:
    """A panel of these curves."""
    return Panel("loss", kind, log, curves)


def over(values: Sequence[Value], lost: Sequence[Lost] = (), *, log: bool = False) -> Figure:
    """One curve over a setting, which falls from 0.5 on."""
    curve = Curve("test", [[0.5 / (1 + place)] for place in range(len(values))], BLUE)
    return effects.curves_over("title", "about", Across("x", values), [panel([curve], log=log)], lost, 1)


def texts(axes: Axes) -> list[str]:
    """The ticks of the horizontal axis that lie in sight, once it has been drawn."""
    assert isinstance(axes.figure, Figure)
    png(axes.figure)
    low, high = axes.get_xlim()
    ticks = axes.xaxis.get_major_ticks()
    return [tick.label1.get_text() for tick in ticks if low <= tick.get_loc() <= high]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (FACTORS, "log"),
        ([1, 3, 10, 30, 100], "log"),
        ([5, 10, 20, 50, 100, 200, 500], "log"),
        (list(range(20)), "linear"),
        (list(range(1, 101)), "linear"),
        ([0.0, 0.1, 0.2, 0.3], "linear"),
        ([0.01, 1.0], "linear"),  # two values are spread neither way
        ([0.1, 0.2, 0.4], "linear"),  # close together
        ([7], "linear"),
    ],
)
def test_numbers_that_are_spread_over_factors_have_a_logarithmic_axis(values: list[Value], scale: str) -> None:
    (axes,) = over(values).axes
    assert axes.get_xscale() == scale
    low, high = axes.get_xlim()
    assert low < min(values) <= max(values) < high  # type: ignore[operator]
    assert xs(axes.lines[0]) == values


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["none", "256", "512x256"], ["none", "256", "512x256"]),
        (["true", "false"], ["true", "false"]),
        ([0.0, *FACTORS], ["0", "0.001", "0.01", "0.1", "1"]),  # a logarithmic axis has no place for 0
        (["$x$", "a_b^c"], ["$x$", "a_b^c"]),
    ],
)
def test_texts_and_zero_beside_factors_stand_at_even_distances(values: list[Value], shown: list[str]) -> None:
    (axes,) = over(values).axes
    assert texts(axes) == shown
    assert xs(axes.lines[0]) == list(range(len(values)))


def test_few_numbers_have_a_tick_each_and_many_whole_ones_are_marked_by_whole_numbers() -> None:
    assert texts(over(FACTORS).axes[0]) == ["0.001", "0.01", "0.1", "1"]
    assert texts(over([2, 4, 6]).axes[0]) == ["2", "4", "6"]
    assert texts(over(list(range(20))).axes[0]) == ["0", "2", "4", "6", "8", "10", "12", "14", "16", "18"]


@pytest.mark.parametrize(
    ("kind", "log", "values", "scale"),
    [
        ("loss", True, [0.5, 0.4], "log"),
        ("loss", False, [0.5, 0.4], "linear"),
        ("loss", True, [0.5, 0.0], "linear"),
        ("loss", False, [300.0, 0.4], "log"),  # the first would flatten all others
        ("share", False, [0.9, 0.01], "linear"),
        ("loss", True, [math.nan], "linear"),
    ],
)
def test_the_vertical_axis_is_logarithmic_where_the_values_allow_it(
    kind: str, log: bool, values: list[float], scale: str
) -> None:
    curve = Curve("test", [[value] if math.isfinite(value) else [] for value in values], BLUE)
    across = Across("x", list(range(len(values))))
    (axes,) = effects.curves_over("", "", across, [panel([curve], kind, log=log)], [], 1).axes
    assert axes.get_yscale() == scale


def test_the_band_holds_eight_in_ten_and_of_few_seeds_all() -> None:
    values = [math.sin(7 * number) for number in range(41)]
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    expected = (statistics.median(values), deciles[0], deciles[-1])
    assert effects.middle_and_band(values, 41) == pytest.approx(expected)
    assert effects.middle_and_band([3.0, 1.0, 7.0], 3) == (3, 1, 7)
    # One of five seeds has diverged: the band of the picture stays of one kind.
    assert effects.middle_and_band([0.0, 1.0, 2.0, 3.0], 5)[1:] == pytest.approx((0.3, 2.7))
    assert all(map(math.isnan, effects.middle_and_band([], 3)))


def test_curves_are_medians_with_bands_and_background_curves_are_dashed_and_without() -> None:
    values = [[1.0, 2.0, 6.0], [], [2.0, 3.0, 4.0]]
    curves = [Curve("training", values, BLUE, is_background=True), Curve("test", values, ORANGE)]
    (axes,) = effects.curves_over("", "", Across("x", [1, 2, 3]), [panel(curves)], [], 3, "lr").axes
    back, front = axes.lines
    for line in (back, front):
        assert ys(line) == pytest.approx([2, math.nan, 3], nan_ok=True)
    assert (back.get_linestyle(), front.get_linestyle()) == ("--", "-")
    (band,) = axes.collections
    assert band.get_datalim(axes.transData).intervaly == pytest.approx((1, 6))
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "lr"
    assert [text.get_text() for text in legend.get_texts()] == ["test"]


@pytest.mark.parametrize("log", [False, True])
def test_what_has_no_value_is_marked_above_all_curves_and_in_the_legend(log: bool) -> None:
    lost = [Lost("diverged: 3 of 9 seeds", [2], ORANGE), Lost("failed: 1 of 9 seeds", [0, 2], BLUE, row=1)]
    (axes,) = over(FACTORS, lost, log=log).axes
    curve, *marks = axes.lines
    assert [xs(mark) for mark in marks] == [[0.1], [0.001, 0.1]]
    assert marks[0].get_marker() != marks[1].get_marker()
    to_axes = axes.transData + axes.transAxes.inverted()
    highest = to_axes.transform((0.001, max(ys(curve))))[1]
    for mark in marks:
        assert highest < ys(mark)[0] < 1
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["test", *(each.label for each in lost)]


def test_the_marks_of_many_curves_leave_the_curves_their_room() -> None:
    lost = [Lost("diverged", [0], BLUE, row) for row in range(30)]
    (axes,) = over(FACTORS, lost).axes
    to_axes = axes.transData + axes.transAxes.inverted()
    assert to_axes.transform((0.001, 0.5))[1] > 0.6
    assert all(0.6 < ys(mark)[0] < 1 for mark in axes.lines[1:])


def test_no_text_is_read_as_a_formula() -> None:
    curve, lost = Curve("$\\frac$", [[1.0], [2.0]], BLUE), [Lost("$\\lost$", [0])]
    for legend in ("", "x"):
        png(effects.curves_over("$\\a$", "$\\b$", Across("x", ["$\\c$", "d"]), [panel([curve])], lost, 1, legend))
    png(effects.rows("$\\a$", "$\\b$", "x", [Row("$\\r$", 1.0, None, [1.0])], kind="loss", log=False))


def test_a_legend_of_many_curves_names_the_first_the_last_and_some_between() -> None:
    curves = [Curve(str(number), [[float(number)]], BLUE) for number in range(40)]
    (axes,) = effects.curves_over("", "", Across("x", [1]), [panel(curves)], [], 1).axes
    legend = axes.get_legend()
    assert legend is not None
    named = [int(text.get_text()) for text in legend.get_texts()]
    assert named == sorted(named)
    assert (named[0], named[-1], len(named)) == (0, 39, effects.FEW_LABELS)
    assert not axes.collections  # bands would hide one another


@pytest.mark.parametrize(("count", "in_order"), [(2, False), (7, False), (12, False), (3, True), (40, True)])
def test_each_curve_has_a_color_of_its_own(count: int, in_order: bool) -> None:
    colors = effects.shades(count, in_order=in_order)
    assert len(set(colors)) == len(colors) == count
    if in_order:
        light = [np.dot(matplotlib.colors.to_rgb(color), (0.3, 0.6, 0.1)) for color in colors]
        assert light == sorted(light)


def test_a_strip_shows_each_seed_and_the_median() -> None:
    values = [0.3, 0.1, 0.2, 0.9, 0.5]
    curves = [Curve("training", [values], BLUE), Curve("test", [[]], ORANGE)]
    (axes,) = effects.strips("", "", [panel(curves)], 5).axes
    dots, empty = axes.collections
    assert sorted(y for _, y in points(dots)) == sorted(values)
    assert len(points(empty)) == 0
    assert all(abs(x) < 0.2 for x, _ in points(dots))
    assert [ys(line) for line in axes.lines[:2]][1] == [0.3, 0.3]
    assert texts(axes) == ["training", "test"]


def test_rows_stand_below_each_other_with_what_is_certain_filled() -> None:
    entries = [
        Row("lr 0.1", -2.0, (-3.0, -1.0), [-3.0, -1.0], "lower in 2 of 2"),
        Row("lr 1", math.nan, None, [], "2 diverged"),
        Row("flip true", 0.5, None, [0.5], is_certain=False),
    ]
    (axes,) = effects.rows("", "", "difference", entries, kind="number", log=True, zero="base: 3").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lr 0.1", "lr 1", "flip true"]
    bottom, top = axes.get_ylim()
    assert bottom > 2 > 0 > top
    assert axes.get_xscale() == "linear"  # since some are below 0
    assert {"base: 3", "lower in 2 of 2", "2 diverged"} <= {text.get_text() for text in axes.texts}
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [xs(dot)[0] for dot in dots] == pytest.approx([-2, math.nan, 0.5], nan_ok=True)
    assert [dot.get_markerfacecolor() for dot in dots] == [BLUE, BLUE, "white"]
    (bar,) = [line for line in axes.lines if xs(line) == [-3, -1]]
    assert ys(bar) == [0, 0]


@pytest.mark.parametrize("panels", [1, 2, 3])
def test_every_picture_has_1280_by_720_pixels_and_its_panels_do_not_overlap(panels: int) -> None:
    several = [panel([Curve("test", [[0.5], [0.25]], BLUE)], "share")] * panels
    figures = [
        effects.curves_over("t", "a", Across("x", ["a" * 24, "b" * 24]), several, [], 1),
        effects.strips("t", "a", [panel([Curve("test", [[0.5]], BLUE)])] * panels, 1),
        effects.rows("t", "a", "x", [Row("r" * 60, 1.0, None, [1.0], "n" * 20)] * 24, kind="share", log=False),
    ]
    for figure in figures:
        assert struct.unpack(">II", png(figure)[16:24]) == (1280, 720)
        places = sorted((axes.get_position() for axes in figure.axes), key=lambda place: place.x0)
        assert all(place.width > 0.2 and place.height > 0.5 for place in places)
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(places))
