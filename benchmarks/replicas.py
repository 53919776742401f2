"""Time R trainings side by side against R one after the other.

    python benchmarks/replicas.py [--replicas 256] [--rounds 5] [--mlp-replicas 8] [--data-dir DIR]

`poly --degree 19 --epochs 1500`: the loop with all replicas, beside one loop of mlpx and one of the textbook's (a
DataLoader, autograd and torch.optim.SGD), each counted as many times as there are replicas. `mlp`: an epoch of all
replicas beside as many epochs of one, on Fashion-MNIST and, where there is a GPU, on that too. They take turns, so that
a machine that slows down slows them all; a row has medians, and the median of the ratios round by round.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from poly import DEGREE, EPOCHS, mlpx_loop, textbook_loop

from mlpx.experiments import mlp
from mlpx.settings.mlp import MlpSettings

CPU = torch.device("cpu")
SEED = 256  # 247 diverges: its training set has an example 4.6 standard deviations out


def mlp_epoch(replicas: int, data_dir: str, device: torch.device) -> Callable[[], float]:
    """Seconds of an epoch with its row, each time it is called."""
    task = mlp.build(MlpSettings(replicas=replicas, data_dir=data_dir), device)

    def seconds() -> float:
        began = time.perf_counter()
        for _ in task.train(1, 0):
            pass
        task.evaluate()
        return time.perf_counter() - began

    return seconds


def compare(heading: str, contestants: dict[str, tuple[int, Callable[[], float]]], rounds: int) -> None:
    """Print the table: of each contestant how many times it counts, its seconds, and the ratio to the last."""
    for _, run in contestants.values():  # once unmeasured: caches, threads
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
