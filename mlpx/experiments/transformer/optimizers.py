"""The optimizers: Adam, and Muon for the matrices of hidden layers where it is asked for."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlpx.experiments.transformer.flat import Flat
from mlpx.experiments.transformer.muon import Muon

BETAS, EPS = (0.9, 0.98), 1e-9  # of Adam: Vaswani et al. (2017), section 5.3


class Optimizer:
    """Adam (Kingma and Ba, 2015) for all weights of ``flat`` but ``matrices``, which Muon trains.

    In Adam, weight decay is added to the gradient (L2 regularization); in Muon, it is decoupled.

    Args:
        flat: All weights, those of ``matrices`` last.
        matrices: The weight matrices for Muon, sorted by shape; empty where Adam trains all.
        weight_decay: The factor of weight decay.
    """

    def __init__(self, flat: Flat, matrices: Sequence[nn.Parameter], weight_decay: float) -> None:
        rest = len(flat.gradient) - sum(matrix.numel() for matrix in matrices)
        weights = flat.weights.detach()
        others = nn.Parameter(weights[:rest])
        others.grad = flat.gradient[:rest]
        # The live tensors of both optimizers, to be saved, and to be restored in place.
        self.state: dict[str, Tensor] = {
            "step": torch.zeros((), device=flat.gradient.device),
            "exp_avg": torch.zeros_like(others.grad),
            "exp_avg_sq": torch.zeros_like(others.grad),
        }
        self._adam = torch.optim.Adam([others], betas=BETAS, eps=EPS, weight_decay=weight_decay, fused=True)
        self._adam.state[others] = dict(self.state)
        self._muon: Muon | None = None
        if matrices:
            shapes = [(len(matrix), matrix.shape[1]) for matrix in matrices]
            self._muon = Muon(shapes, weights[rest:], flat.gradient[rest:], weight_decay)
            self.state["momentum"] = self._muon.momentum

    def step(self, lr: float) -> None:
        """Take one step with the learning rate ``lr``, by the gradient that ``flat`` holds."""
        self._adam.param_groups[0]["lr"] = lr
        self._adam.step()
        if self._muon:
            self._muon.step(lr)
