"""How a run is shown: a table for people, JSON Lines for programs, or the folder's path alone."""

import datetime
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mlpx.cli import streams
from mlpx.cli.tables import TablePrinter, in_style, new_console
from mlpx.errors import printable
from mlpx.runs.events import End, Event, Notice
from mlpx.runs.folder import Run, finite
from mlpx.settings.base import Settings
from mlpx.settings.metrics import Metric
from mlpx.training.loop import EpochRecord, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

BAR_SECONDS = 0.1


class View(Protocol):
    """Shows a run while it happens."""

    def start(self, run: Run, settings: Settings, columns: Sequence[Metric]) -> None:
        """The run begins, or goes on; ``columns`` are those of its rows."""

    def show(self, event: Event) -> None:
        """Something happened."""

    def end(self, run: Run) -> None:
        """The run is over, in whatever way; its document says how."""


def choose(*, quiet: bool, as_json: bool) -> View:
    """The view that the options ask for."""
    if quiet:
        return Quiet()
    return JsonLines() if as_json else Screen()


class Quiet:
    """Shows the run folder's path alone, at the start, so that it stands whatever happens."""

    def start(self, run: Run, settings: Settings, columns: Sequence[Metric]) -> None:
        """Print the path."""
        print(run.path, flush=True)

    def show(self, event: Event) -> None:
        """Print warnings."""
        if isinstance(event, Notice):
            streams.warn(event.text)

    def end(self, run: Run) -> None:
        """Print nothing."""


class JsonLines(Quiet):
    """Shows one JSON object a line: ``start``, an ``epoch`` a row, ``end``; a number that is not finite is null."""

    def start(self, run: Run, settings: Settings, columns: Sequence[Metric]) -> None:
        """Print the run's path, experiment and settings."""
        about = {"run": str(run.path), "experiment": settings.experiment, "settings": settings.model_dump()}
        self._print("start", about)

    def show(self, event: Event) -> None:
        """Print a row, or a warning."""
        super().show(event)
        if isinstance(event, EpochRecord):
            self._print("epoch", event.row)

    def end(self, run: Run) -> None:
        """Print status and metrics."""
        self._print("end", {key: run.document.get(key) for key in ("status", "exit_code", "metrics")})

    def _print(self, event: str, facts: Mapping[str, Any]) -> None:
        print(json.dumps({"event": event, **finite(facts)}, allow_nan=False), flush=True)


class Screen:
    """Shows a table, a row as it happens, and on a terminal a progress bar below it, which leaves no trace."""

    def __init__(self) -> None:
        self._console = new_console()
        self._printer = TablePrinter(self._console)
        self._animated = streams.is_animated()
        self._bar: Bar | None = None
        self._quiet_until = time.monotonic() + 5 * BAR_SECONDS
        self._epochs = 0
        self._may_stop_early = False
        self._headed = False
        self._columns: Sequence[Metric] = ()

    def start(self, run: Run, settings: Settings, columns: Sequence[Metric]) -> None:
        """Print nothing yet."""
        self._epochs = settings.epochs
        self._may_stop_early = settings.may_stop_early
        self._columns = self._printer.fitting(columns)

    def show(self, event: Event) -> None:
        """Print a row, move the bar, or report the end."""
        if isinstance(event, Progress):
            self._advance(event)
            return
        self._clear_bar()
        if isinstance(event, EpochRecord):
            if not self._headed:
                self._head(self._columns)
            self._printer.row(event.row)
        elif isinstance(event, Notice):
            streams.warn(event.text)
        elif isinstance(event, End):
            self._report(event)

    def end(self, run: Run) -> None:
        """Remove the bar, and say where the run lies."""
        self._clear_bar()
        self._console.print(printable(str(run.path)))

    def _head(self, columns: Sequence[Metric]) -> None:
        """Begin a table, below an empty line if it is not the first."""
        if self._headed:
            self._console.print()
        self._printer.head(columns)
        self._headed = True

    def _report(self, end: End) -> None:
        for table in end.tables:
            self._head(table.columns)
            for row in table.rows:
                self._printer.row({column.name: value for column, value in zip(table.columns, row, strict=True)})
        if self._headed:
            self._console.print()
        # On a terminal the sentence breaks between words; elsewhere it stays one line.
        self._console.print(in_style(end.summary), soft_wrap=not sys.stdout.isatty())

    def _advance(self, progress: Progress) -> None:
        if not self._animated or time.monotonic() < self._quiet_until:
            return
        if self._bar is None:
            self._bar = new_bar("epoch {task.fields[epoch]}", "{task.fields[left]} left")
        # The whole training takes as long for each step as it did so far, rows included.
        left = progress.seconds * (1 - progress.done) / progress.done if progress.done else 0.0
        self._bar.update(
            self._bar.task_ids[0],
            completed=progress.done,
            epoch=f"{progress.position.epoch}/{self._epochs}",
            left=f"{'at most ' if self._may_stop_early else ''}{datetime.timedelta(seconds=round(left))}",
            refresh=True,
        )
        self._quiet_until = time.monotonic() + BAR_SECONDS

    def _clear_bar(self) -> None:
        """Remove the bar, if it is there; it comes back only if nothing else is printed for a while."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._quiet_until = time.monotonic() + 5 * BAR_SECONDS


def new_bar(before: str, after: str) -> "Bar":
    """A progress bar on the terminal's last line, begun, which leaves no trace.

    Args:
        before: What is written before the bar; it may name the fields ``epoch``, ``doing`` and ``left`` of its task.
        after: What is written after it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    bar = Progress(
        TextColumn(before, markup=False),
        BarColumn(),
        TextColumn(after, markup=False),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task("", total=1.0, epoch="", doing="", left="")
    bar.start()
    return bar
