"""Scores of a model: its losses on sets of pairs, and the quality of its translations."""

import math

import torch
from torch import Tensor

from mlpx.experiments.transformer.batches import Batch, Batches, load, token_batches
from mlpx.experiments.transformer.decoding import rescored, search, translate
from mlpx.experiments.transformer.protocol import EncoderDecoder
from mlpx.experiments.transformer.sentences import Pairs
from mlpx.experiments.transformer.smoothing import losses
from mlpx.experiments.transformer.tasks import SentencePairs, TranslationTask
from mlpx.training import devices

SCORED_AT_ONCE = 2**13  # words, on a CPU, whose cache has room for what the layers make of them
ACCELERATED_AT_ONCE = 2**16  # words, on a GPU
LENGTH_PENALTIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # the usual ones, from the sum of log-probabilities to their mean


def epoch_batches(pairs: Pairs, batch_tokens: int, batch_size: int, seed: int, epoch: int) -> Batches:
    """The batches of an epoch: the model reads sources with ``EOS``, and targets with ``BOS``."""
    return token_batches(pairs.src.lengths + 1, pairs.tgt.lengths + 1, batch_tokens, batch_size, seed, epoch)


def num_words(pairs: Pairs) -> int:
    """The number of target words, ``EOS`` among them."""
    return int(pairs.tgt.lengths.sum()) + len(pairs.tgt)


def hidden_states(model: EncoderDecoder, batch: Batch, dropout: torch.Generator | None = None) -> Tensor:
    """The hidden states from which each of the N targets of a batch is predicted: (N, D).

    ``dropout`` is the generator that dropout draws from; ``None`` turns dropout off.
    """
    return model(batch.src, batch.tgt, dropout).index_select(0, batch.places)


@torch.no_grad()
def mean_loss(model: EncoderDecoder, pairs: Pairs) -> float:
    """The mean cross-entropy of all target words in nats, without dropout and label smoothing."""
    weight = model.output_weight
    total = torch.zeros((), dtype=torch.float64, device=weight.device)
    at_once = ACCELERATED_AT_ONCE if devices.is_accelerator(weight.device) else SCORED_AT_ONCE
    batches = epoch_batches(pairs, at_once, len(pairs.src), seed=0, epoch=0)
    for batch in load(pairs, batches, weight.device):
        of_words = losses(hidden_states(model, batch), weight, batch.targets, model.products)
        total += of_words.sum(dtype=torch.float64)
    return float(total) / num_words(pairs)


class Scorer:
    """Scores a model, as its weights stand, on the validation set and the test sets of a task."""

    def __init__(self, task: TranslationTask, model: EncoderDecoder) -> None:
        self.task = task
        self.model = model

    def test_loss(self) -> float:
        """The mean loss on the test set."""
        return mean_loss(self.model, self.task.tests["test"].pairs)

    def decode(self, pairs: SentencePairs, beam: int, length_penalty: float) -> list[list[int]]:
        """The translation of each source."""
        best = translate(self.model, pairs.pairs.src.lists(), beam=beam, length_penalty=length_penalty)
        return [hypothesis.words for hypothesis in best]

    def validate(self) -> tuple[float, float]:
        """The mean loss on the validation set, and the quality there by greedy decoding.

        Where the loss is not finite, nothing is decoded, and the quality is not finite either.
        """
        loss = mean_loss(self.model, self.task.val.pairs)
        if not math.isfinite(loss):
            return loss, loss
        return loss, self.task.score(self.decode(self.task.val, beam=1, length_penalty=0.0), self.task.val)

    def best_length_penalty(self, beam: int) -> float:
        """The one of ``LENGTH_PENALTIES`` with which beam search does best on the validation set."""
        val = self.task.val
        hypotheses_of_each = search(self.model, val.pairs.src.lists(), beam=beam, length_penalty=0.0)

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
