"""``mlpx runs``: what is listed, in which order, and how."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from forks import live
from helpers import Result, assert_fails, environment, mlpx, on_terminal, run_program, runs_of, write_run
from rich.cells import cell_len

from mlpx.cli.times import ago
from mlpx.errors import printable
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.runs import reading, records
from mlpx.runs.folder import Run
from mlpx.runs.records import STATUSES
from mlpx.settings.base import Settings

Runs = Callable[..., Result]


def figures(loss: float, **others: float) -> dict[str, float]:
    names = ("train_loss", "test_loss", "generalization_loss")
    return {"epoch": 10, **dict.fromkeys(names, loss), "seconds": 1.0, **others}


def write(folder: Path, settings: Settings, numbers: dict[str, float], status: str = "finished") -> Path:
    """A run, whose start is a second later for each run that the folder holds already."""
    path = write_run(folder, settings, numbers, status)
    count = len(list(folder.glob("2*")))
    document = json.loads((path / "run.json").read_text())
    document["started"] = f"2026-01-01T00:00:{count:02d}.000+00:00"
    (path / "run.json").write_text(json.dumps(document))
    return path


@pytest.fixture
def polys(tmp_path: Path) -> list[Path]:
    """Degrees 1, 3, 19, each with two seeds; the losses are lower, the higher degree and seed are."""
    return [
        write(tmp_path / "runs", PolySettings(degree=degree, seed=seed), figures(1 / (degree + seed)))
        for degree in (1, 3, 19)
        for seed in (0, 1)
    ]


@pytest.fixture
def runs(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The command in this process, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: mlpx(capfd, "runs", *arguments)


def rows(result: Result) -> list[list[str]]:
    """The cells of the rows of a table; two spaces separate them."""
    assert (result.code, result.err) == (0, ""), result
    return [re.split(r"  +", line.strip()) for line in result.out.splitlines()[2:]]


def test_a_row_a_run_the_newest_first_with_what_differs_and_the_main_metrics(polys: list[Path], runs: Runs) -> None:
    lines = runs().out.splitlines()
    assert re.split(r"  +", lines[0]) == [
        *("run", "seed", "degree", "train loss", "test loss", "generalization loss", "status", "started")
    ]
    assert set(lines[1]) == {"─", " "}
    assert rows(runs())[0][:7] == [polys[-1].name, "1", "19", "0.05000", "0.05000", "0.05000", "finished"]
    assert [row[0] for row in rows(runs())] == [path.name for path in reversed(polys)]


def test_of_a_single_run_the_settings_that_are_no_defaults_are_shown(tmp_path: Path, runs: Runs) -> None:
    write(tmp_path / "runs", MlpSettings(hidden=[512, 256], flip=True, epochs=3), figures(0.5, test_accuracy=0.875))
    assert re.split(r"  +", runs().out.splitlines()[0])[1:-2] == [
        *("epochs", "hidden", "flip", "train loss", "test loss", "test accuracy")
    ]
    assert rows(runs())[0][1:-2] == ["3", "512x256", "true", "0.5000", "0.5000", "87.50%"]


def test_where_min_max_and_first_select_and_sort(polys: list[Path], runs: Runs) -> None:
    def names(*arguments: str) -> list[str]:
        result = runs(*arguments, "--quiet")
        assert result.code == 0, result
        return [Path(line).name for line in result.out.splitlines()]

    all_of = [path.name for path in polys]
    assert names("--where", "degree == 3") == [all_of[3], all_of[2]]
    assert names("--where", "degree > 1", "--where", "seed == 0") == [all_of[4], all_of[2]]
    assert names("--where", "test_loss >= 0.5") == [all_of[1], all_of[0]]
    assert names("--min", "train_loss", "--first", "2") == [all_of[5], all_of[4]]
    assert names("--max", "train_loss", "--first", "2") == [all_of[0], all_of[1]]
    assert names("--first", "1") == [all_of[5]]
    assert names("--where", "experiment == mlp") == []


def test_a_run_that_has_not_finished_is_never_the_best(tmp_path: Path, polys: list[Path], runs: Runs) -> None:
    dead = write(tmp_path / "runs", PolySettings(seed=7), figures(0.0001), "running")
    assert runs("--min", "train_loss", "--first", "1", "--quiet").out == f"{polys[-1]}\n"
    last = rows(runs("--min", "train_loss"))[-1]
    assert last[:-1] == [dead.name, "7", "3", "0.0001000", "0.0001000", "0.0001000", "dead, epoch 10/400"]


def test_the_best_on_the_test_set_comes_with_a_warning_that_it_flatters(polys: list[Path], runs: Runs) -> None:
    note = "note: the best of 6 by test_loss, chosen on the test set: expect less on new data\n"
    result = runs("--min", "test_loss", "--first", "1", "--quiet")
    assert (result.out, result.err) == (f"{polys[-1]}\n", note)
    for fair in (["--min", "test_loss"], ["--min", "train_loss", "--first", "1"], ["--first", "1"]):
        assert runs(*fair, "--quiet").err == ""
    assert runs("--min", "test_loss", "--first", "6", "--quiet").err == ""


def test_over_seed_has_a_row_for_the_runs_that_differ_in_the_seed_alone(polys: list[Path], runs: Runs) -> None:
    result = runs("--over", "seed", "--columns", "degree,n,test_loss,status")
    assert rows(result) == [
        ["19", "2", "0.0513 ± 0.0019", "finished"],
        ["3", "2", "0.292 ± 0.059", "finished"],
        ["1", "2", "0.75 ± 0.35", "finished"],
    ]
    seeds = rows(runs("--over", "seed", "--columns", "degree,seed"))
    assert seeds == [["19"], ["3"], ["1"]]  # a row of several seeds has no one seed
    best = runs("--over", "seed", "--min", "test_loss", "--first", "1", "--quiet")
    assert best.out == f"{polys[5]}\n{polys[4]}\n"


def test_over_seed_replicas_are_seeds_and_what_has_not_finished_counts_for_nothing(tmp_path: Path, runs: Runs) -> None:
    folder = tmp_path / "runs"
    several = write(folder, PolySettings(replicas=3), figures(0.5))
    (several / "replicas.csv").write_text("replica,seed,train_loss,test_loss\n0,0,1,1\n1,1,1,2\n2,2,1,3\n")
    write(folder, PolySettings(seed=3), figures(4.0))
    write(folder, PolySettings(seed=4), figures(9.0), "failed")
    (row,) = rows(runs("--over", "seed", "--columns", "experiment,n,test_loss,status"))
    assert row == ["poly", "4", "2.5 ± 1.3", "1 failed, 2 finished"]
    (line,) = runs("--over", "seed", "--json").out.splitlines()
    group = json.loads(line)
    assert set(group["runs"]) == {str(path) for path in folder.glob("2*")}
    assert (group["experiment"], group["n"], group["settings"]["degree"]) == ("poly", 4, 3)
    assert group["settings"].keys().isdisjoint({"seed", "replicas"})
    assert group["metrics"]["test_loss_mean"] == 2.5
    assert group["metrics"]["test_loss_std"] == pytest.approx((5 / 3) ** 0.5)


def test_json_has_an_object_a_line_with_all_of_a_run(polys: list[Path], runs: Runs) -> None:
    objects = [json.loads(line) for line in runs("--json").out.splitlines()]
    assert objects == [records.read(path).as_json() for path in reversed(polys)]
    assert list(objects[0]) == ["run", "experiment", "status", "settings", "metrics", "started", "seconds", "error"]


def test_a_name_that_no_run_has_and_options_that_exclude_each_other_are_refused(polys: list[Path], runs: Runs) -> None:
    for option in ("--min", "--max", "--columns"):
        assert_fails(runs(option, "tst_loss"), 2, option, "Did you mean 'test_loss'?")
    assert_fails(runs("--where", "tst_loss < 1"), 2, "--where", "Did you mean 'test_loss'?")
    assert_fails(runs("--where", "test_loss"), 2, "--where", "is not a condition")
    assert_fails(runs("--min", "degree"), 2, "--min", "these runs have no metric 'degree'")
    assert_fails(runs("--min", "test_loss", "--max", "test_loss"), 2, "exclude each other")
    for pair in (["--json", "--quiet"], ["--json", "--format", "csv"], ["--quiet", "--format", "latex"]):
        assert_fails(runs(*pair), 2, "exclude each other")
    assert_fails(runs("nothing"), 5, "nothing", "no such run")
    assert runs("--first", "0").code == 2


def test_without_runs_there_is_nothing_but_a_note(tmp_path: Path, runs: Runs) -> None:
    assert runs() == Result(0, "", "note: no runs to list in runs\n")
    assert runs("--where", "tst_loss < 1", "--json") == Result(0, "", "note: no runs to list in runs\n")
    write(tmp_path / "runs", PolySettings(), figures(1))
    assert runs("--where", "degree == 1") == Result(0, "", "note: none of 1 runs is selected\n")


def test_folders_of_runs_and_single_runs_can_be_named(tmp_path: Path, polys: list[Path], runs: Runs) -> None:
    other = write(tmp_path / "others", PolySettings(seed=8), figures(1))
    assert runs("others", "--quiet").out == f"{other}\n"
    assert runs("latest", "--quiet").out == f"{polys[-1]}\n"
    listed = runs("others", "runs", polys[0].name, "--quiet").out.splitlines()
    assert sorted(listed) == sorted([str(other), *map(str, polys)])
    assert runs("--runs-dir", "others", "--quiet").out == f"{other}\n"


def test_a_broken_run_is_a_warning_and_the_others_are_listed(polys: list[Path], runs: Runs) -> None:
    (polys[0] / "config.toml").write_text("degree = \n")
    result = runs("--quiet")
    assert (result.code, len(result.out.splitlines())) == (0, 5)
    assert result.err.startswith(f"warning: {polys[0].name} is left out: ")
    assert result.err.count("\n") == 1


def tables(runs: Runs, *arguments: str) -> dict[str, list[list[str]]]:
    """The same selection in each format, as rows of texts; the head comes first."""
    result = {form: runs(*arguments, "--format", form).out for form in ("table", "csv", "markdown", "latex")}
    lines = {form: text.splitlines() for form, text in result.items()}
    table = [re.split(r"  +", line.strip()) for number, line in enumerate(lines["table"]) if number != 1]
    markdown = [line.strip("| ").split(" | ") for number, line in enumerate(lines["markdown"]) if number != 1]
    latex = [line.removesuffix(r" \\").split(" & ") for line in lines["latex"] if line.endswith(r"\\")]
    return {
        "table": table,
        "csv": list(csv.reader(io.StringIO(result["csv"]))),
        "markdown": [[cell.strip("*") for cell in row] for row in markdown],
        "latex": [[re.sub(r"\\textbf\{(.*)\}", r"\1", cell).replace("\\", "") for cell in row] for row in latex],
    }


def test_all_formats_and_json_agree(polys: list[Path], runs: Runs) -> None:
    arguments = ("--where", "degree > 1", "--columns", "run,degree,test_loss,status")
    formats = tables(runs, *arguments)
    assert formats["table"] == formats["markdown"] == formats["latex"]
    assert formats["csv"][0] == ["run", "degree", "test_loss", "status"]
    objects = [json.loads(line) for line in runs(*arguments[:2], "--json").out.splitlines()]
    assert len(objects) == len(formats["table"]) - 1 == 4
    for shown, exact, whole in zip(formats["table"][1:], formats["csv"][1:], objects, strict=True):
        full = [whole["run"], str(whole["settings"]["degree"]), str(whole["metrics"]["test_loss"]), whole["status"]]
        assert exact == full
        assert shown == [Path(full[0]).name, full[1], f"{whole['metrics']['test_loss']:#.4g}", full[3]]


def test_all_formats_agree_over_seeds(polys: list[Path], runs: Runs) -> None:
    formats = tables(runs, "--over", "seed", "--columns", "degree,n,test_loss")
    for row in formats["latex"]:
        row[-1] = row[-1].replace("$pm$", "±")
    assert formats["table"] == formats["markdown"] == formats["latex"]
    assert formats["csv"][0] == ["degree", "n", "test_loss_mean", "test_loss_std"]
    assert formats["csv"][1][:2] == ["19", "2"]
    assert float(formats["csv"][1][2]) == pytest.approx((1 / 19 + 1 / 20) / 2)


def test_a_column_of_what_no_listed_run_has_is_empty(tmp_path: Path, polys: list[Path], runs: Runs) -> None:
    write(tmp_path / "runs", MlpSettings(), figures(1, test_accuracy=0.5))
    arguments = ("--where", "degree == 19", "--first", "1", "--columns", "degree,dropout,test_accuracy")
    assert runs(*arguments, "--format", "markdown").out.splitlines()[2] == "| 19 |  |  |"
    assert runs(*arguments, "--format", "csv").out == "degree,dropout,test_accuracy\n19,,\n"
    mean = runs(*arguments, "--over", "seed", "--format", "csv").out
    assert mean == "degree,dropout,test_accuracy_mean,test_accuracy_std\n19,,,\n"


def test_the_best_of_each_column_is_marked_in_every_format_for_people(polys: list[Path], runs: Runs) -> None:
    one = ("--columns", "degree,test_loss", "--where", "seed == 0")
    assert runs(*one, "--format", "markdown").out.splitlines()[2:] == [
        "| 19 | **0.05263** |",
        "| 3 | 0.3333 |",
        "| 1 | 1.000 |",
    ]
    assert r"19 & \textbf{0.05263} \\" in runs(*one, "--format", "latex").out
    alike = runs(
        "--columns", "degree,test_loss", "--where", "degree == 3", "--where", "seed == 1", "--format", "markdown"
    )
    assert alike.out.splitlines()[2:] == ["| 3 | 0.2500 |"]


def test_a_document_has_dates_where_a_terminal_has_how_long_ago(polys: list[Path], runs: Runs) -> None:
    one = ("--columns", "started", "--first", "1")
    assert runs(*one).out.splitlines()[2] == ago(datetime(2026, 1, 1, tzinfo=UTC))
    assert runs(*one, "--format", "markdown").out.splitlines()[2] == "| 2026-01-01 00:00 |"
    assert runs(*one, "--format", "csv").out.splitlines()[1] == "2026-01-01T00:00:06.000+00:00"


def test_names_and_texts_that_mean_something_to_a_format_are_escaped(tmp_path: Path, runs: Runs) -> None:
    path = write(tmp_path / "runs", PolySettings(), figures(1))
    path.rename(path.with_name("a|b_<c>\\&\n\x1b[31m"))
    name = r"a|b_<c>\&\n\x1b[31m"
    assert runs("--columns", "run").out.splitlines()[2] == name
    assert printable("a|b_<c>\\&\n\x1b[31m") == name
    assert runs("--columns", "run", "--format", "markdown").out.splitlines()[2] == r"| a\|b_&lt;c>\\&\\n\\x1b[31m |"
    latex = runs("--columns", "run", "--format", "latex").out.splitlines()[4]
    assert latex == r"a|b\_<c>\textbackslash{}\&\textbackslash{}n\textbackslash{}x1b[31m \\"


@pytest.mark.parametrize("columns", [12, 20, 40, 80, 132, 300])
@pytest.mark.program
def test_every_line_fits_a_terminal_and_what_has_no_room_is_named(
    tmp_path: Path, polys: list[Path], columns: int
) -> None:
    write(tmp_path / "runs", TransformerSettings(dropout=0.1, num_layers=2), figures(2))
    write(tmp_path / "runs", MlpSettings(hidden=[99, 98, 97, 96], data_dir="/tmp/" + "x" * 60), figures(3))
    text = on_terminal(["runs"], tmp_path, columns, NO_COLOR="1")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.rstrip("\r") for line in plain.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 10
    assert max(map(len, lines)) <= columns
    assert ("note: no room for " in plain) == (columns <= 80)
    if columns >= 80:
        assert polys[-1].name in plain
        assert re.search(r"test loss .*status +started", lines[0])


@pytest.mark.program
def test_characters_that_are_two_wide_take_two_places(tmp_path: Path) -> None:
    path = write(tmp_path / "runs", PolySettings(), figures(1))
    path.rename(path.with_name("実験" * 10))
    for names, columns, width in (("run,degree", 50, 48), ("run", 30, 30)):
        text = on_terminal(["runs", "--columns", names], tmp_path, columns, NO_COLOR="1")
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip("\r\n") for line in text.splitlines()]
        assert [cell_len(line) for line in lines[1:]] == [width, width]


@pytest.mark.program
def test_no_line_is_cropped_off_a_terminal_and_a_broken_pipe_is_quiet(tmp_path: Path, polys: list[Path]) -> None:
    write(tmp_path / "runs", MlpSettings(data_dir="/tmp/" + "x" * 300), figures(3))
    write(tmp_path / "runs", MlpSettings(data_dir="/tmp/" + "y" * 300), figures(3))
    result = run_program(["runs"], tmp_path, environment(COLUMNS="40"))
    assert "x" * 300 in result.out
    line = f"{sys.executable} -m mlpx runs | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)


@pytest.mark.program
def test_nothing_is_said_by_color_alone_and_the_best_stands_out(tmp_path: Path, polys: list[Path]) -> None:
    arguments = ["runs", "--columns", "degree,test_loss"]
    colored = on_terminal(arguments, tmp_path, 80)
    assert "\x1b[1;32m  0.05000\x1b[0m" in colored
    assert "\x1b[1m  0.05000\x1b[0m" in on_terminal(arguments, tmp_path, 80, NO_COLOR="1")
    assert "\x1b" not in on_terminal(arguments, tmp_path, 80, TERM="dumb")
    assert "\x1b" not in run_program(arguments, tmp_path).out


@pytest.mark.program
def test_the_output_is_the_same_in_the_c_locale(tmp_path: Path, polys: list[Path]) -> None:
    bare = {key: value for key, value in environment().items() if not key.startswith(("LC_", "LANG"))}
    outputs = []
    for locale in ({"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}, {}):
        line = [sys.executable, "-m", "mlpx", "runs", "--over", "seed"]
        outputs.append(subprocess.run(line, cwd=tmp_path, env=bare | locale, capture_output=True, check=True).stdout)
    assert outputs[0] == outputs[1] == outputs[2]
    assert "±".encode() in outputs[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((-5, "0 s"), (0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (172_799, "47 h")),
        *((172_800, "2 days"), (2_591_999, "29 days")),
    ],
)
def test_how_long_ago_a_run_started_is_said_in_words(seconds: int, text: str) -> None:
    assert ago(datetime.now(UTC) - timedelta(seconds=seconds)) == f"{text} ago"


def test_what_started_a_month_ago_has_a_date() -> None:
    assert ago(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02"


def watch(folder: Path, seconds: float, look: Callable[[], Sequence[tuple[str, str, float]]]) -> int:
    """Look at the runs in ``folder`` again and again while two trainings run; returns how often.

    No status goes backwards (a run waits, runs, ends), and no run loses epochs.
    """
    order = {status: min(number, 2) for number, status in enumerate(STATUSES)}
    seen: dict[str, tuple[int, float]] = {}
    looks = 0
    train = ["poly", "--degree", "19", "--epochs", "200000", "--eval-every", "1000", "--checkpoint-every", "0.2"]
    with live(train, folder, environment()) as one, live([*train, "--replicas", "5"], folder, environment()) as other:
        until = time.monotonic() + seconds
        while time.monotonic() < until and None in (one.returncode, other.returncode):
            for name, status, epoch in look():
                now = (order[status], epoch)
                before = seen.get(name, (0, 0.0))
                assert now[0] >= before[0], (name, before, status)
                assert epoch >= before[1], (name, before, epoch)
                seen[name] = now
            looks += 1
        one.send_signal(15)
        other.send_signal(15)
        one.wait(30)
        other.wait(30)
    assert len(seen) == 2
    assert max(epoch for _, epoch in seen.values()) > 1
    assert {records.read(run).status for run in runs_of(folder)} == {"interrupted"}
    return looks


@pytest.mark.program
def test_readers_see_only_whole_states_while_two_trainings_write(tmp_path: Path) -> None:
    def look() -> list[tuple[str, str, float]]:
        found, warnings = records.read_all(reading.runs_in(tmp_path / "runs"))
        assert warnings == []
        return [(record.path.name, record.status, record.metrics.get("epoch", 0)) for record in found]

    assert watch(tmp_path, 3, look) > 100


@pytest.mark.slow
def test_the_list_is_whole_for_twenty_seconds_while_two_trainings_write(tmp_path: Path) -> None:
    def look() -> list[tuple[str, str, float]]:
        line = [sys.executable, "-m", "mlpx", "runs", "--json"]
        done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert (done.returncode, done.stderr.replace("note: no runs to list in runs\n", "")) == (0, "")
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return [(each["run"], each["status"], each["metrics"].get("epoch", 0)) for each in found]

    print(f"\n{watch(tmp_path, 20, look)} lists, no error, no status that went backwards")


@pytest.mark.program
def test_a_list_imports_nothing_slow_and_leaves_the_runs_as_they_were(tmp_path: Path, polys: list[Path]) -> None:
    def states() -> dict[Path, int]:
        return {path: os.stat(path).st_mtime_ns for path in tmp_path.rglob("*")}

    before = states()
    code = (
        "import sys; sys.argv = ['mlpx', 'runs', '--over', 'seed']\n"
        "from mlpx.__main__ import main\n"
        "code = main(); print([m for m in ('torch', 'numpy', 'scipy', 'matplotlib') if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert states() == before


def test_a_run_can_be_resumed_while_it_is_listed(tmp_path: Path, polys: list[Path], runs: Runs) -> None:
    with Run(polys[0]):
        assert len(runs("--quiet").out.splitlines()) == 6
