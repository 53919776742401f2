"""Sweeps for the tests: laid out by the program, their results written by its own writer, and without a training."""

import csv
import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlpx import registry
from mlpx.runs.folder import Run
from mlpx.settings.base import Settings
from mlpx.sweeps import folder
from mlpx.sweeps.folder import Sweep
from mlpx.sweeps.request import Request

Figures = Mapping[str, float]
# What the training with a seed measures, how it fails, or that it has not started. A replica that fails has diverged.
Measure = Callable[[Any, int], Figures | Exception | None]


def make_sweep(runs_dir: Path, experiment: str, asked: Mapping[str, str], measure: Measure, **options: Any) -> Sweep:
    """A sweep in ``runs_dir``, of which each run has ended as ``measure`` says."""
    request = Request(registry.settings_class(experiment)).updated(asked, options)
    sweep = folder.create(runs_dir, "sweep", request, request.design())
    for path, settings in zip(sweep.runs(), sweep.design.cells, strict=True):
        end_run(path, settings, measure)
    return sweep


def end_run(path: Path, settings: Settings, measure: Measure) -> None:
    """Write how a run that was laid out has ended."""
    found = [measure(settings, seed) for seed in settings.seeds]
    measured = [figures for figures in found if isinstance(figures, Mapping)]
    if None in found:
        return
    with Run(path) as run:
        run.record_start({"experiment": settings.experiment, "seed": settings.seed, "device": "cpu"})
        if not measured:
            run.record_failure(next(error for error in found if isinstance(error, Exception)), {})
            return
        names = list(measured[0])
        medians = {name: statistics.median(figures[name] for figures in measured) for name in names}
        if len(found) > 1:
            with open(path / "replicas.csv", "w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(["replica", "seed", *names])
                for replica, (seed, figures) in enumerate(zip(settings.seeds, found, strict=True)):
                    cells = [figures[name] for name in names] if isinstance(figures, Mapping) else [""] * len(names)
                    rows.writerow([replica, seed, *cells])
            medians["num_diverged"] = len(found) - len(measured)
        run.record_end("finished", 0, {"epoch": settings.epochs, **medians, "seconds": 1.5})


def losses(settings: Any, seed: int) -> dict[str, float]:
    """Losses of ``poly`` that are least at degree 3, and a little higher with each seed."""
    exact = 0.01 * (1 + abs(settings.degree - 3)) * (1 + seed / 100) * math.exp(settings.lr)
    return {"train_loss": exact / 2, "test_loss": 1.1 * exact, "generalization_loss": exact}


def scores(settings: Any, seed: int) -> dict[str, float]:
    """Losses and accuracies of ``mlp``: each unit and a lower dropout add to the accuracy, seeds to that of some."""
    accuracy = 0.8 + sum(settings.hidden) / 10_000 - settings.dropout / 10 + (seed * 7 % 5) / 1000
    accuracy += (seed % 3) / 1000 if settings.jitter else 0
    return {"train_loss": 0.9 - accuracy, "test_loss": 1 - accuracy, "test_accuracy": accuracy}
