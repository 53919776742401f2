"""What a comparison says, in words."""

import math
from collections.abc import Sequence

from mlpx.runs import comparing
from mlpx.runs.comparing import Comparison
from mlpx.settings.metrics import Metric

TESTED = ("chance", "more than chance")
"""The verdicts that follow from p."""


def in_words(metric: Metric, comparison: Comparison, other: str) -> str:
    """How the other side compares with the first, in one or two sentences."""
    verdict, n = comparison.verdict, len(comparison.seeds)
    if verdict == "none":
        return f"none; {other} is equal up to rounding."
    # Of too few seeds an interval would say more than they can.
    tested = verdict in TESTED
    direction = "lower" if comparison.difference < 0 else "higher"
    size, interval = _in_direction(metric, comparison.difference, comparison.interval if tested else None)
    too_few = f"too few to tell; {comparison.fewest} are the fewest."
    if n == 1:
        return f"{other} is {direction} by {size}. 1 seed: no interval, and {too_few}"
    count = comparison.lower if direction == "lower" else comparison.higher
    begun = f"{other} is {direction} in {count} of {n} seeds, by {size} on average"
    if not tested:
        return f"{begun}. {n} seeds: {too_few}"
    end = "More than chance." if verdict == "more than chance" else "This may be chance."
    return f"{begun} ({interval}), {p_in_words(comparison)}. {end}"


def p_in_words(comparison: Comparison) -> str:
    """The adjusted p, to two digits."""
    return "p < 0.001" if comparison.p_holm < 0.001 else f"p = {comparison.p_holm:.2g}"


def _in_direction(metric: Metric, difference: float, interval: tuple[float, float] | None) -> tuple[str, str]:
    """The size of a difference, and its interval, in the direction of the difference.

    Both are rounded to the second digit of the standard error, which is about a quarter of the interval. Without an
    interval, the size has two digits.
    """
    sign = -1 if difference < 0 else 1
    scale, unit = (100 * sign, " percentage points") if metric.kind == "share" else (sign, "")
    size = scale * difference
    if interval is None:
        return f"{number(size, size)}{unit}", "no interval: the differences are alike"
    low, high = sorted(scale * end for end in interval)
    error = max((high - low) / 4, size / 1000)
    words = f"{comparing.CONFIDENCE * 100:.0f} % interval {number(low, error)} to {number(high, error)}"
    return f"{number(size, error)}{unit}", words


def number(value: float, extent: float) -> str:
    """The value, rounded to the second digit of ``extent``."""
    decimals = 1 - math.floor(math.log10(extent)) if extent > 0 else 0
    return f"{value:.{max(0, decimals)}f}" if decimals <= 6 and abs(value) < 1e6 else f"{value:.3g}"


def method(comparisons: Sequence[Comparison], first: str) -> str:
    """How the comparisons with the side of that name were made."""
    several = len({comparison.other for comparison in comparisons}) > 1
    parts = ["Paired by seed" + (f", each side with {first}" if several else "")]
    if any(comparison.verdict in TESTED for comparison in comparisons):
        count = len(comparisons)
        holm = f", adjusted by Holm's method for {count} comparisons" if count > 1 else ""
        parts += [f"p by flipping the signs of the differences{holm}", "intervals by bootstrap (BCa)"]
    return "; ".join(parts) + "."


def difference(metric: Metric, comparison: Comparison) -> tuple[str, str, str]:
    """The direction and size of a difference, its interval, and p, with a mark where it is more than chance."""
    if comparison.verdict == "none":
        return "equal up to rounding", "", ""
    tested, n = comparison.verdict in TESTED, len(comparison.seeds)
    size, interval = _in_direction(metric, comparison.difference, comparison.interval if tested else None)
    direction, count = ("lower", comparison.lower) if comparison.difference < 0 else ("higher", comparison.higher)
    words = f"{direction}{f' in {count} of {n},' if n > 1 else ''} by {size.replace('percentage ', '')}"
    if not tested:
        return words, "", ""
    mark = " *" if comparison.verdict == "more than chance" else "  "
    return words, interval.partition("interval")[2].strip(": "), p_in_words(comparison)[2:].removeprefix("= ") + mark
