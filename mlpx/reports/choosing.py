"""Which runs a report or an export is of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from mlpx.errors import InputError
from mlpx.runs import reading, records, selecting
from mlpx.runs.records import Record
from mlpx.settings.values import to_text
from mlpx.sweeps import folder
from mlpx.sweeps.designs import Design
from mlpx.sweeps.folder import Sweep
from mlpx.sweeps.request import Request


class Part(NamedTuple):
    """Runs of one experiment that belong together: those of a sweep, or others, which have none."""

    sweep: Sweep | None
    records: Sequence[Record]

    @property
    def experiment(self) -> str:
        """Their experiment."""
        return self.records[0].settings.experiment


def read_parts(references: Iterable[str], where: Sequence[str], runs_dir: Path) -> tuple[list[Part], list[str]]:
    """What the references mean, in their order, and a warning for each run that cannot be read.

    Runs that are of no sweep, or that were named one by one, make a part for each experiment. Every run is in one part.

    Args:
        references: Each of a run, of a sweep, or of a folder of these.
        where: Conditions on the runs, as ``--where`` takes them.
        runs_dir: The runs folder.

    Raises:
        InputError: There is no such run, or none is left.
        UsageError: A condition cannot be used.
    """
    conditions = [selecting.condition(text) for text in where]
    sweeps: dict[Path, Sweep] = {}
    chosen: dict[Path, Path | None] = {}  # the sweep of each run
    for reference in references:
        path = folder.find(reference, runs_dir)
        runs, inside = ([], [path]) if path else reading.find_inside(reference, runs_dir)
        for run in runs:
            chosen.setdefault(run.resolve(), None)
        for each in inside:
            sweep = sweeps.setdefault(each.resolve(), folder.read(each.resolve()))
            for run in sweep.runs():
                chosen.setdefault(run.resolve(), sweep.path)
    found, warnings = records.read_all(chosen)
    selected = selecting.matching(found, conditions)
    if not selected:
        why = "none of these runs is left" if found else "there is no run that can be read"
        raise InputError("the runs", "; ".join([why, *warnings]), "Give other runs, or other conditions.")
    parts: dict[tuple[Path | None, str], list[Record]] = {}
    for record in selected:
        parts.setdefault((chosen[record.path], record.settings.experiment), []).append(record)
    return [Part(sweeps[place] if place else None, alike) for (place, _), alike in parts.items()], warnings


@dataclass(frozen=True)
class Unasked(Sweep):
    """Runs that nobody asked for together, read like a sweep of the settings in which they differ."""

    records: Sequence[Record] = ()

    @cached_property
    def design(self) -> Design:
        """The runs that there are."""
        names = selecting.varying(self.records) if len(self.records) > 1 else []
        names.sort(key=lambda name: name in selecting.SEEDS)
        cells = [record.settings for record in self.records]
        cells.sort(key=lambda cell: [in_order(getattr(cell, name)) for name in names])
        return Design(cells, names, "")


def in_order(value: object) -> tuple[bool, float, str]:
    """What sorts the values of a setting: numbers by their size, before all others."""
    is_number = isinstance(value, int | float)
    return not is_number, float(value) if is_number else 0.0, to_text(value)  # type: ignore[arg-type]


def as_sweep(records: Sequence[Record]) -> Sweep:
    """Runs of one experiment as a sweep, whose folder is that of the first of them."""
    return Unasked(records[0].path.parent, Request(type(records[0].settings)), records=records)
