"""``mlpx runs`` and sweeps: a row a sweep, a row a run of it, and choosing among the runs of all."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Result, assert_fails, environment, mlpx, on_terminal, write_result, write_run, write_sweep

from mlpx.cli.grids import Cell, Column
from mlpx.cli.listing import _fitted
from mlpx.errors import Diverged, InputError
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.runs import records
from mlpx.sweeps.folder import Sweep

Runs = Callable[..., Result]

DIVERGED = str(Diverged("diverged", "train_loss is nan at epoch 3", "Try a lower --lr."))
FAILED = str(InputError("/data/images.gz", "No such file or directory", "Fix it, then go on with 'mlpx resume'."))


def figures(loss: float) -> dict[str, float]:
    names = ("train_loss", "test_loss", "generalization_loss")
    return {"epoch": 400, **dict.fromkeys(names, loss), "test_accuracy": 1 - loss, "seconds": 1.0}


def dated(path: Path, day: int) -> Path:
    """The run, as if it had started on that day."""
    document = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(document | {"started": f"2026-01-{day:02d}T00:00:00.000+00:00"}))
    return path


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Of six runs the first three have finished on the days 2 to 4, one diverged, one failed, and one waits."""
    sweep = write_sweep(tmp_path / "runs", PolySettings, {"degree": "1,3,19", "seed": "0..1"})
    for number, run in enumerate(sweep.runs()[:5]):
        status, error = {3: ("diverged", DIVERGED), 4: ("failed", FAILED)}.get(number, ("finished", None))
        settings = write_result(run, figures(1 / (2 + number)), status, 4, error)
        assert settings.seed == number % 2
        dated(run, 2 + number)
    return sweep


@pytest.fixture
def plain(tmp_path: Path, sweep: Sweep) -> list[Path]:
    """Two runs beside the sweep: one older than it, and one younger."""
    runs = tmp_path / "runs"
    return [dated(write_run(runs, PolySettings(degree=4, seed=7), figures(0.3)), day) for day in (1, 9)]


@pytest.fixture
def runs(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The command in this process, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: mlpx(capfd, "runs", *arguments)


def cells(result: Result) -> list[list[str]]:
    """The cells of the rows of a CSV file, the head first."""
    assert (result.code, result.err) == (0, ""), result
    return list(csv.reader(io.StringIO(result.out)))


def paths(result: Result) -> list[Path]:
    assert result.code == 0, result
    return [Path(line) for line in result.out.splitlines()]


STATUS = "3 of 6, 1 diverged, 1 failed"


def test_a_sweep_is_one_row_among_the_runs_by_the_start_of_its_first_run(
    runs: Runs, sweep: Sweep, plain: list[Path]
) -> None:
    assert paths(runs("--quiet")) == [plain[1], sweep.path, plain[0]]
    names = "run,degree,n,test_loss,experiment,status"
    assert cells(runs("--columns", names, "--format", "csv"))[1:] == [
        [str(plain[1]), "4", "1", "0.3", "poly", "finished"],
        [str(sweep.path), "", "", "", "poly", STATUS],
        [str(plain[0]), "4", "1", "0.3", "poly", "finished"],
    ]
    assert re.search(rf"^{sweep.path.name} +{STATUS}  ", runs().out, re.MULTILINE), runs().out
    assert paths(runs("--first", "2", "--quiet")) == [plain[1], sweep.path]


def test_the_object_of_a_sweep_has_all_that_a_run_has_and_the_counts(
    runs: Runs, sweep: Sweep, plain: list[Path]
) -> None:
    newest, of_sweep, _ = (json.loads(line) for line in runs("--json").out.splitlines())
    assert newest == records.read(plain[1]).as_json()
    assert of_sweep == {
        "run": str(sweep.path),
        "experiment": "poly",
        "status": STATUS,
        "counts": {"finished": 3, "diverged": 1, "failed": 1, "waiting": 1},
        "settings": {"degree": [1, 3, 19], "seed": [0, 1]},
        "metrics": {},
        "started": "2026-01-02T00:00:00.000+00:00",
        "seconds": None,
        "error": None,
    }
    assert of_sweep.keys() - {"counts"} == newest.keys()


def test_a_sweep_that_is_named_has_a_row_a_run_the_newest_first_and_waiting_ones_last(
    runs: Runs, sweep: Sweep, plain: list[Path], tmp_path: Path
) -> None:
    one, two, three, four, five, six = sweep.runs()
    (tmp_path / "runs" / "latest").unlink()
    (tmp_path / "runs" / "latest").symlink_to(sweep.path.name)
    for reference in ("latest", sweep.path.name, f"runs/{sweep.path.name}", str(sweep.path)):
        assert paths(runs(reference, "--quiet")) == [five, four, three, two, one, six]
    lines = runs("latest").out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == [run.name for run in (five, four, three, two, one, six)]
    assert paths(runs(f"{sweep.path.name}/{two.name}", "--quiet")) == [two]
    assert paths(runs("--runs-dir", str(sweep.path), "--quiet"))[0] == five
    assert five.name in runs("--runs-dir", str(sweep.path), "--columns", "run").out
    assert f"{sweep.path.name}/" not in runs("--runs-dir", str(sweep.path), "--columns", "run").out


def test_the_reason_stands_in_a_column_that_is_there_where_a_run_ended_early(
    runs: Runs, sweep: Sweep, plain: list[Path]
) -> None:
    rows = [re.split(r"  +", line.strip()) for line in runs(sweep.path.name).out.splitlines()]
    assert rows[0][-1] == "why"
    assert [row[-1] for row in rows[2:4]] == [
        "/data/images.gz: No such file or directory",
        "train_loss is nan at epoch 3",
    ]
    assert "why" not in runs(sweep.path.name, "--where", "status == finished").out
    assert "why" not in runs().out.splitlines()[0]
    exact = cells(runs(sweep.path.name, "--columns", "why", "--format", "csv"))
    assert exact[:3] == [["why"], [FAILED], [DIVERGED]]
    assert [json.loads(line)["error"] for line in runs(sweep.path.name, "--json").out.splitlines()[:3]] == [
        *(FAILED, DIVERGED, None)
    ]
    of_groups = cells(runs(sweep.path.name, "--over", "seed", "--columns", "degree,why", "--format", "csv"))
    assert of_groups == [["degree", "why"], ["19", FAILED], ["3", DIVERGED], ["1", ""]]


def test_whatever_selects_runs_finds_those_in_sweeps_too(runs: Runs, sweep: Sweep, plain: list[Path]) -> None:
    one, two, three, *_ = sweep.runs()
    assert paths(runs("--where", "degree == 1", "--quiet")) == [two, one]
    assert paths(runs("--min", "generalization_loss", "--first", "2", "--quiet")) == [three, plain[1]]
    assert paths(runs("--max", "train_loss", "--first", "1", "--quiet")) == [one]
    assert paths(runs("--where", "status == waiting", "--quiet")) == [sweep.runs()[5]]
    groups = cells(runs("--over", "seed", "--columns", "degree,n", "--format", "csv"))
    assert sorted(groups[1:]) == [["1", "2"], ["19", "0"], ["3", "1"], ["4", "1"]]
    names = runs("--where", "degree < 5", "--columns", "run").out.splitlines()[2:]
    assert names == [plain[1].name, *(f"{sweep.path.name}/{run.name}" for run in sweep.runs()[3::-1]), plain[0].name]
    assert runs("--where", "degree == 9").err == "note: none of 8 runs is selected\n"


def test_of_several_places_a_run_in_a_sweep_says_which(runs: Runs, sweep: Sweep, plain: list[Path]) -> None:
    other = write_sweep(sweep.path.parent, PolySettings, {"degree": "2,5"})
    names = runs(sweep.path.name, other.path.name, plain[0].name, "--columns", "run").out.splitlines()[2:]
    assert len(names) == 9
    assert {name.split("/")[0] for name in names} == {sweep.path.name, other.path.name, plain[0].name}
    assert f"{other.path.name}/degree2" in names


def test_the_best_of_a_sweep_is_a_path_for_any_command(
    runs: Runs, sweep: Sweep, capfd: pytest.CaptureFixture[str]
) -> None:
    best = runs(sweep.path.name, "--min", "generalization_loss", "--first", "1", "--quiet")
    assert best == Result(0, f"{sweep.runs()[2]}\n", "")
    for reference in (best.out.strip(), f"{sweep.path.name}/{sweep.runs()[2].name}"):
        assert mlpx(capfd, "show", reference, "--quiet").out == best.out


def test_a_folder_with_sweeps_alone_is_listed(runs: Runs, sweep: Sweep, tmp_path: Path) -> None:
    assert paths(runs("--quiet")) == paths(runs(str(tmp_path / "runs"), "--quiet")) == [sweep.path]
    line = runs().out.splitlines()
    assert line[0].split() == ["run", "status", "started"]
    assert_fails(runs("--columns", "run,tst_loss"), 2, "--columns", "Did you mean 'test_loss'?")
    assert runs("--columns", "test_accuracy,run").code == 2  # what no run of poly has
    assert runs("--columns", "run,generalization_loss").out.splitlines()[2].split() == [sweep.path.name]
    write_sweep(tmp_path / "runs", MlpSettings, {"lr": "0.1,0.2", "dataset": "glyphs"})
    assert runs().out.splitlines()[0].split() == ["run", "experiment", "status", "started"]


def test_what_is_broken_in_a_sweep_costs_one_warning_and_never_the_list(
    runs: Runs, sweep: Sweep, plain: list[Path]
) -> None:
    one, two, *_ = sweep.runs()
    (one / "run.json").write_text("{")
    result = runs("--quiet")
    assert (result.code, len(paths(result))) == (0, 3)
    assert result.err.startswith(f"warning: {sweep.path.name}/{one.name}: ")
    assert result.err.count("\n") == 1
    (sweep.path / "sweep.toml").write_text("degree = \n")
    result = runs("--json")
    assert (result.code, len(result.out.splitlines())) == (0, 3)
    assert result.err.startswith(f"warning: {sweep.path.name}: ")
    assert result.err.count("\n") == 2
    broken = json.loads(result.out.splitlines()[1])
    assert (broken["experiment"], broken["settings"]) == (None, {})
    assert broken["status"] == "2 of 6, 1 diverged, 1 failed, 1 unreadable"
    # The runs of a sweep are read without its sweep.toml.
    (two / "config.toml").write_text("degree = \n")
    result = runs(sweep.path.name, "--quiet")
    assert len(paths(result)) == 4
    assert result.err.count("\n") == result.err.count(" is left out: ") == 2


def test_a_folder_of_runs_that_is_no_sweep_is_as_before(runs: Runs, sweep: Sweep, plain: list[Path]) -> None:
    (sweep.path / "sweep.toml").unlink()
    assert paths(runs("--quiet")) == [plain[1], plain[0]]
    assert len(paths(runs(sweep.path.name, "--quiet"))) == 6
    assert len(paths(runs("--where", "epochs > 0", "--quiet"))) == 2


def texts(columns: Any) -> list[list[str]]:
    return [[cell.text for cell in column.cells] for column in columns]


def test_names_and_reasons_are_shortened_before_what_matters_more_is_left_out() -> None:
    def column(name: str, text: str, rank: int) -> Column:
        return Column(name, name, [Cell(text)], rank, is_text=True)

    run, status, why = column("run", "r" * 40, 0), column("status", "s" * 20, 1), column("why", "w" * 60, 2)
    loss = column("loss", "l" * 10, 3)
    for width, lengths in (
        (136, [40, 20, 60, 10]),
        (120, [40, 20, 44, 10]),  # all but the reasons are whole
        (98, [40, 20, 34, 10]),  # the loss has no room, and the reasons have what it leaves
        (80, [32, 20, 24, 10]),
        (72, [24, 20, 24, 10]),
        (71, [40, 20, 24, 10]),  # the reasons have no room either, so the name need not be cut
        (50, [28, 20, 24, 10]),
        (20, [40, 20, 24, 10]),
    ):
        (found,) = zip(*texts(_fitted([run, status, why, loss], width, 3)), strict=True)
        assert [len(text) for text in found] == lengths, width
    # Where all columns are asked for, each is as important.
    (found,) = zip(*texts(_fitted([run, loss], 40, 4)), strict=True)
    assert [len(text) for text in found] == [28, 10]


@pytest.mark.parametrize("columns", [40, 80, 132])
@pytest.mark.program
def test_a_terminal_shows_status_and_reason_of_each_run(sweep: Sweep, plain: list[Path], columns: int) -> None:
    for arguments in (["runs"], ["runs", sweep.path.name], ["runs", "--max", "train_loss"]):
        plain_text = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal(arguments, sweep.path.parent.parent, columns))
        lines = [line.rstrip("\r") for line in plain_text.splitlines() if not line.startswith("note: ")]
        assert max(map(len, lines)) <= columns
        if columns >= 80:
            assert "status" in lines[0]
            # In a list of a runs folder, what the runs are comes before why some failed.
            assert ("train_loss is nan" in plain_text) == (arguments[1:] == [sweep.path.name])
            assert "train loss" in lines[0] or "--max" not in arguments


@pytest.mark.program
def test_a_list_with_sweeps_imports_nothing_slow(sweep: Sweep) -> None:
    for arguments in (["runs"], ["runs", sweep.path.name], ["runs", "--max", "train_loss"]):
        code = (
            f"import sys; sys.argv = ['mlpx', *{arguments!r}]\n"
            "from mlpx.__main__ import main\n"
            "code = main(); print([m for m in ('torch', 'numpy', 'scipy', 'matplotlib') if m in sys.modules], code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=sweep.path.parent.parent,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.stdout.splitlines()[-1] == "[] 0"
