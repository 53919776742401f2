"""The cross-entropy of the output layer, with label smoothing, computed in slices of rows.

No buffer ever holds the logits of all rows. Label smoothing (Szegedy et al., 2016, section 7): the target word has
probability 1 - ε, and ε is spread evenly over all V words.

Shapes: N target words, D numbers in a hidden state, V words.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlpx.training import devices

SLICE = 2_500_000
"""Logits computed at once on a CPU: as many as fit into its cache."""

SLICES_MULTIPLIED_AT_ONCE = 4
"""On a CPU in bfloat16, the gradients of so many slices meet in one product, since adding it to the sum takes long."""

ROWS_OF_SLICE = 16
"""On a CPU in bfloat16, a slice has a multiple of so many rows, for the reason of :data:`linear.ROWS`."""

ACCELERATED_SLICE = 300_000_000
"""The same on a GPU, where each slice costs some fifteen launches: about two gigabytes in single precision."""


def slice_of(device: torch.device) -> int:
    """The number of logits that are computed at once."""
    return ACCELERATED_SLICE if devices.is_accelerator(device) else SLICE


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
    of_words = torch.empty_like(hidden[:, :1])
    rows = max(1, slice_of(hidden.device) // len(weight))
    w = weight.to(products)
    for h, t, out in zip(hidden.split(rows), targets.split(rows), of_words.split(rows), strict=True):
        logits = torch.mm(h.to(products), w.t()).to(hidden.dtype)
        of_targets = logits.gather(1, t[:, None])
        largest = logits.amax(1, keepdim=True)
        torch.sub(largest, of_targets, out=out).add_(logits.sub_(largest).exp_().sum(1, keepdim=True).log_())
    return of_words[:, 0]


class _SlicedLoss(torch.autograd.Function):
    """∂loss/∂logits = softmax(logits) - (1 - ε) 1[target] - ε / V, multiplied by hidden and weight slice by slice.

    softmax(logits) is e / Σ e with e = exp(logits - largest logit). A slice multiplies e alone: the division by Σ e is
    left to the rows of the products, which are much shorter. The share ε / V is the same for all logits, so its
    products are a mean of the weights and a sum of the hidden states.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float, products: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        vocab_size, count = len(weight), len(hidden)
        rows, num_slices = _slices(hidden, vocab_size, products)
        # Rows of zeros fill up the last slice. They add nothing to the products.
        h, w = hidden.new_zeros(rows * num_slices, hidden.shape[1], dtype=products), weight.to(products)
        h[:count] = hidden
        target = targets.new_zeros(len(h), 1)
        target[:count, 0] = targets
        is_mixed = products != hidden.dtype
        at_once = 1 if devices.is_accelerator(hidden.device) or not is_mixed else SLICES_MULTIPLIED_AT_ONCE
        # All slices share these buffers, because allocating new ones costs more time than the arithmetic.
        buffer = h.new_empty(min(at_once, num_slices) * rows, vocab_size)
        e = hidden.new_empty(rows, vocab_size) if is_mixed else buffer
        largest, of_targets, sums = hidden.new_empty(3, len(h), 1)
        by_hidden = hidden.new_empty(len(h), hidden.shape[1])
        by_weight = (hidden.sum(0) * (-smoothing / vocab_size)).expand_as(weight).contiguous()
        for first in range(0, len(h), at_once * rows):
            together = slice(first, first + at_once * rows)
            g = buffer[: len(h[together])]
            for product, place in zip(g.split(rows), range(first, len(h), rows), strict=False):
                part = slice(place, place + rows)
                torch.mm(h[part], w.t(), out=product)
                if is_mixed:
                    e.copy_(product)
                torch.amax(e, 1, keepdim=True, out=largest[part])
                torch.gather(e, 1, target[part], out=of_targets[part])
                torch.sum(e.sub_(largest[part]).exp_(), 1, keepdim=True, out=sums[part])
                e.scatter_add_(1, target[part], sums[part] * (smoothing - 1))
                if is_mixed:
                    product.copy_(e)
            torch.div(torch.mm(g, w), sums[together], out=by_hidden[together])
            _add_product(by_weight, g.t(), (h[together] / sums[together]).to(products))
        mean_weight = weight.mean(0)
        by_hidden = by_hidden[:count].sub_(mean_weight * smoothing)
        ctx.save_for_backward(by_hidden, by_weight)
        log_sums, of_targets = (largest + sums.log_())[:count], of_targets[:count]
        plain = (log_sums - of_targets).sum(dtype=torch.float64)
        even = (log_sums[:, 0] - torch.mv(hidden, mean_weight)).sum(dtype=torch.float64)
        ctx.mark_non_differentiable(plain)
        return (1 - smoothing) * plain + smoothing * even, plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        by_hidden, by_weight = ctx.saved_tensors
        scale = gradient.to(by_hidden.dtype)
        return by_hidden * scale, by_weight * scale, None, None, None


def _slices(hidden: Tensor, vocab_size: int, products: torch.dtype) -> tuple[int, int]:
    """The rows of a slice, and the number of slices, all of which have as many rows."""
    most = max(1, slice_of(hidden.device) // vocab_size)
    num_slices = -(-len(hidden) // most)
    rows = -(-len(hidden) // num_slices)
    if products == torch.bfloat16 and not devices.is_accelerator(hidden.device):
        rows = -(-rows // ROWS_OF_SLICE) * ROWS_OF_SLICE
    return rows, -(-len(hidden) // rows)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the product of two matrices, rounded to their type, to ``total``."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total.add_(torch.mm(left, right))
