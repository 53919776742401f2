"""The perceptron of a run: made untrained, or with the weights that it learned, and asked what an image shows."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mlpx.errors import InputError
from mlpx.experiments.mlp.images import CLASSES
from mlpx.experiments.mlp.model import Mlp
from mlpx.experiments.mlp.settings import SIDE, MlpSettings
from mlpx.training.experiment import Learned
from mlpx.training.precision import DTYPES
from mlpx.training.randomness import generator
from mlpx.training.states import restore


def new_model(settings: MlpSettings, device: torch.device, *, batch_norm: bool) -> Mlp:
    """The untrained model."""
    return Mlp(
        [SIDE * SIDE, *settings.hidden, len(CLASSES[settings.dataset])],
        [generator(seed, "weights") for seed in settings.seeds],
        dropout=settings.dropout,
        batch_norm=batch_norm,
        products=DTYPES[settings.precision],
        device=device,
    )


def trained_model(settings: MlpSettings, weights: Mapping[str, Tensor], device: torch.device) -> Mlp:
    """The model with a run's weights, into which batch normalization was folded.

    Raises:
        InputError: The weights do not fit the settings.
    """
    model = new_model(settings, device, batch_norm=False)
    restore(model.parameters(), weights, "weights.safetensors", "Train the run anew.")
    return model


def inputs(pixels: Tensor) -> Tensor:
    """Pixels (…, 784), uint8, as numbers in [0, 1]."""
    return pixels.float().div_(255)


def classify(settings: MlpSettings, learned: Learned, pictures: Tensor, device: torch.device) -> Tensor:
    """The probability of each class for pictures (N, 28, 28), uint8, by a run's weights: (N, 10).

    The probabilities of several replicas are averaged, without those that have diverged.

    Raises:
        InputError: The weights do not fit the settings, or all replicas have diverged.
    """
    model = trained_model(settings, learned.weights, device)
    kept = [replica for replica in range(settings.replicas) if replica not in learned.diverged]
    if not kept:
        raise InputError("the run", "all its replicas have diverged", "Train it anew with a lower --lr.")
    return model.log_probabilities(inputs(pictures.flatten(1).to(device)))[kept].exp().mean(0).cpu()
