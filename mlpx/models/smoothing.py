"""The output layer and its loss together, in slices of rows, so that no buffer holds every word's logit of all rows.

Label smoothing (Szegedy et al., 2016, section 7): the target word has probability 1 - ε, and ε is spread evenly over
all V words. Shapes: N rows, D = d_model, V words.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SLICE = 2_500_000  # logits at once: what fits into a processor's cache


def smoothed_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float, products: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits = hidden weightᵀ with the smoothed targets, and without smoothing, summed over rows.

    ``hidden`` (N, D), ``weight`` (V, D), ``targets`` (N,); nats, float64. The first has a gradient, which is computed
    at once. As ``cross_entropy(hidden @ weight.t(), targets, label_smoothing=smoothing, reduction="sum")``.
    """
    apply: Any = _SlicedLoss.apply
    smoothed, plain = apply(hidden, weight, targets, smoothing, products)
    return smoothed, plain


def losses(hidden: Tensor, weight: Tensor, targets: Tensor, products: torch.dtype) -> Tensor:
    """-log softmax(hidden weightᵀ)[target] in nats, of shapes as above: (N,). Has no gradient."""
    found = torch.empty_like(hidden[:, 0])
    rows = max(1, SLICE // len(weight))
    w = weight.to(products)
    for h, t, out in zip(hidden.split(rows), targets.split(rows), found.split(rows), strict=True):
        logits = torch.mm(h.to(products), w.t()).to(hidden.dtype)
        out.copy_(logits.logsumexp(1) - logits.gather(1, t[:, None])[:, 0])
    return found


class _SlicedLoss(torch.autograd.Function):
    """∂loss/∂logits = softmax(logits) - (1 - ε) 1[target] - ε / V, multiplied out slice by slice as it is found."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float, products: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        rows, vocab_size = min(max(1, SLICE // len(weight)), len(hidden)), len(weight)
        by_hidden, by_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        h, w = hidden.to(products), weight.to(products)
        product = hidden.new_empty(rows, vocab_size, dtype=products)  # buffers: fresh ones cost more than the work
        logits, p = hidden.new_empty(2, rows, vocab_size)
        log_sums, target_logits = hidden.new_empty(2, len(hidden), 1)
        for first in range(0, len(hidden), rows):
            part = slice(first, first + rows)
            target = targets[part, None]
            product, logits, p = product[: len(target)], logits[: len(target)], p[: len(target)]
            logits.copy_(torch.mm(h[part], w.t(), out=product))
            torch.softmax(logits, dim=1, out=p)
            # log Σ exp by the likeliest word, whose probability is never too small for its logarithm
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
