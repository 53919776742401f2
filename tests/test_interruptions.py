"""Signals, pipes and kills: the run stops well or goes on, and resuming it ends bit for bit as if nothing had been."""

import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import Live, live
from helpers import PROGRAM, ROOT, Outcome, Program, document_of, environment, finished, outcome

pytestmark = pytest.mark.program

# About a second of training, so that there is time to interfere.
LONG = ["poly", "--degree", "5", "--epochs", "15000", "--eval-every", "100"]
STOPPING = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return outcome(finished(LONG, tmp_path_factory.mktemp("undisturbed")).path)


@pytest.fixture
def run_under_way(tmp_path: Path) -> Iterator[Live]:
    """A run that has printed its first row."""
    with live([*LONG, "--checkpoint-every", "0.2"], tmp_path, environment()) as process:
        for _ in range(3):
            process.stdout.readline()
        yield process


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_stops_the_run_well(
    program: Program,
    tmp_path: Path,
    run_under_way: Live,
    undisturbed: Outcome,
    number: signal.Signals,
) -> None:
    run_under_way.send_signal(number)
    _, err = run_under_way.communicate(timeout=20)
    run = (tmp_path / "runs" / "latest").resolve()
    assert run_under_way.returncode == -number  # died by the signal
    assert err.startswith(f"interrupted by {number.name}: saved after epoch ")
    assert err.endswith(f"Go on with 'mlpx resume {run}'.\n")
    document = document_of(run)
    assert (document["status"], document["exit_code"]) == ("interrupted", 128 + number)
    assert document["error"] == err.rstrip("\n")
    assert list((run / "checkpoints").glob("*.pt"))
    assert not list(run.rglob("*.tmp"))
    assert program("resume", "latest").code == 0
    assert outcome(run) == undisturbed
    assert document_of(run)["resumed_from_epoch"][0] > 0


def test_a_shell_loop_stops_too(tmp_path: Path) -> None:
    loop = f"for i in 1 2 3; do {shlex.join([*PROGRAM, *LONG])}; done; echo went on"
    with subprocess.Popen(
        ["bash", "-c", loop], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as shell:
        assert shell.stdout is not None
        for _ in range(3):
            shell.stdout.readline()
        os.killpg(shell.pid, signal.SIGINT)
        out, _ = shell.communicate(timeout=20)
    assert "went on" not in out
    assert shell.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert len([path for path in (tmp_path / "runs").iterdir() if not path.is_symlink()]) == 1


def test_a_signal_during_the_imports_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen([*PROGRAM, *LONG], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE)
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (-signal.SIGINT, b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("pause", "code"), [(0.55, -signal.SIGINT), (0.1, 0)])
def test_a_second_signal_ends_at_once_but_for_one_that_comes_with_the_first(pause: float, code: int) -> None:
    lines = (
        "import os, signal, time\n"
        "from mlpx.training.signals import StopFlag\n"
        "with StopFlag() as stop:\n"
        f"    os.kill(os.getpid(), signal.SIGTERM); time.sleep({pause}); print(stop.signum, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT); time.sleep(0.1); print(stop.signum)"
    )
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("15\n" if code else "15\n15\n", code)


def test_a_run_under_nohup_outlives_a_hangup(tmp_path: Path, undisturbed: Outcome) -> None:
    with subprocess.Popen(
        ["nohup", *PROGRAM, *LONG], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert outcome(tmp_path / "runs" / "latest") == undisturbed


def test_a_run_can_be_paused(run_under_way: Live) -> None:
    run_under_way.send_signal(signal.SIGTSTP)
    time.sleep(0.3)
    run_under_way.send_signal(signal.SIGCONT)
    assert run_under_way.wait(timeout=30) == 0


def test_a_reader_that_leaves_does_not_stop_the_run(tmp_path: Path, undisturbed: Outcome) -> None:
    line = f"{shlex.join([*PROGRAM, *LONG])} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.stdout.splitlines()[1:] == ["0"]
    assert done.stderr == ""
    assert outcome(tmp_path / "runs" / "latest") == undisturbed


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", ">&- 2>&-", "<&- >/dev/full 2>/dev/full"])
@pytest.mark.parametrize("view", ["", "--quiet", "--json"])
def test_output_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path, redirection: str, view: str) -> None:
    line = f"{shlex.join([*PROGRAM, 'poly', '--epochs', '40'])} {view} {redirection}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    run = tmp_path / "runs" / "latest"
    assert document_of(run)["status"] == "finished"
    assert (run / "metrics.csv").read_text().startswith("epoch,")


def test_a_terminal_that_vanishes_does_not_stop_a_run_under_nohup(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        ["nohup", *PROGRAM, *LONG], cwd=tmp_path, env=environment(), stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    while not list(tmp_path.glob("runs/*/metrics.csv")):
        time.sleep(0.01)
    os.close(controller)
    assert process.wait(timeout=30) == 0


def test_killed_runs_resume_bit_for_bit() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "kill_storm.py"), "--kills", "2", "--seed", "1", "--", *LONG]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    print("\n" + done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("2 of 2 equal")


def test_a_run_killed_before_its_first_checkpoint_starts_over_in_place(
    program: Program, tmp_path: Path, undisturbed: Outcome
) -> None:
    with live(LONG, tmp_path, environment()) as process:
        while not list(tmp_path.glob("runs/*/metrics.csv")):
            time.sleep(0.001)
        process.kill()
    run = (tmp_path / "runs" / "latest").resolve()
    with open(run / "metrics.csv", "a") as file:
        file.write("100,0.1")  # a torn row
    assert program("resume", "latest").code == 0
    assert outcome(run) == undisturbed
    assert document_of(run)["resumed_from_epoch"] == [0]
