"""The cross-entropy of the output layer, with label smoothing, computed in slices of rows.

No buffer ever holds the logits of all rows. Label smoothing (Szegedy et al., 2016, section 7): the target word has
probability 1 - ε, and ε is spread evenly over all V words.

Shapes: N target words, D numbers in a hidden state, V words.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SLICE = 2_500_000  # logits computed at once: as many as fit into a processor's cache


def smoothed_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float, products: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The cross-entropy of the logits hidden · weightᵀ with label smoothing, and without it.

    Both are sums over rows, in nats, float64. The first is what
    ``cross_entropy(hidden @ weight.t(), targets, label_smoothing=smoothing, reduction="sum")`` gives, and has a
    gradient, which is computed in the same pass; the second has none.

    Args:
        hidden: Hidden states, (N, D).
        weight: The matrix of the output layer, (V, D).
        targets: The target words, (N,).
        smoothing: ε.
        products: The type to which the operands of matrix products are rounded.
    """
    apply: Any = _SlicedLoss.apply
    smoothed, plain = apply(hidden, weight, targets, smoothing, products)
    return smoothed, plain


def losses(hidden: Tensor, weight: Tensor, targets: Tensor, products: torch.dtype) -> Tensor:
    """The loss of each target word, -log softmax(hidden · weightᵀ)[target], in nats: (N,). Has no gradient.

    The arguments are those of :func:`smoothed_loss`.
    """
    of_words = torch.empty_like(hidden[:, 0])
    rows = max(1, SLICE // len(weight))
    w = weight.to(products)
    for h, t, out in zip(hidden.split(rows), targets.split(rows), of_words.split(rows), strict=True):
        logits = torch.mm(h.to(products), w.t()).to(hidden.dtype)
        out.copy_(logits.logsumexp(1) - logits.gather(1, t[:, None])[:, 0])
    return of_words


class _SlicedLoss(torch.autograd.Function):
    """∂loss/∂logits = softmax(logits) - (1 - ε) 1[target] - ε / V, multiplied by hidden and weight slice by slice."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float, products: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        rows, vocab_size = min(max(1, SLICE // len(weight)), len(hidden)), len(weight)
        by_hidden, by_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        h, w = hidden.to(products), weight.to(products)
        # All slices share these buffers, because allocating new ones costs more time than the arithmetic.
        product = hidden.new_empty(rows, vocab_size, dtype=products)
        logits, p = hidden.new_empty(2, rows, vocab_size)
        log_sums, target_logits = hidden.new_empty(2, len(hidden), 1)
        for first in range(0, len(hidden), rows):
            part = slice(first, first + rows)
            target = targets[part, None]
            product, logits, p = product[: len(target)], logits[: len(target)], p[: len(target)]
            logits.copy_(torch.mm(h[part], w.t(), out=product))
            torch.softmax(logits, dim=1, out=p)
            # log Σ exp(logits) is the largest logit minus the log of its probability, which is never near zero.
            log_sums[part] = logits.amax(1, keepdim=True) - p.amax(1, keepdim=True).log_()
            target_logits[part] = logits.gather(1, target)
            p.scatter_add_(1, target, p.new_full((1, 1), smoothing - 1).expand_as(target)).sub_(smoothing / vocab_size)
            g = product.copy_(p)
            by_hidden[part] = torch.mm(g, w)
            by_weight += torch.mm(g.t(), h[part])
        ctx.save_for_backward(by_hidden, by_weight)
        plain = (log_sums - target_logits).sum(dtype=torch.float64)
        mean_logits = torch.mv(hidden, weight.mean(0))
        even = (log_sums[:, 0] - mean_logits).sum(dtype=torch.float64)
        ctx.mark_non_differentiable(plain)
        return (1 - smoothing) * plain + smoothing * even, plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        by_hidden, by_weight = ctx.saved_tensors
        scale = gradient.to(by_hidden.dtype)
        return by_hidden * scale, by_weight * scale, None, None, None
