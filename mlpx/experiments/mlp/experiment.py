"""A multilayer perceptron on images of ten classes, by default the textbook's on Fashion-MNIST.

784 pixels in [0, 1], a hidden layer of 256 rectified units, 10 classes; cross-entropy, SGD. The training metrics are
running averages over an epoch, in which the weights change; the final ones are those of the weights that are kept: the
last ones, or with patience those of the best row.
"""

import functools
import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mlpx.errors import UsageError
from mlpx.experiments.mlp import graphs, images, report
from mlpx.experiments.mlp.augmentation import Augmentation
from mlpx.experiments.mlp.classify import inputs, new_model, trained_model
from mlpx.experiments.mlp.images import Examples
from mlpx.experiments.mlp.metrics import FINAL_TRAIN_ACCURACY, TEST_ACCURACY, VAL_ACCURACY
from mlpx.experiments.mlp.model import SgdRule, score
from mlpx.experiments.mlp.settings import SIDE, MlpSettings
from mlpx.training import devices, statistics
from mlpx.training.experiment import Experiment, Learned, Outcome, State, Values
from mlpx.training.randomness import generator, orders
from mlpx.training.schedules import learning_rate
from mlpx.training.states import restore
from mlpx.training.stopping import VAL_LOSS, BestRow

SCORED_AT_ONCE = 1000  # images, on a CPU, whose cache has room for what the layers make of them
SCORED_AT_ONCE_ON_GPU = 20_000  # images of all replicas


class _ExamplesOnDevice(NamedTuple):
    """Examples on the device: ``pixels`` (N, 784), uint8; ``labels`` (N,), int64."""

    pixels: Tensor
    labels: Tensor


class Classification(Experiment[MlpSettings]):
    """The images, and R perceptrons that learn to classify them side by side.

    Shapes: R replicas, N training images, B images of a batch.
    """

    def __init__(self, settings: MlpSettings, device: torch.device) -> None:
        self.settings = settings
        self._device = device
        given, self._test_examples = images.load(settings.dataset, settings.data_dir)
        train, val = _split(given, settings)
        self._train = self._on_device(train)
        self._val = self._on_device(val)
        self._test = self._on_device(self._test_examples)
        self._model = new_model(settings, device, batch_norm=settings.batch_norm)
        # The sums over the epoch so far of the losses and of the correct answers, from which the running averages come.
        self._loss_sum = torch.zeros(settings.replicas, dtype=torch.float64, device=device)
        self._num_right = torch.zeros(settings.replicas, dtype=torch.int64, device=device)
        self._augmentation: Augmentation | None = None
        if settings.jitter or settings.flip:
            pixels = self._train.pixels.unflatten(1, (SIDE, SIDE))
            self._augmentation = Augmentation(pixels, settings.jitter, flip=settings.flip)
        self._dropout_bits = self._room_for_dropout(min(settings.batch_size, len(self._train.labels)))
        self._rule = SgdRule(settings.lr, settings.momentum, settings.weight_decay)
        self._uses_graphs = device.type == "cuda"
        self._graphs: dict[torch.Size, graphs.Step] = {}
        # A graph freezes numbers, but reads this anew each time.
        self._lr = torch.zeros((), device=device)
        if settings.patience:
            kept = {f"best.{name}": part for name, part in {**self._model.state(), **self._sums()}.items()}
            self.best = BestRow(kept, eval_every=settings.eval_every, patience=settings.patience)

    def _on_device(self, examples: Examples) -> _ExamplesOnDevice:
        pixels = examples.images.flatten(1).to(self._device)
        return _ExamplesOnDevice(pixels, examples.labels.to(self._device, torch.int64))

    def _room_for_dropout(self, batch_size: int) -> Tensor | None:
        """Room for 16 random bits for each hidden unit of a batch, in words of 64 bits, a row a replica."""
        if not self._model.drops:
            return None
        words = -(-batch_size * sum(self._model.hidden) // 4)  # rounded up
        return torch.zeros(self.settings.replicas, words, dtype=torch.int64, device=self._device)

    @functools.cached_property
    def data_digest(self) -> str:
        """A digest of the images and labels, since a folder of the same name may hold others."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (*self._train, *self._val, *self._test):
            digest.update(part.contiguous().cpu().numpy().data)
        return digest.hexdigest()

    @property
    def num_steps(self) -> int:
        """Batches of an epoch."""
        return math.ceil(len(self._train.labels) / self.settings.batch_size)

    def train(self, epoch: int, step: int) -> Iterator[int]:
        """Train ``epoch`` from ``step`` on, and yield the number of steps done after each."""
        if step == 0:
            self._loss_sum.zero_()
            self._num_right.zero_()
        batches = devices.uploaded(self._choices(epoch), self._device).split(self.settings.batch_size, dim=1)
        for number, chosen in enumerate(batches[step:], start=step):
            self._prepare((epoch - 1) * len(batches) + number)
            self._step_for(chosen)(chosen)
            yield number + 1

    def _step_for(self, chosen: Tensor) -> graphs.Step:
        """The step for batches of this shape, of which there are two at most; on CUDA each is recorded as a graph."""
        if not self._uses_graphs:
            return self._step
        if chosen.shape not in self._graphs:
            tensors = [part for part in self.state().values() if isinstance(part, Tensor)]
            self._graphs[chosen.shape] = graphs.record(self._step, chosen, tensors)
        return self._graphs[chosen.shape]

    def _choices(self, epoch: int) -> Tensor:
        """The rows of the training set in the order of ``epoch``, and how each image moves: (R, N, 1 or 4)."""
        count, settings = len(self._train.labels), self.settings
        rows = orders(count, settings.seeds, epoch)[..., None]
        if self._augmentation is None:
            return rows
        strength = 1 - (epoch - 1) / settings.epochs
        return torch.cat([rows, self._augmentation.draw(count, settings.seeds, epoch, strength)], dim=2)

    def _prepare(self, step: int) -> None:
        """Set the learning rate and draw the dropout bits; ``step`` counts from 0 over all epochs."""
        settings = self.settings
        if settings.schedule != "constant":
            lr = learning_rate(settings.schedule, settings.lr, step + 1, 0, settings.epochs * self.num_steps)
            self._rule = self._rule._replace(lr=self._lr.fill_(lr) if self._uses_graphs else lr)
        if self._dropout_bits is not None:
            for seed, row in zip(settings.seeds, self._dropout_bits, strict=True):
                row.random_(-(2**63), None, generator=generator(seed, "dropout", step, self._device))

    def _step(self, chosen: Tensor) -> None:
        """Take a step of SGD on a batch of :meth:`_choices`, (R, B, …); nothing here waits for the device."""
        rows = chosen[..., 0]
        labels = self._train.labels[rows]
        if self._augmentation is None:
            pixels = self._train.pixels.index_select(0, rows.flatten()).unflatten(0, rows.shape)
        else:
            pixels = self._augmentation.apply(rows, chosen[..., 1:]).flatten(2)
        noise = None
        if self._dropout_bits is not None:
            width = sum(self._model.hidden)
            noise = self._dropout_bits.view(torch.int16)[:, : rows.shape[1] * width].unflatten(1, (-1, width))
        smoothing = self.settings.label_smoothing
        log_probabilities = self._model.sgd_step(inputs(pixels), labels, self._rule, noise, smoothing)
        loss_sum, num_right = score(log_probabilities, labels)
        self._loss_sum += loss_sum
        self._num_right += num_right

    @property
    def _scored_at_once(self) -> int:
        if not devices.is_accelerator(self._device):
            return SCORED_AT_ONCE
        return max(SCORED_AT_ONCE, SCORED_AT_ONCE_ON_GPU // self.settings.replicas)

    def _log_probabilities(self, examples: _ExamplesOnDevice) -> Tensor:
        """Log-probabilities (R, N, 10) of all examples."""
        model = self._model.folded()
        blocks = examples.pixels.split(self._scored_at_once)
        return torch.cat([model.log_probabilities(inputs(block)) for block in blocks], dim=1)

    def _running_averages(self) -> dict[str, Values]:
        """Loss and accuracy of the epoch, while the weights changed."""
        count = len(self._train.labels)
        return {
            "train_loss": self._loss_sum.div(count).tolist(),
            "train_accuracy": self._num_right.double().div(count).tolist(),
        }

    def _scores(self, part: str, log_probabilities: Tensor, examples: _ExamplesOnDevice) -> dict[str, Values]:
        """Loss and accuracy of log-probabilities (R, N, 10); the names begin with ``part``."""
        loss_sum, num_right = score(log_probabilities, examples.labels)
        count = len(examples.labels)
        return {
            f"{part}_loss": loss_sum.div(count).tolist(),
            f"{part}_accuracy": num_right.double().div(count).tolist(),
        }

    def evaluate(self) -> dict[str, Values]:
        """The running averages of the epoch, and loss and accuracy on the test set and the validation set."""
        on_test = self._scores("test", self._log_probabilities(self._test), self._test)
        return {**self._running_averages(), **on_test, **self._validation_scores()}

    def remember(self, epoch: int, values: Mapping[str, Values]) -> None:
        """With patience, keep the weights of ``epoch`` if they have the lowest validation loss so far."""
        if self.best is not None:
            (loss,) = values[VAL_LOSS]
            self.best.offer(epoch, loss)

    def _validation_scores(self) -> dict[str, Values]:
        """Loss and accuracy on the validation set; nothing where there is none."""
        return self._scores("val", self._log_probabilities(self._val), self._val) if self.settings.num_val else {}

    def _final_scores(self, on_test: Tensor) -> dict[str, Values]:
        """Loss and accuracy of the weights as they are, on the whole training set, the test and the validation set.

        ``on_test`` are the log-probabilities of the test set.
        """
        on_train = self._log_probabilities(self._train)
        return {
            **self._scores("final_train", on_train, self._train),
            **self._scores("test", on_test, self._test),
            **self._validation_scores(),
        }

    @classmethod
    def final_metrics(cls, settings: MlpSettings, device: torch.device, learned: Learned) -> dict[str, Values]:
        """Losses and accuracies of a run's weights, computed anew.

        Raises:
            InputError: The weights do not fit the settings, or the images cannot be had.
        """
        experiment = cls(settings, device)
        experiment._model = trained_model(settings, learned.weights, device)
        return experiment._final_scores(experiment._log_probabilities(experiment._test))

    def state(self) -> State:
        """Weights, the running sums, momentum's velocities where there is momentum, and with patience the best row."""
        velocities = self._model.velocities() if self.settings.momentum else {}
        best = self.best.state() if self.best is not None else {}
        return {**self._model.state(), **velocities, **self._sums(), **best}

    def _sums(self) -> dict[str, Tensor]:
        return {"loss_sum": self._loss_sum, "num_right": self._num_right}

    def load_state(self, state: State) -> None:
        """Put back what :meth:`state` gave.

        Raises:
            InputError: Names, shapes or types differ.
        """
        restore(self.state(), state, "checkpoint", "Start the run anew.")
        if self.best is not None:
            self.best.take_numbers(state)

    @property
    def title(self) -> str:
        """How many perceptrons there are, and what they classify."""
        models = self.count_of("MLPs") if self.settings.replicas > 1 else "MLP"
        return f"{models} on {self.settings.dataset}"

    def outcome(self, row: Mapping[str, float]) -> Outcome:
        """The final scores, the gaps between them, and pictures of what was learned and mistaken."""
        settings, test, title, kept = self.settings, self._test_examples, self.title, self.going_on
        on_test = self._log_probabilities(self._test)
        scores, guesses = self._final_scores(on_test), on_test[kept].cpu()
        weights = {name: tensor.clone().cpu() for name, tensor in self._model.folded().parameters().items()}
        return Outcome(
            weights=weights,
            metrics={**self._running_averages(), **scores, **self._gaps(scores)},
            summary=self._summary(scores),
            pictures={
                "confusion.png": lambda: report.draw_confusion(title, settings.dataset, test.labels, guesses),
                "mistakes.png": lambda: report.draw_mistakes(title, settings.dataset, test, guesses),
                "filters.png": lambda: report.draw_filters(settings, self._model.folded().weights[0], kept[0]),
            },
        )

    def _gaps(self, scores: Mapping[str, Values]) -> dict[str, Values]:
        """The gaps between training and test set, and the 95 % interval of the test accuracy."""
        losses = zip(scores["test_loss"], scores["final_train_loss"], strict=True)
        accuracies = zip(scores["final_train_accuracy"], scores["test_accuracy"], strict=True)
        intervals = [self._interval(accuracy) for accuracy in scores["test_accuracy"]]
        return {
            "loss_gap": [test - train for test, train in losses],
            "accuracy_gap": [train - test for train, test in accuracies],
            "test_accuracy_low": [low for low, _ in intervals],
            "test_accuracy_high": [high for _, high in intervals],
        }

    def _interval(self, accuracy: float) -> tuple[float, float]:
        return report.wilson_interval(accuracy, len(self._test.labels))

    def _summary(self, scores: Mapping[str, Values]) -> str:
        if self.settings.replicas > 1:
            shown = (*([VAL_ACCURACY] if self.settings.num_val else []), TEST_ACCURACY, FINAL_TRAIN_ACCURACY)
            spread = statistics.in_words(shown, scores, self.diverged)
            return f"{self.count_of('replicas')}: {spread}"
        (accuracy,), (train_accuracy,) = scores["test_accuracy"], scores["final_train_accuracy"]
        low, high = self._interval(accuracy)
        validation = f"validation accuracy {scores['val_accuracy'][0]:.2%}, " if self.settings.num_val else ""
        kept = f"; weights of epoch {self.best.epoch}, the best in validation" if self.best is not None else ""
        return (
            f"{validation}test accuracy {accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}), "
            f"on the training set {train_accuracy:.2%}{kept}"
        )


def _split(examples: Examples, settings: MlpSettings) -> tuple[Examples, Examples]:
    """The training set and the validation set: the first and the last of the training file's ``examples``.

    Raises:
        UsageError: No example is left to train on.
    """
    available = len(examples.labels) - settings.num_val
    if available < 1:
        why = f"{settings.num_val} cannot be used: {settings.dataset} has {len(examples.labels)} training examples"
        raise UsageError("--num-val", why, "Give fewer.")
    first, last = slice(min(settings.num_train, available)), slice(available, None)
    return Examples(*(part[first] for part in examples)), Examples(*(part[last] for part in examples))
