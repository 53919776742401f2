"""The events that a run sends to whoever shows it: the loop's records, warnings, and its end."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mlpx.runs.checks import Check
from mlpx.training.experiment import Table
from mlpx.training.loop import EpochRecord, Progress


class Notice(NamedTuple):
    """A warning."""

    text: str


class End(NamedTuple):
    """The run has finished; ``failed`` are the checks that do not hold."""

    metrics: Mapping[str, float]
    tables: Sequence[Table]
    summary: str
    failed: Sequence[Check]


Event = Progress | EpochRecord | Notice | End
