"""What ``kill_storm.py`` does with sweeps."""

import contextlib
import csv
import fcntl
import json
import os
import pty
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CLOCKED = {"seconds", "tokens_per_second"}
WAYS = ("kill", "ctrl-c", "twice", "term", "all", "hup")
IN_TERMINAL = ("ctrl-c", "twice", "hup")
MARK = "MLPX_STORM"
ENDLESS = ["--epochs", "100000000"]
ENDLESS_EVERY = 5
LEFT_SECONDS = 10.0
"""So many seconds after a disturbance no process of the sweep may be left."""

Outcome = tuple[bytes, list[dict[str, str]]]


def outcome(run: Path) -> Outcome:
    """The bytes of the weights' file, and the rows without the columns that a clock measures."""
    with open(run / "metrics.csv") as file:
        rows = [{k: v for k, v in row.items() if k not in CLOCKED} for row in csv.DictReader(file)]
    return (run / "weights.safetensors").read_bytes(), rows


def document_of(run: Path) -> dict[str, Any]:
    """``run.json``; empty where there is none."""
    with contextlib.suppress(FileNotFoundError):
        document: dict[str, Any] = json.loads((run / "run.json").read_text())
        return document
    return {}


def runs_of(sweep: Path | None) -> dict[str, Path]:
    """The folders of the runs by their names."""
    return {} if sweep is None else {path.parent.name: path.parent for path in sweep.glob("*/config.toml")}


def finished(sweep: Path | None) -> dict[str, tuple[bytes, bytes]]:
    """What of the finished runs must not change: ``run.json`` and ``output.log``."""
    found = {}
    for name, run in runs_of(sweep).items():
        if document_of(run).get("status") == "finished":
            found[name] = (run / "run.json").read_bytes(), (run / "output.log").read_bytes()
    return found


class Sweep:
    """A sweep under way, whose processes are known by a mark in their environment."""

    def __init__(self, command: list[str], place: Path, way: str) -> None:
        self.mark = f"{os.getpid()}-{place.name}"
        self._place = place
        place.mkdir()
        env = {**os.environ, MARK: self.mark}
        self._controller: int | None = None
        if way in IN_TERMINAL:
            self._controller, terminal = pty.openpty()
            # The loop goes on unless its command dies by SIGINT.
            loop = f"for round in 1 2; do {shlex.join(command)}; echo $? >> codes; done"
            self.process = subprocess.Popen(
                ["bash", "-c", loop],
                cwd=place,
                env={**env, "TERM": "xterm"},
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )
            os.close(terminal)
            os.set_blocking(self._controller, False)
        else:
            with open(place / "stderr", "w") as err:
                self.process = subprocess.Popen(command, cwd=place, env=env, stdout=subprocess.DEVNULL, stderr=err)

    @property
    def path(self) -> Path | None:
        """The folder of the sweep, once it is there."""
        return next(iter(self._place.glob("runs/[0-9]*")), None)

    @property
    def codes(self) -> list[str]:
        """The exit codes that the shell loop saw."""
        file = self._place / "codes"
        return file.read_text().split() if file.exists() else []

    def processes(self) -> list[int]:
        """All processes of the sweep that live."""
        # A process that has only just begun has no environment yet.
        found = {self.process.pid} if self.process.poll() is None else set()
        self._read_terminal()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes():
                    found.add(int(entry.name))
        return sorted(found)

    def runs(self) -> list[int]:
        """The processes of runs."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/1").endswith("/output.log"):
                    found.append(pid)
        return found

    def driver(self) -> list[int]:
        """The process of the sweep itself; empty where it has ended."""
        pid = self.process.pid
        if self._controller is None:
            return [pid] if self.process.poll() is None else []
        with contextlib.suppress(OSError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def sleep(self, seconds: float) -> None:
        """Sleep so long, or until all processes have ended."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self.processes():
            time.sleep(min(left, 0.03))

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C in the terminal."""
        if self._controller is not None:
            with contextlib.suppress(OSError):
                os.write(self._controller, b"\x03")

    def hang_up(self) -> None:
        """Close the terminal."""
        if self._controller is not None:
            os.close(self._controller)
            self._controller = None

    def _read_terminal(self) -> None:
        """Read what stands on the terminal, so that writing to it never blocks."""
        if self._controller is not None:
            with contextlib.suppress(OSError):
                while os.read(self._controller, 65536):
                    pass

    def end(self) -> None:
        """Kill what is left."""
        while found := self.processes():
            send(found, signal.SIGKILL)
            time.sleep(0.01)
        self.hang_up()


def send(processes: list[int], number: int) -> None:
    """Send a signal to those of the processes that still live."""
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def started(command: list[str], place: Path, way: str) -> Iterator[Sweep]:
    """Start a sweep, and leave no process of it."""
    sweep = Sweep(command, place, way)
    try:
        yield sweep
    finally:
        sweep.end()


def disturb(sweep: Sweep, way: str, choice: random.Random) -> str:
    """Disturb the sweep; returns how."""
    driver, runs = sweep.driver(), sweep.runs()
    if way in ("ctrl-c", "twice"):
        sweep.press_ctrl_c()
        if way == "twice":
            sweep.sleep(1.0)
            sweep.press_ctrl_c()
    elif way == "hup":
        sweep.hang_up()
    elif way == "term":
        send(driver, signal.SIGTERM)
    elif way == "all":
        number = choice.choice((signal.SIGINT, signal.SIGTERM))
        send([*driver, *runs], number)
        return number.name
    else:
        victim = choice.choice(("driver", "run", "all"))
        if victim == "run" and runs:
            send([choice.choice(runs)], signal.SIGKILL)
            return "run killed"
        if victim == "all":
            while everything := sweep.processes():
                send(everything, signal.SIGKILL)
            return "all killed"
        send(driver, signal.SIGKILL)
        return "driver killed"
    return way


def faults_after(sweep: Sweep, how: str) -> list[str]:
    """What is wrong ten seconds after the disturbance ``how``, at the latest."""
    faults = []
    if how == "run killed":
        # The sweep itself tries it once more.
        code = sweep.process.wait()
        return [f"the sweep ended with {code}"] if code else []
    sweep.sleep(LEFT_SECONDS)
    if left := sweep.processes():
        faults.append(f"{len(left)} processes are left")
    states = Counter(str(document_of(run).get("status", "waiting")) for run in runs_of(sweep.path).values())
    if not how.endswith("killed") and how != "twice" and states["running"]:
        faults.append(f"{states['running']} runs have not saved")
    if how in ("ctrl-c", "twice") and sweep.codes not in ([], ["0"]):
        faults.append(f"the shell loop went on: {sweep.codes}")
    expected = {"term": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "ctrl-c": signal.SIGINT}
    ended = sweep.process.poll()
    if how in expected and ended not in (-expected[how], 0):
        faults.append(f"ended with {ended}")
    return faults


class Storm:
    """Sweeps that are disturbed, and compared with one that was not."""

    def __init__(self, mlpx: list[str], arguments: list[str], folder: Path, way: str, choice: random.Random) -> None:
        self._mlpx = mlpx
        self._command = [*mlpx, *arguments, "--checkpoint-every", "0.2", "--jobs", "2"]
        self._folder, self._way, self._choice = folder, way, choice
        began = time.monotonic()
        with started(self._command, folder / "undisturbed", "kill") as sweep:
            if code := sweep.process.wait():
                sys.exit(f"the undisturbed sweep ended with {code}")
            self._expected = {name: outcome(run) for name, run in runs_of(sweep.path).items()}
        self._duration = time.monotonic() - began
        print(f"undisturbed: {self._duration:.2f} s, {len(self._expected)} runs", flush=True)
        self.alive = self.resumed = 0

    def _sleep(self, sweep: Sweep, number: int) -> float:
        """Sleep for a random time, from the start on or after some runs have finished; returns the seconds."""
        began = time.monotonic()
        while number and len(finished(sweep.path)) < number and sweep.processes():
            time.sleep(0.01)
        # While other programs keep the machine busy, all takes longer than the undisturbed sweep did.
        sweep.sleep(self._choice.uniform(0, self._duration / len(self._expected) if number else self._duration))
        return time.monotonic() - began

    def disturb_one(self, number: int) -> list[str]:
        """Disturb a sweep, complete it, and return what is wrong."""
        with started(self._command, self._folder / str(number), self._way) as sweep:
            moment = self._sleep(sweep, self._choice.choice((0, *range(len(self._expected)))))
            self.alive += bool(sweep.processes())
            how = disturb(sweep, self._way, self._choice)
            faults = faults_after(sweep, how)
            path = sweep.path
        before = finished(path)
        if path is not None and self._choice.random() < 0.5:
            command = [*self._mlpx, "resume", "latest"]
        else:
            command = [*self._command, *(("--into", str(path)) if path else ())]
        place = self._folder / str(number)
        done = subprocess.run(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            faults.append(f"resuming ended with {done.returncode}: {done.stderr}")
        faults += self._compare(next(iter(place.glob("runs/[0-9]*"))), before)
        print(f"{number:3}: {how} after {moment:.2f} s, {len(before)} had finished: {faults or 'equal'}", flush=True)
        return faults

    def _compare(self, sweep: Path, before: dict[str, tuple[bytes, bytes]]) -> list[str]:
        runs, after = runs_of(sweep), finished(sweep)
        if sorted(runs) != sorted(self._expected):
            return [f"the runs are {sorted(runs)}"]
        faults = [f"{name} was carried out twice" for name, what in before.items() if after.get(name) != what]
        for name, run in runs.items():
            document = document_of(run)
            if document.get("status") != "finished":
                faults.append(f"{name} has status {document.get('status')}")
            elif outcome(run) != self._expected[name]:
                faults.append(f"{name} differs")
            elif len(document["resumed_from_epoch"]) > 1:
                faults.append(f"{name} was resumed {document['resumed_from_epoch']}")
            else:
                self.resumed += any(document["resumed_from_epoch"])
        return faults

    def disturb_endless(self, number: int) -> list[str]:
        """Disturb a sweep whose runs have no end of their own, and return what is wrong ten seconds later."""
        with started([*self._command, *ENDLESS], self._folder / f"endless-{number}", self._way) as sweep:
            moment = self._sleep(sweep, 0)
            alive = len(sweep.runs())
            how = disturb(sweep, self._way, self._choice)
            if how == "run killed":
                send(sweep.driver(), signal.SIGKILL)
                how = "driver killed"
            began = time.monotonic()
            faults = faults_after(sweep, how)
        seconds = time.monotonic() - began
        about = f"endless, {how} after {moment:.2f} s with {alive} runs alive"
        print(f"{number:3}: {about}: {faults or f'none left after {seconds:.2f} s'}", flush=True)
        return faults


def storm(mlpx: list[str], arguments: list[str], number: int, choice: random.Random, way: str) -> bool:
    """Disturb sweeps, and print how many are equal; returns whether all is well."""
    # A sweep ignores what it ignores from its start on, as in the background of a shell script.
    for signum in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
    with tempfile.TemporaryDirectory() as folder:
        sweeps = Storm(mlpx, arguments, Path(folder), way, choice)
        faulty, left = [], []
        for each in range(number):
            faulty.append(bool(sweeps.disturb_one(each)))
            if each % ENDLESS_EVERY == 0:
                left.append(bool(sweeps.disturb_endless(each)))
    print(
        f"{faulty.count(False)} of {number} equal, {sweeps.alive} of them disturbed before their end, "
        f"{sweeps.resumed} runs from a checkpoint; {left.count(False)} of {len(left)} endless sweeps left no process"
    )
    return not any((*faulty, *left))
