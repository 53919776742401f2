"""Kill runs or sweeps at random moments, resume them, and compare them bit for bit with undisturbed ones.

    python benchmarks/kill_storm.py [--kills 50] [--seed 0] -- poly --degree 5 --epochs 40000 --eval-every 100
    python benchmarks/kill_storm.py [--by kill] -- sweep poly --degree 3..8 --epochs 4000 --eval-every 40

The words after ``--`` are an mlpx training command, or a sweep of a few runs. Checkpoints are saved every 0.2 seconds.
A run is equal if it has the same bytes in ``weights.safetensors``, and the same rows in ``metrics.csv`` apart from the
columns that a clock measures. Exits 1 if a run differs or a check fails.

A run gets SIGKILL after its ``config.toml`` was written and before it ends. A sweep is disturbed between the start of
its process and its end, thus also while its folders are laid out; the moment is random, or follows the end of a random
number of its runs at random. With ``--by``:

- kill: SIGKILL to the sweep's process, to one of the runs, or to all processes of the sweep;
- ctrl-c: Ctrl-C in a terminal, in which a shell loop must stop too;
- twice: Ctrl-C, and again a second later;
- term: SIGTERM to the sweep's process;
- all: SIGINT or SIGTERM to the sweep's process and to its runs at once;
- hup: the terminal is closed.

Ten seconds later no process of the sweep may be left, and, but after SIGKILL or a second Ctrl-C, each run must have
finished, been interrupted, or not begun. Then the same command, or ``mlpx resume``, must complete the sweep, and must
not touch what had finished. As short runs would end by themselves, there is for each fifth sweep another one whose runs
have no end; it is only looked at after ten seconds.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill_storm_sweeps import WAYS, outcome, storm


def start(command: list[str], runs: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a run; return its process and its folder as soon as ``config.toml`` is there."""
    process = subprocess.Popen([*command, "--runs-dir", str(runs), "--quiet"], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if made := list(runs.glob("[0-9]*/config.toml")):
            return process, made[0].parent
        time.sleep(0.001)
    sys.exit(f"no run was started: exit code {process.returncode}")


def storm_of_runs(mlpx: list[str], arguments: list[str], kills: int, moments: random.Random) -> bool:
    """Kill and resume the runs, and print how many are equal; returns whether all are."""
    command = [*mlpx, *arguments, "--checkpoint-every", "0.2"]
    with tempfile.TemporaryDirectory() as folder:
        process, run = start(command, Path(folder) / "undisturbed")
        began = time.monotonic()
        if process.wait() != 0:
            sys.exit(f"the undisturbed run ended with {process.returncode}")
        duration = time.monotonic() - began
        expected = outcome(run)
        print(f"undisturbed: {duration:.2f} s, {len(expected[1])} rows")

        equal = from_checkpoint = finished = 0
        for number in range(kills):
            process, run = start(command, Path(folder) / str(number))
            moment = moments.uniform(0, duration)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
            killed = process.wait() < 0
            resumed = subprocess.run([*mlpx, "resume", str(run), "--quiet"], stdout=subprocess.DEVNULL)
            same = resumed.returncode == 0 and outcome(run) == expected
            epochs = json.loads((run / "run.json").read_text())["resumed_from_epoch"]
            equal += same
            finished += not killed
            from_checkpoint += any(epochs)
            verdict = "equal" if same else f"DIFFERENT (exit {resumed.returncode})"
            print(f"{number:3}: killed after {moment:.3f} s, resumed from epoch {epochs}: {verdict}", flush=True)
        print(
            f"{equal} of {kills} equal, {from_checkpoint} of {kills} from a checkpoint, "
            f"{finished} had finished before the kill"
        )
    return equal == kills


def main() -> None:
    """Disturb and resume, and print how many are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="runs or sweeps")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--by", choices=WAYS, default="kill", help="how a sweep is disturbed")
    parser.add_argument("arguments", nargs="+")
    options = parser.parse_args()
    mlpx = [sys.executable, "-m", "mlpx"]
    moments = random.Random(options.seed)  # noqa: S311
    if options.arguments[0] == "sweep":
        sys.exit(not storm(mlpx, options.arguments, options.kills, moments, options.by))
    if options.by != "kill":
        parser.error("--by: is for sweeps")
    sys.exit(not storm_of_runs(mlpx, options.arguments, options.kills, moments))


if __name__ == "__main__":
    main()
