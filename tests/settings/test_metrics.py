"""How the values of metrics are shown."""

import math

import pytest

from mlpx.settings.metrics import Metric


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (0.33914, 0.00502, "0.3391 ± 0.0050"),
        (7.87, 3.2, "7.9 ± 3.2"),
        (0.0567, 0.14, "0.06 ± 0.14"),
        (1234.5, 25.0, "1234 ± 25"),
        (1234.5, 130.0, "1234 ± 130"),
        (1e-9, 2e-10, "1e-09 ± 2e-10"),
        (0.5, 0.0, "0.5 ± 0"),
        (math.inf, math.nan, "inf ± nan"),
        (-2.0, 0.5, "-2.00 ± 0.50"),
    ],
)
def test_a_mean_is_shown_to_two_digits_of_its_deviation(mean: float, std: float, text: str) -> None:
    assert Metric("loss").shown_with(mean, std) == text


def test_a_share_is_shown_in_percent() -> None:
    assert Metric("accuracy", "share").shown_with(0.88024, 0.0021) == "88.02% ± 0.21%"
