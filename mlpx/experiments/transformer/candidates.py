"""The weights among which a training chooses at its end: those of its best epoch, and the mean of its last epochs.

Shapes: P weights in all.
"""

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
