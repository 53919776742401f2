"""The Transformer of "Attention Is All You Need", on numbers to be reversed or on anyone's pairs of sentences.

Losses are in nats a real target word, without smoothing; the train loss is the running average over an epoch, in which
the weights change and dropout is on. Which weights are kept is chosen on the validation set alone.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mlpx.data.sequences import LENGTHS, LONGER_LENGTHS
from mlpx.errors import InputError
from mlpx.experiments import tasks
from mlpx.experiments.judge import Examples, Judge, hidden_of, perplexity
from mlpx.experiments.tasks import Pairs
from mlpx.experiments.translator import draw_attention, length_penalty_of, new_model, trained_model
from mlpx.models.smoothing import smoothed_loss
from mlpx.runs.events import Outcome
from mlpx.runs.metrics import Rows
from mlpx.runs.weights import read as read_weights
from mlpx.settings.transformer import TransformerSettings
from mlpx.training.batches import generator
from mlpx.training.flat import Flat
from mlpx.training.loop import is_on_grid
from mlpx.training.optimizers import Optimizer
from mlpx.training.schedules import rate
from mlpx.training.states import restore

SHOWN = 20  # translations in translations.txt
EASY_TO_SEE = range(8, 15)  # words of the sentence whose attention is drawn


def columns(settings: TransformerSettings) -> tuple[str, ...]:
    """The table's columns between ``epoch`` and ``seconds``."""
    quality = "val_exactness" if settings.task == "reverse" else "val_bleu"
    return ("step", "train_loss", "val_loss", "test_loss", "val_perplexity", quality, "tokens_per_second", "lr")


def metric_names(settings: TransformerSettings) -> tuple[str, ...]:
    """The metrics that a finished run has."""
    found = ("test_exactness", "longer_exactness") if settings.task == "reverse" else ("test_bleu",)
    return ("epoch", *columns(settings), "seconds", "test_perplexity", *found, "length_penalty")


def build(settings: TransformerSettings, device: torch.device) -> "Translation":
    """The experiment of these settings, its model untrained; raises what :func:`tasks.build` raises."""
    return Translation(settings, device)


def final(settings: TransformerSettings, device: torch.device, run: Path) -> dict[str, float]:
    """The figures of a run's weights on its test sets, computed anew; raises InputError."""
    learned = read_weights(run)
    task = tasks.reopen(settings, run)
    judge = Judge(task, trained_model(settings, len(task.vocabulary), device, run, learned))
    return judge.test(settings.beam, length_penalty_of(settings, run))[0]


class Translation:
    """The data, the model, and how it is trained and judged."""

    def __init__(self, settings: TransformerSettings, device: torch.device) -> None:
        self.settings = settings
        self.columns = columns(settings)
        self._device = device
        self.task = tasks.build(settings)
        self.model = new_model(settings, len(self.task.vocabulary), device)
        matrices = self.model.matrices() if settings.optimizer == "muon" else []
        known = {id(matrix) for matrix in matrices}
        self._flat = Flat([*(p for p in self.model.parameters() if id(p) not in known), *matrices])
        self._optimizer = Optimizer(self._flat, matrices, settings.weight_decay)
        self._judge = Judge(self.task, self.model)
        self.examples = self._judge.examples(self.task.train)  # as the epoch has them
        self._steps_an_epoch = len(self.batches(epoch=1))
        self._quality = f"val_{self.task.quality}"
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)  # of the epoch so far
        self._best = torch.zeros_like(self._flat.gradient)  # weights
        self._best_of = torch.zeros(3, dtype=torch.float64)  # epoch, quality, loss; epoch 0 while there are none
        self._sum = torch.zeros_like(self._flat.gradient if settings.average_last > 1 else self._flat.gradient[:0])
        self._summed = torch.zeros((), dtype=torch.int64)  # epochs
        self._epoch = 0
        self._began = 0.0
        self._words_before = 0  # of the epoch, trained on before this process took it up

    def batches(self, epoch: int) -> list[list[Tensor]]:
        """The steps of ``epoch``, each a few rectangles of rows of the training set."""
        settings = self.settings
        return self.examples.batches(settings.batch_tokens, settings.batch_size, settings.seed, epoch)

    def train(self, epoch: int, step: int) -> Iterator[int]:
        """Train an epoch from ``step`` on, and yield the steps done after each."""
        self.examples = self._examples_of(epoch)
        batches = self.batches(epoch)
        self._epoch = epoch
        self._began = time.perf_counter()
        self._words_before = sum(self.examples.num_words_of(rectangles) for rectangles in batches[:step])
        if step == 0:
            self._loss_sum.zero_()
        for number, rectangles in enumerate(batches[step:], start=step):
            self._step(rectangles, (epoch - 1) * len(batches) + number + 1)
            yield number + 1
        settings = self.settings
        due = epoch - max(0, settings.epochs - settings.average_last)  # epochs that ought to be in the sum
        if settings.average_last > 1 and due > int(self._summed):
            self._sum += self._flat.weights.detach()
            self._summed += 1

    def _examples_of(self, epoch: int) -> Examples:
        """The training pairs, in the first ``both_ways`` epochs half of them turned round, target to source.

        It is the bidirectional training of Ding, Wu and Tao (2021, https://arxiv.org/abs/2109.07780), who take all
        pairs both ways. An epoch has the same steps either way, as pairs meet by the lengths of both sides.
        """
        pairs = self.task.train
        if epoch > self.settings.both_ways:
            return self._judge.examples(pairs)
        turned = torch.rand(len(pairs.src), generator=generator(self.settings.seed, "flip", epoch)) < 0.5
        both = zip(pairs.src, pairs.tgt, turned.tolist(), strict=True)
        return Examples.of(((tgt, src) if is_turned else (src, tgt) for src, tgt, is_turned in both), self._device)

    def _step(self, rectangles: Sequence[Tensor], step: int) -> None:
        """Learn from these rectangles of rows of the training set; ``step`` counts from 1 over all epochs."""
        settings = self.settings
        self.model.noise.generator = generator(settings.seed, "dropout", step, self._device)
        hidden, targets = hidden_of(self.model, self.examples, rectangles)
        smoothed, plain = smoothed_loss(
            hidden, self.model.embedding.weight, targets, settings.label_smoothing, self.model.products
        )
        self._loss_sum += plain
        self._flat.gradient.zero_()
        (smoothed / len(targets)).backward()
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_([self._flat.weights], settings.clip_norm)
        self._optimizer.step(self._rate(step))

    def _rate(self, step: int) -> float:
        settings = self.settings
        num_steps = settings.epochs * self._steps_an_epoch
        return rate(settings.schedule, settings.lr, step, settings.warmup_steps, num_steps)

    def evaluate(self) -> dict[str, float]:
        """The epoch's running average, speed, and figures on validation and test set; remembers the best weights."""
        num_words = self.examples.num_words
        train_loss = float(self._loss_sum) / num_words
        speed = (num_words - self._words_before) / (time.perf_counter() - self._began)
        val_loss, quality = self._judge.validate()
        if is_on_grid(self._epoch, self.settings.eval_every) and self._is_best(val_loss):
            self._best.copy_(self._flat.weights.detach())
            self._best_of.copy_(torch.tensor([self._epoch, quality, val_loss], dtype=torch.float64))
        step = self._epoch * self._steps_an_epoch
        test_loss = self._judge.loss(self.task.tests["test"])
        losses = (train_loss, val_loss, test_loss, perplexity(val_loss))
        return dict(zip(self.columns, (step, *losses, quality, speed, self._rate(step)), strict=True))

    def _is_best(self, loss: float) -> bool:
        epoch, _, best_loss = self._best_of.tolist()
        return math.isfinite(loss) and (not epoch or loss < best_loss)

    def state(self) -> dict[str, Tensor]:
        """Weights, the optimizer's memory, running sums, the best weights so far, what tells the data from other."""
        return {
            "weights": self._flat.weights.detach(),
            **self._optimizer.state,
            "loss_sum": self._loss_sum,
            "best": self._best,
            "best_of": self._best_of,
            "sum": self._sum,
            "summed": self._summed,
            "data": torch.frombuffer(bytearray(self.task.digest()), dtype=torch.uint8),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`state` gave; raises InputError where names, shapes or types differ, or the data does."""
        own = self.state()
        digest = own["data"].clone()
        restore(own, state, "checkpoint", "Start the run anew.")
        if not torch.equal(digest, state["data"]):
            raise InputError("the training pairs", "are not those that the run began with", "Put those back.")

    def draw_losses(self, rows: Rows) -> bytes:
        """Losses and quality by epoch."""
        from mlpx.plots.figure import png  # matplotlib takes half a second to import: only when something is drawn
        from mlpx.plots.loss import losses_and_quality

        name = "validation BLEU" if self.task.quality == "bleu" else "validation sequences exactly right"
        return png(losses_and_quality(f"Transformer, task {self.settings.task}", rows, self._quality, name))

    def outcome(self, last: Mapping[str, float]) -> Outcome:
        """The weights that validate best, their figures, translations and attention."""
        chosen, validated = self._choose(last)
        settings = self.settings
        tuned = settings.tune_length_penalty
        length_penalty = self._judge.best_length_penalty(settings.beam) if tuned else settings.length_penalty
        figures, outputs = self._judge.test(settings.beam, length_penalty)
        pairs = self.task.tests["test"]
        facts = {"weights": chosen}
        if self.task.quality == "bleu":
            facts["bleu_signature"] = self.task.bleu(outputs, pairs)[1]
        translations = zip(pairs.sources, pairs.references, outputs, strict=True)
        text = "\n".join(
            f"source:    {source}\nreference: {reference}\noutput:    {self.task.vocabulary.decode(output)}\n"
            for source, reference, output in list(translations)[:SHOWN]
        )
        return Outcome(
            weights={name: p.detach().clone().cpu() for name, p in self.model.named_parameters()},
            metrics={**validated, "length_penalty": length_penalty, **figures},
            facts=facts,
            summary=self._summary(figures, chosen),
            files={"translations.txt": text.encode(), **self.task.files},
            pictures={"attention.png": lambda: self._draw_attention(pairs, outputs)},
        )

    def _choose(self, last: Mapping[str, float]) -> tuple[str, dict[str, float]]:
        """Put the weights of the lowest validation loss into the model: the last, a mean, or earlier ones.

        Gives which they are, and their figures on the validation set. Quality has no say: BLEU on a thousand sentences
        moves by more from epoch to epoch than there is to choose.
        """
        final_weights = self._flat.weights.detach().clone()
        candidates = [(last["val_loss"], last[self._quality], f"epoch {self._epoch}", final_weights)]
        if self.settings.average_last > 1:
            mean = self._sum / int(self._summed)
            self._flat.copy_(mean)
            loss, quality = self._judge.validate()
            candidates.append((loss, quality, f"the mean of the last {int(self._summed)} epochs", mean))
        epoch, quality, loss = self._best_of.tolist()
        if epoch:
            candidates.append((loss, quality, f"epoch {epoch:.0f}", self._best))
        loss, quality, name, weights_of = min(candidates, key=lambda candidate: candidate[0])
        self._flat.copy_(weights_of)
        return name, {"val_loss": loss, "val_perplexity": perplexity(loss), self._quality: quality}

    def _summary(self, figures: Mapping[str, float], chosen: str) -> str:
        kept = f"; weights of {chosen}, the best in validation"
        if self.task.quality == "bleu":
            return f"BLEU {figures['test_bleu']:.2f} on the test set" + kept
        shares = [
            f"{figures[f'{name}_exactness']:.1%} of {len(pairs.src):,} {'longer ' * (name != 'test')}sequences "
            f"({'{} to {}'.format(*task_lengths)} numbers)"
            for (name, pairs), task_lengths in zip(self.task.tests.items(), (LENGTHS, LONGER_LENGTHS), strict=True)
        ]
        return f"exactly right: {shares[0]}, {shares[1]}" + kept

    def _draw_attention(self, pairs: Pairs, outputs: Sequence[Sequence[int]]) -> bytes:
        easy = (i for i, src in enumerate(pairs.src) if len(src) in EASY_TO_SEE and len(outputs[i]) in EASY_TO_SEE)
        shown = next(easy, 0)
        return draw_attention(self.model, self.task.vocabulary, pairs.src[shown], outputs[shown])
