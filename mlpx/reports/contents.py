"""What a page or an export takes from a run folder: its metrics over time, its files. The folder is only read."""

import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mlpx.errors import InputError, UsageError, reason
from mlpx.files import read_regular
from mlpx.runs import reading
from mlpx.runs.facts import Facts
from mlpx.runs.metrics import read_columns, read_last_row
from mlpx.runs.records import Record
from mlpx.settings.metrics import EPOCH, SECONDS

Change = Literal["new", "replaced", "unchanged", "left out"]
MAX_EPOCH = 2.0**53
"""Whole numbers up to this are exact in a double, and a step of either target holds them."""
PNG = b"\x89PNG\r\n\x1a\n"


class Outcome(NamedTuple):
    """What became of a run in an export, and a warning for each part of it that is missing there."""

    change: Change
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Contents:
    """What an export takes from a run that has started.

    Args:
        record: The run.
        facts: What ``run.json`` says beside its metrics.
        steps: The epoch of each row of ``metrics.csv``.
        times: When each row was written, in seconds since 1970: the start of the run and the seconds of training.
        columns: The other columns of ``metrics.csv`` by name.
        at_end: The final metrics of a finished run that are no columns.
    """

    record: Record
    facts: Facts
    steps: Sequence[int]
    times: Sequence[float]
    columns: Mapping[str, Sequence[float]]
    at_end: Mapping[str, float]

    @property
    def name(self) -> str:
        """The name of the run folder; of a run in a sweep, ``SWEEP/RUN``."""
        return name_of(self.record)

    @property
    def started(self) -> float:
        """When the run started, in seconds since 1970."""
        return self.record.started.timestamp()

    @property
    def last_step(self) -> int:
        """The epoch of the final metrics."""
        return self.steps[-1] if self.steps else _whole(self.record.metrics.get(EPOCH.name, 0))

    @property
    def last_time(self) -> float:
        """When the last row was written, in seconds since 1970."""
        return self.times[-1] if self.times else self.started


def name_of(record: Record) -> str:
    """The name of the run folder; of a run in a sweep, ``SWEEP/RUN``."""
    sweep = sweep_of(record)
    return f"{sweep.name}/{record.path.name}" if sweep else record.path.name


def sweep_of(record: Record) -> Path | None:
    """The folder of the sweep in which a run lies, if it lies in one."""
    return record.path.parent if reading.is_sweep(record.path.parent) else None


def ended(record: Record) -> float:
    """When a run ended, in seconds since 1970; where it does not say so, when its last row was written."""
    moment = Facts.of(record.document).ended
    seconds = record.metrics.get(SECONDS.name, 0.0)
    return moment.timestamp() if moment else record.started.timestamp() + (seconds if math.isfinite(seconds) else 0.0)


def by_name(records: Iterable[Record]) -> dict[str, Record]:
    """The runs by the names that they have in an export.

    Raises:
        UsageError: Two of them have the same name.
    """
    named: dict[str, Record] = {}
    for record in records:
        name = name_of(record)
        if name in named:
            why = f"{named[name].path} and {record.path} have the same name"
            raise UsageError("the runs", why, "Export them to different places.")
        named[name] = record
    return named


def read(record: Record) -> Contents:
    """What an export takes from a run.

    Raises:
        InputError: Its ``metrics.csv`` cannot be used.
    """
    path = record.path / "metrics.csv"
    columns = read_columns(path, read_last_row(path), most=sys.maxsize)
    if columns and EPOCH.name not in columns:
        raise _unusable(path, f"has no column {EPOCH.name}")
    epochs = columns.pop(EPOCH.name, [])
    seconds = columns.get(SECONDS.name, [0.0] * len(epochs))
    started = record.started.timestamp()
    if not all(math.isfinite(value) and abs(value) <= MAX_EPOCH for value in seconds):
        raise _unusable(path, f"has a time in {SECONDS.name} that is none")
    try:
        steps = [_whole(epoch) for epoch in epochs]
        at_end = {name: value for name, value in record.metrics.items() if name not in columns}
        at_end = {name: value for name, value in at_end.items() if record.is_finished and name != EPOCH.name}
        found = Contents(
            record, Facts.of(record.document), steps, [started + value for value in seconds], columns, at_end
        )
        # The last epoch of a finished run without rows stands in run.json.
        _ = found.last_step
        return found
    except ValueError as error:
        raise _unusable(path, str(error)) from error


def _whole(epoch: float) -> int:
    """The epoch as a whole number.

    Raises:
        ValueError: It is none.
    """
    if not (math.isfinite(epoch) and 0 <= epoch <= MAX_EPOCH and epoch == int(epoch)):
        raise ValueError(f"has an epoch {epoch}")
    return int(epoch)


def _unusable(path: Path, why: str) -> InputError:
    return InputError(path, why, "Train the run anew.")


def read_png(path: Path) -> tuple[bytes, int, int]:
    """A picture of a run folder, its width and its height.

    Raises:
        InputError: It is no PNG file, or cannot be read.
    """
    data = read_file(path)
    # The header names the picture's size: its length, the word IHDR, width and height.
    if len(data) < 24 or not data.startswith(PNG) or data[12:16] != b"IHDR":
        raise InputError(path, "is no PNG file")
    return data, int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def read_text(path: Path) -> str:
    """A text of a run folder.

    Raises:
        InputError: It cannot be read.
    """
    return read_file(path).decode(errors="replace")


def read_file(path: Path) -> bytes:
    """A file of a run folder.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return read_regular(path)
    except OSError as error:
        raise InputError(path, f"cannot be read ({reason(error)})") from error


def files(folder: Path, *endings: str) -> Iterator[Path]:
    """The regular files of a folder whose names end in one of these, by name."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    for name in names:
        if name.endswith(endings) and not name.startswith("."):
            yield folder / name


def clean(text: str) -> str:
    """The text with a question mark in place of what UTF-8 cannot write, such as half a character of a file name."""
    return text.encode(errors="replace").decode()
