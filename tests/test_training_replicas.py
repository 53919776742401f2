"""What is said of replicas, against numbers worked by hand."""

import math
import statistics

import pytest

from mlpx.errors import Diverged
from mlpx.training import replicas

TEN = [float(n) for n in (7, 1, 10, 4, 2, 9, 3, 8, 5, 6)]


def test_a_summary_is_median_mean_deviation_and_deciles() -> None:
    found = replicas.summary({"loss": TEN, "floor": 0.5})
    assert list(found) == [*replicas.names(["loss"], 10), "floor"]
    assert found["floor"] == 0.5
    assert found["loss"] == found["loss_mean"] == 5.5
    assert found["loss_std"] == pytest.approx(statistics.stdev(TEN))
    assert (found["loss_p10"], found["loss_p90"]) == pytest.approx((1.9, 9.1))
    assert replicas.extremes({"loss": TEN, "floor": 0.5}) == {"min_loss": 1, "max_loss": 10}


def test_one_replica_has_its_figures_alone() -> None:
    assert replicas.figure([3.0]) == 3.0
    assert replicas.summary({"loss": 3.0}) == {"loss": 3.0}
    assert replicas.extremes({"loss": 3.0}) == {}
    assert replicas.names(["loss"], 1) == ("loss",)
    assert replicas.extreme_names(["loss"], 1) == ()


def test_the_table_shows_medians_alone() -> None:
    columns = ("epoch", *replicas.names(["train_loss", "test_loss"], 3), "seconds")
    assert replicas.main_columns(columns) == ["epoch", "train_loss", "test_loss", "seconds"]


def test_each_replica_has_a_row_in_csv() -> None:
    text = replicas.to_csv(range(4, 6), {"loss": [0.5, 0.25], "floor": 1.0})
    assert text == b"replica,seed,loss\n0,4,0.5\n1,5,0.25\n"


def test_words_have_mean_and_deviation() -> None:
    text = replicas.in_words({"test_loss": [1.0, 2.0], "test_accuracy": [0.5, 0.75]}, ["test_loss", "test_accuracy"])
    assert text == "test loss 1.5 ± 0.71, test accuracy 62.50% ± 17.68% (mean ± standard deviation)"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence_names_replica_and_epoch(value: float) -> None:
    figures: dict[str, replicas.Figure] = {"train_loss": TEN, "test_loss": [*TEN[:3], value, *TEN[4:]]}
    replicas.require_finite({"train_loss": TEN}, 20)
    with pytest.raises(Diverged, match=f"test_loss of replica 3 is {value} at epoch 20"):
        replicas.require_finite(figures, 20)
    assert not math.isfinite(replicas.summary(figures)["test_loss_mean"])
