"""The training loss and the speed of an epoch."""

import time

import torch
from torch import Tensor

from mlpx.training.experiment import State


class EpochMeter:
    """The running average of the training loss over an epoch, and the target words trained on in a second.

    An epoch that was stopped in its middle has one loss, but only the words since then count for the speed.
    """

    def __init__(self, device: torch.device) -> None:
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._num_words = 0
        self._num_timed_words = 0
        self._began = 0.0

    def begin(self, num_words: int, num_words_before: int) -> None:
        """Begin an epoch of ``num_words`` target words, or go on after the first ``num_words_before`` of them."""
        if not num_words_before:
            self._loss_sum.zero_()
        self._num_words = num_words
        self._num_timed_words = num_words - num_words_before
        self._began = time.perf_counter()

    def add(self, loss: Tensor) -> None:
        """Add the ``loss`` of a step, summed over its target words."""
        self._loss_sum += loss

    def mean_loss(self) -> float:
        """The mean loss of the epoch's target words, each as it was when it was trained on."""
        return float(self._loss_sum) / self._num_words

    def words_per_second(self) -> float:
        """The speed from the beginning of the epoch until now."""
        return self._num_timed_words / (time.perf_counter() - self._began)

    def state(self) -> State:
        """What a training that goes on in the middle of an epoch has to know."""
        return {"loss_sum": self._loss_sum}
