"""Batches of a training set that lives on the device, in an order that is a pure function of (seed, epoch)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mlpx.training.devices import uploaded
from mlpx.training.randomness import orders


class Batches:
    """The batches of R training sets side by side, each in its own order of the epoch.

    A training set in the order of the epoch fills one buffer. The batches are views of the buffer that are made once,
    so an epoch costs one gather.

    Args:
        features: (R, N, D).
        targets: (R, N, 1).
        seeds: R seeds, from which the orders follow.
        batch_size: The number B of examples of a batch; a batch larger than N is all N.
    """

    def __init__(self, features: Tensor, targets: Tensor, seeds: Sequence[int], batch_size: int) -> None:
        self._features = features.flatten(0, 1)  # (R·N, D)
        self._targets = targets.flatten(0, 1)  # (R·N, 1)
        self._seeds = seeds
        self._count = features.shape[1]
        self._first_rows = torch.arange(len(seeds))[:, None] * self._count  # (R, 1)
        self._ordered_features = torch.empty_like(self._features)
        self._ordered_targets = torch.empty_like(self._targets)
        self._views = [
            (x, x.mT, y)
            for x, y in zip(
                torch.split(self._ordered_features.view_as(features), batch_size, dim=1),
                torch.split(self._ordered_targets.view_as(targets), batch_size, dim=1),
                strict=True,
            )
        ]

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return len(self._views)

    def of_epoch(self, epoch: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The batches (X, Xᵀ, y) of ``epoch``, with X (R, B, D) and y (R, B, 1).

        The caller may overwrite them. They are valid until the next call.
        """
        index = orders(self._count, self._seeds, epoch).add_(self._first_rows).flatten()  # (R·N,) of the flat sets
        index = uploaded(index, self._features.device)
        torch.index_select(self._features, 0, index, out=self._ordered_features)
        torch.index_select(self._targets, 0, index, out=self._ordered_targets)
        return self._views
