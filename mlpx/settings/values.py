"""A setting's value as text that can be typed."""

from typing import Any


def to_text(value: Any) -> str:
    """The text of a value: ``true`` for a boolean, the layers of a list joined by ``x``, ``none`` for an empty list."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "x".join(map(str, value)) or "none"
    return str(value)
