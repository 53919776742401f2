"""How many operations a training step takes, and that none of them waits for the device."""

import tomllib
from typing import Any

import operations
import pytest
import torch
from helpers import ROOT

from mlpx.experiments.mlp.experiment import Classification
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.transformer import smoothing
from mlpx.experiments.transformer.experiment import Translation
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.training import devices

CPU = torch.device("cpu")
BEST = tomllib.loads((ROOT / "configs" / "mlp-best.toml").read_text())


def classification(**changes: Any) -> Classification:
    return Classification(MlpSettings.model_validate({"dataset": "glyphs", "num_train": 2000, **changes}), CPU)


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({}, 26),
        ({"precision": "bf16"}, 32),
        ({name: value for name, value in BEST.items() if name != "experiment"}, 123),
    ],
)
def test_a_step_of_the_mlp_takes_few_operations_and_never_waits(changes: dict[str, Any], most: int) -> None:
    counted = operations.of_steps(classification(**changes))
    print(f"\n{counted.total} operations: {dict(counted.counts.most_common())}")
    assert counted.total <= most
    assert not counted.waits
    assert not counted.foreign


# What decides the number of operations; widths and the length of sentences do not.
MULTI30K, BASE = (
    tomllib.loads((ROOT / "configs" / f"transformer-{name}.toml").read_text()) for name in ("multi30k", "base")
)
DECISIVE = ("num_layers", "dropout", "norm", "label_smoothing", "clip_norm", "precision", "optimizer")


def translation(preset: dict[str, Any]) -> Translation:
    small = {"num_train": 3000, "d_model": 32, "d_ff": 64, "num_heads": 4, "batch_size": 10**6}
    same = {name: preset[name] for name in DECISIVE if name in preset}
    return Translation(TransformerSettings.model_validate(small | same), CPU)


def slices_of(preset: dict[str, Any], at_once: int) -> int:
    """The slices in which the loss of the largest step is computed, at so many logits at once."""
    vocab_size, words = (
        preset.get(name, default) for name, default in (("vocab_size", 10_000), ("batch_tokens", 4096))
    )
    return int(-(-words // (at_once // vocab_size)))


@pytest.mark.parametrize(
    ("preset", "is_accelerated", "most"),
    [(MULTI30K, True, 900), (BASE, True, 1250), (MULTI30K, False, 2000)],
)
def test_a_step_of_the_transformer_takes_few_operations_and_never_waits(
    preset: dict[str, Any], is_accelerated: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = smoothing.ACCELERATED_SLICE if is_accelerated else smoothing.SLICE
    slices = slices_of(preset, at_once)
    assert slices <= (10 if is_accelerated else 17)
    experiment = translation(preset)
    vocab_size = len(experiment.task.vocabulary)
    monkeypatch.setattr(devices, "is_accelerator", lambda device: is_accelerated)
    monkeypatch.setattr(smoothing, "slice_of", lambda device: vocab_size * (3500 // slices))
    counted = operations.of_steps(experiment)
    print(f"\n{counted.total} operations, {slices} slices: {dict(counted.counts.most_common())}")
    assert counted.total <= most
    assert not counted.waits
    assert not counted.foreign


def test_operations_are_counted_without_views() -> None:
    with operations.Operations() as counted:
        x = torch.ones(4, 4)
        (x.mT[:2].add_(1) @ x).sum()
    assert counted.counts == {"ones": 1, "add_": 1, "mm": 1, "sum": 1}
    assert not counted.waits


@pytest.mark.parametrize(
    ("name", "waiting"),
    [
        ("_local_scalar_dense", lambda x: x.sum().item()),
        ("_local_scalar_dense", lambda x: bool(x.any())),
        ("nonzero", lambda x: x.nonzero()),
        ("index", lambda x: x[x > 0]),
        ("lift_fresh", lambda x: x + torch.tensor([1.0])),
    ],
)
def test_what_waits_for_a_device_is_found_with_its_line(name: str, waiting: Any) -> None:
    with operations.Operations() as counted:
        waiting(torch.ones(3))
    assert [wait for wait in counted.waits if wait.startswith(f"{name} in test_operations.py:")]
