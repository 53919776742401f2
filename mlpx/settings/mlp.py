"""Settings of ``mlpx mlp``; the defaults are the textbook's."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mlpx.settings.base import (
    BatchSize,
    DataDir,
    Epochs,
    EvalEvery,
    LearningRate,
    Replicas,
    ReplicatedSettings,
    Seed,
    WeightDecay,
)

Dataset = Literal["fashion-mnist", "mnist", "glyphs"]
Width = Annotated[int, Field(ge=1, le=16384)]


class MlpSettings(ReplicatedSettings):
    """A multilayer perceptron on images of ten classes."""

    experiment: ClassVar[str] = "mlp"
    places: ClassVar[frozenset[str]] = frozenset({"data_dir"})

    dataset: Annotated[Dataset, Field(description="Images to classify; glyphs need no download")] = "fashion-mnist"
    data_dir: DataDir = ""
    hidden: Annotated[list[Width], Field(max_length=100, description="Units of a hidden layer")] = [256]  # noqa: RUF012  (pydantic copies it)
    dropout: Annotated[float, Field(ge=0, le=0.99, description="Share of hidden units left out of a step")] = 0.0
    batch_norm: Annotated[bool, Field(description="Normalise each hidden layer's sums over the batch")] = False
    jitter: Annotated[
        int,
        Field(ge=0, le=28, description="Pixels by which training images are shifted at most, fading to 0 at the end"),
    ] = 0
    flip: Annotated[bool, Field(description="Mirror half of the training images, fading to none at the end")] = False
    label_smoothing: Annotated[
        float, Field(ge=0, le=0.99, description="Share of a target's probability spread over all classes")
    ] = 0.0
    schedule: Annotated[
        Literal["constant", "linear"], Field(description="The learning rate stays, or falls evenly to zero at the end")
    ] = "constant"
    momentum: Annotated[float, Field(ge=0, le=0.9999, description="Share of the step before that joins a step")] = 0.0
    num_train: Annotated[
        int, Field(ge=1, le=10**9, description="Training examples, the first ones; more than there are means all")
    ] = 60_000
    precision: Annotated[Literal["fp32", "bf16"], Field(description="Numbers that matrix products take")] = "fp32"
    seed: Seed = 0
    replicas: Replicas = 1
    epochs: Epochs = 10
    lr: LearningRate = 0.1
    batch_size: BatchSize = 256
    weight_decay: WeightDecay = 0.0
    eval_every: EvalEvery = 1

    @property
    def extendable(self) -> bool:
        """Not where anything fades until the last epoch."""
        return self.schedule == "constant" and not self.jitter and not self.flip

    @property
    def label(self) -> str:
        """The data set's name."""
        return self.dataset
