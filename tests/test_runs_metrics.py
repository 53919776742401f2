from pathlib import Path

import pytest

from mlpx.errors import InputError, UsageError
from mlpx.runs import checks
from mlpx.runs.metrics import Metrics, read_rows
from mlpx.training.loop import EpochRecord, Position


def record(epoch: int) -> EpochRecord:
    return EpochRecord(Position(epoch, 0), epoch / 7, {"train_loss": 1 / 3 / epoch, "test_loss": float("nan")})


def fill(path: Path, epochs: list[int]) -> Metrics:
    metrics = Metrics(path, ("train_loss", "test_loss"))
    metrics.start()
    for epoch in epochs:
        metrics.append(record(epoch))
    return metrics


def test_rows_keep_full_precision(tmp_path: Path) -> None:
    metrics = fill(tmp_path / "metrics.csv", [1, 20])
    rows = metrics.rows()
    assert list(rows) == ["epoch", "train_loss", "test_loss", "seconds"]
    assert rows["epoch"] == [1, 20]
    assert rows["train_loss"] == [1 / 3, 1 / 60]
    assert rows["seconds"] == [1 / 7, 20 / 7]
    assert str(metrics.last()["test_loss"]) == "nan"


def test_going_back_cuts_whatever_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    metrics = fill(path, [1, 20])
    offset = metrics.offset
    metrics.append(record(40))
    with open(path, "a") as file:
        file.write("60,0.00")  # torn by a kill
    metrics.go_back(offset)
    metrics.append(record(40))
    assert metrics.rows()["epoch"] == [1, 20, 40]


def test_rows_that_were_lost_are_noticed(tmp_path: Path) -> None:
    metrics = fill(tmp_path / "metrics.csv", [1])
    with pytest.raises(InputError, match="lost rows"):
        metrics.go_back(metrics.offset + 1)


@pytest.mark.parametrize("text", ["", "epoch\nx\n", "epoch,loss\n1\n"])
def test_what_is_no_table_of_numbers_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(InputError, match="not a table of numbers"):
        read_rows(tmp_path / "metrics.csv")


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("loss < 0.05", 0.04, True),
        ("loss<0.05", 0.05, False),
        (" loss <= 5e-2 ", 0.05, True),
        ("loss > -1", 0.0, True),
        ("loss >= 1", 0.5, False),
        ("loss == 3", 3, True),
        ("loss != 3", 3, False),
        ("loss < 1", float("nan"), False),
        ("loss != 1", float("nan"), False),
        ("loss < 1", None, False),
    ],
)
def test_checks(text: str, value: float | None, holds: bool) -> None:
    assert checks.parse(text).holds({"loss": value}) is holds


@pytest.mark.parametrize(
    "text", ["", "loss", "loss <", "< 3", "loss = 3", "loss < x", "loss < nan", "a < 1 < 2", "1 < 2"]
)
def test_what_is_no_check(text: str) -> None:
    with pytest.raises(UsageError, match="--check"):
        checks.parse(text)
