"""The settings of each run of a sweep, from the values that were asked for."""

import csv
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpx.errors import UsageError, did_you_mean
from mlpx.runs.folder import NAME
from mlpx.settings import values
from mlpx.settings.base import ReplicatedSettings, Settings
from mlpx.settings.files import validated
from mlpx.settings.values import to_text

MAX_RUNS = 20_000
"""A sweep cannot have more runs than this."""
SEED = "seed"

Row = dict[str, Any]
"""Values of some settings, by their names."""


@dataclass(frozen=True)
class Design:
    """The runs of a sweep, before there is any.

    Args:
        cells: The settings of each run, all of one experiment.
        varying: The settings in which the runs differ, in the order in which they were asked for.
        summary: How the runs come about: ``degree 3 x seed 2``; empty for a single run.
    """

    cells: Sequence[Settings]
    varying: Sequence[str]
    summary: str

    @property
    def names(self) -> list[str]:
        """A name for each run, made of what varies, or else its number; whole numbers have the same width."""
        if not self.varying:
            return [cell.label for cell in self.cells]
        parts = [[f"{name}{text}" for text in _aligned(self.cells, name)] for name in self.varying]
        names = ["-".join(words) for words in zip(*parts, strict=True)]
        if all(map(NAME.fullmatch, names)) and len(set(names)) == len(names):
            return names
        return [f"{number:04}" for number in range(1, len(names) + 1)]

    def count(self, setting: str) -> int:
        """The number of different values of a setting."""
        return len({to_text(getattr(cell, setting)) for cell in self.cells})


def _aligned(cells: Iterable[Settings], name: str) -> list[str]:
    found = [getattr(cell, name) for cell in cells]
    is_whole = all(isinstance(value, int) and not isinstance(value, bool) for value in found)
    width = max(len(str(value)) for value in found) if is_whole else 0
    return [to_text(value).zfill(width) for value in found]


def identity(settings: Settings) -> tuple[str, ...]:
    """What tells a run of a sweep from the others: every setting but the data folder, which changes no number."""
    names = (name for name in type(settings).model_fields if name != "data_dir")
    return settings.experiment, *(to_text(getattr(settings, name)) for name in names)


def design(
    model: type[Settings], asked: Mapping[str, Sequence[Any]], rows: Sequence[Row] = (), *, one_at_a_time: bool = False
) -> Design:
    """The runs that are asked for.

    By default all combinations of the values, the last setting changing fastest. One at a time, the first value of each
    setting makes the base, and each run differs from it in one setting; the seeds are combined with all of these.

    Args:
        model: The settings of the experiment.
        asked: The values of each setting; the other settings have their defaults.
        rows: Combinations of other settings, each to be combined with the values.
        one_at_a_time: Whether one setting at a time is changed.

    Raises:
        UsageError: There are too many runs, the values do not fit together, or seeds of replicas overlap.
    """
    if one_at_a_time and rows:
        raise UsageError("--one-at-a-time and --cells", "exclude each other", "Give one of them.")
    for name in {name for row in rows for name in row}:
        if len(asked.get(name, ())) > 1:
            raise UsageError("--cells", f"{name} has several values beside those of the rows", "Leave one of them out.")
    several = {name: found for name, found in asked.items() if len(found) > 1}
    given = {name: found[0] for name, found in asked.items()}
    crossed = {name: found for name, found in several.items() if not one_at_a_time or name == SEED}
    changes = [
        {name: value} for name, found in several.items() if one_at_a_time and name != SEED for value in found[1:]
    ]
    starts: Sequence[Row] = rows or [{}, *changes]
    _require_few([len(starts), *map(len, crossed.values())])
    combinations = [dict(zip(crossed, values, strict=True)) for values in itertools.product(*crossed.values())]
    settings = [
        validated(model, given | start | combination, {}, None) for start in starts for combination in combinations
    ]
    cells = list({identity(each): each for each in settings}.values())
    _require_disjoint_seeds(cells)
    order = dict.fromkeys([*(name for row in rows for name in row), *asked])
    varying = [name for name in order if len({to_text(getattr(cell, name)) for cell in cells}) > 1]
    counts = [f"{name.replace('_', ' ')} {len(found)}" for name, found in crossed.items()]
    if rows:
        counts.insert(0, f"{len(rows)} rows")
    elif one_at_a_time:
        counts.insert(0, f"the base and {len(changes)} {'change' if len(changes) == 1 else 'changes'}")
    return Design(cells, varying, " x ".join(counts))


def _require_few(factors: Iterable[int]) -> None:
    count = 1
    for factor in factors:
        count *= factor
    if count > MAX_RUNS:
        raise UsageError("sweep", f"these values make {count} runs, more than {MAX_RUNS}", "Give fewer values.")


def _require_disjoint_seeds(cells: Iterable[Settings]) -> None:
    """Check that no two runs train the same replica.

    Raises:
        UsageError: Two of them do, so that its figures would count twice.
    """
    last: dict[tuple[str, ...], ReplicatedSettings] = {}
    replicated = (cell for cell in cells if isinstance(cell, ReplicatedSettings))
    for cell in sorted(replicated, key=lambda cell: cell.seed):
        others = identity(cell.model_copy(update={"seed": 0, "replicas": 1}))
        before = last.get(others)
        if before and before.seed == cell.seed:
            why = f"{before.replicas} and {cell.replicas} replicas of seed {cell.seed} overlap"
            raise UsageError("--replicas", why, "Give one number of replicas.")
        if before and cell.seed in before.seeds:
            why = f"the replicas of seeds {before.seed} and {cell.seed} overlap"
            step = before.replicas
            raise UsageError("--seed", why, f"Leave {step} between them, as in 0..{9 * step}..{step}.")
        last[others] = cell


def read_rows(model: type[Settings], text: str, source: str) -> list[Row]:
    """The rows of a CSV file, whose columns are settings; an empty cell leaves the setting as it is elsewhere.

    Args:
        model: The settings of the experiment.
        text: The content of the file.
        source: Its name, for error messages.

    Raises:
        UsageError: It is not such a file.
    """
    # Spreadsheets begin a file with a byte order mark. What is blank is no row, whatever its blanks are.
    lines = csv.reader((line for line in text.removeprefix("\ufeff").splitlines() if line.strip()), strict=True)
    try:
        names, *cells = lines
    except csv.Error as error:
        raise UsageError(source, f"is not CSV: {error}", "Correct it.") from error
    except ValueError as error:
        raise UsageError(source, "is empty", "Give a line of settings, and below it a line for each run.") from error
    names = [name.strip().replace("-", "_") for name in names]
    for name in names:
        if name not in model.model_fields:
            remedy = did_you_mean(name, model.model_fields, f"The settings are {', '.join(model.model_fields)}.")
            raise UsageError(source, f"no such setting: {name!r}", remedy)
        if names.count(name) > 1:
            raise UsageError(source, f"has the column {name!r} twice", "Leave one out.")
    if not cells:
        raise UsageError(source, "has no row", "Below the line of settings, give a line for each run.")
    _require_few([len(cells)])
    return [_row(model, names, line, f"{source}: row {number}") for number, line in enumerate(cells, 1)]


def _row(model: type[Settings], names: Sequence[str], line: Sequence[str], what: str) -> Row:
    if len(line) != len(names):
        raise UsageError(what, f"has {len(line)} cells, and there are {len(names)} settings", "Correct it.")
    row = {}
    for name, text in zip(names, line, strict=True):
        if text := text.strip():
            found = values.parse(model.model_fields[name], text, f"{what}: {name}")
            if len(found) > 1:
                raise UsageError(f"{what}: {name}", f"{text!r} is several values", "Give a row for each.")
            row[name] = found[0]
    return row
