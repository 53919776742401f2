"""The sides of a comparison: a run, whose replicas are its seeds, or runs that differ in the seed alone."""

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from mlpx.errors import InputError, UsageError
from mlpx.runs import reading, records, selecting
from mlpx.runs.folder import STAMP
from mlpx.runs.records import Record
from mlpx.runs.selecting import NOT_OF_GROUP, Group
from mlpx.settings.base import Settings
from mlpx.settings.values import in_ranges, to_text

BASE = "the base"
"""The name of the side from which each of the others differs in one setting."""


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
    """The sides, the seeds that all of them have, and what is to be said about reading them.

    ``told`` are the settings that the names of the sides tell, or by which they differ from the base.
    """

    sides: Sequence[Side]
    seeds: Sequence[int]
    warnings: Sequence[str]
    notes: Sequence[str]
    told: Sequence[str] = ()


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
        raise UsageError("compare", "one side is not enough", "Give two or more runs or folders of runs, or a sweep.")
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
    return Sides(sides, _common_seeds(sides, notes), warnings, notes)


def read_groups(
    sweep: Path, runs: Sequence[Path], order: Sequence[str], base: Settings | None, where: Sequence[str]
) -> Sides:
    """The sides that the runs of a sweep make: those that differ in the seed alone are a side.

    Args:
        sweep: The folder of the sweep.
        runs: Its runs. The side of the first run comes first, and so on.
        order: The settings by which the sides are called, in that order; others that differ come after them.
        base: The settings from which each run differs in one; ``None`` where the runs differ in any number of them.
        where: Conditions on the runs, as ``--where`` takes them.

    Raises:
        InputError: No run can be compared, or none of the first side.
        UsageError: There are fewer than two sides, or they cannot be compared.
    """
    found, warnings = records.read_all(runs)
    selected = selecting.matching(found, [selecting.condition(text) for text in where])
    groups, unreadable = selecting.over_seeds(selected)
    if not groups:
        raise InputError(sweep, "has no run that can be compared", "Go on with 'mlpx resume', or give other runs.")
    _require_one_experiment(sweep, selected)
    if len(groups) == 1:
        why = "its runs differ in the seed alone, and one side is not enough"
        raise UsageError(sweep, why, "Give another run or folder of runs to compare them with.")
    names, told = _names_of_groups([group.records[0].settings for group in groups], order, base)
    finished = [[record for record in group.records if record.is_finished] for group in groups]
    notes = []
    readable = sum(len(group.records) for group in groups)
    if (left_out := readable - sum(map(len, finished))) > 0:
        notes.append(f"left out, not finished: {left_out} of {readable} runs")
    if without := [name for name, each in zip(names, finished, strict=True) if not each]:
        notes.append(f"left out, no finished run: {'; '.join(without)}")
    if not finished[0]:
        why = f"{names[0]}, with which the others would be compared, has no finished run"
        raise InputError(sweep, why, "Go on with 'mlpx resume', or choose others by --where.")
    sides = [
        Side(name, each[0].path if len(each) == 1 else sweep, Group(records.newest_first(each)))
        for name, each in zip(names, finished, strict=True)
        if each
    ]
    if len(sides) == 1:
        raise InputError(sweep, f"has finished runs of {names[0]} alone", "Go on with 'mlpx resume'.")
    return Sides(sides, _common_seeds(sides, notes), [*warnings, *unreadable], notes, told)


def _names_of_groups(
    groups: Sequence[Settings], order: Sequence[str], base: Settings | None
) -> tuple[list[str], Sequence[str]]:
    """A name for each group, made of what differs, and the settings that the names tell."""
    texts = [{name: to_text(getattr(each, name)) for name in type(each).model_fields} for each in groups]
    differing = [name for name in texts[0] if name not in NOT_OF_GROUP and len({each[name] for each in texts}) > 1]
    differing.sort(key=lambda name: order.index(name) if name in order else len(order))
    if base is None or selecting.of_group(base) != selecting.of_group(groups[0]):
        return [in_words(each, differing) for each in groups], differing
    changes = [
        in_words(each, [name for name in differing if of_each[name] != texts[0][name]])
        for each, of_each in zip(groups, texts, strict=True)
    ]
    return [BASE, *changes[1:]], differing


def in_words(settings: Settings, names: Iterable[str]) -> str:
    """The values of some settings: ``lr 0.1, hidden 512x256``."""
    return ", ".join(f"{name.replace('_', ' ')} {to_text(getattr(settings, name))}" for name in names)


def _common_seeds(sides: Sequence[Side], notes: list[str]) -> list[int]:
    """The seeds that all sides have; what is left out is noted.

    Raises:
        UsageError: There is none.
    """
    common = set.intersection(*(set(side.seeds) for side in sides))
    if not common:
        seeds = "; ".join(f"{side.name} has {in_ranges(side.seeds)}" for side in sides)
        raise UsageError("compare", f"the sides have no seed in common: {seeds}", "Train the same seeds on each side.")
    if alone := {seed for side in sides for seed in side.seeds} - common:
        notes.append(f"seeds that not every side has are left out: {in_ranges(sorted(alone))}")
    return sorted(common)


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
    _require_one_experiment(reference, finished)
    differing = selecting.varying(finished, NOT_OF_GROUP) if len(finished) > 1 else []
    if differing:
        why = f"its runs differ in {', '.join(differing)}, and not in the seed alone"
        is_sweep = reading.is_sweep(finished[0].path.parent)
        alone = f", or compare them with one another: mlpx compare {shlex.quote(reference)}" if is_sweep else ""
        raise UsageError(reference, why, f"Choose among them by --where, or give single runs{alone}.")
    times = Counter(seed for record in finished for seed in record.settings.seeds)
    if twice := sorted(seed for seed, count in times.items() if count > 1):
        notes.append(
            f"{reference}: seeds that occur more than once, of which the newest run counts: {in_ranges(twice)}"
        )
    return Group(finished)


def _require_one_experiment(what: object, many: Sequence[Record]) -> None:
    if len({record.settings.experiment for record in many}) > 1:
        raise UsageError(what, "holds runs of several experiments", "Choose among them by --where.")


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
