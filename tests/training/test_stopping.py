"""The best row and the end of a training, against a plain count over all rows."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch

from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.training.experiment import Experiment, Learned, Outcome, State, Values
from mlpx.training.loop import START, EpochRecord, Position, Progress, fit
from mlpx.training.states import restore
from mlpx.training.stopping import BestRow

CPU = torch.device("cpu")
SCORES = {"train_loss": 1.0, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.5, "val_accuracy": 0.5}


class Scripted(Experiment[MlpSettings]):
    """A training of two steps an epoch, whose weight is the epoch and whose validation losses are given."""

    num_steps = 2

    def __init__(self, settings: MlpSettings, device: torch.device) -> None:
        self.settings = settings
        self.losses: Sequence[float] = ()
        self.weight = torch.zeros(1, device=device)
        self.best = BestRow({"best": self.weight}, eval_every=settings.eval_every, patience=settings.patience)

    def train(self, epoch: int, step: int) -> Iterator[int]:
        for number in range(step, 2):
            self.weight.fill_(epoch)
            yield number + 1

    def evaluate(self) -> Mapping[str, Values]:
        return {**{name: [value] for name, value in SCORES.items()}, "val_loss": [self.losses[int(self.weight) - 1]]}

    def remember(self, epoch: int, values: Mapping[str, Values]) -> None:
        assert self.best is not None
        self.best.offer(epoch, values["val_loss"][0])

    def state(self) -> State:
        assert self.best is not None
        return {"weight": self.weight, **self.best.state()}

    def load_state(self, state: State) -> None:
        assert self.best is not None
        restore(self.state(), state, "checkpoint", "")
        self.best.take_numbers(state)

    def outcome(self, row: Mapping[str, float]) -> Outcome:
        raise NotImplementedError

    @classmethod
    def final_metrics(cls, settings: MlpSettings, device: torch.device, learned: Learned) -> Mapping[str, Values]:
        raise NotImplementedError


def scripted(losses: Sequence[float], eval_every: int, patience: int) -> Scripted:
    changes: dict[str, Any] = {"eval_every": eval_every, "patience": patience, "epochs": len(losses)}
    experiment = Scripted(MlpSettings(num_val=1, **changes), CPU)
    experiment.losses = losses
    return experiment


def counted(losses: Sequence[float], eval_every: int, patience: int) -> tuple[list[int], int]:
    """The epochs that have a row, and the best one of the grid's, by counting row after row."""
    epochs, best, since = [], 0, 0
    for epoch, loss in enumerate(losses, start=1):
        if epoch == 1 or epoch % eval_every == 0:
            epochs.append(epoch)
            if best == 0 or loss < losses[best - 1]:
                best, since = epoch, 0
            else:
                since += 1
            if patience and since == patience:
                break
        elif epoch == len(losses):
            epochs.append(epoch)
    return epochs, best


def cases(count: int) -> Iterator[tuple[list[float], int, int]]:
    """Random losses, equal ones among them; epochs between rows; and a patience."""
    source = random.Random(0)
    for _ in range(count):
        losses = [float(source.randrange(8)) for _ in range(source.randrange(1, 30))]
        yield losses, source.choice((1, 1, 2, 3, 7)), source.randrange(5)


def test_a_training_ends_after_as_many_rows_without_a_better_one() -> None:
    ends = set()
    for losses, eval_every, patience in cases(400):
        experiment = scripted(losses, eval_every, patience)
        rows = [record.row["epoch"] for record in fit(experiment) if isinstance(record, EpochRecord)]
        expected, best = counted(losses, eval_every, patience)
        assert (rows, experiment.best and experiment.best.epoch) == (expected, best), (losses, eval_every, patience)
        assert experiment.state()["best"] == best
        ends.add(rows[-1] < len(losses))
    assert ends == {True, False}


def test_a_training_that_goes_on_from_anywhere_ends_where_it_would_have_ended() -> None:
    for losses, eval_every, patience in cases(40):
        undisturbed = scripted(losses, eval_every, patience)
        points: list[tuple[Position, State, int]] = [(START, _copied(undisturbed), 0)]
        rows = 0
        for record in fit(undisturbed):
            on_grid = isinstance(record, EpochRecord) and (
                record.position.epoch == 1 or record.position.epoch % eval_every == 0
            )
            rows += on_grid
            if isinstance(record, Progress) or on_grid:
                points.append((record.position, _copied(undisturbed), rows))
        expected, _ = counted(losses, eval_every, patience)
        for position, state, rows in points:
            resumed = scripted(losses, eval_every, patience)
            resumed.load_state(state)
            later = [record.row["epoch"] for record in fit(resumed, position) if isinstance(record, EpochRecord)]
            assert later == expected[rows:], (losses, eval_every, patience, position)
            assert _copied(resumed) == _copied(undisturbed)


def _copied(experiment: Scripted) -> State:
    return {name: part.clone() if isinstance(part, torch.Tensor) else part for name, part in experiment.state().items()}


def test_equal_rows_and_losses_that_are_not_finite_are_not_better() -> None:
    weight = torch.ones(3)
    best = BestRow({"w": weight}, eval_every=1, patience=2)
    assert not best.offer(1, math.nan)
    assert not best.offer(1, math.inf)
    assert best.epoch == 0
    assert best.offer(2, 0.5)
    weight.fill_(7)
    assert not best.offer(3, 0.5)
    assert not best.offer(3, math.nan)
    assert best.offer(4, 0.25)
    weight.fill_(8)
    best.put_back()
    assert weight.tolist() == [7, 7, 7]
    assert (best.epoch, best.loss) == (4, 0.25)


@pytest.mark.parametrize("patience", [0, 1])
def test_patience_that_is_over_at_the_last_epoch_changes_nothing(patience: int) -> None:
    experiment = scripted([1.0, 2.0], 1, patience)
    assert [r.position.epoch for r in fit(experiment) if isinstance(r, EpochRecord)] == [1, 2]
