"""Batches of a training set that lives on the device, in an order that is a pure function of (seed, epoch)."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def generator(seed: int, purpose: str, number: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for each (seed, purpose, number), such as an epoch's or a step's."""
    return torch.Generator(device).manual_seed(_key(seed, purpose, number))


def _key(seed: int, purpose: str, number: int) -> int:
    digest = hashlib.blake2b(f"{seed} {purpose} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def orders(count: int, seeds: Sequence[int], epoch: int) -> Tensor:
    """The orders (R, count) in which ``epoch`` takes the examples, a permutation for each seed, on the CPU."""
    found = torch.empty(len(seeds), count, dtype=torch.int64)
    source = torch.Generator()  # one for all: making it takes as long as all the rest
    for seed, row in zip(seeds, found, strict=True):
        torch.randperm(count, generator=source.manual_seed(_key(seed, "order", epoch)), out=row)
    return found


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
        index = orders(self._count, self._seeds, epoch).add_(self._first_rows).flatten()  # (R·N,) of the flat sets
        index = index.to(self._features.device, non_blocking=True)
        torch.index_select(self._features, 0, index, out=self._ordered_features)
        torch.index_select(self._targets, 0, index, out=self._ordered_targets)
        return self._views
