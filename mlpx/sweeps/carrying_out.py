"""Carrying out a sweep on this machine: some runs at a time, each in a process of its own, until none is left."""

import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

from mlpx.errors import InputError, Locked, MachineError, as_mlpx_error
from mlpx.files import read_regular
from mlpx.runs import reading, records
from mlpx.runs.folder import is_held
from mlpx.runs.records import Record
from mlpx.settings.metrics import EPOCH, SECONDS
from mlpx.sweeps import plan
from mlpx.sweeps.folder import Sweep
from mlpx.sweeps.places import places
from mlpx.sweeps.processes import LOG, Process, clear, prepare
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


class Driver:
    """Carries out the runs of a sweep that are not over, together with any other driver, here or elsewhere.

    ``records`` has a record for each run, in the order of the sweep. It holds only the main metrics and those that a
    check needs, so that a sweep of thousands of runs takes little memory. ``warnings`` tells which runs cannot be read.
    """

    def __init__(self, sweep: Sweep, jobs: int | None, stop: StopFlag) -> None:
        """Read all runs.

        Args:
            sweep: The sweep.
            jobs: The largest number of runs at a time; ``None`` for as many as there are cores or GPUs for.
            stop: Asks to stop, by a signal that is handed on to the runs.

        Raises:
            UsageError: The runs cannot have such a share of GPUs.
            MachineError: There are fewer GPUs than a run asks for.
            InputError: The sweep has no runs.
        """
        self._sweep = sweep
        self._options = sweep.request.options
        self._stop = stop
        self.places = deque(places(self._options, jobs))
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
        self._live: dict[int, Process] = {}
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
        if self._queue:
            prepare(self._sweep.request.model.experiment)
        try:
            yield from self._events()
        finally:
            for process in self._live.values():
                process.send(signal.SIGTERM)
            for process in self._live.values():
                process.end()
            if self._stop.signum is not None:
                clear()

    def _events(self) -> Iterator[Event]:
        stopped, handed_on = "", False
        while True:
            while self._queue and self.places and not stopped and self._stop.signum is None:
                for event in self._start(self._queue.popleft()):
                    yield event
                    if stopped := self._why_stop():
                        yield Stopped(stopped)
            if self._stop.signum is not None and not handed_on:
                handed_on = True
                for process in self._live.values():
                    process.send(self._stop.signum)
            if not self._live:
                if stopped or self._stop.signum is not None or not self._given_up_elsewhere():
                    return
                continue
            ready = wait(list(self._live), WAIT_SECONDS)
            for sentinel in [number for number in self._live if number in ready]:
                yield from self._end(self._live.pop(sentinel))
            if not ready:
                yield Waiting([process.run for process in self._live.values()])
            elif not stopped and (stopped := self._why_stop()):
                yield Stopped(stopped)

    def _start(self, path: Path) -> Iterator[Event]:
        """Start a run, if it still may: another driver may have it, or have finished it."""
        self._refresh(path)
        if self.records[path].status not in plan.STARTABLE:
            return
        self._tried.add(path)
        place = self.places.popleft()
        try:
            process = Process(path, self._options, place)
        except OSError as error:
            self.places.append(place)
            # These mean that the process that forks the runs was killed just now; the next start makes a new one.
            if not (isinstance(error, ChildProcessError | ConnectionError) and self._may_try_again(path)):
                yield self._failed(path, str(as_mlpx_error(error)), MachineError.exit_code)
        else:
            self._live[process.sentinel] = process

    def _end(self, process: Process) -> Iterator[Event]:
        path, code = process.run, process.end()
        self.places.append(process.place)
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
