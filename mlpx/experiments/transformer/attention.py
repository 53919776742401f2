"""Attention, as in "Attention Is All You Need" (Vaswani et al., 2017), section 3.2.

A batch consists of a few rectangles, each of sentences of similar lengths. Their words lie end to end in one tensor, so
that every layer but attention itself treats them as one long row of words, of which few are padding.

Shapes: B sentences, H heads, T queries, S keys, D = d_model, K = D / H; N = Σ B·T queries and M = Σ B·S keys in all.
Queries, keys and values of many words are called projections. They lie side by side, each of D numbers: in
self-attention, all three in one tensor, (N, 3D); in cross-attention, queries (N, D), and keys and values (M, 2D).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mlpx.experiments.transformer.linear import Linear
from mlpx.training import devices

MASK_WIDTH = 16  # numbers to which the fused kernels of a GPU want the rows of an attention mask aligned


class Layout(NamedTuple):
    """Which query may attend to which key: a rectangle (B, T) of queries, one (B, S) of keys and a bias each.

    Rows behind the last rectangle belong to no sentence, and attention gives zeros for them.

    A bias is an attention mask to be added to the scores, broadcastable to (B, H, T, S): 0 where a query may attend to
    a key, -inf where it may not. Each query may attend to at least one key.
    """

    queries: Sequence[tuple[int, int]]
    keys: Sequence[tuple[int, int]]
    biases: Sequence[Tensor]

    def for_products(self, products: torch.dtype) -> "Layout":
        """The same; on an accelerator with biases as its fused kernels want them, made once for all blocks."""
        return self._replace(
            biases=[_aligned(bias, products) if devices.is_accelerator(bias.device) else bias for bias in self.biases]
        )


def _aligned(bias: Tensor, products: torch.dtype) -> Tensor:
    width = bias.shape[-1]
    rows = bias.new_empty(*bias.shape[:-1], -(-width // MASK_WIDTH) * MASK_WIDTH, dtype=products)
    return rows[..., :width].copy_(bias)


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Scaled dot-product attention, equation 1: softmax(q kᵀ / √K + bias) v.

    ``q`` (B, H, T, K), ``k`` and ``v`` (B, H, S, K), ``bias`` broadcastable to (B, H, T, S). Gives (B, H, T, K).
    """
    return torch.matmul(attention_weights(q, k, bias).to(v.dtype), v)


def attention_weights(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """The attention weights softmax(q kᵀ / √K + bias), of shapes as in :func:`attention`: (B, H, T, S)."""
    scores = torch.matmul(q, k.transpose(-2, -1)).to(bias.dtype)
    torch.add(bias, scores, alpha=q.shape[-1] ** -0.5, out=scores)
    # The softmax is written out, because torch.softmax takes ten times as long on rows this short.
    scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    return scores.div_(scores.sum(-1, keepdim=True))


class MultiHeadAttention(nn.Module):
    """Section 3.2.2: H attentions side by side, each on a projection of its own to K numbers."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(d_model, d_model)
        self.key_value = Linear(d_model, 2 * d_model)
        self.out = Linear(d_model, d_model)

    def forward(self, x: Tensor, memory: Tensor, layout: Layout) -> Tensor:
        """Attention of the queries x (N, D) to the keys and values of ``memory`` (M, D): (N, D)."""
        attend = _fused_attention if devices.is_accelerator(x.device) else _plain_attention
        return self.out(attend(self.num_heads, layout, self._projections(x, memory)))  # type: ignore[no-any-return]

    def _projections(self, x: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        if x is not memory:
            return self.query(x), self.key_value(memory)
        weights, biases = zip(self.query.operands(), self.key_value.operands(), strict=True)
        return (functional.linear(x.to(self.query.products), torch.cat(weights), torch.cat(biases)),)

    def weights(self, x: Tensor, memory: Tensor, layout: Layout) -> Tensor:
        """The attention weights of :meth:`forward` in the first rectangle: (B, H, T, S)."""
        (q,), (k, _) = next(_rectangles(self.num_heads, layout, (self.query(x), self.key_value(memory))))
        return attention_weights(q, k, layout.biases[0])

    def keys_values(self, memory: Tensor) -> Tensor:
        """The keys, then the values, of B sentences, to be kept in a cache: (B, S, D) to (2, B, H, S, K)."""
        views = split_heads(self.key_value(memory.flatten(0, 1)), memory.shape[:2], 2, self.num_heads)
        return _contiguous(views, self.query.weight.dtype)

    def attend(self, x: Tensor, keys_values: Tensor, bias: Tensor) -> Tensor:
        """Attention of x (B, T, D) to cached ``keys_values`` (2, B, H, S, K): (B, T, D). Has no gradient."""
        batch, length, _ = x.shape
        (q,) = split_heads(self.query(x.flatten(0, 1)), (batch, length), 1, self.num_heads)
        k, v = keys_values
        heads = attention(q.to(k.dtype), k, v, bias)
        return self.out(heads.transpose(1, 2).reshape(batch * length, -1)).view_as(x)  # type: ignore[no-any-return]


def split_heads(x: Tensor, rectangle: Sequence[int], parts: int, num_heads: int) -> Tensor:
    """View x (B·T, P·D), P projections of a ``rectangle`` (B, T) of words, as (P, B, H, T, K); P is ``parts``."""
    return x.view(*rectangle, parts, num_heads, -1).permute(2, 0, 3, 1, 4)


def _rectangles(num_heads: int, layout: Layout, projections: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """For each rectangle, a view of each of ``projections`` as :func:`split_heads` gives it."""
    sides = [(projections[0], 3, layout.queries)]
    if len(projections) == 2:
        sides = [(projections[0], 1, layout.queries), (projections[1], 2, layout.keys)]
    cuts = [_cut(x, rectangles) for x, _, rectangles in sides]
    for number, rows in enumerate(zip(*cuts, strict=True)):
        yield [
            split_heads(part, rectangles[number], parts, num_heads)
            for part, (_, parts, rectangles) in zip(rows, sides, strict=True)
        ]


def _cut(x: Tensor, rectangles: Sequence[tuple[int, int]]) -> Sequence[Tensor]:
    """The rows of each rectangle."""
    sizes = [batch * length for batch, length in rectangles]
    parts: Sequence[Tensor] = x[: sum(sizes)].split(sizes)
    return parts


def _empty(like: Tensor, shape: Sequence[int], rectangles: Sequence[tuple[int, int]]) -> Tensor:
    """Room for the rows of all rectangles, and zeros behind them."""
    room = like.new_empty(*shape)
    used = sum(batch * length for batch, length in rectangles)
    if used < len(room):
        room[used:].zero_()
    return room


def _outputs(num_heads: int, layout: Layout, output: Tensor) -> Iterator[Tensor]:
    """For each rectangle, the rows of an output of attention (N, D), or of its gradient, as a view (B, H, T, K)."""
    for rows, rectangle in zip(_cut(output, layout.queries), layout.queries, strict=True):
        yield split_heads(rows, rectangle, 1, num_heads)[0]


def _fused_attention(num_heads: int, layout: Layout, projections: Sequence[Tensor]) -> Tensor:
    """The heads' outputs (N, D), by the fused kernels of a GPU."""
    views = iter(_Views.apply(num_heads, layout, *projections))  # type: ignore[no-untyped-call]
    heads = [
        functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        for q, k, v, bias in zip(views, views, views, layout.biases, strict=True)
    ]
    return torch.cat([part.transpose(1, 2).flatten(0, 1) for part in heads]).flatten(1)


class _Views(torch.autograd.Function):
    """Queries, keys and values of each rectangle in turn, as views; autograd's own gradient would copy much more."""

    @staticmethod
    def forward(ctx: Any, num_heads: int, layout: Layout, *projections: Tensor) -> tuple[Tensor, ...]:
        ctx.num_heads, ctx.layout, ctx.shapes = num_heads, layout, [x.shape for x in projections]
        return tuple(x for views in _rectangles(num_heads, layout, projections) for view in views for x in view)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, *tuple[Tensor, ...]]:
        return None, None, *_gathered(ctx, gradients, like=gradients[0])


def _gathered(ctx: Any, gradients: Sequence[Tensor], like: Tensor) -> list[Tensor]:
    """The gradients of the projections from those of queries, keys and values of each rectangle in turn."""
    rectangles = (ctx.layout.queries, ctx.layout.keys)
    gathered = [_empty(like, shape, those) for shape, those in zip(ctx.shapes, rectangles, strict=False)]
    views = _rectangles(ctx.num_heads, ctx.layout, gathered)
    places = [place for rectangle in views for view in rectangle for place in view]
    for place, gradient in zip(places, gradients, strict=True):
        place.copy_(gradient)
    return gathered


def _plain_attention(num_heads: int, layout: Layout, projections: Sequence[Tensor]) -> Tensor:
    """The heads' outputs (N, D), by plain products."""
    heads: Tensor = _PlainProducts.apply(num_heads, layout, *projections)  # type: ignore[no-untyped-call]
    return heads


class _PlainProducts(torch.autograd.Function):
    """Attention and its gradient as plain products, on a CPU far faster than the fused kernel for short sentences.

    With w the attention weights and g the gradient by the output: ∂v = wᵀ g; by the scores s = q kᵀ / √K it is
    ∂s = w (g vᵀ - Σ w g vᵀ), so ∂q = ∂s k / √K and ∂k = ∂sᵀ q / √K. All of it is computed in the biases' type: products
    as small as these are no faster in bfloat16, for which oneDNN would besides compile a kernel for each new shape.
    """

    @staticmethod
    def forward(ctx: Any, num_heads: int, layout: Layout, *projections: Tensor) -> Tensor:
        width = projections[0].shape[1] // (3 if len(projections) == 1 else 1)
        output = _empty(projections[0], (len(projections[0]), width), layout.queries)
        saved = []
        parts = zip(_rectangles(num_heads, layout, projections), _outputs(num_heads, layout, output), strict=True)
        for (views, out), bias in zip(parts, layout.biases, strict=True):
            q, k, v = (x for view in views for x in _contiguous(view, bias.dtype))
            weights = attention_weights(q, k, bias)
            out.copy_(torch.matmul(weights, v))
            saved += [q, k, v, weights]
        ctx.save_for_backward(*saved)
        ctx.layout, ctx.num_heads, ctx.shapes = layout, num_heads, [x.shape for x in projections]
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, *tuple[Tensor, ...]]:
        saved = [ctx.saved_tensors[i : i + 4] for i in range(0, len(ctx.saved_tensors), 4)]
        gradients = []
        for (q, k, v, weights), view in zip(saved, _outputs(ctx.num_heads, ctx.layout, gradient), strict=True):
            g = _contiguous(view, weights.dtype)
            by_v = torch.matmul(weights.transpose(-2, -1), g)
            by_scores = torch.matmul(g, v.transpose(-2, -1)).mul_(weights)
            by_scores.addcmul_(weights, by_scores.sum(-1, keepdim=True), value=-1).mul_(q.shape[-1] ** -0.5)
            gradients += [torch.matmul(by_scores, k), torch.matmul(by_scores.transpose(-2, -1), q), by_v]
        return None, None, *_gathered(ctx, gradients, like=gradient)


def _contiguous(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous copy of x in the type ``dtype``."""
    return torch.empty(x.shape, dtype=dtype, device=x.device).copy_(x)
