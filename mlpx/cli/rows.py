"""The rows of ``mlpx runs``: of a run, of the runs that differ in the seed alone, of a sweep."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpx.cli.grids import Cell
from mlpx.runs import selecting
from mlpx.runs.records import Record
from mlpx.runs.selecting import Group
from mlpx.settings.metrics import Metric

if TYPE_CHECKING:
    from mlpx.sweeps.progress import Progress


@dataclass(frozen=True)
class RunRow:
    """A row for a run.

    Args:
        record: The run.
        sweep: The name of the sweep that it is in, where the row is to say it.
    """

    record: Record
    sweep: str = ""

    @property
    def records(self) -> Sequence[Record]:
        """The run."""
        return (self.record,)

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.record.path

    @property
    def paths(self) -> Sequence[Path]:
        """The same."""
        return (self.path,)

    @property
    def name(self) -> str:
        """The name of the folder, or SWEEP/RUN."""
        return f"{self.sweep}/{self.path.name}" if self.sweep else self.path.name

    @property
    def experiment(self) -> str:
        """The experiment."""
        return self.record.settings.experiment

    @property
    def status(self) -> str:
        """The status."""
        return self.record.status

    @property
    def progress(self) -> str:
        """The status, and how far the run got if it has not finished."""
        record, epochs = self.record, self.record.settings.epochs
        if record.is_finished or "epoch" not in record.metrics:
            return record.status
        return f"{record.status}, epoch {record.metrics['epoch']}/{epochs}"

    @property
    def why(self) -> str:
        """Why it ended early; empty if it did not."""
        return self.record.error

    @property
    def started(self) -> datetime:
        """When it started."""
        return self.record.started

    @property
    def n(self) -> int:
        """The number of replicas."""
        return len(self.record.settings.seeds)

    def value(self, metric: str) -> float | None:
        """The final value, by which runs are sorted."""
        return self.record.metrics.get(metric) if self.record.is_finished else None

    def cell(self, metric: Metric) -> Cell:
        """The final value, or that of the last row so far."""
        value = self.record.metrics.get(metric.name)
        return Cell("" if value is None else metric.shown(value), {metric.name: value})

    def as_json(self) -> dict[str, Any]:
        """The record."""
        return self.record.as_json()


@dataclass(frozen=True)
class GroupRow:
    """A row for runs that differ in the seed alone."""

    group: Group

    @property
    def records(self) -> Sequence[Record]:
        """The runs, the newest first."""
        return self.group.records

    @property
    def path(self) -> Path:
        """The folder of the newest."""
        return self.records[0].path

    @property
    def paths(self) -> Sequence[Path]:
        """The folders of the runs."""
        return [record.path for record in self.records]

    @property
    def name(self) -> str:
        """The name of the newest."""
        return self.path.name

    @property
    def experiment(self) -> str:
        """The experiment."""
        return self.records[0].settings.experiment

    @property
    def status(self) -> str:
        """How many runs have which status, or the status that all have."""
        counts = Counter(record.status for record in self.records)
        return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {status}" for status, n in counts.items())

    @property
    def progress(self) -> str:
        """The same."""
        return self.status

    @property
    def why(self) -> str:
        """Why some ended early, each reason once."""
        return " ".join(dict.fromkeys(record.error for record in self.records if record.error))

    @property
    def started(self) -> datetime:
        """When the newest started."""
        return self.records[0].started

    @property
    def n(self) -> int:
        """The number of seeds that have a final loss."""
        return len(self.group.values("train_loss"))

    def value(self, metric: str) -> float | None:
        """The mean over the seeds."""
        values = self.group.values(metric).values()
        return statistics.fmean(values) if values else None

    def cell(self, metric: Metric) -> Cell:
        """Mean ± standard deviation; of a single seed, its value."""
        mean, std = self._mean_and_std(metric.name)
        text = "" if mean is None else metric.shown(mean) if std is None else metric.shown_with(mean, std)
        return Cell(text, {f"{metric.name}_mean": mean, f"{metric.name}_std": std})

    def _mean_and_std(self, metric: str) -> tuple[float | None, float | None]:
        values = list(self.group.values(metric).values())
        return self.value(metric), statistics.stdev(values) if len(values) > 1 else None

    def as_json(self) -> dict[str, Any]:
        """What the runs share, and mean and standard deviation of each metric."""
        settings = self.records[0].settings
        metrics: dict[str, float | None] = {}
        for metric in settings.metrics:
            mean, std = self._mean_and_std(metric.name)
            if mean is not None:
                metrics |= {f"{metric.name}_mean": mean, f"{metric.name}_std": std}
        return {
            "runs": [str(path) for path in self.paths],
            "experiment": settings.experiment,
            "status": self.status,
            "settings": settings.model_dump(exclude=set(selecting.NOT_OF_GROUP)),
            "n": self.n,
            "metrics": metrics,
        }


@dataclass(frozen=True)
class SweepRow:
    """A row for a sweep, whose runs are not looked into; it has no settings and no metrics."""

    sweep: "Progress"
    records: Sequence[Record] = ()
    why: str = ""

    @property
    def path(self) -> Path:
        """The folder."""
        return self.sweep.path

    @property
    def paths(self) -> Sequence[Path]:
        """The same."""
        return (self.path,)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def experiment(self) -> str:
        """The experiment; empty where ``sweep.toml`` is broken."""
        return self.sweep.experiment

    @property
    def status(self) -> str:
        """How many of its runs have finished, and what became of others."""
        return self.sweep.status

    @property
    def progress(self) -> str:
        """The same."""
        return self.status

    @property
    def started(self) -> datetime:
        """When the first of its runs started."""
        return self.sweep.started

    @property
    def n(self) -> None:
        """None: its runs may have the same seeds."""

    def value(self, metric: str) -> None:
        """None: a sweep has no place among runs that are sorted."""

    def cell(self, metric: Metric) -> Cell:
        """Nothing."""
        return Cell("", {metric.name: None})

    def as_json(self) -> dict[str, Any]:
        """What a run has, and ``counts``; ``settings`` are the values that were asked for, a list for each setting."""
        return {
            "run": str(self.path),
            "experiment": self.experiment or None,
            "status": self.status,
            "counts": dict(self.sweep.counts),
            "settings": dict(self.sweep.values),
            "metrics": {},
            "started": self.started.isoformat(timespec="milliseconds"),
            "seconds": None,
            "error": None,
        }


Row = RunRow | GroupRow | SweepRow
