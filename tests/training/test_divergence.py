"""Divergence of one of several replicas: who is found to have diverged, and what becomes of it and of the others."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from mlpx import registry
from mlpx.errors import Diverged
from mlpx.experiments.mlp import plots as mlp
from mlpx.experiments.mlp.experiment import Classification
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly import plots as poly
from mlpx.experiments.poly.experiment import Polynomials
from mlpx.experiments.poly.settings import PolySettings
from mlpx.settings.base import Settings
from mlpx.training import divergence
from mlpx.training.experiment import AnyExperiment, State
from mlpx.training.loop import EpochRecord, Progress, fit

CPU = torch.device("cpu")
RICH = MlpSettings(
    dataset="glyphs",
    num_train=500,
    hidden=[16],
    batch_size=96,
    epochs=5,
    replicas=4,
    momentum=0.9,
    batch_norm=True,
    dropout=0.2,
    lr=0.02,
    eval_every=2,
)
FINE = {"train_loss": [1.0, 2.0, 3.0], "test_loss": [3.0, 2.0, 1.0], "generalization_loss": [1.0, 1.0, 1.0]}


def new(settings: Settings, device: torch.device) -> AnyExperiment:
    return registry.experiment_class(settings.experiment)(settings, device)


def three() -> Polynomials:
    return Polynomials(PolySettings(replicas=3), CPU)


def tensors(state: State) -> dict[str, torch.Tensor]:
    return {name: part for name, part in state.items() if isinstance(part, torch.Tensor)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", FINE)
def test_a_replica_diverges_by_any_of_its_losses(name: str, value: float) -> None:
    task = three()
    assert divergence.judged(task, FINE, 20) == {}
    assert divergence.judged(task, {**FINE, name: [1.0, value, 1.0]}, 20) == {1: 20}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_replica_diverges_by_a_weight_while_its_losses_are_finite(value: float) -> None:
    task = three()
    tensors(task.state())["weight"][2, 1] = value
    assert divergence.judged(task, FINE, 20) == {2: 20}


def test_who_diverged_before_comes_first_and_is_not_judged_again() -> None:
    task = three()
    task.diverged = {2: 20}
    values = {**FINE, "test_loss": [math.nan, 1.0, math.nan]}
    assert list(divergence.judged(task, values, 40).items()) == [(2, 20), (0, 40)]


def test_what_is_no_loss_may_be_beyond_a_float() -> None:
    several = Classification(RICH, CPU)
    values = {name: [1.0] * 4 for name in ("train_loss", "test_loss")}
    assert divergence.judged(several, {**values, "train_accuracy": [math.inf] * 4}, 1) == {}


def test_a_single_training_ends_by_a_loss_and_names_it() -> None:
    task = Polynomials(PolySettings(), CPU)
    for value in (math.nan, math.inf):
        values = {"train_loss": [1.0], "test_loss": [value]}
        assert divergence.judged(task, values, 20) == {}
        with pytest.raises(Diverged, match=f"test_loss is {value} at epoch 20"):
            divergence.require_going_on(task, values, 20)


def test_several_trainings_end_where_all_have_diverged_and_the_first_is_named() -> None:
    task = three()
    task.diverged = {2: 20, 0: 40}
    divergence.require_going_on(task, FINE, 40)
    task.diverged = {2: 20, 0: 40, 1: 40}
    with pytest.raises(Diverged, match="all 3 replicas, the first of them replica 2 at epoch 20"):
        divergence.require_going_on(task, FINE, 40)
    with pytest.raises(Diverged, match="replica 2"):
        next(fit(task))


def poisoned(task: AnyExperiment, replica: int, after: int) -> tuple[list[Any], list[State]]:
    """The records of a training in which one weight of a replica becomes NaN after some steps, and states with them."""
    records, states, steps = [], [], 0
    for record in fit(task):
        records.append(record)
        states.append(copy.deepcopy(task.state()))
        steps += isinstance(record, Progress)
        if isinstance(record, Progress) and steps == after:
            first = next(iter(tensors(task.state()).values()))
            first[replica].view(-1)[-1] = math.nan
    return records, states


@pytest.mark.parametrize(
    ("settings", "after"), [(RICH, 8), (PolySettings(degree=5, epochs=100, replicas=4, eval_every=20), 25)]
)
def test_a_replica_that_diverged_is_zero_from_then_on_and_the_others_keep_every_bit(
    settings: Settings, after: int
) -> None:
    """One replica breaks in the middle of a stretch without rows; it is judged at the next row."""
    whole, broken = new(settings, CPU), new(settings, CPU)
    straight = list(fit(whole))
    records, states = poisoned(broken, 1, after)
    epoch = 2 if isinstance(settings, MlpSettings) else 40
    assert broken.diverged == {1: epoch}
    zero = [not any(bool(part[1].any()) for part in tensors(state).values()) for state in states]
    judged_at = next(i for i, r in enumerate(records) if isinstance(r, EpochRecord) and r.position.epoch == epoch)
    assert zero == [i > judged_at for i in range(len(records))]
    for name, part in tensors(whole.state()).items():
        assert torch.equal(part[[0, 2, 3]], tensors(states[-1])[name][[0, 2, 3]]), name
    pairs = [(one, other) for one, other in zip(straight, records, strict=True) if isinstance(one, EpochRecord)]
    for one, other in pairs:
        is_same = {**one.row, "seconds": 0} == {**other.row, "seconds": 0}
        assert is_same == (one.position.epoch < epoch)
        assert all(map(math.isfinite, other.row.values()))


def test_pictures_show_the_replicas_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., Any]:
        def draw(title: str, *given: Any) -> Figure:
            drawn[name] = (title, *given)
            return Figure()

        return draw

    for module, name in ((mlp, "confusion_matrix"), (mlp, "captioned_images"), (mlp, "signed_images")):
        monkeypatch.setattr(module, name, keep(name))
    monkeypatch.setattr(poly, "fit_curves", keep("fit_curves"))
    for settings in (RICH, PolySettings(replicas=4)):
        task = new(settings, CPU)
        task.diverged = {0: 1, 2: 1}
        task.clear_diverged()
        for draw in task.outcome({}).pictures.values():
            draw()
    alone = new(RICH.model_copy(update={"replicas": 1, "seed": 1}), CPU)
    assert drawn["confusion_matrix"][0] == "2 of 4 MLPs on glyphs: average guesses on the test images"
    assert "2 of 4 MLPs" in drawn["captioned_images"][0]
    assert "seed 1:" in drawn["signed_images"][0]
    images = torch.from_numpy(drawn["signed_images"][1]).flatten(1)
    # The run of seed 1 alone begins with the same weights; batch normalization is folded in.
    torch.testing.assert_close(images * math.sqrt(1 + 1e-5), tensors(alone.state())["1.weight"], rtol=1e-5, atol=1e-8)
    title, _, _, panels = drawn["fit_curves"]
    assert title.startswith("2 of 4 polynomials of degree 3: ")
    assert panels[""].shape[0] == 2
    assert panels[""].any(axis=1).all()
    # The counts are the means of those of the two that are left, rounded.
    together, counts = drawn["confusion_matrix"][2], []
    for seed in (1, 3):
        new(RICH.model_copy(update={"replicas": 1, "seed": seed}), CPU).outcome({}).pictures["confusion.png"]()
        counts.append(drawn["confusion_matrix"][2])
    assert abs(together - sum(counts) / 2).max() <= 0.5


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("settings", [RICH, PolySettings(degree=5, epochs=100, replicas=4, eval_every=20)])
def test_cuda_zeroes_in_place_and_the_others_keep_every_bit(settings: Settings) -> None:
    """The step of a perceptron is a recorded graph, which goes on with the tensors that it was recorded for."""
    device = torch.device("cuda")
    whole, broken = new(settings, device), new(settings, device)
    list(fit(whole))
    _, states = poisoned(broken, 1, 8)
    assert list(broken.diverged) == [1]
    for name, part in tensors(whole.state()).items():
        last = tensors(states[-1])[name]
        assert torch.equal(part[[0, 2, 3]], last[[0, 2, 3]]), name
        assert not last[1].any(), name
