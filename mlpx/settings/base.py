"""The settings that every experiment has, and the words that describe a setting to a person."""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from mlpx.settings.metrics import Metric

# So far below the limit of float32, about 3e38, that no product of the two overflows it: torch refuses such a number.
MAX_LEARNING_RATE = 1e30
MAX_WEIGHT_DECAY = 1e6


def absolute(path: str) -> str:
    """The absolute path, so that it means the same wherever the run is resumed; an empty path stays empty.

    Raises:
        ValueError: The absolute path is not UTF-8, as the file of settings has to be.
    """
    if not path:
        return path
    path = os.path.abspath(os.path.expanduser(path))
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError("Rename it: settings are kept in a file of UTF-8, which this path is not.") from None
    return path


Seed = Annotated[int, Field(ge=0, le=2**63 - 1, description="Random seed of data, initial weights and batch order")]
Epochs = Annotated[int, Field(ge=1, le=10**9, description="Training epochs (passes over the training set)")]
Replicas = Annotated[
    int, Field(ge=1, le=10**5, description="Independent trainings side by side, with seeds seed, seed + 1 and so on")
]
LearningRate = Annotated[float, Field(gt=0, le=MAX_LEARNING_RATE, description="Learning rate of SGD")]
BatchSize = Annotated[
    int, Field(ge=1, le=10**9, description="Batch size, in examples per optimizer step (more than there are means all)")
]
WeightDecay = Annotated[
    float,
    Field(ge=0, le=MAX_WEIGHT_DECAY, description="L2 weight decay (this times each weight is added to its gradient)"),
]
DataDir = Annotated[
    str,
    AfterValidator(absolute),
    Field(description="Folder of data sets; without it $MLPX_DATA_DIR, or else the user's cache folder"),
]
EvalEvery = Annotated[int, Field(ge=1, le=10**9, description="Epochs between evaluations (rows of the table)")]
Patience = Annotated[
    int, Field(ge=0, le=10**9, description="Early stopping after this many rows without a better validation loss")
]


class Settings(BaseModel):
    """The common settings; the model of each experiment adds its own, and gives all defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    experiment: ClassVar[str]
    """The name of the experiment and of its command."""
    summary: ClassVar[str]
    """The sentence in the list of commands, of at most 60 characters."""
    examples: ClassVar[Sequence[str]]
    """The commands shown at the end of its help; each begins with ``mlpx``."""
    sweep_examples: ClassVar[Sequence[str]] = ()
    """The same, of ``mlpx sweep``."""
    is_distributed: ClassVar[bool] = False
    """Whether several processes, started by torchrun, can train it together."""
    pictures: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """The pictures of a finished run beside that of its losses: what each shows, by the name of its file."""
    places: ClassVar[frozenset[str]] = frozenset()
    """The names of settings that are paths. They never change a number, so they may change when a run is resumed."""

    seed: Seed
    epochs: Epochs
    lr: LearningRate
    batch_size: BatchSize
    weight_decay: WeightDecay
    eval_every: EvalEvery

    @property
    def seeds(self) -> Sequence[int]:
        """The seed of each replica."""
        return (self.seed,)

    @property
    @abstractmethod
    def metrics(self) -> Sequence[Metric]:
        """All metrics that a run measures, those with a row first, in the order of the table."""

    @property
    def why_not_extendable(self) -> str | None:
        """Why a run cannot be extended to more epochs, as its steps depend on their number; ``None`` if it can."""
        return None

    @property
    def may_stop_early(self) -> bool:
        """Whether a run may end before its last epoch, and keeps the weights of its best row."""
        return False

    @property
    @abstractmethod
    def label(self) -> str:
        """The end of the run folder's name, where ``--name`` is not given."""


class ReplicatedSettings(Settings):
    """The settings of an experiment that can train several replicas at once."""

    replicas: Replicas

    @property
    def seeds(self) -> Sequence[int]:
        """``seed``, ``seed`` + 1 and so on."""
        return range(self.seed, self.seed + self.replicas)


def allowed(field: FieldInfo) -> str:
    """The values that a setting can have, in words: "a whole number from 0 to 19"."""
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(field.annotation)))
    if is_list(field):
        return f"a list, each item {allowed(item(field))}"
    nouns: dict[object, str] = {int: "a whole number", float: "a number", bool: "true or false"}
    noun = nouns.get(field.annotation, "text")
    low, high = bound(field, "ge"), bound(field, "le")
    if low is not None and high is not None:
        return f"{noun} from {low} to {high}"
    if low is not None:
        return f"{noun} of at least {low}"
    above = bound(field, "gt")
    if above is not None and high is not None:
        return f"{noun} above {above} and at most {high}"
    return noun if above is None else f"{noun} above {above}"


def is_list(field: FieldInfo) -> bool:
    """Whether the setting is a list of values."""
    return get_origin(field.annotation) is list


def item(field: FieldInfo) -> FieldInfo:
    """The description of each item of a list."""
    return FieldInfo.from_annotation(get_args(field.annotation)[0])


def bound(field: FieldInfo, kind: str) -> Any:
    """The bound of that kind (``ge``, ``gt``, ``le``), or ``None`` where there is none."""
    return next((getattr(m, kind) for m in field.metadata if getattr(m, kind, None) is not None), None)
