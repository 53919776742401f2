"""What an experiment reports at its end, and the events that a run sends to whoever shows it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch

from mlpx.runs.checks import Check
from mlpx.runs.metrics import Rows
from mlpx.settings.base import Settings
from mlpx.training.loop import Progress, Task
from mlpx.training.replicas import Figure


@dataclass(frozen=True)
class Table:
    """A few columns of numbers for people."""

    columns: Sequence[str]
    rows: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Outcome:
    """The end of a training: what joins ``run.json``, what is shown, and what is kept beside it.

    Of several replicas, ``metrics`` has all that each one ends with.
    """

    weights: Mapping[str, torch.Tensor]
    metrics: Mapping[str, Figure] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    summary: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    pictures: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)


class Experiment(Task, Protocol):
    """A task that knows its settings, its columns, and how to report."""

    @property
    def settings(self) -> Settings:
        """The settings that it was built from."""

    @property
    def columns(self) -> Sequence[str]:
        """The names that :meth:`evaluate` gives, in the table's order."""

    def draw_losses(self, rows: Rows) -> bytes:
        """The loss curves, as PNG."""

    def outcome(self, last: Mapping[str, float]) -> Outcome:
        """The report on the trained model, whose last row is ``last``."""


class Row(NamedTuple):
    """A row of the table, in the order of its columns, now in ``metrics.csv``."""

    values: Mapping[str, float]


class Notice(NamedTuple):
    """A warning."""

    text: str


class End(NamedTuple):
    """The run has finished."""

    metrics: Mapping[str, float]
    tables: Sequence[Table]
    summary: str
    failed: Sequence[Check]


Event = Progress | Row | Notice | End
