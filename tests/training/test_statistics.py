"""What is said of replicas, against numbers worked by hand."""

import math
import statistics as by_hand

import pytest

from mlpx.settings.metrics import Metric, columns, final, with_spread
from mlpx.training import statistics

TEN = [float(n) for n in (7, 1, 10, 4, 2, 9, 3, 8, 5, 6)]
LOSS = Metric("loss", "loss")
FLOOR = Metric("floor", at_end=True, shared=True)
RATIO = Metric("ratio", at_end=True)


def names(metrics: list[Metric]) -> list[str]:
    return [metric.name for metric in metrics]


def test_a_summary_is_median_mean_deviation_and_deciles() -> None:
    numbers = statistics.summary({"loss": TEN, "floor": [0.5]})
    assert list(numbers) == [*names(with_spread([LOSS], 10)), "floor"]
    assert numbers["floor"] == 0.5
    assert numbers["loss"] == numbers["loss_mean"] == 5.5
    assert numbers["loss_std"] == pytest.approx(by_hand.stdev(TEN))
    assert (numbers["loss_p10"], numbers["loss_p90"]) == pytest.approx((1.9, 9.1))
    assert statistics.extremes({"loss": TEN, "floor": [0.5]}) == {"min_loss": 1, "max_loss": 10}


def test_one_replica_has_its_values_alone() -> None:
    assert statistics.summary({"loss": [3.0]}) == {"loss": 3.0}
    assert statistics.extremes({"loss": [3.0]}) == {}
    assert names(with_spread([LOSS], 1)) == ["loss"]


def test_names_follow_from_what_is_declared() -> None:
    metrics = [LOSS, FLOOR, RATIO]
    assert names(columns(metrics, 1)) == ["epoch", "loss", "seconds"]
    assert names(final(metrics, 1)) == ["epoch", "loss", "seconds", "floor", "ratio"]
    spread = ["loss", "loss_mean", "loss_std", "loss_p10", "loss_p90"]
    assert names(columns(metrics, 3)) == ["epoch", *spread, "seconds"]
    ratios = [name.replace("loss", "ratio") for name in spread]
    extremes = ["min_loss", "max_loss", "min_ratio", "max_ratio"]
    assert names(final(metrics, 3)) == ["epoch", *spread, "seconds", "floor", *ratios, "num_diverged", *extremes]
    assert [column.name for column in columns(metrics, 3) if not column.is_spread] == ["epoch", "loss", "seconds"]


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        (LOSS, 0.0123456, "0.01235"),
        (LOSS, 3.0, "3.000"),
        (LOSS, 12345.6, "1.235e+04"),
        (Metric("exactness", "share"), 0.98765, "98.77%"),
        (Metric("accuracy"), 0.98765, "0.9877"),  # the kind decides, not the name
        (Metric("bleu", "score"), 41.5432, "41.54"),
        (Metric("step", "count"), 400, "400"),
        (Metric("speed", "speed"), 7681.4, "7681"),
        (Metric("speed", "speed"), math.inf, "inf"),
        (Metric("seconds", "seconds"), 12.345, "12.35"),
        (LOSS, math.nan, "nan"),
    ],
)
def test_values_are_shown_by_their_kind(metric: Metric, value: float, shown: str) -> None:
    assert metric.shown(value) == shown


def test_each_replica_has_a_row_in_csv() -> None:
    text = statistics.to_csv(range(4, 6), {"loss": [0.5, 0.25], "floor": [1.0]})
    assert text == b"replica,seed,loss\n0,4,0.5\n1,5,0.25\n"


def test_words_have_mean_and_deviation() -> None:
    metrics = [Metric("test_loss", "loss"), Metric("test_accuracy", "share")]
    text = statistics.in_words(metrics, {"test_loss": [1.0, 2.0], "test_accuracy": [0.5, 0.75]})
    assert text == "test loss 1.50 ± 0.71, test accuracy 62.50% ± 17.68% (mean ± standard deviation)"


def test_what_is_not_finite_makes_what_depends_on_it_so() -> None:
    numbers = statistics.summary({"loss": [*TEN[:3], math.inf, *TEN[4:]]})
    assert not math.isfinite(numbers["loss_mean"])
    assert (numbers["loss"], numbers["loss_p10"]) == pytest.approx((6.5, 1.9))


def test_nothing_is_said_of_replicas_that_are_left_out() -> None:
    """Whatever their values are, all is as if there were only the others."""
    values = {"loss": [math.nan, *TEN[:4], 0.0, *TEN[4:], -1e300], "floor": [0.5]}
    left_out = {12: 20, 0: 40, 5: 40}
    kept = {"loss": TEN, "floor": [0.5]}
    assert statistics.summary(values, left_out) == statistics.summary(kept)
    assert statistics.extremes(values, left_out) == statistics.extremes(kept)
    assert statistics.in_words([LOSS], values, left_out) == statistics.in_words([LOSS], kept)
    rows = statistics.to_csv(range(13), values, left_out).decode().splitlines()
    assert [row for row in rows if row.endswith(",")] == ["0,0,", "5,5,", "12,12,"]
    assert [float(row.split(",")[2]) for row in rows[1:] if not row.endswith(",")] == TEN


def test_a_single_replica_that_is_left_has_no_deviation_and_none_has_nothing() -> None:
    values = {"loss": [1.0, 2.0, 3.0]}
    one = statistics.summary(values, [0, 2])
    assert (one["loss"], one["loss_mean"], one["loss_p10"], one["loss_p90"]) == (2, 2, 2, 2)
    assert math.isnan(one["loss_std"])
    assert statistics.in_words([LOSS], values, [0, 2]) == "loss 2.000"
    none = statistics.summary(values, range(3))
    assert list(none) == list(one)
    assert all(map(math.isnan, none.values()))
