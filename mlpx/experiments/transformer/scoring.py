"""Scores of a model: its losses on sets of pairs, and the quality of its translations."""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from mlpx.experiments.transformer.batches import Sentences, token_batches
from mlpx.experiments.transformer.decoding import rescored, search, translate
from mlpx.experiments.transformer.protocol import EncoderDecoder
from mlpx.experiments.transformer.smoothing import losses
from mlpx.experiments.transformer.tasks import SentencePairs, TranslationTask
from mlpx.experiments.transformer.vocabulary import BOS, EOS, PAD

SCORED_AT_ONCE = 8192  # words
LENGTH_PENALTIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # the usual ones, from the sum of log-probabilities to their mean


class EncodedPairs(NamedTuple):
    """Pairs as tensors on the device: sources end in ``EOS``; targets begin with ``BOS`` and end in ``EOS``."""

    src: Sentences
    tgt: Sentences

    @classmethod
    def of(cls, pairs: Iterable[tuple[Sequence[int], Sequence[int]]], device: torch.device) -> "EncodedPairs":
        """Encode pairs of source words and target words, both without ``BOS`` and ``EOS``."""
        src, tgt = zip(*pairs, strict=True)
        return cls(
            Sentences([[*words, EOS] for words in src], device),
            Sentences([[BOS, *words, EOS] for words in tgt], device),
        )

    @property
    def num_words(self) -> int:
        """The number of target words, ``EOS`` among them."""
        return int(self.tgt.lengths.sum()) - len(self.tgt.lengths)

    def num_words_of(self, rectangles: Sequence[Tensor]) -> int:
        """The number of target words of these rows, ``EOS`` among them."""
        return sum(int(self.tgt.lengths[rows].sum()) - len(rows) for rows in rectangles)

    def batches(self, batch_tokens: int, batch_size: int, seed: int, epoch: int) -> list[list[Tensor]]:
        """The batches of an epoch, see :func:`token_batches`; as the model reads them, targets lack ``EOS``."""
        return token_batches(self.src.lengths, self.tgt.lengths - 1, batch_tokens, batch_size, seed, epoch)


def hidden_states(
    model: EncoderDecoder, pairs: EncodedPairs, rectangles: Sequence[Tensor], dropout: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The hidden states from which each target word that is not padding is predicted, and these words.

    Args:
        model: Reads the pairs.
        pairs: All of them.
        rectangles: The rows of those to be read.
        dropout: Draws what dropout leaves out; ``None`` turns dropout off.

    Returns:
        Hidden states (N, D) and target words (N,), ``EOS`` among them.
    """
    src = [pairs.src.padded(rows, PAD) for rows in rectangles]
    tgt = [pairs.tgt.padded(rows, PAD) for rows in rectangles]
    targets = torch.cat([words[:, 1:].flatten() for words in tgt])
    real = (targets != PAD).nonzero()[:, 0]
    return model(src, [words[:, :-1] for words in tgt], dropout).index_select(0, real), targets[real]


@torch.no_grad()
def mean_loss(model: EncoderDecoder, pairs: EncodedPairs) -> float:
    """The mean cross-entropy of all target words in nats, without dropout and label smoothing."""
    weight = model.output_weight
    total = torch.zeros((), dtype=torch.float64, device=weight.device)
    for rectangles in pairs.batches(SCORED_AT_ONCE, len(pairs.src.lengths), seed=0, epoch=0):
        hidden, targets = hidden_states(model, pairs, rectangles)
        total += losses(hidden, weight, targets, model.products).sum(dtype=torch.float64)
    return float(total) / pairs.num_words


class Scorer:
    """Scores a model, as its weights stand, on the validation set and the test sets of a task."""

    def __init__(self, task: TranslationTask, model: EncoderDecoder) -> None:
        self.task = task
        self.model = model

    @cached_property
    def _val(self) -> EncodedPairs:
        return self._encoded(self.task.val)

    @cached_property
    def _test(self) -> EncodedPairs:
        return self._encoded(self.task.tests["test"])

    def _encoded(self, pairs: SentencePairs) -> EncodedPairs:
        return EncodedPairs.of(zip(pairs.src, pairs.tgt, strict=True), self.model.output_weight.device)

    def test_loss(self) -> float:
        """The mean loss on the test set."""
        return mean_loss(self.model, self._test)

    def decode(self, pairs: SentencePairs, beam: int, length_penalty: float) -> list[list[int]]:
        """The translation of each source."""
        best = translate(self.model, pairs.src, beam=beam, length_penalty=length_penalty)
        return [hypothesis.words for hypothesis in best]

    def validate(self) -> tuple[float, float]:
        """The mean loss on the validation set, and the quality there by greedy decoding.

        Where the loss is not finite, nothing is decoded, and the quality is not finite either.
        """
        loss = mean_loss(self.model, self._val)
        if not math.isfinite(loss):
            return loss, loss
        return loss, self.task.score(self.decode(self.task.val, beam=1, length_penalty=0.0), self.task.val)

    def best_length_penalty(self, beam: int) -> float:
        """The one of ``LENGTH_PENALTIES`` with which beam search does best on the validation set."""
        val = self.task.val
        hypotheses_of_each = search(self.model, val.src, beam=beam, length_penalty=0.0)

        def quality(length_penalty: float) -> float:
            outputs = [rescored(hypotheses, length_penalty)[0].words for hypotheses in hypotheses_of_each]
            return self.task.score(outputs, val)

        return max(LENGTH_PENALTIES, key=quality)

    def test(self, beam: int, length_penalty: float) -> tuple[dict[str, float], list[list[int]]]:
        """The metrics of the test sets, and the outputs for the one called "test"."""
        loss = self.test_loss()
        outputs = {name: self.decode(pairs, beam, length_penalty) for name, pairs in self.task.tests.items()}
        scores = {
            f"{name}_{self.task.quality}": self.task.score(outputs[name], pairs)
            for name, pairs in self.task.tests.items()
        }
        return {"test_loss": loss, "test_perplexity": perplexity(loss), **scores}, outputs["test"]


def perplexity(loss: float) -> float:
    """exp(loss); infinite where that is beyond the largest float, not a number where the loss is none."""
    if math.isnan(loss):
        return math.nan
    return math.exp(loss) if loss < 700 else math.inf
