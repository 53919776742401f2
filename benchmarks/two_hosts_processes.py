"""The processes of ``two_hosts.py``: forked from one that has imported all of mlpx, each on a pretended host."""

import contextlib
import importlib
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))

import hosts  # noqa: E402

from mlpx import __main__ as program  # noqa: E402
from mlpx.sweeps.processes import LATE  # noqa: E402

LEASE = 2.0
LONGEST = 300.0
"""Seconds in which any process here is stopped or ends."""
T = TypeVar("T")


class Failed(Exception):
    """A trial cannot go on; the message says why."""


class Process:
    """``mlpx WORDS``, forked on a host."""

    def __init__(self, place: Path, host: str, flock: str, words: Sequence[str], stop: int, delay: float) -> None:
        """Start it.

        Args:
            place: The folder in which it works; its runs are in ``runs``, and its output and the log beside them.
            host: The name of its host.
            flock: What ``flock`` does, as in ``hosts.py``; it works where this is empty.
            words: The command line.
            stop: It is stopped before its call of this number in the runs folder; 0 for never.
            delay: Seconds that each of its calls about a claim takes longer at most.
        """
        self.code: int | None = None
        self.words = words
        self.mark = f"{place.name}-{host}-{random.getrandbits(64):x}"
        changes = hosts.variables(host, flock, LEASE, f"{place}/runs/", place / "log", delay)
        self.pid = os.fork()
        if self.pid == 0:
            code = 255
            try:
                paths = os.pathsep.join(map(str, (hosts.customized(place / "python"), ROOT)))
                os.environ.update(changes | {hosts.STOP: str(stop), "PYTHONPATH": paths, "MLPX_MARK": self.mark})
                os.chdir(place)
                out = os.open(place / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), out, out)):
                    os.dup2(descriptor, number)
                hosts.become()
                # What it forks and starts imports its main module again.
                sys.modules["__main__"] = program
                sys.argv = ["mlpx", *words]
                code = program.main()
                sys.stdout.flush()
            finally:
                os._exit(code)

    def wait(self, seconds: float = LONGEST) -> bool:
        """Wait until it has ended, and ``code`` is its exit code, or until it stands; whether it has ended.

        Raises:
            Failed: It does neither in so many seconds.
        """
        until = time.monotonic() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                return False
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                raise Failed(f"mlpx {' '.join(self.words)} goes on for more than {seconds} s")
            else:
                time.sleep(0.002)
        return True

    def has_ended(self) -> bool:
        """Whether it has ended by now."""
        if self.code is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.code = os.waitstatus_to_exitcode(found[1])
        return self.code is not None

    def end(self) -> int:
        """Wait for its end; its exit code.

        Raises:
            Failed: It stands still, or does not end.
        """
        if not self.wait() or self.code is None:
            raise Failed(f"mlpx {' '.join(self.words)} stands still")
        return self.code

    def send(self, signum: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.code is None:
            os.kill(self.pid, signum)

    def all(self) -> list[int]:
        """It and whatever it has started, as far as they live."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and f"MLPX_MARK={self.mark}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        # What was forked here has the environment of this process, as the kernel shows it.
        return sorted({*found, *([self.pid] if self.code is None else [])})

    def send_all(self, signum: int) -> None:
        """Send it and whatever it has started a signal."""
        for pid in self.all():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)


def until_free(start: Callable[[], Process], seconds: float = LONGEST) -> int:
    """Start a process again and again until it does not end with 75, as others hold the folder; its exit code."""
    until = time.monotonic() + seconds
    while (code := start().end()) == 75:
        if time.monotonic() > until:
            raise Failed("others hold the folder for ever")
        time.sleep(0.05)
    return code


def prepare() -> None:
    """Import what a run and a sweep import, without computing anything, so that what is forked need not."""
    for name in (*LATE[""], "mlpx.experiments.poly.experiment", "mlpx.experiments.poly.plots"):
        importlib.import_module(name)


def in_workers(trials: Sequence[Callable[[Path], T]], workers: int) -> Iterator[T]:
    """The results of trials, each in a folder of its own, some at a time, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        pids = [_fork(trials, Path(folder), worker, workers) for worker in range(workers)]
        try:
            for number in range(len(trials)):
                result = Path(folder) / f"{number}.result"
                while not result.exists():
                    if os.waitpid(pids[number % workers], os.WNOHANG)[0] and not result.exists():
                        raise Failed(f"the worker of trial {number} has ended")
                    time.sleep(0.01)
                yield pickle.loads(result.read_bytes())  # noqa: S301
        finally:
            for pid in pids:
                with contextlib.suppress(ChildProcessError, ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
                    os.waitpid(pid, 0)


def _fork(trials: Sequence[Callable[[Path], Any]], folder: Path, worker: int, workers: int) -> int:
    if pid := os.fork():
        return pid
    try:
        for number in range(worker, len(trials), workers):
            place = folder / str(number)
            place.mkdir()
            found = trials[number](place)
            shutil.rmtree(place, ignore_errors=True)
            (folder / f"{number}.half").write_bytes(pickle.dumps(found))
            os.rename(folder / f"{number}.half", folder / f"{number}.result")
    finally:
        os._exit(0)
