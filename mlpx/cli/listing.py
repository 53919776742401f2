"""``mlpx runs``: which rows there are, in which order, and with which columns."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlpx.cli import grids, streams
from mlpx.cli.grids import Cell, Column
from mlpx.cli.options import Format, Shape
from mlpx.cli.rows import GroupRow, Row, RunRow, SweepRow
from mlpx.cli.tables import GAP, new_console
from mlpx.cli.times import ago
from mlpx.errors import UsageError, printable
from mlpx.registry import EXPERIMENTS, settings_class
from mlpx.runs import reading, records, selecting
from mlpx.runs.folder import finite
from mlpx.runs.records import Record
from mlpx.settings.files import resolve
from mlpx.settings.metrics import Metric
from mlpx.settings.values import to_text

if TYPE_CHECKING:
    from mlpx.sweeps.progress import Progress

WHY = "why"
"""The column that says why a run ended early."""
SHORTEST = {"run": 24, WHY: 24}
"""On a terminal these columns are shortened to so many characters before one that matters as much is left out."""
ABOUT = ("run", "n", *selecting.ABOUT, "started", WHY)
"""The columns that are neither a setting nor a metric; ``n`` is the number of seeds of a row."""


class Selection(NamedTuple):
    """Which runs are listed, in which order, and how: the options of that name."""

    where: Sequence[str] = ()
    min: str | None = None
    max: str | None = None
    first: int | None = None
    over: str | None = None
    columns: str | None = None

    @property
    def is_of_runs(self) -> bool:
        """Whether runs are chosen by what they are, so that those in sweeps are candidates too."""
        return bool(self.where or self.min or self.max or self.over)

    @property
    def names(self) -> Sequence[str]:
        """The columns that are asked for; none where the choice is left to the program."""
        return [name.strip() for name in self.columns.split(",")] if self.columns is not None else []


class Found(NamedTuple):
    """What can be listed: runs, and sweeps that are a row each.

    The runs in the folder ``home`` need no more than their name; any other run in a sweep is called SWEEP/RUN.
    """

    records: Sequence[Record]
    sweeps: "Sequence[Progress]"
    home: Path | None

    @property
    def is_of_one_sweep(self) -> bool:
        """Whether the runs of one sweep are listed."""
        return self.home is not None and reading.is_sweep(self.home)


def list_runs(references: Sequence[str], selection: Selection, shape: Shape, runs_dir: Path) -> None:
    """Print the runs that are selected.

    Args:
        references: Runs, sweeps, or folders of them; none stands for all in ``runs_dir``.
        selection: What the options ask for.
        shape: What is printed.
        runs_dir: The runs folder.

    Raises:
        InputError: There is no such run or folder.
        UsageError: An option cannot be used.
    """
    if selection.min and selection.max:
        raise UsageError("--min and --max", "exclude each other", "Give one of them.")
    conditions = [selecting.condition(text) for text in selection.where]
    found = read(references, runs_dir, into_sweeps=selection.is_of_runs)
    best = selection.min or selection.max
    chosen = selecting.matching(found.records, conditions)
    if found.records or found.sweeps:
        selecting.require_known("--columns", selection.names, {*_known_names(found), *ABOUT})
        if best:
            option = "--min" if selection.min else "--max"
            selecting.require_known(option, [best], selecting.declared_metrics(found.records), "metric")
    rows = _rows(found, chosen, over_seeds=selection.over is not None)
    if best:
        rows = selecting.best_first(rows, lambda row: row.value(best), highest=bool(selection.max))
    if best and best.startswith("test_") and selection.first and len(rows) > selection.first:
        streams.note(f"the best of {len(rows)} by {best}, chosen on the test set: expect less on new data")
    rows = rows[: selection.first]
    if not rows:
        nothing = f"no runs to list in {', '.join(references) or runs_dir}"
        streams.note(f"none of {len(found.records)} runs is selected" if found.records else nothing)
    elif shape == "json":
        for row in rows:
            print(json.dumps(finite(row.as_json()), allow_nan=False))
    elif shape == "quiet":
        for path in (path for row in rows for path in row.paths):
            print(path)
    else:
        _write(rows, _choice(rows, selection, is_of_one_sweep=found.is_of_one_sweep), shape)


def _known_names(found: Found) -> set[str]:
    """What ``--columns`` can name beside :data:`ABOUT`; a sweep has what a run of its experiment has."""
    experiments = {sweep.experiment for sweep in found.sweeps if sweep.experiment}
    metrics = {metric.name for each in experiments for metric in resolve(settings_class(each), {}).metrics}
    return selecting.known_names(found.records) | metrics


def _rows(found: Found, chosen: Sequence[Record], *, over_seeds: bool) -> Sequence[Row]:
    if not over_seeds:
        others = {record.path.parent for record in chosen} - {found.home}
        sweeps = {path: path.name for path in others if reading.is_sweep(path)}
        rows = [RunRow(record, sweeps.get(record.path.parent, "")) for record in chosen]
        return records.newest_first([*rows, *map(SweepRow, found.sweeps)])
    groups, warnings = selecting.over_seeds(records.newest_first(chosen))
    for warning in warnings:
        streams.warn(warning)
    return [GroupRow(group) for group in groups]


class Choice(NamedTuple):
    """The columns to show, in their order, each with its rank; a narrow terminal leaves out the highest ranks first.

    For those of a rank below ``enough``, other texts are shortened before they are left out.
    """

    ranks: Mapping[str, int]
    enough: int


def _choice(rows: Sequence[Row], selection: Selection, *, is_of_one_sweep: bool) -> Choice:
    """The columns that are asked for, or else those that tell the rows apart, and the main metrics.

    Of the main metrics, those that most rows have rank lowest, and among these the one that is declared last. In a
    sweep the name of a run says its settings, so why a run ended early matters more than they do.
    """
    chosen = [record for row in rows for record in row.records]
    if selection.names:
        return Choice({name: rank for rank, name in enumerate(selection.names)}, len(selection.names))
    best = selection.min or selection.max
    newest = [(row, row.records[0].settings.metrics) for row in rows if row.records]
    main = Counter(m.name for row, metrics in newest for m in metrics if m.is_main and row.cell(m).text)
    by_weight = sorted(main, key=main.__getitem__)[::-1]
    metrics = list(main) if best is None or best in main else [best, *main]
    varying = selecting.varying(chosen, selecting.NOT_OF_GROUP if selection.over else ())
    experiments = {row.experiment for row in rows if row.experiment}
    places = {name for experiment in experiments for name in settings_class(experiment).places}
    shown = [
        *([] if selection.over else ["run"]),
        *(["experiment"] if len(experiments) > 1 or (selection.over and not varying) else []),
        *varying,
        *(["n"] if selection.over else []),
        *metrics,
        *("status", "started"),
        *([WHY] if not selection.over and any(row.why for row in rows) else []),
    ]
    first = ["run", "n", *([best] if best else []), "status", *([WHY] if is_of_one_sweep else [])]
    importance = [
        *(*first, *by_weight[:1], "started", *(name for name in varying if name not in places)),
        *("experiment", *by_weight[1:], *places, WHY),
    ]
    return Choice({name: importance.index(name) for name in shown}, len(first))


def _write(rows: Sequence[Row], choice: Choice, shape: Format) -> None:
    metrics = selecting.declared_metrics(record for row in rows for record in row.records)
    columns: Sequence[Column] = [_column(name, rank, rows, metrics, shape) for name, rank in choice.ranks.items()]
    if shape == "table" and sys.stdout.isatty():
        columns = _fitted(columns, new_console().width, choice.enough)
    left_out = grids.write(columns, shape)
    if left_out:
        names_left_out = ", ".join(column.name for column in left_out)
        streams.note(f"no room for {names_left_out}: widen the terminal, or choose by --columns")


def _fitted(columns: Sequence[Column], width: int, enough: int) -> Sequence[Column]:
    """The columns, of which those in :data:`SHORTEST` are shortened so that all of a rank below ``enough`` fit."""
    kept = sorted(columns, key=lambda column: column.rank)
    widths = {column.name: column.width for column in columns}
    if WHY in widths:
        widths[WHY] = min(widths[WHY], SHORTEST[WHY])

    def left() -> int:
        return width + len(GAP) - sum(widths[column.name] + len(GAP) for column in kept)

    while left() < 0 and len(kept) > 1:
        shorter = widths.get("run", 0) + left()
        if kept[-1].rank < enough and shorter >= SHORTEST["run"]:
            widths["run"] = shorter
        else:
            kept.pop()
    if any(column.name == WHY for column in kept):
        widths[WHY] += max(0, left())
    return [_shortened(column, widths[column.name]) if column.name in SHORTEST else column for column in columns]


def _shortened(column: Column, width: int) -> Column:
    return replace(column, cells=[replace(cell, text=grids.shortened(cell.text, width)) for cell in column.cells])


def _column(name: str, rank: int, rows: Sequence[Row], metrics: Mapping[str, Metric], shape: Format) -> Column:
    if name in ABOUT:
        cells = [_about(name, row, shape) for row in rows]
        return Column(name, name, cells, rank, is_text=name != "n")
    if any(name in settings_class(experiment).model_fields for experiment in EXPERIMENTS):
        values = [_shared(row, name) for row in rows]
        texts = ["" if value is None else to_text(value) for value in values]
        cells = [Cell(printable(text), {name: text}) for text in texts]
        is_text = any(isinstance(value, str | list | bool) for value in values)
        return Column(name, name.replace("_", " "), cells, rank, is_text=is_text)
    metric = metrics.get(name, Metric(name))
    column = Column(name, metric.title, [row.cell(metric) for row in rows], rank)
    return grids.marked(column, [row.value(name) for row in rows], metric.better)


def _shared(row: Row, setting: str) -> object:
    """The value of a setting; ``None`` where the runs of the row have several, or none."""
    values = [getattr(record.settings, setting, None) for record in row.records]
    return values[0] if values and all(value == values[0] for value in values) else None


def _about(name: str, row: Row, shape: Format) -> Cell:
    match name:
        case "run":
            return Cell(printable(row.name), {name: str(row.path)})
        case "n":
            return Cell("" if row.n is None else str(row.n), {name: row.n})
        case "experiment":
            return Cell(row.experiment, {name: row.experiment})
        case "status":
            return Cell(row.progress, {name: row.status})
        case "why":
            return Cell(_in_short(row.why, row.status), {name: row.why})
        case _:
            return Cell(_when(row.started, shape), {name: row.started.isoformat(timespec="milliseconds")})


def _in_short(why: str, status: str) -> str:
    """The first sentence of an error, without the status where it begins with it."""
    return printable(why).partition(". ")[0].removeprefix(f"{status}: ").removesuffix(".")


def _when(moment: datetime, shape: Format) -> str:
    return ago(moment) if shape == "table" else f"{moment:%Y-%m-%d %H:%M}"


def read(references: Sequence[str], runs_dir: Path, *, into_sweeps: bool) -> Found:
    """The runs and sweeps; what cannot be read costs a warning.

    Args:
        references: Runs, sweeps, or folders of them; none stands for all in ``runs_dir``. A sweep that is named itself
            stands for its runs.
        runs_dir: The runs folder.
        into_sweeps: Whether the runs of a sweep in a folder stand in its place.

    Raises:
        InputError: There is no such run or folder.
    """
    inside = [reading.find_inside(reference, runs_dir) for reference in references] or [reading.inside(runs_dir)]
    paths = [path.resolve() if references else path for runs, _ in inside for path in runs]
    sweeps = [path.resolve() if references else path for _, sweeps in inside for path in sweeps]
    home = paths[0].absolute().parent if paths and len(inside) == 1 else None
    if into_sweeps:
        paths += [path for sweep in sweeps for path in reading.runs_in(sweep)]
        sweeps = []
    found, warnings = records.read_all(dict.fromkeys(paths))
    states = []
    if sweeps:
        # Who has no sweeps need not wait until this is imported.
        from mlpx.sweeps import progress

        for sweep in dict.fromkeys(sweeps):
            state, broken = progress.read(sweep)
            states.append(state)
            warnings += broken
    for warning in warnings:
        streams.warn(warning)
    return Found(found, states, home)
