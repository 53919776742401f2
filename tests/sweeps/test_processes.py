"""The process of a run: what it is given, and that it ends with the sweep."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import planted
import pytest
from helpers import document_of

from mlpx.experiments.poly.settings import PolySettings
from mlpx.settings.files import to_toml
from mlpx.sweeps import processes
from mlpx.sweeps.processes import LOG, Process, prepare
from mlpx.sweeps.request import Options
from mlpx.training.signals import STOPPING

pytestmark = pytest.mark.usefixtures("fork_server")

OPTIONS = Options(device="cpu", checkpoint_every=0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run without an end that has not begun."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.toml").write_text(to_toml(PolySettings(epochs=1_000_000_000, eval_every=100)))
    return folder


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def has_rows(run: Path) -> bool:
    return (run / "checkpoints").exists() and any((run / "checkpoints").iterdir())


@pytest.mark.parametrize(("cores", "place"), [(1, "3"), (2, ""), (2, None)])
def test_what_a_run_is_given(run: Path, monkeypatch: pytest.MonkeyPatch, cores: int, place: str | None) -> None:
    monkeypatch.setattr(processes, "_become_the_run", planted.tell)
    (run / "config.toml").write_text(to_toml(PolySettings(epochs=1)))
    options = Options(device="cpu", checkpoint_every=7.5, cores=cores, check=["test_loss < 1000", "train_loss < 1000"])
    assert Process(run, options, place).end() == 0
    seen = json.loads((run / planted.SEEN).read_text())
    seen = {name: value for name, value in seen.items() if name not in ("began", "ended")}
    checks = ["--check", "test_loss < 1000", "--check", "train_loss < 1000"]
    assert seen == {
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES") if place is None else place,
        "omp": str(cores),
        "threads": cores,
        "own_group": True,
        "blocked": [],
        "input_is_a_pipe": True,
        "arguments": ["resume", str(run), "--device", "cpu", "--checkpoint-every", "7.5", *checks],
    }
    document = document_of(run)
    assert (document["status"], document["resumed_from_epoch"]) == ("finished", [])
    assert str(run) in (run / LOG).read_text().splitlines()


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_makes_a_run_save_and_die_by_it(run: Path, number: signal.Signals) -> None:
    process = Process(run, OPTIONS, None)
    wait_for(lambda: has_rows(run))
    process.send(number)
    assert process.end() == -number
    document = document_of(run)
    assert (document["status"], document["exit_code"]) == ("interrupted", 128 + number)
    assert f"interrupted by {number.name}: saved after epoch" in (run / LOG).read_text()


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_before_a_run_has_begun_kills_it_without_a_word(run: Path, number: signal.Signals) -> None:
    process = Process(run, OPTIONS, None)
    process.send(number)
    assert process.end() == -number
    assert (run / LOG).read_text() == ""
    assert not (run / "run.json").exists()


def test_a_run_whose_sweep_is_gone_saves_and_stops(run: Path) -> None:
    process = Process(run, OPTIONS, None)
    wait_for(lambda: has_rows(run))
    os.close(process._alive)
    wait_for(lambda: process._process.exitcode is not None)
    assert process._process.exitcode == -signal.SIGTERM
    assert document_of(run)["status"] == "interrupted"


def test_a_signal_to_a_process_that_has_ended_does_nothing(run: Path) -> None:
    process = Process(run, OPTIONS, None)
    process.send(signal.SIGKILL)
    wait_for(lambda: process._process.exitcode is not None)
    process.send(signal.SIGTERM)
    assert process.end() == -signal.SIGKILL


def test_a_signal_to_a_process_that_ends_at_this_moment_does_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(run, OPTIONS, None)
    process.send(signal.SIGKILL)
    wait_for(lambda: process._process.exitcode is not None)
    # As it had not been known that it has ended.
    monkeypatch.setattr(type(process._process), "exitcode", None)
    process.send(signal.SIGTERM)


def test_the_signals_that_were_blocked_are_those_that_are() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        prepare("poly")
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {signal.SIGTERM}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


LOGS: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to("elsewhere"),
    "a FIFO": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a device": lambda path: path.symlink_to("/dev/full"),
}


@pytest.mark.parametrize("kind", LOGS)
def test_a_log_that_is_no_file_is_refused_at_once(run: Path, kind: str) -> None:
    LOGS[kind](run / LOG)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=LOG):
        Process(run, OPTIONS, None)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert not (run.parent / "elsewhere").exists()


def test_a_fifo_with_a_reader_is_no_log(run: Path) -> None:
    os.mkfifo(run / LOG)
    reader = os.open(run / LOG, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="is not a regular file"):
        Process(run, OPTIONS, None)
    os.close(reader)


def test_a_log_is_appended_to(run: Path) -> None:
    (run / LOG).write_text("before\n")
    process = Process(run, OPTIONS, None)
    wait_for(lambda: has_rows(run))
    process.send(signal.SIGTERM)
    process.end()
    assert (run / LOG).read_text().startswith("before\n    epoch")


def test_processes_leave_no_descriptor(run: Path) -> None:
    def once() -> int:
        process = Process(run, OPTIONS, None)
        process.send(signal.SIGKILL)
        process.end()
        return len(os.listdir("/proc/self/fd"))

    assert once() == once()
