"""Carrying out a sweep: what is tried, how often, by whom, and what it leads to."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import planted
import pytest
from helpers import Result, assert_fails, document_of, mlpx
from sweeping import make_sweep

from mlpx.runs import holding, records
from mlpx.runs.folder import Run
from mlpx.sweeps import carrying_out, processes
from mlpx.sweeps.processes import LOG

pytestmark = pytest.mark.usefixtures("fork_server")


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweeps lie in ``tmp_path/runs``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLPX_RUNS_DIR", raising=False)


def laid_out(tmp_path: Path, **asked: str) -> Path:
    """A sweep of runs of one epoch, of which none has begun."""
    return make_sweep(tmp_path / "runs", "poly", {"epochs": "1", **asked}, lambda *_: None, device="cpu").path


def carried_out(capfd: pytest.CaptureFixture[str], sweep: Path, *arguments: str) -> Result:
    """What ``mlpx resume SWEEP`` does, which ends well."""
    result = mlpx(capfd, "resume", str(sweep), *arguments)
    assert (result.code, result.err) == (0, "")
    return result


def runs_of(sweep: Path) -> list[Path]:
    return sorted(path.parent for path in sweep.glob("*/config.toml"))


def statuses(sweep: Path) -> Counter[str]:
    return Counter(document_of(path.parent)["status"] for path in sweep.glob("*/run.json"))


def rows(result: Result) -> list[str]:
    """The rows of the table of runs."""
    lines = result.out.splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("───")]
    return [line for line in lines[heads[0] + 1 :] if line[:1] == " " and line.split()[0].isdigit()] if heads else []


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_each_run_is_carried_out_once_and_what_is_over_is_left_alone(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, jobs: str
) -> None:
    sweep = laid_out(tmp_path, degree="1..3")
    carried_out(capfd, sweep, "--jobs", jobs)
    for run in runs_of(sweep):
        assert (document_of(run)["status"], document_of(run)["resumed_from_epoch"]) == ("finished", [])
        assert (run / LOG).read_text().count("epoch") == 1
    before = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    assert carried_out(capfd, sweep, "--quiet").out == f"{sweep}\n"
    assert {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()} == before


def broken_data(folder: Path) -> Path:
    raw = folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{part}-ubyte.gz").write_bytes(b"broken")
    return folder / "data"


ROWS = """dataset,seed,lr,hidden,data_dir
glyphs,0,0.1,4,
glyphs,1,1e30,4,
mnist,2,0.1,4,{data}
glyphs,3,0.1,16384x16384,
glyphs,13,0.1,4,
glyphs,5,0.1,4,
"""


def test_of_six_runs_four_fail_each_in_its_way(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_become_the_run", planted.with_little_memory_and_a_bug)
    (tmp_path / "rows.csv").write_text(ROWS.format(data=broken_data(tmp_path)))
    result = mlpx(
        capfd, "sweep", "mlp", "--cells", "rows.csv", "--num-train", "100", "--epochs", "1", "--device", "cpu"
    )
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("error: sweep: 2 finished, 1 diverged, 3 failed. Fix it, then go on")
    said = {line.split()[0]: line for line in rows(result)}
    for number, words in {
        "2": "diverged",
        "3": "failed: train-images-idx3-ubyte.gz",
        "4": "failed: out of memory",
        "5": "failed: a bug in mlpx: ZeroDivisionError: planted",
    }.items():
        assert words in said[number].replace(str(tmp_path / "data" / "MNIST" / "raw") + "/", ""), said[number]
    listed = mlpx(capfd, "runs", "latest", "--json").out.splitlines()
    assert Counter(json.loads(line)["status"] for line in listed) == {"finished": 2, "diverged": 1, "failed": 3}

    text = mlpx(capfd, "runs", "latest").out
    for words in ("ZeroDivisionError: planted", "out of memory", "train-images-idx3-ubyte.gz", "is nan"):
        assert words in text

    again = mlpx(capfd, "resume", "latest")
    assert again.code == 1
    assert sorted(line.split()[0] for line in rows(again)) == ["3", "4", "5"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_no_run_is_started_after_the_third_failure_alike(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, jobs: str
) -> None:
    data = broken_data(tmp_path)
    result = mlpx(
        *(capfd, "sweep", "mlp", "--dataset", "mnist", "--data-dir", str(data), "--seed", "1..40", "--jobs", jobs)
    )
    assert result.code == 5
    assert result.err.startswith(
        "warning: 3 runs failed alike, and none has finished: no further run is started\nerror: "
    )
    sweep = tmp_path / "runs" / "latest"
    # One more was under way.
    assert len(rows(result)) in (3, 2 + int(jobs))
    assert len(list(sweep.glob("*/output.log"))) == len(rows(result))
    assert len(list(sweep.glob("*/config.toml"))) == 40


def test_no_run_is_started_after_three_that_could_not_start(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sweep = laid_out(tmp_path, degree="1..9")
    for run in runs_of(sweep):
        (run / LOG).mkdir()
    result = mlpx(capfd, "resume", str(sweep))
    assert result.code == 6
    assert "3 runs failed alike" in result.err
    assert len(rows(result)) == 3


def test_a_run_that_is_killed_is_tried_once_more(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_become_the_run", planted.killed_once)
    sweep = laid_out(tmp_path, degree="1..2")
    carried_out(capfd, sweep)
    assert statuses(sweep) == {"finished": 2}
    assert [(run / "killed").exists() for run in runs_of(sweep)] == [True, True]


def test_a_run_that_is_killed_twice_has_failed(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_become_the_run", planted.killed)
    result = mlpx(capfd, "resume", str(laid_out(tmp_path, degree="1..2")))
    assert_fails(result, 6, "2 failed")
    assert [line.split(maxsplit=2)[2] for line in rows(result)] == ["failed: killed by SIGKILL before it began"] * 2


def test_a_run_that_another_process_holds_is_left_to_it(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sweep = laid_out(tmp_path, degree="1..2")
    first, second = runs_of(sweep)
    with Run(second):
        result = mlpx(capfd, "resume", str(sweep))
    assert_fails(result, 75, "others still work on it", "1 finished, 1 running")
    assert not (second / LOG).exists()
    carried_out(capfd, sweep)
    assert [document_of(run)["resumed_from_epoch"] for run in (first, second)] == [[], []]


def test_a_run_that_another_process_has_taken_in_the_meantime_is_left_to_it(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = laid_out(tmp_path, degree="1..2")
    _, second = runs_of(sweep)
    looks: list[Path] = []

    def is_held(path: Path) -> bool:
        looks.append(path)
        # At the beginning, and just before its process starts, each run seems to be free.
        return looks.count(path) > 4 and holding.is_held(path)

    monkeypatch.setattr(records, "is_held", is_held)
    monkeypatch.setattr(carrying_out, "is_held", is_held)
    with Run(second):
        result = mlpx(capfd, "resume", str(sweep))
    assert_fails(result, 75, "1 finished, 1 running")
    assert (second / LOG).read_text().startswith(f"error: {second}: is held by process {os.getpid()}")


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_a_run_that_another_process_is_about_to_go_on_with_is_left_to_it(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, status: str
) -> None:
    sweep = laid_out(tmp_path, degree="1..2")
    _, second = runs_of(sweep)
    (second / "run.json").write_text(json.dumps({"status": status, "exit_code": 5}))
    with Run(second):
        assert_fails(mlpx(capfd, "resume", str(sweep)), 75, "1 finished, 1 running")
    assert not (second / LOG).exists()


def a_folder_of_settings(run: Path) -> None:
    (run / "config.toml").unlink()
    (run / "config.toml").mkdir()


FAULTS: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "a log that is a link": (lambda run: (run / LOG).symlink_to("/dev/null"), 6, "failed: "),
    "a log that is a FIFO": (lambda run: os.mkfifo(run / LOG), 6, "failed: "),
    "a log that is a folder": (lambda run: (run / LOG).mkdir(), 6, "failed: "),
    "a lock that is a folder": (lambda run: (run / "lock").mkdir(), 6, "failed: "),
    "a lock that is a link": (lambda run: (run / "lock").symlink_to("elsewhere"), 6, "failed: "),
    "rows that are a folder": (lambda run: (run / "metrics.csv").mkdir(), 5, ""),
    "checkpoints that are a file": (lambda run: (run / "checkpoints").touch(), 6, "failed: "),
    "settings that are garbage": (lambda run: (run / "config.toml").write_bytes(b"\xff"), 5, ""),
    "settings that are a folder": (a_folder_of_settings, 5, ""),
    "a record that is garbage": (lambda run: (run / "run.json").write_bytes(b"\0{"), 5, ""),
    "a record of another world": (lambda run: (run / "run.json").write_text('{"status": "merry"}'), 5, ""),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_hostile_run_folder_costs_that_run_alone(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    spoil, code, words = FAULTS[kind]
    sweep = laid_out(tmp_path, degree="1..2")
    spoil(sweep / "degree1")
    result = mlpx(capfd, "resume", str(sweep))
    assert result.code == code, result
    assert "Traceback" not in result.err
    if words:
        assert words in rows(result)[0]
        assert "error: sweep: 1 finished, 1 failed. " in result.err
    else:
        assert result.err.startswith("warning: degree1 is left out: ")
        assert "error: sweep: 1 finished, 1 cannot be read. " in result.err


def test_a_sweep_of_which_all_runs_are_gone(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sweep = laid_out(tmp_path, degree="1")
    shutil.rmtree(runs_of(sweep)[0])
    assert_fails(mlpx(capfd, "resume", str(sweep)), 5, "has no runs")
    assert mlpx(capfd, "sweep", "poly", "--config", str(sweep / "sweep.toml"), "--into", str(sweep)).code == 0
    assert statuses(sweep) == {"finished": 1}


def test_gpus_are_given_to_runs_one_by_one(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_become_the_run", planted.tell)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")

    def seen(number: int, *arguments: str) -> list[tuple[str, float, float]]:
        command = ("sweep", "poly", "--epochs", "1", "--seed", f"1..{number}", "--quiet", *arguments)
        sweep = Path(mlpx(capfd, *command).out.strip())
        found = [json.loads((run / planted.SEEN).read_text()) for run in runs_of(sweep)]
        assert len(found) == number
        return [(each["visible"], each["began"], each["ended"]) for each in found]

    def most_at_once(found: list[tuple[str, float, float]], gpu: str) -> int:
        spans = [(began, ended) for name, began, ended in found if name == gpu]
        return max(sum(began <= moment < ended for began, ended in spans) for moment, _ in spans)

    found = seen(4, "--gpus", "1", "--jobs", "2")
    assert {name for name, _, _ in found} == {"3", "5"}
    assert most_at_once(found, "3") == most_at_once(found, "5") == 1
    found = seen(5, "--gpus", "0.5")
    assert {name for name, _, _ in found} == {"3", "5"}
    assert max(most_at_once(found, "3"), most_at_once(found, "5")) == 2
    assert {name for name, _, _ in seen(2, "--gpus", "0", "--jobs", "2")} == {""}
    assert_fails(mlpx(capfd, "sweep", "poly", "--degree", "1..2", "--gpus", "3"), 6, "there are 2")
