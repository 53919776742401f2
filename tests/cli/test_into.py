"""``--into FOLDER`` of a training command: one command starts a run, and goes on with it."""

import json
import os
import signal
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from forks import start_fork
from helpers import Program, Result, assert_fails, document_of, environment, outcome

POLY = ("poly", "--epochs", "40", "--degree", "3", "--into", "here")


def started(command: list[str], folder: Path) -> ForkServerProcess:
    """The program, whose output no one reads."""
    with open(os.devnull, "r+") as nothing:
        return start_fork(command, folder, environment(), 3 * [nothing.fileno()])


def test_the_folder_is_exactly_that_one(program: Program, tmp_path: Path) -> None:
    result = program(*POLY, "--quiet")
    assert result == Result(0, f"{tmp_path / 'here'}\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]
    assert program("poly", "--epochs", "40", "--degree", "3").code == 0
    assert outcome(tmp_path / "here") == outcome(tmp_path / "runs" / "latest")


def test_parents_are_made_and_an_empty_folder_is_filled(program: Program, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert program(*POLY).code == 0
    assert document_of(tmp_path / "here")["status"] == "finished"
    assert program(*POLY[:-1], "a/b/c").code == 0
    assert document_of(tmp_path / "a" / "b" / "c")["status"] == "finished"


def test_a_finished_run_is_said_to_be_so_and_judged_again(program: Program, tmp_path: Path) -> None:
    assert program(*POLY).code == 0
    before = (tmp_path / "here" / "run.json").read_bytes()
    again = program(*POLY)
    assert (again.code, again.err) == (0, "")
    assert again.out.splitlines() == ["already finished: 40 epochs", str(tmp_path / "here")]
    assert_fails(program(*POLY, "--check", "test_loss < 0"), 3, "does not hold")
    assert (tmp_path / "here" / "run.json").read_bytes() == before


def test_a_command_that_is_repeated_after_each_signal_ends_equal_to_one_that_was_not_disturbed(tmp_path: Path) -> None:
    command = ("poly", "--epochs", "20000", "--eval-every", "500", "--quiet", "--into")
    codes: list[int | None] = []
    for _ in range(2):
        process = started([*command, "here"], tmp_path)
        rows, before = tmp_path / "here" / "metrics.csv", len(codes)
        # Lines are counted, because the header may not be there yet.
        while not rows.exists() or rows.read_text().count("\n") < 4 + 5 * before:
            assert process.exitcode is None
        os.kill(process.pid or 0, signal.SIGTERM)
        process.join()
        codes.append(process.exitcode)
    for folder in ("here", "undisturbed"):
        process = started([*command, folder], tmp_path)
        process.join()
        codes.append(process.exitcode)
    assert codes == [-signal.SIGTERM, -signal.SIGTERM, 0, 0]
    assert len(document_of(tmp_path / "here")["resumed_from_epoch"]) == 2
    assert outcome(tmp_path / "here") == outcome(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--degree", "4"), ("has other settings: degree is 3 there, not 4", "Give the same settings")),
        (("--epochs", "80"), ("epochs is 40 there, not 80", "mlpx resume here --epochs 80")),
        (("--epochs", "20"), ("epochs is 40 there, not 20", "Give the same settings")),
        (("--name", "x"), ("--into and --name", "exclude each other")),
    ],
)
def test_other_settings_are_refused(
    program: Program, tmp_path: Path, words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    assert program(*POLY).code == 0
    before = sorted((path, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*"))
    assert_fails(program(*POLY, *words), 2, "--into", *said)
    assert sorted((path, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_another_experiment_is_refused(program: Program, tmp_path: Path) -> None:
    assert program(*POLY).code == 0
    assert_fails(program("transformer", "--into", "here"), 2, "--into: here is a run of poly")


def test_what_is_no_run_is_left_alone(program: Program, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "notes").write_text("mine")
    assert_fails(program(*POLY), 2, "here is there already, and is no run")
    (tmp_path / "file").touch()
    assert_fails(program(*POLY[:-1], "file"), 2, "file is there already, and is no run")
    assert_fails(program(*POLY[:-1], "file/below"), 6, "--into: cannot make")
    assert_fails(program(*POLY[:-1], "a\0b"), 2, "--into")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["file", "here", "here/notes"]


def test_a_run_of_a_sweep_can_be_carried_out_by_its_own_command(program: Program, tmp_path: Path) -> None:
    assert program("sweep", "poly", "--degree", "1,3", "--epochs", "20", "--into", "s", "--quiet").code == 0
    again = program("poly", "--degree", "1", "--epochs", "20", "--into", "s/degree1", "--json")
    assert json.loads(again.out.splitlines()[-1])["status"] == "finished"


def test_two_at_once_make_one_run(tmp_path: Path) -> None:
    """One of them trains, and the other is told that the run is held, or was made just now."""
    command = ["poly", "--epochs", "4000", "--degree", "3", "--into", "here", "--quiet"]
    processes = [started(command, tmp_path) for _ in range(4)]
    for process in processes:
        process.join()
    assert sorted(process.exitcode or 0 for process in processes) == [0, 75, 75, 75]
    assert document_of(tmp_path / "here")["resumed_from_epoch"] == []
