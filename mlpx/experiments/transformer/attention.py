"""Attention, as in "Attention Is All You Need" (Vaswani et al., 2017), section 3.2.

A batch consists of a few rectangles, each of sentences of similar lengths. Their words lie end to end in one tensor, so
that every layer but attention itself treats them as one long row of words, of which few are padding.

Shapes: B sentences, H heads, T queries, S keys, D = d_model, K = D / H; N = Σ B·T queries and M = Σ B·S keys in all.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class Layout(NamedTuple):
    """Which query may attend to which key: a rectangle (B, T) of queries, one (B, S) of keys and a bias each.

    A bias is an attention mask to be added to the scores, broadcastable to (B, H, T, S): 0 where a query may attend to
    a key, -inf where it may not. Each query may attend to at least one key.
    """

    queries: Sequence[tuple[int, int]]
    keys: Sequence[tuple[int, int]]
    biases: Sequence[Tensor]


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Scaled dot-product attention, equation 1: softmax(q kᵀ / √K + bias) v.

    ``q`` (B, H, T, K), ``k`` and ``v`` (B, H, S, K), ``bias`` broadcastable to (B, H, T, S). Gives (B, H, T, K).
    """
    return torch.matmul(attention_weights(q, k, bias).to(v.dtype), v)


def attention_weights(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """The attention weights softmax(q kᵀ / √K + bias), of shapes as in :func:`attention`: (B, H, T, S)."""
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-2, -1)).to(bias.dtype).add_(bias)
    # The softmax is written out, because torch.softmax takes ten times as long on rows this short.
    scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    return scores.div_(scores.sum(-1, keepdim=True))


class Linear(nn.Linear):
    """y = x Wᵀ + b in mixed precision: x, W and b are rounded to the type ``products``, which y has too.

    The weights themselves keep their type.
    """

    products = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        x, weight, bias = (tensor.to(self.products) for tensor in (x, self.weight, self.bias))
        return functional.linear(x, weight, bias)


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
        q, kv = self.query(x), self.key_value(memory)
        if q.is_cuda:
            heads = _fused_attention(q, kv, self.num_heads, layout)
        else:
            heads = _PlainProducts.apply(q, kv, self.num_heads, layout)  # type: ignore[no-untyped-call]
        return self.out(heads)  # type: ignore[no-any-return]

    def weights(self, x: Tensor, memory: Tensor, layout: Layout) -> Tensor:
        """The attention weights of :meth:`forward` in the first rectangle: (B, H, T, S)."""
        (q,), (k, _), bias = next(_rectangles(self.query(x), self.key_value(memory), self.num_heads, layout))
        return attention_weights(q, k, bias)

    def keys_values(self, memory: Tensor) -> Tensor:
        """The keys, then the values, of B sentences, to be kept in a cache: (B, S, D) to (2, B, H, S, K)."""
        return split_heads(self.key_value(memory.flatten(0, 1)), memory.shape[:2], 2, self.num_heads)

    def attend(self, x: Tensor, keys_values: Tensor, bias: Tensor) -> Tensor:
        """Attention of x (B, T, D) to cached ``keys_values`` (2, B, H, S, K): (B, T, D). Has no gradient."""
        batch, length, _ = x.shape
        (q,) = split_heads(self.query(x.flatten(0, 1)), (batch, length), 1, self.num_heads)
        k, v = keys_values
        heads = attention(q, k, v, bias)
        return self.out(heads.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


def split_heads(x: Tensor, rectangle: Sequence[int], parts: int, num_heads: int) -> Tensor:
    """Split x (B·T, parts · D), whose rows form the ``rectangle`` (B, T), into (parts, B, H, T, K)."""
    return x.view(*rectangle, parts, num_heads, -1).permute(2, 0, 3, 1, 4).contiguous()


def _merge_heads(parts: Sequence[Tensor], into: Tensor) -> None:
    """The inverse of :func:`split_heads`: write tensors (B, H, T, K) into ``into`` (B·T, parts · D)."""
    batch, num_heads, length, _ = parts[0].shape
    places = into.view(batch, length, len(parts), num_heads, -1)
    for i, part in enumerate(parts):
        places[:, :, i].copy_(part.transpose(1, 2))


def _cut(x: Tensor, rectangles: Sequence[tuple[int, int]]) -> Sequence[Tensor]:
    """The rows of x (Σ B·T, …) that belong to each rectangle."""
    parts: Sequence[Tensor] = x.split([batch * length for batch, length in rectangles])
    return parts


def _rectangles(q: Tensor, kv: Tensor, num_heads: int, layout: Layout) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each rectangle: queries (1, B, H, T, K), keys and values (2, B, H, S, K), bias."""
    parts = zip(_cut(q, layout.queries), _cut(kv, layout.keys), layout.queries, layout.keys, strict=True)
    for (q_part, kv_part, queries, keys), bias in zip(parts, layout.biases, strict=True):
        yield split_heads(q_part, queries, 1, num_heads), split_heads(kv_part, keys, 2, num_heads), bias


def _fused_attention(q: Tensor, kv: Tensor, num_heads: int, layout: Layout) -> Tensor:
    """The heads' outputs of queries (N, D) and keys and values (M, 2D), by torch's fused GPU kernel: (N, D)."""
    heads = [
        functional.scaled_dot_product_attention(queries, k, v, attn_mask=bias.to(q.dtype)).transpose(1, 2).flatten(0, 1)
        for (queries,), (k, v), bias in _rectangles(q, kv, num_heads, layout)
    ]
    return torch.cat(heads).flatten(1)


class _PlainProducts(torch.autograd.Function):
    """The same with its gradient as plain products, on a CPU far faster than the fused kernel for short sentences.

    With w the attention weights and g the gradient by the output: ∂v = wᵀ g; by the scores s = q kᵀ / √K it is
    ∂s = w (g vᵀ - Σ w g vᵀ), so ∂q = ∂s k / √K and ∂k = ∂sᵀ q / √K.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, num_heads: int, layout: Layout) -> Tensor:
        output = torch.empty_like(q)
        saved = []
        parts = _rectangles(q, kv, num_heads, layout)
        for ((queries,), (k, v), bias), out in zip(parts, _cut(output, layout.queries), strict=True):
            weights = attention_weights(queries, k, bias).to(v.dtype)
            _merge_heads([torch.matmul(weights, v)], into=out)
            saved += [queries, k, v, weights]
        ctx.save_for_backward(*saved)
        ctx.layout, ctx.num_heads = layout, num_heads
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows = sum(batch * length for batch, length in ctx.layout.keys)
        by_q, by_kv = torch.empty_like(gradient), gradient.new_empty(rows, 2 * gradient.shape[1])
        saved = [ctx.saved_tensors[i : i + 4] for i in range(0, len(ctx.saved_tensors), 4)]
        cuts = (_cut(gradient, ctx.layout.queries), _cut(by_q, ctx.layout.queries), _cut(by_kv, ctx.layout.keys))
        for (q, k, v, weights), rectangle, part, q_part, kv_part in zip(saved, ctx.layout.queries, *cuts, strict=True):
            (g,) = split_heads(part, rectangle, 1, ctx.num_heads)
            by_v = torch.matmul(weights.transpose(-2, -1), g)
            by_scores = torch.matmul(g, v.transpose(-2, -1)).mul_(weights)
            by_scores.addcmul_(weights, by_scores.sum(-1, keepdim=True), value=-1).mul_(q.shape[-1] ** -0.5)
            _merge_heads([torch.matmul(by_scores, k)], into=q_part)
            _merge_heads([torch.matmul(by_scores.transpose(-2, -1), q), by_v], into=kv_part)
        return by_q, by_kv, None, None
