"""A multilayer perceptron on images of ten classes, by default the textbook's on Fashion-MNIST.

784 pixels in [0, 1], a hidden layer of 256 rectified units, 10 classes; cross-entropy, SGD. Train figures are running
averages over an epoch, in which the weights change; the final ones are those of the weights at the end.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mlpx.data import images
from mlpx.data.images import CLASSES, SIDE, Examples
from mlpx.models.mlp import Mlp, SgdRule, score
from mlpx.runs.events import Outcome
from mlpx.runs.metrics import Rows
from mlpx.runs.weights import read as read_weights
from mlpx.settings.mlp import MlpSettings
from mlpx.training import graphs
from mlpx.training.batches import generator, orders
from mlpx.training.states import restore

COLUMNS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
FINAL = ("final_train_loss", "final_train_accuracy", "test_loss", "test_accuracy")

PRODUCTS = {"fp32": torch.float32, "bf16": torch.bfloat16}
SCORED_AT_ONCE = 1000
NORMAL_QUANTILE = 1.959964  # 97.5 % of a normal distribution lie below


def build(settings: MlpSettings, device: torch.device) -> "Classification":
    """The experiment of these settings, its model untrained; raises InputError where the data cannot be had."""
    return Classification(settings, device)


def metric_names(settings: MlpSettings) -> tuple[str, ...]:
    """The metrics that a finished run has."""
    gaps = ("loss_gap", "accuracy_gap", "test_accuracy_low", "test_accuracy_high")
    return ("epoch", *COLUMNS, "seconds", *FINAL[:2], *gaps)


def final(settings: MlpSettings, device: torch.device, run: Path) -> dict[str, float]:
    """The figures of a run's weights, computed anew; raises InputError."""
    experiment = build(settings, device)
    experiment.load_weights(read_weights(run))
    return experiment.final()


def new_model(settings: MlpSettings, device: torch.device) -> Mlp:
    """The untrained model."""
    return Mlp(
        [SIDE * SIDE, *settings.hidden, len(CLASSES[settings.dataset])],
        generator(settings.seed, "weights"),
        dropout=settings.dropout,
        products=PRODUCTS[settings.precision],
        device=device,
    )


def classify(settings: MlpSettings, weights: Mapping[str, Tensor], pictures: Tensor, device: torch.device) -> Tensor:
    """The probability of each class for pictures (N, 28, 28), uint8, by a run's weights: (N, 10).

    Raises:
        InputError: the weights don't fit the settings.
    """
    model = new_model(settings, device)
    _restore_weights(model, weights)
    return model.log_probabilities(_inputs(pictures.flatten(1).to(device))).exp().cpu()


def _restore_weights(model: Mlp, weights: Mapping[str, Tensor]) -> None:
    restore(model.parameters(), weights, "weights.safetensors", "Train the run anew.")


def _inputs(pixels: Tensor) -> Tensor:
    """Pixels (B, 784), uint8, as numbers in [0, 1]."""
    return pixels.float().div_(255)


class _Set(NamedTuple):
    """Examples on the device: ``pixels`` (N, 784), uint8; ``labels`` (N,), int64."""

    pixels: Tensor
    labels: Tensor


class Classification:
    """The data, the model, and how it is trained and judged."""

    columns = COLUMNS

    def __init__(self, settings: MlpSettings, device: torch.device) -> None:
        self.settings = settings
        self._device = device
        train, self._test_examples = images.load(settings.dataset, settings.data_dir, settings.seed)
        self._train = self._on_device(Examples(*(part[: settings.num_train] for part in train)))
        self._test = self._on_device(self._test_examples)
        self._model = new_model(settings, device)
        self._rule = SgdRule(settings.lr, settings.momentum, settings.weight_decay)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)  # of the epoch so far
        self._num_right = torch.zeros((), dtype=torch.int64, device=device)
        batch_size = min(settings.batch_size, len(self._train.labels))
        self._noise = self._noise_source(batch_size)
        self._full_step: graphs.Step | None = None if device.type == "cuda" else self._step

    def _on_device(self, examples: Examples) -> _Set:
        return _Set(examples.images.flatten(1).to(self._device), examples.labels.to(self._device, torch.int64))

    def _noise_source(self, batch_size: int) -> Tensor | None:
        """Room for 16 random bits for each hidden unit of a batch, in words of 64."""
        if not self._model.drops:
            return None
        return torch.zeros(math.ceil(batch_size * sum(self._model.hidden) / 4), dtype=torch.int64, device=self._device)

    def train(self, epoch: int, step: int) -> Iterator[int]:
        """Train an epoch from ``step`` on, and yield the steps done after each."""
        if step == 0:
            self._loss_sum.zero_()
            self._num_right.zero_()
        count = len(self._train.labels)
        batches = orders(count, [self.settings.seed], epoch)[0].to(self._device).split(self.settings.batch_size)
        if self._full_step is None:
            self._full_step = graphs.record(self._step, batches[0], self.state().values())
        for number, rows in enumerate(batches[step:], start=step):
            if self._noise is not None:
                key = (epoch - 1) * len(batches) + number
                source = generator(self.settings.seed, "dropout", key, self._device)
                self._noise.random_(-(2**63), None, generator=source)
            if len(rows) == len(batches[0]):
                self._full_step(rows)
            else:
                self._step(rows)
            yield number + 1

    def _step(self, rows: Tensor) -> None:
        """Learn from these rows (B,) of the training set; nothing here waits for the device."""
        labels = self._train.labels.index_select(0, rows)
        x = _inputs(self._train.pixels.index_select(0, rows))
        noise = None
        if self._noise is not None:
            width = sum(self._model.hidden)
            noise = self._noise.view(torch.int16)[: len(rows) * width].view(len(rows), width)
        loss_sum, num_right = score(self._model.sgd_step(x, labels, self._rule, noise), labels)
        self._loss_sum += loss_sum
        self._num_right += num_right

    def _predict(self, examples: _Set) -> Tensor:
        """Log-probabilities (N, 10)."""
        blocks = examples.pixels.split(SCORED_AT_ONCE)
        return torch.cat([self._model.log_probabilities(_inputs(block)) for block in blocks])

    def _judge(self, examples: _Set) -> tuple[float, float]:
        """Loss and accuracy on all examples."""
        loss_sum, num_right = score(self._predict(examples), examples.labels)
        return float(loss_sum) / len(examples.labels), float(num_right) / len(examples.labels)

    def evaluate(self) -> dict[str, float]:
        """Running averages of the epoch, and the figures on the test set."""
        count = len(self._train.labels)
        running = (float(self._loss_sum) / count, float(self._num_right) / count)
        return dict(zip(COLUMNS, (*running, *self._judge(self._test)), strict=True))

    def final(self) -> dict[str, float]:
        """Loss and accuracy of the weights as they are, on the whole training set and the test set."""
        return dict(zip(FINAL, (*self._judge(self._train), *self._judge(self._test)), strict=True))

    def state(self) -> dict[str, Tensor]:
        """Weights, the running sums, and momentum's memory where there is any."""
        velocities = self._model.velocities() if self.settings.momentum else {}
        sums = {"loss_sum": self._loss_sum, "num_right": self._num_right}
        return {**self._model.parameters(), **velocities, **sums}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`state` gave; raises InputError where names, shapes or types differ."""
        restore(self.state(), state, "checkpoint", "Start the run anew.")

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take a run's weights; raises InputError where they don't fit."""
        _restore_weights(self._model, weights)

    def draw_losses(self, rows: Rows) -> bytes:
        """Losses and accuracies by epoch."""
        from mlpx.plots.figure import png  # matplotlib takes half a second to import: only when something is drawn
        from mlpx.plots.loss import losses_and_accuracies

        return png(losses_and_accuracies(f"MLP on {self.settings.dataset}", rows))

    def outcome(self, last: Mapping[str, float]) -> Outcome:
        """The figures of the final weights, and pictures of what was learned and mistaken."""
        final = self.final()
        low, high = wilson_interval(final["test_accuracy"], len(self._test.labels))
        gaps = {
            "loss_gap": final["test_loss"] - final["final_train_loss"],
            "accuracy_gap": final["final_train_accuracy"] - final["test_accuracy"],
        }
        log_probabilities = self._predict(self._test).cpu()
        weights = {name: tensor.cpu().contiguous() for name, tensor in self._model.parameters().items()}
        summary = (
            f"test accuracy {final['test_accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}), "
            f"on the training set {final['final_train_accuracy']:.2%}"
        )
        return Outcome(
            weights=weights,
            metrics={**final, **gaps, "test_accuracy_low": low, "test_accuracy_high": high},
            summary=summary,
            pictures={
                "confusion.png": lambda: self._draw_confusion(log_probabilities),
                "mistakes.png": lambda: self._draw_mistakes(log_probabilities),
                "filters.png": lambda: self._draw_filters(weights["1.weight"]),
            },
        )

    def _draw_confusion(self, log_probabilities: Tensor) -> bytes:
        from mlpx.plots.confusion import confusion_matrix
        from mlpx.plots.figure import png

        classes = CLASSES[self.settings.dataset]
        pairs = self._test_examples.labels.long() * len(classes) + log_probabilities.argmax(1)
        counts = pairs.bincount(minlength=len(classes) ** 2).view(len(classes), len(classes))
        return png(confusion_matrix(f"{self._title()}: what the test images were taken for", classes, counts.numpy()))

    def _draw_mistakes(self, log_probabilities: Tensor) -> bytes:
        from mlpx.plots.figure import png
        from mlpx.plots.tiles import TILES, captioned_images

        confidences, guesses = log_probabilities.exp().max(1)
        labels = self._test_examples.labels.long()
        surest = (confidences * (guesses != labels)).argsort(descending=True, stable=True)[:TILES]
        surest = surest[guesses[surest] != labels[surest]]
        classes = CLASSES[self.settings.dataset]
        captions = [(classes[labels[i]], f"{classes[guesses[i]]}, {confidences[i]:.0%}") for i in surest.tolist()]
        wrong = int((guesses != labels).sum())
        title = f"{self._title()}: the surest of {wrong:,} mistakes (truth, guess)"
        return png(captioned_images(title, self._test_examples.images[surest].numpy(), captions))

    def _draw_filters(self, weight: Tensor) -> bytes:
        from mlpx.plots.figure import png
        from mlpx.plots.tiles import signed_images

        return png(signed_images(f"{self._title()}: weights of the first layer", weight.view(-1, SIDE, SIDE).numpy()))

    def _title(self) -> str:
        return f"MLP on {self.settings.dataset}"


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a probability of which ``count`` trials showed ``share``: Wilson (1927).

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z the normal distribution's 97.5 % quantile.
    """
    z = NORMAL_QUANTILE
    middle = share + z**2 / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (middle - reach) / (1 + z**2 / count), (middle + reach) / (1 + z**2 / count)
