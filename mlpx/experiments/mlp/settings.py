"""Settings of ``mlpx mlp``; the defaults are the textbook's."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from mlpx.experiments.mlp import metrics
from mlpx.settings.base import (
    BatchSize,
    DataDir,
    Epochs,
    EvalEvery,
    LearningRate,
    Patience,
    Replicas,
    ReplicatedSettings,
    Seed,
    WeightDecay,
)
from mlpx.settings.metrics import Metric

SIDE = 28
"""Pixels of an image's side."""

Dataset = Literal["fashion-mnist", "mnist", "glyphs"]
Width = Annotated[int, Field(ge=1, le=16384)]


class MlpSettings(ReplicatedSettings):
    """A multilayer perceptron on images of ten classes."""

    experiment: ClassVar[str] = "mlp"
    summary: ClassVar[str] = "Train a multilayer perceptron to classify images."
    examples: ClassVar[Sequence[str]] = (
        "mlpx mlp --dataset glyphs",
        "mlpx mlp --data-dir data --check 'test_accuracy > 0.7'",
        "mlpx mlp --hidden 512 --hidden 256 --dropout 0.2 --momentum 0.9 --lr 0.02",
        "mlpx mlp --hidden none --name softmax-regression",
        "mlpx mlp --num-val 10000 --patience 5 --epochs 60 --check 'val_accuracy > 0.85'",
        "mlpx mlp --config configs/mlp-best.toml --replicas 3",
    )
    sweep_examples: ClassVar[Sequence[str]] = (
        "mlpx sweep mlp --dataset glyphs --hidden none,256,512x256 --lr 0.1,0.3 --seed 0..5",
        "mlpx sweep mlp --config configs/mlp-best.toml --one-at-a-time --jitter 2,0,4 --flip true,false --seed 0..5",
    )
    pictures: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "confusion.png": "The classes of the test images, and those that the model took them for",
            "mistakes.png": "Test images that were classified wrongly",
            "filters.png": "Weights of the first layer, each row drawn as an image",
        }
    )
    places: ClassVar[frozenset[str]] = frozenset({"data_dir"})

    dataset: Annotated[Dataset, Field(description="Data set of images; glyphs are generated, without a download")] = (
        "fashion-mnist"
    )
    data_dir: DataDir = ""
    hidden: Annotated[list[Width], Field(max_length=100, description="Number of units in a hidden layer")] = [256]  # noqa: RUF012  (pydantic copies it)
    dropout: Annotated[float, Field(ge=0, le=0.99, description="Dropout probability of the hidden units")] = 0.0
    batch_norm: Annotated[bool, Field(description="Batch normalization in each hidden layer, before the ReLU")] = False
    jitter: Annotated[
        int,
        Field(
            ge=0,
            le=28,
            description="Data augmentation by random shifts of up to this many pixels, fading out over the epochs",
        ),
    ] = 0
    flip: Annotated[
        bool, Field(description="Data augmentation by mirroring half of the images, fading out over the epochs")
    ] = False
    label_smoothing: Annotated[
        float,
        Field(
            ge=0, le=0.99, description="Label smoothing, the share of the target's probability spread over all classes"
        ),
    ] = 0.0
    schedule: Annotated[
        Literal["constant", "linear"], Field(description="Learning-rate schedule: constant, or linear decay to zero")
    ] = "constant"
    momentum: Annotated[float, Field(ge=0, le=0.9999, description="SGD momentum")] = 0.0
    num_train: Annotated[
        int, Field(ge=1, le=10**9, description="Number of training examples (more than there are means all)")
    ] = 60_000
    num_val: Annotated[
        int,
        Field(ge=0, le=10**9, description="Number of validation examples, held back from the end of the training file"),
    ] = 0
    precision: Annotated[
        Literal["fp32", "bf16"], Field(description="Data type of matrix products (mixed precision: weights stay fp32)")
    ] = "fp32"
    seed: Seed = 0
    replicas: Replicas = 1
    epochs: Epochs = 10
    lr: LearningRate = 0.1
    batch_size: BatchSize = 256
    weight_decay: WeightDecay = 0.0
    eval_every: EvalEvery = 1
    patience: Patience = 0

    # A validator sees the settings before its own, and those of the base class come first.
    @field_validator("batch_norm")
    @classmethod
    def _has_batches_of_several(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("hidden") and info.data.get("batch_size") == 1:
            raise ValueError(
                "Leave it out, or give --batch-size 2 at least: a single example, normalized, is always 0."
            )
        return value

    @field_validator("num_train")
    @classmethod
    def _is_enough_for_batch_norm(cls, value: int, info: ValidationInfo) -> int:
        if value == 1 and info.data.get("hidden") and info.data.get("batch_norm"):
            raise ValueError("Give at least 2, or leave out --batch-norm: a single example, normalized, is always 0.")
        return value

    @field_validator("patience")
    @classmethod
    def _has_a_validation_set(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("num_val") == 0:
            raise ValueError("Add --num-val, such as --num-val 10000: stopping early goes by the validation loss.")
        if value and info.data.get("replicas", 1) > 1:
            raise ValueError("Leave it out, or --replicas: each replica would stop at an epoch of its own.")
        return value

    @property
    def metrics(self) -> Sequence[Metric]:
        """Losses, accuracies, and the gaps between them."""
        return metrics.with_validation() if self.num_val else metrics.METRICS

    @property
    def may_stop_early(self) -> bool:
        """With patience."""
        return self.patience > 0

    @property
    def why_not_extendable(self) -> str | None:
        """The learning rate and the augmentation may fade until the last epoch, or patience decides when it ends."""
        if self.patience:
            return "its patience decides when it ends"
        if self.schedule != "constant":
            return "its learning rates depend on how many it has"
        return "how much its images move depends on how many it has" if self.jitter or self.flip else None

    @property
    def label(self) -> str:
        """The data set's name."""
        return self.dataset
