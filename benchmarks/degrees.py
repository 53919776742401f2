"""Train 100 polynomials each of degree 1, 3 and 19; draw them side by side, and print how they end.

    python benchmarks/degrees.py [--replicas 100] [--picture docs/poly-replicas.png]

Replicas differ in data, initial weights and order of batches, all by their seeds 0, 1, … The table has medians.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from mlpx.data import polynomial
from mlpx.experiments import poly
from mlpx.plots.figure import png
from mlpx.plots.fit import fit_curves
from mlpx.settings.poly import PolySettings
from mlpx.training.loop import fit

EPOCHS = {1: 400, 3: 400, 19: 1500}  # the textbook's


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=100)
    parser.add_argument("--picture", type=Path, default=Path("docs/poly-replicas.png"))
    options = parser.parse_args()
    x = np.linspace(-poly.FAR, poly.FAR, 400)
    panels = {}
    print("| degree | train loss | test loss | generalization loss | verdicts |")
    print("| ---: | ---: | ---: | ---: | --- |")
    for degree, epochs in EPOCHS.items():
        settings = PolySettings(degree=degree, epochs=epochs, replicas=options.replicas, eval_every=epochs)
        task = poly.build(settings, torch.device("cpu"))
        for _ in fit(task, epochs, epochs):
            pass
        outcome = task.outcome({})
        medians = [np.median(outcome.metrics[name]) for name in poly.COLUMNS]
        verdicts = Counter(outcome.facts["verdicts"]).most_common()
        counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts)
        print(f"| {degree} | {' | '.join(f'{median:.4g}' for median in medians)} | {counts} |")
        panels[f"degree {degree}: {counts}"] = task.weights() @ polynomial.features(x, degree).T
    title = f"{options.replicas} polynomials of each degree, each fitted to 100 examples of its own"
    options.picture.write_bytes(png(fit_curves(title, x, polynomial.true_curve(x), panels)))


if __name__ == "__main__":
    main()
