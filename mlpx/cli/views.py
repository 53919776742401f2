"""How a run is shown: a table for people, JSON Lines for programs, or the folder's path alone."""

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from mlpx.cli import streams
from mlpx.errors import printable
from mlpx.runs.events import End, Event, Notice, Row
from mlpx.runs.folder import Run, finite
from mlpx.settings.base import Settings
from mlpx.training.loop import Progress
from mlpx.training.replicas import main_columns

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

BAR_SECONDS = 0.1
MIN_WIDTH = 9
DISPENSABLE = ("val_perplexity", "step", "lr", "tokens_per_second")  # columns, on a terminal too narrow for all


class View(Protocol):
    """Shows a run while it happens."""

    def start(self, run: Run, settings: Settings) -> None:
        """The run begins, or goes on."""

    def show(self, event: Event) -> None:
        """Something happened."""

    def end(self, run: Run) -> None:
        """It is over, in whatever way; the run's document says how."""


def choose(*, quiet: bool, as_json: bool) -> View:
    """The view that the options ask for."""
    return Quiet() if quiet else JsonLines() if as_json else Screen()


class Quiet:
    """The run folder's path and no more, said at the start, so that it stands whatever happens."""

    def start(self, run: Run, settings: Settings) -> None:
        """Print the path."""
        print(run.path, flush=True)

    def show(self, event: Event) -> None:
        """Warn, and no more."""
        if isinstance(event, Notice):
            streams.warn(event.text)

    def end(self, run: Run) -> None:
        """Print nothing."""


class JsonLines(Quiet):
    """One JSON object a line: ``start``, an ``epoch`` a row, ``end``; a number that is not finite is null."""

    def start(self, run: Run, settings: Settings) -> None:
        """Print the run's path, experiment and settings."""
        about = {"run": str(run.path), "experiment": settings.experiment, "settings": settings.model_dump()}
        self._print("start", about)

    def show(self, event: Event) -> None:
        """Print a row."""
        super().show(event)
        if isinstance(event, Row):
            self._print("epoch", event.values)

    def end(self, run: Run) -> None:
        """Print status and metrics."""
        self._print("end", {key: run.document.get(key) for key in ("status", "exit_code", "metrics")})

    def _print(self, event: str, facts: Mapping[str, Any]) -> None:
        print(json.dumps({"event": event, **finite(facts)}, allow_nan=False), flush=True)


class Screen:
    """The table, a row as it happens; on a terminal a progress bar below it, which leaves no trace."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._rule = "-" if self._console.options.ascii_only else "─"
        self._animated = (
            sys.stdout.isatty()
            and sys.stderr.isatty()
            and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
            and not os.environ.get("CI")
        )
        self._bar: Bar | None = None
        self._quiet_until = time.monotonic() + 5 * BAR_SECONDS
        self._epochs = 0
        self._headed = False
        self._columns: Sequence[str] = ()

    def start(self, run: Run, settings: Settings) -> None:
        """Print nothing yet."""
        self._epochs = settings.epochs

    def show(self, event: Event) -> None:
        """Print a row, move the bar, or report the end."""
        if isinstance(event, Progress):
            self._advance(event)
            return
        self.clear_bar()
        if isinstance(event, Row):
            if not self._headed:
                self._columns = self._fitting(event.values)
                self._head(self._columns)
                self._headed = True
            self._line({name: event.values[name] for name in self._columns})
        elif isinstance(event, Notice):
            streams.warn(event.text)
        elif isinstance(event, End):
            for table in event.tables:
                if self._headed:
                    self._console.print()
                self._head(table.columns)
                self._headed = True
                for row in table.rows:
                    self._line(dict(zip(table.columns, row, strict=True)))
            text = f"\n{event.summary}" if self._headed else event.summary
            self._console.print(text, soft_wrap=not sys.stdout.isatty())  # on a terminal break between words

    def end(self, run: Run) -> None:
        """Remove the bar, and say where the run lies."""
        self.clear_bar()
        self._console.print(printable(str(run.path)))

    def clear_bar(self) -> None:
        """Remove the bar, if it is there; it comes back only if nothing else is printed for a while."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._quiet_until = time.monotonic() + 5 * BAR_SECONDS

    def _fitting(self, columns: Iterable[str]) -> Sequence[str]:
        """The columns that there is room for; of replicas, the medians."""
        found = main_columns(columns)
        for name in DISPENSABLE:
            wide = sum(max(len(column), MIN_WIDTH) + 2 for column in found) - 2
            if sys.stdout.isatty() and wide > self._console.width and name in found:
                found.remove(name)
        return found

    def _head(self, columns: Sequence[str]) -> None:
        titles = [column.replace("_", " ") for column in columns]
        self._console.print("  ".join(title.rjust(MIN_WIDTH) for title in titles), style="bold")
        self._console.print("  ".join(self._rule * max(len(title), MIN_WIDTH) for title in titles), style="dim")

    def _line(self, row: Mapping[str, float]) -> None:
        self._console.print("  ".join(shown(name, row[name]).rjust(max(len(name), MIN_WIDTH)) for name in row))

    def _advance(self, progress: Progress) -> None:
        if not self._animated or time.monotonic() < self._quiet_until:
            return
        if self._bar is None:
            self._bar = _new_bar(self._epochs)
        self._bar.update(self._bar.task_ids[0], completed=progress.position.epoch, refresh=True)
        self._quiet_until = time.monotonic() + BAR_SECONDS


def shown(name: str, value: float) -> str:
    """A number as the table shows it.

    Four significant digits; whole numbers and speeds whole, accuracies in percent, seconds to the hundredth.
    """
    if isinstance(value, int):
        return str(value)
    if name.endswith("per_second") and math.isfinite(value):
        return f"{value:.0f}"
    if name.endswith(("accuracy", "exactness")):
        return f"{value:.2%}"
    return f"{value:.2f}" if name == "seconds" else f"{value:#.4g}".rstrip(".")


def _new_bar(epochs: int) -> "Bar":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task("", total=epochs)
    bar.start()
    return bar
