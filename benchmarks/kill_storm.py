"""Kill runs by SIGKILL at random moments, resume them, and compare them bit for bit with an undisturbed run.

    python benchmarks/kill_storm.py [--kills 50] [--seed 0] -- poly --degree 5 --epochs 40000 --eval-every 100

The words after ``--`` are an mlpx training command. Checkpoints are saved every 0.2 seconds. A kill comes at a random
moment after the run's ``config.toml`` was written and before the run ends. A run is equal if it has the same bytes in
``weights.safetensors``, and the same rows in ``metrics.csv`` apart from the columns that a clock measures. Exits 1 if a
run differs.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLOCKED = {"seconds", "tokens_per_second"}


def outcome(run: Path) -> tuple[bytes, list[dict[str, str]]]:
    """The bytes of the weights' file, and the rows without the columns that a clock measures."""
    with open(run / "metrics.csv") as file:
        rows = [{k: v for k, v in row.items() if k not in CLOCKED} for row in csv.DictReader(file)]
    return (run / "weights.safetensors").read_bytes(), rows


def start(command: list[str], runs: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a run; return its process and its folder as soon as ``config.toml`` is there."""
    process = subprocess.Popen([*command, "--runs-dir", str(runs), "--quiet"], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if made := list(runs.glob("[0-9]*/config.toml")):
            return process, made[0].parent
        time.sleep(0.001)
    sys.exit(f"no run was started: exit code {process.returncode}")


def main() -> None:
    """Kill and resume the runs, and print how many are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("arguments", nargs="+")
    options = parser.parse_args()
    mlpx = [sys.executable, "-m", "mlpx"]
    command = [*mlpx, *options.arguments, "--checkpoint-every", "0.2"]
    moments = random.Random(options.seed)  # noqa: S311

    with tempfile.TemporaryDirectory() as folder:
        process, run = start(command, Path(folder) / "undisturbed")
        began = time.monotonic()
        if process.wait() != 0:
            sys.exit(f"the undisturbed run ended with {process.returncode}")
        duration = time.monotonic() - began
        expected = outcome(run)
        print(f"undisturbed: {duration:.2f} s, {len(expected[1])} rows")

        equal = from_checkpoint = finished = 0
        for number in range(options.kills):
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
            f"{equal} of {options.kills} equal, {from_checkpoint} of {options.kills} from a checkpoint, "
            f"{finished} had finished before the kill"
        )
    sys.exit(equal != options.kills)


if __name__ == "__main__":
    main()
