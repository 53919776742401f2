"""Settings that make no sense together are refused; the largest numbers end in divergence and not in a bug."""

from typing import Any

import pytest
import torch

from mlpx.errors import UsageError
from mlpx.experiments.mlp.model import Mlp, SgdRule
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.settings.base import MAX_LEARNING_RATE, MAX_WEIGHT_DECAY
from mlpx.settings.files import resolve


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("batch_size", r"^--batch-norm: True cannot be used\. Leave it out, or give --batch-size 2 at least"),
        ("num_train", r"^--num-train: 1 cannot be used\. Give at least 2, or leave out --batch-norm"),
    ],
)
def test_batch_normalization_of_a_single_example_is_refused(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve(MlpSettings, {"batch_norm": True, name: 1})


@pytest.mark.parametrize(
    "given", [{"batch_size": 1}, {"num_train": 1}, {"batch_norm": True, "batch_size": 2}, {"batch_norm": True}]
)
def test_other_batches_are_fine(given: dict[str, Any]) -> None:
    resolve(MlpSettings, given)
    resolve(MlpSettings, given | {"hidden": [], "batch_norm": True, "batch_size": 1})


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_largest_numbers_diverge_and_raise_nothing(momentum: float, batch_norm: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    model = Mlp([4, 3, 2], [generator], batch_norm=batch_norm)
    x, y = torch.rand(1, 5, 4, generator=generator), torch.tensor([[0, 1, 0, 1, 1]])
    for _ in range(5):
        model.sgd_step(x, y, SgdRule(MAX_LEARNING_RATE, momentum, MAX_WEIGHT_DECAY))
    assert not all(bool(weight.isfinite().all()) for weight in model.weights)
