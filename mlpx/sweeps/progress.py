"""How far a sweep has come, from the ``run.json`` of each of its runs and nothing else of them."""

import contextlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlpx.errors import InputError, UsageError
from mlpx.runs import reading, records
from mlpx.sweeps.request import Request

UNREADABLE = "unreadable"
"""What stands in place of the status of a run whose ``run.json`` is broken."""
SHOWN = (*records.STATUSES[1:], UNREADABLE)
"""What is said of the runs beside how many have finished; those that wait are the rest."""


@dataclass(frozen=True)
class Progress:
    """How far a sweep has come.

    Args:
        path: The absolute path of its folder.
        experiment: The experiment; empty where ``sweep.toml`` is broken.
        values: The values that were asked for, by setting.
        counts: The number of runs of each status.
        started: When the first of its runs started, or, while none has, when ``sweep.toml`` was written.
    """

    path: Path
    experiment: str
    values: Mapping[str, list[Any]]
    counts: Mapping[str, int]
    started: datetime

    @property
    def status(self) -> str:
        """The same in words: ``35 of 36, 1 diverged``."""
        return in_words(self.counts)


def in_words(counts: Mapping[str, int]) -> str:
    """How many runs have finished, and how many have another status than to wait: ``3 of 36, 2 running, 1 failed``."""
    others = [f"{counts[status]} {status}" for status in SHOWN if status != "finished" and counts.get(status)]
    return ", ".join([f"{counts.get('finished', 0)} of {sum(counts.values())}", *others])


def read(path: Path) -> tuple[Progress, list[str]]:
    """How far the sweep in the folder ``path`` has come, and a warning for each file that is broken."""
    warnings = []
    experiment: str = ""
    values: Mapping[str, list[Any]] = {}
    try:
        request = Request.read(path / reading.SWEEP_FILE)
        experiment, values = request.model.experiment, request.values
    except UsageError as error:
        warnings.append(f"{path.name}: {error}")
    counts: Counter[str] = Counter()
    moments = []
    for run in reading.runs_in(path):
        try:
            document, status = records.document_and_status(run)
        except InputError as error:
            document, status = {}, UNREADABLE
            warnings.append(f"{path.name}/{run.name}: {error}")
        counts[status] += 1
        with contextlib.suppress(KeyError, TypeError, ValueError):
            moments.append(reading.moment_of(document["started"]))
    return Progress(path.absolute(), experiment, values, counts, min(moments, default=_written(path))), warnings


def _written(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(os.stat(path / reading.SWEEP_FILE).st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return datetime.now(UTC)
