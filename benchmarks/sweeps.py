"""Time many small trainings by `mlpx sweep`, by a shell loop, by Hydra's multirun and by Ray Tune.

    pip install 'hydra-core==1.3.8' hydra-joblib-launcher 'ray[tune]'
    python benchmarks/sweeps.py [--runs 100] [--peers-python PYTHON]

Each way trains `poly --degree 19 --epochs 1500` with the seeds 0, 1, 2, … and is timed from the start of its command to
the end. Where a peer's package is absent, the peer is skipped. The packages may be in another environment, which must
have mlpx too: ``--peers-python`` names its interpreter.

What is the same for all. Each run has mlpx's own training loop and its files: settings, rows, weights, `run.json` and
two pictures. The weights of all ways are compared, and must have the same bytes. Each training has one thread. Each way
runs once before it is timed, with as many runs as it trains at a time, so that its files are in the system's cache.

What differs. mlpx and the shell loop write all that a run of mlpx has, and a sweep adds its own files and its picture.
The peers' function writes only the files above, and simply: it syncs nothing to the disk, saves no checkpoint, and does
not ask git for the commit. On the other hand each peer keeps records of its own. The peers have their usual settings,
but Ray Tune is timed twice: with a new worker process for each run, as by default, and with workers that are used
again. Ray has a network of its own, in which there is only loopback.

The columns:

- at a time: trainings at a time, J.
- seconds: the whole, of R runs.
- a run: seconds / R.
- work: seconds of a run's training and of drawing both pictures, and of nothing else. It is measured in processes that
  have done both before. As many train at a time as by the way itself, since two busy cores slow each other. They run
  just before and just after the way; the median counts. It is the same yardstick for all ways. Thus what a new process
  needs to do a thing for the first time, and what other processes take from a training, is not work.
- beyond: seconds x J / R - work, the seconds that a run costs beyond training and pictures.
- own work: the median work that a peer's own runs measured. It includes what "work" leaves out.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sweeps_peers import DEGREE, EPOCHS

PEERS = str(Path(__file__).resolve().with_name("sweeps_peers.py"))
MLPX = [sys.executable, "-m", "mlpx"]
TRAINING = ["poly", "--degree", str(DEGREE), "--epochs", str(EPOCHS), "--quiet"]
LOOP = 'runs=$1; shift; seed=0; while [ $seed -lt $runs ]; do "$@" --seed $seed || exit; seed=$((seed + 1)); done'
# A network in which there is only loopback: Ray's servers are reached from nowhere else.
ALONE = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
YARDSTICK_RUNS = 10


class Failed(Exception):
    """A way did not do its work; the message says why."""


class Way(NamedTuple):
    """A way to carry out the runs.

    Args:
        name: What the table calls it.
        jobs: Trainings at a time.
        command: The command for a number of runs and the folder in which they shall lie.
        needs: The package that a peer needs.
    """

    name: str
    jobs: int
    command: Callable[[int, Path], list[str]]
    needs: str = ""


def ways(python: str) -> list[Way]:
    """All ways; the peers are run by the interpreter ``python``."""

    def sweep(jobs: int) -> Callable[[int, Path], list[str]]:
        def command(runs: int, folder: Path) -> list[str]:
            seeds = f"0..{runs - 1}" if runs > 1 else "0"
            return [*MLPX, "sweep", *TRAINING, "--seed", seeds, "--jobs", str(jobs), "--runs-dir", str(folder)]

        return command

    def loop(runs: int, folder: Path) -> list[str]:
        return ["sh", "-c", LOOP, "sh", str(runs), *MLPX, *TRAINING, "--runs-dir", str(folder)]

    def hydra(*overrides: str) -> Callable[[int, Path], list[str]]:
        def command(runs: int, folder: Path) -> list[str]:
            seeds = f"+seed=range(0,{runs})"
            return [python, PEERS, "hydra", "--multirun", seeds, f"hydra.sweep.dir={folder}", *overrides]

        return command

    def ray(workers: str) -> Callable[[int, Path], list[str]]:
        return lambda runs, folder: [*ALONE, python, PEERS, "ray", str(runs), "2", workers, str(folder)]

    joblib = hydra("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    return [
        Way("mlpx sweep", 1, sweep(1)),
        Way("shell loop of mlpx poly", 1, loop),
        Way("Hydra, basic launcher", 1, hydra(), "hydra"),
        Way("mlpx sweep", 2, sweep(2)),
        Way("Hydra, joblib launcher", 2, joblib, "hydra_plugins.hydra_joblib_launcher"),
        Way("Ray Tune", 2, ray("new"), "ray.tune"),
        Way("Ray Tune, workers used again", 2, ray("reuse"), "ray.tune"),
    ]


def environment() -> dict[str, str]:
    """The variables for all ways: one thread a training, bytecode is kept, and Ray neither reports nor leaves a key."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    peers = {"HYDRA_FULL_ERROR": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    return {**kept, "OMP_NUM_THREADS": "1", **peers}


def missing(way: Way, python: str) -> str:
    """What the way needs and lacks, or nothing."""
    if not way.needs:
        return ""
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({way.needs!r}) is None)"
    if subprocess.run([python, "-c", look], capture_output=True).returncode:
        return f"the package {way.needs}"
    programs = ("unshare", "ip") if way.needs.startswith("ray") else ()
    return ", ".join(f"the program {name}" for name in programs if not shutil.which(name))


def carry_out(way: Way, runs: int) -> tuple[float, list[str], float | None]:
    """Time a way.

    Returns:
        The seconds; the digests of the runs' weights, sorted; and the median of the work that the runs measured.

    Raises:
        Failed: The command failed, or runs or pictures are missing.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        command = way.command(runs, Path(place))
        began = time.perf_counter()
        done = subprocess.run(command, cwd=place, env=environment(), capture_output=True, text=True, errors="replace")
        seconds = time.perf_counter() - began
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [""]
            raise Failed(f"exit code {done.returncode}: {lines[-1]}")
        folders = [path.parent for path in Path(place).rglob("weights.safetensors")]
        whole = [folder for folder in folders if (folder / "fit.png").exists() and (folder / "loss.png").exists()]
        if len(whole) != runs:
            raise Failed(f"{len(whole)} runs in place of {runs} have weights and both pictures")
        digests = sorted(hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest() for folder in whole)
        documents = [json.loads((folder / "run.json").read_text()) for folder in whole]
        work = [document["work_seconds"] for document in documents if "work_seconds" in document]
        return seconds, digests, statistics.median(work) if work else None


def yardstick(jobs: int, runs: int) -> list[float]:
    """The median work of ``runs`` trainings in each of ``jobs`` processes that train at the same time."""
    with tempfile.TemporaryDirectory() as place:
        folders = [str(Path(place) / str(number)) for number in range(jobs)]
        processes = [
            subprocess.Popen(
                [sys.executable, PEERS, "yardstick", str(runs), folder],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for folder in folders
        ]
        for process in processes:
            assert process.stdout is not None  # noqa: S101
            process.stdout.readline()
        # All have done their imports, and begin together.
        return [float(process.communicate("\n")[0]) for process in processes]


def measure(way: Way, runs: int) -> tuple[str, list[str]]:
    """Time a way between two measurements of the work.

    Returns:
        What the row says of it, and the digests of the runs' weights.

    Raises:
        Failed: As in :func:`carry_out`.
    """
    carry_out(way, way.jobs)
    few = min(runs, YARDSTICK_RUNS)
    before = yardstick(way.jobs, few)
    seconds, digests, own = carry_out(way, runs)
    work = statistics.median([*before, *yardstick(way.jobs, few)])
    beyond = seconds * way.jobs / runs - work
    own_work = "" if own is None else f"{own:.3f}"
    return f"{seconds:7.2f} | {seconds / runs:5.3f} | {work:5.3f} | {beyond:6.3f} | {own_work:>8}", digests


def report(chosen: Sequence[Way], runs: int, python: str) -> int:
    """Print the table, each row as soon as its way is finished; return 1 if a way failed, else 0."""
    print(f"{runs} runs of mlpx poly --degree {DEGREE} --epochs {EPOCHS}\n")
    print(f"| {'way':<28} | at a time | seconds | a run | work  | beyond | own work |")
    print(f"| {'-' * 28} | --------: | ------: | ----: | ----: | -----: | -------: |", flush=True)
    code = 0
    expected: list[str] = []
    for way in chosen:
        head = f"| {way.name:<28} | {way.jobs:9} |"
        if lacking := missing(way, python):
            print(f"{head} skipped: {lacking} is missing |", flush=True)
            continue
        try:
            row, digests = measure(way, runs)
            expected = expected or digests
            if digests != expected:
                raise Failed("its weights are not those of the first way")
        except Failed as failure:
            print(f"{head} failed: {failure} |", flush=True)
            code = 1
        else:
            print(f"{head} {row} |", flush=True)
    return code


def main() -> None:
    """Print the table; exits 1 if a way failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="runs of each way")
    parser.add_argument("--peers-python", metavar="PYTHON", default=sys.executable, help="interpreter of the peers")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs: at least 1 is needed")
    if not shutil.which(options.peers_python):
        parser.error(f"--peers-python: {options.peers_python!r} is not a program")
    sys.exit(report(ways(options.peers_python), options.runs, options.peers_python))


if __name__ == "__main__":
    main()
