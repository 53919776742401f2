"""The reader of run folders: every state, values for each seed, and folders that are broken in many ways."""

import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from helpers import write_run

from mlpx.errors import InputError, Locked
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.runs import folder, holding, reading, records
from mlpx.runs.folder import Run
from mlpx.runs.metrics import TAIL_BYTES
from mlpx.settings.files import to_toml

FIGURES = {"epoch": 400, "train_loss": 0.25, "test_loss": 0.5, "generalization_loss": 0.75, "seconds": 1.5}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run."""
    return write_run(tmp_path / "runs", PolySettings(degree=1), FIGURES)


def edit(run: Path, **facts: object) -> None:
    """Change what ``run.json`` says."""
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_a_finished_run_has_settings_final_metrics_and_times(run: Path) -> None:
    edit(run, metrics={**FIGURES, "train_to_noise": 2.0}, started="2026-01-02T03:04:05.678+00:00")
    record = records.read(run)
    assert (record.status, record.is_finished, record.settings) == ("finished", True, PolySettings(degree=1))
    assert record.metrics == {**FIGURES, "train_to_noise": 2.0}
    assert record.started == datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    assert record.as_json() == {
        "run": str(run),
        "experiment": "poly",
        "status": "finished",
        "settings": PolySettings(degree=1).model_dump(),
        "metrics": {**FIGURES, "train_to_noise": 2.0},
        "started": "2026-01-02T03:04:05.678+00:00",
        "seconds": 1.5,
        "error": None,
    }


def test_a_metric_that_is_not_finite_is_read_as_it_was_and_null_in_json(tmp_path: Path) -> None:
    record = records.read(write_run(tmp_path, PolySettings(), {**FIGURES, "test_loss": math.inf}))
    assert record.metrics["test_loss"] == math.inf
    assert record.as_json()["metrics"]["test_loss"] is None
    edit(record.path, not_finite={}, metrics={"test_loss": None})  # as an older version wrote it
    assert math.isnan(records.read(record.path).metrics["test_loss"])


def test_a_run_that_a_process_holds_is_running_and_one_that_nobody_holds_is_dead(tmp_path: Path) -> None:
    run = write_run(tmp_path, PolySettings(), FIGURES, "running")
    assert records.read(run).status == "dead"
    with Run(run):
        assert records.read(run).status == "running"
        assert records.read(run).metrics == FIGURES
    assert records.read(run).status == "dead"


def test_a_run_without_run_json_waits_or_has_just_started(tmp_path: Path) -> None:
    with folder.create(tmp_path, PolySettings(), "x") as run:
        assert records.read(run.path).status == "running"
    assert records.read(run.path).status == "waiting"
    (run.path / "lock").unlink()
    record = records.read(run.path)
    assert (record.status, record.metrics) == ("waiting", {})
    assert abs((datetime.now(UTC) - record.started).total_seconds()) < 60


@pytest.mark.parametrize("status", ["diverged", "interrupted", "failed"])
def test_a_run_that_ended_early_has_its_last_row(tmp_path: Path, status: str) -> None:
    record = records.read(write_run(tmp_path, PolySettings(), FIGURES, status, 4))
    assert (record.status, record.is_finished, record.metrics) == (status, False, FIGURES)
    assert record.values("test_loss") == {}


def test_a_run_that_ends_between_two_looks_is_not_called_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader sees ``running``; then the run ends and gives up its lock; then the reader tries the lock."""
    run = write_run(tmp_path, PolySettings(), FIGURES, "running")

    def is_held(path: Path) -> bool:
        edit(path, status="finished", metrics=FIGURES)
        return False

    monkeypatch.setattr(records, "is_held", is_held)
    assert records.read(run).status == "finished"


def test_a_starting_run_never_stumbles_over_a_reader(run: Path) -> None:
    """A reader holds the lock, shared, for an instant; whoever starts a run tries again until it is free."""
    descriptor = os.open(run / "lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    child = os.fork()
    if child == 0:  # the child keeps the lock for a while; the lock belongs to both until both have closed it
        time.sleep(0.2)
        os._exit(0)
    os.close(descriptor)
    began = time.monotonic()
    with Run(run):
        assert time.monotonic() - began > 0.1
        began = time.monotonic()
        with pytest.raises(Locked):
            Run(run)
        assert time.monotonic() - began >= holding.PROBE_SECONDS
    os.waitpid(child, 0)


def test_readers_do_not_hinder_one_another_and_leave_the_lock_as_it_was(run: Path) -> None:
    descriptor = os.open(run / "lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    assert not holding.is_held(run)
    os.close(descriptor)
    before = (run / "lock").read_bytes(), os.stat(run / "lock").st_mtime_ns
    assert not holding.is_held(run)
    assert before == ((run / "lock").read_bytes(), os.stat(run / "lock").st_mtime_ns)


def test_replicas_are_seeds(tmp_path: Path) -> None:
    run = write_run(
        tmp_path, MlpSettings(seed=5, replicas=3), {"epoch": 10, "test_loss": 0.2, "train_loss": 0.1, "noise": 1.0}
    )
    (run / "replicas.csv").write_text("replica,seed,test_loss\n0,5,0.1\n1,6,\n2,7,0.3\n")
    record = records.read(run)
    assert record.values("test_loss") == {5: 0.1, 7: 0.3}
    assert record.values("noise") == {5: 1.0}
    assert record.values("other") == {}
    # The median that run.json has is the value of no seed.
    assert record.values("train_loss") == {}
    single = records.read(write_run(tmp_path, MlpSettings(seed=9), {"epoch": 10, "test_loss": 0.2}))
    assert single.values("test_loss") == {9: 0.2}


@pytest.mark.parametrize(
    "text", ["", "replica,seed,test_loss\n0,x,1\n", "replica,test_loss\n0,1\n", "replica,seed,test_loss\n0,1,x\n"]
)
def test_a_broken_table_of_replicas_is_an_error_of_the_input(tmp_path: Path, text: str) -> None:
    run = write_run(tmp_path, PolySettings(replicas=2), FIGURES)
    with pytest.raises(InputError, match="replicas"):
        records.read(run).values("test_loss")
    (run / "replicas.csv").write_text(text)
    if text:
        with pytest.raises(InputError, match="replicas"):
            records.read(run).values("test_loss")


@pytest.mark.parametrize("num_rows", [0, 1, 2, 5000])
@pytest.mark.parametrize("torn", ["", "7,1.0,0."])
def test_the_last_row_is_the_last_whole_one_however_long_the_file(tmp_path: Path, num_rows: int, torn: str) -> None:
    run = write_run(tmp_path, PolySettings(), FIGURES, "running")
    rows = [f"{epoch},1.0,2.0,3.0,{epoch / 3!r}\n" for epoch in range(1, num_rows + 1)]
    header = "epoch,train_loss,test_loss,generalization_loss,seconds\n"
    (run / "metrics.csv").write_text(header + "".join(rows) + torn)
    last = {"epoch": num_rows, "train_loss": 1.0, "test_loss": 2.0, "generalization_loss": 3.0, "seconds": num_rows / 3}
    assert records.read(run).metrics == (last if num_rows else {})
    assert num_rows < 5000 or (run / "metrics.csv").stat().st_size > 2 * TAIL_BYTES


def as_text(name: str, text: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(text)


def as_folder(name: str) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return change


def as_fifo(name: str) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return change


def as_dangling_link(run: Path) -> None:
    (run / "config.toml").unlink()
    (run / "config.toml").symlink_to("nowhere")


def still_running(text: str) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        edit(run, status="running")
        (run / "metrics.csv").write_text(text)

    return change


SETTINGS = to_toml(PolySettings())
BROKEN: dict[str, Callable[[Path], object]] = {
    "settings missing": lambda run: (run / "config.toml").unlink(),
    "settings empty": as_text("config.toml", ""),
    "settings no TOML": as_text("config.toml", "experiment = [\n"),
    "settings cut off": as_text("config.toml", SETTINGS[:30]),
    "settings not UTF-8": lambda run: (run / "config.toml").write_bytes(b'experiment = "p\xff"\n'),
    "settings too long": as_text("config.toml", "#" * 100_000),
    "settings of no experiment": as_text("config.toml", 'experiment = "chess"\n'),
    "settings of a newer version": as_text("config.toml", SETTINGS + "momentum = 0.9\n"),
    "settings of a wrong type": as_text("config.toml", SETTINGS.replace("degree = 3", 'degree = "three"')),
    "settings out of bounds": as_text("config.toml", SETTINGS.replace("degree = 3", "degree = 99")),
    "settings a folder": as_folder("config.toml"),
    "settings a named pipe": as_fifo("config.toml"),
    "settings a dangling link": as_dangling_link,
    "run.json empty": as_text("run.json", ""),
    "run.json cut off": lambda run: os.truncate(run / "run.json", 50),
    "run.json a list": as_text("run.json", "[1]"),
    "run.json nested too deep": as_text("run.json", "[" * 100_000),
    "run.json a folder": as_folder("run.json"),
    "run.json a named pipe": as_fifo("run.json"),
    "status of a newer version": lambda run: edit(run, status="paused"),
    "status a list": lambda run: edit(run, status=["finished"]),
    "a metric that is text": lambda run: edit(run, metrics={"test_loss": "low"}),
    "a metric too large for a number": lambda run: edit(run, metrics={"test_loss": 10**400}),
    "a metric that is true": lambda run: edit(run, metrics={"test_loss": True}),
    "a start that is no time": lambda run: edit(run, started="yesterday"),
    "a start that is a number": lambda run: edit(run, started=5),
    "rows that are no numbers": still_running("epoch,train_loss\n1,x\n"),
    "rows of another width": still_running("epoch,train_loss\n1,2,3\n"),
    "rows a number of another script": still_running("epoch,train_loss\n1,²\n"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_run_costs_one_warning_and_never_the_list(run: Path, kind: str) -> None:
    broken = run.with_name("20260101-000000-poly-broken")
    shutil.copytree(run, broken)
    BROKEN[kind](broken)
    found, warnings = records.read_all(reading.runs_in(run.parent))
    assert [record.path for record in found] == [run]
    (warning,) = warnings
    assert warning.startswith("20260101-000000-poly-broken is left out: ")


def test_at_least_twenty_kinds_of_broken_runs_are_tried() -> None:
    assert len(BROKEN) >= 20


def test_what_is_no_run_is_no_run(run: Path) -> None:
    others = run.parent
    (others / "notes").mkdir()
    (others / "notes.txt").write_text("x")
    (others / ".hidden").mkdir()
    (others / ".hidden" / "config.toml").write_text(SETTINGS)
    (others / "link").symlink_to(run)
    assert reading.runs_in(others) == [run]
    assert reading.runs_in(others / "missing") == []
    assert reading.runs_in(Path("a\0b")) == []


def test_a_name_is_a_run_or_a_folder_of_runs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = write_run(tmp_path / "runs" / "sweep", PolySettings(degree=2), FIGURES)
    assert reading.find_runs("latest", run.parent) == [run]
    assert reading.find_runs("sweep", run.parent) == [inner]
    assert reading.find_runs(f"sweep/{inner.name}", run.parent) == [inner]
    assert reading.find_runs(str(run.parent), Path("elsewhere")) == [run]
    monkeypatch.chdir(tmp_path)
    assert [path.resolve() for path in reading.find_runs("runs", run.parent)] == [run]
    write_run(tmp_path / run.name, PolySettings(), FIGURES)
    assert reading.find_runs(run.name, run.parent) == [run]  # a run in the runs folder comes before any other place
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is not a run, and holds no runs"):
        reading.find_runs("empty", run.parent)
    with pytest.raises(InputError, match="no such run"):
        reading.find_runs("nothing", run.parent)


def test_a_folder_that_may_not_be_looked_into_is_said_to_be_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may look into any folder, so the system's answers are those that another user would get.
    shutil.rmtree(run / "claims")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(reading, "exists", lambda path, follow=True: False)
    assert reading.runs_in(run.parent) == [run]
    for find in (reading.find, reading.find_runs):
        with pytest.raises(InputError, match="cannot be read"):
            find(run.name, run.parent)


@pytest.mark.parametrize("status", ["failed", "diverged", "interrupted"])
def test_a_run_that_ended_early_says_why(tmp_path: Path, status: str) -> None:
    run = write_run(tmp_path, PolySettings(), FIGURES, status)
    assert (records.read(run).error, records.read(run).as_json()["error"]) == ("", None)
    edit(run, error="x: y. Do z.")
    assert records.read(run).as_json()["error"] == records.read(run).error == "x: y. Do z."
    edit(run, error=["x"])  # of an odd type: absent
    assert records.read(run).error == ""


def test_a_run_that_goes_on_or_has_finished_has_no_error(run: Path) -> None:
    for status in ("running", "finished"):
        edit(run, status=status, error="of an earlier attempt")
        assert records.read(run).error == ""


def test_runs_that_wait_come_last_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    paths = [write_run(tmp_path, PolySettings(degree=degree), FIGURES) for degree in range(4)]
    for number, path in enumerate(paths):
        edit(path, started=f"2026-01-0{number + 1}T00:00:00+00:00")
        os.utime(path / "config.toml", (10**9 + number, 10**9 + number))
    for path in paths[:2]:
        (path / "run.json").unlink()
    found, _ = records.read_all(paths)
    assert [record.path for record in records.newest_first(found)] == [paths[3], paths[2], paths[0], paths[1]]


def test_the_newest_run_comes_first(tmp_path: Path) -> None:
    paths = [write_run(tmp_path, PolySettings(degree=degree), FIGURES) for degree in range(3)]
    for path, day in zip(paths, (2, 3, 1), strict=True):
        edit(path, started=f"2026-01-0{day}T00:00:00" + ("+00:00" if day > 1 else ""))
    found, _ = records.read_all(paths)
    assert [record.path for record in records.newest_first(found)] == [paths[1], paths[0], paths[2]]
