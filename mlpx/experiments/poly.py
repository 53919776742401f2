"""Polynomial regression on noisy cubic data: underfitting, fitting, overfitting.

A linear model on the features xⁱ/i!, i = 0 … degree, is trained by SGD on the mean squared error. Its exact
generalisation loss is known beside the losses on the training and the test set, because x is Gaussian.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mlpx.data import polynomial
from mlpx.models import linear
from mlpx.runs.events import Outcome, Table
from mlpx.runs.metrics import Rows
from mlpx.runs.weights import read as read_weights
from mlpx.settings.poly import PolySettings
from mlpx.training.batches import Batches, generator
from mlpx.training.states import restore

LABELS = {
    "train_loss": "training",
    "test_loss": "test (a sample)",
    "generalization_loss": "generalisation (exact)",
}
COLUMNS = tuple(LABELS)

STEPS_BETWEEN_STOPS = 1000
NEGLIGIBLE = 1e-4
TWICE = 2.0
VIEW = 3.0  # standard deviations of x to each side that a picture shows at least


def build(settings: PolySettings, device: torch.device) -> "Poly":
    """The experiment of these settings, its model untrained."""
    torch.set_num_threads(1)  # products this small only wait for a second thread
    return Poly(settings, device)


def metric_names(settings: PolySettings) -> tuple[str, ...]:
    """The metrics that a finished run has."""
    return ("epoch", *COLUMNS, "seconds", "noise_floor", "train_to_noise", "generalization_to_train")


def final(settings: PolySettings, device: torch.device, run: Path) -> dict[str, float]:
    """The losses of a run's weights, computed anew; raises InputError."""
    experiment = build(settings, device)
    experiment.load_weights(read_weights(run))
    return experiment.evaluate()


class Poly:
    """R polynomials side by side, today one. Shapes: replicas R, examples N, features D = degree + 1."""

    columns = COLUMNS

    def __init__(self, settings: PolySettings, device: torch.device) -> None:
        self.settings = settings
        seeds = [settings.seed]
        sets = [polynomial.sample(s, settings.num_train, settings.num_test, settings.noise_std) for s in seeds]
        self._train_set, self._test_set = sets[0]
        self._train = self._tensors([train for train, _ in sets], device)
        self._test = self._tensors([test for _, test in sets], device)
        self._batches = Batches(*self._train, seeds, settings.batch_size)
        weights = linear.initial_weight(settings.degree + 1, [generator(s, "weights") for s in seeds])
        self._weight = weights.to(device)  # (R, D, 1)

    def _tensors(self, sets: list[polynomial.Examples], device: torch.device) -> tuple[Tensor, Tensor]:
        """Features (R, N, D) and targets (R, N, 1), computed in float64 and kept in float32."""
        features = np.stack([polynomial.features(x, self.settings.degree) for x, _ in sets]).astype(np.float32)
        targets = np.stack([y for _, y in sets]).astype(np.float32)[..., None]
        return torch.from_numpy(features).to(device), torch.from_numpy(targets).to(device)

    def train(self, epoch: int, step: int) -> Iterator[int]:
        """Train an epoch from ``step`` on, and yield the steps done at its end and now and then before."""
        batches = self._batches.of_epoch(epoch)
        for start in range(step, len(batches), STEPS_BETWEEN_STOPS):
            stretch = batches[start : start + STEPS_BETWEEN_STOPS]
            linear.sgd_steps(self._weight, stretch, self.settings.lr, self.settings.weight_decay)
            yield start + len(stretch)

    def evaluate(self) -> dict[str, float]:
        """Mean squared errors on the training and the test set, and the exact expectation over all data."""
        losses = [linear.mean_squared_error(self._weight, *examples) for examples in (self._train, self._test)]
        train_loss, test_loss = torch.stack(losses).squeeze(1).tolist()
        expected = polynomial.generalization_loss(self.weights(), self.settings.noise_std)
        return dict(zip(COLUMNS, (train_loss, test_loss, float(expected)), strict=True))

    def weights(self) -> polynomial.Array:
        """The weights (D,) in float64."""
        return self._weight[0, :, 0].double().cpu().numpy()

    def state(self) -> dict[str, Tensor]:
        """The weights; SGD without momentum has no other state."""
        return {"weight": self._weight}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back the weights; raises InputError where their shape or type is another."""
        restore(self.state(), state, "checkpoint", "Start the run anew.")

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take a run's weights, (R, D); raises InputError where they don't fit."""
        restore({"weight": self._weight[:, :, 0]}, weights, "weights.safetensors", "Train the run anew.")

    def draw_losses(self, rows: Rows) -> bytes:
        """The loss curves above the noise floor."""
        from mlpx.plots.figure import png  # matplotlib takes half a second to import: only when something is drawn
        from mlpx.plots.loss import loss_curves

        curves = {label: rows[name] for name, label in LABELS.items()}
        floor = (f"noise floor {self.settings.noise_std**2:g}", self.settings.noise_std**2)
        return png(loss_curves(f"Polynomial of degree {self.settings.degree}: loss", rows["epoch"], curves, floor))

    def _draw_fit(self, summary: str) -> bytes:
        from mlpx.plots.figure import png
        from mlpx.plots.fit import fit_curve

        train, test = self._train_set, self._test_set
        reach = max(VIEW, np.abs(np.concatenate([train.x, test.x])).max() + 0.1)
        x = np.linspace(-reach, reach, 800)
        learned = polynomial.features(x, self.settings.degree) @ self.weights()
        title = f"Polynomial of degree {self.settings.degree}: {summary}"
        return png(fit_curve(title, train, test, x, polynomial.true_curve(x), learned))

    def outcome(self, last: Mapping[str, float]) -> Outcome:
        """Learned beside true weights, and the verdict."""
        learned = self.weights()
        true = polynomial.true_weights(max(len(learned), len(polynomial.TRUE_WEIGHTS)))[: len(learned)]
        exact = polynomial.least_squares(self._train_set, self.settings.degree)
        columns = [range(len(learned)), learned.tolist(), true.tolist(), exact.tolist()]
        rows = list(zip(*columns, strict=True))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("power", "learned", "true", "least_squares"), *rows])
        judged = judge(last["train_loss"], last["generalization_loss"], self.settings.noise_std)
        return Outcome(
            weights={"weight": self._weight[:, :, 0].contiguous().cpu()},  # (R, D); R = 1 fits nn.Linear(D, 1)
            metrics=judged.numbers,
            facts={"verdict": judged.verdict, "verdict_reason": judged.reason},
            tables=[Table(("power", "learned", "true"), [row[:3] for row in rows])],
            summary=f"{judged.verdict}: {judged.reason}",
            files={"weights.csv": text.getvalue().encode()},
            pictures={"fit.png": lambda: self._draw_fit(judged.verdict)},
        )


class Judgement(NamedTuple):
    """A verdict with the sentence and the numbers that led to it."""

    verdict: str
    reason: str
    numbers: dict[str, float]


def judge(train_loss: float, generalization_loss: float, noise_std: float) -> Judgement:
    """Underfitting, overfitting or fitting, by two questions fixed in advance.

    Underfitting: the training loss is more than twice the noise floor, so there is structure left to learn.
    Overfitting: else, the generalisation loss is more than twice the training loss (and above the floor), so what
    was learned holds for the training set alone. Fitting: neither. The noise floor is the noise's variance, or
    1e-4 of the labels' variance where the noise is smaller than that.
    """
    floor = max(noise_std**2, NEGLIGIBLE * polynomial.signal_variance())
    to_noise = train_loss / floor
    to_train = generalization_loss / train_loss if train_loss > 0 else np.inf
    numbers = {"noise_floor": floor, "train_to_noise": to_noise, "generalization_to_train": to_train}
    losses = f"generalisation loss {generalization_loss:.4g} is {to_train:.3g} times the training loss {train_loss:.4g}"
    if to_noise > TWICE:
        reason = f"training loss {train_loss:.4g} is {to_noise:.3g} times the noise floor {floor:.4g} (more than 2)"
        return Judgement("underfitting", reason, numbers)
    if to_train > TWICE and generalization_loss > floor:
        return Judgement("overfitting", f"{losses} (more than 2)", numbers)
    if generalization_loss > floor:
        reason = f"training loss is {to_noise:.3g} times the noise floor {floor:.4g}, and {losses} (both at most 2)"
    else:
        reason = f"training loss {train_loss:.4g} and generalisation loss {generalization_loss:.4g} are negligible"
    return Judgement("fitting", reason, numbers)
