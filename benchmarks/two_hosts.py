"""Disturb runs and sweeps on which processes of two hosts work at once, and compare them with undisturbed ones.

    python benchmarks/two_hosts.py [--trials 50] [--every 1] [--sweeps 10] [--seed 0] [--workers 6] [PART ...]

The hosts are pretended: their processes share a disk, but have other names, and ``flock`` does nothing for them, or
fails with ENOLCK, by turns, as ``tests/hosts.py`` has it. A lease lasts 2 seconds. A run is equal if it has the same
bytes in ``weights.safetensors``, the same rows in ``metrics.csv`` apart from the columns that a clock measures, and the
same files. The parts, by default all of them:

- at-once: two processes on each host start, resume or extend the same run at once, or one on each the same sweep. No
  two may hold a folder at the same time, nor change a run by turns: each notes when it takes a folder, and each change
  that it makes. Their calls about claims are slow, as those of a busy file server.
- killed: a holder gets SIGKILL. The other host takes the run over after the lease and not before; the same host, where
  the lock works, takes it over at once.
- every-call: a holder stops by SIGSTOP before each of its calls in turn that look into the runs folder or change it
  (with ``--every 5``, before each fifth). The other host takes the run over after the lease. The first is continued
  once the second has finished, or while that stands before a random call of its own, or after that was killed there and
  a third has taken over. The first must rename or remove one file at most, and end with 75 if it loses the run. Rows
  that it adds until it notices go to a file that the other one has replaced, or will replace.
- stopped: the same, but the first is stopped at a random moment from outside.
- sweeps: all processes of a sweep are stopped, or killed, while it goes on. The other host completes it, and then, or
  meanwhile, the first is continued.

Exits 1 if anything differs.
"""

import argparse
import functools
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from two_hosts_processes import LEASE, Failed, Process, in_workers, prepare, until_free
from two_hosts_trials import COUNTED, Files, Trial, files_of, is_lasting

FLOCKS = ("nothing", "ENOLCK")
EVERY = ["--eval-every", "100", "--checkpoint-every", "0.05"]
LONG = ["poly", "--degree", "5", "--epochs", "3000", *EVERY]
HALF = ["poly", "--degree", "5", "--epochs", "1500", *EVERY]
SHORT = ["poly", "--degree", "5", "--epochs", "6", "--eval-every", "2", "--checkpoint-every", "0"]
LONGER = ["--epochs", "10"]
UNDISTURBED = {"long": LONG, "short": SHORT, "longer": [*SHORT, *LONGER]}
DEGREES = [f"degree{degree}" for degree in range(3, 9)]
UNDISTURBED.update({name: [*LONG, "--degree", name[-1]] for name in DEGREES})
PARTS = {
    "at-once": ["long", *DEGREES],
    "killed": ["long"],
    "every-call": ["short", "longer"],
    "stopped": ["long"],
    "sweeps": DEGREES,
}
"""The undisturbed runs that each part needs."""
SWEEP = ["sweep", "poly", "--epochs", "3000", *EVERY, "--jobs", "2"]
BEGINS = ("start", "resume")
KINDS = ("start", "resume", "extend", "sweep", "extend-sweep")
WAKES = ("after", "meanwhile", "third")
HALFWAY = 100
"""A run of ``SHORT`` makes this call while it trains."""
DELAY = 0.02
"""A call about a claim takes up to so many seconds longer, so that processes meet between any two of them."""
OVERTAKEN = 75
LEFT_SECONDS = 10.0
"""So long after the end of a sweep none of its processes may be left."""
LATE_SECONDS = 3.0
"""On a machine that is busy with trials, so much later than needed is still no waiting."""


class Found(NamedTuple):
    """What a trial found: what is wrong, what is to be printed of it, and whether there was no such trial."""

    wrong: list[str]
    words: str = ""
    is_none: bool = False


def at_once(trial: Trial, kind: str) -> str:
    """Several processes on two hosts do the same at once."""
    commands = [[*LONG, "--into", str(trial.run)]] * 4
    if kind == "resume":
        first = trial.train("a", *LONG)
        trial.wait_for_checkpoint(first)
        first.send(signal.SIGTERM)
        first.end()
        commands = [["resume", str(trial.run)]] * 4
    elif kind == "extend":
        trial.train("a", *HALF).end()
        commands = [["resume", str(trial.run), "--epochs", "3000"]] * 4
    elif "sweep" in kind:
        degrees = ["3..5", "5..6"] if kind == "extend-sweep" else ["3..6", "3..6"]
        commands = [[*SWEEP, "--degree", each, "--into", str(trial.sweep)] for each in degrees]
    trial.delay = DELAY
    together = [trial.start("ab"[number % 2], *words) for number, words in enumerate(commands)]
    codes = [process.end() for process in together]
    trial.require(set(codes) <= {0, OVERTAKEN} and (0 in codes or "sweep" in kind), f"exit codes {codes}")
    trial.require_one_at_a_time()
    if "sweep" in kind:
        code = until_free(lambda: trial.start("a", "resume", str(trial.sweep)))
        trial.require(code == 0, f"resuming the sweep ended with {code}")
        trial.require_sweep(range(3, 7))
    else:
        trial.require_equal("long", trial.run)
    return f"{kind}: exit codes {codes}"


def killed(trial: Trial, same_host: bool) -> str:
    """A holder is killed, and its run is taken over."""
    first = trial.start("a", *LONG, "--into", str(trial.run), works=same_host)
    trial.wait_for_checkpoint(first)
    time.sleep(trial.moments.uniform(0, 0.05))
    first.send(signal.SIGKILL)
    first.end()
    moment, seen = time.monotonic(), os.stat(trial.run / "claims" / "1").st_mtime - time.time() + time.monotonic()
    host = "a" if same_host else "b"
    processes: list[Process] = []

    def resume() -> Process:
        processes.append(trial.resume(host, works=same_host))
        return processes[-1]

    code = until_free(resume)
    taken = trial.taken(processes[-1])
    trial.require(code == 0, f"exit code {code}")
    if same_host:
        trial.require(taken - moment < LATE_SECONDS / 2, "the same host waited")
    else:
        trial.require(LEASE - 0.01 <= taken - seen <= LEASE + LATE_SECONDS, f"taken {taken - seen:.2f} s after a sign")
    trial.require_equal("long", trial.run)
    return f"taken on host {host} {taken - moment:.2f} s after the kill, {taken - seen:.2f} s after the last sign"


def start(trial: Trial, begins: str, stop: int) -> Process:
    """Start a run on host a, or resume it after it was interrupted in the middle of its training."""
    if begins == "start":
        return trial.train("a", *SHORT, stop=stop)
    half = trial.train("a", *SHORT, stop=HALFWAY)
    half.wait()
    half.send(signal.SIGTERM)
    half.send(signal.SIGCONT)
    half.end()
    return trial.resume("a", stop=stop)


def every_call(trial: Trial, begins: str, wake: str, number: int) -> Found:
    """A holder stops before its call of that number."""
    first = start(trial, begins, number)
    if first.wait():
        return Found([], is_none=True)
    words = take_over(trial, first, SHORT, "short", wake)
    if number % 5 == 0:
        code = trial.start("b", "resume", str(trial.run), *LONGER).end()
        trial.require(code == 0, f"extending ended with {code}")
        trial.require_equal("longer", trial.run)
    return Found(trial.wrong, f"{begins}, stopped before call {number}, continued {wake}: {words}")


def stopped(trial: Trial, wake: str) -> str:
    """A holder is stopped at a random moment."""
    first = trial.train("a", *LONG)
    time.sleep(trial.moments.uniform(0.05, 0.6))
    first.send(signal.SIGSTOP)
    if first.wait():
        return "had ended"
    return take_over(trial, first, LONG, "long", wake)


def take_over(trial: Trial, first: Process, words: list[str], key: str, wake: str) -> str:
    """The first holder stands; let another host take its run over, and continue the first."""
    time.sleep(LEASE)
    stop = 0 if wake == "after" else trial.moments.randint(1, 120)
    second = trial.train("b", *words, stop=stop)
    has_ended = second.wait()
    if wake == "third" and not has_ended:
        second.send(signal.SIGKILL)
        second.end()
        third_stop = trial.moments.choice([0, trial.moments.randint(1, 120)])
        time.sleep(LEASE)
        second = trial.train("c", *words, stop=third_stop)
        has_ended = second.wait()
    first.send(signal.SIGCONT)
    code = first.end()
    if not has_ended:
        second.send(signal.SIGCONT)
    other = second.end()
    holders, changes = trial.holders(), [line for _, line in trial.changes()]
    both = {first.pid, second.pid} <= set(holders)
    was_overtaken = both and holders.index(first.pid) < holders.index(second.pid)
    since = trial.taken(second) if was_overtaken else math.inf
    late = [line for line in changes if line.pid == first.pid and line.time > since and is_lasting(line)]
    trial.require(len(late) <= 1, f"the first made changes: {[(line.what, line.path) for line in late]}")
    # Who has changed nothing and sees that the run has finished loses nothing.
    lost = was_overtaken and {first.pid, second.pid} <= {line.pid for line in changes}
    trial.require(code == OVERTAKEN or (code == 0 and not lost), f"the first ended with {code}")
    trial.require(
        other == 0 or (other == OVERTAKEN and code == 0 and not was_overtaken), f"the other ended with {other}"
    )
    trial.require_equal(key, trial.run)
    return f"exit codes {code} and {other}, {len(late)} late changes"


def sweeps(trial: Trial, way: str) -> str:
    """All processes of a sweep are stopped or killed; another host completes it."""
    degrees = range(3, 9)
    first = trial.start("a", *SWEEP, "--degree", "3..8", "--into", str(trial.sweep))
    enough = trial.moments.randint(0, 4)
    while (trial.finished() < enough or not list(trial.sweep.glob("*/metrics.csv"))) and not first.has_ended():
        time.sleep(0.01)
    time.sleep(trial.moments.uniform(0, 0.5))
    moment = time.monotonic()
    first.send_all(signal.SIGKILL if way == "killed" else signal.SIGSTOP)
    done = trial.finished()
    if way == "meanwhile":
        second = trial.start("b", "resume", str(trial.sweep))
        time.sleep(max(0.0, moment + LEASE - time.monotonic()) + trial.moments.uniform(0, 1.0))
        first.send_all(signal.SIGCONT)
        second.end()
    code = until_free(lambda: trial.start("b", "resume", str(trial.sweep)))
    seconds = time.monotonic() - moment
    first.send_all(signal.SIGCONT)
    ended = first.end()
    trial.require(code == 0, f"the other ended with {code}")
    trial.require(ended in ({-signal.SIGKILL} if way == "killed" else {0, OVERTAKEN}), f"the first ended with {ended}")
    trial.require_sweep(degrees)
    until = time.monotonic() + LEFT_SECONDS
    while first.all() and time.monotonic() < until:
        time.sleep(0.05)
    trial.require(not first.all(), "processes are left")
    return f"{way}, {done} of 6 had finished: exit codes {ended} and {code}, complete after {seconds:.1f} s"


Case = Callable[[Trial], str | Found]


def undisturbed(parts: Sequence[str], workers: int) -> tuple[dict[str, Files], dict[str, int]]:
    """The runs to compare with, by their keys, and how many calls a holder makes that starts or resumes one."""

    def train(words: list[str], place: Path) -> Files:
        trial = Trial(place, "", {}, 0)
        trial.train("a", *words).end()
        return files_of(trial.run)

    def calls(begins: str, place: Path) -> int:
        trial = Trial(place, "nothing", {}, 0)
        process = start(trial, begins, COUNTED)
        process.end()
        return trial.calls(process)

    keys = list(dict.fromkeys(key for part in parts for key in PARTS[part]))
    trained = in_workers([functools.partial(train, UNDISTURBED[key]) for key in keys], workers)
    counted = in_workers([functools.partial(calls, begins) for begins in BEGINS], workers)
    return dict(zip(keys, trained, strict=True)), dict(zip(BEGINS, counted, strict=True))


def cases_of(part: str, options: argparse.Namespace, calls: Mapping[str, int]) -> list[Case]:
    """The trials of a part."""
    trials = range(options.trials)
    if part == "at-once":
        return [functools.partial(at_once, kind=KINDS[number // 2 % len(KINDS)]) for number in range(2 * len(trials))]
    if part == "killed":
        return [functools.partial(killed, same_host=number % 4 == 3) for number in trials]
    if part == "stopped":
        return [functools.partial(stopped, wake=WAKES[number // 2 % len(WAKES)]) for number in range(2 * len(trials))]
    if part == "sweeps":
        ways = ("after", "killed", "meanwhile")
        return [functools.partial(sweeps, way=ways[number % len(ways)]) for number in range(options.sweeps)]
    return [
        functools.partial(every_call, begins=begins, wake=wake, number=number)
        for begins in BEGINS
        for number in range(1, calls[begins] + 1, options.every)
        for wake in WAKES
    ]


def main() -> None:
    """Run the parts, and print how many of their trials are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50, help="for each of what flock does")
    parser.add_argument("--every", type=int, default=1, help="stop before each so many-th call")
    parser.add_argument("--sweeps", type=int, default=12, help="sweeps that are stopped or killed")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--workers", type=int, default=6, help="trials at a time; most of their time they wait")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args()
    prepare()
    parts = options.parts or list(PARTS)
    expected, calls = undisturbed(parts, options.workers)
    all_good = True
    for part in parts:
        began, good, total = time.monotonic(), 0, 0
        cases = cases_of(part, options, calls)

        def tried(number: int, case: Case, place: Path, part: str = part) -> Found:
            trial = Trial(place, FLOCKS[number % 2], expected, (options.seed, part, number))
            try:
                found = case(trial)
            except Failed as error:
                trial.wrong.append(str(error))
                found = ""
            return found if isinstance(found, Found) else Found(trial.wrong, found)

        trials = [functools.partial(tried, number, case) for number, case in enumerate(cases)]
        for number, found in enumerate(in_workers(trials, options.workers)):
            if found.is_none:
                continue
            total, good = total + 1, good + (not found.wrong)
            verdict = "; ".join(found.wrong) or "right"
            print(f"{part} {number}: flock {FLOCKS[number % 2]}: {found.words}: {verdict}", flush=True)
        print(f"{part}: {good} of {total} right, in {time.monotonic() - began:.0f} s", flush=True)
        all_good &= good == total > 0
    sys.exit(not all_good)


if __name__ == "__main__":
    main()
