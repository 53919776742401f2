"""A setting's value, or several, as text that can be typed.

Several values of a setting are written as a list of alternatives, on the command line, in TOML and in CSV alike::

    1,3,19              these values, in this order
    0..9                whole numbers, both ends included
    0..9..3             with a step: 0, 3, 6, 9
    0..0.5..0.1         decimal fractions too, and exactly
    0.001..1..x10       each this many times the one before
    none,256,512x256    lists: no item, one item, two items

No character of it means anything to a shell.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal, InvalidOperation, Overflow
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from mlpx.errors import UsageError
from mlpx.settings.base import allowed, is_list, item

MAX_VALUES = 10_000
"""A setting cannot have more values than this."""

MAX_SHOWN = 80
"""An error message shows no more characters of a text than this."""

# Of 28 digits, as many as a double needs and ten to spare. Python's own context can be changed by anyone.
_DECIMAL = Context(prec=28, traps=[InvalidOperation, Overflow])
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,30}", re.ASCII)


def to_text(value: Any) -> str:
    """The text of a value: ``true`` for a boolean, the items of a list joined by ``x``, ``none`` for an empty list."""
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


class _Part(NamedTuple):
    """A value, and the text that stands for it in an error message."""

    text: str
    value: Any


def parse(field: FieldInfo, text: str, what: str) -> list[Any]:
    """The values that ``text`` stands for, each once, in their order.

    Args:
        field: The setting's type and bounds. A text, such as a path, is never split.
        text: As the head of this module describes.
        what: What an error names: the option, or the place in a file.

    Raises:
        UsageError: The text is not of that form, or a value has a wrong type or is out of bounds.
    """
    return _checked(field, _parts(field, text, what), text, what)


def from_toml(field: FieldInfo, value: Any, what: str) -> list[Any]:
    """The values that an entry of a TOML file stands for, each once, in their order.

    It is a value, a text as :func:`parse` reads it, or a list of such. Where the setting is a list itself, a list of
    numbers is one value.

    Raises:
        UsageError: As in :func:`parse`.
    """
    is_one = not isinstance(value, list) or (is_list(field) and not any(isinstance(part, list | str) for part in value))
    parts: list[_Part] = []
    for each in [value] if is_one else value:
        parts += _parts(field, each, what) if isinstance(each, str) else [_Part(to_text(each), each)]
        _require_few(value, len(parts), what)
    return _checked(field, parts, value, what)


def _parts(field: FieldInfo, text: str, what: str) -> list[_Part]:
    if field.annotation is str:
        return [_Part(text, text)]
    parts: list[_Part] = []
    for part in text.split(","):
        parts += _range(field, part, what) if ".." in part else [_Part(part, _value(field, part))]
        _require_few(text, len(parts), what)
    return parts


def _value(field: FieldInfo, text: str) -> Any:
    """The value that a text writes; what is none stays a text, for the setting's type to refuse."""
    kind = field.annotation
    if is_list(field):
        each = item(field)
        return [] if text == "none" else [_value(each, part) for part in text.split("x")]
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    if kind is int and _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if kind is float and _NUMBER.fullmatch(text) else text


def _range(field: FieldInfo, text: str, what: str) -> list[_Part]:
    """The members of ``FIRST..LAST``, ``FIRST..LAST..STEP`` or ``FIRST..LAST..xFACTOR``."""
    numeric = item(field) if is_list(field) else field
    if numeric.annotation not in (int, float):
        raise _refused(what, text, "Only numbers have ranges; separate other values by commas")
    first, last, *rest = text.split("..")
    step = rest[0] if rest else "1"
    is_factor = step.startswith("x")
    numbers = (first, last, step.removeprefix("x"))
    if len(rest) > 1 or not all(map(_NUMBER.fullmatch, numbers)):
        raise _refused(what, text, "Write a range as 0..9, 0..9..3 or 0.001..1..x10")
    low, high, by = (_DECIMAL.create_decimal(number) for number in numbers)
    if not rest and not (low == low.to_integral_value() and high == high.to_integral_value()):
        factor = f", or a factor, as in {text}..x10" if low > 0 else ""
        raise _refused(what, text, f"Give it a step, as in {text}..0.1{factor}")
    if low > high:
        raise _refused(what, text, f"Put the smaller end first: {'..'.join([last, first, *rest])}")
    if by <= int(is_factor) or (is_factor and low <= 0):
        cure = "Give a factor above 1 and a first number above 0" if is_factor else "Give a step above 0"
        raise _refused(what, text, cure)
    members = [
        f"{number:f}" if numeric.annotation is int else str(number)
        for number in _members(low, high, by, is_factor=is_factor)
    ]
    _require_few(text, len(members), what)
    return [_Part(member, _value(field, member)) for member in members]


def _members(low: Decimal, high: Decimal, by: Decimal, *, is_factor: bool) -> list[Decimal]:
    """The members of a range, at most one more than there may be."""
    members = [low]
    while len(members) <= MAX_VALUES:
        number = _DECIMAL.multiply(members[-1], by) if is_factor else _DECIMAL.fma(Decimal(len(members)), by, low)
        if number > high:
            break
        members.append(number)
    return members


def _checked(field: FieldInfo, parts: Sequence[_Part], whole: object, what: str) -> list[Any]:
    """The values as the setting has them, each once; a whole number is a number too."""
    checked: dict[str, Any] = {}
    for part in parts:
        try:
            value = _adapter(field).validate_python(part.value)
        except ValidationError as error:
            rule = error.errors(include_url=False)[0].get("ctx", {}).get("error")
            written = ", written as none, 256 or 512x256" if is_list(field) else ""
            cure = str(rule) if isinstance(rule, ValueError) else f"Give {allowed(field)}{written}"
            raise _refused(what, part.text, cure, whole) from error
        checked[to_text(value)] = value
    if not checked:
        raise UsageError(what, "the list is empty", "Give a value.")
    return list(checked.values())


# Making an adapter takes longer than a hundred uses of it.
@functools.cache
def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    kind: Any = Annotated[field.annotation, *field.metadata, None]
    return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))


def _require_few(text: object, count: int, what: str) -> None:
    if count > MAX_VALUES:
        raise UsageError(what, f"{_quoted(text)} has more than {MAX_VALUES} values", "Give fewer.")


def _refused(what: str, text: str, cure: str, whole: object = None) -> UsageError:
    among = f" in {_quoted(whole)}" if whole is not None and to_text(whole) != text else ""
    return UsageError(what, f"{_quoted(text)}{among} cannot be used", f"{cure.rstrip('.')}.")


def _quoted(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[: MAX_SHOWN - 3]}..."
