"""THE training loop: a generator that trains and yields plain-number records; whoever reads them prints and stores."""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from mlpx.training.replicas import Figure, require_finite, summary


class Position(NamedTuple):
    """Where a training stands: ``epoch`` epochs done, rows written, and ``step`` steps of the next one."""

    epoch: int
    step: int


START = Position(0, 0)


class Progress(NamedTuple):
    """A place where training may stop and be saved; can be dropped. ``seconds`` of wall time since it began."""

    position: Position
    seconds: float


class EpochRecord(NamedTuple):
    """A row of the table; the model is exactly as it stood at the end of ``position.epoch``."""

    position: Position
    seconds: float
    values: dict[str, float]


Record = Progress | EpochRecord


class Task(Protocol):
    """What the loop needs of an experiment: data, model, loss and optimizer put together."""

    def train(self, epoch: int, step: int) -> Iterator[int]:
        """Train ``epoch`` (from 1), its first ``step`` steps being done; yield the steps done, wherever it may stop."""

    def evaluate(self) -> Mapping[str, Figure]:
        """The losses of the model as it stands, on the training and the test set; of replicas, one each."""

    def state(self) -> dict[str, Tensor]:
        """All that training changes, for a checkpoint."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`state` gave; raises InputError where names, shapes or types differ."""


def is_on_grid(epoch: int, eval_every: int) -> bool:
    """Whether ``epoch`` has a row in every run: the first and each ``eval_every``-th; a run's last has one besides."""
    return epoch == 1 or epoch % eval_every == 0


def fit(task: Task, epochs: int, eval_every: int, position: Position = START, seconds: float = 0.0) -> Iterator[Record]:
    """Train ``task`` from ``position``, reached after ``seconds``, to the end of ``epochs``.

    Raises:
        Diverged: after the record of an epoch whose loss is not finite.
    """
    began = time.perf_counter() - seconds
    for epoch in range(position.epoch + 1, epochs + 1):
        first_step = position.step if epoch == position.epoch + 1 else 0
        for step in task.train(epoch, first_step):
            yield Progress(Position(epoch - 1, step), time.perf_counter() - began)
        if epoch == epochs or is_on_grid(epoch, eval_every):
            figures = task.evaluate()
            yield EpochRecord(Position(epoch, 0), time.perf_counter() - began, summary(figures))
            require_finite(figures, epoch)
