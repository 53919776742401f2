import os
from itertools import pairwise
from pathlib import Path

import pytest

from mlpx.errors import InputError, UsageError
from mlpx.runs import checks
from mlpx.runs.metrics import Metrics, read_columns, read_rows

COLUMNS = ("epoch", "train_loss", "test_loss", "seconds")


def row(epoch: int) -> dict[str, float]:
    return dict(zip(COLUMNS, (epoch, 1 / 3 / epoch, float("nan"), epoch / 7), strict=True))


def fill(path: Path, epochs: list[int]) -> Metrics:
    metrics = Metrics(path, COLUMNS)
    metrics.start()
    for epoch in epochs:
        metrics.append(row(epoch))
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
    metrics.append(row(40))
    with open(path, "a") as file:
        file.write("60,0.00")  # torn by a kill
    metrics.go_back(offset)
    metrics.append(row(40))
    assert metrics.rows()["epoch"] == [1, 20, 40]


def test_rows_that_were_lost_are_noticed(tmp_path: Path) -> None:
    metrics = fill(tmp_path / "metrics.csv", [1])
    with pytest.raises(InputError, match="lost rows"):
        metrics.go_back(metrics.offset + 1)


def test_a_file_that_another_version_began_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    offset = fill(path, [1]).offset
    before = path.read_bytes()
    for columns in (("epoch", "train_loss", "top3", "test_loss", "seconds"), COLUMNS[:-1], (*COLUMNS, "top3")):
        with pytest.raises(InputError, match="columns are not those that this version of mlpx writes"):
            Metrics(path, columns).go_back(offset)
    assert path.read_bytes() == before
    Metrics(path, COLUMNS).go_back(offset)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_file_is_an_input_error_and_nothing_elsewhere_is_emptied(tmp_path: Path, kind: str) -> None:
    path, elsewhere = tmp_path / "metrics.csv", tmp_path / "precious"
    elsewhere.write_text("precious")
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        Metrics(path, COLUMNS).start()
    assert elsewhere.read_text() == "precious"


@pytest.mark.parametrize("text", ["", "epoch\nx\n", "epoch,loss\n1\n", f"epoch\n{'1' * 140_000}\n"])
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


def test_some_columns_of_a_growing_table_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    assert read_columns(path, ["epoch"], 10) == {}
    fill(path, [1, 20, 40]).close()
    with open(path, "a") as file:
        file.write("60,0.1")  # a row that is being written
    assert read_columns(path, ["epoch", "train_loss", "val_loss"], 10) == {
        "epoch": [1, 20, 40],
        "train_loss": [1 / 3, 1 / 60, 1 / 120],
    }
    path.write_text("")
    assert read_columns(path, ["epoch"], 10) == {}


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 12, 19, 20, 21, 100, 1001])
def test_a_long_table_is_thinned_evenly_and_keeps_its_ends(tmp_path: Path, count: int) -> None:
    path = tmp_path / "metrics.csv"
    fill(path, list(range(1, count + 1))).close()
    epochs = read_columns(path, ["epoch"], 10)["epoch"]
    assert (epochs[0], epochs[-1]) == (1, count)
    assert len(epochs) == count if count <= 10 else 5 <= len(epochs) <= 11
    steps = {after - before for before, after in pairwise(epochs[1:])}
    assert len(steps) <= 1
    assert epochs == sorted(set(epochs))


@pytest.mark.parametrize("content", [b"\xff\n1\n", b"epoch\nx\n", b"a,epoch\n1\n", b"epoch\n\xff\n"])
def test_columns_of_no_table_are_an_input_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a table of numbers"):
        read_columns(path, ["epoch"], 10)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_columns(path, ["epoch"], 10)
