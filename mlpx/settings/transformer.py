"""Settings of ``mlpx transformer``; the defaults are what learns to reverse sequences in minutes."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from mlpx.settings.base import BatchSize, DataDir, Epochs, EvalEvery, Seed, Settings, absolute

FILES = ("train_src", "train_tgt", "val_src", "val_tgt", "test_src", "test_tgt")
Width = Annotated[int, Field(ge=1, le=65536)]
Sentences = Annotated[str, AfterValidator(absolute), Field(validate_default=True)]
Language = Literal["en", "de", "fr"]


class TransformerSettings(Settings):
    """An encoder-decoder Transformer on pairs of sequences."""

    experiment: ClassVar[str] = "transformer"
    places: ClassVar[frozenset[str]] = frozenset({*FILES, "data_dir"})

    task: Annotated[
        Literal["reverse", "text", "multi30k"],
        Field(description="Numbers backwards, made here; translation of files of sentences; or of Multi30k's"),
    ] = "reverse"
    source: Annotated[Language, Field(description="Language to translate from (task multi30k)")] = "en"
    target: Annotated[Language, Field(description="Language to translate into (task multi30k)")] = "de"
    text: Annotated[
        Literal["tok", "raw"],
        Field(
            description="Lower-cased and tokenised by its authors, as in the literature, or as written (task multi30k)"
        ),
    ] = "tok"
    data_dir: DataDir = ""
    train_src: Annotated[
        Sentences, Field(description="File of sentences to train on, one a line, plain or .gz (task text)")
    ] = ""
    train_tgt: Annotated[Sentences, Field(description="File of their translations, line by line (task text)")] = ""
    val_src: Annotated[
        Sentences,
        Field(description="File of sentences to choose the best weights by, one a line, plain or .gz (task text)"),
    ] = ""
    val_tgt: Annotated[Sentences, Field(description="File of their translations, line by line (task text)")] = ""
    test_src: Annotated[
        Sentences, Field(description="File of sentences to test on, one a line, plain or .gz (task text)")
    ] = ""
    test_tgt: Annotated[Sentences, Field(description="File of their translations, line by line (task text)")] = ""
    num_train: Annotated[int, Field(ge=1, le=10**8, description="Training sequences (task reverse)")] = 10_000
    vocab_size: Annotated[
        int,
        Field(ge=5, le=10**6, description="Subwords of both languages together, by sentencepiece's BPE (task text)"),
    ] = 10_000
    num_layers: Annotated[int, Field(ge=1, le=1000, description="Blocks of the encoder, and of the decoder")] = 6
    d_model: Annotated[Width, Field(description="Numbers that stand for a word at its position; even")] = 64
    num_heads: Annotated[Width, Field(description="Attentions side by side; divides d-model")] = 4
    d_ff: Annotated[Width, Field(description="Hidden units of a feed-forward layer")] = 256
    dropout: Annotated[
        float, Field(ge=0, le=0.9, description="Share of numbers left out of each sub-layer's result, to 1/256")
    ] = 0.0
    norm: Annotated[
        Literal["pre", "post"], Field(description="LayerNorm before each sub-layer, or after it, as in the paper")
    ] = "pre"
    batch_tokens: Annotated[
        int, Field(ge=1, le=10**9, description="Tokens a step at most, sentences times the longest of their sides")
    ] = 4096
    schedule: Annotated[
        Literal["linear", "inverse-sqrt"], Field(description="Decay of the learning rate after warm-up, linear to zero")
    ] = "linear"
    warmup_steps: Annotated[int, Field(ge=0, le=10**9, description="Steps in which the learning rate rises")] = 150
    label_smoothing: Annotated[
        float, Field(ge=0, le=0.99, description="Share of a target's probability spread over all words")
    ] = 0.0
    clip_norm: Annotated[
        float, Field(ge=0, description="Norm to which a larger gradient is cut; 0 means it never is")
    ] = 1.0
    average_last: Annotated[int, Field(ge=1, le=10**6, description="Last epochs whose mean weights compete too")] = 1
    precision: Annotated[Literal["fp32", "bf16"], Field(description="Numbers that matrix products take")] = "fp32"
    beam: Annotated[int, Field(ge=1, le=1000, description="Hypotheses a sentence, when the test set is decoded")] = 1
    length_penalty: Annotated[
        float, Field(ge=0, le=10, description="Hypotheses compare by log-probability / length to this power")
    ] = 1.0
    tune_length_penalty: Annotated[
        bool, Field(description="Take the length penalty from 0 to 1 that does best on the validation set instead")
    ] = False
    seed: Seed = 0
    epochs: Epochs = 8
    both_ways: Annotated[
        int,
        Field(
            ge=0, le=10**9, description="First epochs in which half of the pairs, others each time, are turned round"
        ),
    ] = 0
    optimizer: Annotated[
        Literal["adam", "muon"],
        Field(description="Adam for all weights, or Muon for the blocks' matrices and Adam for the rest"),
    ] = "adam"
    lr: Annotated[float, Field(gt=0, description="Learning rate after warm-up")] = 0.002
    batch_size: BatchSize = 64
    weight_decay: Annotated[
        float,
        Field(
            ge=0,
            description="L2 penalty: this times each weight joins its gradient; Muon's weights shrink by this times lr",
        ),
    ] = 0.0
    eval_every: EvalEvery = 1

    @property
    def label(self) -> str:
        """The task, and the languages of Multi30k."""
        return f"multi30k-{self.source}-{self.target}" if self.task == "multi30k" else self.task

    @property
    def extendable(self) -> bool:
        """Not where learning rates or the mean of weights depend on the number of epochs."""
        return self.schedule == "inverse-sqrt" and self.average_last == 1

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
