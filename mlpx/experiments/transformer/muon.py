"""Muon, the optimizer for the weight matrices of hidden layers, for many matrices at once.

``torch.optim.Muon`` takes one matrix after the other, which is some twenty operations for each. The Transformer's
matrices have few shapes, so here all of one shape are taken together.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ITERATIONS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)  # of Newton-Schulz: Jordan et al. (2024)
EPS = 1e-7
RMS = 0.2  # of a step at learning rate 1, as Adam's steps have it: Liu et al. (2025), section 2.2


def in_order(matrices: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """The matrices sorted by shape, as :class:`Muon` wants them."""
    return sorted(matrices, key=lambda matrix: tuple(matrix.shape))


class Muon:
    """Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon) with Nesterov momentum, as in torch.

    The momentum of each matrix is replaced by a matrix whose singular values are about 1, by five Newton-Schulz
    iterations. A step is as long as one of Adam at the same learning rate (Liu et al., 2025,
    https://arxiv.org/abs/2502.16982, section 2.2). Weight decay is decoupled: the weights shrink by the learning rate
    times the decay.

    Args:
        shapes: The shapes of the matrices, equal ones next to each other.
        weights: The matrices end to end, (P,), which a step changes in place.
        gradient: Their gradients, (P,).
        weight_decay: The factor of weight decay.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], weights: Tensor, gradient: Tensor, weight_decay: float
    ) -> None:
        self._weights, self._gradient, self._weight_decay = weights, gradient, weight_decay
        self.momentum = torch.zeros_like(gradient)
        self._groups = [(len(list(group)), *shape) for shape, group in itertools.groupby(shapes)]
        self._sizes = [math.prod(group) for group in self._groups]

    def step(self, lr: float) -> None:
        """Take one step with the learning rate ``lr``."""
        self.momentum.lerp_(self._gradient, 1 - MOMENTUM)
        updates = self._gradient.lerp(self.momentum, MOMENTUM)
        self._weights.mul_(1 - lr * self._weight_decay)
        parts = (x.split(self._sizes) for x in (self._weights, updates))
        for group, weights, update in zip(self._groups, *parts, strict=True):
            step = orthogonalized(update.view(group))
            weights.view(group).add_(step, alpha=-lr * RMS * math.sqrt(max(group[1:])))


def orthogonalized(matrices: Tensor) -> Tensor:
    """Matrices (G, m, n) with the same singular vectors as ``matrices``, and singular values of about 1; in bfloat16.

    A Newton-Schulz iteration is X ← a X + (b X Xᵀ + c (X Xᵀ)²) X.
    """
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:
        x = x.mT
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=EPS)
    for _ in range(ITERATIONS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
