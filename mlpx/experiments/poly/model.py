"""Linear regression without bias, R models side by side, and its SGD step written out.

Shapes: R replicas, N or B examples, D features; weight (R, D, 1), X (R, B, D), y (R, B, 1).
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def initial_weight(num_features: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Weights (R, D, 1), drawn from U(-1/√D, 1/√D) as ``torch.nn.Linear`` draws them, with one generator a replica."""
    bound = 1 / math.sqrt(num_features)
    return torch.stack([torch.empty(num_features, 1).uniform_(-bound, bound, generator=g) for g in generators])


def sgd_steps(weight: Tensor, batches: Iterable[tuple[Tensor, Tensor, Tensor]], lr: float, weight_decay: float) -> None:
    """Take a step of SGD on the mean squared error of each batch, in place.

    With the residual r = Xw - y, the gradient of mean(r²) is 2/B Xᵀr. These are two products, so no autograd is needed.
    Weight decay is added to the gradient as in ``torch.optim.SGD``: w ← w - lr (2/B Xᵀr + weight_decay w).

    Args:
        weight: The weights w, (R, D, 1).
        batches: X, Xᵀ and y of each batch; y is overwritten by the residual.
        lr: The learning rate.
        weight_decay: The L2 weight decay.
    """
    kept = 1 - lr * weight_decay
    for features, transposed, targets in batches:
        residual = targets.baddbmm_(features, weight, beta=-1)  # (R, B, 1)
        weight.baddbmm_(transposed, residual, beta=kept, alpha=-2 * lr / residual.shape[1])


def mean_squared_error(weight: Tensor, features: Tensor, targets: Tensor) -> Tensor:
    """The mean of (Xw - y)² over all N examples, summed in float64: (R,)."""
    residual = torch.baddbmm(targets, features, weight, beta=-1)  # (R, N, 1)
    return residual.double().square().sum((1, 2)) / residual.shape[1]
