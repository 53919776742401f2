"""Several hosts on one machine: processes that share a disk, but neither a name nor the kernel's locks.

A process is on a host if the variables of :func:`variables` are in its environment and it calls :func:`become`. One
that starts anew does so by itself: ``sitecustomize.py`` of the folder :func:`customized` is run by any Python whose
``PYTHONPATH`` has it, such as the process from which a sweep forks its runs.

A process on a host notes in a log, one line each, when it takes and gives up a folder, and each call that changes
something in the folder that is watched. Before the call of a given number it stops itself by SIGSTOP.
"""

import errno
import fcntl
import functools
import os
import platform
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mlpx.runs import holding

HOST, FLOCK, LEASE, DELAY = "MLPX_HOST", "MLPX_FLOCK", "MLPX_LEASE", "MLPX_DELAY"
WATCHED, LOG, STOP = "MLPX_WATCHED", "MLPX_LOG", "MLPX_STOP"
FLOCKS = ("nothing", "ENOLCK", "ENOSYS", "EOPNOTSUPP")
"""What ``flock`` does: nothing, though it says that all is well; or it fails."""
CHANGING = ("mkdir", "rename", "replace", "unlink", "rmdir", "utime", "write", "ftruncate", "pwrite")
LOOKING = ("open", "fsync", "listdir", "scandir")
"""A holder can also be stopped before these, which come between its looks and its changes."""
TAKES, GIVES_UP, STOPS = "takes", "gives-up", "stops"
COUNTED = -1
"""In the place of the number: the process is not stopped, and notes also the calls that change nothing."""
CUSTOMIZE = "import sys\nsys.path.append({folder!r})\nimport hosts\nhosts.become()\n"


class Line(NamedTuple):
    """A line of the log: the time in seconds since the machine was started, who, what, and where."""

    time: float
    pid: int
    what: str
    path: str


def customized(folder: Path) -> Path:
    """Write ``sitecustomize.py`` into ``folder``, for ``PYTHONPATH``."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(CUSTOMIZE.format(folder=str(Path(__file__).parent)))
    return folder


def variables(
    host: str, flock: str, lease: float, watched: str = "", log: Path | None = None, delay: float = 0.0
) -> dict[str, str]:
    """The environment of a process on a host.

    Args:
        host: The host's name.
        flock: One of :data:`FLOCKS`, or "" where it works, also between hosts.
        lease: Seconds that a claim holds without being renewed.
        watched: What the paths begin with whose changes are noted.
        log: Where they are noted.
        delay: Seconds that each call about a claim takes longer at most, as of a slow file server.
    """
    found = {HOST: host, FLOCK: flock, LEASE: repr(lease), STOP: "0", DELAY: repr(delay)}
    return found if log is None else {**found, WATCHED: watched, LOG: str(log)}


def become() -> None:
    """Put this process on the host of its environment, if that names one."""
    if HOST not in os.environ:
        return
    host, flock = os.environ[HOST], os.environ[FLOCK]
    platform.node = lambda: host
    holding._boot = lambda: f"the boot of {host}"
    holding.LEASE_SECONDS = float(os.environ[LEASE])
    if flock:
        fcntl.flock = _granted if flock == "nothing" else functools.partial(_refused, getattr(errno, flock))
    if LOG in os.environ:
        _Watch(os.environ[WATCHED], os.environ[LOG], int(os.environ[STOP]), float(os.environ[DELAY]))


def _granted(_descriptor: object, _kind: int) -> None:
    pass


def _refused(number: int, _descriptor: object, _kind: int) -> None:
    raise OSError(number, os.strerror(number))


def lines(log: Path) -> list[Line]:
    """The lines of a log, by time."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else []:
        moment, pid, what, path = line.split(" ", 3)
        found.append(Line(float(moment), int(pid), what, path))
    return sorted(found)


class _Watch:
    """Notes what this process, and what is forked from it, does in a folder."""

    def __init__(self, folder: str, log: str, stop: int, delay: float) -> None:
        self._folder = folder
        self._write = os.write
        self._descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        self._left = stop
        self._delay = delay
        self._noted = CHANGING if stop != COUNTED else (*CHANGING, *LOOKING)
        for name in (*CHANGING, *LOOKING):
            setattr(os, name, self._watched(name, getattr(os, name)))
        self._watch_holding()

    def note(self, what: str, path: str) -> None:
        line = f"{time.monotonic():.6f} {os.getpid()} {what} {path}\n"
        self._write(self._descriptor, line.encode())

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def watched(*given: Any, **more: Any) -> Any:
            # The thread that renews the claim does so at any time, so its calls would make the numbers random.
            if threading.current_thread() is threading.main_thread():
                path = _path(given[0] if given else ".", more.get("dir_fd"))
                if path.startswith(self._folder):
                    self._before(name, path)
                    if self._delay and "/claims" in path:
                        time.sleep(random.uniform(0, self._delay))
            return call(*given, **more)

        return watched

    def _before(self, name: str, path: str) -> None:
        self._left -= 1
        if self._left == 0:
            self.note(STOPS, f"{path} before {name}")
            os.kill(os.getpid(), signal.SIGSTOP)
        if name in self._noted:
            self.note(name, path)

    def _watch_holding(self) -> None:
        take, give_up = holding.Hold.__init__, holding.Hold.release

        def init(hold: holding.Hold, path: Path) -> None:
            take(hold, path)
            self.note(TAKES, str(path))

        def release(hold: holding.Hold) -> None:
            if hold._number:
                self.note(GIVES_UP, str(hold.path))
            give_up(hold)

        for name, method in (("__init__", init), ("release", release)):
            setattr(holding.Hold, name, method)


def _path(given: Any, folder: int | None) -> str:
    """The path that a call of ``os`` is about, which may be a descriptor, or relative to one."""
    number = given if isinstance(given, int) else folder
    try:
        base = "" if number is None else os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""
    return base if isinstance(given, int) else os.path.join(base, os.fsdecode(given))
