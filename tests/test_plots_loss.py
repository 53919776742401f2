"""Loss curves."""

import pytest
from matplotlib.figure import Figure

from mlpx.plots.loss import loss_curves, losses_and_accuracies, losses_and_quality


def figures(epochs: list[float]) -> list[Figure]:
    """Every kind of figure with epochs below it."""
    names = ("train_loss", "val_loss", "test_loss", "train_accuracy", "test_accuracy", "val_bleu")
    rows = {"epoch": epochs, **{name: [1 / epoch for epoch in epochs] for name in names}}
    return [
        loss_curves("poly", rows, {"train_loss": "training"}),
        losses_and_accuracies("mlp", rows),
        losses_and_quality("transformer", rows, "val_bleu", "BLEU"),
    ]


@pytest.mark.parametrize("epochs", [[1.0], [1.0, 2.0], [1.0, 20.0], [float(epoch) for epoch in range(1, 1500)]])
def test_epochs_are_marked_by_whole_numbers_that_lie_in_sight(epochs: list[float]) -> None:
    for figure in figures(epochs):
        for axes in figure.axes:
            low, high = axes.get_xlim()
            seen = [tick for tick in axes.get_xticks() if low <= tick <= high]
            assert seen, axes.get_title()
            assert seen == [round(tick) for tick in seen]
            assert len(seen) < 12


def test_replicas_have_a_band_around_their_median() -> None:
    names = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    rows = {"epoch": [1.0, 2.0], **{name: [0.5, 0.25] for name in names}}
    bands = {f"{name}_{kind}": [value, value / 2] for name in names for kind, value in (("p10", 0.4), ("p90", 0.6))}
    for with_bands, count in ((rows, 0), (rows | bands, 2)):
        drawn = [
            *loss_curves("poly", with_bands, {"train_loss": "training", "test_loss": "test"}).axes,
            *losses_and_accuracies("mlp", with_bands).axes,
        ]
        assert [len(axes.collections) for axes in drawn] == [count, count, count]
    low, high = drawn[0].collections[0].get_datalim(drawn[0].transData).intervaly
    assert (low, high) == (0.2, 0.6)
