"""Classifying image files by what a run learned."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from mlpx.cli import train
from mlpx.data import pictures
from mlpx.data.images import CLASSES
from mlpx.errors import UsageError, printable
from mlpx.experiments import classifier
from mlpx.runs import reading, weights
from mlpx.settings.mlp import MlpSettings
from mlpx.training import devices


def predict(run: Path, images: Sequence[Path], device: str, *, as_json: bool) -> None:
    """Print the likeliest class of each image and its probability, in order.

    Raises:
        InputError: an image, or the run, cannot be read; then nothing is printed.
        UsageError: the run is of another experiment.
    """
    train.collect_garbage()
    settings = reading.settings_of(run)
    if not isinstance(settings, MlpSettings):
        raise UsageError("predict", f"{run.name} is a run of {settings.experiment}", "Give a run of mlp.")
    learned = weights.read(run)
    read = torch.stack([pictures.read(path) for path in images])
    probabilities = classifier.classify(settings, learned, read, devices.choose(device))
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
