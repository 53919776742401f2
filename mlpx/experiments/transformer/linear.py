"""Linear layers in mixed precision (Micikevicius et al., 2018, https://arxiv.org/abs/1710.03740)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlpx.training import devices

ROWS = 128
"""To a multiple of so many rows, a CPU's products in bfloat16 are filled up.

For each new shape, oneDNN makes a kernel, which takes milliseconds, as long as a product of a small Transformer, and
keeps it. The number of words differs from step to step; rounded up, there are few numbers.
"""


def missing_rows(x: Tensor, products: torch.dtype) -> int:
    """How many rows x (N, …) lacks for a product in the type ``products``."""
    return -len(x) % ROWS if products == torch.bfloat16 and not devices.is_accelerator(x.device) else 0


class Linear(nn.Linear):
    """y = x Wᵀ + b in mixed precision: x, W and b are rounded to the type ``products``, which y has too.

    The weights themselves keep their type. Where many calls share them, :class:`RoundedWeights` rounds them once.
    """

    products = torch.float32
    rounded: tuple[Tensor, Tensor] | None = None

    def operands(self) -> tuple[Tensor, Tensor]:
        """W and b in the type of the products."""
        return self.rounded or (self.weight.to(self.products), self.bias.to(self.products))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in) to (N, out)."""
        # In training, the model sees to the number of rows. In decoding, they are few, and cheap to copy.
        missing = 0 if torch.is_grad_enabled() else missing_rows(x, self.products)
        x = x.to(self.products)
        if not missing:
            return functional.linear(x, *self.operands())
        return functional.linear(functional.pad(x, (0, 0, 0, missing)), *self.operands())[:-missing]


class RoundedWeights:
    """The weights of some layers, rounded once, all together; these layers compute with them inside ``with`` blocks.

    Gradients pass through the rounding. Layers whose weights are rounded already, by an outer block, are left alone.
    """

    def __init__(self, linears: Sequence[Linear]) -> None:
        self._linears = [x for x in linears if x.rounded is None and x.products != x.weight.dtype]
        self._rounded: list[tuple[Tensor, Tensor]] = []
        if self._linears:
            parameters = [parameter for linear in self._linears for parameter in (linear.weight, linear.bias)]
            together = torch.cat([parameter.flatten() for parameter in parameters]).to(self._linears[0].products)
            parts = iter(together.split([parameter.numel() for parameter in parameters]))
            self._rounded = [(next(parts).view_as(linear.weight), next(parts)) for linear in self._linears]

    def __enter__(self) -> None:
        for linear, rounded in zip(self._linears, self._rounded, strict=True):
            linear.rounded = rounded

    def __exit__(self, *_: object) -> None:
        for linear in self._linears:
            linear.rounded = None
