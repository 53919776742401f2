"""How weights follow their gradient: Adam, and for the matrices of hidden layers Muon where it is asked for."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlpx.training.flat import Flat

BETAS, EPS = (0.9, 0.98), 1e-9  # of Adam: Vaswani et al. (2017), section 5.3


class Optimizer:
    """Adam (Kingma and Ba, 2015) on the weights of ``flat``, but for the ``matrices`` that it ends with.

    Those are Muon's (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon): Nesterov momentum, its singular
    values then made about 1 by five Newton-Schulz iterations. A step is as long as one of Adam's of the same learning
    rate, root mean square .2 (Liu et al., 2025, https://arxiv.org/abs/2502.16982, section 2.2). Weight decay joins the
    gradient in Adam, as L2 regularisation does; in Muon it shrinks the weights by themselves.
    """

    def __init__(self, flat: Flat, matrices: Sequence[nn.Parameter], weight_decay: float) -> None:
        sizes = [matrix.numel() for matrix in matrices]
        rest = len(flat.gradient) - sum(sizes)
        others = nn.Parameter(flat.weights.detach()[:rest])
        others.grad = flat.gradient[:rest]
        self.state: dict[str, Tensor] = {  # all that it remembers, to be saved and, in place, restored
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
        """Move all weights, at learning rate ``lr``."""
        for optimizer in self._optimizers:
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
