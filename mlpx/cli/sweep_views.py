"""How a sweep is shown: a row when a run ends, JSON Lines for programs, or the folder's path alone."""

import datetime
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rich.text import Text

from mlpx.cli import streams
from mlpx.cli.tables import GAP, new_console
from mlpx.errors import printable
from mlpx.runs.folder import finite
from mlpx.runs.records import Record
from mlpx.settings.metrics import SECONDS, Metric
from mlpx.settings.values import to_text
from mlpx.sweeps import plan
from mlpx.sweeps.carrying_out import Ended, Event, Stopped, Waiting
from mlpx.sweeps.folder import Sweep
from mlpx.sweeps.on_slurm import Submitted

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

QUIET_SECONDS = 60.0
"""Where no bar moves, a line tells how far the sweep is when no run has ended for this long."""
BAR_SECONDS = 0.5
MAX_SHOWN = 3
"""The bar names no more runs than these."""


class View(Protocol):
    """Shows a sweep while it is carried out."""

    def start(self, sweep: Sweep, records: Sequence[Record], places: int) -> None:
        """The sweep begins, or goes on, with the records of all its runs, so many of them at a time."""

    def submitted(self, sweep: Sweep, records: Sequence[Record], job: Submitted | None) -> None:
        """The sweep was handed to Slurm; or, without a job, there was nothing left to do."""

    def show(self, event: Event) -> None:
        """Something happened."""

    def end(self, sweep: Sweep, records: Sequence[Record], exit_code: int) -> None:
        """No run goes on any more."""


def choose(*, quiet: bool, as_json: bool) -> View:
    """The view that the options ask for."""
    if quiet:
        return Quiet()
    return JsonLines() if as_json else Screen()


class Quiet:
    """Shows the path of the sweep's folder alone, at the start, so that it stands whatever happens."""

    def start(self, sweep: Sweep, records: Sequence[Record], places: int) -> None:
        """Print the path."""
        print(sweep.path, flush=True)

    def submitted(self, sweep: Sweep, records: Sequence[Record], job: Submitted | None) -> None:
        """Print the path."""
        self.start(sweep, records, 0)

    def show(self, event: Event) -> None:
        """Print why no further run is started."""
        if isinstance(event, Stopped):
            streams.warn(event.why)

    def end(self, sweep: Sweep, records: Sequence[Record], exit_code: int) -> None:
        """Print nothing."""


class JsonLines(Quiet):
    """Shows one JSON object a line: ``start``, a ``run`` for each that ends, ``end``."""

    def start(self, sweep: Sweep, records: Sequence[Record], places: int) -> None:
        """Print the sweep's path, its experiment, what was asked, and the number of runs in each state."""
        request = sweep.request
        about = {"sweep": str(sweep.path), "experiment": request.model.experiment, "settings": dict(request.asked)}
        self._print("start", {**about, "runs": len(records), **_counts(records)})

    def submitted(self, sweep: Sweep, records: Sequence[Record], job: Submitted | None) -> None:
        """Print what :meth:`start` does, and the job."""
        super().submitted(sweep, records, job)
        if job is not None:
            self._print("submit", {"job": job.job, "workers": job.workers})

    def show(self, event: Event) -> None:
        """Print a run that has ended."""
        super().show(event)
        if isinstance(event, Ended):
            self._print("run", {**event.record.as_json(), "error": plan.why(event.record) or None})

    def end(self, sweep: Sweep, records: Sequence[Record], exit_code: int) -> None:
        """Print the number of runs in each state."""
        self._print("end", {"runs": len(records), **_counts(records), "exit_code": exit_code})

    def _print(self, event: str, facts: Mapping[str, Any]) -> None:
        print(json.dumps({"event": event, **finite(facts)}, allow_nan=False), flush=True)


def _counts(records: Sequence[Record]) -> dict[str, int]:
    return dict(Counter(record.status for record in records))


class _Column(NamedTuple):
    """A column of the rows: the setting or the metric that it shows, or neither for the number of the run."""

    title: str
    width: int
    setting: str = ""
    metric: Metric | None = None

    def text(self, number: int, record: Record) -> str:
        """The text for a run."""
        if self.metric is not None:
            value = record.metrics.get(self.metric.name)
            return "" if value is None else self.metric.shown(value)
        return to_text(getattr(record.settings, self.setting)) if self.setting else str(number)


class Screen:
    """Shows a row when a run ends, and on a terminal a bar below, which leaves no trace.

    Elsewhere a line on stderr tells how far the sweep is, once a minute if nothing ends.
    """

    def __init__(self) -> None:
        self._console = new_console()
        self._animated = streams.is_animated()
        self._bar: Bar | None = None
        self._columns: Sequence[_Column] = ()
        self._numbers: dict[Any, int] = {}
        self._status: dict[Any, str] = {}
        self._began = self._last = time.monotonic()
        self._ended = 0

    def start(self, sweep: Sweep, records: Sequence[Record], places: int) -> None:
        """Print what is going to happen, and the head of the rows."""
        self._numbers = {record.path: number for number, record in enumerate(records, 1)}
        self._status = {record.path: record.status for record in records}
        to_go = sum(status not in plan.OVER for status in self._status.values())
        self._console.print(printable(_headline(sweep, len(records), to_go, places)), style="bold")
        if to_go:
            self._columns = _fitting(_columns(sweep, records), self._console.width)
            self._console.print()
            self._console.print(GAP.join(column.title.rjust(column.width) for column in self._columns), style="bold")
            rule = "-" if self._console.options.ascii_only else "─"
            self._console.print(GAP.join(rule * column.width for column in self._columns), style="dim")

    def submitted(self, sweep: Sweep, records: Sequence[Record], job: Submitted | None) -> None:
        """Print the number of the job, and where to look."""
        words = counted(len(records), sweep.design.summary)
        to_go = sum(record.status not in plan.OVER for record in records)
        if to_go < len(records):
            words += f"; {to_go} to go" if to_go else "; all of them are over"
        self._console.print(printable(words), style="bold")
        if job is not None:
            workers = "one worker" if job.workers == 1 else f"{job.workers} workers"
            print(f"Slurm job {job.job}: {workers}. See how far it is: mlpx runs {shlex.quote(str(sweep.path))}")
        print(printable(str(sweep.path)), flush=True)

    def show(self, event: Event) -> None:
        """Print a row, or move the bar."""
        if isinstance(event, Waiting):
            self._wait(event)
            return
        self._clear_bar()
        self._last = time.monotonic()
        if isinstance(event, Stopped):
            streams.warn(event.why)
            return
        self._ended += 1
        self._status[event.record.path] = event.record.status
        self._console.print(self._row(event.record))

    def end(self, sweep: Sweep, records: Sequence[Record], exit_code: int) -> None:
        """Remove the bar."""
        self._clear_bar()

    def _row(self, record: Record) -> Text:
        number = self._numbers[record.path]
        if record.is_finished:
            return Text(GAP.join(column.text(number, record).rjust(column.width) for column in self._columns))
        about = [column for column in self._columns if column.metric is None]
        begun = GAP.join(column.text(number, record).rjust(column.width) for column in about)
        said = printable(plan.why(record))
        words = said if said.startswith(record.status) else f"{record.status}: {said}"
        text = Text.assemble(begun, GAP, (words, "bold red" if record.status == "failed" else "bold yellow"))
        if sys.stdout.isatty():
            text.truncate(self._console.width, overflow="ellipsis")
        return text

    def _wait(self, event: Waiting) -> None:
        now = time.monotonic()
        if self._animated:
            if now - self._last >= BAR_SECONDS:
                self._move_bar(event)
        elif now - self._last >= QUIET_SECONDS:
            self._last = now
            streams.note(", ".join([*self._progress(), f"{len(event.running)} running", f"{self._left()} left"]))

    def _progress(self) -> list[str]:
        """How many runs are over, and how many in other ways than well."""
        counts = Counter(self._status.values())
        over = sum(counts[status] for status in plan.OVER)
        return [
            f"{over} of {len(self._status)} done",
            *(f"{counts[status]} {status}" for status in ("diverged", "failed") if counts[status]),
        ]

    def _left(self) -> datetime.timedelta | str:
        """The time left, if the other runs take as long as those that this process has seen end."""
        to_go = sum(status not in plan.OVER for status in self._status.values())
        each = (time.monotonic() - self._began) / self._ended if self._ended else 0.0
        return datetime.timedelta(seconds=round(each * to_go)) if each else "unknown"

    def _move_bar(self, event: Waiting) -> None:
        if self._bar is None:
            self._bar = _new_bar(len(self._status))
        names = [path.name for path in event.running[:MAX_SHOWN]]
        more = ["..."] if len(event.running) > MAX_SHOWN else []
        self._bar.update(
            self._bar.task_ids[0],
            completed=sum(status in plan.OVER for status in self._status.values()),
            left=self._left(),
            running=", ".join([*names, *more]),
            refresh=True,
        )

    def _clear_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def counted(count: int, design: str) -> str:
    """How many runs there are, and how they come about: ``36 runs: hidden 3 x lr 2 x seed 6``."""
    return f"{count} {'run' if count == 1 else 'runs'}{f': {design}' if design else ''}"


def _headline(sweep: Sweep, count: int, to_go: int, places: int) -> str:
    """What is going to happen: ``36 runs: hidden 3 x lr 2 x seed 6; 2 at a time, a core each``."""
    words, cores = counted(count, sweep.design.summary), sweep.request.options.cores
    if to_go < count:
        words += f"; {to_go} to go" if to_go else "; all of them are over"
    if not to_go:
        return words
    at_a_time = min(places, to_go)
    return f"{words}; {at_a_time} at a time, {'a core' if cores == 1 else f'{cores} cores'} each"


def _columns(sweep: Sweep, records: Sequence[Record]) -> list[_Column]:
    """A column for the number, for each setting that varies, for each main metric and for the seconds."""
    columns = [_Column("run", max(3, len(str(len(records)))))]
    for name in sweep.design.varying:
        texts = [to_text(getattr(record.settings, name)) for record in records]
        title = name.replace("_", " ")
        columns.append(_Column(title, max(map(len, [title, *texts])), setting=name))
    main = {metric.name: metric for record in records for metric in record.settings.metrics if metric.is_main}
    columns += [_Column(metric.title, max(len(metric.title), 9), metric=metric) for metric in main.values()]
    return [*columns, _Column(SECONDS.title, max(len(SECONDS.title), 8), metric=SECONDS)]


def _fitting(columns: Sequence[_Column], width: int) -> list[_Column]:
    """The columns that there is room for on a terminal: main metrics but the last go first, then settings."""
    kept = list(columns)
    if not sys.stdout.isatty():
        return kept
    metrics = [column for column in columns if column.metric is not None]
    for column in [*metrics[:-2], *metrics[-1:], *reversed(columns[1 : -len(metrics)])]:
        if sum(each.width for each in kept) + len(GAP) * (len(kept) - 1) > width:
            kept.remove(column)
    return kept


def _new_bar(total: int) -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    bar = Progress(
        TextColumn("runs"),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[left]} left"),
        TextColumn("{task.fields[running]}", style="dim"),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task("", total=total, left="", running="")
    bar.start()
    return bar
