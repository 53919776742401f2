"""Carrying out the runs of a sweep on this machine, each in a process of its own."""

import signal
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path

from mlpx.sweeps.places import places
from mlpx.sweeps.processes import Process, clear, prepare
from mlpx.sweeps.request import Options


class Local:
    """This machine, which has room for a number of runs at a time: ``slots``."""

    def __init__(self, experiment: str, options: Options, jobs: int | None) -> None:
        """Find out where runs may compute; no process is started yet.

        Args:
            experiment: What the runs train.
            options: How each of them is carried out.
            jobs: The largest number of runs at a time; ``None`` for as many as there are cores or GPUs for.

        Raises:
            UsageError: The runs cannot have such a share of GPUs.
            MachineError: There are fewer GPUs than a run asks for.
        """
        self._experiment = experiment
        self._options = options
        self._places = deque(places(options, jobs))
        self.slots = len(self._places)
        self._live: dict[int, Process] = {}
        self._is_prepared = False

    @property
    def running(self) -> Sequence[Path]:
        """The runs that go on."""
        return [process.run for process in self._live.values()]

    def start(self, run: Path) -> None:
        """Start a run, for which there must be a slot.

        Raises:
            OSError: It cannot be started.
            MachineError: None can.
        """
        if not self._is_prepared:
            prepare(self._experiment)
            self._is_prepared = True
        place = self._places.popleft()
        try:
            process = Process(run, self._options, place)
        except OSError:
            self._places.append(place)
            raise
        self._live[process.sentinel] = process

    def ended(self, seconds: float) -> list[tuple[Path, int]]:
        """The runs that have ended, each with its exit code, or the signal that it died by as a negative number.

        Args:
            seconds: The time to wait for the first of them.
        """
        ready = wait(list(self._live), seconds)
        found = [self._live.pop(sentinel) for sentinel in [number for number in self._live if number in ready]]
        self._places.extend(process.place for process in found)
        return [(process.run, process.end()) for process in found]

    def send(self, signum: int) -> None:
        """Send a signal to all runs that go on."""
        for process in self._live.values():
            process.send(signum)

    def close(self, *, dies: bool) -> None:
        """End the runs that go on, and wait for them.

        Args:
            dies: Whether this process ends by a signal next, so that nothing else tidies up.
        """
        self.send(signal.SIGTERM)
        for process in self._live.values():
            process.end()
        self._live.clear()
        if dies:
            clear()
