"""Time the commands that read runs, on run folders made by mlpx's own writer.

    python benchmarks/listing.py [--runs 1000 10000] [--sweeps 10] [--rounds 5]

For each number of runs a folder is filled with finished runs of the three experiments, with other settings and seeds
each, and another folder with sweeps of 100 runs; nothing is trained. Then each command is timed as a process, its start
included, with files that are in the system's cache. Beside it stands a Python process that opens and reads the same two
files of each run and does nothing with them: the least that any reader of these folders takes.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlpx import registry
from mlpx.runs import folder, reading
from mlpx.runs.folder import Run
from mlpx.runs.metrics import Metrics
from mlpx.settings.base import Settings
from mlpx.settings.files import resolve
from mlpx.settings.metrics import columns, final
from mlpx.sweeps import folder as sweeps
from mlpx.sweeps.request import Request

PROGRAM = [sys.executable, "-m", "mlpx"]
READER = """
import glob, sys
for name in ("config.toml", "run.json"):
    for path in glob.glob(f"{sys.argv[1]}/*/{name}"):
        open(path, "rb").read()
"""
SETTINGS: list[tuple[str, dict[str, list[object]]]] = [
    ("poly", {"degree": [1, 3, 19], "epochs": [400, 1500]}),
    ("mlp", {"lr": [0.03, 0.1, 0.3], "hidden": [[256], [512, 256]]}),
    ("transformer", {"num_layers": [2, 4, 6], "dropout": [0.0, 0.1]}),
]


def make_runs(runs_dir: Path, count: int) -> None:
    """Fill ``runs_dir`` with ``count`` finished runs, as a training leaves them but for weights and pictures."""
    grid = [
        (experiment, dict(zip(values, choice, strict=True)))
        for experiment, values in SETTINGS
        for choice in itertools.product(*values.values())
    ]
    for number in range(count):
        experiment, typed = grid[number % len(grid)]
        settings = resolve(registry.settings_class(experiment), {**typed, "seed": number // len(grid)})
        with folder.create(runs_dir, settings, settings.label) as run:
            finish(run, settings, number)


def make_sweeps(runs_dir: Path, count: int) -> None:
    """Fill ``runs_dir`` with ``count`` sweeps of 100 finished runs each."""
    for number in range(count):
        asked = {"degree": "0..19", "seed": "0..4", "epochs": str(400 + number)}
        request = Request(registry.settings_class("poly")).updated(asked, {})
        design = request.design()
        sweep = sweeps.create(runs_dir, sweeps.name_of(design), request, design)
        for path in reading.runs_in(sweep.path):
            with Run(path) as run:
                finish(run, reading.settings_of(path), number)


def finish(run: Run, settings: Settings, number: int, num_rows: int = 20) -> None:
    """Write what a training of these settings would leave; ``number`` decides the figures."""
    run.document = {"command": f"mlpx {settings.experiment}", "resumed_from_epoch": []}
    run.record_start({"experiment": settings.experiment, "seed": settings.seed, "device": "cpu"})
    names = [column.name for column in columns(settings.metrics, 1)]
    file = Metrics(run.path / "metrics.csv", names)
    file.start()
    for row in range(num_rows):
        file.append(dict.fromkeys(names, 1 / (1 + row + number)))
    file.close()
    figures = {metric.name: 1 / (1 + number) for metric in final(settings.metrics, 1)}
    run.record_end("finished", 0, figures, summary="made by benchmarks/listing.py")


def median_seconds(command: Sequence[str], rounds: int) -> float:
    """The median of the seconds that the process takes; its first run, which fills the system's cache, is left out."""
    env = {**os.environ, "COLUMNS": "200"}
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=env)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def time_all(what: str, commands: Mapping[str, Sequence[str]], rounds: int) -> None:
    """Print the seconds of each command; ``what`` it reads."""
    for name, command in commands.items():
        print(f"{what:>10}  {median_seconds(command, rounds):8.3f}  {name}", flush=True)


def main() -> None:
    """Print a table: seconds of each command for each number of runs, and for sweeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--sweeps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{'':>10}  {'seconds':>8}  command")
    for count in options.runs:
        with tempfile.TemporaryDirectory() as place:
            make_runs(Path(place), count)
            best = ["--where", "experiment == mlp", "--max", "test_accuracy", "--first", "1"]
            commands = {
                "(open and read both files)": [sys.executable, "-c", READER, place],
                "mlpx --help": [*PROGRAM, "--help"],
                "mlpx runs": [*PROGRAM, "runs", "--runs-dir", place],
                "mlpx runs --format csv": [*PROGRAM, "runs", "--runs-dir", place, "--format", "csv"],
                "mlpx runs --json": [*PROGRAM, "runs", "--runs-dir", place, "--json"],
                "mlpx runs --over seed": [*PROGRAM, "runs", "--runs-dir", place, "--over", "seed"],
                f"mlpx runs {' '.join(best)}": [*PROGRAM, "runs", "--runs-dir", place, *best],
                "mlpx show latest": [*PROGRAM, "show", "latest", "--runs-dir", place],
            }
            time_all(f"{count} runs", commands, options.rounds)
    with tempfile.TemporaryDirectory() as place:
        make_sweeps(Path(place), options.sweeps)
        commands = {
            "(open and read both files)": [sys.executable, "-c", READER, f"{place}/*-sweep-*"],
            "mlpx runs": [*PROGRAM, "runs", "--runs-dir", place],
            "mlpx runs --json": [*PROGRAM, "runs", "--runs-dir", place, "--json"],
            "mlpx runs latest": [*PROGRAM, "runs", "latest", "--runs-dir", place],
            "mlpx runs --over seed": [*PROGRAM, "runs", "--runs-dir", place, "--over", "seed"],
            "mlpx compare latest": [*PROGRAM, "compare", "latest", "--runs-dir", place],
        }
        time_all(f"{options.sweeps} sweeps", commands, options.rounds)


if __name__ == "__main__":
    main()
