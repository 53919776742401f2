"""How far a sweep has come: counts, words, the time of its start, and files that are broken."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from helpers import write_result, write_sweep

from mlpx.experiments.poly.settings import PolySettings
from mlpx.runs import reading
from mlpx.runs.folder import Run
from mlpx.sweeps import progress
from mlpx.sweeps.folder import Sweep

FIGURES = {"epoch": 400, "train_loss": 0.25}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Six runs that wait."""
    return write_sweep(tmp_path / "runs", PolySettings, {"degree": "1,3,19", "seed": "0..1", "epochs": "9"})


def set_started(run: Path, started: object) -> None:
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(document | {"started": started}))


def test_a_sweep_that_has_not_begun_waits_since_it_was_laid_out(sweep: Sweep) -> None:
    os.utime(sweep.path / "sweep.toml", (10**9, 10**9))
    found, warnings = progress.read(sweep.path)
    assert warnings == []
    assert (found.path, found.experiment, found.counts) == (sweep.path, "poly", {"waiting": 6})
    assert found.values == {"degree": [1, 3, 19], "seed": [0, 1], "epochs": [9]}
    assert found.status == "0 of 6"
    assert found.started == datetime.fromtimestamp(10**9, UTC)


def test_every_status_is_counted_and_the_first_start_counts(sweep: Sweep) -> None:
    one, two, three, four, five, _ = sweep.runs()
    for run, status in ((one, "finished"), (two, "diverged"), (three, "failed"), (four, "running"), (five, "running")):
        write_result(run, FIGURES, status)
    set_started(two, "2026-01-02T03:04:05.000+00:00")
    with Run(four):
        found, _ = progress.read(sweep.path)
    assert found.counts == {"finished": 1, "diverged": 1, "failed": 1, "running": 1, "dead": 1, "waiting": 1}
    assert found.status == "1 of 6, 1 running, 1 dead, 1 diverged, 1 failed"
    assert found.started == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"finished": 19}, "19 of 19"),
        ({"finished": 35, "diverged": 1}, "35 of 36, 1 diverged"),
        ({"waiting": 30, "failed": 1, "running": 2, "finished": 3}, "3 of 36, 2 running, 1 failed"),
        ({"interrupted": 2, "unreadable": 1}, "0 of 3, 2 interrupted, 1 unreadable"),
        ({}, "0 of 0"),
    ],
)
def test_the_counts_are_said_in_words(counts: dict[str, int], text: str) -> None:
    assert progress.in_words(counts) == text


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"status": "paused"}'])
def test_a_run_with_a_broken_document_costs_one_warning(sweep: Sweep, text: str) -> None:
    broken = sweep.runs()[0]
    (broken / "run.json").write_text(text)
    found, (warning,) = progress.read(sweep.path)
    assert found.status == "0 of 6, 1 unreadable"
    assert warning.startswith(f"{sweep.path.name}/{broken.name}: ")


@pytest.mark.parametrize("started", ["yesterday", 5, None])
def test_a_start_that_is_no_time_is_passed_over(sweep: Sweep, started: object) -> None:
    for run, moment in zip(sweep.runs(), (started, "2026-01-02T00:00:00+00:00"), strict=False):
        write_result(run, FIGURES)
        set_started(run, moment)
    found, warnings = progress.read(sweep.path)
    assert (found.status, found.started, warnings) == ("2 of 6", datetime(2026, 1, 2, tzinfo=UTC), [])


@pytest.mark.parametrize(
    "text",
    [
        "experiment = [\n",
        "",
        'experiment = "chess"\n',
        "experiment = [1]\n",
        'experiment = "poly"\ndegre = 3\n',
        'experiment = "poly"\ndegree = "99..1"\n',
        'experiment = "poly"\ndegree = 2026-01-01\n',
        'experiment = "poly"\n[sweep]\ncolor = 3\n',
        None,
    ],
)
def test_a_broken_request_costs_one_warning_and_its_runs_count_all_the_same(sweep: Sweep, text: str | None) -> None:
    write_result(sweep.runs()[0], FIGURES)
    (sweep.path / "sweep.toml").unlink()
    if text is None:
        (sweep.path / "sweep.toml").mkdir()
    else:
        (sweep.path / "sweep.toml").write_text(text)
    found, (warning,) = progress.read(sweep.path)
    assert (found.status, found.values) == ("1 of 6", {})
    assert warning.startswith(f"{sweep.path.name}: ")


def test_settings_and_rows_are_not_read(sweep: Sweep) -> None:
    for run in sweep.runs():
        write_result(run, FIGURES)
    for run in reading.runs_in(sweep.path):
        (run / "config.toml").write_text("broken")
        (run / "metrics.csv").unlink()
    found, warnings = progress.read(sweep.path)
    assert (found.status, warnings) == ("6 of 6", [])


@pytest.mark.slow
def test_two_thousand_runs_are_counted_in_a_second(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "runs", PolySettings, {"degree": "0..19", "seed": "0..99"})
    for run in reading.runs_in(sweep.path):
        (run / "run.json").write_text('{"status": "finished", "started": "2026-01-02T00:00:00+00:00"}')
    began = time.perf_counter()
    assert progress.read(sweep.path)[0].status == "2000 of 2000"
    print(f"\n{time.perf_counter() - began:.3f} s")
    assert time.perf_counter() - began < 1
