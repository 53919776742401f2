"""Carrying out a sweep: some runs at a time, each in a process of its own, until none is left."""

import contextlib
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from mlpx.errors import InputError, Locked, MachineError, as_mlpx_error
from mlpx.files import read_regular
from mlpx.runs import reading, records
from mlpx.runs.holding import is_held
from mlpx.runs.records import Record
from mlpx.settings.metrics import EPOCH, SECONDS
from mlpx.sweeps import plan
from mlpx.sweeps.folder import Sweep
from mlpx.sweeps.processes import LOG
from mlpx.training.signals import STOPPING, StopFlag

WAIT_SECONDS = 0.1
LOG_BYTES = 10_000


class Ended(NamedTuple):
    """A run has ended, and this is its record now."""

    record: Record


class Waiting(NamedTuple):
    """For a moment no run has ended; these go on."""

    running: Sequence[Path]


class Stopped(NamedTuple):
    """No further run is started."""

    why: str


Event = Ended | Waiting | Stopped


class Engine(Protocol):
    """Where runs are carried out: :class:`mlpx.sweeps.local.Local`, :class:`mlpx.sweeps.on_ray.Ray`."""

    slots: int
    """The number of runs at a time."""

    @property
    def running(self) -> Sequence[Path]:
        """The runs that go on."""

    def start(self, run: Path) -> None:
        """Start a run, for which there must be a slot; raises OSError if it cannot be started."""

    def ended(self, seconds: float) -> list[tuple[Path, int]]:
        """The runs that have ended, after so long a wait at most.

        Each comes with its exit code, or the signal that it died by as a negative number.
        """

    def send(self, signum: int) -> None:
        """Send a signal to all runs that go on."""

    def close(self, *, dies: bool) -> None:
        """End the runs that go on, and wait for them; ``dies`` if this process ends by a signal next."""


class Driver:
    """Carries out the runs of a sweep that are not over, together with any other driver, here or elsewhere.

    ``records`` has a record for each run, in the order of the sweep. It holds only the main metrics and those that a
    check needs, so that a sweep of thousands of runs takes little memory. ``warnings`` tells which runs cannot be read.
    """

    def __init__(self, sweep: Sweep, engine: Engine, stop: StopFlag) -> None:
        """Read all runs.

        Args:
            sweep: The sweep.
            engine: Where the runs are carried out.
            stop: Asks to stop, by a signal that is handed on to the runs.

        Raises:
            InputError: The sweep has no runs.
        """
        self._sweep = sweep
        self._engine = engine
        self._stop = stop
        self.warnings: list[str] = []
        found = []
        paths = reading.runs_in(sweep.path)
        if not paths:
            raise InputError(sweep.path, "has no runs", "Lay them out by 'mlpx sweep', --config and --into.")
        for path in paths:
            try:
                found.append(self._read(path))
            except Exception as error:
                known = as_mlpx_error(error)
                if known is None:
                    raise
                self.warnings.append(f"{path.name} is left out: {known}")
        found.sort(key=lambda record: (sweep.place(record.settings), record.path.name))
        self.records = {record.path: record for record in found}
        self._tried: set[Path] = set()
        self._killed: set[Path] = set()
        self._queue = deque(plan.startable(found, ()))

    @property
    def has_work(self) -> bool:
        """Whether any run may start."""
        return bool(self._queue)

    @property
    def exit_code(self) -> int:
        """The exit code that the runs, as they are now, lead to."""
        found = list(self.records.values())
        failing = plan.failing(found, self._sweep.request.checks)
        return plan.exit_code(found, self._tried, failing, some_unread=bool(self.warnings))

    def events(self) -> Generator[Event, None, None]:
        """Carry out the runs, until none is left that may start, or a signal comes.

        Whoever stops reading them before their end must close them, which ends the runs.
        """
        try:
            yield from self._events()
        finally:
            self._engine.close(dies=self._stop.signum is not None)

    def _events(self) -> Iterator[Event]:
        stopped, handed_on = "", False
        while True:
            while self._may_start and not stopped:
                for event in self._start(self._queue.popleft()):
                    yield event
                    if stopped := self._why_stop():
                        yield Stopped(stopped)
            if self._stop.signum is not None and not handed_on:
                handed_on = True
                self._engine.send(self._stop.signum)
            if not self._engine.running:
                if stopped or self._stop.signum is not None or not self._given_up_elsewhere():
                    return
                continue
            ended = self._engine.ended(WAIT_SECONDS)
            for path, code in ended:
                yield from self._end(path, code)
            if not ended:
                yield Waiting(self._engine.running)
            elif not stopped and (stopped := self._why_stop()):
                yield Stopped(stopped)

    @property
    def _may_start(self) -> bool:
        has_room = len(self._engine.running) < self._engine.slots
        return bool(self._queue) and has_room and self._stop.signum is None

    def _start(self, path: Path) -> Iterator[Event]:
        """Start a run, if it still may: another driver may have it, or have finished it."""
        self._refresh(path)
        if self.records[path].status not in plan.STARTABLE:
            return
        self._tried.add(path)
        try:
            self._engine.start(path)
        except OSError as error:
            # These mean that the process that forks the runs was killed just now; the next start makes a new one.
            if not (isinstance(error, ChildProcessError | ConnectionError) and self._may_try_again(path)):
                yield self._failed(path, str(as_mlpx_error(error)), MachineError.exit_code)

    def _end(self, path: Path, code: int) -> Iterator[Event]:
        # A network file system may believe for a while that files are missing that another machine has just made.
        # Opening their folder makes it ask.
        with contextlib.suppress(OSError):
            os.listdir(path)
        self._refresh(path)
        record = self.records[path]
        if code == Locked.exit_code:
            # Another driver was quicker.
            self._tried.discard(path)
        elif code < 0 and -code not in STOPPING and self._may_try_again(path):
            pass
        elif code > 0 and record.status not in (*plan.OVER, "failed"):
            yield self._failed(path, _last_line(path / LOG), code)
        elif code < 0 and record.status == "waiting" and self._stop.signum is None:
            yield self._failed(path, f"killed by {signal.Signals(-code).name} before it began", MachineError.exit_code)
        else:
            yield Ended(record)

    def _may_try_again(self, path: Path) -> bool:
        """Queue a run once more that was killed, as perhaps there was too little memory for a moment; but only once."""
        if path in self._killed:
            return False
        self._killed.add(path)
        self._tried.discard(path)
        self._queue.append(path)
        return True

    def _failed(self, path: Path, error: str, code: int) -> Ended:
        """Note a failure that the run folder does not tell of."""
        self.records[path] = replace(self.records[path], status="failed", document={"error": error, "exit_code": code})
        return Ended(self.records[path])

    def _given_up_elsewhere(self) -> bool:
        """Whether any run may start now that another process had when it was looked at."""
        for path, record in self.records.items():
            if record.status not in plan.OVER and path not in self._tried:
                self._refresh(path)
        self._queue.extend(plan.startable(self.records.values(), self._tried))
        return bool(self._queue)

    def _why_stop(self) -> str:
        found = self.records.values()
        failed = [self.records[path] for path in self._tried if plan.failure_code(self.records[path]) is not None]
        return plan.why_stop(failed, some_finished=any(record.is_finished for record in found))

    def _refresh(self, path: Path) -> None:
        try:
            self.records[path] = self._read(path)
        except Exception as error:
            known = as_mlpx_error(error)
            if known is None:
                raise
            self._failed(path, str(known), known.exit_code)

    def _read(self, path: Path) -> Record:
        record = records.read(path)
        names = {metric.name for metric in record.settings.metrics if metric.is_main}
        names |= {EPOCH.name, SECONDS.name, *(check.metric for check in self._sweep.request.checks)}
        kept = {name: value for name, value in record.metrics.items() if name in names}
        about = {name: record.document[name] for name in ("error", "exit_code") if record.document.get(name)}
        # Another process may hold a run, and not have written yet that it goes on.
        is_taken = record.status in plan.STARTABLE and is_held(path)
        return replace(record, metrics=kept, document=about, status="running" if is_taken else record.status)


def _last_line(log: Path) -> str:
    """The last line that a run printed."""
    try:
        lines = read_regular(log)[-LOG_BYTES:].decode(errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.removeprefix("error: ") for line in reversed(lines) if line.strip()), "it printed nothing")
