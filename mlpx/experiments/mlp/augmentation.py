"""Data augmentation: images shifted and mirrored at random, on the device, ever less as a training goes on."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mlpx.training.randomness import generator


class Augmentation:
    """Shifts images by up to ``jitter`` pixels and, with ``flip``, mirrors half of them.

    A move is three numbers, int64: pixels down, pixels to the right, and whether the image is mirrored.

    Shapes: R replicas, N images of H × W pixels, B images of a batch.
    """

    def __init__(self, images: Tensor, jitter: int, *, flip: bool) -> None:
        """``images`` are (N, H, W)."""
        self._jitter = jitter
        self._flip = flip
        padded = functional.pad(images, (jitter,) * 4)
        # (N, 2 jitter + 1, 2 jitter + 1, H, W): a view of each shift of each image, which copies nothing.
        self._shifted = padded.unfold(1, images.shape[1], 1).unfold(2, images.shape[2], 1)

    def draw(self, count: int, seeds: Sequence[int], epoch: int, strength: float) -> Tensor:
        """Moves (R, count, 3) for ``epoch``, a pure function of (seed, epoch, strength), on the CPU.

        At strength 1, all whole numbers of pixels within reach are equally likely, and half of the images are mirrored;
        at strength 0 nothing moves.
        """
        drawn = torch.stack([torch.rand(count, 3, generator=generator(seed, "moves", epoch)) for seed in seeds])
        jitter = self._jitter
        shifts = (2 * drawn[..., :2] - 1).mul_(jitter * strength + 0.5).round_().clamp_(-jitter, jitter)
        mirrored = drawn[..., 2:] < 0.5 * strength * self._flip
        return torch.cat([shifts, mirrored], dim=2).long()

    def apply(self, rows: Tensor, moves: Tensor) -> Tensor:
        """Images ``rows`` (R, B) after ``moves`` (R, B, 3): (R, B, H, W)."""
        down, right, mirrored = moves.unbind(2)
        shifted = self._shifted[rows, self._jitter - down, self._jitter - right]
        return torch.where(mirrored.bool()[..., None, None], shifted.flip(3), shifted) if self._flip else shifted
