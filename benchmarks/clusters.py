"""Time many small trainings on this machine, by workers of Slurm, and as tasks of Ray: what does a run cost there?

    apt-get install --no-install-recommends slurmctld slurmd slurm-client munge iproute2
    pip install 'mlpx[ray,test]'
    python benchmarks/clusters.py [--runs 100]

Each way trains `poly --degree 19 --epochs 1500` with the seeds 0, 1, 2, … two at a time, a core each. Slurm has two
nodes on this machine, and Ray has two beside its head, in a network namespace of its own; both are those of the tests,
so this needs root. A way that is not installed is skipped. Each way runs once, with two runs, before it is timed, so
that the cluster is awake; starting it is not part of the time. The weights of all ways must have the same bytes.

The columns are those of `benchmarks/sweeps.py`, which says how "work" is measured. The time of a way is from the start
of its command to the moment at which all runs have ended: with Slurm the command returns long before.
"""

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import pytest
import ray_cluster
import slurm
from sweeps import MLPX, TRAINING, YARDSTICK_RUNS, environment, yardstick

JOBS = 2
WAIT_SECONDS = 600.0

Start = Callable[[list[str], Path], None]


def sweep(runs: int, *options: str) -> list[str]:
    """The words of the command."""
    return ["sweep", *TRAINING, "--seed", f"0..{runs - 1}", "--jobs", str(JOBS), *options]


def finished(folder: Path) -> list[Path]:
    """The weights of the runs that have ended: ``run.json`` says so after it has all other files."""
    ended = [path.parent for path in folder.rglob("run.json") if '"status": "finished"' in path.read_text()]
    return [run / "weights.safetensors" for run in ended]


def timed(start: Start, words: list[str], runs: int) -> tuple[float, list[str]]:
    """The seconds until all runs have ended, and the digests of their weights, sorted."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        began = time.perf_counter()
        start(words, Path(place))
        while len(found := finished(Path(place))) < runs:
            if time.perf_counter() - began > WAIT_SECONDS:
                sys.exit(f"{len(found)} of {runs} runs have ended after {WAIT_SECONDS:.0f} s")
            time.sleep(0.1)
        seconds = time.perf_counter() - began
        return seconds, sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in found)


def row(name: str, start: Start, runs: int, *options: str) -> list[str]:
    """Print the row of a way; returns the digests of its weights."""
    timed(start, sweep(JOBS, *options), JOBS)
    few = min(runs, YARDSTICK_RUNS)
    before = yardstick(JOBS, few)
    seconds, digests = timed(start, sweep(runs, *options), runs)
    work = statistics.median([*before, *yardstick(JOBS, few)])
    beyond = seconds * JOBS / runs - work
    print(f"| {name:<24} | {seconds:7.2f} | {seconds / runs:5.3f} | {work:5.3f} | {beyond:6.3f} |", flush=True)
    return digests


def local(words: list[str], place: Path) -> None:
    """Run the command here."""
    subprocess.run([*MLPX, *words], cwd=place, env=environment(), check=True, capture_output=True)


def by_slurm(runs: int) -> list[str]:
    """The row of Slurm."""
    with slurm.cluster() as cluster:

        def start(words: list[str], place: Path) -> None:
            done = cluster.run(*MLPX, *words, env={**environment(), **cluster.env}, cwd=place)
            if done.returncode:
                sys.exit(done.stderr)

        return row("Slurm, two workers", start, runs, "--on", "slurm")


def by_ray(runs: int) -> list[str]:
    """The row of Ray."""
    with ray_cluster.cluster(1, 1) as cluster:

        def start(words: list[str], place: Path) -> None:
            done = cluster.mlpx(*words, cwd=place)
            if done.code:
                sys.exit(done.err)

        return row("Ray, two nodes of a core", start, runs, "--on", "ray")


def main() -> None:
    """Print the table; exits 1 if the weights of two ways differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="runs of each way")
    runs = parser.parse_args().runs
    print(f"{runs} runs of mlpx {' '.join(TRAINING)}, {JOBS} at a time\n")
    print(f"| {'way':<24} | seconds | a run | work  | beyond |")
    print(f"| {'-' * 24} | ------: | ----: | ----: | -----: |", flush=True)
    expected = row("this machine", local, runs)
    differ = False
    for way in (by_slurm, by_ray):
        try:
            differ |= way(runs) != expected
        except pytest.skip.Exception as skipped:
            print(f"skipped: {skipped}", flush=True)
    print("the weights of the ways differ" if differ else "the weights of all ways have the same bytes")
    sys.exit(differ)


if __name__ == "__main__":
    main()
