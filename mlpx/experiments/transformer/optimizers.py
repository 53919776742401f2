"""The optimizers: Adam, and Muon for the matrices of hidden layers where it is asked for."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlpx.experiments.transformer.flat import Flat

BETAS, EPS = (0.9, 0.98), 1e-9  # of Adam: Vaswani et al. (2017), section 5.3


class Optimizer:
    """Adam (Kingma and Ba, 2015) for all weights of ``flat`` but ``matrices``, which Muon trains.

    Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon) takes the Nesterov momentum of each matrix and
    makes its singular values about 1 by five Newton-Schulz iterations. Its steps are scaled to be as long as those of
    Adam at the same learning rate, a root mean square of 0.2 (Liu et al., 2025, https://arxiv.org/abs/2502.16982,
    section 2.2). In Adam, weight decay is added to the gradient (L2 regularization); in Muon, it is decoupled: the
    weights shrink by the learning rate times the decay.

    Args:
        flat: All weights, those of ``matrices`` last.
        matrices: The weight matrices for Muon; empty where Adam trains all.
        weight_decay: The factor of the L2 penalty.
    """

    def __init__(self, flat: Flat, matrices: Sequence[nn.Parameter], weight_decay: float) -> None:
        sizes = [matrix.numel() for matrix in matrices]
        rest = len(flat.gradient) - sum(sizes)
        others = nn.Parameter(flat.weights.detach()[:rest])
        others.grad = flat.gradient[:rest]
        # The live tensors of both optimizers, to be saved, and to be restored in place.
        self.state: dict[str, Tensor] = {
            "step": torch.zeros((), device=flat.gradient.device),
            "exp_avg": torch.zeros_like(others.grad),
            "exp_avg_sq": torch.zeros_like(others.grad),
        }
        adam = torch.optim.Adam([others], betas=BETAS, eps=EPS, weight_decay=weight_decay, fused=True)
        adam.state[others] = dict(self.state)
        self._optimizers: list[torch.optim.Optimizer] = [adam]
        if matrices:
            self.state["momentum"] = momentum = torch.zeros_like(flat.gradient[rest:])
            muon = torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            for matrix, part in zip(matrices, momentum.split(sizes), strict=True):
                muon.state[matrix]["momentum_buffer"] = part.view_as(matrix)
            self._optimizers.append(muon)

    def step(self, lr: float) -> None:
        """Take one step with the learning rate ``lr``, by the gradient that ``flat`` holds."""
        for optimizer in self._optimizers:
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
