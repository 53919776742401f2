"""Images shifted and mirrored at random, on the device, ever less as a training goes on."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mlpx.training.batches import generator


class Jitter:
    """Images (N, H, W) that move by up to ``reach`` pixels and, with ``flip``, are mirrored half of the time.

    Moves are (…, 3), int64: pixels down, pixels to the right, and whether mirrored.
    """

    def __init__(self, images: Tensor, reach: int, *, flip: bool) -> None:
        self._reach = reach
        self._flip = flip
        padded = functional.pad(images, (reach,) * 4)
        # (N, 2 reach + 1, 2 reach + 1, H, W): each shift of each image, without copying any
        self._windows = padded.unfold(1, images.shape[1], 1).unfold(2, images.shape[2], 1)

    def draw(self, count: int, seeds: Sequence[int], epoch: int, strength: float) -> Tensor:
        """Moves (R, count, 3) for ``epoch``, a pure function of (seed, epoch, strength), on the CPU.

        At strength 1 each whole number of pixels within reach is as likely as any, and so is being mirrored or not; at
        0 nothing moves.
        """
        drawn = torch.stack([torch.rand(count, 3, generator=generator(seed, "moves", epoch)) for seed in seeds])
        reach = self._reach
        shifts = (2 * drawn[..., :2] - 1).mul_(reach * strength + 0.5).round_().clamp_(-reach, reach)
        mirrored = drawn[..., 2:] < 0.5 * strength * self._flip
        return torch.cat([shifts, mirrored], dim=2).long()

    def moved(self, rows: Tensor, moves: Tensor) -> Tensor:
        """Images ``rows`` (R, B) after ``moves`` (R, B, 3): (R, B, H, W)."""
        down, right, mirrored = moves.unbind(2)
        found = self._windows[rows, self._reach - down, self._reach - right]
        return torch.where(mirrored.bool()[..., None, None], found.flip(3), found) if self._flip else found
