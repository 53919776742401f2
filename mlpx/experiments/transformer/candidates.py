"""The weights among which a training chooses at its end: those of its best epoch, and the mean of its last epochs.

Shapes: P weights in all.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlpx.training.experiment import State


class Candidate(NamedTuple):
    """Weights (P,) that may be kept, what they are called, and their loss and quality on the validation set."""

    name: str
    loss: float
    quality: float
    weights: Tensor


class BestWeights:
    """The weights of the lowest validation loss among the epochs that were offered."""

    def __init__(self, like: Tensor) -> None:
        self._weights = torch.zeros_like(like)
        self._epoch = 0  # none was offered yet
        self._loss = math.inf
        self._quality = 0.0

    def offer(self, epoch: int, loss: float, quality: float, weights: Tensor) -> None:
        """Keep a copy of these ``weights`` (P,) if their validation ``loss`` is finite and the lowest so far."""
        if loss < self._loss:
            self._weights.copy_(weights)
            self._epoch, self._loss, self._quality = epoch, loss, quality

    def candidate(self) -> Candidate | None:
        """The best weights; ``None`` where none were kept."""
        if not self._epoch:
            return None
        return Candidate(f"epoch {self._epoch}", self._loss, self._quality, self._weights)

    def state(self) -> State:
        """All that :meth:`offer` changes."""
        return {
            "best": self._weights,
            "best_epoch": self._epoch,
            "best_loss": self._loss,
            "best_quality": self._quality,
        }

    def take_numbers(self, state: State) -> None:
        """Take the numbers of a saved ``state``, whose tensors were restored in place."""
        self._epoch = int(state["best_epoch"])
        self._loss = float(state["best_loss"])
        self._quality = float(state["best_quality"])


class MeanOfLastEpochs:
    """The mean of the weights as they stand at the ends of a training's last epochs.

    Args:
        like: The weights, (P,).
        epochs: The number of epochs of the training.
        last: Over how many of them the mean is taken; more than there are means all.
    """

    def __init__(self, like: Tensor, epochs: int, last: int) -> None:
        self._sum = torch.zeros_like(like)
        self._epochs_before = max(0, epochs - last)
        self.count = 0

    def add(self, epoch: int, weights: Tensor) -> None:
        """Add the ``weights`` (P,) at the end of ``epoch``, if it is one of the last and was not added before.

        A training that was stopped between the last step of an epoch and its row reaches the end of that epoch twice.
        """
        if epoch - self._epochs_before > self.count:
            self._sum += weights
            self.count += 1

    def mean(self) -> Tensor:
        """The mean, (P,)."""
        return self._sum / self.count

    def state(self) -> State:
        """All that :meth:`add` changes."""
        return {"sum": self._sum, "num_summed": self.count}

    def take_numbers(self, state: State) -> None:
        """Take the numbers of a saved ``state``, whose tensors were restored in place."""
        self.count = int(state["num_summed"])
