"""The experiment against truths that do not come from it: published medians, least squares, a float64 replay."""

import copy
from typing import Any

import numpy as np
import operations
import pytest
import torch
from matplotlib.figure import Figure

from mlpx.errors import Diverged, InputError
from mlpx.experiments.poly import data as polynomial
from mlpx.experiments.poly import experiment as poly
from mlpx.experiments.poly.metrics import LOSSES
from mlpx.experiments.poly.settings import PolySettings
from mlpx.experiments.poly.verdict import decide
from mlpx.plots import loss
from mlpx.plots.loss import loss_curves
from mlpx.training.loop import EpochRecord, fit
from mlpx.training.randomness import generator

CPU = torch.device("cpu")

# Medians of 300 draws of the textbook's protocol, as (10 %, 90 %) bands.
BANDS = {
    1: {"train_loss": (3.7, 18), "test_loss": (4.2, 22.7), "generalization_loss": (11.05, 12.42)},
    3: {"train_loss": (0.0081, 0.0123), "test_loss": (0.0089, 0.0168), "generalization_loss": (0.0102, 0.0182)},
    19: {"train_loss": (0.0091, 0.0132), "test_loss": (0.0104, 0.0746), "generalization_loss": (0.0191, 0.0620)},
}
DEGREE_3_WEIGHTS = (5.001, 1.210, -3.400, 5.583)


def trained(**changes: Any) -> tuple[poly.Polynomials, dict[str, float]]:
    settings = PolySettings(**changes)
    task = poly.Polynomials(settings, CPU)
    records = [r for r in fit(task) if isinstance(r, EpochRecord)]
    return task, records[-1].row


Hundred = tuple[int, poly.Polynomials, dict[str, list[float]]]


@pytest.fixture(scope="module", params=BANDS)
def hundred_seeds(request: pytest.FixtureRequest) -> Hundred:
    degree = request.param
    epochs = 1500 if degree == 19 else 400
    task, _ = trained(degree=degree, epochs=epochs, replicas=100, eval_every=epochs)
    return degree, task, task.evaluate()


def test_hundred_seeds_agree_with_the_textbook(hundred_seeds: Hundred) -> None:
    degree, task, figures = hundred_seeds
    medians = {name: float(np.median(values)) for name, values in figures.items()}
    losses = zip(figures["train_loss"], figures["generalization_loss"], strict=True)
    verdicts = [decide(train_loss, generalization_loss, 0.1).name for train_loss, generalization_loss in losses]
    counts = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    print(f"\ndegree {degree}: medians {medians}, verdicts of {len(verdicts)}: {counts}")
    assert len(verdicts) == 100
    for name, (low, high) in BANDS[degree].items():
        assert low <= medians[name] <= high, name
    if degree == 3:
        weights = np.median(task.weights(), axis=0)
        print(f"median weights {weights}")
        np.testing.assert_allclose(weights, DEGREE_3_WEIGHTS, rtol=0, atol=0.02)


def test_train_loss_is_near_the_least_possible(hundred_seeds: Hundred) -> None:
    degree, _, figures = hundred_seeds
    if degree == 19:
        pytest.skip("least squares of degree 19 fits noise that stopped SGD does not")
    ratios = []
    for seed, train_loss in enumerate(figures["train_loss"]):
        train, _ = polynomial.sample(seed, 100, 100, 0.1)
        best = polynomial.least_squares(train, degree)
        ratios.append(train_loss / np.mean((polynomial.features(train.x, degree) @ best - train.y) ** 2))
    print(f"\ndegree {degree}: train loss over least squares: median {np.median(ratios):.5f}, worst {max(ratios):.5f}")
    assert min(ratios) >= 1 - 1e-5  # float32 weights and features
    if degree == 1:
        assert max(ratios) <= 1.001
    else:
        assert np.median(ratios) <= 1.0007
        assert np.quantile(ratios, 0.9) <= 1.14


@pytest.mark.parametrize("changes", [{"degree": 3}, {"degree": 19, "epochs": 1500}, {"degree": 5, "weight_decay": 0.1}])
def test_a_replica_equals_the_single_run_of_its_seed(changes: dict[str, Any]) -> None:
    together, _ = trained(**changes, seed=3, replicas=8)
    worst = 0.0
    for replica in range(8):
        alone, values = trained(**changes, seed=3 + replica)
        worst = max(worst, float(np.abs(alone.weights()[0] - together.weights()[replica]).max()))
        for name, figure in together.evaluate().items():
            assert figure[replica] == pytest.approx(values[name], rel=1e-4), name
    print(f"\n{changes}: largest difference of a weight to the single runs: {worst:.1e}")
    assert worst <= 1e-5


def test_degree_19_equals_the_recursion_in_float64() -> None:
    settings = PolySettings(degree=19, epochs=1500, seed=5)
    task = poly.Polynomials(settings, CPU)
    (w,) = task.weights()
    for _ in fit(task):
        pass
    train, _ = polynomial.sample(5, 100, 100, 0.1)
    features, targets = polynomial.features(train.x, 19), train.y
    for epoch in range(1, 1501):
        order = torch.randperm(100, generator=generator(5, "order", epoch)).numpy()
        for rows in order.reshape(10, 10):
            x, y = features[rows], targets[rows]
            w = w - 0.01 * 2 / 10 * x.T @ (x @ w - y)
    worst = float(np.abs(task.weights() - w).max())
    print(f"\nlargest difference to float64: {worst:.2e}")
    assert worst <= 1e-4


def test_rows_are_the_losses_of_the_weights_as_they_stand() -> None:
    settings = PolySettings(degree=4, epochs=45, eval_every=20, seed=2)
    task = poly.Polynomials(settings, CPU)
    train, test = polynomial.sample(2, 100, 100, 0.1)
    epochs = []
    for record in fit(task):
        if isinstance(record, EpochRecord):
            epochs.append(record.position.epoch)
            for name, (x, y) in (("train_loss", train), ("test_loss", test)):
                expected = np.mean((polynomial.features(x, 4) @ task.weights()[0] - y) ** 2)
                assert record.row[name] == pytest.approx(expected, rel=1e-5)
    assert epochs == [1, 20, 40, 45]


@pytest.mark.parametrize("num_train", [1, 2])
def test_one_or_two_examples_overfit(num_train: int) -> None:
    task, values = trained(num_train=num_train)
    assert values["train_loss"] < 1e-3
    assert task.outcome(values).facts["verdict"] == "overfitting"


def test_weight_decay_shrinks_the_weights() -> None:
    free, _ = trained(degree=3)
    decayed, values = trained(degree=3, weight_decay=3.0)
    assert np.linalg.norm(decayed.weights()) < 0.5 * np.linalg.norm(free.weights())
    assert decayed.outcome(values).facts["verdict"] == "underfitting"


def test_degree_zero_learns_a_constant() -> None:
    task, _ = trained(degree=0)
    assert task.weights().shape == (1, 1)


@pytest.mark.parametrize(
    ("train_loss", "generalization_loss", "noise_std", "verdict"),
    [
        (0.0201, 0.0201, 0.1, "underfitting"),
        (0.0199, 0.0201, 0.1, "fitting"),
        (0.0100, 0.0199, 0.1, "fitting"),
        (0.0100, 0.0201, 0.1, "overfitting"),
        (5.0, 500.0, 0.1, "underfitting"),  # what is left to learn comes first
        (0.0, 1.0, 0.1, "overfitting"),
        (1e-12, 1e-9, 0.0, "fitting"),  # without noise, nothing that small matters
        (1e-12, 1.0, 0.0, "overfitting"),
        (1.0, 1.0, 0.0, "underfitting"),
    ],
)
def test_verdict(train_loss: float, generalization_loss: float, noise_std: float, verdict: str) -> None:
    decided = decide(train_loss, generalization_loss, noise_std)
    assert decided.name == verdict
    assert f"{train_loss:.4g}" in decided.reason


def test_divergence_names_the_epoch_after_its_row() -> None:
    settings = PolySettings(lr=1e30)
    records = fit(poly.Polynomials(settings, CPU))
    assert [type(next(records)).__name__ for _ in range(2)] == ["Progress", "EpochRecord"]
    with pytest.raises(Diverged, match="at epoch 1"):
        next(records)


def test_state_continues_bit_for_bit_from_the_middle_of_an_epoch() -> None:
    settings = PolySettings(degree=5, num_train=30_000, batch_size=10, epochs=2, eval_every=1)
    whole = poly.Polynomials(settings, CPU)
    straight = [r for r in fit(whole) if isinstance(r, EpochRecord)]
    first = poly.Polynomials(settings, CPU)
    records = fit(first)
    stopped = next(records)
    assert stopped.position == (0, poly.STEPS_BETWEEN_STOPS)
    second = poly.Polynomials(settings, CPU)
    second.load_state(copy.deepcopy(first.state()))
    resumed = [r for r in fit(second, stopped.position) if isinstance(r, EpochRecord)]
    for before, after in zip(straight, resumed, strict=True):
        assert {**before.row, "seconds": 0} == {**after.row, "seconds": 0}
    assert np.array_equal(second.weights(), whole.weights())


def test_a_state_of_another_shape_is_refused_with_both_shapes() -> None:
    task = poly.Polynomials(PolySettings(degree=3), CPU)
    with pytest.raises(InputError, match=r"\(1, 6, 1\).*\(1, 4, 1\)"):
        task.load_state(poly.Polynomials(PolySettings(degree=5), CPU).state())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
def test_cuda_trains_alike_and_no_step_waits_for_the_device() -> None:
    settings = PolySettings(degree=3, epochs=40)
    device = torch.device("cuda")
    task = poly.Polynomials(settings, device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        # CUDA does not report that it waits to copy memory that is not pinned; the count of operations does.
        with operations.Operations("cuda") as counted:
            for epoch in range(1, 41):
                for _ in task.train(epoch, 0):
                    pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not counted.waits
    on_cpu, _ = trained(degree=3, epochs=40)
    np.testing.assert_allclose(task.weights(), on_cpu.weights(), rtol=0, atol=1e-4)


def test_the_losses_are_drawn_on_the_axis_that_they_are_declared_for(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    def keep(*given: Any, **more: Any) -> Figure:
        drawn.append(loss_curves(*given, **more))
        return drawn[-1]

    monkeypatch.setattr(loss, "loss_curves", keep)
    rows = {"epoch": [1.0, 2.0], **{metric.name: [0.5, 0.25] for metric in LOSSES}}
    assert poly.Polynomials(PolySettings(), CPU).draw_losses(rows).startswith(b"\x89PNG")
    assert [axes.get_yscale() for axes in drawn[0].axes] == ["log"]
    assert {metric.log for metric in LOSSES} == {True}
