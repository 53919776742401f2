"""``mlpx export tensorboard``: what TensorBoard itself reads of it."""

import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exporting import FILES, ROWS, SECONDS, fill, snapshot, write
from helpers import Result, assert_fails, document_of, mlpx, write_sweep

from mlpx.cli import export as command
from mlpx.errors import Interrupted
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.reports.contents import Outcome
from mlpx.runs import records
from mlpx.runs.folder import Run
from mlpx.sweeps.folder import Sweep

Export = Callable[..., Result]
COLUMNS = ("train_loss", "test_loss", "generalization_loss", "seconds")


@pytest.fixture
def export(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Export:
    """The command in this process, in ``tmp_path``, from ``runs`` to ``tb``."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install 'mlpx[tensorboard]'")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        to = () if "--to" in arguments else ("--to", "tb")
        return mlpx(capfd, "export", "tensorboard", *(arguments or ["runs"]), *to)

    return run


def sweep_of_four(runs_dir: Path) -> Sweep:
    sweep = write_sweep(runs_dir, PolySettings, {"degree": "1,3", "seed": "0..1"})
    for path in sweep.runs():
        with Run(path) as run:
            fill(run, records.read(path).settings)
    return sweep


def read(folder: Path) -> Any:
    """What TensorBoard's own reader finds in a folder, all of it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance=dict.fromkeys(("scalars", "images", "tensors"), 0))
    found.Reload()
    return found


def sessions(folder: Path) -> tuple[set[str], dict[str, tuple[int, dict[str, Any], set[str]]]]:
    """The columns of TensorBoard's page of hyperparameters, and its rows: status, settings and metrics of each run."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, list_session_groups
    from tensorboard.plugins.hparams.backend_context import Context

    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(folder))))
    metadata = context.hparams_metadata(RequestContext(), "")
    page = context.experiment_from_metadata(RequestContext(), "", True, metadata, [])
    names = {info.name for info in page.hparam_infos}
    request = api_pb2.ListSessionGroupsRequest(
        slice_size=100,
        allowed_statuses=[0, 1, 2, 3],
        col_params=[api_pb2.ColParams(hparam=name) for name in sorted(names)],
    )
    groups = list_session_groups.Handler(RequestContext(), context, "", request).run().session_groups
    rows = {}
    for group in groups:
        kinds = {name: value.WhichOneof("kind") for name, value in group.hparams.items()}
        settings = {name: getattr(group.hparams[name], kind) for name, kind in kinds.items() if kind}
        rows[group.name] = group.sessions[0].status, settings, {each.name.tag for each in group.metric_values}
    return names, rows


def float32(value: float) -> float:
    """The nearest number of half the precision; a larger one is infinite."""
    import numpy as np

    with np.errstate(over="ignore"):
        return float(np.float32(value))


def test_every_value_comes_back_with_its_epoch_and_its_time(export: Export, tmp_path: Path) -> None:
    run = write(tmp_path / "runs", PolySettings())
    result = export()
    assert (result.code, result.out) == (0, f"{tmp_path}/tb\n")
    assert result.err == "note: one run: tensorboard --logdir tb\n"
    found = read(tmp_path / "tb" / run.name)
    for name in COLUMNS:
        events = found.Scalars(name)
        assert [(each.step, each.wall_time) for each in events] == [
            (row["epoch"], SECONDS + row["seconds"]) for row in ROWS
        ]
        assert [repr(each.value) for each in events] == [repr(float32(row[name])) for row in ROWS]
    assert math.isnan(found.Scalars("generalization_loss")[1].value)
    (floor,) = found.Scalars("noise_floor")
    assert (floor.step, floor.wall_time, floor.value) == (20, SECONDS + 60.75, float32(0.01))
    assert set(found.Tags()["scalars"]) == {*COLUMNS, "noise_floor", "train_to_noise"}


def test_pictures_and_texts_come_back(export: Export, tmp_path: Path) -> None:
    run = write(tmp_path / "runs", PolySettings())
    export()
    found = read(tmp_path / "tb" / run.name)
    assert found.Tags()["images"] == ["fit", "loss"]
    for name, width, height in (("fit", 2, 5), ("loss", 4, 3)):
        (image,) = found.Images(name)
        assert image.encoded_image_string == FILES[f"{name}.png"]
        assert (image.width, image.height, image.step) == (width, height, 20)
    texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in ("run", "translations")}
    # An indented line is verbatim in Markdown.
    assert texts["translations"] == "    <script>\n    # no heading"
    assert "    summary   overfitting: <b>bold</b>\n" in texts["run"]
    assert all(line.startswith("    ") for line in texts["run"].splitlines())


def test_the_page_of_settings_has_those_of_all_runs_whenever_they_were_exported(export: Export, tmp_path: Path) -> None:
    poly = write(tmp_path / "runs", PolySettings(degree=3, lr=0.125))
    mlp = write(tmp_path / "runs", MlpSettings(hidden=[7, 5], seed=2**63 - 1, data_dir="/<script>"))
    failed = write(tmp_path / "runs", PolySettings(degree=1), status="failed")
    assert export(f"runs/{poly.name}").code == 0
    assert export(f"runs/{mlp.name}", f"runs/{failed.name}").code == 0
    names, rows = sessions(tmp_path / "tb")
    assert names == {"experiment", *PolySettings.model_fields, *MlpSettings.model_fields}
    assert set(rows) == {poly.name, mlp.name, failed.name}
    status, settings, metrics = rows[poly.name]
    assert settings == {"experiment": "poly", **PolySettings(degree=3, lr=0.125).model_dump()}
    assert (status, metrics) == (1, {*COLUMNS, "noise_floor", "train_to_noise"})
    assert rows[failed.name][0] == 2
    assert rows[mlp.name][1]["hidden"] == "7x5"
    assert rows[mlp.name][1]["seed"] == str(2**63 - 1)
    assert rows[mlp.name][1]["data_dir"] == "/<script>"
    # There is no other run than the exported ones.
    assert {path.parent.name for path in (tmp_path / "tb").rglob("*tfevents*")} == set(rows)


def test_a_second_export_changes_nothing_and_a_run_that_has_changed_is_replaced(export: Export, tmp_path: Path) -> None:
    sweep = sweep_of_four(tmp_path / "runs")
    assert json.loads(export("latest", "--json").out) == {
        "to": f"{tmp_path}/tb",
        "runs": 4,
        "new": 4,
        "replaced": 0,
        "unchanged": 0,
    }
    before = snapshot(tmp_path / "tb")
    assert {name for name in before if name.count("/") == 1} == {
        f"{sweep.path.name}/degree{degree}-seed{seed}" for degree in (1, 3) for seed in (0, 1)
    }
    assert export("latest").err == "note: 4 runs, 4 of them unchanged: tensorboard --logdir tb\n"
    assert snapshot(tmp_path / "tb") == before

    changed = sweep.path / "degree3-seed1"
    with Run(changed) as run:
        fill(run, records.read(changed).settings, ROWS[:2])
    assert json.loads(export("latest/degree3-seed1", "--json").out)["replaced"] == 1
    after = snapshot(tmp_path / "tb")
    inside = f"{sweep.path.name}/degree3-seed1"
    others = {name for name in before if not name.startswith(inside)} - {"."}
    assert {name: after[name] for name in others} == {name: before[name] for name in others}
    (file,) = (tmp_path / "tb" / inside).iterdir()
    # TensorBoard goes on to a file whose name comes later.
    assert file.name > next(Path(name).name for name in before if name.startswith(f"{inside}/"))
    assert len(read(file.parent).Scalars("train_loss")) == 2


def test_the_same_runs_give_the_same_bytes(export: Export, tmp_path: Path) -> None:
    write(tmp_path / "runs", PolySettings())
    export()
    shutil.copytree(tmp_path / "runs", tmp_path / "copy" / "runs", symlinks=True)
    export("runs", "--to", "other")
    first, second = (
        {name: content for name, (_, content) in snapshot(tmp_path / to).items()} for to in ("tb", "other")
    )
    assert first == second


def test_a_run_that_is_being_trained_is_exported_and_not_touched(export: Export, tmp_path: Path) -> None:
    path = write(tmp_path / "runs", PolySettings(), status="running")
    with open(path / "metrics.csv", "a") as file:
        file.write("30,0.5,0.")  # a row that is just being written
    write_sweep(tmp_path / "runs", PolySettings, {"degree": "1,3"})
    with Run(path):
        before = snapshot(tmp_path / "runs")
        result = export("runs")
        assert snapshot(tmp_path / "runs") == before
    assert result.code == 0
    assert result.err == "note: 2 runs not started, and left out\nnote: one run: tensorboard --logdir tb\n"
    assert [each.step for each in read(tmp_path / "tb" / path.name).Scalars("test_loss")] == [1, 10, 20]
    assert sessions(tmp_path / "tb")[1][path.name][0] == 3


def test_what_is_broken_costs_a_warning(export: Export, tmp_path: Path) -> None:
    runs = [write(tmp_path / "runs", PolySettings(degree=degree)) for degree in range(1, 7)]
    (runs[0] / "config.toml").write_text("degree = ")
    (runs[1] / "metrics.csv").write_text("epoch,train_loss\n1,2\n3\n")
    (runs[2] / "metrics.csv").write_text("epoch,train_loss\nnan,2\n")
    (runs[3] / "metrics.csv").unlink()
    (runs[4] / "fit.png").write_bytes(b"no picture")
    (runs[4] / "loss.png").unlink()
    (runs[4] / "link.png").symlink_to("/etc/passwd")
    result = export()
    assert result.code == 0
    assert result.err.splitlines()[-1] == "note: 3 runs: tensorboard --logdir tb"
    warnings = result.err.splitlines()[:-1]
    assert all(line.startswith("warning: ") for line in warnings)
    for number, words in ((0, "is left out"), (1, "is not a table of numbers"), (2, "an epoch nan"), (4, "fit.png")):
        assert sum(runs[number].name in line and words in line for line in warnings) == 1
    assert len(warnings) == 4
    assert read(tmp_path / "tb" / runs[4].name).Tags()["images"] == []
    (loss,) = read(tmp_path / "tb" / runs[3].name).Scalars("train_loss")
    assert (loss.step, loss.value) == (20, float32(2e-9))
    alone = export(f"runs/{runs[1].name}")
    assert (alone.code, alone.out) == (5, "")
    assert "error: export: none of these runs can be exported" in alone.err


def test_hostile_names_stay_names(export: Export, tmp_path: Path) -> None:
    path = write(tmp_path / "runs", PolySettings(), ROWS[:1], status="failed")
    (path / "metrics.csv").write_text("epoch,<script>,../x\n1,2.5,3.5\n")
    (path / "..png").write_bytes(FILES["fit.png"])
    (path / "<b>.png").write_bytes(FILES["fit.png"])
    assert export().code == 0
    found = read(tmp_path / "tb" / path.name)
    assert {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]} == {"<script>": 2.5, "../x": 3.5}
    assert "<b>" in found.Tags()["images"]
    assert [each.name for each in tmp_path.iterdir() if each.name not in ("runs", "tb")] == []


def test_nothing_that_is_no_export_is_ever_replaced(export: Export, tmp_path: Path) -> None:
    run, other = (write(tmp_path / "runs", PolySettings(degree=degree)) for degree in (1, 3))
    mine = tmp_path / "tb" / other.name
    mine.mkdir(parents=True)
    (mine / "events.out.tfevents.1700000000.host").write_bytes(b"mine")
    (tmp_path / "file").touch()
    before = snapshot(tmp_path)
    assert_fails(export(), 2, f"{mine} holds 'events.out.tfevents.1700000000.host'")
    assert_fails(export("runs", "--to", "runs"), 2, "no earlier export")
    assert_fails(export("runs", "--to", f"runs/{run.name}"), 2, "is the folder of a run")
    assert_fails(export("runs", "--to", "file"), 2, "is no folder")
    assert_fails(export("runs", "--to", "file/inside"), 6, "cannot make")
    assert_fails(export("runs", "--quiet", "--json"), 2, "exclude each other")
    shutil.copytree(run, tmp_path / "elsewhere" / run.name)
    before |= snapshot(tmp_path)
    assert_fails(export(f"runs/{run.name}", f"elsewhere/{run.name}"), 2, "have the same name")
    assert snapshot(tmp_path) == before


def test_a_signal_ends_the_export_after_a_complete_run(tmp_path: Path) -> None:
    found = [records.read(write(tmp_path / "runs", PolySettings(degree=degree))) for degree in (1, 3, 5)]

    def outcomes() -> Any:
        for _ in found:
            signal.raise_signal(signal.SIGINT)
            yield Outcome("new")

    with pytest.raises(Interrupted, match="1 of 3 runs exported") as caught:
        command._export(found, outcomes(), "tb", "", "table")
    assert caught.value.exit_code == 130


def test_an_export_that_fails_leaves_no_half_of_a_file(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write(tmp_path / "runs", PolySettings())
    export()
    before = snapshot(tmp_path / "tb")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), "tb")

    (run / "run.json").write_text(json.dumps({**document_of(run), "host": "another"}))
    monkeypatch.setattr(os, "replace", full)
    assert_fails(export(), 6, "No space left")
    after = snapshot(tmp_path / "tb")
    assert {name: content for name, (_, content) in after.items()} == {
        name: content for name, (_, content) in before.items()
    }


@pytest.mark.parametrize(
    ("target", "to", "module", "extra"),
    [
        ("tensorboard", "tb", "tensorboard.compat.proto.event_pb2", "mlpx[tensorboard]"),
        ("mlflow", "mlflow.db", "mlflow.tracking", "mlpx[mlflow]"),
        ("mlflow", "mlflow.db", "sqlparse", "mlpx[mlflow]"),
    ],
)
def test_without_the_package_the_error_says_how_to_install_it(
    target: str,
    to: str,
    module: str,
    extra: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)  # which makes the import fail
    result = mlpx(capfd, "export", target, "latest", "--to", to)
    assert_fails(result, 2, f"pip install '{extra}'", "is not installed")
    assert list(tmp_path.iterdir()) == []
