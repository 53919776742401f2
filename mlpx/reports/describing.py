"""What curves show, in words that are written from their numbers."""

import math
from collections.abc import Callable, Sequence

Point = tuple[str, float]
"""Where a value was measured, such as ``degree 3``, and the value."""

CLEAR = 0.1
"""A curve turns where it comes back from its extreme by more than this share of it, or of the whole range."""


def course(name: str, points: Sequence[Point], shown: Callable[[float], str]) -> str:
    """The course of a curve: ``test loss falls from 11.4 at degree 1 to 0.01 at degree 3, then rises to 3 at …``."""
    finite = [(where, value) for where, value in points if math.isfinite(value)]
    if not finite:
        return f"{name} has no finite value"
    (start, first), (end, last) = finite[0], finite[-1]
    if len(finite) == 1:
        return f"{name} is {shown(first)} at {start}"
    lowest, highest = min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])
    spread = highest[1] - lowest[1]
    if not spread or shown(lowest[1]) == shown(highest[1]):
        return f"{name} stays at {shown(first)} from {start} to {end}"
    for (where, value), verb, then in ((lowest, "falls", "rises"), (highest, "rises", "falls")):
        if all(_is_clear(abs(other - value), value, spread) for other in (first, last)):
            there = f"{name} {verb} from {shown(first)} at {start} to {shown(value)} at {where}"
            return f"{there}, then {then} to {shown(last)} at {end}"
    verb = "falls" if last < first else "rises" if last > first else "returns"
    return f"{name} {verb} from {shown(first)} at {start} to {shown(last)} at {end}"


def _is_clear(distance: float, extreme: float, spread: float) -> bool:
    return distance > CLEAR * spread or distance > CLEAR * abs(extreme) > 0


def sentence(parts: Sequence[str]) -> str:
    """The parts as one sentence, with a capital letter and a period."""
    text = "; ".join(part for part in parts if part)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def counted(count: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
