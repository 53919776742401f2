"""Glyphs: a function of the seed, well formed, and hard enough to tell models apart."""

import torch
from torch import Tensor

from mlpx.experiments.mlp import experiment as mlp
from mlpx.experiments.mlp import glyphs
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.training.loop import EpochRecord, fit


def flat(sets: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [part for examples in sets for part in examples]


def test_shapes_types_and_classes() -> None:
    (images, labels), (test_images, test_labels) = glyphs.make(0)
    assert (images.shape, test_images.shape) == ((20_000, 28, 28), (5_000, 28, 28))
    assert {part.dtype for part in (images, labels, test_images, test_labels)} == {torch.uint8}
    for part in (labels, test_labels):
        assert int(part.bincount(minlength=10).min()) > 0.9 * len(part) / 10
    border = torch.cat([images[:, 0], images[:, -1]]).float()
    assert float(border.mean()) < 15  # noise alone: no digit is cut off at the top or the bottom
    assert float(images[:, 8:20, 8:20].float().mean()) > 60


def test_a_function_of_the_seed() -> None:
    one, again, other = (flat(glyphs.make(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0][:5000], one[2])  # the test set is none of the training set


def test_softmax_regression_is_visibly_worse_than_a_perceptron() -> None:
    accuracies = []
    for hidden in ([], [256]):
        task = mlp.Classification(MlpSettings(dataset="glyphs", hidden=hidden, eval_every=10), torch.device("cpu"))
        *_, last = fit(task)
        assert isinstance(last, EpochRecord)
        accuracies.append(last.row["test_accuracy"])
    print(f"\ntest accuracy: softmax regression {accuracies[0]:.4f}, perceptron {accuracies[1]:.4f}")
    assert accuracies[1] > accuracies[0] + 0.03
    assert accuracies[1] > 0.88
