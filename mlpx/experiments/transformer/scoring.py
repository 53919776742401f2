"""Scores of a model: its losses on sets of pairs, and the quality of its translations."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mlpx.experiments.transformer.batches import Batch, Batches, load, token_batches
from mlpx.experiments.transformer.decoding import Hypothesis, rescored, search
from mlpx.experiments.transformer.protocol import EncoderDecoder
from mlpx.experiments.transformer.sentences import Pairs
from mlpx.experiments.transformer.smoothing import losses
from mlpx.experiments.transformer.tasks import SentencePairs, TranslationTask
from mlpx.training import devices
from mlpx.training.distributed import Group

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


def mean_loss(model: EncoderDecoder, pairs: Pairs, group: Group) -> float:
    """The mean cross-entropy of all target words in nats, without dropout and label smoothing.

    Raises:
        Stopping: A signal came meanwhile.
    """
    return sum(group.together(lambda: _loss_sum(model, pairs, group))) / num_words(pairs)


@torch.no_grad()
def _loss_sum(model: EncoderDecoder, pairs: Pairs, group: Group) -> float:
    """The sum of the cross-entropies of this process's share of the target words."""
    weight = model.output_weight
    total = torch.zeros((), dtype=torch.float64, device=weight.device)
    at_once = ACCELERATED_AT_ONCE if devices.is_accelerator(weight.device) else SCORED_AT_ONCE
    batches = epoch_batches(pairs, at_once, len(pairs.src), seed=0, epoch=0)
    for batch in load(pairs, batches, weight.device, group=group):
        group.pause()
        if batch.src:
            of_words = losses(hidden_states(model, batch), weight, batch.targets, model.products)
            total += of_words.sum(dtype=torch.float64)
    return float(total)


class Scorer:
    """Scores a model, as its weights stand, on the validation set and the test sets of a task.

    Of several processes, each scores and decodes a share of the sentences, and the first one judges the translations.
    Everything here raises Stopping where a signal came meanwhile.
    """

    def __init__(self, task: TranslationTask, model: EncoderDecoder, group: Group) -> None:
        self.task = task
        self.model = model
        self._group = group

    def test_loss(self) -> float:
        """The mean loss on the test set."""
        return mean_loss(self.model, self.task.tests["test"].pairs, self._group)

    def decode(self, pairs: SentencePairs, beam: int, length_penalty: float) -> list[list[int]]:
        """The translation of each source."""
        hypotheses = self._search(pairs, beam, length_penalty)
        return [best.words for best, *_ in hypotheses]

    def _search(self, pairs: SentencePairs, beam: int, length_penalty: float) -> list[list[Hypothesis]]:
        """The hypotheses of each source, the best first."""
        sources, group = pairs.pairs.src.lists(), self._group

        def share() -> list[list[Hypothesis]]:
            own = group.share(sources)
            return search(self.model, own, beam=beam, length_penalty=length_penalty, pause=group.pause)

        return group.merged(group.together(share))

    def _score(self, outputs: Sequence[Sequence[int]], pairs: SentencePairs) -> float:
        return self._group.from_first(lambda: self.task.score(outputs, pairs))

    def validate(self) -> tuple[float, float]:
        """The mean loss on the validation set, and the quality there by greedy decoding.

        Where the loss is not finite, nothing is decoded, and the quality is not finite either.
        """
        loss = mean_loss(self.model, self.task.val.pairs, self._group)
        if not math.isfinite(loss):
            return loss, loss
        return loss, self._score(self.decode(self.task.val, beam=1, length_penalty=0.0), self.task.val)

    def best_length_penalty(self, beam: int) -> float:
        """The one of ``LENGTH_PENALTIES`` with which beam search does best on the validation set."""
        val = self.task.val
        hypotheses_of_each = self._search(val, beam, length_penalty=0.0)

        def quality(length_penalty: float) -> float:
            outputs = [rescored(hypotheses, length_penalty)[0].words for hypotheses in hypotheses_of_each]
            return self._score(outputs, val)

        return max(LENGTH_PENALTIES, key=quality)

    def test(self, beam: int, length_penalty: float) -> tuple[dict[str, float], list[list[int]]]:
        """The metrics of the test sets, and the outputs for the one called "test"."""
        loss = self.test_loss()
        outputs = {name: self.decode(pairs, beam, length_penalty) for name, pairs in self.task.tests.items()}
        scores = {
            f"{name}_{self.task.quality}": self._score(outputs[name], pairs) for name, pairs in self.task.tests.items()
        }
        return {"test_loss": loss, "test_perplexity": perplexity(loss), **scores}, outputs["test"]


def perplexity(loss: float) -> float:
    """exp(loss); infinite where that is beyond the largest float, not a number where the loss is none."""
    if math.isnan(loss):
        return math.nan
    return math.exp(loss) if loss < 700 else math.inf
