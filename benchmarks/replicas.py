"""Time R trainings side by side (replicas) against R trainings one after the other.

    python benchmarks/replicas.py [--replicas 256] [--rounds 5] [--mlp-replicas 8] [--data-dir DIR]

`poly --degree 19 --epochs 1500`: the training loop with all replicas is compared with mlpx's loop of one replica and
with the textbook's loop (a DataLoader, autograd and torch.optim.SGD). The seconds of these two are multiplied by the
number of replicas. `mlp`: an epoch of all replicas on Fashion-MNIST is compared with as many epochs of one replica, on
the CPU and, if there is one, on the GPU.

The contestants take turns, so a machine that slows down slows all of them down. The table shows the median of the
seconds over the rounds, and the median of the ratios, each taken within a round.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from poly import DEGREE, EPOCHS, mlpx_loop, textbook_loop

from mlpx.experiments.mlp.experiment import Classification
from mlpx.experiments.mlp.settings import MlpSettings

CPU = torch.device("cpu")
# The replicas have the seeds from 256 on. Seed 247 diverges: its training set has an x at 4.6 standard deviations.
SEED = 256


def mlp_epoch(replicas: int, data_dir: str, device: torch.device) -> Callable[[], float]:
    """A function that trains an epoch, computes the metrics of its row, and returns the seconds that both took."""
    experiment = Classification(MlpSettings(replicas=replicas, data_dir=data_dir), device)

    def seconds() -> float:
        began = time.perf_counter()
        for _ in experiment.train(1, 0):
            pass
        experiment.evaluate()
        return time.perf_counter() - began

    return seconds


def compare(heading: str, contestants: dict[str, tuple[int, Callable[[], float]]], rounds: int) -> None:
    """Print a table with the seconds of each contestant, and their ratio to those of the last contestant.

    Args:
        heading: What stands above the table.
        contestants: For each name, the number by which the seconds are multiplied, and a function that measures them.
        rounds: How often each contestant is measured.
    """
    # The first call fills caches and starts threads, so it is not measured.
    for _, run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (times, run) in contestants.items():
            seconds[name].append(times * run())
    (*_, last) = seconds.values()
    print(f"{heading}, medians of {rounds} rounds\n")
    print(f"| {'what':<40} | seconds | against replicas |\n| {'-' * 40} | ------: | ---------------: |")
    for name, measured in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(measured, last, strict=True))
        print(f"| {name:<40} | {statistics.median(measured):7.2f} | {ratio:16.2f} |")
    print()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=256, help="of poly")
    parser.add_argument("--mlp-replicas", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data-dir", default="", help="as of mlpx mlp")
    options = parser.parse_args()

    count = options.replicas
    contestants = {
        f"{count} times the textbook's loop": (count, textbook_loop),
        f"{count} times mlpx's loop": (count, lambda: mlpx_loop(SEED)),
        f"mlpx's loop, {count} replicas": (1, lambda: mlpx_loop(SEED, count)),
    }
    compare(f"poly --degree {DEGREE} --epochs {EPOCHS}, the loop", contestants, options.rounds)

    data_dir = os.path.abspath(options.data_dir) if options.data_dir else ""
    count = options.mlp_replicas
    for device in (CPU, *([torch.device("cuda")] if torch.cuda.is_available() else [])):
        contestants = {
            f"{count} times an epoch": (count, mlp_epoch(1, data_dir, device)),
            "an epoch": (1, mlp_epoch(1, data_dir, device)),
            f"an epoch, {count} replicas": (1, mlp_epoch(count, data_dir, device)),
        }
        compare(f"mlp on {device}, an epoch with its row", contestants, options.rounds)


if __name__ == "__main__":
    main()
