"""The Transformer: "Attention Is All You Need" (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762, section 3.

Shapes: B sentences, S source and T target words, D = d_model, F = d_ff, V words of both languages together; the words
of a few rectangles end to end are M = Σ B·S source words and N = Σ B·T target words. When decoding: G hypotheses a
sentence, t words so far, H heads, K = D / H.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlpx.experiments.transformer.attention import Layout, MultiHeadAttention
from mlpx.experiments.transformer.blocks import DecoderBlock, EncoderBlock
from mlpx.experiments.transformer.cache import WordCache
from mlpx.experiments.transformer.dropout import Dropout
from mlpx.experiments.transformer.linear import Linear, RoundedWeights, missing_rows
from mlpx.experiments.transformer.protocol import AttentionMaps
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.experiments.transformer.vocabulary import PAD
from mlpx.training.precision import DTYPES
from mlpx.training.randomness import generator


class Transformer(nn.Module):
    """An encoder and a decoder of equally many blocks; each decoder block reads the output of the last encoder block.

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
    ) -> None:
        """Make an untrained model.

        Weights are drawn from torch's own generator (``torch.manual_seed``): matrices as in Glorot and Bengio (2010),
        embeddings from N(0, 1/D), so that √D times one has variance 1.

        Args:
            vocab_size: V.
            num_layers: The number of blocks of the encoder, and of the decoder.
            d_model: D, an even number.
            num_heads: H, which divides D.
            d_ff: F.
            dropout: The probability with which dropout sets a number to zero.
            pre_norm: Whether LayerNorm comes before each sub-layer instead of after it.
            products: The type to which the operands of matrix products are rounded; bfloat16 for mixed precision.
        """
        super().__init__()
        sizes = (d_model, num_heads, d_ff, dropout)
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.dropout = Dropout(dropout)
        self.encoder = nn.ModuleList(EncoderBlock(*sizes, pre_norm=pre_norm) for _ in range(num_layers))
        self.decoder = nn.ModuleList(DecoderBlock(*sizes, pre_norm=pre_norm) for _ in range(num_layers))
        self.encoder_norm, self.decoder_norm = (nn.LayerNorm(d_model) if pre_norm else nn.Identity() for _ in range(2))
        self.products = products
        self._positions = torch.empty(0, d_model)
        self._linears = [module for module in self.modules() if isinstance(module, Linear)]
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        for linear in self._linears:
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            linear.products = products
        for module in self.modules():
            if isinstance(module, MultiHeadAttention):
                # Keys and values share one Linear, but are initialized as the two matrices that they are.
                for matrix in module.key_value.weight.chunk(2):
                    nn.init.xavier_uniform_(matrix)

    def forward(self, src: Sequence[Tensor], tgt: Sequence[Tensor], dropout: torch.Generator | None = None) -> Tensor:
        """The hidden states of the target words, before the output layer: rectangles (B, S) and (B, T) to (N, D).

        ``dropout`` is the generator that dropout draws from; ``None`` turns dropout off.
        """
        source, rectangles = self._source_layout(src), _shapes(tgt)
        with self.rounded_weights():
            memory = self._encode(src, source, dropout)
            x = self.embed(tgt, dropout=dropout, is_filled_up=True)
            biases = [causal_bias(length, x) for _, length in rectangles]
            layout = Layout(rectangles, rectangles, biases).for_products(self.products)
            across = source._replace(queries=rectangles)
            for block in self.decoder:
                x = block(x, layout, memory, across, dropout)
        return self.decoder_norm(x)[: sum(batch * length for batch, length in rectangles)]  # type: ignore[no-any-return]

    def encode(self, src: Sequence[Tensor], dropout: torch.Generator | None = None) -> Tensor:
        """The output of the encoder: rectangles of source words (B, S) to (M, D)."""
        with self.rounded_weights():
            memory = self._encode(src, self._source_layout(src), dropout)
        return memory[: sum(part.numel() for part in src)]

    def _encode(self, src: Sequence[Tensor], layout: Layout, dropout: torch.Generator | None) -> Tensor:
        x = self.embed(src, dropout=dropout, is_filled_up=True)
        for block in self.encoder:
            x = block(x, layout, dropout)
        return self.encoder_norm(x)  # type: ignore[no-any-return]

    def _source_layout(self, src: Sequence[Tensor]) -> Layout:
        """That of the encoder: each word of a sentence attends to all of its words, but not to padding."""
        biases = [self.padding_bias(part) for part in src]
        return Layout(_shapes(src), _shapes(src), biases).for_products(self.products)

    def embed(
        self,
        words: Sequence[Tensor],
        first: int = 0,
        dropout: torch.Generator | None = None,
        *,
        is_filled_up: bool = False,
    ) -> Tensor:
        """√D times the embedding of each word plus its positional encoding: rectangles (B, T) to (N, D).

        Args:
            words: The words.
            first: The position of the first word of each sentence.
            dropout: See :meth:`forward`.
            is_filled_up: Whether rows that belong to no sentence follow, see :data:`linear.ROWS`.
        """
        d_model = self.embedding.embedding_dim
        end = first + max(length for _, length in _shapes(words))
        if end > len(self._positions) or self._positions.device != words[0].device:
            self._positions = positions(2 * end, d_model).to(self.embedding.weight)
        places = torch.cat(
            [self._positions[first : first + w.shape[1]].expand(len(w), -1, -1).flatten(0, 1) for w in words]
        )
        flat = torch.cat([w.flatten() for w in words])
        if missing := missing_rows(flat, self.products) if is_filled_up else 0:
            places = functional.pad(places, (0, 0, 0, missing))
            flat = functional.pad(flat, (0, missing), value=PAD)
        embedded = torch.add(places, self.embedding(flat), alpha=math.sqrt(d_model))
        return self.dropout(embedded, dropout)  # type: ignore[no-any-return]

    def rounded_weights(self) -> RoundedWeights:
        """The weights of all linear layers as they are now, in the type of the products."""
        return RoundedWeights(self._linears)

    @property
    def output_weight(self) -> Tensor:
        """The matrix (V, D) of the output layer, which is that of the embedding."""
        return self.embedding.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits of hidden states: (…, D) to (…, V)."""
        weight = self.output_weight
        return torch.matmul(hidden.to(self.products), weight.t().to(self.products)).to(weight.dtype)

    def start(self, src: Tensor) -> "KeyValueCache":
        """Encode the sources (B, S) in order to decode their translations word by word."""
        return KeyValueCache(self, src)

    def matrices(self) -> list[nn.Parameter]:
        """The weight matrices of all blocks."""
        return [
            parameter for part in (self.encoder, self.decoder) for parameter in part.parameters() if parameter.ndim == 2
        ]

    @torch.no_grad()
    def attention_maps(self, src: Sequence[int], tgt: Sequence[int]) -> AttentionMaps:
        """The attention weights of all blocks and heads as the model reads this pair."""
        maps = AttentionMaps([], [], [])

        def keep(into: list[Tensor]) -> Any:
            return lambda module, arguments, _: into.append(module.weights(*arguments)[0].float().cpu())

        attentions: list[tuple[MultiHeadAttention, list[Tensor]]] = []
        attentions += [(block.attention, maps.encoder) for block in cast(Sequence[EncoderBlock], self.encoder)]
        for block in cast(Sequence[DecoderBlock], self.decoder):
            attentions += [(block.attention, maps.decoder), (block.cross_attention, maps.cross)]
        hooks = [attention.register_forward_hook(keep(into)) for attention, into in attentions]
        try:
            device = self.output_weight.device
            self([torch.tensor([src], device=device)], [torch.tensor([tgt], device=device)])
        finally:
            for hook in hooks:
                hook.remove()
        return maps

    def padding_bias(self, src: Tensor) -> Tensor:
        """The attention mask of src (B, S): -inf where it is padding, else 0, of shape (B, 1, 1, S)."""
        bias = torch.zeros(src.shape, dtype=self.embedding.weight.dtype, device=src.device)
        return bias.masked_fill_(src == PAD, -math.inf)[:, None, None, :]


class KeyValueCache:
    """The key-value cache: the keys and values of the sources, computed once, and of the words decoded so far."""

    def __init__(self, model: Transformer, src: Tensor) -> None:
        self._model = model
        self._rounded = model.rounded_weights()
        self._blocks = cast(Sequence[DecoderBlock], model.decoder)
        with self._rounded:
            memory = model.encode([src]).view(*src.shape, -1)
            # Each is (2, B, H, S, K).
            self._memories = [block.cross_attention.keys_values(memory) for block in self._blocks]
        self._memory_bias = model.padding_bias(src)
        self._past = [WordCache() for _ in self._blocks]  # each of B·G hypotheses
        self._spare = torch.empty(0)
        self._num_hypotheses = self._length = 0

    def step(self, words: Tensor) -> Tensor:
        """Read one more word of each hypothesis, (B, G), and give the hidden states after it, (B, G, D)."""
        x = self._model.embed([words.reshape(-1, 1)], first=self._length)  # (B·G, D)
        self._length += 1
        self._num_hypotheses = words.shape[1]
        with self._rounded:
            for block, past, memory in zip(self._blocks, self._past, self._memories, strict=True):
                x = block.step(x, past, memory, self._memory_bias)
        return self._model.decoder_norm(x).view(*words.shape, -1)  # type: ignore[no-any-return]

    def keep(self, sentences: Tensor, parents: Tensor) -> None:
        """Go on with the ``sentences`` (B',), each of their hypotheses continuing one of its ``parents`` (B', G')."""
        batch = len(self._memory_bias)
        if len(sentences) < batch:
            self._memories = [memory.index_select(1, sentences) for memory in self._memories]
            self._memory_bias = self._memory_bias.index_select(0, sentences)
        rows = (sentences[:, None] * self._num_hypotheses + parents).flatten()
        for past in self._past:
            self._spare = past.keep(rows, self._spare)


def untrained(settings: TransformerSettings, vocab_size: int, device: torch.device) -> Transformer:
    """The untrained Transformer of these settings; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(settings.seed, "weights").initial_seed())
        model = Transformer(
            vocab_size,
            num_layers=settings.num_layers,
            d_model=settings.d_model,
            num_heads=settings.num_heads,
            d_ff=settings.d_ff,
            dropout=settings.dropout,
            pre_norm=settings.norm == "pre",
            products=DTYPES[settings.precision],
        )
    return model.to(device)


def causal_bias(length: int, like: Tensor) -> Tensor:
    """The causal attention mask (T, T): -inf where a query would see a later key, else 0; dtype and device of like."""
    return like.new_full((length, length), -math.inf).triu_(1)


def positions(length: int, d_model: int) -> Tensor:
    """The positional encoding of section 3.5: (length, D).

    PE(pos, 2i) = sin(pos / 10000^(2i/D)), PE(pos, 2i+1) = cos(pos / 10000^(2i/D)).
    """
    rates = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float64) * (-math.log(10000) / d_model))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)


def _shapes(words: Sequence[Tensor]) -> list[tuple[int, int]]:
    return [(len(part), part.shape[1]) for part in words]
