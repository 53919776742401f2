"""A setting's value, or several, as text that can be typed."""

from collections.abc import Iterable
from typing import Any


def to_text(value: Any) -> str:
    """The text of a value: ``true`` for a boolean, the layers of a list joined by ``x``, ``none`` for an empty list."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "x".join(map(str, value)) or "none"
    return str(value)


def in_ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in increasing order, such as seeds, as a person writes them: ``0..4, 7``."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("..".join(map(str, ends)) for ends in ranges)
