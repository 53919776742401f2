"""Runs some of whose replicas diverge: what they leave, against the runs of the other seeds alone."""

import json
import math
import statistics
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, Finished, Program, assert_fails, document_of, finished, outcome, runs_of, table
from safetensors.torch import load_file

from mlpx.experiments.poly.experiment import Polynomials
from mlpx.experiments.poly.settings import PolySettings
from mlpx.runs import folder
from mlpx.runs.events import Event
from mlpx.runs.execution import Execution
from mlpx.runs.folder import Run
from mlpx.runs.resuming import read_checkpoint, restore
from mlpx.training.loop import EpochRecord, Progress, fit
from mlpx.training.signals import StopFlag

CPU = torch.device("cpu")
FIRST, EPOCHS, REPLICAS = 10, 300, 8
# Of these, three diverge, and the others settle.
POLY = ("poly", "--degree", "5", "--lr", "0.4", "--seed", f"{FIRST}", "--replicas", f"{REPLICAS}")
SETTINGS = PolySettings(degree=5, lr=0.4, seed=FIRST, replicas=REPLICAS, epochs=EPOCHS)
DIVERGED = {7: 100, 5: 140, 1: 160}
WARNINGS = [f"replica {replica} diverged by epoch {epoch} and is left out" for replica, epoch in DIVERGED.items()]
LEFT = [replica for replica in range(REPLICAS) if replica not in DIVERGED]
# Two of these diverge; the others learn nothing, but stay finite.
MLP = (
    *("mlp", "--dataset", "glyphs", "--num-train", "500", "--hidden", "16", "--hidden", "16", "--batch-size", "50"),
    *("--lr", "1e5", "--momentum", "0.9", "--epochs", "2"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished([*POLY, "--epochs", f"{EPOCHS}"], tmp_path_factory.mktemp("poly"))


@pytest.fixture(scope="module")
def singles() -> dict[int, tuple[Polynomials, list[dict[str, float]]]]:
    """For each replica that does not diverge, the training of its seed alone, and its rows."""
    trained = {}
    for replica in LEFT:
        task = Polynomials(SETTINGS.model_copy(update={"seed": FIRST + replica, "replicas": 1}), CPU)
        trained[replica] = task, [record.row for record in fit(task) if isinstance(record, EpochRecord)]
    return trained


def diverged_of(run: Path) -> list[tuple[int, int]]:
    return [(each["replica"], each["epoch"]) for each in document_of(run)["diverged"]]


@pytest.mark.program
def test_the_others_are_what_the_runs_of_their_seeds_are(run: Finished, singles: dict[int, Any]) -> None:
    weights = load_file(run.path / "weights.safetensors")["weight"]
    assert not weights[list(DIVERGED)].any()
    rows = table(run.path / "replicas.csv")
    for replica, (task, alone) in singles.items():
        torch.testing.assert_close(weights[replica].double(), torch.tensor(task.weights()[0]), rtol=0, atol=1e-5)
        for name in ("train_loss", "test_loss", "generalization_loss"):
            assert float(rows[replica][name]) == pytest.approx(alone[-1][name], rel=1e-5)
    cells = {
        replica: {cell for name, cell in rows[replica].items() if name not in ("replica", "seed")}
        for replica in range(REPLICAS)
    }
    assert all((cells[replica] == {""}) == (replica in DIVERGED) for replica in range(REPLICAS))
    assert [row["seed"] for row in rows] == [str(seed) for seed in range(FIRST, FIRST + REPLICAS)]


@pytest.mark.program
def test_all_figures_are_those_of_the_replicas_that_are_left(run: Finished, singles: dict[int, Any]) -> None:
    metrics, rows = run.document["metrics"], [table(run.path / "replicas.csv")[replica] for replica in LEFT]
    for name in ("train_loss", "test_loss", "generalization_loss", "train_to_noise", "generalization_to_train"):
        values = [float(row[name]) for row in rows]
        expected = {
            name: statistics.median(values),
            f"{name}_mean": statistics.mean(values),
            f"{name}_std": statistics.stdev(values),
            f"min_{name}": min(values),
            f"max_{name}": max(values),
        }
        assert {key: metrics[key] for key in expected} == pytest.approx(expected)
    assert metrics["num_diverged"] == 3
    for place, row in enumerate(table(run.path / "metrics.csv")):
        # A replica counts until the row by which it has diverged.
        if int(row["epoch"]) >= max(DIVERGED.values()):
            for name in ("train_loss", "test_loss"):
                values = [alone[place][name] for _, alone in singles.values()]
                assert float(row[name]) == pytest.approx(statistics.median(values), rel=1e-4)
                assert float(row[f"{name}_std"]) == pytest.approx(statistics.stdev(values), rel=1e-4)
        assert all(math.isfinite(float(cell)) for cell in row.values())
    for power, row in enumerate(table(run.path / "weights.csv")):
        values = [float(task.weights()[0, power]) for task, _ in singles.values()]
        assert float(row["learned"]) == pytest.approx(statistics.median(values), abs=1e-5)
        exact = [task._weight_rows()[power]["least_squares"] for task, _ in singles.values()]
        assert float(row["least_squares_mean"]) == pytest.approx(statistics.mean(exact))


@pytest.mark.program
def test_a_warning_and_run_json_name_who_diverged(run: Finished) -> None:
    assert run.result.err.splitlines() == [f"warning: {warning}" for warning in WARNINGS]
    assert run.document["warnings"] == WARNINGS
    assert diverged_of(run.path) == list(DIVERGED.items())
    assert (run.document["status"], run.document["exit_code"]) == ("finished", 0)
    assert sum(run.document["verdicts"].values()) == len(LEFT)
    assert run.document["summary"].startswith("5 of 8 replicas: ")
    assert (run.path / "fit.png").exists()


def test_the_commands_that_read_runs_leave_them_out(run: Finished, program: Program) -> None:
    at = ("--runs-dir", str(run.path.parent))
    evaluated = program("evaluate", str(run.path))
    assert (evaluated.code, evaluated.err) == (0, "")
    assert evaluated.out.splitlines()[-1] == "as recorded"
    listed = program("runs", *at, "--over", "seed", "--json")
    (group,) = (json.loads(line) for line in listed.out.splitlines())
    assert group["metrics"]["test_loss_mean"] == pytest.approx(run.document["metrics"]["test_loss_mean"])
    other = Path(program(*POLY[:2], "3", "--seed", f"{FIRST}", "--replicas", f"{REPLICAS}", "--quiet").out.strip())
    compared = program("compare", str(run.path), str(other), "--columns", "test_loss", "--json")
    (found,) = (json.loads(line) for line in compared.out.splitlines())
    assert found["seeds"] == [FIRST + replica for replica in LEFT]
    assert found["first_mean"] == pytest.approx(run.document["metrics"]["test_loss_mean"])
    assert "left out: seeds 11, 15, 17" in compared.err
    assert "warning: replica 7 diverged" in program("show", str(run.path)).out
    assert "already finished" in program("resume", str(run.path)).out


def test_evaluate_goes_by_run_json_since_weights_of_zero_prove_nothing(program: Program) -> None:
    run = Path(program(*POLY, "--epochs", f"{EPOCHS}", "--quiet").out.strip())
    document = document_of(run)
    (run / "run.json").write_text(json.dumps({**document, "diverged": document["diverged"][:2]}))
    assert_fails(program("evaluate", str(run)), 3, "train_loss")
    for broken in (3, [3], [{"replica": 7}], [{"replica": None, "epoch": 1}]):
        (run / "run.json").write_text(json.dumps({**document, "diverged": broken}))
        assert_fails(program("evaluate", str(run)), 5, "run.json")


def test_a_check_knows_how_many_diverged(program: Program) -> None:
    short = ("poly", "--replicas", "2", "--epochs", "1")
    run = program(*short, "--check", "num_diverged == 0")
    assert (run.code, run.err) == (0, "")
    result = program(*POLY, "--epochs", f"{EPOCHS}", "--check", "num_diverged < 3")
    assert result.code == 3
    assert "num_diverged < 3 does not hold, it is 3" in result.err.splitlines()[-1]
    assert_fails(program("poly", "--check", "num_diverged == 0"), 2, "no metric 'num_diverged'")


def test_one_that_is_left_is_reported_without_a_deviation(program: Program) -> None:
    train = (*POLY[:-3], "16", "--replicas", "2", "--epochs", f"{EPOCHS}", "--quiet")
    result = program(*train)
    assert (result.code, result.err) == (0, "warning: replica 1 diverged by epoch 100 and is left out\n")
    document = document_of(Path(result.out.strip()))
    assert document["metrics"]["test_loss_p10"] == document["metrics"]["test_loss"]
    assert (document["metrics"]["test_loss_std"], document["not_finite"]["test_loss_std"]) == (None, "nan")
    assert "±" not in document["summary"]
    evaluated = program("evaluate", "latest")
    assert (evaluated.code, evaluated.out.splitlines()[-1]) == (0, "as recorded")


@pytest.mark.parametrize("more", [(), ("--checkpoint-every", "0"), ("--checkpoint-every", "0", "--epochs", "1")])
def test_a_run_ends_with_4_only_where_all_have_diverged(
    program: Program, tmp_path: Path, more: tuple[str, ...]
) -> None:
    words = ("all 3 replicas", "replica 0", "epoch 1", "--lr")
    assert_fails(program("poly", "--replicas", "3", "--lr", "1e30", *more), 4, *words)
    assert_fails(program("resume", "latest"), 4, *words)
    (run,) = runs_of(tmp_path)
    document = document_of(run)
    assert (document["status"], document["exit_code"]) == ("diverged", 4)
    assert [each["replica"] for each in document["diverged"]] == [0, 1, 2]
    assert "warnings" not in document


def test_all_may_diverge_one_after_the_other(program: Program, tmp_path: Path) -> None:
    result = program(*POLY[:-3], "15", "--replicas", "1", "--epochs", f"{EPOCHS}")
    assert_fails(result, 4, "train_loss is", "at epoch 140")
    assert "diverged" not in document_of(*runs_of(tmp_path))
    (tmp_path / "several").mkdir()
    result = program(
        *("poly", "--degree", "5", "--lr", "0.4", "--seed", "3", "--replicas", "2", "--epochs", f"{EPOCHS}"),
        cwd=tmp_path / "several",
    )
    assert result.code == 4
    assert result.err.splitlines() == [
        "warning: replica 1 diverged by epoch 100 and is left out",
        "error: diverged: all 2 replicas, the first of them replica 1 at epoch 100. Try a lower --lr.",
    ]
    (run,) = runs_of(tmp_path / "several")
    assert diverged_of(run) == [(1, 100), (0, 200)]
    assert program("resume", str(run)).code == 4


# Stopping and going on


def execute(run: Run, settings: PolySettings) -> Generator[Event]:
    """The events of a run, started or resumed, that saves wherever it may."""
    experiment = Polynomials(settings, CPU)
    checkpoint, _ = read_checkpoint(run, settings)
    if checkpoint is not None:
        restore(experiment, checkpoint)
    execution = Execution(run, experiment, device=CPU, stop=StopFlag(), checkpoint_every=0, resume_from=checkpoint)
    yield from execution.events()


@pytest.mark.parametrize("epoch", [99, 100, 126, 140, 160, 161])
@pytest.mark.parametrize("more", [1, 2])
def test_stopped_anywhere_about_a_divergence_it_goes_on_to_the_same_bits(
    run: Finished, tmp_path: Path, epoch: int, more: int
) -> None:
    """The run is dropped one or two events after a place, as if killed there, and resumed."""
    with folder.create(tmp_path, SETTINGS, "x") as stopped:
        events = execute(stopped, SETTINGS)
        for event in events:
            more -= isinstance(event, Progress | EpochRecord) and event.position.epoch >= epoch
            if not more:
                break
        events.close()
        list(execute(stopped, SETTINGS))
    assert outcome(stopped.path) == outcome(run.path)
    for name in ("replicas.csv", "weights.csv"):
        assert (stopped.path / name).read_bytes() == (run.path / name).read_bytes()
    assert diverged_of(stopped.path) == list(DIVERGED.items())
    assert document_of(stopped.path)["warnings"] == WARNINGS


@pytest.mark.parametrize("first", [120, 130])
def test_an_extended_run_is_as_if_it_had_been_that_long_from_the_start(
    run: Finished, program: Program, first: int
) -> None:
    """The row at epoch 130 is there only because it is the last: by it replica 5 has diverged, in the end by 140."""
    extended = Path(program(*POLY, "--epochs", f"{first}", "--quiet").out.strip())
    assert diverged_of(extended) == ([(7, 100)] if first == 120 else [(7, 100), (5, 130)])
    assert not load_file(extended / "weights.safetensors")["weight"][[r for r, _ in diverged_of(extended)]].any()
    assert program("resume", str(extended), "--epochs", f"{EPOCHS}").code == 0
    assert outcome(extended) == outcome(run.path)
    assert (extended / "replicas.csv").read_bytes() == (run.path / "replicas.csv").read_bytes()
    assert diverged_of(extended) == list(DIVERGED.items())
    assert document_of(extended)["warnings"] == WARNINGS


# Perceptrons


def test_perceptrons_that_diverged_are_left_out_of_figures_pictures_and_predictions(program: Program) -> None:
    result = program(*MLP, "--replicas", "5", "--quiet")
    assert (result.code, result.err) == (0, "warning: replicas 2..3 diverged by epoch 1 and are left out\n")
    run = Path(result.out.strip())
    left = (0, 1, 4)
    singles = [Path(program(*MLP, "--seed", str(seed), "--quiet").out.strip()) for seed in left]
    weights = load_file(run / "weights.safetensors")
    assert not any(tensor[[2, 3]].any() for tensor in weights.values())
    for replica, single in zip(left, singles, strict=True):
        for name, tensor in load_file(single / "weights.safetensors").items():
            torch.testing.assert_close(weights[name][replica], tensor, rtol=1e-5, atol=1e-5)
    metrics = document_of(run)["metrics"]
    alone = [document_of(single)["metrics"] for single in singles]
    for name in ("test_accuracy", "final_train_loss", "train_accuracy", "test_accuracy_low"):
        assert metrics[name] == pytest.approx(statistics.median(each[name] for each in alone), rel=1e-5)
        assert metrics[f"min_{name}"] == pytest.approx(min(each[name] for each in alone), rel=1e-5)
    assert metrics["num_diverged"] == 2
    assert document_of(run)["summary"].startswith("3 of 5 replicas: test accuracy ")
    assert {path.name for path in run.glob("*.png")} == {"loss.png", "confusion.png", "mistakes.png", "filters.png"}
    assert program("evaluate", str(run)).code == 0

    def probabilities(path: Path) -> list[float]:
        (line,) = program("predict", str(path), str(ROOT / "docs" / "shirt.png"), "--json").out.splitlines()
        return list(json.loads(line)["probabilities"].values())

    means = [statistics.mean(values) for values in zip(*map(probabilities, singles), strict=True)]
    assert probabilities(run) == pytest.approx(means, abs=1e-5)
    document = document_of(run)
    everyone = [{"replica": replica, "epoch": 1} for replica in range(5)]
    (run / "run.json").write_text(json.dumps({**document, "diverged": everyone}))
    assert_fails(program("predict", str(run), str(ROOT / "docs" / "shirt.png")), 5, "all its replicas have diverged")
