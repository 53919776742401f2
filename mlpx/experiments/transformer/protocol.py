"""What a model must offer to be trained, scored and decoded here: the interface of an encoder-decoder.

:class:`mlpx.experiments.transformer.model.Transformer` fulfills it, and so can any other ``torch.nn.Module``, such as a
recurrent network; nothing outside ``model.py`` and its parts depends on the Transformer itself.

Shapes: B sentences, S source and T target words, G hypotheses a sentence, D numbers in a hidden state, V words.
Training and scoring read several rectangles of words at once, such as (3, 5) and (2, 9), so that hardly any word is
padding; N = Σ B·T counts the target words of all of them, padding included, rectangle after rectangle, row after row.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class AttentionMaps(NamedTuple):
    """The attention weights of one pair of S source and T target words: for each block those of its H heads.

    A row holds the weights of one query and sums to 1.
    """

    encoder: list[Tensor]  # (H, S, S)
    decoder: list[Tensor]  # (H, T, T)
    cross: list[Tensor]  # (H, T, S): a row for each target word


class DecoderState(Protocol):
    """What a model keeps of the sources and of the words decoded so far, such as a key-value cache."""

    def step(self, words: Tensor) -> Tensor:
        """Read one more word of each hypothesis, (B, G), and give the hidden states after it, (B, G, D).

        The first call is for one hypothesis a sentence, which is ``BOS``.
        """

    def keep(self, sentences: Tensor, parents: Tensor) -> None:
        """Choose the hypotheses that the next step continues.

        Args:
            sentences: The numbers of the B' sentences that are not finished, of the B so far: (B',).
            parents: For each of their G' new hypotheses, the number of the one that it continues, of its sentence's
                G so far: (B', G').
        """


class AutoregressiveModel(Protocol):
    """What decoding asks of a model."""

    @property
    def output_weight(self) -> Tensor:
        """The matrix (V, D) of the output layer, which has no bias."""

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits of hidden states, hidden · output_weightᵀ: (…, D) to (…, V)."""

    def start(self, src: Tensor) -> DecoderState:
        """Read the sources (B, S), each ending in ``EOS`` and filled up by ``PAD``, to decode their translations."""


class EncoderDecoder(AutoregressiveModel, Protocol):
    """What training, scoring and drawing ask of a model."""

    @property
    def products(self) -> torch.dtype:
        """The type to which the operands of matrix products are rounded: bfloat16 for mixed precision."""

    def __call__(self, src: Sequence[Tensor], tgt: Sequence[Tensor], dropout: torch.Generator | None = None) -> Tensor:
        """The hidden state of the decoder after each target word: rectangles (B, S) and (B, T) to (N, D).

        Args:
            src: The sources, each ending in ``EOS`` and filled up by ``PAD``.
            tgt: The targets, each beginning with ``BOS``, without ``EOS``, and filled up by ``PAD``.
            dropout: Draws what dropout leaves out; ``None`` turns dropout off.
        """

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights, in an order that never changes."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same with the names under which they are saved."""

    def matrices(self) -> Sequence[nn.Parameter]:
        """The weight matrices of the hidden layers, which Muon trains where it is asked for."""

    def attention_maps(self, src: Sequence[int], tgt: Sequence[int]) -> AttentionMaps | None:
        """The attention weights as the model reads this pair; ``None`` where the model has none to show."""
