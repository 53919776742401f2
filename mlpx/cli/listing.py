"""``mlpx runs``: a row a run, or a row for the runs that differ in the seed alone."""

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from mlpx.cli import grids, streams
from mlpx.cli.grids import Cell
from mlpx.cli.options import Format, Shape
from mlpx.cli.times import ago
from mlpx.errors import UsageError, printable
from mlpx.registry import EXPERIMENTS, settings_class
from mlpx.runs import reading, records, selecting
from mlpx.runs.folder import finite
from mlpx.runs.records import Record
from mlpx.runs.selecting import Group
from mlpx.settings.metrics import Metric
from mlpx.settings.values import to_text

ABOUT = ("run", "n", *selecting.ABOUT, "started")
"""The columns that are neither a setting nor a metric; ``n`` is the number of seeds of a row."""


class Selection(NamedTuple):
    """Which runs are listed, in which order, and how: the options of that name."""

    where: Sequence[str] = ()
    min: str | None = None
    max: str | None = None
    first: int | None = None
    over: str | None = None
    columns: str | None = None

    @property
    def names(self) -> Sequence[str]:
        """The columns that are asked for; none where the choice is left to the program."""
        return [name.strip() for name in self.columns.split(",")] if self.columns is not None else []


def list_runs(references: Sequence[str], selection: Selection, shape: Shape, runs_dir: Path) -> None:
    """Print the runs that are selected.

    Args:
        references: Runs, or folders of runs; none stands for all runs in ``runs_dir``.
        selection: What the options ask for.
        shape: What is printed.
        runs_dir: The runs folder.

    Raises:
        InputError: There is no such run or folder.
        UsageError: An option cannot be used.
    """
    if selection.min and selection.max:
        raise UsageError("--min and --max", "exclude each other", "Give one of them.")
    conditions = [selecting.condition(text) for text in selection.where]
    found = read(references, runs_dir)
    best = selection.min or selection.max
    chosen = selecting.matching(found, conditions)
    if found:
        selecting.require_known("--columns", selection.names, {*selecting.known_names(found), *ABOUT})
        if best:
            option = "--min" if selection.min else "--max"
            selecting.require_known(option, [best], selecting.declared_metrics(found), "metric")
    rows = _rows(chosen, over_seeds=selection.over is not None)
    if best:
        rows = selecting.best_first(rows, lambda row: row.value(best), highest=bool(selection.max))
    if best and best.startswith("test_") and selection.first and len(rows) > selection.first:
        streams.note(f"the best of {len(rows)} by {best}, chosen on the test set: expect less on new data")
    rows = rows[: selection.first]
    if not rows:
        nothing = f"no runs to list in {', '.join(references) or runs_dir}"
        streams.note(f"none of {len(found)} runs is selected" if found else nothing)
    elif shape == "json":
        for row in rows:
            print(json.dumps(finite(row.as_json()), allow_nan=False))
    elif shape == "quiet":
        for record in (record for row in rows for record in row.records):
            print(record.path)
    else:
        _write(rows, _ranked_names(rows, selection), shape)


@dataclass(frozen=True)
class RunRow:
    """A row for a run."""

    record: Record

    @property
    def records(self) -> Sequence[Record]:
        """The run."""
        return (self.record,)

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
    def status(self) -> str:
        """How many runs have which status, or the status that all have."""
        counts = Counter(record.status for record in self.records)
        return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {status}" for status, n in counts.items())

    @property
    def progress(self) -> str:
        """The same."""
        return self.status

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
            "runs": [str(record.path) for record in self.records],
            "experiment": settings.experiment,
            "status": self.status,
            "settings": settings.model_dump(exclude=set(selecting.NOT_OF_GROUP)),
            "n": self.n,
            "metrics": metrics,
        }


Row = RunRow | GroupRow


def _rows(chosen: Sequence[Record], *, over_seeds: bool) -> Sequence[Row]:
    if not over_seeds:
        return [RunRow(record) for record in chosen]
    groups, warnings = selecting.over_seeds(chosen)
    for warning in warnings:
        streams.warn(warning)
    return [GroupRow(group) for group in groups]


def _ranked_names(rows: Sequence[Row], selection: Selection) -> dict[str, int]:
    """The columns to show, in their order, each with its rank; a narrow terminal leaves out the highest ranks first.

    Of the main metrics, those that most rows have rank lowest, and among these the one that is declared last.
    """
    chosen = [record for row in rows for record in row.records]
    if selection.names:
        return {name: rank for rank, name in enumerate(selection.names)}
    best = selection.min or selection.max
    main = Counter(m.name for row in rows for m in row.records[0].settings.metrics if m.is_main and row.cell(m).text)
    by_weight = sorted(main, key=main.__getitem__)[::-1]
    metrics = list(main) if best is None or best in main else [best, *main]
    varying = selecting.varying(chosen, selecting.NOT_OF_GROUP if selection.over else ())
    experiments = {record.settings.experiment for record in chosen}
    places = {name for experiment in experiments for name in settings_class(experiment).places}
    shown = [
        *([] if selection.over else ["run"]),
        *(["experiment"] if len(experiments) > 1 or (selection.over and not varying) else []),
        *varying,
        *(["n"] if selection.over else []),
        *metrics,
        "status",
        "started",
    ]
    importance = [
        *("run", "n", *([best] if best else []), "status", *by_weight[:1], "started"),
        *(name for name in varying if name not in places),
        *("experiment", *by_weight[1:], *places),
    ]
    return {name: importance.index(name) for name in shown}


def _write(rows: Sequence[Row], names: Mapping[str, int], shape: Format) -> None:
    metrics = selecting.declared_metrics(record for row in rows for record in row.records)
    columns = [_column(name, rank, rows, metrics, shape) for name, rank in names.items()]
    left_out = grids.write(columns, shape)
    if left_out:
        names_left_out = ", ".join(column.name for column in left_out)
        streams.note(f"no room for {names_left_out}: widen the terminal, or choose by --columns")


def _column(name: str, rank: int, rows: Sequence[Row], metrics: Mapping[str, Metric], shape: Format) -> grids.Column:
    if name in ABOUT:
        cells = [_about(name, row, shape) for row in rows]
        return grids.Column(name, name, cells, rank, is_text=name != "n")
    if any(name in settings_class(experiment).model_fields for experiment in EXPERIMENTS):
        values = [_shared(row, name) for row in rows]
        texts = ["" if value is None else to_text(value) for value in values]
        cells = [Cell(printable(text), {name: text}) for text in texts]
        is_text = any(isinstance(value, str | list | bool) for value in values)
        return grids.Column(name, name.replace("_", " "), cells, rank, is_text=is_text)
    metric = metrics.get(name, Metric(name))
    column = grids.Column(name, metric.title, [row.cell(metric) for row in rows], rank)
    return grids.marked(column, [row.value(name) for row in rows], metric.better)


def _shared(row: Row, setting: str) -> object:
    """The value of a setting; ``None`` where the runs of the row have several, or none."""
    first, *others = (getattr(record.settings, setting, None) for record in row.records)
    return first if all(other == first for other in others) else None


def _about(name: str, row: Row, shape: Format) -> Cell:
    record = row.records[0]
    match name:
        case "run":
            return Cell(printable(record.path.name), {name: str(record.path)})
        case "n":
            return Cell(str(row.n), {name: row.n})
        case "experiment":
            return Cell(record.settings.experiment, {name: record.settings.experiment})
        case "status":
            return Cell(row.progress, {name: row.status})
        case _:
            return Cell(_when(record.started, shape), {name: record.started.isoformat(timespec="milliseconds")})


def _when(moment: datetime, shape: Format) -> str:
    return ago(moment) if shape == "table" else f"{moment:%Y-%m-%d %H:%M}"


def read(references: Sequence[str], runs_dir: Path) -> list[Record]:
    """The records of the runs, the newest first; each run that cannot be read costs a warning.

    Raises:
        InputError: There is no such run or folder.
    """
    paths = [path.resolve() for reference in references for path in reading.find_runs(reference, runs_dir)]
    found, warnings = records.read_all(dict.fromkeys(paths) if references else reading.runs_in(runs_dir))
    for warning in warnings:
        streams.warn(warning)
    return records.newest_first(found)
