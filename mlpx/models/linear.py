"""Linear regression without bias, R models side by side, and its SGD step written out.

Shapes: R replicas, N or B examples, D features; weight (R, D, 1), X (R, B, D), y (R, B, 1).
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def initial_weight(num_features: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Weights (R, D, 1) drawn as ``torch.nn.Linear`` draws them, U(-1/√D, 1/√D), one generator a replica."""
    bound = 1 / math.sqrt(num_features)
    return torch.stack([torch.empty(num_features, 1).uniform_(-bound, bound, generator=g) for g in generators])


def sgd_steps(weight: Tensor, batches: Iterable[tuple[Tensor, Tensor, Tensor]], lr: float, weight_decay: float) -> None:
    """A step of SGD on the mean squared error of each batch (X, Xᵀ, y), in place; y is overwritten by the residual.

    With residual r = Xw - y the gradient of mean(r²) is 2/B Xᵀr, two products, so no autograd is needed. Weight decay
    joins the gradient as in ``torch.optim.SGD``: w ← w - lr (2/B Xᵀr + weight_decay w).
    """
    kept = 1 - lr * weight_decay
    for features, transposed, targets in batches:
        residual = targets.baddbmm_(features, weight, beta=-1)  # (R, B, 1)
        weight.baddbmm_(transposed, residual, beta=kept, alpha=-2 * lr / residual.shape[1])


def mean_squared_error(weight: Tensor, features: Tensor, targets: Tensor) -> Tensor:
    """Mean over all N examples of (Xw - y)², summed in float64: (R,)."""
    residual = torch.baddbmm(targets, features, weight, beta=-1)  # (R, N, 1)
    return residual.double().square().sum((1, 2)) / residual.shape[1]
