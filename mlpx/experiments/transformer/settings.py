"""Settings of ``mlpx transformer``; with the defaults, it learns to reverse sequences in minutes."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from mlpx.experiments.transformer import metrics
from mlpx.settings.base import (
    MAX_LEARNING_RATE,
    MAX_WEIGHT_DECAY,
    BatchSize,
    DataDir,
    Epochs,
    EvalEvery,
    Patience,
    Seed,
    Settings,
    absolute,
)
from mlpx.settings.metrics import Metric

FILES = ("train_src", "train_tgt", "val_src", "val_tgt", "test_src", "test_tgt")
Width = Annotated[int, Field(ge=1, le=65536)]
Sentences = Annotated[str, AfterValidator(absolute), Field(validate_default=True)]
Language = Literal["en", "de", "fr"]


class TransformerSettings(Settings):
    """An encoder-decoder Transformer on pairs of sequences."""

    experiment: ClassVar[str] = "transformer"
    summary: ClassVar[str] = "Train the Transformer to reverse numbers or to translate."
    examples: ClassVar[Sequence[str]] = (
        "mlpx transformer",
        "mlpx transformer --config configs/transformer-reverse.toml --check 'test_exactness > 0.99'",
        "mlpx transformer --task text --train-src train.en --train-tgt train.de --val-src val.en --val-tgt val.de"
        " --test-src test.en --test-tgt test.de",
        "mlpx transformer --task multi30k --target fr --d-model 128 --dropout 0.3 --beam 5",
    )
    sweep_examples: ClassVar[Sequence[str]] = (
        "mlpx sweep transformer --num-layers 1..6 --epochs 2",
        "mlpx sweep transformer --lr 0.0005..0.008..x2 --seed 0..2 --jobs 1",
    )
    pictures: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "attention.png": "Attention weights for a sentence of the test set",
        }
    )
    is_distributed: ClassVar[bool] = True
    places: ClassVar[frozenset[str]] = frozenset({*FILES, "data_dir"})

    task: Annotated[
        Literal["reverse", "text", "multi30k"],
        Field(description="What to learn: to reverse random numbers, or to translate your text or Multi30k"),
    ] = "reverse"
    source: Annotated[Language, Field(description="Source language (task multi30k)")] = "en"
    target: Annotated[Language, Field(description="Target language (task multi30k)")] = "de"
    text: Annotated[
        Literal["tok", "raw"],
        Field(description="Preprocessing: lower-cased and tokenized as in the literature, or raw text (task multi30k)"),
    ] = "tok"
    data_dir: DataDir = ""
    train_src: Annotated[
        Sentences, Field(description="Training set: file of source sentences, one per line, plain or .gz (task text)")
    ] = ""
    train_tgt: Annotated[
        Sentences, Field(description="Training set: file of their translations, line by line (task text)")
    ] = ""
    val_src: Annotated[
        Sentences,
        Field(description="Validation set, which chooses the best weights: file of source sentences (task text)"),
    ] = ""
    val_tgt: Annotated[
        Sentences, Field(description="Validation set: file of their translations, line by line (task text)")
    ] = ""
    test_src: Annotated[Sentences, Field(description="Test set: file of source sentences (task text)")] = ""
    test_tgt: Annotated[
        Sentences, Field(description="Test set: file of their translations, line by line (task text)")
    ] = ""
    num_train: Annotated[int, Field(ge=1, le=10**8, description="Number of training sequences (task reverse)")] = 10_000
    vocab_size: Annotated[
        int,
        Field(
            ge=5,
            le=10**6,
            description="Vocabulary size, in BPE subwords shared by both languages (tasks text and multi30k)",
        ),
    ] = 10_000
    num_layers: Annotated[int, Field(ge=1, le=1000, description="Number of encoder blocks, and of decoder blocks")] = 6
    d_model: Annotated[Width, Field(description="Model width (even)")] = 64
    num_heads: Annotated[Width, Field(description="Number of attention heads (divides d-model)")] = 4
    d_ff: Annotated[Width, Field(description="Width of the feed-forward layers (hidden units)")] = 256
    dropout: Annotated[
        float, Field(ge=0, le=0.9, description="Dropout probability at the output of each sub-layer, in steps of 1/256")
    ] = 0.0
    norm: Annotated[
        Literal["pre", "post"],
        Field(description="Layer normalization before each sub-layer, or after it as in the paper"),
    ] = "pre"
    batch_tokens: Annotated[
        int, Field(ge=1, le=10**9, description="Largest batch in tokens per optimizer step, padding included")
    ] = 4096
    schedule: Annotated[
        Literal["linear", "inverse-sqrt"],
        Field(description="Learning-rate schedule after warm-up: linear decay to zero, or inverse square root"),
    ] = "linear"
    warmup_steps: Annotated[int, Field(ge=0, le=10**9, description="Learning-rate warm-up, in optimizer steps")] = 150
    label_smoothing: Annotated[
        float,
        Field(
            ge=0, le=0.99, description="Label smoothing, the share of the target's probability spread over all words"
        ),
    ] = 0.0
    clip_norm: Annotated[
        float, Field(ge=0, description="Gradient clipping, the largest norm of the gradient (0 turns it off)")
    ] = 1.0
    average_last: Annotated[
        int,
        Field(
            ge=1,
            le=10**6,
            description="Weight averaging over the last epochs, as a candidate for the best weights (1 turns it off)",
        ),
    ] = 1
    precision: Annotated[
        Literal["fp32", "bf16"], Field(description="Data type of matrix products (mixed precision: weights stay fp32)")
    ] = "fp32"
    beam: Annotated[
        int,
        Field(ge=1, le=1000, description="Beam size in decoding, the hypotheses per sentence (1 is greedy decoding)"),
    ] = 1
    length_penalty: Annotated[
        float,
        Field(
            ge=0,
            le=10,
            description="Length penalty of beam search, which ranks by log-probability / length to this power",
        ),
    ] = 1.0
    tune_length_penalty: Annotated[
        bool, Field(description="Choose the length penalty from 0 to 1 on the validation set")
    ] = False
    seed: Seed = 0
    epochs: Epochs = 8
    both_ways: Annotated[
        int,
        Field(
            ge=0,
            le=10**9,
            description="Bidirectional training in this many first epochs, with a random half of the pairs swapped",
        ),
    ] = 0
    optimizer: Annotated[
        Literal["adam", "muon"],
        Field(description="Optimizer: Adam for all weights, or Muon for the blocks' matrices and Adam for the rest"),
    ] = "adam"
    lr: Annotated[
        float, Field(gt=0, le=MAX_LEARNING_RATE, description="Peak learning rate, reached at the end of warm-up")
    ] = 0.002
    batch_size: BatchSize = 64
    weight_decay: Annotated[
        float,
        Field(
            ge=0,
            le=MAX_WEIGHT_DECAY,
            description="L2 weight decay, added to the gradient; decoupled with Muon (weights shrink by this times lr)",
        ),
    ] = 0.0
    eval_every: EvalEvery = 1
    patience: Patience = 0

    @property
    def label(self) -> str:
        """The task, and its languages where it is Multi30k."""
        return f"multi30k-{self.source}-{self.target}" if self.task == "multi30k" else self.task

    @property
    def metrics(self) -> Sequence[Metric]:
        """Losses, perplexities, and what the outputs are worth."""
        return metrics.of_task(self.task)

    @property
    def why_not_extendable(self) -> str | None:
        """Why a run may not go on to more epochs: they would change its learning rates, or the mean of its weights.

        One with patience has ended where that decided.
        """
        if self.patience:
            return "its patience decides when it ends"
        if self.schedule == "linear":
            return "its learning rates depend on how many it has"
        return "the mean of its weights depends on how many it has" if self.average_last > 1 else None

    @property
    def may_stop_early(self) -> bool:
        """With patience."""
        return self.patience > 0

    @field_validator(*FILES)
    @classmethod
    def _belongs_to_task(cls, value: str, info: ValidationInfo) -> str:
        task, is_test = info.data.get("task"), str(info.field_name).startswith("test")
        if task == "text" and not value:
            raise ValueError("Give a file of sentences, one a line: task text needs it.")
        if value and (task == "reverse" or (task == "multi30k" and not is_test)):
            raise ValueError(f"Leave it out, or add --task text: task {task} has its own data.")
        return value

    @field_validator("test_tgt")
    @classmethod
    def _is_of_a_pair(cls, value: str, info: ValidationInfo) -> str:
        if bool(value) != bool(info.data.get("test_src", value)):
            raise ValueError("Give both, --test-src and --test-tgt, or none.")
        return value

    @field_validator("source", "target", "text", "data_dir")
    @classmethod
    def _belongs_to_multi30k(cls, value: str, info: ValidationInfo) -> str:
        if value != cls.model_fields[str(info.field_name)].default and info.data.get("task") in ("reverse", "text"):
            raise ValueError("Leave it out, or add --task multi30k: no other task has it.")
        return value

    @field_validator("target")
    @classmethod
    def _is_another_language(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("source") and info.data.get("task") == "multi30k":
            raise ValueError("Give another language than --source.")
        return value

    @field_validator("patience")
    @classmethod
    def _keeps_the_best_row(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("average_last", 1) > 1:
            raise ValueError("Leave it out, or --average-last: a training that stops early has no known last epochs.")
        return value

    @field_validator("d_model")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("Give an even number: positions are pairs of a sine and a cosine.")
        return value

    @field_validator("num_heads")
    @classmethod
    def _divides_d_model(cls, value: int, info: ValidationInfo) -> int:
        d_model = info.data.get("d_model", value)
        if d_model % value:
            raise ValueError(f"Give a number that divides d_model, which is {d_model}.")
        return value
