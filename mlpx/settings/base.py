"""The settings that every experiment has, and how a field describes itself to a person."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


def absolute(path: str) -> str:
    """``path`` from the root on, so that it means the same wherever a run is resumed; an empty one stays empty."""
    return os.path.abspath(path) if path else path


Seed = Annotated[int, Field(ge=0, le=2**63 - 1, description="Seed of data, initial weights and batch order")]
Epochs = Annotated[int, Field(ge=1, le=10**9, description="Passes over the training set")]
Replicas = Annotated[
    int, Field(ge=1, le=10**5, description="Trainings side by side, with seeds seed, seed + 1 and so on")
]
LearningRate = Annotated[float, Field(gt=0, description="Learning rate of SGD")]
BatchSize = Annotated[int, Field(ge=1, le=10**9, description="Examples a step; more than there are means all")]
WeightDecay = Annotated[float, Field(ge=0, description="L2 penalty: this times each weight joins its gradient")]
DataDir = Annotated[
    str,
    AfterValidator(absolute),
    Field(description="Folder of data sets; else $MLPX_DATA_DIR, else in the user's cache folder"),
]
EvalEvery = Annotated[int, Field(ge=1, le=10**9, description="Epochs between rows of the table")]


class Settings(BaseModel):
    """The common settings; each experiment's own model adds to them and gives the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    experiment: ClassVar[str]
    places: ClassVar[frozenset[str]] = frozenset()
    """Settings that say where things lie; they never change a number, so a resumed run may have others."""

    seed: Seed
    epochs: Epochs
    lr: LearningRate
    batch_size: BatchSize
    weight_decay: WeightDecay
    eval_every: EvalEvery

    @property
    def seeds(self) -> Sequence[int]:
        """A seed for each replica."""
        return (self.seed,)

    @property
    def extendable(self) -> bool:
        """Whether a run may go on to more epochs: whether its steps so far would have been the same."""
        return True

    @property
    @abstractmethod
    def label(self) -> str:
        """What ends the run folder's name when ``--name`` is not given."""


class ReplicatedSettings(Settings):
    """Settings of an experiment that trains several replicas at once."""

    replicas: Replicas

    @property
    def seeds(self) -> Sequence[int]:
        """One after the other, from ``seed`` on."""
        return range(self.seed, self.seed + self.replicas)


def allowed(field: FieldInfo) -> str:
    """The values that a field takes, in words: "a whole number from 0 to 19"."""
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
    return noun if above is None else f"{noun} above {above}"


def is_list(field: FieldInfo) -> bool:
    """Whether the field takes several values."""
    return get_origin(field.annotation) is list


def item(field: FieldInfo) -> FieldInfo:
    """What each value of a list is."""
    return FieldInfo.from_annotation(get_args(field.annotation)[0])


def bound(field: FieldInfo, kind: str) -> Any:
    """The field's bound of that kind (``ge``, ``gt``, ``le``), or ``None``."""
    return next((getattr(m, kind) for m in field.metadata if getattr(m, kind, None) is not None), None)
