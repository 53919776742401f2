"""Settings of ``mlpx poly``; the defaults are the textbook's."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, ClassVar

from pydantic import Field

from mlpx.experiments.poly.metrics import METRICS
from mlpx.settings.base import (
    BatchSize,
    Epochs,
    EvalEvery,
    LearningRate,
    Replicas,
    ReplicatedSettings,
    Seed,
    WeightDecay,
)
from mlpx.settings.metrics import Metric

Examples = Annotated[int, Field(ge=1, le=1_000_000)]


class PolySettings(ReplicatedSettings):
    """Polynomial regression on noisy cubic data."""

    experiment: ClassVar[str] = "poly"
    summary: ClassVar[str] = "Fit a polynomial to noisy data: underfit, fit or overfit."
    examples: ClassVar[Sequence[str]] = (
        "mlpx poly --degree 1",
        "mlpx poly --degree 19 --epochs 1500",
        "mlpx poly --degree 19 --epochs 1500 --replicas 100 --check 'max_test_loss < 2'",
        "mlpx poly --config configs/poly-fit.toml --seed 7 --check 'test_loss < 0.05'",
    )
    sweep_examples: ClassVar[Sequence[str]] = (
        "mlpx sweep poly --degree 1,3,19",
        "mlpx sweep poly --degree 0..19 --epochs 1500 --replicas 100",
        "mlpx sweep poly --weight-decay 0.001..1..x10 --seed 0..9 --degree 19 --epochs 1500",
    )
    pictures: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "fit.png": "The training data, the polynomial that was fitted to it, and the true curve",
        }
    )

    degree: Annotated[int, Field(ge=0, le=19, description="Degree of the fitted polynomial (highest power of x)")] = 3
    num_train: Annotated[Examples, Field(description="Number of training examples")] = 100
    num_test: Annotated[Examples, Field(description="Number of test examples")] = 100
    noise_std: Annotated[float, Field(ge=0, le=1e6, description="Standard deviation of the label noise (Gaussian)")] = (
        0.1
    )
    seed: Seed = 0
    replicas: Replicas = 1
    epochs: Epochs = 400
    lr: LearningRate = 0.01
    batch_size: BatchSize = 10
    weight_decay: WeightDecay = 0.0
    eval_every: EvalEvery = 20

    @property
    def metrics(self) -> Sequence[Metric]:
        """The losses and their ratios."""
        return METRICS

    @property
    def label(self) -> str:
        """``degree19`` and the like."""
        return f"degree{self.degree}"
