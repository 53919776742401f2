"""The validation set of images: which they are, what is measured on them, and what is refused."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_fails, document_of, draws_nothing, mlpx, rows_of, table
from safetensors.torch import load_file
from torch import nn

from mlpx.errors import UsageError
from mlpx.experiments.mlp import images
from mlpx.experiments.mlp.experiment import Classification
from mlpx.experiments.mlp.images import Examples
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.runs.execution import Execution
from mlpx.settings.metrics import columns, final

CPU = torch.device("cpu")
NUM_IMAGES, NUM_VAL = 300, 80
SHORT = ("mlp", "--dataset", "glyphs", "--hidden", "8", "--batch-size", "30", "--epochs", "3", "--quiet")
VALIDATED = (*SHORT, "--num-val", str(NUM_VAL))
OF_VALIDATION = {"val_loss", "val_accuracy"}


def noisy(count: int, seed: int) -> Examples:
    """Random images with a bright row that mostly tells the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    pixels = torch.randint(90, (count, 28, 28), generator=generator)
    shown = torch.where(torch.rand(count, generator=generator) < 0.2, labels.roll(1), labels)
    pixels[torch.arange(count), 2 * shown] += 150
    return Examples(pixels.to(torch.uint8), labels.to(torch.uint8))


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small data set of any name, and no pictures, which would take most of the time."""
    monkeypatch.setattr(Execution, "_drawn", draws_nothing)
    monkeypatch.setattr(images, "load", lambda *_: (noisy(NUM_IMAGES, 0), noisy(90, 1)))
    monkeypatch.chdir(tmp_path)


def run_of(capfd: pytest.CaptureFixture[str], *arguments: str) -> Path:
    result = mlpx(capfd, *arguments)
    assert (result.code, result.err) == (0, ""), result
    return Path(result.out.strip())


def test_it_is_the_end_of_the_training_file_and_is_scored_as_the_plain_network_scores_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = run_of(capfd, *VALIDATED)
    metrics = document_of(run)["metrics"]
    assert list(table(run / "metrics.csv")[0]) == [
        *("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "val_loss", "val_accuracy", "seconds")
    ]
    assert set(metrics) == {metric.name for metric in final(MlpSettings(num_val=NUM_VAL).metrics, 1)}
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 10))
    net.load_state_dict(load_file(run / "weights.safetensors"))
    train, _ = images.load("glyphs", "")
    val = train.images[-NUM_VAL:].float() / 255, train.labels[-NUM_VAL:].long()
    rest = train.images[:-NUM_VAL].float() / 255, train.labels[:-NUM_VAL].long()
    for name, (x, y) in (("val", val), ("final_train", rest)):
        with torch.no_grad():
            logits = net(x)
        assert metrics[f"{name}_loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, y)), rel=1e-5)
        accuracy = float((logits.argmax(1) == y).double().mean())
        assert metrics[f"{name}_accuracy"] == pytest.approx(accuracy, abs=1.5 / len(y))
    last = table(run / "metrics.csv")[-1]
    assert {name: float(last[name]) for name in OF_VALIDATION} == {name: metrics[name] for name in OF_VALIDATION}
    assert document_of(run)["summary"].startswith(f"validation accuracy {metrics['val_accuracy']:.2%}, test accuracy ")
    evaluated = mlpx(capfd, "evaluate", str(run))
    assert (evaluated.code, evaluated.out.splitlines()[-1]) == (0, "as recorded")
    assert "val accuracy" in evaluated.out


@pytest.mark.parametrize("num_train", [100, NUM_IMAGES])
def test_it_is_held_back_whatever_number_of_training_examples_is_asked_for(
    num_train: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """So the training is that without a validation set on as many of the first images."""
    held_back = run_of(capfd, *VALIDATED, "--num-train", str(num_train))
    plain = run_of(capfd, *SHORT, "--num-train", str(min(num_train, NUM_IMAGES - NUM_VAL)))
    rows = rows_of(held_back)
    assert all(row.keys() >= OF_VALIDATION for row in rows)
    assert [{name: row[name] for name in row.keys() - OF_VALIDATION} for row in rows] == rows_of(plain)
    weights, others = (load_file(run / "weights.safetensors") for run in (held_back, plain))
    assert all(torch.equal(weights[name], others[name]) for name in others)


def test_another_validation_set_is_other_data() -> None:
    with_and_without = (MlpSettings(num_val=num_val, num_train=100) for num_val in (0, NUM_VAL))
    assert len({Classification(settings, CPU).data_digest for settings in with_and_without}) == 2


def test_replicas_are_validated_each(capfd: pytest.CaptureFixture[str]) -> None:
    run = run_of(capfd, *VALIDATED, "--replicas", "3", "--seed", "5")
    replicas, metrics = table(run / "replicas.csv"), document_of(run)["metrics"]
    assert metrics["val_loss"] == sorted(float(row["val_loss"]) for row in replicas)[1]
    single = document_of(run_of(capfd, *VALIDATED, "--seed", "6"))["metrics"]
    for name in OF_VALIDATION:
        assert float(replicas[1][name]) == pytest.approx(single[name], rel=1e-4)
    assert document_of(run)["summary"].startswith("3 replicas: val accuracy ")
    assert mlpx(capfd, "evaluate", str(run)).code == 0


@pytest.mark.parametrize("dataset", ["fashion-mnist", "mnist", "glyphs"])
@pytest.mark.parametrize("num_val", [NUM_IMAGES, NUM_IMAGES + 1])
def test_some_examples_must_be_left_to_train_on(
    dataset: str, num_val: int, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    result = mlpx(capfd, "mlp", "--dataset", dataset, "--num-val", str(num_val))
    assert_fails(result, 2, "--num-val", str(num_val), f"{dataset} has {NUM_IMAGES} training examples", "Give fewer.")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UsageError, match="--num-val"):
        Classification(MlpSettings(num_val=num_val), CPU)
    assert Classification(MlpSettings(num_val=NUM_IMAGES - 1, hidden=[4]), CPU).num_steps == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mlp", "--patience", "3"), ("--patience", "Add --num-val")),
        (("mlp", "--num-val", "9", "--patience", "3", "--replicas", "2"), ("--patience", "--replicas")),
        (("mlp", "--num-val", "9", "--patience", "-1"), ("--patience", "0 to 1000000000")),
        (("mlp", "--num-val", "-1"), ("--num-val", "0 to 1000000000")),
        (("poly", "--patience", "3"), ("--patience",)),
        (("transformer", "--patience", "3", "--average-last", "2"), ("--patience", "--average-last")),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: tuple[str, ...], words: tuple[str, ...], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert_fails(mlpx(capfd, *arguments), 2, *words)
    assert not (tmp_path / "runs").exists()


def test_without_a_validation_set_nothing_is_validated() -> None:
    task = Classification(MlpSettings(hidden=[4]), CPU)
    assert not OF_VALIDATION & task.evaluate().keys()
    assert not any(name.startswith("best") for name in task.state())
    assert not OF_VALIDATION & {metric.name for metric in task.settings.metrics}


def test_runs_are_ranked_by_validation_and_a_terminal_has_room_for_it() -> None:
    metrics = MlpSettings(num_val=NUM_VAL).metrics
    assert [metric.name for metric in metrics if metric.is_main][-1] == "val_accuracy"
    assert {"train_loss", "test_loss", "test_accuracy", "val_loss"} < {m.name for m in metrics if m.is_main}
    kept = [max(9, len(column.title)) for column in columns(metrics, 1) if not column.optional]
    assert sum(kept) + 2 * (len(kept) - 1) <= 80


def test_the_losses_are_drawn_with_a_curve_of_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpx.plots import loss

    drawn: list[Any] = []
    draw = loss.loss_curves

    def spy(title: str, panels: Any, rows: Any, **more: Any) -> Any:
        drawn.extend(panels)
        return draw(title, panels, rows, **more)

    monkeypatch.setattr(loss, "loss_curves", spy)
    task = Classification(MlpSettings(num_val=NUM_VAL, hidden=[4]), CPU)
    names = [column.name for column in columns(task.settings.metrics, 1)]
    assert task.draw_losses({name: [1.0, math.e] for name in names}).startswith(b"\x89PNG")
    losses, accuracies = (panel.curves for panel in drawn)
    assert (losses["val_loss"], accuracies["val_accuracy"]) == ("validation", "validation")
