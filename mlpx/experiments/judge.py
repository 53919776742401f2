"""How good a Transformer is: losses on sets of pairs, and translations scored."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mlpx.data.subwords import BOS, EOS, PAD
from mlpx.experiments.tasks import SPECIAL, Pairs, Task
from mlpx.models.decoding import rescored, search, translate
from mlpx.models.smoothing import losses
from mlpx.models.transformer import Transformer
from mlpx.training.sentences import Sentences, token_batches

SCORED_AT_ONCE = 8192  # words
LENGTH_PENALTIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # the usual ones, from the sum of log-probabilities to their mean


class Examples(NamedTuple):
    """Pairs on the device: sources end in EOS; targets begin with BOS and end in EOS."""

    src: Sentences
    tgt: Sentences

    @classmethod
    def of(cls, pairs: Iterable[tuple[Sequence[int], Sequence[int]]], device: torch.device) -> "Examples":
        """Pairs of words without those."""
        src, tgt = zip(*pairs, strict=True)
        return cls(
            Sentences([[*words, EOS] for words in src], device),
            Sentences([[BOS, *words, EOS] for words in tgt], device),
        )

    @property
    def num_words(self) -> int:
        """Target words, EOS among them."""
        return int(self.tgt.lengths.sum()) - len(self.tgt.lengths)

    def num_words_of(self, rectangles: Sequence[Tensor]) -> int:
        """Target words of these rows."""
        return sum(int(self.tgt.lengths[rows].sum()) - len(rows) for rows in rectangles)

    def batches(self, batch_tokens: int, batch_size: int, seed: int, epoch: int) -> list[list[Tensor]]:
        """Steps of rectangles of rows; a target is read from BOS to the word before EOS."""
        return token_batches(self.src.lengths, self.tgt.lengths - 1, batch_tokens, batch_size, seed, epoch)


def hidden_of(model: Transformer, examples: Examples, rectangles: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What gives the logits of each real target word, (N, D), and those words, (N,)."""
    src = [examples.src.padded(rows, PAD) for rows in rectangles]
    tgt = [examples.tgt.padded(rows, PAD) for rows in rectangles]
    targets = torch.cat([words[:, 1:].flatten() for words in tgt])
    real = (targets != PAD).nonzero()[:, 0]
    return model(src, [words[:, :-1] for words in tgt]).index_select(0, real), targets[real]


class Judge:
    """Scores a model on a task."""

    def __init__(self, task: Task, model: Transformer) -> None:
        self.task = task
        self.model = model
        self._device = model.embedding.weight.device
        self._known: dict[int, Examples] = {}

    def examples(self, pairs: Pairs) -> Examples:
        """Pairs on the model's device, put there once."""
        if id(pairs) not in self._known:
            self._known[id(pairs)] = Examples.of(zip(pairs.src, pairs.tgt, strict=True), self._device)
        return self._known[id(pairs)]

    @torch.no_grad()
    def loss(self, pairs: Pairs) -> float:
        """The mean loss of the target words."""
        self.model.noise.generator = None
        examples = self.examples(pairs)
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for rectangles in examples.batches(SCORED_AT_ONCE, len(pairs.src), seed=0, epoch=0):
            hidden, targets = hidden_of(self.model, examples, rectangles)
            found = losses(hidden, self.model.embedding.weight, targets, self.model.products)
            total += found.sum(dtype=torch.float64)
        return float(total) / examples.num_words

    def decode(self, pairs: Pairs, beam: int, length_penalty: float) -> list[list[int]]:
        """The translation of each source."""
        self.model.noise.generator = None
        found = translate(self.model, pairs.src, SPECIAL, beam=beam, length_penalty=length_penalty)
        return [hypothesis.words for hypothesis in found]

    def validate(self) -> tuple[float, float]:
        """Loss, and quality by greedy decoding, on the validation set; a model that has no loss has no quality."""
        loss = self.loss(self.task.val)
        if not math.isfinite(loss):
            return loss, loss
        return loss, self.task.score(self.decode(self.task.val, beam=1, length_penalty=0.0), self.task.val)

    def best_length_penalty(self, beam: int) -> float:
        """That of ``LENGTH_PENALTIES`` by which a beam search does best on the validation set."""
        self.model.noise.generator = None
        found = search(self.model, self.task.val.src, SPECIAL, beam=beam, length_penalty=0.0)

        def quality(length_penalty: float) -> float:
            outputs = [rescored(hypotheses, length_penalty)[0].words for hypotheses in found]
            return self.task.score(outputs, self.task.val)

        return max(LENGTH_PENALTIES, key=quality)

    def test(self, beam: int, length_penalty: float) -> tuple[dict[str, float], list[list[int]]]:
        """The figures of the test sets, and what came out for the first."""
        loss = self.loss(self.task.tests["test"])
        outputs = {name: self.decode(pairs, beam, length_penalty) for name, pairs in self.task.tests.items()}
        scores = {
            f"{name}_{self.task.quality}": self.task.score(outputs[name], pairs)
            for name, pairs in self.task.tests.items()
        }
        return {"test_loss": loss, "test_perplexity": perplexity(loss), **scores}, outputs["test"]


def perplexity(loss: float) -> float:
    """exp(loss), infinite where that is beyond a float."""
    return math.exp(loss) if loss < 700 else math.inf if loss == loss else math.nan
