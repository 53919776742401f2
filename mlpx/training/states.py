"""Putting a saved state back where it came from."""

from collections.abc import Mapping

from torch import Tensor

from mlpx.errors import InputError

Value = Tensor | int | float | str

KINDS = {int: "a whole number", float: "a number", str: "text"}


def restore(into: Mapping[str, Value], saved: Mapping[str, Value], source: object, remedy: str) -> None:
    """Copy each tensor of ``saved`` into the tensor of the same name, after all values were found to match.

    A number or a text cannot be changed in place: here only its type is compared, and the caller takes it from
    ``saved``.

    Args:
        into: The state as it is now.
        saved: The state as it was.
        source: What to blame where they do not match.
        remedy: What to do then.

    Raises:
        InputError: Names, types or shapes differ; it says which.
    """
    for name in sorted(into.keys() | saved.keys()):
        expected, given = (_described(values.get(name)) for values in (into, saved))
        if expected != given:
            raise InputError(source, f"its {name} is {given}, not {expected}", remedy)
    for name, value in into.items():
        new = saved[name]
        if isinstance(value, Tensor) and isinstance(new, Tensor):
            value.copy_(new)


def _described(value: Value | None) -> str:
    """The type, and the shape of a tensor, in words."""
    if value is None:
        return "missing"
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return KINDS.get(type(value), type(value).__name__)
