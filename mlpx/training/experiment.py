"""The contract of an experiment: all that the loop, the run folder and the commands ask of one."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from mlpx.settings.base import Settings
from mlpx.settings.metrics import Metric, by_axis
from mlpx.training.distributed import Group
from mlpx.training.stopping import BestRow

S = TypeVar("S", bound=Settings)

Values = list[float]
"""A metric's value for each of R replicas; a list of one where there is one, or where all share it."""

State = dict[str, Tensor | int | float | str]
"""All that training changes, by name; what a checkpoint holds, and plain ``torch.load(weights_only=True)`` reads."""

Rows = Mapping[str, Sequence[float]]
"""The columns of ``metrics.csv`` by name."""

NONE_DIVERGED: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True)
class Table:
    """A few columns of numbers for people."""

    columns: Sequence[Metric]
    rows: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Outcome:
    """What a training ends with: what joins ``run.json``, what is shown, and what is kept beside it.

    Args:
        weights: The learned weights, on the CPU, by name.
        metrics: The values of the final metrics, of those with a row too where they are computed anew.
        facts: What else ``run.json`` is to say, such as a verdict.
        tables: What is shown after the rows.
        summary: The sentence that ends it all.
        files: Files of the run folder by name.
        pictures: Functions that draw a PNG file, by its name.
    """

    weights: Mapping[str, Tensor]
    metrics: Mapping[str, Values] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    summary: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    pictures: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)


class Preparing(NamedTuple):
    """How far the preparation of data is.

    Args:
        doing: What is done just now, in words such as "reading train.en"; empty where nothing needs to be shown.
        done: The share of that which is done, from 0 to 1; ``None`` where nobody knows.
    """

    doing: str
    done: float | None = None


@dataclass(frozen=True)
class Learned:
    """What a finished run kept, read again.

    Args:
        weights: As :class:`Outcome` has them.
        metrics: The final metrics of ``run.json``; one that was not finite is ``None`` in runs of older versions.
        read: Gives the content of one of the outcome's files by its name; raises InputError.
        diverged: The replicas that have diverged, whose weights are zero.
    """

    weights: Mapping[str, Tensor]
    metrics: Mapping[str, float | None]
    read: Callable[[str], bytes]
    diverged: Collection[int] = ()


class Experiment(ABC, Generic[S]):
    """Data, model, loss and optimizer put together, to be trained by :func:`mlpx.training.loop.fit`."""

    num_threads: ClassVar[int | None] = None
    """The number of threads that the experiment computes with; ``None`` leaves torch's own."""

    settings: S

    diverged: Mapping[int, int] = NONE_DIVERGED
    """The replicas, of several, that have diverged, and the epoch of the row at which each was found to.

    The training loop replaces it by another mapping, so that who keeps it keeps it as it was; a checkpoint has it.
    """

    best: BestRow | None = None
    """The best row so far, where the experiment keeps one: what :meth:`remember` offers to it.

    Where it has patience, the training loop ends a training early, and the run keeps the weights of the best row.
    """

    @functools.cached_property
    def group(self) -> Group:
        """The processes that train it together; who makes the experiment puts it here where they are several."""
        return Group()

    @classmethod
    def prepare(cls, settings: S) -> Iterator[Preparing]:
        """Do what takes long before an experiment of these settings can be made, and tell how far it is.

        Who makes the experiment without this waits as long, and is told nothing. An iterator that is closed early
        leaves nothing half done.

        Raises:
            InputError: Data cannot be had.
            MachineError: It cannot be kept.
            UsageError: The settings do not fit the data.
        """
        yield from ()

    @abstractmethod
    def __init__(self, settings: S, device: torch.device) -> None:
        """Make data and an untrained model.

        Raises:
            InputError: Data cannot be had.
            UsageError: The settings do not fit the data.
        """

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """The number of steps of an epoch."""

    @abstractmethod
    def train(self, epoch: int, step: int) -> Iterator[int]:
        """Train ``epoch`` (from 1), its first ``step`` steps being done.

        Yields the number of steps done, wherever the training may stop and be saved.
        """

    @abstractmethod
    def evaluate(self) -> Mapping[str, Values]:
        """The values of the metrics with a row, for the model as it stands; changes nothing.

        Raises:
            Stopping: A signal came meanwhile.
        """

    def remember(self, epoch: int, values: Mapping[str, Values]) -> None:
        """Take note of what :meth:`evaluate` gave at the end of ``epoch``, which has a row in every run."""

    @abstractmethod
    def state(self) -> State:
        """All that training changes, for a checkpoint; a tensor is the live one, not a copy.

        Of several replicas, each tensor's first axis is theirs.
        """

    @abstractmethod
    def load_state(self, state: State) -> None:
        """Put back what :meth:`state` gave.

        Raises:
            InputError: Names, shapes or types differ.
        """

    def clear_diverged(self) -> None:
        """Set all that training changes to zero in the replicas that have diverged, in place."""
        if self.diverged:
            tensors = [part for part in self.state().values() if isinstance(part, Tensor)]
            index = torch.tensor(list(self.diverged)).to(tensors[0].device, non_blocking=True)
            for tensor in tensors:
                tensor.index_fill_(0, index, 0)

    @property
    def going_on(self) -> list[int]:
        """The replicas that have not diverged."""
        return [replica for replica in range(len(self.settings.seeds)) if replica not in self.diverged]

    def count_of(self, noun: str) -> str:
        """How many replicas there are, by a plural noun: ``256 MLPs``, or ``255 of 256 MLPs`` where one diverged."""
        count = len(self.settings.seeds)
        return f"{len(self.going_on)} of {count} {noun}" if self.diverged else f"{count} {noun}"

    @property
    def data_digest(self) -> str:
        """What tells the data from other data, where it does not follow from the settings; else empty."""
        return ""

    @abstractmethod
    def outcome(self, row: Mapping[str, float]) -> Outcome:
        """The report on the trained model, whose row is ``row``: the last one, or with patience the best one.

        Raises:
            Stopping: A signal came meanwhile.
        """

    @classmethod
    @abstractmethod
    def final_metrics(cls, settings: S, device: torch.device, learned: Learned) -> Mapping[str, Values]:
        """The metrics of a finished run's weights, computed anew; whoever reads them leaves out what diverged.

        Raises:
            InputError: The weights do not fit the settings, or data cannot be had.
        """

    @property
    def title(self) -> str:
        """What pictures say that they are of."""
        return f"{self.settings.experiment}, {self.settings.label}"

    def draw_losses(self, rows: Rows) -> bytes:
        """The curves of the metrics that have an axis, as PNG: one panel for each axis, at most two."""
        return self._draw_losses(rows)

    def _draw_losses(self, rows: Rows, *, floor: tuple[str, float] | None = None) -> bytes:
        """The same; see :func:`mlpx.plots.loss.loss_curves`."""
        # matplotlib takes half a second to import, so it is imported only when something is drawn.
        from mlpx.plots.figure import png
        from mlpx.plots.loss import Panel, loss_curves

        panels = [
            Panel(label, drawn[0].kind, {metric.name: metric.curve for metric in drawn}, drawn[0].log)
            for label, drawn in by_axis(metric for metric in self.settings.metrics if metric.axis).items()
        ]
        band = ": median, and band of eight in ten" if len(self.settings.seeds) > 1 else ""
        return png(loss_curves(self.title + band, panels, rows, floor=floor))


AnyExperiment = Experiment[Any]
"""An experiment whatever its settings are: what runs, commands and the loop know of it is the contract above."""
