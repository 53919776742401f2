"""Random numbers that are a pure function of the seed: a generator for each purpose, and the order of an epoch."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def generator(seed: int, purpose: str, number: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for each (seed, purpose, number), where the number may be an epoch's or a step's."""
    return torch.Generator(device).manual_seed(_key(seed, purpose, number))


def orders(count: int, seeds: Sequence[int], epoch: int) -> Tensor:
    """The orders (R, count) in which ``epoch`` takes the examples: one permutation for each seed, on the CPU."""
    permutations = torch.empty(len(seeds), count, dtype=torch.int64)
    # One generator serves all seeds, because making one takes as long as all the rest.
    source = torch.Generator()
    for seed, row in zip(seeds, permutations, strict=True):
        torch.randperm(count, generator=source.manual_seed(_key(seed, "order", epoch)), out=row)
    return permutations


def _key(seed: int, purpose: str, number: int) -> int:
    digest = hashlib.blake2b(f"{seed} {purpose} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
