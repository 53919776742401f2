"""Dropout (Srivastava et al., 2014) by random bytes, a twentieth of the time of ``torch.nn.Dropout`` on a CPU."""

import math

import torch
from torch import Tensor, nn

LEVELS = 256  # of a random byte: the dropout probability is rounded to a multiple of 1/256


class Dropout(nn.Module):
    """Sets each number to zero with probability p, and scales the others by 1 / (1 - p).

    Its random numbers come from the generator that each call is given, and from nowhere else: a call without one is a
    call without dropout. Unlike ``torch.nn.Dropout`` it does not ask whether the model is in training mode.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self._dropped = round(p * LEVELS)
        self._scale = LEVELS / (LEVELS - self._dropped)

    def forward(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Dropout of x."""
        mask = self._mask(x, generator)
        return x if mask is None else x * mask.mul_(self._scale)

    def add(self, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """X + dropout(y), in one pass."""
        mask = self._mask(y, generator)
        return x + y if mask is None else torch.addcmul(x, y, mask, value=self._scale)

    def _mask(self, like: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """1 where a number stays, 0 where it goes; ``None`` where all stay."""
        if generator is None or not self._dropped:
            return None
        words = torch.empty(math.ceil(like.numel() / 8), dtype=torch.int64, device=like.device)
        words.random_(-(2**63), None, generator=generator)
        noise = words.view(torch.uint8)[: like.numel()].view(like.shape)
        # The comparison writes floats directly: a boolean mask that is converted afterwards is slower.
        return torch.ge(noise, self._dropped, out=torch.empty_like(like))
