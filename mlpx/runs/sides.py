"""The sides of a comparison: a run, whose replicas are its seeds, or runs that differ in the seed alone."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from mlpx.errors import InputError, UsageError
from mlpx.runs import reading, records, selecting
from mlpx.runs.folder import STAMP
from mlpx.runs.records import Record
from mlpx.runs.selecting import NOT_OF_GROUP, Group
from mlpx.settings.base import Settings
from mlpx.settings.values import in_ranges


@dataclass(frozen=True)
class Side:
    """One side.

    Args:
        name: What it is called.
        path: The run, or the folder that holds the runs.
        group: Its finished runs.
    """

    name: str
    path: Path
    group: Group

    @property
    def settings(self) -> Settings:
        """The settings, which all its runs share but for the seed."""
        return self.group.records[0].settings

    @property
    def seeds(self) -> list[int]:
        """The seeds that its runs have, in order."""
        return sorted({seed for record in self.group.records for seed in record.settings.seeds})


class Sides(NamedTuple):
    """The sides, the seeds that all of them have, and what is to be said about reading them."""

    sides: Sequence[Side]
    seeds: Sequence[int]
    warnings: Sequence[str]
    notes: Sequence[str]


def read_sides(references: Sequence[str], where: Sequence[str], runs_dir: Path) -> Sides:
    """The sides that the references mean.

    Args:
        references: Two or more, each of a run or of a folder of runs.
        where: Conditions on the runs of every side, as ``--where`` takes them.
        runs_dir: The runs folder.

    Raises:
        InputError: There is no such run, or a side has no finished run.
        UsageError: There are fewer than two sides, or they cannot be compared.
    """
    if len(references) < 2:
        raise UsageError("compare", "one side is not enough", "Give two or more runs or folders of runs.")
    conditions = [selecting.condition(text) for text in where]
    sides: list[Side] = []
    warnings: list[str] = []
    notes: list[str] = []
    for reference in references:
        paths = reading.find_runs(reference, runs_dir)
        # A single run that cannot be read is an error; one of many costs a warning.
        found, unreadable = ([records.read(paths[0])], []) if len(paths) == 1 else records.read_all(paths)
        warnings += unreadable
        group = _group(reference, selecting.matching(found, conditions), notes)
        place = _place(reference, paths[0], runs_dir)
        sides.append(Side(place.name, place, group))
    experiments = list(dict.fromkeys(side.settings.experiment for side in sides))
    if len(experiments) > 1:
        raise UsageError("compare", f"the sides are of {' and '.join(experiments)}", "Compare runs of one experiment.")
    sides = _with_distinct_names(sides, references)
    common = set.intersection(*(set(side.seeds) for side in sides))
    if not common:
        seeds = "; ".join(f"{side.name} has {in_ranges(side.seeds)}" for side in sides)
        raise UsageError("compare", f"the sides have no seed in common: {seeds}", "Train the same seeds on each side.")
    if alone := {seed for side in sides for seed in side.seeds} - common:
        notes.append(f"seeds that not every side has are left out: {in_ranges(sorted(alone))}")
    return Sides(sides, sorted(common), warnings, notes)


def _group(reference: str, selected: Sequence[Record], notes: list[str]) -> Group:
    """The finished runs of a side, the newest first; what is left out is noted.

    Raises:
        InputError: There is none.
        UsageError: They differ in more than the seed.
    """
    finished = records.newest_first(record for record in selected if record.is_finished)
    if not finished:
        why = "has no finished run to compare" if selected else "has no run that can be compared"
        raise InputError(reference, why, "Go on with 'mlpx resume', or give other runs.")
    if len(selected) > len(finished):
        notes.append(f"{reference}: left out, not finished: {len(selected) - len(finished)} of {len(selected)} runs")
    if len({record.settings.experiment for record in finished}) > 1:
        raise UsageError(reference, "holds runs of several experiments", "Choose among them by --where.")
    differing = selecting.varying(finished, NOT_OF_GROUP) if len(finished) > 1 else []
    if differing:
        why = f"its runs differ in {', '.join(differing)}, and not in the seed alone"
        raise UsageError(reference, why, "Choose among them by --where, or give single runs.")
    times = Counter(seed for record in finished for seed in record.settings.seeds)
    if twice := sorted(seed for seed, count in times.items() if count > 1):
        notes.append(
            f"{reference}: seeds that occur more than once, of which the newest run counts: {in_ranges(twice)}"
        )
    return Group(finished)


def _place(reference: str, run: Path, runs_dir: Path) -> Path:
    """What the reference means: ``run`` itself, or the folder that ``run`` lies in. Links are followed."""
    path = os.path.realpath(run)
    meant = (os.path.realpath(runs_dir / reference), os.path.realpath(reference))
    return Path(path if path in meant else os.path.dirname(path))


def _with_distinct_names(sides: Sequence[Side], references: Sequence[str]) -> list[Side]:
    """The sides by the first kind of name that tells them apart: folder without time, folder, as typed, path."""
    folders = [side.path.name for side in sides]
    for names in ([STAMP.sub("", folder) for folder in folders], folders, references, [str(s.path) for s in sides]):
        if len(set(names)) == len(sides):
            break
    return [replace(side, name=name) for side, name in zip(sides, names, strict=True)]
