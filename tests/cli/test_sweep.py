"""``mlpx sweep`` and ``mlpx resume SWEEP``: what they print, and that each run is the run of the command alone."""

import json
import re
import shlex
import time
from pathlib import Path

import pytest
from forks import live
from helpers import Program, Result, assert_fails, document_of, environment, mlpx, on_terminal, outcome
from sweeping import losses, make_sweep

from mlpx.cli import sweep_views
from mlpx.errors import Diverged, InputError
from mlpx.settings.base import Settings

pytestmark = pytest.mark.usefixtures("fork_server")

POLY = ("sweep", "poly", "--epochs", "2", "--degree", "1,19", "--device", "cpu")


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweeps lie in ``tmp_path/runs``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLPX_RUNS_DIR", raising=False)


def some_over(tmp_path: Path) -> Path:
    """A sweep of four runs: one has finished, one has diverged, one has failed and one waits."""

    def measure(settings: Settings, seed: int) -> dict[str, float] | Exception | None:
        errors = {1: Diverged("train_loss", "is nan at epoch 3"), 2: InputError("x.gz", "is empty", "Remove it.")}
        return losses(settings, seed) if seed == 0 else errors.get(seed)

    return make_sweep(tmp_path / "runs", "poly", {"epochs": "2", "seed": "0..3"}, measure, device="cpu").path


COMMANDS = [
    ("poly", "--degree", "1,4", "--epochs", "30", "--lr", "1e-3..1e-2..x10", "--replicas", "2"),
    ("mlp", "--dataset", "glyphs", "--num-train", "500", "--epochs", "1", "--hidden", "none,8x4", "--flip", "true"),
    ("transformer", "--num-layers", "1", "--d-model", "16", "--num-train", "50", "--epochs", "1", "--norm", "post"),
]


# What was typed, in its order, and no default.
FIRST = {
    "poly": "mlpx poly --degree 1 --epochs 30 --lr 0.001 --replicas 2",
    "mlp": "mlpx mlp --dataset glyphs --num-train 500 --epochs 1 --hidden none --flip",
    "transformer": "mlpx transformer --num-layers 1 --d-model 16 --num-train 50 --epochs 1 --norm post",
}
SUMMARIES = {"poly": "4 runs: degree 2 x lr 2", "mlp": "2 runs: hidden 2", "transformer": "1 run"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_each_run_equals_that_of_its_printed_command(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    planned = mlpx(capfd, "sweep", *command, "--dry-run")
    assert list(tmp_path.iterdir()) == []
    lines = planned.out.splitlines()
    assert planned.err == f"note: {SUMMARIES[command[0]]}\n"
    assert lines[0] == FIRST[command[0]]
    sweep = Path(mlpx(capfd, "sweep", *command, "--quiet", "--device", "cpu").out.strip())
    alone = set()
    for line in lines:
        done = mlpx(capfd, *shlex.split(line)[1:], "--quiet", "--device", "cpu")
        assert (done.code, done.err) == (0, "")
        alone.add(run_key(Path(done.out.strip())))
    assert {run_key(path.parent) for path in sweep.glob("*/config.toml")} == alone
    assert len(alone) == len(lines)


def run_key(run: Path) -> str:
    """All that two equal runs have in common."""
    weights, rows = outcome(run)
    return repr((weights, rows, (run / "config.toml").read_text()))


def test_the_screen_of_a_sweep(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result = mlpx(capfd, *POLY, "--jobs", "1")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:4] == [
        "2 runs: degree 2; 1 at a time, a core each",
        "",
        "run  degree  train loss  test loss  generalization loss   seconds",
        "───  ──────  ──────────  ─────────  ───────────────────  ────────",
    ]
    assert [line.split()[:2] for line in lines[4:6]] == [["1", "1"], ["2", "19"]]
    sweep = (tmp_path / "runs" / "latest").resolve()
    figures = document_of(sweep / "degree01")["metrics"]
    assert lines[4].split()[2] == f"{figures['train_loss']:.4g}"
    assert re.fullmatch(r"2 finished in \d+\.\d s; picture in sweep.png", lines[-2])
    assert lines[-1] == str(sweep)


def test_a_sweep_that_goes_on_shows_what_is_left_and_why_runs_failed(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep = some_over(tmp_path)
    (sweep / "seed3" / "output.log").mkdir()
    result = mlpx(capfd, "resume", str(sweep))
    lines = result.out.splitlines()
    assert lines[0] == "4 runs: seed 4; 2 to go; 2 at a time, a core each"
    # The run that had failed before is tried again.
    assert sorted(line.split()[0] for line in lines[4:6]) == ["3", "4"]
    failed = next(line for line in lines[4:6] if line.split()[0] == "4")
    assert failed == f"  4     3  failed: {sweep}/seed3/output.log: Is a directory. Fix it, and try again."
    assert_fails(result, 6, "sweep: 2 finished, 1 diverged, 1 failed", f"'mlpx resume {sweep}'")


def test_json_lines(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sweep = some_over(tmp_path)
    (sweep / "seed3" / "output.log").mkdir()
    result = mlpx(capfd, "resume", str(sweep), "--json")
    start, *runs, end = [json.loads(line) for line in result.out.splitlines()]
    assert start == {
        "event": "start",
        "sweep": str(sweep),
        "experiment": "poly",
        "settings": {"epochs": 2, "seed": "0..3"},
        "runs": 4,
        **dict.fromkeys(("finished", "diverged", "failed", "waiting"), 1),
    }
    assert end == {"event": "end", "runs": 4, "finished": 2, "diverged": 1, "failed": 1, "exit_code": 6}
    assert result.code == 6
    by_seed = {run["settings"]["seed"]: run for run in runs}
    assert {seed: (run["status"], run["error"] is None) for seed, run in by_seed.items()} == {
        2: ("finished", True),
        3: ("failed", False),
    }
    assert by_seed[2]["run"] == str(sweep / "seed2")
    assert by_seed[2]["metrics"]["test_loss"] == document_of(sweep / "seed2")["metrics"]["test_loss"]


def test_quiet_prints_the_path_alone(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert mlpx(capfd, "resume", str(some_over(tmp_path)), "--quiet") == Result(
        0, f"{(tmp_path / 'runs' / 'latest').resolve()}\n", ""
    )


def test_where_nothing_is_to_go_the_results_are_printed_once_more(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep = make_sweep(tmp_path / "runs", "poly", {"seed": "0..1"}, losses).path
    result = mlpx(capfd, "resume", str(sweep))
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "2 runs: seed 2; all of them are over"
    assert lines[-2].startswith("2 finished in ")
    assert lines[-1] == str(sweep)


def test_all_diverged_is_4(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def measure(settings: Settings, seed: int) -> Exception:
        return Diverged("train_loss", "is nan at epoch 3")

    sweep = make_sweep(tmp_path / "runs", "poly", {"seed": "0..1"}, measure).path
    assert_fails(mlpx(capfd, "resume", str(sweep)), 4, "all runs have diverged")


def test_a_check_judges_each_run(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "runs", "poly", {"degree": "1..4"}, losses).path
    result = mlpx(capfd, "resume", str(sweep), "--check", "generalization_loss < 0.0205", "--quiet")
    assert_fails(result, 3, "check: generalization_loss < 0.0205 fails in 1 of 4 runs".removeprefix("check: "))
    assert mlpx(capfd, "resume", str(sweep), "--check", "generalization_loss < 9", "--quiet").code == 0
    assert_fails(mlpx(capfd, "resume", str(sweep), "--check", "generalisation_loss < 9"), 2, "Did you mean")


@pytest.mark.parametrize("option", [("--device", "cpu"), ("--checkpoint-every", "1"), ("--epochs", "9")])
def test_what_a_sweep_began_with_stays(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, option: tuple[str, str]
) -> None:
    sweep = make_sweep(tmp_path / "runs", "poly", {"seed": "0..1"}, losses).path
    assert_fails(mlpx(capfd, "resume", str(sweep), *option), 2, option[0], "keep what they began with")


def test_without_a_terminal_a_line_tells_how_far_it_is_when_nothing_ends(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_views, "QUIET_SECONDS", 0.05)
    result = mlpx(capfd, *POLY, "--jobs", "1")
    notes = result.err.splitlines()
    assert notes[0] == "note: 0 of 2 done, 1 running, unknown left"
    assert re.fullmatch(r"note: 1 of 2 done, 1 running, \d:\d\d:\d\d left", notes[-1])
    monkeypatch.setattr(sweep_views, "QUIET_SECONDS", 60)
    assert mlpx(capfd, *POLY).err == ""


@pytest.mark.program
def test_on_a_terminal_no_line_is_too_long_and_the_bar_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "degree,lr,noise_std,num_train,batch_size\n3,0.01,0.125,100,10\n4,0.02,0.5,200,20"
    )
    text = on_terminal(["sweep", "poly", "--epochs", "3000", "--cells", "rows.csv", "--jobs", "1"], tmp_path, 80)
    assert "0/2" in text
    assert "1/2" in text
    shown = [""]
    # What stands on the screen in the end: the bar goes up and clears, which takes back what it wrote.
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r\n|\r|\n)", text):
        if part in ("\r\n", "\n"):
            shown.append("")
        elif part == "\x1b[2K":
            shown[-1] = ""
        elif part == "\x1b[1A":
            shown.pop()
        elif part != "\r" and not part.startswith("\x1b"):
            shown[-1] += part
        assert len(shown[-1]) <= 80 or shown[-1].startswith("/"), shown[-1]
    assert "━" not in "\n".join(shown)
    assert "left" not in "\n".join(shown)
    assert [line.split()[:2] for line in shown[4:6]] == [["1", "3"], ["2", "4"]]


@pytest.mark.program
def test_a_signal_makes_all_runs_save_and_the_sweep_goes_on_from_there(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ("sweep", "poly", "--degree", "3..5", "--epochs", "4000", "--eval-every", "100", "--jobs", "2")
    (tmp_path / "temporary").mkdir()
    with live([*command, "--quiet"], tmp_path, environment(TMPDIR=str(tmp_path / "temporary"))) as process:
        sweep = Path(process.stdout.readline().strip())
        while len(list(sweep.glob("*/metrics.csv"))) < 2:
            time.sleep(0.01)
        process.send_signal(2)
        _, err = process.communicate(timeout=30)
    assert process.returncode == -2
    assert list((tmp_path / "temporary").iterdir()) == []
    assert err == f"interrupted by SIGINT: 2 interrupted, 1 waiting. Go on with 'mlpx resume {sweep}'.\n"
    assert mlpx(capfd, "resume", "latest").code == 0
    resumed = [document_of(sweep / f"degree{degree}")["resumed_from_epoch"] for degree in (3, 4, 5)]
    assert [len(epochs) for epochs in resumed] == [1, 1, 0]
    alone = mlpx(capfd, "poly", "--degree", "4", *command[4:8], "--quiet")
    assert outcome(Path(alone.out.strip())) == outcome(sweep / "degree4")


@pytest.mark.program
def test_json_tells_the_exit_code_of_a_sweep_that_a_signal_stopped(program: Program, tmp_path: Path) -> None:
    with live(
        ["sweep", "poly", "--epochs", "100000000", "--seed", "1,2", "--json"], tmp_path, environment()
    ) as process:
        process.stdout.readline()
        process.send_signal(15)
        out, _ = process.communicate(timeout=30)
    assert json.loads(out.splitlines()[-1])["exit_code"] == 143
