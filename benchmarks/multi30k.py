"""Train configs/transformer-multi30k.toml and variations of it, and print how each does, as rows of a table.

    MLPX_DATA_DIR=… python benchmarks/multi30k.py [--epochs 20] [--seeds 1] [--jobs 2] [NAME …]

Without names all variations are trained, one change each; ``--epochs`` shortens them, with the preset's share of epochs
both ways. They are judged on the validation set, by greedy decoding; the test set's BLEU (beam search, length penalty
chosen on the validation set) stands beside it and has no say. Runs share the processor's cores, ``--jobs`` at a time,
so that minutes are those of a run with the others beside it. A run that has finished in ``--runs-dir`` is not trained
again, one that was stopped goes on where it was.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PRESET = Path(__file__).resolve().parent.parent / "configs" / "transformer-multi30k.toml"
VARIATIONS = {
    "preset": "",
    "one-way": "--both-ways 0",
    "adam": "--optimizer adam",
    "post-norm": "--norm post",
    "no-smoothing": "--label-smoothing 0",
    "dropout-0.2": "--dropout 0.2",
    "dropout-0.4": "--dropout 0.4",
    "vocabulary-4000": "--vocab-size 4000",
    "6-blocks": "--num-layers 6",
    "wider": "--d-model 192 --d-ff 384",
    "raw": "--text raw",
    "fr": "--target fr",
    "raw-fr": "--text raw --target fr",
}


def trained(command: Sequence[str], name: str, runs: Path, threads: int) -> Path:
    """The finished run of that name, by an mlpx training command; prints nothing."""
    found = sorted(runs.glob(f"*-{command[0]}-{name}"))
    if not found or json.loads((found[-1] / "run.json").read_text())["status"] != "finished":
        new = [*command, "--name", name, "--runs-dir", str(runs)]
        started = ["resume", str(found[-1])] if found else new
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        arguments = [sys.executable, "-m", "mlpx", *started, "--quiet"]
        subprocess.run(arguments, env=environment, check=True, stdout=subprocess.DEVNULL)
        found = sorted(runs.glob(f"*-{command[0]}-{name}"))
    return found[-1]


def spread(figures: Sequence[float]) -> str:
    """The mean, and the standard deviation of several."""
    mean = f"{statistics.mean(figures):.2f}"
    return f"{mean} ± {statistics.stdev(figures):.2f}" if len(figures) > 1 else mean


def main() -> None:
    """Train, and print a row as soon as its runs are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(VARIATIONS))
    parser.add_argument("--epochs", type=int, help="in place of the preset's")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    options = parser.parse_args()
    if unknown := set(options.names) - set(VARIATIONS):
        parser.error(f"no such variation: {', '.join(sorted(unknown))}")
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    preset = tomllib.loads(PRESET.read_text())
    epochs = options.epochs or preset["epochs"]
    both_ways = round(epochs * preset["both_ways"] / preset["epochs"])

    def train(name: str, seed: int) -> dict[str, Any]:
        common = ["--epochs", str(epochs), "--both-ways", str(both_ways), "--seed", str(seed)]
        command = ["transformer", "--config", str(PRESET), *common, *VARIATIONS[name].split()]
        run = trained(command, f"{name}-{epochs}-seed{seed}", options.runs_dir, threads)
        document: dict[str, Any] = json.loads((run / "run.json").read_text())
        return document

    names = options.names or list(VARIATIONS)
    print(f"{epochs} epochs, {options.seeds} seeds\n")
    print("| variation | changes | validation BLEU | test BLEU | minutes |")
    print("| --- | --- | ---: | ---: | ---: |")
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = {name: [pool.submit(train, name, seed) for seed in range(options.seeds)] for name in names}
        for name, runs in futures.items():
            metrics = [future.result()["metrics"] for future in runs]
            scores = " | ".join(spread([each[key] for each in metrics]) for key in ("val_bleu", "test_bleu"))
            minutes = statistics.mean(each["seconds"] for each in metrics) / 60
            print(f"| {name} | {VARIATIONS[name]} | {scores} | {minutes:.0f} |", flush=True)


if __name__ == "__main__":
    main()
