"""Selecting runs: conditions on them, their order, groups of runs that differ in the seed alone, what differs."""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from mlpx import registry
from mlpx.errors import InputError, UsageError, did_you_mean
from mlpx.runs.checks import COMPARISONS, FORM
from mlpx.runs.comparing import LARGEST
from mlpx.runs.records import Record
from mlpx.settings.base import Settings
from mlpx.settings.metrics import Metric
from mlpx.settings.values import to_text

SEEDS = ("seed", "replicas")
"""The settings that only say which seeds a run has."""
NOT_OF_GROUP = (*SEEDS, "data_dir")
"""The settings in which runs that differ in the seed alone may differ. What lies in the data folder follows from the
name of the data set; a file of sentences can be any, so its path counts.
"""
ABOUT = ("experiment", "status")
"""What ``--where`` knows of a run beside its settings and metrics."""


def value_of(record: Record, name: str) -> object:
    """The value of a setting or a metric, the experiment or the status; ``None`` for what the run has not."""
    if name in ABOUT:
        return {"experiment": record.settings.experiment, "status": record.status}[name]
    if name in type(record.settings).model_fields:
        return getattr(record.settings, name)
    return record.metrics.get(name)


class Condition(NamedTuple):
    """A setting or a metric, a comparison, and a text that may be a number."""

    name: str
    comparison: str
    text: str

    def holds(self, record: Record) -> bool:
        """Whether it holds of the run; of what a run has not, nothing holds."""
        value = value_of(record, self.name)
        if value is None:
            return False
        number = _number(self.text)
        if isinstance(value, int | float) and not isinstance(value, bool) and number is not None:
            return not math.isnan(value) and COMPARISONS[self.comparison](value, number)
        is_same = to_text(value) == self.text
        return is_same if self.comparison == "==" else self.comparison == "!=" and not is_same


def condition(text: str) -> Condition:
    """The condition that ``text`` stands for.

    Raises:
        UsageError: It does not have the form NAME COMPARISON VALUE, or asks which of two texts is less.
    """
    match = FORM.fullmatch(text)
    if match is None:
        remedy = "Write one like 'degree == 19' or 'status == failed'."
        raise UsageError("--where", f"{text!r} is not a condition", remedy)
    if match[2] not in ("==", "!=") and _number(match[3]) is None:
        raise UsageError("--where", f"{match[3]!r} is not a number", "Compare texts by == or !=.")
    return Condition(match[1], match[2], match[3])


def matching(records: Sequence[Record], conditions: Sequence[Condition]) -> list[Record]:
    """The records of which all conditions hold.

    Raises:
        UsageError: A condition is on what none of the runs could have.
    """
    if records:
        require_known("--where", (condition.name for condition in conditions), known_names(records))
    return [record for record in records if all(condition.holds(record) for condition in conditions)]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def known_names(records: Sequence[Record]) -> set[str]:
    """What ``--where`` can name: the settings of any experiment, the metrics of the runs, and :data:`ABOUT`."""
    settings = (registry.settings_class(experiment).model_fields for experiment in registry.EXPERIMENTS)
    return {*ABOUT, *declared_metrics(records), *(name for names in settings for name in names)}


def require_known(option: str, names: Iterable[str], known: Collection[str], kind: str = "setting or metric") -> None:
    """Check that each name is known, as the name of something of that kind.

    Raises:
        UsageError: A name is not. The message names the ``option`` that gave it.
    """
    for name in names:
        if name not in known:
            remedy = did_you_mean(name, known, "Give one that 'mlpx runs --format csv' shows.")
            raise UsageError(option, f"these runs have no {kind} {name!r}", remedy)


def declared_metrics(records: Iterable[Record]) -> dict[str, Metric]:
    """The metrics of the runs by name; one that this version of mlpx does not declare is a plain number."""
    alike = {(record.settings.experiment, *record.metrics): record for record in records}
    metrics: dict[str, Metric] = {}
    for record in alike.values():
        metrics |= record.declared | {name: Metric(name) for name in record.metrics if name not in record.declared}
    return metrics


def varying(records: Sequence[Record], ignored: Collection[str] = ()) -> list[str]:
    """The settings, but for those that are ignored, in which runs of one experiment differ.

    Of a single run, the settings that differ from the defaults.
    """
    names: dict[str, None] = {}
    for experiment in registry.EXPERIMENTS:
        settings = [record.settings for record in records if record.settings.experiment == experiment]
        fields = type(settings[0]).model_fields if settings else {}
        for name, field in fields.items():
            values = {to_text(getattr(each, name)) for each in settings}
            if len(records) == 1:
                values.add(to_text(field.default))
            if len(values) > 1 and name not in ignored:
                names[name] = None
    return list(names)


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone, the newest first."""

    records: Sequence[Record]

    def values(self, metric: str) -> dict[int, float]:
        """The final value of a metric for each seed, as far as it is finite and not beyond :data:`LARGEST`.

        Where a seed was run several times, the newest run counts.
        """
        values = {seed: value for record in reversed(self.records) for seed, value in record.values(metric).items()}
        return {seed: value for seed, value in sorted(values.items()) if abs(value) <= LARGEST}


def over_seeds(records: Iterable[Record]) -> tuple[list[Group], list[str]]:
    """The groups of runs that differ in the seed alone, and a warning for each run whose replicas cannot be read."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    warnings = []
    for record in records:
        try:
            # The values of any metric are read together with those of all others.
            record.values("train_loss")
        except InputError as error:
            warnings.append(f"{record.path.name} is left out: {error}")
            continue
        groups.setdefault(of_group(record.settings), []).append(record)
    return [Group(alike) for alike in groups.values()], warnings


def of_group(settings: Settings) -> tuple[str, ...]:
    """What runs that differ in the seed alone have in common, and no others."""
    names = (name for name in type(settings).model_fields if name not in NOT_OF_GROUP)
    return settings.experiment, *(to_text(getattr(settings, name)) for name in names)


Row = TypeVar("Row")


def best_first(rows: Iterable[Row], value: Callable[[Row], float | None], *, highest: bool) -> list[Row]:
    """The rows by their values, the highest or the lowest first; those without a finite value come last."""

    def key(row: Row) -> tuple[bool, float]:
        number = value(row)
        if number is None or not math.isfinite(number):
            return True, 0.0
        return False, -number if highest else number

    return sorted(rows, key=key)
