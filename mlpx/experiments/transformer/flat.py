"""All weights in one tensor, so that the optimizer, gradient clipping and averaging are one kernel each."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Flat:
    """``weights`` (P,) holds the values of ``parameters`` end to end, in this order; the parameters become its views.

    ``gradient`` (P,), which is ``weights.grad``, gets their gradients by :meth:`gather_gradients`.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.weights = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
        self.gradient = torch.zeros_like(self.weights)
        self.weights.grad = self.gradient
        self._parameters = parameters
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, weights in zip(parameters, self.weights.detach().split(sizes), strict=True):
            parameter.data = weights.view_as(parameter)

    def gather_gradients(self) -> None:
        """Move the gradients of the parameters into ``gradient``, and leave the parameters without.

        A parameter without a gradient lets autograd hand over the tensor that it computed, instead of adding it to
        zeros.
        """
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        torch.cat([gradient.flatten() for gradient in gradients], out=self.gradient)
        for parameter in self._parameters:
            parameter.grad = None

    def copy_(self, weights: Tensor) -> None:
        """Copy other ``weights`` (P,) into the parameters."""
        self.weights.detach().copy_(weights)
