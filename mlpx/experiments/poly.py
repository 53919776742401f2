"""Polynomial regression on noisy cubic data: underfitting, fitting, overfitting.

A linear model on the features xⁱ/i!, i = 0 … degree, is trained by SGD on the mean squared error. Its exact
generalisation loss is known beside the losses on the training and the test set, because x is Gaussian.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mlpx.data import polynomial
from mlpx.models import linear
from mlpx.runs.events import Outcome, Table
from mlpx.runs.metrics import Rows
from mlpx.runs.weights import read as read_weights
from mlpx.settings.poly import PolySettings
from mlpx.training import replicas
from mlpx.training.batches import Batches, generator
from mlpx.training.replicas import Figure, figure, listed
from mlpx.training.states import restore

LABELS = {
    "train_loss": "training",
    "test_loss": "test (a sample)",
    "generalization_loss": "generalisation (exact)",
}
COLUMNS = tuple(LABELS)
JUDGED = ("train_to_noise", "generalization_to_train")
SHOWN = ("power", "learned", "learned_p10", "learned_p90", "true")  # of weights.csv, in the table

STEPS_BETWEEN_STOPS = 1000
NEGLIGIBLE = 1e-4
TWICE = 2.0
VIEW, FAR = 3.0, 3.5  # standard deviations of x to each side that a picture shows: at least, and of replicas


def build(settings: PolySettings, device: torch.device) -> "Poly":
    """The experiment of these settings, its model untrained."""
    torch.set_num_threads(1)  # products this small only wait for a second thread
    return Poly(settings, device)


def metric_names(settings: PolySettings) -> tuple[str, ...]:
    """The metrics that a finished run has."""
    count = settings.replicas
    ratios = replicas.names(JUDGED, count)
    extremes = replicas.extreme_names((*COLUMNS, *JUDGED), count)
    return ("epoch", *replicas.names(COLUMNS, count), "seconds", "noise_floor", *ratios, *extremes)


def final(settings: PolySettings, device: torch.device, run: Path) -> dict[str, float]:
    """The losses of a run's weights, computed anew; raises InputError."""
    experiment = build(settings, device)
    experiment.load_weights(read_weights(run))
    return replicas.summary(experiment.evaluate())


class Poly:
    """R polynomials side by side. Shapes: replicas R, examples N, features D = degree + 1."""

    def __init__(self, settings: PolySettings, device: torch.device) -> None:
        self.settings = settings
        self.columns = replicas.names(COLUMNS, settings.replicas)
        sets = [polynomial.sample(s, settings.num_train, settings.num_test, settings.noise_std) for s in settings.seeds]
        self._train_sets, self._test_sets = zip(*sets, strict=True)
        self._train = self._tensors(self._train_sets, device)
        self._test = self._tensors(self._test_sets, device)
        self._batches = Batches(*self._train, settings.seeds, settings.batch_size)
        weights = linear.initial_weight(settings.degree + 1, [generator(s, "weights") for s in settings.seeds])
        self._weight = weights.to(device)  # (R, D, 1)

    def _tensors(self, sets: Sequence[polynomial.Examples], device: torch.device) -> tuple[Tensor, Tensor]:
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

    def evaluate(self) -> dict[str, Figure]:
        """Mean squared errors on the training and the test set, and the exact expectation over all data."""
        losses = [linear.mean_squared_error(self._weight, *examples).tolist() for examples in (self._train, self._test)]
        expected = polynomial.generalization_loss(self.weights(), self.settings.noise_std).tolist()
        return {name: figure(values) for name, values in zip(COLUMNS, (*losses, expected), strict=True)}

    def weights(self) -> polynomial.Array:
        """The weights (R, D) in float64."""
        return self._weight[:, :, 0].double().cpu().numpy()

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

        floor = (f"noise floor {self.settings.noise_std**2:g}", self.settings.noise_std**2)
        band = ", median and band of eight in ten" if self.settings.replicas > 1 else ""
        return png(loss_curves(self._title(f"loss{band}"), rows, LABELS, floor))

    def _title(self, about: str) -> str:
        of = f"{self.settings.replicas} polynomials" if self.settings.replicas > 1 else "Polynomial"
        return f"{of} of degree {self.settings.degree}: {about}"

    def _draw_fit(self, summary: str) -> bytes:
        from mlpx.plots.figure import png
        from mlpx.plots.fit import fit_curve, fit_curves

        title = self._title(summary)
        if self.settings.replicas > 1:
            x = np.linspace(-FAR, FAR, 400)
            learned = self.weights() @ polynomial.features(x, self.settings.degree).T
            return png(fit_curves(title, x, polynomial.true_curve(x), {"": learned}))
        train, test = self._train_sets[0], self._test_sets[0]
        reach = max(VIEW, np.abs(np.concatenate([train.x, test.x])).max() + 0.1)
        x = np.linspace(-reach, reach, 800)
        (learned,) = self.weights() @ polynomial.features(x, self.settings.degree).T
        return png(fit_curve(title, train, test, x, polynomial.true_curve(x), learned))

    def outcome(self, last: Mapping[str, float]) -> Outcome:
        """Learned beside true weights, and the verdict; of replicas how many got which."""
        figures = self.evaluate()
        train_losses, _, expected = (listed(figures[name]) for name in COLUMNS)
        judgements = [judge(*pair, self.settings.noise_std) for pair in zip(train_losses, expected, strict=True)]
        facts, verdict, summary = _in_words(judgements, figures)
        rows = self._weight_rows()
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([list(rows[0]), *(row.values() for row in rows)])
        columns = [name for name in SHOWN if name in rows[0]]
        return Outcome(
            weights={"weight": self._weight[:, :, 0].contiguous().cpu()},  # (R, D); R = 1 fits nn.Linear(D, 1)
            metrics={
                **figures,
                "noise_floor": noise_floor(self.settings.noise_std),
                **{name: figure([judged.numbers[name] for judged in judgements]) for name in JUDGED},
            },
            facts=facts,
            tables=[Table(columns, [[row[name] for name in columns] for row in rows])],
            summary=summary,
            files={"weights.csv": text.getvalue().encode()},
            pictures={"fit.png": lambda: self._draw_fit(verdict)},
        )

    def _weight_rows(self) -> list[dict[str, float]]:
        """A row a weight: learned, true, and exact least squares; of replicas their median and spread."""
        learned = self.weights()
        true = polynomial.true_weights(max(learned.shape[1], len(polynomial.TRUE_WEIGHTS)))
        exact = np.stack([polynomial.least_squares(train, self.settings.degree) for train in self._train_sets])
        figures: list[dict[str, Figure]] = [
            {
                "power": power,
                "learned": figure(learned[:, power].tolist()),
                "true": float(true[power]),
                "least_squares": figure(exact[:, power].tolist()),
            }
            for power in range(learned.shape[1])
        ]
        return [replicas.summary(row) for row in figures]


class Judgement(NamedTuple):
    """A verdict with the sentence and the numbers that led to it."""

    verdict: str
    reason: str
    numbers: dict[str, float]


def _in_words(judgements: Sequence[Judgement], figures: Mapping[str, Figure]) -> tuple[dict[str, Any], str, str]:
    """The verdict for ``run.json``, in a word or two, and in a sentence; of replicas how many got which."""
    if len(judgements) == 1:
        verdict, reason, _ = judgements[0]
        return {"verdict": verdict, "verdict_reason": reason}, verdict, f"{verdict}: {reason}"
    counts = Counter(judged.verdict for judged in judgements).most_common()
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts)
    losses = replicas.in_words(figures, COLUMNS)
    return {"verdicts": dict(counts)}, verdicts, f"{len(judgements)} replicas: {verdicts}; {losses}"


def judge(train_loss: float, generalization_loss: float, noise_std: float) -> Judgement:
    """Underfitting, overfitting or fitting, by two questions fixed in advance.

    Underfitting: the training loss is more than twice the noise floor, so there is structure left to learn.
    Overfitting: else, the generalisation loss is more than twice the training loss (and above the floor), so what
    was learned holds for the training set alone. Fitting: neither.
    """
    floor = noise_floor(noise_std)
    to_noise = train_loss / floor
    to_train = generalization_loss / train_loss if train_loss > 0 else np.inf
    numbers = dict(zip(JUDGED, (to_noise, to_train), strict=True))
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


def noise_floor(noise_std: float) -> float:
    """The noise's variance, or 1e-4 of the labels' variance where the noise is smaller than that."""
    return max(noise_std**2, NEGLIGIBLE * polynomial.signal_variance())
