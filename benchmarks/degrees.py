"""Train 100 polynomials each of degree 1, 3 and 19, draw them side by side, and print their losses and verdicts.

    python benchmarks/degrees.py [--replicas 100] [--picture docs/poly-replicas.png]

The replicas have the seeds 0, 1 and so on, so they differ in data, initial weights and order of batches. The table has
the median of each loss over the replicas, and the number of replicas with each verdict.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from mlpx.experiments.poly import data as polynomial
from mlpx.experiments.poly.experiment import Polynomials
from mlpx.experiments.poly.plots import fit_curves
from mlpx.experiments.poly.settings import PolySettings
from mlpx.plots.figure import png
from mlpx.training.loop import fit

EPOCHS = {1: 400, 3: 400, 19: 1500}  # by degree, as in the textbook
LOSSES = ("train_loss", "test_loss", "generalization_loss")
FARTHEST = 3.5  # the picture shows x from -3.5 to 3.5 standard deviations


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=100)
    parser.add_argument("--picture", type=Path, default=Path("docs/poly-replicas.png"))
    options = parser.parse_args()
    x = np.linspace(-FARTHEST, FARTHEST, 400)
    panels = {}
    torch.set_num_threads(Polynomials.num_threads or torch.get_num_threads())
    print("| degree | train loss | test loss | generalization loss | verdicts |")
    print("| ---: | ---: | ---: | ---: | --- |")
    for degree, epochs in EPOCHS.items():
        settings = PolySettings(degree=degree, epochs=epochs, replicas=options.replicas, eval_every=epochs)
        experiment = Polynomials(settings, torch.device("cpu"))
        for _ in fit(experiment):
            pass
        outcome = experiment.outcome({})
        medians = [np.median(outcome.metrics[name]) for name in LOSSES]
        # A run of one replica has one verdict in place of a count of each.
        verdicts = outcome.facts["verdicts"] if options.replicas > 1 else {outcome.facts["verdict"]: 1}
        counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(verdicts).most_common())
        print(f"| {degree} | {' | '.join(f'{median:.4g}' for median in medians)} | {counts} |")
        panels[f"degree {degree}: {counts}"] = experiment.weights() @ polynomial.features(x, degree).T
    each = "polynomials of each degree, each" if options.replicas > 1 else "polynomial of each degree,"
    title = f"{options.replicas} {each} fitted to 100 examples of its own"
    options.picture.write_bytes(png(fit_curves(title, x, polynomial.true_curve(x), panels)))


if __name__ == "__main__":
    main()
