"""Loss curves."""

import pytest
from matplotlib.figure import Figure

from mlpx.plots.loss import Panel, loss_curves

LOSSES = Panel("cross-entropy", "loss", {"train_loss": "training", "test_loss": "test"})
LOG_LOSSES = LOSSES._replace(log=True)
ACCURACIES = Panel("accuracy", "share", {"train_accuracy": "training", "test_accuracy": "test"})
BLEU = Panel("BLEU", "score", {"val_bleu": "validation"})
NAMES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "val_bleu")


def figures(rows: dict[str, list[float]]) -> list[Figure]:
    """Every kind of figure with epochs below it."""
    return [
        loss_curves("poly", [LOG_LOSSES], rows, floor=("noise", 0.01)),
        loss_curves("mlp", [LOSSES, ACCURACIES], rows),
        loss_curves("transformer", [LOSSES, BLEU], rows),
    ]


@pytest.mark.parametrize("epochs", [[1.0], [1.0, 2.0], [1.0, 20.0], [float(epoch) for epoch in range(1, 1500)]])
def test_epochs_are_marked_by_whole_numbers_that_lie_in_sight(epochs: list[float]) -> None:
    rows = {"epoch": epochs, **{name: [1 / epoch for epoch in epochs] for name in NAMES}}
    for figure in figures(rows):
        for axes in figure.axes:
            low, high = axes.get_xlim()
            seen = [tick for tick in axes.get_xticks() if low <= tick <= high]
            assert seen, axes.get_title()
            assert seen == [round(tick) for tick in seen]
            assert len(seen) < 12


def test_each_panel_has_the_axis_that_it_asks_for() -> None:
    rows = {"epoch": [1.0, 2.0], **{name: [0.5, 0.25] for name in NAMES}}
    axes = loss_curves("x", [LOG_LOSSES, ACCURACIES], rows).axes
    assert [each.get_yscale() for each in axes] == ["log", "linear"]


def test_replicas_have_a_band_around_their_median() -> None:
    rows = {"epoch": [1.0, 2.0], **{name: [0.5, 0.25] for name in NAMES}}
    bands = {f"{name}_{kind}": [value, value / 2] for name in NAMES for kind, value in (("p10", 0.4), ("p90", 0.6))}
    for with_bands, count in ((rows, 0), (rows | bands, 2)):
        drawn = [
            *loss_curves("poly", [LOG_LOSSES], with_bands).axes,
            *loss_curves("mlp", [LOSSES, ACCURACIES], with_bands).axes,
        ]
        assert [len(axes.collections) for axes in drawn] == [count, count, count]
    low, high = drawn[0].collections[0].get_datalim(drawn[0].transData).intervaly
    assert (low, high) == (0.2, 0.6)


@pytest.mark.parametrize(
    ("panel", "values", "low", "high"),
    [
        (ACCURACIES, [0.1, 0.9], 0, 1),  # it begins near zero, so all of the scale is shown
        (ACCURACIES, [0.0, 0.0], 0, 1),
        (BLEU, [0.0, 40.0], 0, 40),
        (BLEU, [0.0, 0.0], 0, 1),
        (ACCURACIES, [0.8, 0.9], 0.8, 0.9),
        (LOSSES, [0.1, 0.9], 0.1, 0.9),
    ],
)
def test_shares_and_scores_that_begin_near_zero_are_shown_from_zero_on(
    panel: Panel, values: list[float], low: float, high: float
) -> None:
    rows = {"epoch": [1.0, 2.0], **dict.fromkeys(panel.curves, values)}
    (axes,) = loss_curves("x", [panel], rows).axes
    assert axes.get_ylim() == pytest.approx((low, high), abs=0.06 * (high - low))
