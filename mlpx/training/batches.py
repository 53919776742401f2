"""Batches of a training set that lives on the device, in an order that is a pure function of (seed, epoch)."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def generator(seed: int, purpose: str, number: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for each (seed, purpose, number), such as an epoch's or a step's."""
    digest = hashlib.blake2b(f"{seed} {purpose} {number}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def order(count: int, seed: int, epoch: int) -> Tensor:
    """The order (count,) in which ``epoch`` takes the examples: a permutation, on the CPU."""
    return torch.randperm(count, generator=generator(seed, "order", epoch))


class Batches:
    """R training sets side by side, each put in the order of an epoch and cut into the same batches.

    The reordered set is one buffer, and the batches are views of it that are made once, so an epoch costs one gather.

    Shapes: ``features`` (R, N, D), ``targets`` (R, N, 1); ``seeds`` holds R seeds. A batch larger than N is all N.
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
        """Batches an epoch."""
        return len(self._views)

    def of_epoch(self, epoch: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The batches (X, Xᵀ, y) of ``epoch``, X (R, B, D), y (R, B, 1): the caller's to overwrite until the next."""
        orders = [order(self._count, seed, epoch) for seed in self._seeds]
        index = torch.stack(orders).add_(self._first_rows).flatten()  # (R·N,) rows of the flattened sets
        index = index.to(self._features.device, non_blocking=True)
        torch.index_select(self._features, 0, index, out=self._ordered_features)
        torch.index_select(self._targets, 0, index, out=self._ordered_targets)
        return self._views
