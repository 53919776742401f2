"""Let each system call that touches the runs folder fail, or kill the program there; resume, and compare bit for bit.

    python benchmarks/fault_sweep.py [--subject run] [--by kill] [--calls rename,fsync] [--every 10] [--list]

Needs strace. The subjects are: a new run; going on with a run that was killed; a new sweep; and adding runs to a sweep
by ``--into``. Of a sweep it is its own process that is disturbed, and not its runs. An undisturbed one tells which
calls there are. Then, for each call, a case:

- error: this one call fails with ENOSPC, EIO or the like. The program must end with exit code 0, 5 or 6, or 75 where
  the call is about who holds a folder; print one line ``error: ...`` where that is not 0, and none where it is; and
  leave no temporary files.
- kill: SIGKILL just before the call.

Then either no folder is there, or ``mlpx resume``, and of ``--into`` the same command, must at once complete it: exit
code 0, each run finished, with the same ``weights.safetensors`` and the same rows in ``metrics.csv`` as the undisturbed
one, apart from the columns that a clock measures. After an error, a folder must hold more than settings.

A case counts only if strace tells that it was this call that was disturbed. Exits 1 if any case is not as promised.
"""

import argparse
import contextlib
import itertools
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fault_sweep_calls import RUNS, Call, Result, aim, calls, is_hit, preload, run
from kill_storm_sweeps import LEFT_SECONDS, MARK, Outcome, document_of, outcome, runs_of, send

RUN = ["poly", "--degree", "3", "--epochs", "6", "--eval-every", "2", "--checkpoint-every", "0", "--quiet"]
SWEEP = ["sweep", "poly", "--epochs", "4", "--checkpoint-every", "0", "--jobs", "1", "--quiet"]
INTO = [*SWEEP, "--into", f"{RUNS}/all", "--degree"]
TRIES = 3
"""So often a case is tried in which the calls before the one that is meant were others than before."""
CLAIMS = "claims"
HOLDING = re.compile(rf"/(lock|{CLAIMS})(/|$)")
TEMPORARY = ".*.tmp"


class Subject(NamedTuple):
    """What is disturbed.

    Args:
        command: The command line.
        before: The one that makes what it goes on with.
        killed_at: Options of strace that end the one before.
        again: The command line that completes it; ``None`` to resume the folder.
        alone: Whether no process that it starts touches the runs folder; then its other threads are looked at too.
    """

    command: list[str]
    before: list[str] | None = None
    killed_at: tuple[str, ...] = ()
    again: list[str] | None = None
    alone: bool = False


SUBJECTS = {
    "run": Subject(RUN, alone=True),
    "resume": Subject(
        ["resume", "latest", "--checkpoint-every", "0", "--quiet"],
        RUN,
        ("-e", "trace=unlink", "-e", "inject=unlink:signal=SIGKILL:when=3"),
        alone=True,
    ),
    "sweep": Subject([*SWEEP, "--degree", "2,3"]),
    "into": Subject([*INTO, "2,3"], [*INTO, "2"], again=[*INTO, "2,3"]),
}


class Case(NamedTuple):
    """A call that is disturbed."""

    call: Call
    kill: bool

    def __str__(self) -> str:
        return f"{'kill' if self.kill else self.call.error:6} {self.call}"


class Verdict(NamedTuple):
    """How a case ended, and what of it is not as promised."""

    how: str
    faults: list[str]


def folders_in(place: Path) -> list[Path]:
    """The folders that anyone sees."""
    return [path for path in (place / RUNS).glob("[!.]*") if not path.is_symlink()]


def outcomes(place: Path) -> dict[str, Outcome]:
    """What came of each run that has finished and is whole; one that is no part of a sweep has an empty name."""
    found = {}
    for path in folders_in(place):
        for name, run_folder in (runs_of(path) or {"": path}).items():
            with contextlib.suppress(OSError, ValueError):
                if document_of(run_folder).get("status") == "finished":
                    found[name] = outcome(run_folder)
    return found


def processes(mark: str) -> list[int]:
    """The processes that were started with this mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


class Cases:
    """The cases of a subject."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        """Carry it out undisturbed, twice, to learn which calls there are.

        Args:
            subject: The subject.
            folder: A folder that is empty.
        """
        self._subject = subject
        self._folder = folder
        self._before = folder / "before"
        self._before.mkdir()
        if subject.before:
            run(subject.before, self._before, subject.killed_at)
        preload(subject.command, self._place("preload"))
        found = [self._undisturbed(name) for name in ("first", "second")]
        self.calls = [call for call in found[0] if call in set(found[1])]
        self.changing = len(found[0]) - len(self.calls)
        self.expected = outcomes(folder / "first")

    def _undisturbed(self, name: str) -> list[Call]:
        place = self._place(name)
        result = run(self._subject.command, place, ["-e", "trace=%file,%desc"], threads=self._subject.alone)
        if result != (0, ""):
            sys.exit(f"the undisturbed one ended with {result}")
        return calls(place)

    def _place(self, name: str) -> Path:
        place = self._folder / name
        shutil.copytree(self._before, place, symlinks=True)
        return place

    def carry_out(self, case: Case) -> Verdict:
        """Disturb the call, complete what is left, and compare."""
        for attempt in range(TRIES):
            name = f"{os.getpid()}-{attempt}"
            # Whatever is started in the meantime inherits it.
            os.environ[MARK] = name
            place = self._place(name)
            strace = aim(case.call, kill=case.kill)
            result = run(self._subject.command, place, strace, threads=case.call.thread > 0)
            is_meant = is_hit(case.call, place, kill=case.kill)
            verdict = self._judge(case, place, result, name) if is_meant else None
            send(processes(name), signal.SIGKILL)
            # There is no ``finally`` in this file, since the forked program leaves through here too.
            shutil.rmtree(place)
            if verdict is not None:
                return verdict
        return Verdict("not disturbed", [f"{TRIES} times another call was made in its place"])

    def _judge(self, case: Case, place: Path, result: Result, mark: str) -> Verdict:
        faults = of_kill(mark) if case.kill else of_error(case.call, result, place)
        how = "killed" if case.kill else f"exit {result.code}"
        folders = folders_in(place)
        if not folders:
            return Verdict(f"{how}, nothing is left", faults + ["no folder"] * (result.code == 0))
        faults += of_folders(folders, is_error=not case.kill)
        if result.code == 0 and outcomes(place) != self.expected:
            faults.append("it ended well, but it is not complete, or not equal")
        again = run(self._subject.again or ["resume", str(folders[0]), "--quiet"], place)
        if again != (0, ""):
            # A warning is no fault.
            lines = [line for line in again.err.splitlines() if not line.startswith("warning: ")]
            faults += [f"completing it ended with {again.code}: {lines}"] if again.code or lines else []
        if (found := outcomes(place)) != self.expected:
            same = sum(found.get(name) == each for name, each in self.expected.items())
            faults.append(f"{same} of {len(self.expected)} runs are equal, and {len(found)} have finished")
        return Verdict(f"{how}, {'completed' if result.code else 'complete'}", faults)


def of_kill(mark: str) -> list[str]:
    """What is wrong after a kill: a run of a sweep must notice that it is alone."""
    until = time.monotonic() + LEFT_SECONDS
    while (left := processes(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    return [f"{len(left)} processes are left"] if left else []


def of_error(call: Call, result: Result, place: Path) -> list[str]:
    """What is wrong about how the program ended after a call had failed."""
    faults = []
    lines = [line for line in result.err.splitlines() if not line.startswith(("warning: ", "note: "))]
    if result.code not in (0, 5, 6, *((75,) if HOLDING.search(call.path) else ())):
        faults.append(f"exit code {result.code}")
    if [line.partition(": ")[0] for line in lines] != ["error"] * (result.code != 0):
        faults.append(f"stderr is {lines}")
    if left := [str(path.relative_to(place)) for path in (place / RUNS).rglob(TEMPORARY)]:
        faults.append(f"left {left}")
    return faults


def of_folders(folders: Sequence[Path], *, is_error: bool) -> list[str]:
    """What is wrong about folders that were left."""
    faults = []
    for path in folders:
        sweep = (path / "sweep.toml").exists()
        inside = path.glob("[!.]*/") if sweep else [path]
        runs = [each for each in inside if each.name != CLAIMS]
        faults += [f"{each.name} has no config.toml" for each in runs if not (each / "config.toml").exists()]
        if is_error and not sweep and not (path / "run.json").exists() and not (path / "metrics.csv").exists():
            faults.append("nothing was started, and yet a folder is left")
    return faults + ([f"{len(folders)} folders"] if len(folders) > 1 else [])


def in_parallel(cases: Sequence[Case], jobs: int, all_of: Cases) -> Iterator[tuple[Case, bool]]:
    """Carry out the cases, some at a time, each in a process forked from this one; yields whether each is as promised.

    Each prints a line.
    """
    live: dict[int, Case] = {}
    for case in itertools.chain(cases, itertools.repeat(None, jobs)):
        if len(live) == jobs or (live and case is None):
            pid, status = os.wait()
            yield live.pop(pid), status == 0
        if case is None:
            continue
        if pid := os.fork():
            live[pid] = case
            continue
        how, faults = all_of.carry_out(case)
        verdict = f"NOT AS PROMISED: {'; '.join(faults)}" if faults else "as promised"
        print(f"{case}: {how}, {verdict}", flush=True)
        os._exit(bool(faults))


def main() -> None:
    """Carry out the cases, and print how many are as promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=SUBJECTS, help="by default all of them")
    parser.add_argument("--by", choices=("error", "kill"), help="by default both")
    parser.add_argument("--calls", help="names of system calls, separated by commas; by default all")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="only each K-th case")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--list", action="store_true", help="only print the cases")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in [name for name in os.environ if name.startswith("MLPX_")]:
        del os.environ[name]
    names = options.calls.split(",") if options.calls else ()
    kinds = [False, True] if options.by is None else [options.by == "kill"]
    counts: Counter[tuple[bool, bool]] = Counter()
    number = 0
    began = time.monotonic()
    for name in [options.subject] if options.subject else SUBJECTS:
        folder = Path(tempfile.mkdtemp(prefix="fault-sweep-"))
        all_of = Cases(SUBJECTS[name], folder)
        number += len(all_of.calls)
        print(f"{name}: {len(all_of.calls)} calls, and {all_of.changing} that are not made each time", flush=True)
        cases = [Case(call, kill) for kill in kinds for call in all_of.calls if not names or call.name in names]
        cases = cases[:: options.every]
        if options.list:
            print(*cases, sep="\n")
        else:
            counts.update((case.kill, is_well) for case, is_well in in_parallel(cases, options.jobs, all_of))
        shutil.rmtree(folder)
    if not options.list:
        figures = [
            f"{what}: {counts[kill, True]} of {counts[kill, True] + counts[kill, False]}"
            for kill, what in ((False, "errors"), (True, "kills"))
        ]
        seconds = time.monotonic() - began
        print(f"{figures[0]} as promised, {figures[1]}; {number} calls, {counts.total()} cases, {seconds:.0f} s")
    sys.exit(any(not is_well for _, is_well in counts.elements()))


if __name__ == "__main__":
    main()
