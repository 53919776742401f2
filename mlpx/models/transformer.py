"""The Transformer: "Attention Is All You Need" (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762, section 3.

Shapes: B sentences, S source and T target words, D = d_model, F = d_ff, V words of both languages together; the words
of a few rectangles end to end are M = Σ B·S and N = Σ B·T.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlpx.models.attention import Layout, Linear, MultiHeadAttention
from mlpx.models.dropout import Dropout, Noise


class Residual(nn.Module):
    """What a sub-layer f adds to its input (section 3.1): LayerNorm(x + f(x)); with pre-norm x + f(LayerNorm(x)).

    Dropout is applied to what f gives (section 5.4). Pre-norm: Xiong et al. (2020), https://arxiv.org/abs/2002.04745.
    """

    def __init__(self, d_model: int, dropout: Dropout, *, pre_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self._dropout = dropout
        self._pre_norm = pre_norm

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """(…, D) to (…, D)."""
        if self._pre_norm:
            return self._dropout.add(x, sublayer(self.norm(x)))
        return self.norm(self._dropout.add(x, sublayer(x)))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Section 3.3, equation 2: max(0, x W₁ + b₁) W₂ + b₂, for each word alone."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.inner = Linear(d_model, d_ff)
        self.outer = Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) to (…, D)."""
        return self.outer(functional.relu(self.inner(x)))  # type: ignore[no-any-return]


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: Dropout, *, pre_norm: bool) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.residuals = nn.ModuleList(Residual(d_model, dropout, pre_norm=pre_norm) for _ in range(2))

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Words x (M, D) to (M, D)."""
        attend, transform = self.residuals
        x = attend(x, lambda y: self.attention(y, y, layout))
        return transform(x, self.feed_forward)  # type: ignore[no-any-return]


class DecoderBlock(nn.Module):
    """Self-attention to the words before, cross-attention to the source, then feed-forward."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: Dropout, *, pre_norm: bool) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.cross_attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.residuals = nn.ModuleList(Residual(d_model, dropout, pre_norm=pre_norm) for _ in range(3))

    def forward(self, x: Tensor, layout: Layout, memory: Tensor, across: Layout) -> Tensor:
        """Words x (N, D), reading the encoder's ``memory`` (M, D), to (N, D)."""
        attend, attend_across, transform = self.residuals
        x = attend(x, lambda y: self.attention(y, y, layout))
        x = attend_across(x, lambda y: self.cross_attention(y, memory, across))
        return transform(x, self.feed_forward)  # type: ignore[no-any-return]

    def step(self, x: Tensor, past: Tensor | None, memory: Tensor, memory_bias: Tensor) -> tuple[Tensor, Tensor]:
        """The same for one more word of each of G hypotheses of B sentences, x (B·G, D); has no gradient.

        ``past``, the keys and values (2, B·G, H, t, K) of the words before, is given back with those of x added;
        ``memory`` (2, B, H, S, K) holds those of the source, and ``memory_bias`` (B, 1, 1, S) its padding.
        """
        attend, attend_across, transform = self.residuals
        known: list[Tensor] = []

        def attend_before(y: Tensor) -> Tensor:
            keys_values = self.attention.keys_values(y[:, None])
            known.append(keys_values if past is None else torch.cat((past, keys_values), dim=3))
            return self.attention.find(y[:, None], known[0], torch.zeros_like(memory_bias[:1, :, :, :1]))[:, 0]

        def attend_source(y: Tensor) -> Tensor:
            return self.cross_attention.find(y.view(memory.shape[1], -1, y.shape[1]), memory, memory_bias).view_as(y)

        x = attend_across(attend(x, attend_before), attend_source)
        return transform(x, self.feed_forward), known[0]


class Transformer(nn.Module):
    """Encoder and decoder of the same number of blocks, each decoder block reading the last encoder block's output.

    One matrix embeds the words of both languages and, transposed, gives the logits (section 3.4).
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        num_layers: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        dropout: float = 0.0,
        pre_norm: bool = False,
        products: torch.dtype = torch.float32,
        pad: int = 0,
    ) -> None:
        """Word ``pad`` fills short sentences up; matrix products take numbers of type ``products``.

        Weights are drawn from torch's own generator (``torch.manual_seed``): matrices as Glorot and Bengio (2010) have
        them, embeddings from N(0, 1/D), so that √D times one has variance 1.
        """
        super().__init__()
        blocks = (num_heads, d_ff, Dropout(dropout, noise := Noise()))
        self.noise = noise
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.dropout = blocks[2]
        self.encoder = nn.ModuleList(EncoderBlock(d_model, *blocks, pre_norm=pre_norm) for _ in range(num_layers))
        self.decoder = nn.ModuleList(DecoderBlock(d_model, *blocks, pre_norm=pre_norm) for _ in range(num_layers))
        self.encoder_norm, self.decoder_norm = (nn.LayerNorm(d_model) if pre_norm else nn.Identity() for _ in range(2))
        self.products = products
        self._pad = pad
        self._positions = torch.empty(0, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        for module in self.modules():
            if isinstance(module, Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
                module.products = products
        for module in self.modules():
            if isinstance(module, MultiHeadAttention):  # keys and values are two matrices
                for matrix in module.key_value.weight.chunk(2):
                    nn.init.xavier_uniform_(matrix)

    def forward(self, src: Sequence[Tensor], tgt: Sequence[Tensor]) -> Tensor:
        """What gives the logits by the transposed embedding: words in rectangles (B, S) and (B, T), to (N, D)."""
        memory = self.encode(src)
        x = self.embed(tgt)
        rectangles = _shapes(tgt)
        layout = Layout(rectangles, rectangles, [causal_bias(length, x) for _, length in rectangles])
        across = Layout(rectangles, _shapes(src), [self.padding_bias(part) for part in src])
        for block in self.decoder:
            x = block(x, layout, memory, across)
        return self.decoder_norm(x)  # type: ignore[no-any-return]

    def encode(self, src: Sequence[Tensor]) -> Tensor:
        """Words in rectangles (B, S) to the memory (M, D)."""
        x = self.embed(src)
        layout = Layout(_shapes(src), _shapes(src), [self.padding_bias(part) for part in src])
        for block in self.encoder:
            x = block(x, layout)
        return self.encoder_norm(x)  # type: ignore[no-any-return]

    def embed(self, words: Sequence[Tensor], first: int = 0) -> Tensor:
        """√D times each word's embedding, plus its position's, that of the first being ``first``: (N, D)."""
        d_model = self.embedding.embedding_dim
        end = first + max(length for _, length in _shapes(words))
        if end > len(self._positions) or self._positions.device != words[0].device:
            self._positions = positions(2 * end, d_model).to(self.embedding.weight)
        places = torch.cat(
            [self._positions[first : first + w.shape[1]].expand(len(w), -1, -1).flatten(0, 1) for w in words]
        )
        embedded = self.embedding(torch.cat([w.flatten() for w in words]))
        return self.dropout(torch.add(places, embedded, alpha=math.sqrt(d_model)))  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, D) to (…, V)."""
        weight = self.embedding.weight
        return torch.matmul(hidden.to(self.products), weight.t().to(self.products)).to(weight.dtype)

    def matrices(self) -> list[nn.Parameter]:
        """Those of all blocks."""
        return [
            parameter for part in (self.encoder, self.decoder) for parameter in part.parameters() if parameter.ndim == 2
        ]

    def padding_bias(self, src: Tensor) -> Tensor:
        """-inf where src (B, S) is padding, else 0: (B, 1, 1, S)."""
        bias = torch.zeros(src.shape, dtype=self.embedding.weight.dtype, device=src.device)
        return bias.masked_fill_(src == self._pad, -math.inf)[:, None, None, :]


def _shapes(words: Sequence[Tensor]) -> list[tuple[int, int]]:
    return [(len(part), part.shape[1]) for part in words]


def causal_bias(length: int, like: Tensor) -> Tensor:
    """-inf where a query would see a later key, else 0: (T, T), of the type and on the device of ``like``."""
    return like.new_full((length, length), -math.inf).triu_(1)


def positions(length: int, d_model: int) -> Tensor:
    """Section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i/D)), PE(pos, 2i+1) = cos(pos / 10000^(2i/D)): (length, D)."""
    rates = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float64) * (-math.log(10000) / d_model))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)
