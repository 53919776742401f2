"""THE training loop: a generator that trains and yields plain-number records; whoever reads them prints and stores."""

import time
from collections.abc import Iterator
from typing import NamedTuple

from mlpx.settings.metrics import columns
from mlpx.training import divergence, statistics
from mlpx.training.experiment import AnyExperiment


class Position(NamedTuple):
    """Where a training stands: ``epoch`` epochs done, their rows written, and ``step`` steps of the next one."""

    epoch: int
    step: int


START = Position(0, 0)


class Progress(NamedTuple):
    """A place where training may stop and be saved. A reader may ignore it.

    Args:
        position: The place.
        seconds: Wall time of training so far.
        done: The share of all steps that is done, from 0 to 1.
    """

    position: Position
    seconds: float
    done: float


class EpochRecord(NamedTuple):
    """A row of the table; the model is exactly as it stood at the end of ``position.epoch``.

    ``row`` has a value for each column, in the order of the columns.
    """

    position: Position
    seconds: float
    row: dict[str, float]


Record = Progress | EpochRecord


def is_on_grid(epoch: int, eval_every: int) -> bool:
    """Whether ``epoch`` has a row in every run: the first and each ``eval_every``-th; a run's last has one besides."""
    return epoch == 1 or epoch % eval_every == 0


def fit(experiment: AnyExperiment, position: Position = START, seconds: float = 0.0) -> Iterator[Record]:
    """Train from ``position``, reached after ``seconds`` of wall time, to the last epoch of the settings.

    A training whose patience is over ends before, after the row by which it is over; so does one that goes on there.

    Of several replicas, those that have diverged by a row are left out of it and of all that follows. Their weights are
    zero at each later place.

    Raises:
        Diverged: After the record of an epoch whose loss is not finite, or by which all replicas have diverged.
    """
    settings = experiment.settings
    names = [column.name for column in columns(settings.metrics, len(settings.seeds))]
    # A checkpoint may have been saved between the row by which the last replica had diverged and the end of that run.
    divergence.require_going_on(experiment, {}, position.epoch)
    began = time.perf_counter() - seconds
    for epoch in range(position.epoch + 1, settings.epochs + 1):
        if experiment.best is not None and experiment.best.is_patience_over(epoch - 1):
            return
        first_step = position.step if epoch == position.epoch + 1 else 0
        for step in experiment.train(epoch, first_step):
            # A step moves even weights of zero.
            experiment.clear_diverged()
            done = (epoch - 1 + step / experiment.num_steps) / settings.epochs
            yield Progress(Position(epoch - 1, step), time.perf_counter() - began, done)
        on_grid = is_on_grid(epoch, settings.eval_every)
        if on_grid or epoch == settings.epochs:
            values = experiment.evaluate()
            if on_grid:
                experiment.remember(epoch, values)
            experiment.diverged = divergence.judged(experiment, values, epoch)
            seconds = time.perf_counter() - began
            row = {"epoch": epoch, **statistics.summary(values, experiment.diverged), "seconds": seconds}
            yield EpochRecord(Position(epoch, 0), seconds, {name: row[name] for name in names})
            divergence.require_going_on(experiment, values, epoch)
