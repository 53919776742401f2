"""A multilayer perceptron on images of ten classes, by default the textbook's on Fashion-MNIST.

784 pixels in [0, 1], a hidden layer of 256 rectified units, 10 classes; cross-entropy, SGD. Train figures are running
averages over an epoch, in which the weights change; the final ones are those of the weights at the end.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mlpx.data import images
from mlpx.data.images import SIDE, Examples
from mlpx.experiments import classifier
from mlpx.experiments.classifier import inputs, new_model, trained_model
from mlpx.models.mlp import SgdRule, score
from mlpx.runs.events import Outcome
from mlpx.runs.metrics import Rows
from mlpx.runs.weights import read as read_weights
from mlpx.settings.mlp import MlpSettings
from mlpx.training import graphs, replicas
from mlpx.training.batches import generator, orders
from mlpx.training.jitter import Jitter
from mlpx.training.replicas import Figure, figure, listed
from mlpx.training.schedules import rate
from mlpx.training.states import restore

COLUMNS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
FINAL = ("final_train_loss", "final_train_accuracy", "test_loss", "test_accuracy")
GAPS = ("loss_gap", "accuracy_gap", "test_accuracy_low", "test_accuracy_high")

SCORED_AT_ONCE = 1000


def build(settings: MlpSettings, device: torch.device) -> "Classification":
    """The experiment of these settings, its model untrained; raises InputError where the data cannot be had."""
    return Classification(settings, device)


def metric_names(settings: MlpSettings) -> tuple[str, ...]:
    """The metrics that a finished run has."""
    count, ends = settings.replicas, (*FINAL[:2], *GAPS)
    extremes = replicas.extreme_names((*COLUMNS, *ends), count)
    return ("epoch", *replicas.names(COLUMNS, count), "seconds", *replicas.names(ends, count), *extremes)


def final(settings: MlpSettings, device: torch.device, run: Path) -> dict[str, float]:
    """The figures of a run's weights, computed anew; raises InputError."""
    experiment = build(settings, device)
    experiment.load_weights(read_weights(run))
    return replicas.summary(experiment.final())


class _Set(NamedTuple):
    """Examples on the device: ``pixels`` (N, 784), uint8; ``labels`` (N,), int64."""

    pixels: Tensor
    labels: Tensor


class Classification:
    """The data, the models of R replicas, and how they are trained and judged."""

    def __init__(self, settings: MlpSettings, device: torch.device) -> None:
        self.settings = settings
        self.columns = replicas.names(COLUMNS, settings.replicas)
        self._device = device
        train, self._test_examples = images.load(settings.dataset, settings.data_dir)
        self._train = self._on_device(Examples(*(part[: settings.num_train] for part in train)))
        self._test = self._on_device(self._test_examples)
        self._model = new_model(settings, device, batch_norm=settings.batch_norm)
        self._loss_sum = torch.zeros(settings.replicas, dtype=torch.float64, device=device)  # of the epoch so far
        self._num_right = torch.zeros(settings.replicas, dtype=torch.int64, device=device)
        self._jitter: Jitter | None = None
        if settings.jitter or settings.flip:
            pixels = self._train.pixels.unflatten(1, (SIDE, SIDE))
            self._jitter = Jitter(pixels, settings.jitter, flip=settings.flip)
        self._noise = self._noise_source(min(settings.batch_size, len(self._train.labels)))
        self._rule = SgdRule(settings.lr, settings.momentum, settings.weight_decay)
        # A graph is a step with one learning rate.
        is_recorded = device.type == "cuda" and settings.schedule == "constant"
        self._full_step: graphs.Step | None = None if is_recorded else self._step

    def _on_device(self, examples: Examples) -> _Set:
        return _Set(examples.images.flatten(1).to(self._device), examples.labels.to(self._device, torch.int64))

    def _noise_source(self, batch_size: int) -> Tensor | None:
        """Room for 16 random bits for each hidden unit of a batch, in words of 64, a row a replica."""
        if not self._model.drops:
            return None
        words = -(-batch_size * sum(self._model.hidden) // 4)
        return torch.zeros(self.settings.replicas, words, dtype=torch.int64, device=self._device)

    def train(self, epoch: int, step: int) -> Iterator[int]:
        """Train an epoch from ``step`` on, and yield the steps done after each."""
        if step == 0:
            self._loss_sum.zero_()
            self._num_right.zero_()
        batches = self._choices(epoch).to(self._device).split(self.settings.batch_size, dim=1)
        if self._full_step is None:
            self._full_step = graphs.record(self._step, batches[0], self.state().values())
        for number, chosen in enumerate(batches[step:], start=step):
            self._prepare((epoch - 1) * len(batches) + number, len(batches))
            if chosen.shape == batches[0].shape:
                self._full_step(chosen)
            else:
                self._step(chosen)
            yield number + 1

    def _choices(self, epoch: int) -> Tensor:
        """The rows of the training set in the order of ``epoch``, and how each image moves: (R, N, 1 or 4)."""
        count, settings = len(self._train.labels), self.settings
        rows = orders(count, settings.seeds, epoch)[..., None]
        if self._jitter is None:
            return rows
        strength = 1 - (epoch - 1) / settings.epochs
        return torch.cat([rows, self._jitter.draw(count, settings.seeds, epoch, strength)], dim=2)

    def _prepare(self, step: int, steps_an_epoch: int) -> None:
        """Make ready what a step needs beside its batch; ``step`` counts from 0 over all epochs."""
        settings = self.settings
        if settings.schedule != "constant":
            lr = rate(settings.schedule, settings.lr, step + 1, 0, settings.epochs * steps_an_epoch)
            self._rule = self._rule._replace(lr=lr)
        if self._noise is not None:
            for seed, row in zip(settings.seeds, self._noise, strict=True):
                row.random_(-(2**63), None, generator=generator(seed, "dropout", step, self._device))

    def _step(self, chosen: Tensor) -> None:
        """Learn from these of :meth:`_choices`, (R, B, …); nothing here waits for the device."""
        rows = chosen[..., 0]
        labels = self._train.labels[rows]
        if self._jitter is None:
            pixels = self._train.pixels.index_select(0, rows.flatten()).unflatten(0, rows.shape)
        else:
            pixels = self._jitter.moved(rows, chosen[..., 1:]).flatten(2)
        noise = None
        if self._noise is not None:
            width = sum(self._model.hidden)
            noise = self._noise.view(torch.int16)[:, : rows.shape[1] * width].unflatten(1, (-1, width))
        smoothing = self.settings.label_smoothing
        loss_sum, num_right = score(self._model.sgd_step(inputs(pixels), labels, self._rule, noise, smoothing), labels)
        self._loss_sum += loss_sum
        self._num_right += num_right

    def _predict(self, examples: _Set) -> Tensor:
        """Log-probabilities (R, N, 10)."""
        model = self._model.folded()
        blocks = examples.pixels.split(SCORED_AT_ONCE)
        return torch.cat([model.log_probabilities(inputs(block)) for block in blocks], dim=1)

    def _judge(self, log_probabilities: Tensor, examples: _Set) -> tuple[Figure, Figure]:
        """Loss and accuracy of log-probabilities (R, N, 10) of all examples."""
        return self._per_example(*score(log_probabilities, examples.labels), len(examples.labels))

    def _running(self) -> tuple[Figure, Figure]:
        """Loss and accuracy of the epoch, while the weights changed."""
        return self._per_example(self._loss_sum, self._num_right, len(self._train.labels))

    def _per_example(self, loss_sum: Tensor, num_right: Tensor, count: int) -> tuple[Figure, Figure]:
        return figure(loss_sum.div(count).tolist()), figure(num_right.double().div(count).tolist())

    def evaluate(self) -> dict[str, Figure]:
        """Running averages of the epoch, and the figures on the test set."""
        return dict(zip(COLUMNS, (*self._running(), *self._judge(self._predict(self._test), self._test)), strict=True))

    def final(self) -> dict[str, Figure]:
        """Loss and accuracy of the weights as they are, on the whole training set and the test set."""
        return self._final(self._predict(self._test))

    def _final(self, of_test: Tensor) -> dict[str, Figure]:
        """The same, with the log-probabilities ``of_test`` known."""
        on_train = self._judge(self._predict(self._train), self._train)
        return dict(zip(FINAL, (*on_train, *self._judge(of_test, self._test)), strict=True))

    def state(self) -> dict[str, Tensor]:
        """Weights, the running sums, and momentum's memory where there is any."""
        velocities = self._model.velocities() if self.settings.momentum else {}
        return {**self._model.state(), **velocities, "loss_sum": self._loss_sum, "num_right": self._num_right}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`state` gave; raises InputError where names, shapes or types differ."""
        restore(self.state(), state, "checkpoint", "Start the run anew.")

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take a run's weights; raises InputError where they don't fit."""
        self._model = trained_model(self.settings, weights, self._device)

    def draw_losses(self, rows: Rows) -> bytes:
        """Losses and accuracies by epoch."""
        from mlpx.plots.figure import png  # matplotlib takes half a second to import: only when something is drawn
        from mlpx.plots.loss import losses_and_accuracies

        band = ": median, and band of eight in ten" if self.settings.replicas > 1 else ""
        return png(losses_and_accuracies(classifier.title(self.settings) + band, rows))

    def outcome(self, last: Mapping[str, float]) -> Outcome:
        """The figures of the final weights, and pictures of what was learned and mistaken."""
        settings, labels = self.settings, self._test_examples.labels
        of_test = self._predict(self._test)
        final, log_probabilities = self._final(of_test), of_test.cpu()
        running = dict(zip(COLUMNS[:2], self._running(), strict=True))
        weights = {name: tensor.cpu().contiguous() for name, tensor in self._model.folded().parameters().items()}
        return Outcome(
            weights=weights,
            metrics={**running, **final, **self._gaps(final)},
            summary=self._summary(final),
            pictures={
                "confusion.png": lambda: classifier.draw_confusion(settings, labels, log_probabilities),
                "mistakes.png": lambda: classifier.draw_mistakes(settings, self._test_examples, log_probabilities),
                "filters.png": lambda: classifier.draw_filters(settings, self._model.folded().weights[0]),
            },
        )

    def _gaps(self, final: Mapping[str, Figure]) -> dict[str, Figure]:
        """What lies between the training and the test set, and the interval of the test accuracy."""
        train_losses, train_accuracies, test_losses, test_accuracies = (listed(final[name]) for name in FINAL)
        gaps = [
            (test_loss - train_loss, train_accuracy - test_accuracy, *self._interval(test_accuracy))
            for train_loss, train_accuracy, test_loss, test_accuracy in zip(
                train_losses, train_accuracies, test_losses, test_accuracies, strict=True
            )
        ]
        return {name: figure(list(values)) for name, values in zip(GAPS, zip(*gaps, strict=True), strict=True)}

    def _interval(self, accuracy: float) -> tuple[float, float]:
        return classifier.wilson_interval(accuracy, len(self._test.labels))

    def _summary(self, final: Mapping[str, Figure]) -> str:
        names = ("test_accuracy", "final_train_accuracy")
        if self.settings.replicas > 1:
            return f"{self.settings.replicas} replicas: {replicas.in_words(final, names)}"
        (accuracy,), (train_accuracy,) = (listed(final[name]) for name in names)
        low, high = self._interval(accuracy)
        return (
            f"test accuracy {accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}), "
            f"on the training set {train_accuracy:.2%}"
        )
