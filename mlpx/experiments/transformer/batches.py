"""Sequences of words on the device, and the batches of an epoch, each within a budget of tokens."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mlpx.training.randomness import generator

STRATA = 4


class Sentences:
    """N sequences of different lengths, stored end to end on the device; ``lengths`` (N,) is on the CPU."""

    def __init__(self, sequences: Sequence[Sequence[int]], device: torch.device) -> None:
        self.lengths = torch.tensor([len(sequence) for sequence in sequences], dtype=torch.int64)
        self._words = torch.tensor([word for sequence in sequences for word in sequence], device=device)
        self._starts = (self.lengths.cumsum(0) - self.lengths).to(device)
        self._sizes = self.lengths.to(device)

    def padded(self, rows: Tensor, pad: int) -> Tensor:
        """The sequences of ``rows`` (B,), each filled up by ``pad`` to the longest of them: (B, L) on the device.

        ``rows`` is on the CPU.
        """
        longest = int(self.lengths[rows].max())
        rows = rows.to(self._starts.device)
        places = torch.arange(longest, device=rows.device)
        index = (self._starts[rows, None] + places).clamp_(max=len(self._words) - 1)
        return self._words[index].masked_fill_(places >= self._sizes[rows, None], pad)


def token_batches(
    src: Tensor, tgt: Tensor, batch_tokens: int, batch_size: int, seed: int, epoch: int
) -> list[list[Tensor]]:
    """The batches of ``epoch``, one a step: each is a few rectangles, given as the rows of their pairs.

    The pairs of a rectangle have similar lengths, so that few of its words are padding. The rectangles of a step come
    from different strata of the lengths, so that every step has short pairs and long ones; steps of one length each
    would unlearn what the others learned. Which pairs meet, and in which order, is a pure function of (seed, epoch);
    the number of steps depends on neither. Both sides of a pair are treated alike.

    Args:
        src: The length of the source of each pair, (N,).
        tgt: The length of its target, (N,).
        batch_tokens: The most words of a step, padding included, on the side that has more of them; a step of a
            single pair may have more.
        batch_size: The most pairs of a step.
        seed: The seed of the run.
        epoch: The epoch, from 1.
    """
    source = generator(seed, "order", epoch)
    longer = torch.maximum(src, tgt)
    longest = int(longer.max())
    keys = longer * (longest + 1) + torch.minimum(src, tgt)
    rows = torch.randperm(len(src), generator=source)
    rows = rows[keys[rows].argsort(stable=True)]
    strata = max(1, min(STRATA, batch_size, batch_tokens // longest))
    rectangles = rows.split(_sizes(longer[rows].tolist(), batch_tokens // strata, batch_size // strata))
    num_steps = math.ceil(len(rectangles) / strata)
    drawn = [
        [
            rectangles[first + i]
            for i in torch.randperm(min(num_steps, len(rectangles) - first), generator=source).tolist()
        ]
        for first in range(0, len(rectangles), num_steps)
    ]
    steps = [[stratum[i] for stratum in drawn if i < len(stratum)] for i in range(num_steps)]
    return [steps[i] for i in torch.randperm(num_steps, generator=source).tolist()]


def _sizes(lengths: Sequence[int], tokens: int, count: int) -> list[int]:
    """How many pairs go into each rectangle of at most ``tokens`` words and ``count`` pairs; ``lengths`` ascend."""
    sizes, size = [], 0
    for length in lengths:
        # Each pair is the longest of its rectangle so far, so all others are padded to its length.
        if size and ((size + 1) * length > tokens or size == count):
            sizes.append(size)
            size = 0
        size += 1
    return [*sizes, size]
