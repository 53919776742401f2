"""Selecting runs: conditions, order, groups over seeds, and what differs."""

import math
from pathlib import Path

import pytest
from helpers import write_run

from mlpx.errors import UsageError
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.runs import records, selecting
from mlpx.runs.records import Record
from mlpx.settings.base import Settings
from mlpx.settings.files import resolve

FIGURES = {"epoch": 10, "train_loss": 0.25, "test_loss": 0.5}


@pytest.fixture
def record(tmp_path: Path) -> Record:
    settings = MlpSettings(hidden=[512, 256], lr=0.1, flip=True, epochs=10)
    return records.read(write_run(tmp_path, settings, {**FIGURES, "val_loss": math.nan}))


def read(tmp_path: Path, *many: Settings, **figures: float) -> list[Record]:
    """Finished runs of these settings, the newest last."""
    return [records.read(write_run(tmp_path, settings, FIGURES | figures)) for settings in many]


@pytest.mark.parametrize(
    "text",
    [
        "lr == 0.1",
        "lr==1e-1",
        "  lr  <=  0.10  ",
        "epochs > 9",
        "epochs != 9",
        "test_loss < 0.6",
        "train_loss >= 0.25",
        "experiment == mlp",
        "status == finished",
        "status != dead",
        "hidden == 512x256",
        "hidden != none",
        "flip == true",
        "dataset == fashion-mnist",
        "dataset != 7",
    ],
)
def test_a_condition_that_holds(record: Record, text: str) -> None:
    assert selecting.condition(text).holds(record)


@pytest.mark.parametrize(
    "text",
    [
        "lr == 0.2",
        "lr < 0.1",
        "epochs != 10",
        "test_loss > 0.5",
        "experiment == poly",
        "status != finished",
        "hidden == 512",
        "flip == 1",
        "flip > 0",
        "dataset > 3",
        # What a run does not have fulfills nothing, not even that it differs.
        "degree == 3",
        "degree != 3",
        "val_loss < 9",
        "val_loss != 9",
    ],
)
def test_a_condition_that_does_not_hold(record: Record, text: str) -> None:
    assert not selecting.condition(text).holds(record)


@pytest.mark.parametrize("text", ["", "lr", "lr = 0.1", "== 3", "lr == ", "0.1 == lr", "dataset < glyphs"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--where"):
        selecting.condition(text)


def test_a_name_that_no_run_has_is_refused_with_the_nearest(record: Record) -> None:
    known = selecting.known_names([record])
    assert {"experiment", "status", "lr", "degree", "num_layers", "test_accuracy", "val_loss", "epoch"} <= known
    selecting.require_known("--where", ["lr", "test_loss"], known)
    with pytest.raises(UsageError, match=r"no setting or metric 'tst_loss'. Did you mean 'test_loss'"):
        selecting.require_known("--where", ["tst_loss"], known)


def test_the_best_come_first_and_what_has_no_finite_value_last() -> None:
    values: dict[str, float | None] = {"a": 2.0, "b": None, "c": 1.0, "d": math.nan, "e": 3.0, "f": math.inf}
    assert selecting.best_first(values, values.get, highest=False) == ["c", "a", "e", "b", "d", "f"]
    assert selecting.best_first(values, values.get, highest=True) == ["e", "a", "c", "b", "d", "f"]


def test_runs_that_differ_in_the_seed_alone_are_a_group(tmp_path: Path) -> None:
    many = read(tmp_path, *(PolySettings(degree=degree, seed=seed) for seed in range(3) for degree in (1, 3)))
    groups, warnings = selecting.over_seeds(many)
    assert [[record.settings.seed for record in group.records] for group in groups] == [[0, 1, 2], [0, 1, 2]]
    assert {record.settings.label for record in groups[0].records} == {"degree1"}
    assert warnings == []


def test_a_group_has_a_value_for_each_seed_and_the_newest_run_of_a_seed_counts(tmp_path: Path) -> None:
    old, other = *read(tmp_path, PolySettings(seed=4)), *read(tmp_path, PolySettings(seed=2), test_loss=0.7)
    (new,) = read(tmp_path, PolySettings(seed=4), test_loss=0.6)
    (infinite,) = read(tmp_path, PolySettings(seed=1), test_loss=math.inf)
    (huge,) = read(tmp_path, PolySettings(seed=3), test_loss=1e308)
    running = records.read(write_run(tmp_path, PolySettings(seed=9), FIGURES, "running"))
    group = selecting.Group(records.newest_first([old, other, new, infinite, huge, running]))
    assert list(group.values("test_loss").items()) == [(2, 0.7), (4, 0.6)]
    assert group.values("test_accuracy") == {}


def test_replicas_join_the_group_of_their_settings_unless_they_cannot_be_read(tmp_path: Path) -> None:
    single, several = read(tmp_path, PolySettings(seed=9), PolySettings(seed=0, replicas=2))
    groups, (warning,) = selecting.over_seeds([single, several])
    assert [list(group.records) for group in groups] == [[single]]
    assert warning.startswith(f"{several.path.name} is left out: ")
    (several.path / "replicas.csv").write_text("replica,seed,train_loss\n0,0,0.1\n1,1,0.2\n")
    again = records.read(several.path)
    ((group,), warnings) = selecting.over_seeds([single, again])
    assert warnings == []
    assert group.values("train_loss") == {0: 0.1, 1: 0.2, 9: 0.25}


def test_another_data_folder_makes_no_other_group_but_another_corpus_does(tmp_path: Path) -> None:
    folders = read(tmp_path, MlpSettings(seed=1, data_dir="/a"), MlpSettings(seed=2, data_dir="/b"))
    files = {f"{part}_{side}": f"/{part}.{side}" for part in ("train", "val", "test") for side in ("src", "tgt")}
    given = [{"task": "text", **files, "train_src": name} for name in ("/x.en", "/y.en")]
    texts = [resolve(TransformerSettings, typed) for typed in given]
    groups, _ = selecting.over_seeds([*folders, *read(tmp_path, *texts)])
    assert [len(group.records) for group in groups] == [2, 1, 1]


def test_the_settings_that_vary_are_those_in_which_runs_of_one_experiment_differ(tmp_path: Path) -> None:
    polys = read(tmp_path, PolySettings(degree=1, seed=1, epochs=7), PolySettings(degree=3, seed=1, epochs=7))
    perceptrons = read(tmp_path, MlpSettings(hidden=[5]), MlpSettings(hidden=[], epochs=3))
    assert selecting.varying(polys) == ["degree"]
    assert selecting.varying([*polys, *perceptrons]) == ["degree", "epochs", "hidden"]
    assert selecting.varying([*polys, *perceptrons], ["degree"]) == ["epochs", "hidden"]
    assert selecting.varying(polys[:1]) == ["seed", "epochs", "degree"]  # of a single run: what is no default
    assert selecting.varying([]) == []


def test_a_metric_that_this_version_does_not_know_is_a_plain_number(tmp_path: Path) -> None:
    metrics = selecting.declared_metrics(read(tmp_path, MlpSettings(), of_tomorrow=1.0))
    assert (metrics["of_tomorrow"].kind, metrics["of_tomorrow"].better) == ("number", None)
    assert (metrics["test_accuracy"].kind, metrics["test_accuracy"].better) == ("share", "higher")
