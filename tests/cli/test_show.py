"""``mlpx show``: one screen of a run in any state, on any terminal and off it."""

import contextlib
import json
import math
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
from helpers import Program, assert_fails, environment, mlpx, on_terminal

from mlpx import registry
from mlpx.cli import times
from mlpx.errors import Diverged, Interrupted, MachineError
from mlpx.runs import folder, reading
from mlpx.runs.folder import Run
from mlpx.runs.metrics import Metrics
from mlpx.settings.files import resolve
from mlpx.settings.metrics import columns, final

NAME = "20261123-041530-poly-degree19"
STARTED, ENDED = "2026-11-23T04:15:30.000+00:00", "2026-11-23T04:15:32.000+00:00"
ABOUT = {
    "device": "cpu",
    "device_name": "x86_64",
    "threads": 4,
    "versions": {"mlpx": "0.9.0", "python": "3.12.1", "torch": "2.13.0+cpu"},
    "git": {"commit": "3f2a91c5d7e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2", "dirty": True},
    "host": "kepler",
}
SUMMARY = "overfitting: generalization loss 0.05637 is 5.91 times the training loss 0.009536 (more than 2)"
FAILURES: Mapping[str, Exception] = {
    "diverged": Diverged("diverged", "train_loss is nan at epoch 1500", "Try a lower --lr."),
    "interrupted": Interrupted(2, "saved after epoch 1500", "Go on with 'mlpx resume x'."),
    "failed": MachineError("out of memory", "tried to allocate 20 GiB", "Free memory or make the run smaller."),
}
STATUSES = ("waiting", "running", "dead", "finished", *FAILURES)
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class _Fixed(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "_Fixed":
        return cls(2026, 11, 23, 4, 18, 40, tzinfo=UTC)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, of a short name that is always as long, three minutes after a run of two seconds."""
    monkeypatch.setattr(times, "datetime", _Fixed)
    for name in ("NO_COLOR", "FORCE_COLOR", "MLPX_RUNS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as place:
        monkeypatch.chdir(place)
        yield Path(place)


def losses(epoch: int) -> dict[str, float]:
    """Losses as of a polynomial of degree 19, which overfits."""
    return {
        "train_loss": 0.0095 + 12 * math.exp(-epoch / 40),
        "test_loss": 0.0127 + 14 * math.exp(-epoch / 40),
        "generalization_loss": 0.0127 + 14 * math.exp(-epoch / 45) + 0.04 * (1 - math.exp(-epoch / 300)),
    }


def make(
    status: str = "finished",
    *,
    experiment: str = "poly",
    num_rows: int = 76,
    facts: Mapping[str, Any] | None = None,
    name: str = NAME,
    **typed: Any,
) -> Path:
    """A run in ``runs``, by the program's own writer. One that is running is dead until someone holds it."""
    typed = {"degree": 19, "epochs": 1500, **typed} if experiment == "poly" else typed
    settings = resolve(registry.settings_class(experiment), typed)
    replicas = len(settings.seeds)
    with folder.create(Path("runs"), settings, "x") as run:
        run.document = {"command": "mlpx poly", "resumed_from_epoch": []}
        if status != "waiting":
            run.record_start({"experiment": experiment, "seed": 0, **ABOUT, "started": STARTED})
            file = Metrics(run.path / "metrics.csv", [column.name for column in columns(settings.metrics, replicas)])
            file.start()
            for row in range(num_rows):
                epoch = max(1, 20 * row) if experiment == "poly" else 1 + row
                names = [column.name for column in columns(settings.metrics, replicas)]
                known = {"epoch": epoch, **losses(epoch), "seconds": epoch / 1250}
                file.append({each: known.get(each, 0.5 / (1 + row)) for each in names})
            last = file.last()
            file.close()
            if status in FAILURES:
                run.record_failure(FAILURES[status], last)
            elif status == "finished":
                figures = {metric.name: 0.25 for metric in final(settings.metrics, replicas)} | last
                run.record_end("finished", 0, figures, summary=SUMMARY, verdict="overfitting")
            run.update({"ended": ENDED} if status not in ("running", "dead") else {})
            run.update(facts or {})
    path = run.path.rename(run.path.with_name(name))
    for picture in ("loss.png", "fit.png") if status == "finished" else ():
        (path / picture).touch()
    return path


@contextlib.contextmanager
def held(path: Path, status: str) -> Iterator[None]:
    """A process holds the run, if it is running."""
    with Run(path) if status == "running" else contextlib.nullcontext():
        yield


def shown(capfd: pytest.CaptureFixture[str], path: Path | str, *options: str) -> list[str]:
    """The lines of the screen; there is no warning and no control code."""
    result = mlpx(capfd, "show", str(path), *options)
    assert (result.code, result.err) == (0, "")
    assert not CONTROL.search(result.out)
    return result.out.split("\n")[:-1]


def picture(lines: list[str]) -> list[str]:
    """The rows of the plot, the axis below it included."""
    return [line for line in lines if re.match(r" *[-\d.e+%]* [│┤└|+]", line)]


SCREEN = """\
20261123-041530-poly-degree19  poly: degree 19, epochs 1500
finished 3 min ago: 1500 epochs in 1.2 s
on kepler: cpu, 4 threads, mlpx 0.9.0, commit 3f2a91c + changes

mean squared error   ⠤⠤ training   o test (a sample)   x generalization (exact)
   10 ┤⠳⣄
      │ ⠈⠳⣤⡀
    1 ┤   ⠈o⡢⡀
      │     ⠈⢗⢄x
      │       ⠑⢌⠢⡀
  0.1 ┤         ⠑⢮⡑⠢⢄⣀⡀
      │           ⠙o⣄⡀⠈x⠉⠉⠉⠉⠉⠉⠉x⠉⠉⠉⠉⠉⠉⠉x⠉⠉⠉⠉⠉⠉⠉x⠉⠉⠉⠉⠉⠉⠉x⠉⠉⠉⠉⠉⠉⠉x⠉⠉⠉⠉⠉⠉⠉x⠉⠉⠉⠉⠉⠉⠉x
 0.01 ┤             ⠈⠙⠛⠳⠶⢖⣢o⣤⣤⣤⣤⣤⣤⣤o⣤⣤⣤⣤⣤⣤⣤o⣤⣤⣤⣤⣤⣤⣤o⣤⣤⣤⣤⣤⣤⣤o⣤⣤⣤⣤⣤⣤⣤o⣤⣤⣤⣤⣤⣤⣤o⣤⣤⣤⣤
      └┬───────────────────────┬───────────────────────┬───────────────────────┬
epoch  1                      500                    1000                   1500
train loss 0.009500   test loss 0.01270   generalization loss 0.05243
noise floor 0.2500   train to noise 0.2500   generalization to train 0.2500
overfitting: generalization loss 0.05637 is 5.91 times the training loss
0.009536 (more than 2)

pictures  fit.png, loss.png in /home/ada/runs/20261123-041530-poly-degree19
repeat    mlpx poly --config runs/20261123-041530-poly-degree19/config.toml
"""


def test_the_screen_of_a_finished_run(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(shown(capfd, make()))
    assert text.replace(str(home), "/home/ada") + "\n" == SCREEN


STATES = {
    "waiting": "waiting: made 0 s ago, not started yet",
    "running": "running: after epoch 1500 of 3000 in 1.2 s, about 1.2 s left",
    "dead": "dead: killed after epoch 1500 of 3000; no process holds it",
    "finished": "finished 3 min ago: 3000 epochs in 1.2 s",
    "diverged": "diverged 3 min ago: after epoch 1500 of 3000 in 1.2 s; exit code 4",
    "interrupted": "interrupted 3 min ago: after epoch 1500 of 3000 in 1.2 s; exit code 130",
    "failed": "failed 3 min ago: after epoch 1500 of 3000 in 1.2 s; exit code 6",
}
RESUME = {"waiting": "start     ", "dead": "resume    ", "interrupted": "resume    ", "failed": "resume    "}


@pytest.mark.parametrize("status", STATUSES)
def test_every_state_has_its_words_its_reason_and_its_commands(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setenv("LINES", "40")
    path = make(status, epochs=3000)
    with held(path, status):
        lines = shown(capfd, path)
    assert lines[0] == f"{NAME}  poly: degree 19, epochs 3000"
    assert lines[1] == STATES[status]
    assert bool(picture(lines)) == (status != "waiting")
    assert f"repeat    mlpx poly --config runs/{NAME}/config.toml" in lines
    place = f"mlpx resume runs/{NAME}"
    assert [line for line in lines if place in line] == (
        [f"{RESUME[status]}{place}"] if status in RESUME else
        [f"extend    {place} --epochs 6000"] if status == "finished" else []
    )  # fmt: skip
    for other, error in FAILURES.items():
        assert (str(error) in " ".join(lines)) == (other == status)


@pytest.mark.parametrize("status", sorted({*STATUSES} - {"finished"}))
def test_a_run_without_a_row_or_with_one(home: Path, capfd: pytest.CaptureFixture[str], status: str) -> None:
    none, one = make(status, num_rows=0, name="none"), make(status, num_rows=1, name="one")
    with held(none, status), held(one, status):
        without, single = shown(capfd, none), shown(capfd, one)
    assert picture(without) == []
    if status != "waiting":
        assert " before its first row" in without[1]
        assert "started 3 min ago" in without[1] or status not in ("running", "dead")
        assert " after epoch 1 of 1500" in single[1]
        rows = "\n".join(picture(single))
        assert [rows.count(marker) for marker in "*ox"] == [1, 1, 1]


@pytest.mark.parametrize(
    ("status", "width", "height"),
    [*((status, 80, 24) for status in STATUSES), *(("finished", *size) for size in ((80, 50), (132, 40), (200, 60)))],
)
def test_it_fits_the_width_and_the_height(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: str, width: int, height: int
) -> None:
    """So do the rows of one experiment after the other, and of watch, whose head takes two lines."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    runs = [
        make(status, name="20261123-041530-poly-a"),
        make(
            status, name="20261123-041530-poly-replicas", replicas=10, degree=3, lr=0.02, facts={"warnings": ["x" * 50]}
        ),
        make(status, name="20261123-041530-mlp-b", experiment="mlp", num_rows=10, hidden=[512, 256], momentum=0.9),
        make(status, name="20261123-041530-t", experiment="transformer", num_rows=8, num_layers=1),
    ]
    for path in runs:
        with held(path, status):
            lines = shown(capfd, path)
        assert max(map(len, lines)) <= width
        assert len(lines) <= height - 2
        if picture(lines):
            assert len(picture(lines)) + 1 >= 8
            # A high terminal has a high plot, within reason.
            assert len(lines) == height - 2 or len(picture(lines)) + 1 >= width // 4 - 1


def test_a_narrow_terminal_wraps_words_and_keeps_paths_whole(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = make("interrupted")
    lines = shown(capfd, path)
    assert f"folder    {path.absolute()}" in lines
    assert f"resume    mlpx resume runs/{NAME}" in lines
    assert max(len(line) for line in lines if not line.startswith(("folder", "repeat", "resume"))) <= 40
    for columns_ in ("1", "3", "20"):
        monkeypatch.setenv("COLUMNS", columns_)
        assert f"folder    {path.absolute()}" in shown(capfd, path)


@pytest.mark.program
def test_the_terminal_has_color_only_where_it_wants_it(home: Path) -> None:
    make()
    colored, plain, dumb = (
        on_terminal(["show", NAME], home, 80, **changes) for changes in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"})
    )
    assert "\x1b[36m" in colored  # the training loss
    assert "\x1b[1;32mfinished\x1b[0m" in colored
    assert not re.search(r"\x1b\[[\d;]*3\dm", plain)
    assert "\x1b" not in dumb
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == re.sub(r"\x1b\[[\d;]*m", "", plain) == dumb
    assert dumb.count("\n") == 23
    assert "⠤⠤ training   o test (a sample)   x generalization (exact)" in dumb


def test_an_encoding_of_ascii_alone_has_the_same_screen_in_ascii(home: Path, program: Program) -> None:
    make()
    shared = {"COLUMNS": "80", "LINES": "24"}
    screens = {}
    for name, changes in (("ascii", {"PYTHONIOENCODING": "ascii"}), ("C", {"LC_ALL": "C"}), ("usual", {})):
        result = program("show", f"runs/{NAME}", env=environment(**shared, **changes), prefix=("env",), cwd=home)
        assert (result.code, result.err) == (0, "")
        screens[name] = result.out.splitlines()
    assert screens["C"] == screens["usual"]
    assert "".join(screens["ascii"]).isascii()
    assert len(screens["ascii"]) == len(screens["usual"])
    for line, other in zip(screens["ascii"], screens["usual"], strict=True):
        if other.isascii():
            assert line == other
        else:
            assert re.sub(r"[.:'+|-]", " ", line).split() == re.sub(r"[⠀-⣿─┬└┤│.:'+|-]", " ", other).split()


@pytest.mark.program
def test_nothing_slow_is_imported(home: Path) -> None:
    make()
    code = (
        f"import sys; sys.argv = ['mlpx', 'show', 'runs/{NAME}']\n"
        "from mlpx.__main__ import main\n"
        "code = main(); print([m for m in ('torch', 'numpy', 'matplotlib', 'scipy') if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert picture(done.stdout.splitlines())


def test_the_logarithmic_axis_shows_the_losses_themselves(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    labels = {line.partition("┤")[0].strip() for line in shown(capfd, make()) if "┤" in line}
    assert labels == {"10", "1", "0.1", "0.01"}
    lines = shown(capfd, make(experiment="mlp", num_rows=10, name="mlp"))
    assert "cross-entropy   ⠤⠤ training, while it learns   o test" in lines


def test_other_columns_are_drawn_when_asked_for(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make(experiment="mlp", num_rows=10)
    one = shown(capfd, path, "--curve", "test_accuracy")
    assert "accuracy   ⠤⠤ test" in one
    assert "  40% ┤" in "\n".join(one)
    two = shown(capfd, path, "--curve", "test_loss", "--curve", "test_accuracy", "--curve", "test_loss")
    assert "⠤⠤ test loss   o test accuracy" in two
    assert "%" not in "\n".join(picture(two))
    spread = shown(capfd, make(replicas=3, name="poly"), "--curve", "test_loss_p90")
    assert "median of 3 replicas   ⠤⠤ test loss p90" in spread


def test_an_unknown_column_is_a_usage_error(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(make())
    assert_fails(mlpx(capfd, "show", path, "--curve", "tast_loss"), 2, "'tast_loss'", "Did you mean 'test_loss'?")
    assert_fails(mlpx(capfd, "show", path, "--curve", "zzz"), 2, "There are train_loss, test_loss, gen")
    for name in ("epoch", "noise_floor"):
        assert_fails(mlpx(capfd, "show", path, "--curve", name), 2, name)


def test_of_replicas_the_medians_are_shown(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = shown(capfd, make(replicas=10))
    assert lines[0] == f"{NAME}  poly: degree 19, epochs 1500, replicas 10"
    assert any(line.startswith("mean squared error, median of 10 replicas   ⠤⠤ training") for line in lines)
    assert "medians:   train loss 0.009500   test loss 0.01270" in "\n".join(lines)


def test_values_that_are_not_finite_are_left_out_of_the_plot(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make("diverged")
    before = picture(shown(capfd, path))
    with open(path / "metrics.csv", "a") as file:
        file.write("1500,nan,inf,-inf,1.5\n")
    assert picture(shown(capfd, path)) == before
    (path / "metrics.csv").write_text("epoch,train_loss,test_loss,generalization_loss,seconds\n1,nan,nan,nan,1\n")
    assert "no value that can be drawn" in shown(capfd, path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\n\xff\n", "is not a table of numbers"),
        (b"epoch,train_loss,test_loss,generalization_loss,seconds\n1,x,1,1,1\n", "is not a table of numbers"),
        (b"epoch,train_loss\n1,1\n", "has no column test_loss, generalization_loss"),
        (b"", "is missing or empty"),
        (None, "is missing or empty"),
    ],
)
@pytest.mark.parametrize("status", ["finished", "dead", "failed"])
def test_a_broken_table_of_metrics_costs_one_warning_and_the_curves(
    home: Path, capfd: pytest.CaptureFixture[str], status: str, content: bytes | None, words: str
) -> None:
    path = make(status)
    (path / "metrics.csv").unlink()
    if content is not None:
        (path / "metrics.csv").write_bytes(content)
    result = mlpx(capfd, "show", str(path))
    lines = result.out.splitlines()
    assert result.code == 0
    if status == "dead" and not content:
        assert result.err == ""  # it may have been killed before it made the table
    else:
        assert result.err.startswith("warning: ")
        assert words in result.err
        assert result.err.count("\n") == 1
    assert picture(lines) == []
    assert lines[1].startswith(status)
    assert "repeat" in result.out


def test_a_table_of_metrics_that_cannot_be_read_costs_one_warning(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make("failed")
    (path / "metrics.csv").unlink()
    (path / "metrics.csv").mkdir()
    result = mlpx(capfd, "show", str(path))
    assert (result.code, result.err.count("\n")) == (0, 1)
    assert "cannot be read (Is a directory)" in result.err
    assert result.out.splitlines()[1].startswith("failed")


def test_a_row_that_is_being_written_does_not_count(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make("running")
    with Run(path):
        before = shown(capfd, path)
        with open(path / "metrics.csv", "a") as file:
            file.write("1520,0.00")
        assert shown(capfd, path) == before


ODD: dict[str, Any] = {
    "ended": "yesterday",
    "exit_code": "0",
    "command": 3,
    "summary": 17,
    "error": ["x"],
    "warnings": {"a": 1},
    "verdict": None,
    "verdicts": [1],
    "device": {},
    "device_name": 1.5,
    "threads": True,
    "versions": ["0.9"],
    "git": 5,
    "host": None,
}


@pytest.mark.parametrize(
    "odd", [*({name: value} for name, value in ODD.items()), ODD], ids=lambda odd: "-".join(odd)[:20]
)
def test_a_fact_of_an_odd_type_is_absent(home: Path, capfd: pytest.CaptureFixture[str], odd: dict[str, Any]) -> None:
    usual, path = json.loads(shown(capfd, make(name="a"), "--json")[0]), make(facts=odd)
    lines = shown(capfd, path)
    assert lines[1].startswith("finished")
    facts = json.loads(shown(capfd, path, "--json")[0])
    for name in usual.keys() - {"run", "settings", "metrics", "started"}:
        expected = usual[name] if name not in odd else [] if name == "warnings" else None
        assert facts.get(name) == expected, name
    assert len(lines) <= 22


def test_an_older_run_that_says_little_is_shown(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make()
    document = json.loads((path / "run.json").read_text())
    kept = {name: document[name] for name in ("experiment", "status", "metrics")}
    (path / "run.json").write_text(json.dumps(kept))
    lines = shown(capfd, path)
    assert lines[1:3] == ["finished: 1500 epochs in 1.2 s", ""]
    assert picture(lines)


def test_hostile_texts_neither_break_the_screen_nor_reach_the_terminal(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b[31mred\x07\r\n\x9b2J " + "word " * 1000
    facts = {"host": evil, "device": evil, "versions": {"mlpx": evil}, "git": {"commit": "\x1b[2J" * 9, "dirty": 1}}
    path = make("failed", facts={**facts, "error": evil, "summary": evil, "warnings": [evil] * 50 + [3]})
    (path / "\x1b[31m\n.png").touch()
    lines = shown(capfd, path)  # no control code, or this fails
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 32
    assert "and 48 more warnings in run.json" in lines
    assert len(picture(lines)) >= 7


def test_numbers_that_no_run_has_are_shown_or_left_out(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make()
    document = json.loads((path / "run.json").read_text())
    for epoch, seconds in ((10**300, 10**300), (-1, -5), (1e308, 1e308), (0, 0), (None, None)):
        document["metrics"] |= {"epoch": epoch, "seconds": seconds, "train_loss": 10**200}
        (path / "run.json").write_text(json.dumps(document))
        assert shown(capfd, path)[1].startswith("finished 3 min ago: 1500 epochs")
    running = make("running", name="b")
    with open(running / "metrics.csv", "a") as file:
        file.write("1e-300,1,1,1,999999999\n")
    with Run(running):
        assert shown(capfd, running)[1].startswith("running: after epoch 0 of 1500")


def test_warnings_that_were_recorded_are_shown(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = shown(capfd, make(facts={"warnings": ["fit.png could not be drawn: no ink"]}))
    assert "warning: fit.png could not be drawn: no ink" in lines
    assert json.loads(shown(capfd, "runs/" + NAME, "--json")[0])["warnings"] == ["fit.png could not be drawn: no ink"]


def test_an_exit_code_of_a_check_is_explained(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert shown(capfd, make(facts={"exit_code": 3}))[1].endswith(" in 1.2 s; exit code 3: a check did not hold")


def test_a_gpu_is_named_and_long_titles_are_cut(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    facts = {"device": "cuda:0", "device_name": "NVIDIA H100", "threads": 1, "git": None}
    typed: dict[str, Any] = dict.fromkeys(("dropout", "label_smoothing", "momentum", "lr"), 0.3)
    typed |= {"batch_norm": True, "jitter": 2, "flip": True, "num_train": 1000, "schedule": "linear"}
    typed |= {"data_dir": "/data/" + "long/" * 30 + "fashion"}
    lines = shown(capfd, make(experiment="mlp", num_rows=3, facts=facts, **typed))
    assert "on kepler: cuda:0 (NVIDIA H100), 1 thread, mlpx 0.9.0, torch 2.13.0+cpu" in lines
    assert lines[0] == f"{NAME}  mlp: data dir .../fashion, dropout 0.3,"
    assert lines[1].endswith("...")
    assert lines[2].startswith("finished")
    assert not any(line.startswith("extend") for line in lines)  # its learning rates depend on the number of epochs


def test_all_settings_by_default_is_said(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert shown(capfd, make(degree=3, epochs=400))[0] == f"{NAME}  poly: all settings by default"


def test_many_pictures_are_counted(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make()
    for number in range(10):
        (path / f"{number}.png").touch()
    lines = shown(capfd, path)
    assert "pictures  0.png, 1.png, 2.png, 3.png, 4.png, 5.png, 6 more" in lines
    assert f"folder    {path.absolute()}" in lines


@pytest.mark.parametrize(
    ("name", "typed"), [("a b", "'runs/a b'"), ("it's", """'runs/it'"'"'s'"""), ("-x", "runs/-x"), ("é", "'runs/é'")]
)
def test_commands_can_be_typed_as_they_stand(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, typed: str
) -> None:
    path = make("dead", name=name)
    assert f"resume    mlpx resume {typed}" in shown(capfd, path)
    monkeypatch.chdir("runs")
    command = next(line for line in shown(capfd, home / "runs" / name) if line.startswith("resume"))
    word = shlex.split(command)[3]
    assert not word.startswith("-")
    assert reading.find(word, home / "nowhere") == (home / "runs" / name).resolve()
    monkeypatch.chdir("/usr")
    assert str(home) in next(line for line in shown(capfd, home / "runs" / name) if line.startswith("resume"))


def test_quiet_prints_the_path_and_json_one_object(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make()
    assert shown(capfd, path, "--quiet") == [str(path.resolve())]
    (line,) = shown(capfd, path, "--json")
    facts = json.loads(line)
    assert (facts["run"], facts["experiment"], facts["status"]) == (str(path.resolve()), "poly", "finished")
    assert facts["settings"]["degree"] == 19
    assert facts["metrics"]["test_loss"] == pytest.approx(0.0127)
    about = ("exit_code", "summary", "verdict", "command", "host", "error", "warnings", "seconds", "threads")
    assert [facts[name] for name in about] == [0, SUMMARY, "overfitting", "mlpx poly", "kepler", None, [], 1.2, 4]
    assert facts["versions"] == ABOUT["versions"]
    assert facts["git"] == ABOUT["git"]
    assert "verdicts" not in facts
    assert_fails(mlpx(capfd, "show", str(path), "--json", "--quiet"), 2, "exclude each other")


def test_json_has_null_for_what_is_not_finite(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make("diverged")
    with open(path / "metrics.csv", "a") as file:
        file.write("1520,nan,inf,1.0,1.5\n")
    (line,) = shown(capfd, path, "--json")
    facts = json.loads(line, parse_constant=pytest.fail)
    assert (facts["metrics"]["train_loss"], facts["metrics"]["test_loss"]) == (None, None)
    assert facts["error"] == str(FAILURES["diverged"])
    assert facts["exit_code"] == 4


def test_a_run_that_is_none_or_broken_is_an_input_error(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_fails(mlpx(capfd, "show", "nothing"), 5, "no such run")
    path = make()
    (path / "run.json").write_text("{")
    assert_fails(mlpx(capfd, "show", str(path)), 5, "is not JSON")


def test_a_failed_run_says_why_later(program: Program, home: Path) -> None:
    """Through the whole program: a run diverges, and goes on to the same end; the words are those of its error."""
    result = program("poly", "--lr", "50", "--runs-dir", "runs", cwd=home)
    assert result.code == 4
    said = result.err.splitlines()[-1].removeprefix("error: ")
    facts = json.loads(program("show", "latest", "--json", cwd=home).out)
    assert facts["error"] == said
    screen = program("show", "latest", cwd=home).out
    assert said in screen
    assert screen.splitlines()[1].startswith("diverged ")
