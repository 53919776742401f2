"""How a run is shown, in this process: the progress bar, and terminals of odd sizes."""

import io
import os
from pathlib import Path

import pytest
from helpers import Program, assert_fails, environment, on_terminal
from rich.console import Console

from mlpx.cli import streams, views
from mlpx.cli.tables import TablePrinter, in_style
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.runs import folder
from mlpx.settings.metrics import Metric, columns
from mlpx.training.loop import EpochRecord, Position, Progress

LOSS = Metric("train_loss", "loss", better="lower")


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> views.Screen:
    """A screen that animates, on which nothing waits for time to pass."""
    monkeypatch.setattr(views, "BAR_SECONDS", 0.0)
    screen = views.Screen()
    screen._animated = True
    settings = MlpSettings(dataset="glyphs", epochs=3)
    with folder.create(tmp_path, settings, "x") as run:
        screen.start(run, settings, columns([LOSS], 1))
    return screen


def test_the_bar_tells_the_time_left_although_each_epoch_has_a_row(
    screen: views.Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, str]] = []
    bar = views.new_bar("epoch {task.fields[epoch]}", "{task.fields[left]} left")
    update = bar.update

    def spy(*arguments: object, **fields: object) -> None:
        drawn.append((str(fields["epoch"]), str(fields["left"])))
        update(*arguments, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(bar, "update", spy)
    monkeypatch.setattr(views, "new_bar", lambda *_: bar)
    for epoch in range(3):
        for step in (1, 2):
            done = (epoch + step / 2) / 3
            screen.show(Progress(Position(epoch, step), 60 * done, done))
        row = {"epoch": epoch + 1, "train_loss": 0.5, "seconds": 20.0}
        screen.show(EpochRecord(Position(epoch + 1, 0), 20.0, row))
    assert drawn == [
        ("0/3", "0:00:50"),
        ("0/3", "0:00:40"),
        ("1/3", "0:00:30"),
        ("1/3", "0:00:20"),
        ("2/3", "0:00:10"),
        ("2/3", "0:00:00"),
    ]


@pytest.mark.parametrize("value", ["0", "²", "-5", "abc", "", "9" * 30])
def test_a_width_that_is_no_number_above_zero_is_forgotten(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("COLUMNS", value)
    with streams.protected():
        assert "COLUMNS" not in os.environ
        assert Console(file=io.StringIO()).width > 0


@pytest.mark.parametrize("value", ["0", "²"])
@pytest.mark.program
def test_the_summary_is_printed_on_a_terminal_that_claims_an_odd_width(tmp_path: Path, value: str) -> None:
    assert ": training loss" in on_terminal(["poly", "--epochs", "2"], tmp_path, 200, COLUMNS=value)


def test_the_end_of_a_run_that_had_finished_has_the_exit_code_of_this_command(program: Program) -> None:
    failing = ("poly", "--epochs", "2", "--check", "train_loss < 0", "--quiet")
    assert program(*failing).code == 3
    again = program("resume", "latest", "--json")
    assert again.code == 0
    assert '"exit_code": 0' in again.out.splitlines()[-1]
    assert_fails(program("resume", "latest", "--check", "train_loss < 0"), 3, "train_loss < 0")


def test_a_check_holds_again_when_a_finished_run_is_asked_once_more(program: Program) -> None:
    command = ("poly", "--degree", "0", "--num-train", "1", "--lr", "0.5", "--epochs", "2")
    check = ("--check", "generalization_to_train > 2")
    assert program(*command, *check).code == 0  # the training loss is exactly zero, so the ratio is infinite
    result = program("resume", "latest", *check)
    assert (result.code, result.err) == (0, "")


def test_an_environment_without_a_width_works(program: Program) -> None:
    assert program("poly", "--epochs", "2", env=environment(COLUMNS="0")).code == 0


def printed(rows: list[dict[str, float]], **options: object) -> list[str]:
    """The rows of a table with a loss, an accuracy and a number without a direction, on a terminal with colors."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, _environ={"TERM": "xterm"}, **options)  # type: ignore[arg-type]
    printer = TablePrinter(console)
    printer.head([LOSS, Metric("accuracy", better="higher"), Metric("lr")])
    for row in rows:
        printer.row(row)
    return file.getvalue().splitlines()[2:]


ROWS = [
    {"train_loss": 3.0, "accuracy": 0.5, "lr": 1.0},
    {"train_loss": 2.0, "accuracy": 0.5, "lr": 0.5},
    {"train_loss": 2.5, "accuracy": 0.75, "lr": 2.0},
    {"train_loss": float("nan"), "accuracy": 0.5, "lr": 2.0},
    {"train_loss": 1.0, "accuracy": 0.75, "lr": 0.1},
]


def test_what_is_better_than_all_rows_before_stands_out() -> None:
    assert printed(ROWS) == [
        "     3.000     0.5000      1.000",
        "     \x1b[1;32m2.000\x1b[0m     0.5000     0.5000",
        "     2.500     \x1b[1;32m0.7500\x1b[0m      2.000",
        "       nan     0.5000      2.000",
        "     \x1b[1;32m1.000\x1b[0m     0.7500     0.1000",
    ]


def test_without_color_the_best_is_bold_all_the_same() -> None:
    assert printed(ROWS, no_color=True)[1] == "     \x1b[1m2.000\x1b[0m     0.5000     0.5000"
    assert printed(ROWS, color_system=None)[1] == "     2.000     0.5000     0.5000"


@pytest.mark.parametrize(
    ("summary", "style"),
    [("overfitting: as it is", "bold magenta"), ("fitting: as it is", "bold green"), ("a text: and more", "")],
)
def test_a_verdict_has_its_color_and_is_bold(summary: str, style: str) -> None:
    text = in_style(summary)
    assert text.plain == summary
    assert [(span.start, span.end, str(span.style)) for span in text.spans if span.style] == (
        [(0, summary.index(":"), style)] if style else []
    )
