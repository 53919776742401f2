"""A trial of ``two_hosts.py``: a folder in which processes of several hosts work, and what must hold of it."""

import math
import random
import re
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from kill_storm_sweeps import Outcome, document_of, outcome
from two_hosts_processes import Process

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from hosts import CHANGING, GIVES_UP, LOOKING, TAKES, Line, lines
from hosts import COUNTED as COUNTED

CHANGED = re.compile(r"/runs/(run|sweep/(?!claims)[^./][^/]*)/(?!claims|lock)")


class Files(NamedTuple):
    """What equal runs have in common: to the last bit, and the names of files but for what tells who did the work."""

    outcome: Outcome
    names: set[str]


def files_of(run: Path) -> Files:
    """What of a run must be as it is in an equal one."""
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    return Files(outcome(run), {name for name in names if not name.startswith(("claims/", "checkpoints/epoch"))})


class Trial:
    """A folder in which processes of several hosts work on a run, or on a sweep."""

    def __init__(self, place: Path, flock: str, expected: Mapping[str, Files], seed: object) -> None:
        self.moments = random.Random(repr(seed))  # noqa: S311
        self.wrong: list[str] = []
        self.delay = 0.0
        self.run = place / "runs" / "run"
        self.sweep = place / "runs" / "sweep"
        self._place = place
        self._flock = flock
        self._expected = expected
        (place / "runs").mkdir()

    def start(self, host: str, *words: str, stop: int = 0, works: bool = False) -> Process:
        """Start ``mlpx WORDS`` on a host, where ``flock`` may be one that works."""
        return Process(self._place, host, "" if works else self._flock, (*words, "--quiet"), stop, self.delay)

    def train(self, host: str, *words: str, stop: int = 0) -> Process:
        """Start a training with ``--into``."""
        return self.start(host, *words, "--into", str(self.run), stop=stop)

    def resume(self, host: str, stop: int = 0, works: bool = False) -> Process:
        """Start ``mlpx resume``."""
        return self.start(host, "resume", str(self.run), stop=stop, works=works)

    def changes(self) -> list[tuple[str, Line]]:
        """What was changed in the folders of runs, each with the folder, by time."""
        return [
            (match[1], line)
            for line in lines(self._place / "log")
            if line.what in CHANGING and (match := CHANGED.search(line.path))
        ]

    def taken(self, process: Process) -> float:
        """When a process has taken the run; infinite if it has not."""
        found = [line.time for line in lines(self._place / "log") if (line.pid, line.what) == (process.pid, TAKES)]
        return max(found, default=math.inf)

    def calls(self, process: Process) -> int:
        """How many calls a process has made that was started with ``COUNTED``."""
        return sum(
            line.pid == process.pid and line.what in (*CHANGING, *LOOKING) for line in lines(self._place / "log")
        )

    def holders(self) -> list[int]:
        """The processes that have claimed the run, in this order."""
        claims = sorted(self.run.glob("claims/[0-9]*/holder"), key=lambda path: int(path.parent.name))
        return [int(path.read_text().split()[1]) for path in claims]

    def wait_for_checkpoint(self, process: Process) -> None:
        """Wait until the run has one, or its process has ended."""
        while not list(self.run.glob("checkpoints/*.pt")) and not process.has_ended():
            time.sleep(0.002)

    def finished(self) -> int:
        """How many runs of the sweep have finished."""
        return sum(document_of(path.parent)["status"] == "finished" for path in self.sweep.glob("*/run.json"))

    def require(self, holds: bool, what: str) -> None:
        """Note what is wrong if something does not hold."""
        if not holds:
            self.wrong.append(what)

    def require_equal(self, key: str, run: Path) -> None:
        """The run must be as the undisturbed one of this key."""
        expected = self._expected[key]
        try:
            found = files_of(run)
            self.require(document_of(run)["status"] == "finished", f"{run.name} is {document_of(run)['status']}")
        except (OSError, ValueError, KeyError) as error:
            self.wrong.append(f"{run.name}: {error!r}")
            return
        self.require(found.outcome[0] == expected.outcome[0], f"{run.name} has other weights")
        self.require(found.outcome[1] == expected.outcome[1], f"{run.name} has other rows")
        differ = (found.names ^ expected.names) - {"output.log"}
        self.require(not differ, f"{run.name} has, or lacks, {sorted(differ)}")

    def require_sweep(self, degrees: Sequence[int]) -> None:
        """The sweep must have one run of each degree, as the undisturbed ones."""
        found = sorted(path.parent.name for path in self.sweep.glob("*/config.toml"))
        self.require(found == [f"degree{degree}" for degree in degrees], f"the sweep has {found}")
        for name in found:
            if name in self._expected:
                self.require_equal(name, self.sweep / name)

    def require_one_at_a_time(self) -> None:
        """No two processes may have held a folder at the same time, or have changed a run by turns."""
        held: dict[str, int] = {}
        for line in lines(self._place / "log"):
            if line.what == TAKES:
                self.require(held.setdefault(line.path, line.pid) == line.pid, f"two held {line.path}")
            elif line.what == GIVES_UP:
                held.pop(line.path, None)
        changed: dict[str, list[int]] = {}
        for folder, line in self.changes():
            changed.setdefault(folder, []).append(line.pid)
        for folder, pids in changed.items():
            turns = [pid for pid, _ in groupby(pids)]
            self.require(len(turns) == len(set(turns)), f"{folder} was changed by turns: {turns}")


def is_lasting(line: Line) -> bool:
    """Whether a change lasts: rows do not, since the next holder replaces their file, nor do temporary files."""
    is_own = line.what == "unlink" and line.path.endswith(".tmp")
    return line.what not in ("write", "mkdir") and not is_own
