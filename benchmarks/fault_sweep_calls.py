"""What ``fault_sweep.py`` knows of system calls: which ones the program makes, and how one of them is disturbed.

The program is forked from a process that has imported it, and waits until strace has got hold of it, so that system
calls are counted from its first own line on. Strace counts the calls of each thread for itself.
"""

import atexit
import contextlib
import errno
import importlib
import os
import re
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mlpx.__main__ import main

SECONDS = 60.0
"""A command that takes longer hangs."""
HANGS = "it hangs\n"
RUNS = "runs"
# What a failing disk, or one that is full, makes of a call; of one that is not named, EIO.
NO_ROOM = ("write", "pwrite64", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "symlink", "symlinkat")
ERRORS = {**dict.fromkeys(NO_ROOM, "ENOSPC"), "flock": "ENOLCK", "mmap": "ENOMEM", "fcntl": "EMFILE"}
CALL = re.compile(r"(?:(\d+) +)?(\w+)\((.*)")
TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
DESCRIPTOR = re.compile(r"(?:\b\d+|AT_FDCWD)<([^>]*)>")
FOLDER_AND_TEXT = re.compile(r'(?:(?:\d+|AT_FDCWD)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
# What is another name in each run: a time, the rest of a temporary name, a digest.
CHANGING = re.compile(r"(?<=/\.)\d{8}-\d{6}-|(?<=/)\d{8}-\d{6}-|(?<=\.)[0-9a-f]{8}(?=\.tmp)|(?<=-)[0-9a-f]{16}(?=\.pt)")


class Result(NamedTuple):
    """How the program ended, a negative code being the signal that it died by, and what it wrote to stderr."""

    code: int
    err: str


@dataclass(frozen=True)
class Call:
    """A system call that touches the runs folder.

    Args:
        thread: The number of the thread that makes it, in the order in which they make their first call; 0 is the main
            one.
        name: Its name.
        number: Its number among the calls of that name that the thread makes, from 1.
        path: What it is about, without what is another name in each run.
        makes: Whether it may make a file.
    """

    thread: int
    name: str
    number: int
    path: str
    makes: bool

    @property
    def error(self) -> str:
        """The error that it is given."""
        return "ENOSPC" if self.makes else ERRORS.get(self.name, "EIO")

    def __str__(self) -> str:
        return f"{self.name} {self.number} of {self.path}"


def preload(arguments: Sequence[str], place: Path) -> None:
    """Run the program once, and import what it has imported.

    To import something late is to make system calls whose number depends on what lies in other folders.
    """
    run(arguments, place, learn=True)
    for name in (place / "modules").read_text().splitlines():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _begin(arguments: Sequence[str], place: Path, *, learn: bool) -> tuple[int, int]:
    """Fork the program; its process, and a descriptor: until it is written to, the program waits."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid:
        os.close(readable)
        return pid, writable
    os.close(writable)
    os.chdir(place)
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, os.devnull, os.O_WRONLY), (2, "stderr", os.O_RDWR)):
        opened = os.open(name, flags | os.O_CREAT | os.O_TRUNC * (number == 2), 0o666)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    sys.argv = ["mlpx", *arguments]
    # Strace may count again the call that it interrupts, and no case is about this one.
    select.select([readable], [], [])
    os.close(readable)
    if learn:
        atexit.register(lambda: Path("modules").write_text("\n".join(sys.modules)))
    # As in a program of its own, what is to be done at its end is done; nothing that called this catches it.
    sys.exit(main())


def run(
    arguments: Sequence[str], place: Path, strace: Sequence[str] = (), *, threads: bool = False, learn: bool = False
) -> Result:
    """Run the program to its end, or until it hangs.

    Args:
        arguments: Its command line.
        place: The folder in which it runs, and in which the file ``stderr`` is its standard error.
        strace: What strace, whose output is the file ``trace`` there, shall do; without it there is none.
        threads: Whether strace follows other threads, and other processes, too.
        learn: Whether it shall write the names of the modules that it has imported into the file ``modules`` there.

    Raises:
        OSError: Strace cannot be attached.
    """
    pid, go = _begin(arguments, place, learn=learn)
    tracer = None
    if strace:
        follow = ["-f"] if threads else []
        command = ["strace", "-y", *follow, "-o", str(place / "trace"), *strace, "-p", str(pid)]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = tracer.stderr.readline() if tracer.stderr else ""
        if "attached" not in said:
            os.kill(pid, signal.SIGKILL)
            raise OSError(errno.EPERM, f"strace: {said.strip()}")
    os.write(go, b"\n")
    os.close(go)
    descriptor = os.pidfd_open(pid)
    hangs = not select.select([descriptor], [], [], SECONDS)[0]
    os.close(descriptor)
    if hangs:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if tracer is not None:
        tracer.communicate()
    return Result(code, (place / "stderr").read_text() + (HANGS if hangs else ""))


def calls(place: Path) -> list[Call]:
    """The calls in ``place/trace`` that touch the runs folder ``place/runs``."""
    found: list[Call] = []
    threads: dict[str | None, int] = {}
    counts: Counter[tuple[int, str]] = Counter()
    for line in (place / "trace").read_text().splitlines():
        parts = CALL.match(line)
        # The other lines tell of signals, and of the rest of calls that were interrupted by those of other threads.
        if parts is None:
            continue
        thread = threads.setdefault(parts[1], len(threads))
        name, arguments = parts[2], parts[3]
        counts[thread, name] += 1
        paths = [path for path in map(os.path.normpath, _paths(name, arguments, place)) if _is_in(path, place / RUNS)]
        if paths:
            path = CHANGING.sub("", os.path.relpath(paths[0], place))
            found.append(Call(thread, name, counts[thread, name], path, makes="O_CREAT" in arguments))
    return found


def _paths(name: str, arguments: str, place: Path) -> list[str]:
    """The paths that a call is about, by name or by descriptor."""
    if arguments.startswith('"') or name.endswith(("at", "at2", "statx")):
        return [os.path.join(folder or place, text) for folder, text in FOLDER_AND_TEXT.findall(arguments)]
    return DESCRIPTOR.findall(TEXT.sub("", arguments.partition(") = ")[0]))


def _is_in(path: str, folder: Path) -> bool:
    return path == str(folder) or path.startswith(f"{folder}/")


def aim(call: Call, *, kill: bool) -> list[str]:
    """The options of strace that let the call fail, or kill the program just before it is made."""
    how = "signal=SIGKILL" if kill else f"error={call.error}"
    return ["-e", f"trace={call.name}", "-e", f"inject={call.name}:{how}:when={call.number}"]


def is_hit(call: Call, place: Path, *, kill: bool) -> bool:
    """Whether ``place/trace`` tells that this call, and no other, was disturbed."""
    lines = (place / "trace").read_text().splitlines()
    disturbed = [line for line in lines if "(INJECTED)" in line]
    if kill:
        if not lines or "killed by SIGKILL" not in lines[-1]:
            return False
        disturbed = [line for line in lines if CALL.match(line)][-1:]
    (place / "trace").write_text("\n".join(disturbed))
    return [made.path for made in calls(place)] == [call.path]
