"""Weights end to end in one tensor, so that optimizer, clipping and averaging are one kernel each."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Flat:
    """``weights`` (P,), a parameter for an optimizer, of which ``parameters``, in this order, are views from now on.

    Their gradients are views of ``weights.grad`` likewise: set that to zero, never to ``None``.
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
        """Take other weights (P,)."""
        self.weights.detach().copy_(weights)
