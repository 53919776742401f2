"""``mlpx show`` of a sweep: one screen, whatever state its runs are in."""

import json
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers import Result, assert_fails, environment, mlpx
from sweeping import Figures, losses, make_sweep, scores

from mlpx.cli import times
from mlpx.errors import Diverged, InputError, MachineError
from mlpx.runs import reading
from mlpx.sweeps.folder import Sweep

SLOW = ("torch", "matplotlib", "numpy", "scipy", "plotille")


class _Later(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + timedelta(minutes=3)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, on a screen of 80 by 24, three minutes after the runs have ended."""
    monkeypatch.setattr(times, "datetime", _Later)
    monkeypatch.delenv("MLPX_RUNS_DIR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measure(settings: Any, seed: int) -> Figures | Exception | None:
    """One run diverges, two lack their data, one is out of memory, and one has not started."""
    cell = (settings.degree, seed)
    if cell == (19, 1):
        return Diverged("diverged", "train_loss is nan at epoch 20", "Try a lower --lr.")
    if cell in ((19, 2), (3, 2)):
        return InputError("data", "is missing", "Fetch it.")
    if cell == (1, 2):
        return MachineError("out of memory", "tried to allocate 20 GiB", "Free memory.")
    return None if cell == (1, 0) else losses(settings, seed)


def make(runs_dir: Path) -> Sweep:
    """A sweep of nine runs that have ended in every way."""
    return make_sweep(runs_dir, "poly", {"epochs": "100", "degree": "1,3,19", "seed": "0..2", "lr": "0.01"}, measure)


def shown(capfd: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines of the screen."""
    result = mlpx(capfd, "show", *arguments)
    assert result.code == 0, result
    return result.out.splitlines()


def test_one_screen_says_what_was_asked_how_far_it_is_why_runs_failed_and_how_to_go_on(
    capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    sweep = make(Path("runs"))
    name = sweep.path.name
    lines = shown(capfd, "latest")
    assert lines[0] == f"{name}  poly: degree 1,3,19, seed 0..2, epochs 100"  # --lr 0.01 is the default
    assert lines[1] == "9 runs (degree 3 x seed 3): 1 waiting, 4 finished, 1 diverged, 3 failed; the"
    assert lines[2] == "last ended 3 min ago"
    assert lines[3] == "degree03-seed2 and 1 more: data: is missing. Fetch it."
    assert lines[4] == "degree01-seed2: out of memory: tried to allocate 20 GiB. Free memory."
    assert lines[6] == "over 3 seeds, mean ± standard deviation"
    assert [line.split()[:2] for line in lines[9:12]] == [["3", "2"], ["1", "1"], ["19", "1"]]
    assert lines[11].endswith("1 diverged, 1 failed")
    assert lines[12] == "The best by generalization loss: degree 3."
    assert lines[14:] == [
        f"folder    {sweep.path}",
        f"resume    mlpx resume runs/{name}",
        f"list      mlpx runs runs/{name}",
        f"repeat    mlpx sweep poly --config runs/{name}/sweep.toml",
    ]


def test_a_sweep_that_has_ended_is_not_to_be_resumed_and_has_a_picture(
    capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    sweep = make_sweep(Path("r"), "poly", {"degree": "1,3"}, losses)
    (sweep.path / "sweep.png").touch()
    lines = shown(capfd, str(sweep.path))
    assert not [line for line in lines if line.startswith("resume")]
    assert f"picture   sweep.png in {sweep.path}" in lines or "picture   sweep.png" in lines


def test_changes_made_one_at_a_time_keep_their_order_and_the_command_that_compares_them_is_named(
    capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    asked = {"hidden": "256,512", "dropout": "0,0.5", "jitter": "0,2", "seed": "0..2"}
    sweep = make_sweep(Path("runs"), "mlp", asked, scores, one_at_a_time=True)
    lines = shown(capfd, "latest")
    assert "12 runs (the base and 3 changes x seed 3): 12 finished; the last ended 3 min ago" in lines
    starts = [line.split("  ")[0] for line in lines]
    assert starts[starts.index("the base") :][:4] == ["the base", "hidden 512", "dropout 0.5", "jitter 2"]
    assert f"compare   mlpx compare runs/{sweep.path.name}" in lines


@pytest.mark.parametrize("height", [16, 24, 40])
def test_a_long_table_is_cut_to_the_height_of_the_screen(
    capfd: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch, height: int
) -> None:
    monkeypatch.setenv("LINES", str(height))
    sweep = make_sweep(Path("runs"), "poly", {"degree": "0..19", "lr": "0.01,0.02", "seed": "0..1"}, losses)
    result = mlpx(capfd, "show", "latest")
    lines = result.out.splitlines()
    assert sum(-(-len(line) // 80) for line in lines) <= max(height - 2, 17)
    (more,) = [line for line in lines if line.startswith("and ")]
    rows = [line for line in lines if " ± " in line and line[0] in " 0123456789"]
    assert more == f"and {40 - len(rows)} more: mlpx runs runs/{sweep.path.name}"


def test_a_narrow_screen_leaves_out_columns_and_breaks_no_line(
    capfd: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    make_sweep(Path("runs"), "poly", {"degree": "0..4", "lr": "0.01,0.02", "seed": "0..1"}, losses)
    result = mlpx(capfd, "show", "latest")
    assert result.err == "note: no room for train loss, test loss: widen the terminal\n"
    table = [line for line in result.out.splitlines() if " ± " in line]
    assert max(map(len, table)) <= 40


def test_before_anything_has_ended_there_is_no_table(capfd: pytest.CaptureFixture[str], home: Path) -> None:
    make_sweep(Path("runs"), "poly", {"degree": "1,3"}, lambda settings, seed: None)
    lines = shown(capfd, "latest")
    assert lines[1] == "2 runs (degree 2): 2 waiting"
    assert [line.split()[0] for line in lines[2:]] == ["folder", "resume", "list", "repeat"]


def test_cells_and_lists_are_shown_as_they_were_asked_for(capfd: pytest.CaptureFixture[str], home: Path) -> None:
    make_sweep(Path("runs"), "mlp", {"hidden": "none,512x256", "dataset": "glyphs"}, scores, cells="lr\n0.1\n0.2\n")
    lines = shown(capfd, "latest")
    assert lines[0].endswith("  mlp: hidden none,512x256, dataset glyphs")
    assert lines[1].startswith("4 runs (2 rows x hidden 2): 4 finished")


def test_json_is_one_object_and_quiet_the_path(capfd: pytest.CaptureFixture[str], home: Path) -> None:
    sweep = make(Path("runs"))
    result = mlpx(capfd, "show", "latest", "--json")
    (line,) = result.out.splitlines()
    found = json.loads(line)
    assert found["sweep"] == str(sweep.path)
    assert found["experiment"] == "poly"
    assert found["settings"] == {"degree": "1,3,19", "seed": "0..2", "epochs": 100, "lr": 0.01}
    assert found["options"]["cores"] == 1
    assert (found["runs"], found["statuses"]) == (9, {"waiting": 1, "finished": 4, "diverged": 1, "failed": 3})
    assert found["picture"] is None
    assert [(group["settings"]["degree"], group["n"]) for group in found["groups"]] == [(1, 1), (3, 2), (19, 1)]
    assert mlpx(capfd, "show", "latest", "--quiet") == Result(0, f"{sweep.path}\n", "")


def test_what_cannot_be_read_costs_a_warning_each_and_many_one_more(
    capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    sweep = make_sweep(Path("runs"), "poly", {"degree": "0..19"}, losses)
    for path in reading.runs_in(sweep.path)[:6]:
        (path / "run.json").write_text("{")
    result = mlpx(capfd, "show", "latest")
    warnings = result.err.splitlines()
    assert len(warnings) == 4
    assert warnings[0].startswith("warning: degree00 is left out")
    assert warnings[3] == "warning: and 3 more runs are left out"
    assert len(result.out.splitlines()) + len(warnings) <= 22


def test_a_sweep_has_no_curve_and_a_broken_one_is_an_error(capfd: pytest.CaptureFixture[str], home: Path) -> None:
    sweep = make_sweep(Path("runs"), "poly", {"degree": "1,3"}, losses)
    assert_fails(mlpx(capfd, "show", "latest", "--curve", "test_loss"), 2, "--curve", "no curves")
    (sweep.path / "sweep.toml").write_text("experiment = 'poly'\ndegree = '1..'\n")
    assert_fails(mlpx(capfd, "show", "latest"), 5, "sweep.toml")


def test_a_run_of_a_sweep_is_shown_as_any_other(capfd: pytest.CaptureFixture[str], home: Path) -> None:
    sweep = make_sweep(Path("runs"), "poly", {"degree": "1,3"}, losses)
    assert shown(capfd, f"{sweep.path.name}/degree3")[0].startswith("degree3  poly: ")


def test_nothing_slow_is_imported(home: Path) -> None:
    make_sweep(Path("runs"), "mlp", {"hidden": "64,32", "dropout": "0,0.1"}, scores, one_at_a_time=True)
    code = (
        "import sys; sys.argv = ['mlpx', 'show', 'latest']\n"
        "from mlpx.__main__ import main\n"
        f"code = main(); print([m for m in {SLOW!r} if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


@pytest.mark.slow
def test_a_hundred_runs_are_shown_in_less_than_half_a_second(home: Path) -> None:
    make_sweep(Path("runs"), "poly", {"degree": "0..19", "seed": "0..4"}, losses)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "mlpx", "show", "latest"], capture_output=True, env=environment(), check=True
        )
        seconds.append(time.perf_counter() - began)
    print(f"\nmlpx show SWEEP of 100 runs: {min(seconds):.3f} s at best, {sorted(seconds)[2]:.3f} s in the median")
    assert min(seconds) < 0.5
