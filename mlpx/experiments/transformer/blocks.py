"""The blocks of the Transformer: "Attention Is All You Need" (Vaswani et al., 2017), sections 3.1 and 3.3.

Shapes: B sentences, S source and T target words, D = d_model, F = d_ff; the words of a few rectangles end to end are
M = Σ B·S source words and N = Σ B·T target words. When decoding: G hypotheses a sentence, t words so far, H heads,
K = D / H.

``dropout`` is the generator that dropout draws from; ``None`` turns dropout off.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlpx.experiments.transformer.attention import Layout, MultiHeadAttention
from mlpx.experiments.transformer.cache import WordCache
from mlpx.experiments.transformer.dropout import Dropout
from mlpx.experiments.transformer.linear import Linear


class Residual(nn.Module):
    """The residual connection around a sub-layer f (section 3.1): LayerNorm(x + f(x)), or pre-norm x + f(LayerNorm(x)).

    Dropout is applied to the output of f (section 5.4). Pre-norm is from Xiong et al. (2020),
    https://arxiv.org/abs/2002.04745.
    """

    def __init__(self, d_model: int, dropout: float, *, pre_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self._dropout = Dropout(dropout)
        self._pre_norm = pre_norm

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor], dropout: torch.Generator | None) -> Tensor:
        """(…, D) to (…, D)."""
        if self._pre_norm:
            return self._dropout.add(x, sublayer(self.norm(x)), dropout)
        return self.norm(self._dropout.add(x, sublayer(x), dropout))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Section 3.3, equation 2: max(0, x W₁ + b₁) W₂ + b₂, for each word by itself."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.inner = Linear(d_model, d_ff)
        self.outer = Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) to (…, D)."""
        return self.outer(functional.relu(self.inner(x)))  # type: ignore[no-any-return]


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float, *, pre_norm: bool) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.residuals = nn.ModuleList(Residual(d_model, dropout, pre_norm=pre_norm) for _ in range(2))

    def forward(self, x: Tensor, layout: Layout, dropout: torch.Generator | None = None) -> Tensor:
        """Source words x (M, D) to (M, D)."""
        attend, transform = self.residuals
        x = attend(x, lambda y: self.attention(y, y, layout), dropout)
        return transform(x, self.feed_forward, dropout)  # type: ignore[no-any-return]


class DecoderBlock(nn.Module):
    """Self-attention to the words so far, cross-attention to the source, then feed-forward."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float, *, pre_norm: bool) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.cross_attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.residuals = nn.ModuleList(Residual(d_model, dropout, pre_norm=pre_norm) for _ in range(3))

    def forward(
        self, x: Tensor, layout: Layout, memory: Tensor, across: Layout, dropout: torch.Generator | None = None
    ) -> Tensor:
        """Target words x (N, D) to (N, D).

        Args:
            x: The target words.
            layout: Which target word may attend to which.
            memory: The output of the encoder, (M, D).
            across: Which target word may attend to which source word.
            dropout: See above.
        """
        attend, attend_across, transform = self.residuals
        x = attend(x, lambda y: self.attention(y, y, layout), dropout)
        x = attend_across(x, lambda y: self.cross_attention(y, memory, across), dropout)
        return transform(x, self.feed_forward, dropout)  # type: ignore[no-any-return]

    def step(self, x: Tensor, past: WordCache, memory: Tensor, memory_bias: Tensor) -> Tensor:
        """The same for one more word of each of G hypotheses of B sentences. Has no gradient, and no dropout.

        Args:
            x: The newest words, (B·G, D).
            past: The keys and values of the words before them, to which those of x are appended.
            memory: The keys and values of the source, (2, B, H, S, K).
            memory_bias: The attention mask of the source's padding, (B, 1, 1, S).

        Returns:
            The output (B·G, D).
        """
        attend, attend_across, transform = self.residuals

        def attend_before(y: Tensor) -> Tensor:
            past.append(self.attention.keys_values(y[:, None])[:, :, :, 0])
            no_bias = torch.zeros_like(memory_bias[:1, :, :, :1])
            return self.attention.attend(y[:, None], past.keys_values(), no_bias)[:, 0]

        def attend_source(y: Tensor) -> Tensor:
            return self.cross_attention.attend(y.view(memory.shape[1], -1, y.shape[1]), memory, memory_bias).view_as(y)

        x = attend_across(attend(x, attend_before, None), attend_source, None)
        return transform(x, self.feed_forward, None)  # type: ignore[no-any-return]
