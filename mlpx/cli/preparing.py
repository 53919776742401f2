"""The wait before a training: data is read, which may take minutes and can be interrupted."""

import contextlib
import datetime
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlpx.cli import streams
from mlpx.cli.views import BAR_SECONDS, new_bar
from mlpx.errors import Interrupted, printable
from mlpx.training.experiment import Preparing
from mlpx.training.signals import StopFlag

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

QUIET_SECONDS = 0.5
"""A preparation that is over sooner is not shown."""


def wait_for(records: Iterator[Preparing], remedy: str, *, is_shown: bool) -> None:
    """Wait until data is prepared, with a progress bar on a terminal that leaves no trace.

    Args:
        records: What :meth:`Experiment.prepare` yields.
        remedy: What a user can do after an interruption.
        is_shown: Whether a progress bar may be drawn.

    Raises:
        Interrupted: A signal asked to stop.
        MlpxError: As :meth:`Experiment.prepare` raises it.
    """
    progress = _Progress(is_shown=is_shown and streams.is_animated())
    # Closing the iterator lets it remove what it has half done.
    with StopFlag() as stop, contextlib.closing(progress), contextlib.ExitStack() as stack:
        stack.callback(getattr(records, "close", lambda: None))
        for record in records:
            if stop.signum is not None:
                raise Interrupted(stop.signum, f"stopped while {record.doing or 'looking for data'}", remedy)
            progress.show(record)
        if stop.signum is not None:
            raise Interrupted(stop.signum, "the data is ready", remedy)


class _Progress:
    """A progress bar with what is done just now, and the time that is left of it where that can be told."""

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._bar: Bar | None = None
        self._doing = ""
        self._begun = 0.0
        self._quiet_until = time.monotonic() + QUIET_SECONDS

    def show(self, record: Preparing) -> None:
        """Draw the bar for this record, unless it was drawn a moment ago."""
        now = time.monotonic()
        if record.doing != self._doing:
            self._doing, self._begun = record.doing, now
        if not self._is_shown or not record.doing or now < self._quiet_until:
            return
        if self._bar is None:
            self._bar = new_bar("{task.fields[doing]}", "{task.fields[left]}")
        left = ""
        if record.done:
            seconds = (now - self._begun) * (1 - record.done) / record.done
            left = f"{datetime.timedelta(seconds=round(seconds))} left"
        task = self._bar.task_ids[0]
        # A bar without a total moves to and fro.
        self._bar.update(task, total=None if record.done is None else 1.0)
        self._bar.update(task, completed=record.done or 0.0, doing=printable(self._doing), left=left, refresh=True)
        self._quiet_until = now + BAR_SECONDS

    def close(self) -> None:
        """Remove the bar, if it is there."""
        if self._bar is not None:
            self._bar.stop()
