"""The whole program on small settings: what it prints, what it leaves, and that this repeats."""

import csv
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from forks import live
from helpers import PROGRAM, Program, document_of, environment, on_terminal, rows_of
from safetensors import safe_open
from safetensors.torch import load_file

pytestmark = pytest.mark.program

FILES = {
    "checkpoints",
    "config.toml",
    "fit.png",
    "claims",
    "lock",
    "loss.png",
    "metrics.csv",
    "run.json",
    "weights.csv",
    "weights.safetensors",
}
SHORT = ("--degree", "4", "--epochs", "45")


@pytest.mark.smoke
def test_a_run_leaves_exactly_the_promised_files(program: Program, tmp_path: Path) -> None:
    result = program("poly", *SHORT)
    assert (result.code, result.err) == (0, "")
    (run,) = [path for path in (tmp_path / "runs").iterdir() if not path.is_symlink()]
    assert {path.name for path in run.iterdir()} == FILES
    assert os.readlink(tmp_path / "runs" / "latest") == run.name
    assert run.name.endswith("-poly-degree4")
    assert result.out.splitlines()[-1] == str(run)

    assert (run / "metrics.csv").read_text().startswith("epoch,train_loss,test_loss,generalization_loss,seconds\n1,")
    assert [row["epoch"] for row in rows_of(run)] == ["1", "20", "40", "45"]
    document = document_of(run)
    assert document["status"] == "finished"
    assert document["exit_code"] == 0
    assert document["command"] == "mlpx poly --degree 4 --epochs 45"
    assert document["resumed_from_epoch"] == []
    assert document["verdict"] in ("underfitting", "fitting", "overfitting")
    assert str(document["verdict_reason"]) in result.out
    metrics = document["metrics"]
    assert {name: str(metrics[name]) for name in rows_of(run)[-1]} == rows_of(run)[-1]

    (weight,) = load_file(run / "weights.safetensors").values()
    with open(run / "weights.csv") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["power", "learned", "true", "least_squares"]
    assert [row["power"] for row in table] == ["0", "1", "2", "3", "4"]
    assert [float(row["true"]) for row in table] == [5.0, 1.2, -3.4, 5.6, 0.0]
    assert [float(row["learned"]) for row in table] == weight[0].double().tolist()
    layer = torch.nn.Linear(5, 1, bias=False)
    layer.load_state_dict({"weight": weight})
    with safe_open(run / "weights.safetensors", "pt") as file:
        assert json.loads(file.metadata()["settings"])["degree"] == 4
    (checkpoint,) = (run / "checkpoints").iterdir()
    assert torch.load(checkpoint, weights_only=True)["settings"]["degree"] == 4
    for picture in ("loss.png", "fit.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.smoke
def test_config_repeats_a_run_exactly(program: Program, tmp_path: Path) -> None:
    first = Path(program("poly", *SHORT, "--seed", "7", "--lr", "0.02", "--quiet").out.strip())
    again = Path(program("poly", "--config", str(first / "config.toml"), "--quiet").out.strip())
    assert first != again
    assert rows_of(first) == rows_of(again)
    assert (first / "config.toml").read_bytes() == (again / "config.toml").read_bytes()
    assert (first / "weights.safetensors").read_bytes() == (again / "weights.safetensors").read_bytes()


def test_typed_options_override_the_file_and_the_file_the_defaults(program: Program, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("degree = 2\nepochs = 7\n")
    out = program("poly", "--config", "my.toml", "--epochs", "5", "--json").out
    settings = json.loads(out.splitlines()[0])["settings"]
    assert (settings["degree"], settings["epochs"], settings["lr"]) == (2, 5, 0.01)


@pytest.mark.smoke
def test_json_is_json_lines_and_nothing_else(program: Program, tmp_path: Path) -> None:
    result = program("poly", *SHORT, "--json")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert [event["event"] for event in events] == ["start", "epoch", "epoch", "epoch", "epoch", "end"]
    run = Path(events[0]["run"])
    assert events[0]["experiment"] == "poly"
    for event, row in zip(events[1:-1], rows_of(run), strict=True):
        assert list(event) == ["event", *row, "seconds"]
        assert {key: str(event[key]) for key in row} == row
    assert events[-1]["status"] == "finished"
    assert events[-1]["metrics"] == document_of(run)["metrics"]
    assert result.err == ""


def test_json_of_a_diverged_run_has_null_for_nan(program: Program) -> None:
    result = program("poly", "--lr", "1e30", "--json")
    assert result.code == 4
    _, epoch, end = map(json.loads, result.out.splitlines())
    assert epoch["train_loss"] is None
    assert (end["status"], end["exit_code"]) == ("diverged", 4)


def test_quiet_prints_the_path_alone(program: Program, tmp_path: Path) -> None:
    result = program("poly", *SHORT, "--quiet")
    assert result.out == f"{(tmp_path / 'runs' / 'latest').resolve()}\n"
    assert result.err == ""
    assert program("resume", "latest", "--quiet").out == result.out


def test_name_ends_the_folders_name(program: Program) -> None:
    assert program("poly", *SHORT, "--name", "first.try-1", "--quiet").out.endswith("-poly-first.try-1\n")


def test_runs_dir_from_option_and_environment(program: Program, tmp_path: Path) -> None:
    there = program("poly", *SHORT, "--quiet", env=environment(MLPX_RUNS_DIR=str(tmp_path / "ä b" / "🏃"))).out
    assert Path(there.strip()).parent == tmp_path / "ä b" / "🏃"
    other = program("poly", *SHORT, "--quiet", "--runs-dir", "x", env=environment(MLPX_RUNS_DIR="y")).out
    assert Path(other.strip()).parent == tmp_path / "x"


def test_checks_decide_between_0_and_3(program: Program, tmp_path: Path) -> None:
    fine = program("poly", *SHORT, "--check", "test_loss<1e3", "--check", "epoch == 45")
    assert (fine.code, fine.err) == (0, "")
    bad = program("poly", *SHORT, "--check", "test_loss < 1e3", "--check", "train_loss >= 1e3")
    assert bad.code == 3
    assert bad.err.count("\n") == 1
    assert bad.err.startswith("error: check: train_loss >= 1000 does not hold, it is ")
    document = document_of(tmp_path / "runs" / "latest")
    assert (document["status"], document["exit_code"]) == ("finished", 3)
    assert program("resume", "latest", "--check", "train_loss < 1e-9").code == 3


@pytest.mark.smoke
def test_a_finished_run_says_so_and_can_be_extended(program: Program, tmp_path: Path) -> None:
    short = Path(program("poly", *SHORT, "--quiet").out.strip())
    result = program("resume", "latest")
    assert (result.code, result.out) == (0, f"already finished: 45 epochs\n{short}\n")
    assert program("resume", "latest", "--epochs", "44").code == 2
    assert program("resume", short.name, "--epochs", "90").code == 0
    long = Path(program("poly", "--degree", "4", "--epochs", "90", "--quiet").out.strip())
    assert [row["epoch"] for row in rows_of(short)] == ["1", "20", "40", "60", "80", "90"]
    assert rows_of(short) == rows_of(long)
    assert (short / "weights.safetensors").read_bytes() == (long / "weights.safetensors").read_bytes()
    assert document_of(short)["resumed_from_epoch"] == [44]


def test_python_dash_m_is_the_same_program_as_the_script(program: Program) -> None:
    script = Path(PROGRAM[0]).with_name("mlpx")
    done = subprocess.run([script, "poly", "--help"], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout == program("poly", "--help").out


def test_rows_arrive_one_by_one_in_a_pipe(tmp_path: Path) -> None:
    """A row is read while the run is not far ahead of it; a buffer of 8 KiB would hold back the first hundred rows."""
    with live(["poly", "--epochs", "1000000", "--eval-every", "1000"], tmp_path, environment()) as process:
        lines = [process.stdout.readline() for _ in range(5)]
        written = len(rows_of(tmp_path / "runs" / "latest"))
    assert [line.split()[0] for line in lines[2:]] == ["1", "1000", "2000"]
    print(f"\n{written} rows were written when the third was read")
    assert written < 50


SLOW_RUN = ["poly", "--num-train", "100000", "--epochs", "30", "--eval-every", "30", "--degree", "2"]


@pytest.mark.parametrize("columns", [80, 132])
def test_a_terminal_has_rows_and_a_bar_that_leaves_no_trace(tmp_path: Path, columns: int) -> None:
    text = on_terminal(SLOW_RUN, tmp_path, columns)
    assert "left" in text  # the bar's time left
    assert "\x1b[1m" in text  # a bold head
    # Whatever the bar wrote was erased before the row that followed: replay the lines as a terminal would.
    last_screen = [line.split("\x1b[2K")[-1].split("\r")[-1] for line in text.replace("\r\n", "\n").split("\n")]
    table = [line for line in last_screen if line.strip()[:2].strip() in ("1", "30")]
    assert len(table) >= 2


@pytest.mark.parametrize("changes", [{"TERM": "dumb"}, {"TERM": None}, {"CI": "true"}])
def test_no_animation_where_it_is_not_wanted(tmp_path: Path, changes: dict[str, str | None]) -> None:
    text = on_terminal(SLOW_RUN, tmp_path, 80, **changes)
    assert "left" not in text
    assert "\x1b[2K" not in text


def test_no_color_is_honoured_and_force_color_never_animates(program: Program, tmp_path: Path) -> None:
    text = on_terminal(["poly", *SHORT], tmp_path, 80, NO_COLOR="1")
    assert "\x1b[3" not in text
    forced = program("poly", *SHORT, env=environment(FORCE_COLOR="1"))
    assert "\x1b[1m" in forced.out
    assert "\x1b[2K" not in forced.out + forced.err
    assert "\x1b" not in program("poly", *SHORT).out
