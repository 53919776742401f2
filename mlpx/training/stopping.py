"""The best row of a training, which is the one of the lowest validation loss, and early stopping after it."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mlpx.training.states import Value

VAL_LOSS = "val_loss"
"""The metric by which rows are better or worse: lower is better."""


class BestRow:
    """Copies of tensors as they stood at the best row so far; of equal rows, the first is the best.

    Only the rows that every run has are offered while a training goes on (:func:`mlpx.training.loop.is_on_grid`).
    Therefore how many of them came after the best one follows from its epoch, and nothing else has to be counted.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, eval_every: int, patience: int = 0) -> None:
        """Begin without a row.

        Args:
            tensors: The live tensors, which training changes in place, by the names of their copies in :meth:`state`.
            eval_every: Epochs between rows.
            patience: The number of rows without a better one after which the training ends early; 0 for never.
        """
        self.patience = patience
        self.epoch = 0
        """The epoch of the best row; 0 before there is one."""
        self.loss = math.inf
        self.copies = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
        self._live = dict(tensors)
        self._eval_every = eval_every

    def offer(self, epoch: int, loss: float) -> bool:
        """Copy the tensors if the row of ``epoch`` is better than the best so far, and say whether it is.

        A loss that is not finite is never better.
        """
        is_better = loss < self.loss
        if is_better:
            for name, tensor in self._live.items():
                self.copies[name].copy_(tensor)
            self.epoch, self.loss = epoch, loss
        return is_better

    def is_patience_over(self, epoch: int) -> bool:
        """Whether the training ends after ``epoch``, because ``patience`` rows in succession were not better."""
        # Rows lie at epoch 1 and at each multiple of eval_every.
        rows_since = epoch // self._eval_every - self.epoch // self._eval_every
        return 0 < self.patience <= rows_since

    def put_back(self) -> None:
        """Set the live tensors to what they were at the best row."""
        for name, tensor in self._live.items():
            tensor.copy_(self.copies[name])

    def state(self) -> dict[str, Value]:
        """All that :meth:`offer` changes, for a checkpoint."""
        return {**self.copies, "best_epoch": self.epoch, "best_loss": self.loss}

    def take_numbers(self, state: Mapping[str, Value]) -> None:
        """Take the numbers of a saved ``state``, whose tensors were restored in place."""
        self.epoch = int(state["best_epoch"])
        self.loss = float(state["best_loss"])
