"""Settings of ``mlpx mlp``; the defaults are the textbook's."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mlpx.settings.base import BatchSize, DataDir, Epochs, EvalEvery, LearningRate, Seed, Settings, WeightDecay

Dataset = Literal["fashion-mnist", "mnist", "glyphs"]
Width = Annotated[int, Field(ge=1, le=16384)]


class MlpSettings(Settings):
    """A multilayer perceptron on images of ten classes."""

    experiment: ClassVar[str] = "mlp"
    places: ClassVar[frozenset[str]] = frozenset({"data_dir"})

    dataset: Annotated[Dataset, Field(description="Images to classify; glyphs need no download")] = "fashion-mnist"
    data_dir: DataDir = ""
    hidden: Annotated[list[Width], Field(max_length=100, description="Units of a hidden layer")] = [256]  # noqa: RUF012  (pydantic copies it)
    dropout: Annotated[float, Field(ge=0, le=0.99, description="Share of hidden units left out of a step")] = 0.0
    momentum: Annotated[float, Field(ge=0, le=0.9999, description="Share of the step before that joins a step")] = 0.0
    num_train: Annotated[
        int, Field(ge=1, le=10**9, description="Training examples, the first ones; more than there are means all")
    ] = 60_000
    precision: Annotated[Literal["fp32", "bf16"], Field(description="Numbers that matrix products take")] = "fp32"
    seed: Seed = 0
    epochs: Epochs = 10
    lr: LearningRate = 0.1
    batch_size: BatchSize = 256
    weight_decay: WeightDecay = 0.0
    eval_every: EvalEvery = 1

    @property
    def label(self) -> str:
        """The data set's name."""
        return self.dataset
