"""Time `mlpx poly --degree 19 --epochs 1500` against the textbook's way, and against the least that a process can do.

    python benchmarks/poly.py [--rounds 7]

The contestants take turns, so a machine that slows down slows all of them down. The table shows the median of the
seconds over the rounds, and the median of the ratios, each taken within a round. The textbook's way is a DataLoader,
autograd and torch.optim.SGD, as in its text. The floor is a process that imports torch and matplotlib's Figure, and
saves a default figure with a line of two points.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

DEGREE, EPOCHS = 19, 1500
FLOOR = (
    "import torch; from matplotlib.figure import Figure\n"
    "figure = Figure(); figure.subplots().plot([0, 1], [0, 1]); figure.savefig('/dev/null', format='png')"
)


def textbook_loop() -> float:
    """Seconds of the textbook's training loop."""
    import math

    import numpy as np
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    x = np.random.default_rng(0).normal(size=(200, 1))
    powers = np.arange(20)
    features = x**powers / np.array([math.factorial(i) for i in powers], dtype=float)
    labels = features[:, :4] @ [5, 1.2, -3.4, 5.6] + np.random.default_rng(1).normal(scale=0.1, size=200)
    inputs = torch.tensor(features[:, : DEGREE + 1], dtype=torch.float32)
    targets = torch.tensor(labels, dtype=torch.float32).reshape(-1, 1)
    train = DataLoader(TensorDataset(inputs[:100], targets[:100]), batch_size=10, shuffle=True)
    test = DataLoader(TensorDataset(inputs[100:], targets[100:]), batch_size=10)
    model = nn.Sequential(nn.Linear(DEGREE + 1, 1, bias=False))
    criterion = nn.MSELoss(reduction="none")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def evaluate(loader: DataLoader[tuple[torch.Tensor, ...]]) -> float:
        with torch.no_grad():
            return sum(float(criterion(model(batch), target).sum()) for batch, target in loader) / 100

    began = time.perf_counter()
    for epoch in range(1, EPOCHS + 1):
        for batch, target in train:
            loss = criterion(model(batch), target)
            optimizer.zero_grad()
            torch.autograd.backward(loss.mean())
            optimizer.step()
        if epoch == 1 or epoch % 20 == 0:
            evaluate(train)
            evaluate(test)
    return time.perf_counter() - began


def mlpx_loop(seed: int = 0, replicas: int = 1) -> float:
    """Seconds of mlpx's training loop on the same data, with the losses computed for each row."""
    import torch

    from mlpx.experiments.poly.experiment import Polynomials
    from mlpx.experiments.poly.settings import PolySettings
    from mlpx.training.loop import fit

    settings = PolySettings(degree=DEGREE, epochs=EPOCHS, seed=seed, replicas=replicas)
    threads = torch.get_num_threads()
    torch.set_num_threads(Polynomials.num_threads or threads)
    experiment = Polynomials(settings, torch.device("cpu"))
    began = time.perf_counter()
    for _ in fit(experiment):
        pass
    seconds = time.perf_counter() - began
    # The textbook's loop has as many threads as torch gives it.
    torch.set_num_threads(threads)
    return seconds


def process(arguments: list[str]) -> float:
    """Seconds of a whole process."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True, capture_output=True)
        return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--textbook", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.textbook:
        textbook_loop()
        return

    command = ["-m", "mlpx", "poly", "--degree", str(DEGREE), "--epochs", str(EPOCHS)]
    contestants: dict[str, Callable[[], float]] = {
        "loop, textbook": textbook_loop,
        "loop, mlpx": mlpx_loop,
        "process, textbook (no pictures)": lambda: process([os.path.abspath(__file__), "--textbook"]),
        "process, mlpx (two pictures)": lambda: process(command),
        "process, floor": lambda: process(["-c", FLOOR]),
    }
    for run in contestants.values():  # once unmeasured: caches, threads, bytecode
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, run in contestants.items():
            seconds[name].append(run())

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    print(f"poly --degree {DEGREE} --epochs {EPOCHS}, medians of {options.rounds} rounds\n")
    print(f"| {'what':<31} | seconds | against mlpx |\n| {'-' * 31} | ------: | -----------: |")
    for name, times in seconds.items():
        against = ratio(name, "loop, mlpx" if name.startswith("loop") else "process, mlpx (two pictures)")
        print(f"| {name:<31} | {statistics.median(times):7.3f} | {against:12.2f} |")
    print(f"\nmlpx's process over the floor: {ratio('process, mlpx (two pictures)', 'process, floor'):.2f}")


if __name__ == "__main__":
    main()
