"""``torchrun … -m mlpx``: one run of several processes, which stop, fail and go on together."""

import os
import signal
import time
from pathlib import Path

import launching
import pytest
from helpers import Program, Result, assert_fails, document_of, environment, outcome
from launching import ENDS_WITHIN, TRAINING, workers


def train(folder: Path, into: str, processes: int = 2) -> Result:
    """The training in the run folder ``into``, begun or gone on with."""
    return launching.run(launching.torchrun(processes, "-m", "mlpx", *TRAINING, "--into", into), folder)


def disturb(folder: Path, into: str, rank: int | None, signum: int) -> int:
    """Send a signal to a process of the training, ``None`` for torchrun, in its middle; torchrun's exit code.

    No process may be left ``ENDS_WITHIN`` seconds later.
    """
    rows = folder / into / "metrics.csv"
    before = rows.read_text().count("\n") if rows.exists() else 1
    command = launching.torchrun(2, "-m", "mlpx", *TRAINING, "--into", into)
    with launching.start(command, folder) as process:
        until = time.monotonic() + launching.SECONDS
        while not rows.exists() or rows.read_text().count("\n") <= before:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.01)
        started = workers(process.pid)
        assert sorted(started) == [0, 1]
        os.kill(process.pid if rank is None else started[rank], signum)
        process.communicate(timeout=ENDS_WITHIN)
        until = time.monotonic() + ENDS_WITHIN
        while any(Path(f"/proc/{number}").exists() for number in started.values()):
            assert time.monotonic() < until
            time.sleep(0.05)
    return process.returncode


@pytest.mark.slow
def test_they_train_one_run_and_go_on_with_it_bit_for_bit_whatever_ended_it(program: Program, tmp_path: Path) -> None:
    launching.require_network()
    result = train(tmp_path, "undisturbed")
    assert (result.code, result.out) == (0, f"{tmp_path / 'undisturbed'}\n")
    document = document_of(tmp_path / "undisturbed")
    assert (document["status"], document["processes"], document["hosts"]) == ("finished", 2, [document["host"]])

    assert disturb(tmp_path, "here", None, signal.SIGTERM) != 0
    assert document_of(tmp_path / "here")["status"] == "interrupted"
    assert "interrupted by SIGTERM: saved after epoch" in document_of(tmp_path / "here")["error"]
    assert disturb(tmp_path, "here", 1, signal.SIGKILL) != 0
    assert document_of(tmp_path / "here")["status"] == "failed"
    assert "another process of this training: has ended" in document_of(tmp_path / "here")["error"]
    again = train(tmp_path, "here")
    assert again.code == 0, again.err
    assert len(document_of(tmp_path / "here")["resumed_from_epoch"]) == 2
    assert outcome(tmp_path / "here") == outcome(tmp_path / "undisturbed")

    # The weights are those of a run like any other.
    assert program("evaluate", "undisturbed").code == 0
    (tmp_path / "runs").mkdir(exist_ok=True)
    done = train(tmp_path, "undisturbed")
    assert (done.code, done.err.count("Traceback")) == (0, 0), done.err


def test_another_number_of_processes_goes_on_and_says_that_bits_will_differ(program: Program, tmp_path: Path) -> None:
    launching.require_network()
    assert disturb(tmp_path, "here", 0, signal.SIGINT) != 0
    assert document_of(tmp_path / "here")["status"] == "interrupted"
    done = program("resume", "here", "--quiet")
    assert done.code == 0
    assert done.err == ("warning: the checkpoint was made in 2 processes, and this is one process: bits will differ\n")
    document = document_of(tmp_path / "here")
    assert (document["status"], "processes" in document) == ("finished", False)


def test_a_failure_of_the_first_is_told_once_and_ends_all(tmp_path: Path) -> None:
    launching.require_network()
    (tmp_path / "here").write_text("no folder")
    began = time.monotonic()
    result = train(tmp_path, "here")
    assert result.code != 0
    assert result.err.count("error: --into: ") == 1
    assert time.monotonic() - began < ENDS_WITHIN + 10


@pytest.mark.parametrize(
    "command",
    ["poly --epochs 1", "mlp --dataset glyphs --epochs 1", "runs", "sweep poly --degree 1,2", "show latest"],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_what_has_no_use_for_several_processes_says_so_once(
    command: str, rank: int, program: Program, tmp_path: Path
) -> None:
    result = program(*command.split(), env=environment(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank)))
    if rank:
        assert result == Result(2, "", "")
    else:
        assert_fails(result, 2, "has no use for several processes", "torchrun started 2")
    assert not list(tmp_path.iterdir())


def test_a_run_that_one_process_trains_is_not_resumed_by_several(program: Program, tmp_path: Path) -> None:
    assert program("poly", "--epochs", "3", "--into", "here").code == 0
    result = program("resume", "here", env=environment(RANK="0", WORLD_SIZE="2", LOCAL_RANK="0"))
    assert_fails(result, 2, "mlpx poly", "has no use for several processes")


def test_variables_that_contradict_one_another_are_a_usage_error(program: Program) -> None:
    env = environment(RANK="0", WORLD_SIZE="2", LOCAL_RANK="7", MASTER_ADDR=None)
    assert_fails(program("transformer", env=env), 2, "no place among several processes")
