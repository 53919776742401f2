"""Curves drawn with characters: plotille draws the lines, this module the axes with round numbers.

Every curve is a line of Braille dots. All but the first also carry a letter every few columns, at places of their own,
so that curves are told apart without color, and where they lie on each other.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from rich.text import Text

from mlpx.settings.metrics import EPOCH

MARKERS = ("", "o", "x", "+", "#", "%", "@")
"""The markers of the curves, in their order."""
LONE = "*"
"""The marker of a first curve that is a single point, and so no line."""
STYLES = ("cyan", "yellow", "green", "magenta", "blue", "red", "white")
APART, MIN_APART = 4, 6
"""Columns between a marker and the next one of another curve, and of the same curve."""
FEW = 4
"""Of the points in one column of dots at most so many are drawn."""
MAX_VALUE = 1e300
"""A value beyond it counts as not finite, so that no difference of two overflows."""
MIN_DECADE = -300
ROUNDING = 1e-9
MAX_DECIMALS, MAX_WHOLE = 5, 1e6
"""Labels with more decimals, and of larger values, have an exponent."""
BLANK, UPPER_DOTS, LOWER_DOTS = 0x2800, 0x1B, 0xE4
"""The Braille character without dots, and the bits of the dots in its upper and in its lower half."""

Points = Sequence[tuple[float, float]]
Dots = Sequence[tuple[int, int]]
Ticks = Sequence[tuple[float, str]]


class Curve(NamedTuple):
    """A curve: what the legend calls it, and its values by epoch; those that are not finite are left out."""

    label: str
    epochs: Sequence[float]
    values: Sequence[float]


class Scale(NamedTuple):
    """A vertical axis: whether it is logarithmic, and whether its values are fractions, shown in percent."""

    log: bool = False
    percent: bool = False

    def points(self, curve: Curve) -> Points:
        """The points of a curve that can lie on the axis: epoch, and value or logarithm."""
        return [
            (epoch, math.log10(value) if self.log else value)
            for epoch, value in zip(curve.epochs, curve.values, strict=True)
            if -MAX_VALUE < value < MAX_VALUE and (value > 0 or not self.log) and math.isfinite(epoch)
        ]

    def ticks(self, low: float, high: float, most: int) -> Ticks:
        """Round values between two places on the axis, at most so many: the place of each, and its label."""
        if not self.log:
            factor, unit = (100, "%") if self.percent else (1, "")
            ticks = linear_ticks(low * factor, high * factor, most)
            return [(value / factor, f"{label}{unit}") for value, label in ticks]
        decades = range(max(math.floor(low), MIN_DECADE), math.floor(high) + 1)
        for multiples in ((1, 2, 5), (1, 3), (1,)):
            values = [float(f"{n}e{decade}") for decade in decades for n in multiples]
            values = [value for value in values if low <= math.log10(value) <= high]
            if 2 <= len(values) <= most:
                break
        else:
            if len(values) < 2:
                return [
                    (math.log10(value), label) for value, label in linear_ticks(10**low, 10**high, most) if value > 0
                ]
            values = values[:: -(-len(values) // most)]
        return [(math.log10(value), f"{value:g}") for value in values]


class _Axis(NamedTuple):
    """An axis from its lowest to its highest value, in so many dots."""

    low: float
    high: float
    dots: int

    def dot(self, value: float) -> int:
        return round((value - self.low) / (self.high - self.low) * (self.dots - 1))


def linear_ticks(low: float, high: float, most: int, *, whole: bool = False) -> Ticks:
    """Multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``, at most so many, each with its label.

    Args:
        low: The lowest place.
        high: The highest place.
        most: The largest number of ticks.
        whole: Whether only whole numbers are ticks.
    """
    least = max((high - low) / most, 1 if whole else 0)
    power = math.floor(math.log10(least))
    for step in (float(f"{n}e{power}") for n in (1, 2, 5, 10, 20, 50)):
        multiples = range(math.ceil(low / step - ROUNDING), math.floor(high / step + ROUNDING) + 1)
        if step >= least * (1 - ROUNDING) and len(multiples) <= most:
            break
    values = [float(f"{n * step:.15g}") for n in multiples]
    decimals = max(0, -math.floor(math.log10(step)))
    if whole or (decimals <= MAX_DECIMALS and max(abs(low), abs(high)) < MAX_WHOLE):
        return [(value, f"{value:.{decimals}f}") for value in values]
    # As few digits as tell the values.
    for digits in range(3, 18):
        labels = [f"{value:.{digits}g}" for value in values]
        if all(abs(float(label) - value) < step / 1000 for label, value in zip(labels, values, strict=True)):
            break
    return list(zip(values, labels, strict=True))


def legend(curves: Sequence[Curve], scale: Scale, *, ascii_only: bool) -> list[Text]:
    """For each curve what it looks like, and its label."""
    line = ".." if ascii_only else "⠤⠤"
    entries = []
    for number, curve in enumerate(curves):
        marker, style = _looks(number)
        sample = marker or (LONE if len(scale.points(curve)) == 1 else line)
        entries.append(Text.assemble((sample, style), f" {curve.label}"))
    return entries


def draw(curves: Sequence[Curve], scale: Scale, width: int, height: int, *, ascii_only: bool) -> list[Text]:
    """The curves between their axes; nothing where there is no point to draw.

    Args:
        curves: The curves.
        scale: The vertical axis.
        width: Columns in all.
        height: Lines in all, two of them for the horizontal axis.
        ascii_only: Whether only ASCII characters may be used.
    """
    points = [scale.points(curve) for curve in curves]
    every = [point for each in points for point in each]
    if not every:
        return []
    rows = max(2, height - 2)
    vertical = _Axis(*_limits([y for _, y in every]), 4 * rows)
    ticks = scale.ticks(vertical.low, vertical.high, max(2, rows // 2))
    labels = {vertical.dot(place) // 4: label for place, label in ticks}
    margin = max(map(len, [EPOCH.title, *labels.values()]))
    horizontal = _Axis(*_limits([x for x, _ in every]), 2 * max(2, width - margin - 2))
    layers = []
    for number, each in enumerate(points):
        marker, style = _looks(number)
        dots = _thinned(each, horizontal, vertical)
        marks = _marks(dots, marker, number, len(curves), horizontal.dots)
        layers.append((_drawn(dots, marks, horizontal.dots, vertical.dots), style))
    lines = []
    for row in range(rows):
        label = labels.get(rows - 1 - row, "")
        edge = ("+" if label else "|") if ascii_only else "┤" if label else "│"
        line = Text(f"{label:>{margin}} ").append(edge, "dim")
        for characters in zip(*(layer[row] for layer, _ in layers), strict=True):
            line.append(*_merged(characters, [style for _, style in layers], ascii_only=ascii_only))
        line.rstrip()
        lines.append(line)
    return [*lines, *_below(horizontal, margin, ascii_only=ascii_only)]


def _looks(number: int) -> tuple[str, str]:
    """The marker and the style of a curve."""
    return MARKERS[number % len(MARKERS)], STYLES[number % len(STYLES)]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest value, or, where they hardly differ, numbers somewhat below and above."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    if high - low > ROUNDING * size:
        return low, high
    return low - (0.05 * size or 1), high + (0.05 * size or 1)


def _thinned(points: Points, horizontal: _Axis, vertical: _Axis) -> Dots:
    """The points in dots; of many in one column of dots the first, the lowest, the highest and the last."""
    columns: dict[int, list[int]] = {}
    for x, y in points:
        columns.setdefault(horizontal.dot(x), []).append(vertical.dot(y))
    return [(x, y) for x, ys in columns.items() for y in (ys if len(ys) <= FEW else (ys[0], min(ys), max(ys), ys[-1]))]


def _marks(dots: Dots, marker: str, number: int, count: int, width: int) -> list[tuple[int, int, str]]:
    """Where on its line a curve has markers: each curve in columns of its own, so that none hides another."""
    if len(dots) == 1:
        ((x, y),) = dots
        return [(min(x + 2 * number, width - 1), y, marker or LONE)]
    if not dots or not marker:
        return []
    places = [x for x, _ in dots]
    step = max(MIN_APART, APART * (count - 1))
    marks = []
    for x in range(2 * APART * number, width, 2 * step):
        after = bisect_left(places, x)
        if places[0] <= x <= places[-1]:
            (x0, y0), (x1, y1) = dots[max(0, after - 1)], dots[after]
            share = (x - x0) / (x1 - x0) if x1 > x0 else 0
            marks.append((x, round(y0 + share * (y1 - y0)), marker))
    return marks or [(*dots[len(dots) // 2], marker)]


def _drawn(dots: Dots, marks: Sequence[tuple[int, int, str]], width: int, height: int) -> list[str]:
    """A curve in lines of characters."""
    from plotille import Canvas  # type: ignore[import-untyped]

    # The coordinates of the canvas are its dots.
    canvas = Canvas(width // 2, height // 4, 0, 0, width, height)
    for (x0, y0), (x1, y1) in pairwise(dots):
        canvas.line(x0, y0, x1, y1)
    for x, y, marker in marks:
        canvas.point(x, y, marker=marker)
    return str(canvas.plot(linesep="\n")).split("\n")


def _merged(characters: Iterable[str], styles: Sequence[str], *, ascii_only: bool) -> tuple[str, str]:
    """One character and its style for those of all curves: the last marker, or else the dots of all lines."""
    dots, marker, style = 0, "", ""
    for character, its_style in zip(characters, styles, strict=True):
        is_marker = character in MARKERS or character == LONE
        if is_marker:
            marker, style = character, its_style
        elif character != chr(BLANK) and not marker:
            dots, style = dots | ord(character) - BLANK, its_style
    if marker or not dots:
        return marker or " ", style
    if ascii_only:
        return ":" if dots & UPPER_DOTS and dots & LOWER_DOTS else "'" if dots & UPPER_DOTS else ".", style
    return chr(BLANK + dots), style


def _below(axis: _Axis, margin: int, *, ascii_only: bool) -> list[Text]:
    """The horizontal axis and the epochs below it: the first one, and round ones."""
    columns = axis.dots // 2
    dash, tick, corner = "-++" if ascii_only else "─┬└"
    ticks = list(linear_ticks(axis.low, axis.high, max(2, columns // 12), whole=True))
    if axis.low % 1 == 0:
        ticks.insert(0, (axis.low, f"{axis.low:.0f}"))
    edge, text, free = [dash] * columns, "", 0
    for value, label in ticks:
        column = axis.dot(value) // 2
        start = min(max(0, column - len(label) // 2), columns - len(label))
        if start >= free:
            edge[column] = tick
            text = text.ljust(start) + label
            free = len(text) + 2
    return [
        Text(" " * (margin + 1)).append(corner + "".join(edge), "dim"),
        Text(f"{EPOCH.title:>{margin}}  {text}"),
    ]
