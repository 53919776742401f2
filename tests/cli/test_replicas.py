"""The whole program with --replicas: what a run leaves, checks, resuming."""

import json
import random
import time
from pathlib import Path

import pytest
import torch
from forks import live
from helpers import (
    ROOT,
    Program,
    Result,
    assert_fails,
    document_of,
    environment,
    finished,
    outcome,
    run_program,
    runs_of,
    table,
)
from safetensors.torch import load_file

from mlpx.experiments.mlp import metrics as mlp
from mlpx.experiments.poly import metrics as poly
from mlpx.runs import checkpoints
from mlpx.settings.metrics import EXTREMES, SPREAD, final

POLY = ("poly", "--degree", "5", "--epochs", "60", "--seed", "7")
MLP = ("mlp", "--dataset", "glyphs", "--num-train", "500", "--epochs", "2", "--lr", "0.3")
MLP_RICH = (*MLP, "--batch-norm", "--momentum", "0.9", "--jitter", "2", "--flip", "--schedule", "linear")


def folder_of(result: Result) -> Path:
    assert result.code == 0, result
    return Path(result.out.strip())


def test_a_run_of_replicas_leaves_what_its_single_runs_leave(program: Program) -> None:
    run = folder_of(program(*POLY, "--replicas", "5", "--quiet"))
    singles = [folder_of(program(*POLY[:-1], str(seed), "--quiet")) for seed in range(7, 12)]
    names = {path.name for path in singles[0].iterdir()}
    assert {path.name for path in run.iterdir()} == names | {"replicas.csv"}

    weights = load_file(run / "weights.safetensors")["weight"]
    alone = torch.cat([load_file(single / "weights.safetensors")["weight"] for single in singles])
    torch.testing.assert_close(weights, alone, rtol=0, atol=1e-5)
    rows = table(run / "replicas.csv")
    assert [(row.pop("replica"), row.pop("seed")) for row in rows] == [(str(r), str(7 + r)) for r in range(5)]
    for row, single in zip(rows, singles, strict=True):
        metrics = document_of(single)["metrics"]
        assert {name: float(value) for name, value in row.items()} == pytest.approx(
            {name: metrics[name] for name in row}, rel=1e-4
        )

    metrics = document_of(run)["metrics"]
    assert set(metrics) == {metric.name for metric in final(poly.METRICS, 5)}
    for name in rows[0]:
        values = sorted(float(row[name]) for row in rows)
        assert (metrics[f"min_{name}"], metrics[name], metrics[f"max_{name}"]) == pytest.approx(tuple(values[::2]))
    assert sum(document_of(run)["verdicts"].values()) == 5
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    columns = [
        f"{name}{kind}"
        for name in ("train_loss", "test_loss", "generalization_loss")
        for kind in ("", *(f"_{kind}" for kind in SPREAD))
    ]
    assert header == ["epoch", *columns, "seconds"]


@pytest.mark.smoke
def test_the_screen_has_medians_and_the_summary_the_spread(program: Program) -> None:
    lines = program(*POLY, "--replicas", "5").out.splitlines()
    assert lines[0].split() == ["epoch", "train", "loss", "test", "loss", "generalization", "loss", "seconds"]
    assert lines[-2].startswith("5 replicas: ")
    assert "±" in lines[-2]
    events = [json.loads(line) for line in program(*POLY, "--replicas", "5", "--json").out.splitlines()]
    assert events[1]["test_loss_p10"] <= events[1]["test_loss"] <= events[1]["test_loss_p90"]


def test_checks_apply_to_medians_and_to_the_extremes_by_name(program: Program) -> None:
    run = (*POLY, "--replicas", "5")
    metrics = document_of(folder_of(program(*run, "--quiet")))["metrics"]
    median, greatest = metrics["test_loss"], metrics["max_test_loss"]
    assert median < greatest
    between = (median + greatest) / 2
    assert program(*run, "--check", f"test_loss < {between}").code == 0
    assert_fails(program(*run, "--check", f"max_test_loss < {between}"), 3, "max_test_loss")
    assert_fails(program(*POLY, "--check", "max_test_loss < 1"), 2, "no metric 'max_test_loss'")
    names = [*(f"test_loss_{kind}" for kind in SPREAD), *(f"{kind}_test_loss" for kind in EXTREMES)]
    assert program(*run, *(word for name in names for word in ("--check", f"{name} > 0"))).code == 0


@pytest.mark.parametrize("command", [MLP, MLP_RICH])
def test_mlp_has_an_axis_of_replicas_and_evaluates_as_recorded(program: Program, command: tuple[str, ...]) -> None:
    run = folder_of(program(*command, "--replicas", "2", "--quiet"))
    assert set(document_of(run)["metrics"]) == {metric.name for metric in final(mlp.METRICS, 2)}
    weights = load_file(run / "weights.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == {
        "1.weight": (2, 256, 784),
        "1.bias": (2, 256),
        "3.weight": (2, 10, 256),
        "3.bias": (2, 10),
    }
    (event,) = (json.loads(line) for line in program("evaluate", "latest", "--json").out.splitlines())
    assert event["metrics"] == event["recorded"]
    assert len(event["metrics"]) == 4 * (1 + len(SPREAD))
    (guess,) = program("predict", "latest", str(ROOT / "docs" / "shirt.png"), "--json").out.splitlines()
    assert sum(json.loads(guess)["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_what_fades_until_the_last_epoch_cannot_be_extended(program: Program) -> None:
    folder_of(program(*MLP, "--jitter", "1", "--quiet"))
    assert_fails(
        program("resume", "latest", "--epochs", "3"),
        2,
        "--epochs",
        "how much its images move depends on how many it has",
    )


def test_a_run_that_is_older_than_a_setting_goes_on(program: Program) -> None:
    run = folder_of(program(*POLY, "--quiet"))
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("replicas = 1\n", ""))
    newest, _ = checkpoints.load_newest(run / "checkpoints")
    assert newest is not None
    del newest.settings["replicas"]
    checkpoints.save(run / "checkpoints", newest)
    assert program("resume", "latest", "--epochs", "80").code == 0
    assert document_of(run)["resumed_from_epoch"] == [60]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["poly", "--degree", "19", "--epochs", "3000", "--replicas", "20"], marks=pytest.mark.slow),
        # Three of these diverge, by epochs 100, 140 and 160.
        ["poly", "--degree", "5", "--lr", "0.4", "--seed", "10", "--epochs", "1000", "--replicas", "8"],
        pytest.param([*MLP_RICH, "--epochs", "12", "--replicas", "3", "--dropout", "0.2"], marks=pytest.mark.slow),
    ],
)
@pytest.mark.program
def test_killed_runs_of_replicas_resume_bit_for_bit(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "undisturbed").mkdir()
    undisturbed = finished(command, tmp_path / "undisturbed").path
    duration = float(table(undisturbed / "metrics.csv")[-1]["seconds"])
    moments = random.Random(2)
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        with live([*command, "--checkpoint-every", "0.1"], folder, environment()) as process:
            while not list(folder.glob("runs/*/config.toml")):
                assert process.returncode is None
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.9 * duration))
            process.kill()
        (run,) = runs_of(folder)
        assert run_program(["resume", str(run), "--quiet"], folder).code == 0
        print(f"\nkilled and resumed from epoch {document_of(run)['resumed_from_epoch']}")
        assert outcome(run) == outcome(undisturbed)
