"""``mlpx export mlflow``: what MLflow's own client finds afterwards."""

import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from exporting import AT_END, FILES, ROWS, SECONDS, fill, snapshot, write
from helpers import Result, assert_fails, environment, mlpx, write_sweep

from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.reports import mlflow as exporting
from mlpx.reports.places import Place
from mlpx.runs import records
from mlpx.runs.folder import Run
from mlpx.settings.values import to_text

# MLflow's own warnings, of packages that it uses, are not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore")
Export = Callable[..., Result]
COLUMNS = ("train_loss", "test_loss", "generalization_loss", "seconds")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with MLflow's tables, which take seconds to make."""
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install 'mlpx[mlflow]'")
    pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed: pip install 'mlpx[mlflow]'")
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    exporting.require_installed(Place("", path))
    exporting._create_database(path)
    assert os.listdir(path.parent) == ["mlflow.db"]
    return path


@pytest.fixture
def export(
    empty_database: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Export:
    """The command in this process, in ``tmp_path/here``, from ``runs`` to ``tmp_path/store/mlflow.db``."""
    (tmp_path / "store").mkdir()
    (tmp_path / "here").mkdir()
    shutil.copy(empty_database, tmp_path / "store")
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str) -> Result:
        to = () if "--to" in arguments else ("--to", "../store/mlflow.db")
        return mlpx(capfd, "export", "mlflow", *(arguments or ["../runs"]), *to, "--runs-dir", "../runs")

    return run


def client(tmp_path: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/store/mlflow.db")


def exported(tmp_path: Path, experiment: str = "poly") -> dict[str, Any]:
    """The runs of an experiment by name."""
    found = client(tmp_path).get_experiment_by_name(f"mlpx/{experiment}")
    runs = client(tmp_path).search_runs([found.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}


def database(tmp_path: Path) -> list[str]:
    """Every row of every table."""
    with closing(sqlite3.connect(tmp_path / "store" / "mlflow.db")) as connection:
        return list(connection.iterdump())


def counts(result: Result) -> tuple[int, int, int]:
    assert result.code == 0, result
    told = json.loads(result.out)
    assert told["runs"] == told["new"] + told["replaced"] + told["unchanged"]
    return told["new"], told["replaced"], told["unchanged"]


def test_every_setting_and_every_value_comes_back(export: Export, tmp_path: Path) -> None:
    path = write(tmp_path / "runs", PolySettings(degree=3))
    result = export()
    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    assert (result.code, result.out) == (0, f"{uri}\n")
    assert result.err == f"note: one run: mlflow server --backend-store-uri {uri}\n"
    (run,) = exported(tmp_path).values()
    assert run.data.params == {name: to_text(value) for name, value in PolySettings(degree=3).model_dump().items()}
    for name in COLUMNS:
        history = client(tmp_path).get_metric_history(run.info.run_id, name)
        for each, row in zip(sorted(history, key=lambda each: each.step), ROWS, strict=True):
            assert (each.step, each.timestamp) == (row["epoch"], round((SECONDS + row["seconds"]) * 1000))
            # MLflow keeps an infinite value as the largest number.
            value = sys.float_info.max if math.isinf(row[name]) else row[name]
            assert math.isnan(each.value) if math.isnan(row[name]) else each.value == value
    for name, value in AT_END.items():
        (last,) = client(tmp_path).get_metric_history(run.info.run_id, name)
        assert (last.step, last.value) == (20, value)
    assert set(run.data.metrics) == {*COLUMNS, *AT_END}
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", 1795407330250, 1795407600000)
    tags = run.data.tags
    assert tags["mlpx.path"] == str(path)
    assert tags["mlflow.source.git.commit"] == "0123abc"
    assert (tags["mlpx.host"], tags["mlpx.git.dirty"], tags["mlpx.status"]) == ("node7", "true", "finished")
    assert tags["mlpx.command"] == "mlpx poly --name '<script>alert(1)</script>'"
    assert json.loads(tags["mlpx.versions"]) == {"mlpx": "0.1", "torch": "2.13"}


def test_the_files_lie_beside_the_database_and_nothing_in_the_folder_of_the_command(
    export: Export, tmp_path: Path
) -> None:
    path = write(tmp_path / "runs", PolySettings())
    export()
    (run,) = exported(tmp_path).values()
    folder = tmp_path / "store" / "mlflow-artifacts" / "poly" / run.info.run_id / "artifacts"
    names = {*FILES, "config.toml", "run.json", "metrics.csv"}
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == {
        name: (path / name).read_bytes() for name in names
    }
    assert {each.path for each in client(tmp_path).list_artifacts(run.info.run_id)} == names
    assert list((tmp_path / "here").iterdir()) == []


def test_runs_of_a_sweep_are_nested_and_a_second_export_changes_nothing(export: Export, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "runs", PolySettings, {"degree": "1,3"})
    for path in sweep.runs():
        with Run(path) as run:
            fill(run, records.read(path).settings)
    write(tmp_path / "runs", MlpSettings())
    assert counts(export("../runs", "--json"))[1] == 0
    runs = exported(tmp_path)
    parent = runs.pop(sweep.path.name)
    assert set(runs) == {"degree1", "degree3"}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert (parent.info.status, parent.info.end_time) == ("FINISHED", 1795407600000)
    assert [each.path for each in client(tmp_path).list_artifacts(parent.info.run_id)] == ["sweep.toml"]
    assert len(exported(tmp_path, "mlp")) == 1

    before = database(tmp_path), snapshot(tmp_path / "store" / "mlflow-artifacts")
    assert counts(export("../runs", "--json")) == (0, 0, 3)
    assert counts(export(f"{sweep.path.name}/degree1", "--json")) == (0, 0, 1)
    assert (database(tmp_path), snapshot(tmp_path / "store" / "mlflow-artifacts")) == before

    with Run(sweep.path / "degree3") as run:
        fill(run, PolySettings(degree=3), ROWS[:2])
    assert counts(export("../runs", "--json")) == (0, 1, 2)
    after = exported(tmp_path)
    assert after["degree1"].info.run_id == runs["degree1"].info.run_id
    assert after["degree3"].info.run_id != runs["degree3"].info.run_id
    assert after["degree3"].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert len(client(tmp_path).get_metric_history(after["degree3"].info.run_id, "train_loss")) == 2


def test_an_export_that_was_cut_off_is_done_again(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    write(tmp_path / "runs", PolySettings())

    def fails(*_: object, **__: object) -> None:
        raise MlflowException("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifact", fails)
        assert_fails(export(), 6, "the disk is full")
    (half,) = exported(tmp_path).values()
    assert counts(export("../runs", "--json")) == (1, 0, 0)
    (whole,) = exported(tmp_path).values()
    assert half.info.run_id != whole.info.run_id
    assert counts(export("../runs", "--json")) == (0, 0, 1)


def test_a_run_that_is_being_trained_is_exported_as_running_and_not_touched(export: Export, tmp_path: Path) -> None:
    path = write(tmp_path / "runs", PolySettings(), status="running")
    with Run(path):
        before = snapshot(tmp_path / "runs")
        assert export().code == 0
        assert snapshot(tmp_path / "runs") == before
    (run,) = exported(tmp_path).values()
    assert (run.info.status, run.info.end_time) == ("RUNNING", None)
    # The process has gone, without a word.
    assert counts(export("../runs", "--json")) == (0, 1, 0)
    (run,) = exported(tmp_path).values()
    assert (run.info.status, run.info.end_time) == ("KILLED", round((SECONDS + 60.75) * 1000))


def test_names_and_texts_that_mlflow_refuses_are_changed(export: Export, tmp_path: Path) -> None:
    path = write(tmp_path / "runs", MlpSettings(data_dir="/<script>/" + "x" * 7000), status="failed")
    (path / "metrics.csv").write_text(
        "epoch,<script>,?script?,../x,.\n" + "".join(f"{i},1,2,3,4\n" for i in range(700))
    )
    (path / "fit.png").unlink()
    document = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(document | {"command": "y" * 9000 + "\udc80"}))
    broken = write(tmp_path / "runs", PolySettings())
    (broken / "metrics.csv").write_text("epoch,train_loss\n1,2\n3\n")
    result = export()
    assert result.code == 0
    assert "without '?script?', which MLflow cannot tell from '<script>'" in result.err
    assert f"{broken.name} is left out" in result.err
    (run,) = exported(tmp_path, "mlp").values()
    assert run.data.metrics == {"_script_": 1, "___x": 3, "_": 4}
    assert len(client(tmp_path).get_metric_history(run.info.run_id, "_")) == 700
    assert run.data.params["data_dir"].startswith("/<script>/xxx")
    assert len(run.data.params["data_dir"]) == 6000
    assert len(run.data.tags["mlpx.command"]) == 5000
    assert run.info.status == "FAILED"


@pytest.mark.parametrize(
    ("to", "code", "words"),
    [
        ("runs", 2, "is neither a server nor an SQLite file"),
        ("postgresql://host/a", 2, "is no place for MLflow"),
        ("a?b.db", 2, "MLflow cannot use the path"),
        ("nowhere/mlflow.db", 6, "there is no folder"),
        ("text.db", 2, "is no SQLite file"),
        ("other.db", 2, "is a database of something else"),
        ("http://127.0.0.1:1", 5, "Connection refused"),
    ],
)
def test_a_place_that_cannot_be_used_is_refused(
    to: str, code: int, words: str, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    write(tmp_path / "runs", PolySettings())
    Path("text.db").write_text("no database")
    with closing(sqlite3.connect("other.db")) as connection:
        connection.execute("CREATE TABLE mine (a)")
    before = snapshot(tmp_path)
    assert_fails(export("../runs", "--to", to), code, words)
    assert snapshot(tmp_path) == before


def test_it_makes_a_database_without_a_word_and_asks_nobody(empty_database: Path, tmp_path: Path) -> None:
    write(tmp_path / "runs", PolySettings())
    code = (
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto'):\n"
        "        print(event, arguments, file=sys.__stderr__)\n"
        "sys.addaudithook(hook)\n"
        "sys.argv = 'mlpx export mlflow runs --to mlflow.db --quiet'.split()\n"
        "from mlpx.__main__ import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sqlite:///{tmp_path}/mlflow.db\n", "")
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "mlflow.db", "mlflow-artifacts"}
