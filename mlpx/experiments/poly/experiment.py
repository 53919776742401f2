"""Polynomial regression on noisy cubic data: underfitting, fitting, overfitting.

A linear model on the features xⁱ/i!, i = 0 … degree, is trained by SGD on the mean squared error. Because x is
Gaussian, the exact generalization loss is known beside the losses on the training and the test set.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mlpx.experiments.poly import data, model
from mlpx.experiments.poly.batches import Batches
from mlpx.experiments.poly.metrics import LOSSES
from mlpx.experiments.poly.settings import PolySettings
from mlpx.experiments.poly.verdict import Verdict, decide, noise_floor
from mlpx.settings.metrics import Metric
from mlpx.training import statistics
from mlpx.training.experiment import Experiment, Learned, Outcome, Rows, State, Table, Values
from mlpx.training.randomness import generator
from mlpx.training.states import restore

# The columns of weights.csv that the table at the end shows.
SHOWN = ("power", "learned", "learned_p10", "learned_p90", "true")

STEPS_BETWEEN_STOPS = 1000
# Standard deviations of x to each side that fit.png shows: at least, and of several replicas.
VIEW, REPLICAS_VIEW = 3.0, 3.5
MAX_CURVES = 1000


class Polynomials(Experiment[PolySettings]):
    """R polynomials side by side. Shapes: replicas R, examples N, features D = degree + 1."""

    # Products this small only wait for a second thread.
    num_threads: ClassVar[int | None] = 1

    def __init__(self, settings: PolySettings, device: torch.device) -> None:
        self.settings = settings
        sets = [data.sample(s, settings.num_train, settings.num_test, settings.noise_std) for s in settings.seeds]
        self._train_sets, self._test_sets = zip(*sets, strict=True)
        self._train = self._tensors(self._train_sets, device)
        self._test = self._tensors(self._test_sets, device)
        self._batches = Batches(*self._train, settings.seeds, settings.batch_size)
        weights = model.initial_weight(settings.degree + 1, [generator(s, "weights") for s in settings.seeds])
        self._weight = weights.to(device)  # (R, D, 1)

    def _tensors(self, sets: Sequence[data.Points], device: torch.device) -> tuple[Tensor, Tensor]:
        """Features (R, N, D) and targets (R, N, 1), computed in float64 and kept in float32."""
        features = np.stack([data.features(x, self.settings.degree) for x, _ in sets]).astype(np.float32)
        targets = np.stack([y for _, y in sets]).astype(np.float32)[..., None]
        return torch.from_numpy(features).to(device), torch.from_numpy(targets).to(device)

    @property
    def num_steps(self) -> int:
        """Batches of an epoch."""
        return len(self._batches)

    def train(self, epoch: int, step: int) -> Iterator[int]:
        """Train ``epoch`` from ``step`` on; yields the steps done at its end, and each 1,000 steps before."""
        batches = self._batches.of_epoch(epoch)
        for start in range(step, len(batches), STEPS_BETWEEN_STOPS):
            stretch = batches[start : start + STEPS_BETWEEN_STOPS]
            model.sgd_steps(self._weight, stretch, self.settings.lr, self.settings.weight_decay)
            yield start + len(stretch)

    def evaluate(self) -> dict[str, Values]:
        """Mean squared errors on the training and the test set, and the exact expectation over all data."""
        return {
            "train_loss": model.mean_squared_error(self._weight, *self._train).tolist(),
            "test_loss": model.mean_squared_error(self._weight, *self._test).tolist(),
            "generalization_loss": data.generalization_loss(self.weights(), self.settings.noise_std).tolist(),
        }

    def weights(self) -> data.Array:
        """The weights (R, D) in float64."""
        return self._weight[:, :, 0].double().cpu().numpy()

    def state(self) -> State:
        """The weights: SGD without momentum has no other state."""
        return {"weight": self._weight}

    def load_state(self, state: State) -> None:
        """Put the weights back.

        Raises:
            InputError: Their shape or type differs.
        """
        restore(self.state(), state, "checkpoint", "Start the run anew.")

    @classmethod
    def final_metrics(cls, settings: PolySettings, device: torch.device, learned: Learned) -> dict[str, Values]:
        """The losses of a run's weights, computed anew.

        Raises:
            InputError: The weights do not fit the settings.
        """
        experiment = cls(settings, device)
        own = {"weight": experiment._weight[:, :, 0]}
        restore(own, learned.weights, "weights.safetensors", "Train the run anew.")
        return experiment.evaluate()

    @property
    def title(self) -> str:
        """How many polynomials there are, and their degree."""
        who = self.count_of("polynomials") if self.settings.replicas > 1 else "Polynomial"
        return f"{who} of degree {self.settings.degree}"

    def draw_losses(self, rows: Rows) -> bytes:
        """The loss curves, above the noise floor."""
        variance = self.settings.noise_std**2
        return self._draw_losses(rows, floor=(f"noise floor {variance:g}", variance))

    def _draw_fit(self, verdict: str) -> bytes:
        from mlpx.experiments.poly.plots import fit_curve, fit_curves
        from mlpx.plots.figure import png

        title = f"{self.title}: {verdict}"
        if self.settings.replicas > 1:
            x = np.linspace(-REPLICAS_VIEW, REPLICAS_VIEW, 400)
            learned = self.weights()[self.going_on][:MAX_CURVES] @ data.features(x, self.settings.degree).T
            return png(fit_curves(title, x, data.true_curve(x), {"": learned}))
        train, test = self._train_sets[0], self._test_sets[0]
        reach = max(VIEW, np.abs(np.concatenate([train.x, test.x])).max() + 0.1)
        x = np.linspace(-reach, reach, 800)
        (learned,) = self.weights() @ data.features(x, self.settings.degree).T
        return png(fit_curve(title, train, test, x, data.true_curve(x), learned))

    def outcome(self, row: Mapping[str, float]) -> Outcome:
        """The verdict, and learned beside true weights; of several replicas, how many got which verdict."""
        values = self.evaluate()
        pairs = zip(values["train_loss"], values["generalization_loss"], strict=True)
        verdicts = [decide(*losses, self.settings.noise_std) for losses in pairs]
        facts, short, summary = self._in_words(verdicts, values)
        rows = self._weight_rows()
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([list(rows[0]), *(row.values() for row in rows)])
        shown = [name for name in SHOWN if name in rows[0]]
        return Outcome(
            # (R, D), so that the weight of one replica fits torch.nn.Linear(D, 1).
            weights={"weight": self._weight[:, :, 0].contiguous().cpu()},
            metrics={
                **values,
                "noise_floor": [noise_floor(self.settings.noise_std)],
                "train_to_noise": [verdict.train_to_noise for verdict in verdicts],
                "generalization_to_train": [verdict.generalization_to_train for verdict in verdicts],
            },
            facts=facts,
            tables=[Table([Metric(name) for name in shown], [[row[name] for name in shown] for row in rows])],
            summary=summary,
            files={"weights.csv": text.getvalue().encode()},
            pictures={"fit.png": lambda: self._draw_fit(short)},
        )

    def _weight_rows(self) -> list[dict[str, float]]:
        """A row a weight: learned, true, and exact least squares; of several replicas, their median and spread."""
        learned = self.weights()
        true = data.true_weights(max(learned.shape[1], len(data.TRUE_WEIGHTS)))
        exact = np.stack([data.least_squares(train, self.settings.degree) for train in self._train_sets])
        rows: list[dict[str, Values]] = [
            {
                "power": [power],
                "learned": learned[:, power].tolist(),
                "true": [float(true[power])],
                "least_squares": exact[:, power].tolist(),
            }
            for power in range(learned.shape[1])
        ]
        return [statistics.summary(row, self.diverged) for row in rows]

    def _in_words(self, verdicts: Sequence[Verdict], values: Mapping[str, Values]) -> tuple[dict[str, Any], str, str]:
        """The verdict for ``run.json``, in a word or two, and in a sentence; of replicas, how many got which."""
        if len(verdicts) == 1:
            name, reason, *_ = verdicts[0]
            return {"verdict": name, "verdict_reason": reason}, name, f"{name}: {reason}"
        counts = Counter(verdicts[replica].name for replica in self.going_on).most_common()
        names = ", ".join(f"{count} {name}" for name, count in counts)
        losses = statistics.in_words(LOSSES, values, self.diverged)
        return {"verdicts": dict(counts)}, names, f"{self.count_of('replicas')}: {names}; {losses}"
