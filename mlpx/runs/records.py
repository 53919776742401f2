"""The one reader of run folders. It makes a record of each folder, without torch and without disturbing the run."""

import csv
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mlpx.errors import InputError, as_mlpx_error, reason
from mlpx.files import read_regular
from mlpx.runs import reading
from mlpx.runs.folder import finite
from mlpx.runs.holding import is_held
from mlpx.runs.metrics import read_last_row
from mlpx.settings.base import Settings
from mlpx.settings.metrics import Metric, final

ENDED = ("finished", "diverged", "interrupted", "failed")
STATUSES = ("waiting", "running", "dead", *ENDED)
"""``waiting`` has not started; ``dead`` says that it is running, but no process holds it: it was killed."""


@dataclass(frozen=True)
class Record:
    """What a run folder says.

    Args:
        path: The absolute path of the folder.
        settings: The settings in ``config.toml``.
        status: One of :data:`STATUSES`.
        document: The content of ``run.json``; empty while there is none.
        metrics: The final metrics of a finished run, or the last row of one that has not finished. A metric that was
            not finite is ``inf`` or ``nan``.
        started: When it started, or, where it has not, when its ``config.toml`` was written.
    """

    path: Path
    settings: Settings
    status: str
    document: Mapping[str, Any]
    metrics: Mapping[str, float]
    started: datetime

    @property
    def is_finished(self) -> bool:
        """Whether the metrics are final."""
        return self.status == "finished"

    @property
    def error(self) -> str:
        """Why it ended early, where it did and says so."""
        error = self.document.get("error")
        return error if isinstance(error, str) and self.status in ENDED and not self.is_finished else ""

    @cached_property
    def declared(self) -> dict[str, Metric]:
        """The metrics that the settings declare, with the statistics of replicas, by name."""
        return {metric.name: metric for metric in final(self.settings.metrics, len(self.settings.seeds))}

    def values(self, metric: str) -> dict[int, float]:
        """The final value of a metric for each seed; replicas are seeds. Empty if the run has none.

        A number that all replicas share, such as the seconds, counts once, for the first seed.

        Raises:
            InputError: ``replicas.csv`` is missing or broken.
        """
        if not self.is_finished:
            return {}
        if len(self.settings.seeds) > 1 and metric in self._replicas:
            return self._replicas[metric]
        return {seed: self.metrics[metric] for seed in self.settings.seeds[:1] if metric in self.metrics}

    @cached_property
    def _replicas(self) -> dict[str, dict[int, float]]:
        """The columns of ``replicas.csv`` by name, each from seed to value. An empty cell is a replica left out.

        A metric of replicas that the file lacks is empty too: ``run.json`` has its median, which is no seed's value.
        """
        path = self.path / "replicas.csv"
        absent: dict[str, dict[int, float]] = {each.name: {} for each in self.settings.metrics if not each.shared}
        try:
            rows = list(csv.DictReader(read_regular(path).decode().splitlines()))
            names = [name for name in rows[0] if name not in ("replica", "seed")] if rows else []
            return absent | {name: {int(row["seed"]): float(row[name]) for row in rows if row[name]} for name in names}
        except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
            raise InputError(path, f"is not a table of replicas ({reason(error)})", "Train the run anew.") from error

    def as_json(self) -> dict[str, Any]:
        """The record as JSON has it: numbers that are not finite are ``None``."""
        about = {
            "run": str(self.path),
            "experiment": self.settings.experiment,
            "status": self.status,
            "settings": self.settings.model_dump(),
            "metrics": self.metrics,
            "started": self.started.isoformat(timespec="milliseconds"),
            "seconds": self.metrics.get("seconds"),
            "error": self.error or None,
        }
        result: dict[str, Any] = finite(about)
        return result


def read(path: Path, *, rows: bool = True) -> Record:
    """The record of the run folder ``path``.

    Args:
        path: The folder.
        rows: Whether the metrics of a run that has not finished are read from ``metrics.csv``; otherwise it has none.

    Raises:
        InputError: The folder is not a run, is broken, or is of a newer version of mlpx.
    """
    settings = reading.settings_of(path)
    document, status = document_and_status(path)
    try:
        if status == "finished":
            metrics = _checked(reading.metrics_of(document))
        else:
            metrics = read_last_row(path / "metrics.csv") if rows else {}
        started = _started(path, document)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(path / "run.json", f"cannot be used: {error}", "Remove it, and resume.") from error
    return Record(path.absolute(), settings, status, document, metrics, started)


def _started(path: Path, document: Mapping[str, Any]) -> datetime:
    if document.get("started") is None:
        return datetime.fromtimestamp(os.stat(path / "config.toml").st_mtime, UTC)
    return reading.moment_of(document["started"])


def read_all(paths: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """The records of run folders, and a warning for each folder that cannot be read."""
    records, warnings = [], []
    for path in paths:
        try:
            records.append(read(path))
        except Exception as error:
            known = as_mlpx_error(error)
            if known is None:
                raise
            warnings.append(f"{path.name} is left out: {known}")
    return records, warnings


class Dated(Protocol):
    """A run, or something that is listed among runs."""

    @property
    def path(self) -> Path:
        """Its folder."""

    @property
    def started(self) -> datetime:
        """When it started, or, where it has not, when it was made."""

    @property
    def status(self) -> str:
        """How far it is."""


D = TypeVar("D", bound=Dated)


def newest_first(many: Iterable[D]) -> list[D]:
    """What started last comes first; runs that wait come last, in the order in which they were made."""
    by_time = sorted(many, key=lambda each: (each.started, each.path.name))
    waiting = [each for each in by_time if each.status == "waiting"]
    return [*(each for each in reversed(by_time) if each.status != "waiting"), *waiting]


def document_and_status(path: Path) -> tuple[dict[str, Any], str]:
    """The content of ``run.json``, and the run's status, one of :data:`STATUSES`, as it was at one moment.

    A process writes how its run ended before it gives up the lock. So where ``run.json`` says that the run goes on,
    and the lock turns out to be free, ``run.json`` counts only if it still says so afterwards.

    Raises:
        InputError: ``run.json`` is broken, or of a newer version of mlpx.
    """
    document = reading.document_of(path)
    while True:
        status = document.get("status")
        if status not in (None, "running"):
            break
        if is_held(path):
            return document, "running"
        before, document = document, reading.document_of(path)
        if document == before:
            return document, "waiting" if status is None else "dead"
    if status not in ENDED:
        raise InputError(path / "run.json", f"has status {status!r}", "Read it with the version of mlpx that wrote it.")
    return document, str(status)


def _checked(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of ``run.json``; null, in runs of older versions, is a number that was not finite.

    Raises:
        ValueError: One of them is no number.
        OverflowError: One of them is a whole number too large for any computation.
    """
    for name, value in metrics.items():
        if not isinstance(value, int | float | None) or isinstance(value, bool):
            raise ValueError(f"metric {name!r} is {value!r:.40}")
        float(value or 0)
    return {name: math.nan if value is None else value for name, value in metrics.items()}
