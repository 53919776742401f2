"""Classifying image files by what a run learned. Imports torch, so it is imported late."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from mlpx.errors import UsageError, printable
from mlpx.experiments.mlp import pictures
from mlpx.experiments.mlp.classify import classify
from mlpx.experiments.mlp.images import CLASSES
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.runs import reading, weights
from mlpx.training import devices


def predict(run: Path, images: Sequence[Path], device: str, *, as_json: bool) -> None:
    """Print the likeliest class of each image and its probability, in order.

    Raises:
        InputError: An image, or the run, cannot be read; then nothing is printed.
        UsageError: The run is of another experiment.
    """
    settings = reading.settings_of(run)
    if not isinstance(settings, MlpSettings):
        raise UsageError("predict", f"{run.name} is a run of {settings.experiment}", "Give a run of mlp.")
    learned = weights.learned_of(run)
    pixels = torch.stack([pictures.read(path) for path in images])
    probabilities = classify(settings, learned, pixels, devices.choose(device))
    classes = CLASSES[settings.dataset]
    width = max(map(len, classes))
    for path, row in zip(images, probabilities.tolist(), strict=True):
        probability = max(row)
        name = classes[row.index(probability)]
        if as_json:
            about = {"event": "prediction", "image": str(path), "class": name, "probability": probability}
            print(json.dumps({**about, "probabilities": dict(zip(classes, row, strict=True))}), flush=True)
        else:
            print(f"{name:<{width}}  {probability:6.1%}  {printable(str(path))}", flush=True)
