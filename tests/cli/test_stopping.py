"""Runs that stop early: what they keep and say, and that they come out the same however often they were stopped."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from helpers import assert_fails, document_of, draws_nothing, mlpx, outcome, table, write_run
from safetensors.torch import load_file

from mlpx import registry
from mlpx.cli import views
from mlpx.experiments.mlp import images
from mlpx.experiments.mlp.images import Examples
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.transformer import decoding, tasks
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.runs import folder
from mlpx.runs.execution import Execution
from mlpx.runs.folder import Run
from mlpx.settings.base import Settings
from mlpx.training.experiment import AnyExperiment
from mlpx.training.loop import EpochRecord, Position, Progress, fit
from mlpx.training.signals import StopFlag

CPU = torch.device("cpu")
MLP = MlpSettings(
    dataset="glyphs",
    num_val=80,
    hidden=[16],
    batch_size=50,
    momentum=0.9,
    lr=0.1,
    batch_norm=True,
    epochs=40,
    eval_every=2,
    patience=3,
)
TRANSFORMER = TransformerSettings(
    num_layers=1,
    d_model=8,
    num_heads=2,
    d_ff=16,
    num_train=60,
    lr=0.1,
    warmup_steps=0,
    epochs=30,
    patience=2,
)
SETTINGS = {settings.experiment: settings for settings in (MLP, TRANSFORMER)}
CLOCKED = ("seconds", "tokens_per_second")


def noisy(count: int, seed: int) -> Examples:
    """Random images, with a bright row that tells the class of three in five: a model overfits them soon."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    pixels = torch.randint(90, (count, 28, 28), generator=generator)
    shown = torch.where(torch.rand(count, generator=generator) < 0.4, labels.roll(1), labels)
    pixels[torch.arange(count), 2 * shown] += 150
    return Examples(pixels.to(torch.uint8), labels.to(torch.uint8))


@pytest.fixture(autouse=True, scope="module")
def small_sets() -> Iterator[None]:
    """Little data for both experiments, no endless outputs, and no pictures, which would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "load", lambda *_: (noisy(380, 0), noisy(90, 1)))
        for name in ("NUM_VAL", "NUM_TEST"):
            patch.setattr(tasks, name, 20)
        patch.setattr(decoding, "MORE_WORDS", 5)
        patch.setattr(Execution, "_drawn", draws_nothing)
        yield


def built(settings: Settings) -> AnyExperiment:
    return registry.experiment_class(settings.experiment)(settings, CPU)


def trained(runs_dir: Path, settings: Settings, killed_at: int | None = None) -> Path:
    """A run of these settings; or one killed at the record of that number; past all, before it says how it ended."""
    with folder.create(runs_dir, settings, "x") as run, pytest.MonkeyPatch.context() as patch:
        run.document = {"command": "mlpx", "resumed_from_epoch": []}
        every = 60.0 if killed_at is None else 0.0
        execution = Execution(run, built(settings), device=CPU, stop=StopFlag(), checkpoint_every=every)
        if killed_at is not None:
            patch.setattr(execution, "_finish", lambda: iter(()))
        events = execution.events()
        for number, _ in enumerate(events):
            if number == killed_at:
                break
        events.close()  # type: ignore[attr-defined]
    return run.path


class Stopped(NamedTuple):
    """A run that stopped early; no test may change its folder."""

    settings: Settings
    path: Path


@pytest.fixture(scope="module", params=SETTINGS)
def stopped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    settings = SETTINGS[request.param]
    return Stopped(settings, trained(tmp_path_factory.mktemp(request.param), settings))


def test_the_run_ends_early_with_the_weights_of_its_best_row(stopped: Stopped) -> None:
    rows, document = table(stopped.path / "metrics.csv"), document_of(stopped.path)
    losses = [float(row["val_loss"]) for row in rows]
    best = losses.index(min(losses))
    assert (document["status"], document["stopped_early"]) == ("finished", True)
    patience = stopped.settings.model_dump()["patience"]
    assert len(losses) - 1 - best == patience
    assert int(rows[-1]["epoch"]) < stopped.settings.epochs
    assert document["best_epoch"] == int(rows[best]["epoch"])
    for name, text in rows[best].items():
        trained_for = name in ("epoch", "seconds")
        assert document["metrics"][name] == float(rows[-1 if trained_for else best][name] if trained_for else text), (
            name
        )

    # The weights are those of a plain training of as many epochs.
    experiment = built(stopped.settings)
    next(r for r in fit(experiment) if isinstance(r, EpochRecord) and r.position.epoch == document["best_epoch"])
    outcome = experiment.outcome({name: float(text) for name, text in rows[best].items()})
    kept = load_file(stopped.path / "weights.safetensors")
    assert kept.keys() == outcome.weights.keys()
    assert all(torch.equal(kept[name], weight) for name, weight in outcome.weights.items())


def test_the_kept_weights_evaluate_to_the_recorded_figures(stopped: Stopped, capfd: pytest.CaptureFixture[str]) -> None:
    result = mlpx(capfd, "evaluate", str(stopped.path), "--json")
    event = json.loads(result.out)
    assert result.code == 0
    assert event["metrics"] == event["recorded"]
    assert "test_loss" in event["metrics"]
    assert ("val_loss" in event["metrics"]) == (stopped.settings.experiment == "mlp")


def test_it_says_when_it_stopped_and_what_it_kept(stopped: Stopped, capfd: pytest.CaptureFixture[str]) -> None:
    document = document_of(stopped.path)
    last, best, epochs = document["metrics"]["epoch"], document["best_epoch"], stopped.settings.epochs
    words = f"stopped early after epoch {last} of {epochs}"
    assert document["summary"].endswith(f"; weights of epoch {best}, the best in validation; {words}")
    shown = mlpx(capfd, "show", str(stopped.path)).out
    assert f"ago: {words} in " in shown
    assert "--epochs" not in shown
    listed = mlpx(capfd, "runs", str(stopped.path), "--columns", "epoch,val_loss,status", "--format", "csv").out
    assert listed.splitlines()[1].split(",")[-1] == "finished"


def test_it_is_finished_and_cannot_be_extended(
    stopped: Stopped, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    copy = shutil.copytree(stopped.path, tmp_path / "run")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != "lock"}
    again = mlpx(capfd, "resume", str(copy))
    assert (again.code, again.err) == (0, "")
    assert again.out.startswith(f"already finished: {document_of(copy)['metrics']['epoch']} epochs\n")
    assert_fails(mlpx(capfd, "resume", str(copy), "--check", "val_loss < 0"), 3, "val_loss")
    assert_fails(mlpx(capfd, "resume", str(copy), "--epochs", "99"), 2, "--epochs", "patience")
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_that_was_killed_anywhere_comes_out_the_same(
    stopped: Stopped, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    document = document_of(stopped.path)
    every = list(fit(built(stopped.settings)))
    rows = [number for number, record in enumerate(every) if isinstance(record, EpochRecord)]
    best = next(n for n in rows if every[n].position.epoch == document["best_epoch"])
    # Before and after the best row, just before the last row and at it, and after all of it.
    for killed_at in (1, best, best + 1, rows[-2] + 1, rows[-1], len(every)):
        run = trained(tmp_path, stopped.settings, killed_at)
        assert document_of(run)["status"] == "running"
        result = mlpx(capfd, "resume", str(run), "--quiet")
        assert (result.code, result.err) == (0, ""), killed_at
        assert outcome(run) == outcome(stopped.path), killed_at
        resumed = document_of(run)
        assert len(resumed["resumed_from_epoch"]) == 1
        for name in ("summary", "stopped_early", "best_epoch"):
            assert resumed[name] == document[name]
        for name, value in document["metrics"].items():
            assert name in CLOCKED or resumed["metrics"][name] == value, name


def test_a_run_that_reaches_its_last_epoch_keeps_its_best_row_too(
    stopped: Stopped, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    early = document_of(stopped.path)
    changes = {"epochs": early["best_epoch"] + 1}
    run = trained(tmp_path, stopped.settings.model_copy(update=changes))
    document = document_of(run)
    rows = table(run / "metrics.csv")
    losses = [float(row["val_loss"]) for row in rows]
    assert document["stopped_early"] is False
    assert document["metrics"]["epoch"] == changes["epochs"]
    assert document["best_epoch"] == int(rows[losses.index(min(losses))]["epoch"])
    assert document["metrics"]["val_loss"] == min(losses)
    assert "stopped early" not in document["summary"]
    assert f"weights of epoch {document['best_epoch']}, the best in validation" in document["summary"]
    assert mlpx(capfd, "evaluate", str(run)).code == 0
    assert mlpx(capfd, "resume", str(run)).out.startswith(f"already finished: {changes['epochs']} epochs\n")
    assert_fails(mlpx(capfd, "resume", str(run), "--epochs", "99"), 2, "--epochs", "patience")


def test_a_last_row_off_the_grid_may_be_the_best(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    settings = MLP.model_copy(update={"lr": 0.001, "epochs": 5})
    run = trained(tmp_path, settings)
    document = document_of(run)
    assert [row["epoch"] for row in table(run / "metrics.csv")] == ["1", "2", "4", "5"]
    assert document["best_epoch"] == 5
    killed = trained(tmp_path, settings, len(list(fit(built(settings)))))
    assert mlpx(capfd, "resume", str(killed), "--quiet").code == 0
    assert outcome(killed) == outcome(run)
    assert document_of(killed)["best_epoch"] == 5


def test_without_patience_the_last_weights_are_kept_and_nothing_is_said(tmp_path: Path) -> None:
    run = trained(tmp_path, MLP.model_copy(update={"patience": 0, "epochs": 6}))
    document = document_of(run)
    assert not {"stopped_early", "best_epoch"} & document.keys()
    last = table(run / "metrics.csv")[-1]
    assert all(document["metrics"][name] == float(text) for name, text in last.items())
    assert "weights of" not in document["summary"]


@pytest.mark.parametrize(("patience", "words"), [(0, "about 40.0 s left"), (3, "at most about 40.0 s left")])
def test_the_time_left_is_at_most_that_to_the_last_epoch(
    patience: int, words: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = MLP.model_copy(update={"patience": patience, "epochs": 6})
    with Run(write_run(tmp_path, settings, {"epoch": 2, "seconds": 20.0}, status="running")) as run:
        assert f"after epoch 2 of 6 in 20.0 s, {words}" in mlpx(capfd, "show", str(run.path)).out
        monkeypatch.setattr(views, "BAR_SECONDS", 0.0)
        screen, bar = views.Screen(), views.new_bar("epoch {task.fields[epoch]}", "{task.fields[left]} left")
        screen._animated = True
        monkeypatch.setattr(views, "new_bar", lambda *_: bar)
        screen.start(run, settings, ())
        screen.show(Progress(Position(2, 0), 20.0, 1 / 3))
        assert bar.tasks[0].fields["left"] == ("at most 0:00:40" if patience else "0:00:40")
        bar.stop()
