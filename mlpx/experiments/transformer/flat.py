"""All weights in one tensor, so that the optimizer, gradient clipping and averaging are one kernel each."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Flat:
    """``weights`` (P,) holds the values of ``parameters`` end to end, in this order.

    The parameters become views of ``weights``, and their gradients views of ``gradient``, which is ``weights.grad``:
    set it to zero, never to ``None``.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.weights = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
        self.gradient = torch.zeros_like(self.weights)
        self.weights.grad = self.gradient
        sizes = [parameter.numel() for parameter in parameters]
        parts = zip(parameters, self.weights.detach().split(sizes), self.gradient.split(sizes), strict=True)
        for parameter, weights, gradient in parts:
            parameter.data = weights.view_as(parameter)
            parameter.grad = gradient.view_as(parameter)

    def copy_(self, weights: Tensor) -> None:
        """Copy other ``weights`` (P,) into the parameters."""
        self.weights.detach().copy_(weights)
