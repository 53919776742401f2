"""``--check``: what is understood, what holds, and how it is written back."""

import math

import pytest

from mlpx.errors import UsageError
from mlpx.runs import checks


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("test_loss<0.05", "test_loss < 0.05"),
        (" bleu  >=  35 ", "bleu >= 35"),
        ("x < 0.1234567", "x < 0.1234567"),  # six digits would say that 0.12345675 < 0.123457 does not hold
        ("x == 123456789", "x == 123456789"),
        ("x != -1e-300", "x != -1e-300"),
    ],
)
def test_a_check_is_shown_with_all_digits(text: str, shown: str) -> None:
    assert str(checks.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "x", "x < ", "x < y", "x < nan", "x < inf", "x = 1", "1 < x", "x < 1 2", "х < 1"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--check: "):
        checks.parse(text)


def test_a_metric_that_is_missing_or_no_number_fails_every_check() -> None:
    for comparison in checks.COMPARISONS:
        check = checks.parse(f"x {comparison} 1")
        assert not check.holds({})
        assert not check.holds({"x": None})
        assert not check.holds({"x": math.nan})
    assert checks.parse("x > 1").holds({"x": math.inf})
    assert not checks.parse("x < 1").holds({"x": 1.0})
