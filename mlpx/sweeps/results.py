"""What the runs of a sweep measured: groups of runs that differ in the seed alone, and what each change did."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mlpx.runs import comparing, selecting
from mlpx.runs.comparing import LARGEST, Comparison
from mlpx.runs.records import Record
from mlpx.runs.selecting import NOT_OF_GROUP, Group
from mlpx.runs.sides import BASE, in_words
from mlpx.settings.base import Settings
from mlpx.settings.metrics import Metric
from mlpx.sweeps.folder import Sweep


def grouped(sweep: Sweep, records: Iterable[Record]) -> tuple[list[Group], list[str]]:
    """The groups of runs that differ in the seed alone, and a warning for each run whose replicas cannot be read.

    The groups have the order of the design; those of earlier requests come last.
    """
    return selecting.over_seeds(sorted(records, key=lambda record: sweep.place(record.settings)))


def varying(sweep: Sweep, groups: Sequence[Group]) -> list[str]:
    """The settings in which groups differ, in the order in which they were asked for."""
    asked = [name for name in sweep.design.varying if name not in NOT_OF_GROUP]
    found = selecting.varying([group.records[0] for group in groups], NOT_OF_GROUP) if len(groups) > 1 else []
    return list(dict.fromkeys([*asked, *found]))


def main_metrics(groups: Iterable[Group]) -> list[Metric]:
    """The main metrics that any of the groups can have."""
    declared = {metric.name: metric for group in groups for metric in group.records[0].settings.metrics}
    return [metric for metric in declared.values() if metric.is_main]


def deciding(groups: Sequence[Group]) -> Metric | None:
    """The metric by which one is better than another: the last main one that says so, and that any of them has."""
    known = [metric for metric in main_metrics(groups) if metric.better]
    return next((each for each in reversed(known) if any(group.values(each.name) for group in groups)), None)


def asked_seeds(group: Group) -> int:
    """The number of seeds that were asked for, those of replicas included."""
    return sum(len(record.settings.seeds) for record in group.records)


def lost(group: Group, metric: str) -> Counter[str]:
    """The number of seeds without a value, by what became of them: the status of their run, or ``diverged``."""
    counts: Counter[str] = Counter()
    for record in group.records:
        seeds = record.settings.seeds
        if record.is_finished:
            # The replicas of a finished run that have no value have diverged.
            found = record.values(metric)
            counts["diverged"] += sum(not abs(found.get(seed, math.nan)) <= LARGEST for seed in seeds)
        else:
            counts[record.status] += len(seeds)
    return +counts


def difference(settings: Settings, base: Settings) -> str:
    """The settings in which a group differs from the base, with their values: ``lr 0.1``; empty for the base."""
    names = (name for name in type(base).model_fields if name not in NOT_OF_GROUP)
    return in_words(settings, [name for name in names if getattr(settings, name) != getattr(base, name)])


@dataclass(frozen=True)
class Change:
    """What one change did.

    Args:
        label: The change.
        group: Its runs.
        comparison: Its comparison with the base; ``None`` where they have no seed in common.
        differences: What lies between the two in each of these seeds.
    """

    label: str
    group: Group
    comparison: Comparison | None
    differences: Sequence[float]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The confidence interval of the difference; ``None`` for fewer seeds than could tell it from chance."""
        several = self.comparison is not None and len(self.comparison.seeds) >= comparing.fewest_seeds(1)
        return self.comparison.interval if several and self.comparison is not None else None

    @property
    def count(self) -> str:
        """In how many seeds it lowers, or raises, the metric."""
        if self.comparison is None or self.comparison.verdict == "none":
            return "no difference" if self.comparison else ""
        is_lower = self.comparison.difference < 0
        times = self.comparison.lower if is_lower else self.comparison.higher
        return f"{'lower' if is_lower else 'higher'} in {times} of {len(self.comparison.seeds)}"


def changes(sweep: Sweep, groups: Sequence[Group], metric: str) -> tuple[Group | None, list[Change]]:
    """The base of a design that changes one setting at a time, and what each change did to a metric.

    Each change is paired with the base by the seeds that the two have in common; p is adjusted for all changes.
    """
    first = sweep.design.cells[0]
    labeled = [(difference(group.records[0].settings, first), group) for group in groups]
    base = next((group for label, group in labeled if not label), None)
    before = base.values(metric) if base else {}
    found = []
    for label, group in labeled:
        if label:
            after = group.values(metric)
            compared = comparing.compare([BASE, label], {metric: [before, after]}) if before and after else []
            seeds = compared[0].seeds if compared else ()
            differing = [after[seed] - before[seed] for seed in seeds]
            found.append(Change(label, group, compared[0] if compared else None, differing))
    return base, _adjusted(found)


def _adjusted(found: Sequence[Change]) -> list[Change]:
    """The changes, with p as many comparisons ask for it."""
    comparisons = [change.comparison for change in found if change.comparison]
    fewest = comparing.fewest_seeds(len(comparisons))
    adjusted = iter(comparing.holm([comparison.p for comparison in comparisons]))
    return [
        replace(change, comparison=replace(change.comparison, p_holm=next(adjusted), fewest=fewest))
        if change.comparison
        else change
        for change in found
    ]
