"""``mlpx compare``: what differs between sides, their metrics, and whether the differences are chance."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.text import Text

from mlpx.cli import grids, streams
from mlpx.cli.grids import Cell, Column
from mlpx.cli.options import Format, Shape
from mlpx.cli.tables import GAP, new_console
from mlpx.errors import CheckFailed, UsageError, printable
from mlpx.runs import checks, comparing, selecting, wording
from mlpx.runs.checks import Check
from mlpx.runs.comparing import Comparison
from mlpx.runs.folder import finite
from mlpx.runs.selecting import SEEDS
from mlpx.runs.sides import BASE, Side, Sides, in_words, read_groups, read_sides
from mlpx.settings.metrics import Metric, final
from mlpx.settings.values import in_ranges, to_text
from mlpx.sweeps import folder

DIFFERENCE, RATIO = "_diff", "_ratio"
"""What follows the name of a metric in ``--check``."""
MOST_COLUMNS = 3
"""So many sides have a column each, which fit into 80 characters; of more sides, each has a row."""
SHORTEST_NAME = 24
"""The name of such a side is not shortened to less than this many characters."""
CSV_COLUMNS = (
    *("metric", "side", "n", "mean", "std"),
    *("diff", "ratio", "low", "high", "p", "p_holm", "lower", "higher", "verdict"),
)


def compare(
    references: Sequence[str],
    where: Sequence[str],
    columns: str | None,
    check: Sequence[str],
    shape: Shape,
    runs_dir: Path,
    *,
    show_all: bool,
) -> None:
    """Print how each side compares with the first.

    Args:
        references: Two or more, each of a run or of a folder of runs; or a sweep, whose groups are the sides.
        where: Conditions on the runs of every side.
        columns: The metrics to compare, separated by commas; without any, the main ones that all sides have.
        check: Conditions on differences and ratios of means.
        shape: What is printed.
        runs_dir: The runs folder.
        show_all: Whether to show also the settings that are equal.

    Raises:
        CheckFailed: A check does not hold of one of the sides.
        InputError: A side cannot be read.
        UsageError: An option cannot be used, or the sides cannot be compared.
    """
    asked = [checks.parse(text) for text in check]
    sides, seeds, warnings, notes, told = _sides(references, where, runs_dir)
    for warning in warnings:
        streams.warn(warning)
    for note in notes:
        streams.note(note)
    known = _known(sides)
    metrics = _chosen(columns, known)
    checks.require_known(asked, [f"{name}{suffix}" for name in known for suffix in (DIFFERENCE, RATIO)])
    values = {metric.name: [side.group.values(metric.name) for side in sides] for metric in metrics}
    comparisons = comparing.compare([side.name for side in sides], values)
    for metric in metrics:
        if left_out := sorted({*seeds} - {*comparing.paired(values[metric.name])}):
            streams.note(f"{metric.title}: no finite value on every side, left out: seeds {in_ranges(left_out)}")
    by_metric = {metric: [each for each in comparisons if each.metric == metric.name] for metric in metrics}
    shown = {metric: of_metric for metric, of_metric in by_metric.items() if of_metric}
    _write(_Result(sides, shown, told), shape, show_all=show_all)
    _require(asked, sides)


def _sides(references: Sequence[str], where: Sequence[str], runs_dir: Path) -> Sides:
    """The sides that the references mean; of a single sweep, its groups over seeds."""
    path = folder.find(references[0], runs_dir) if len(references) == 1 else None
    if path is None:
        return read_sides(references, where, runs_dir)
    sweep = folder.read(path)
    base = sweep.design.cells[0] if sweep.request.options.one_at_a_time else None
    return read_groups(path, sweep.runs(), sweep.design.varying, base, where)


class _Result(NamedTuple):
    """What is shown: the sides, and for each metric the comparison of each side but the first with the first.

    The names of the sides say the settings ``told``.
    """

    sides: Sequence[Side]
    by_metric: Mapping[Metric, Sequence[Comparison]]
    told: Sequence[str]

    @property
    def has_rows(self) -> bool:
        """Whether there are so many sides that each has a row."""
        return len(self.sides) > MOST_COLUMNS

    @property
    def comparisons(self) -> list[Comparison]:
        """All of them."""
        return [comparison for of_metric in self.by_metric.values() for comparison in of_metric]


def _known(sides: Sequence[Side]) -> dict[str, Metric]:
    """The metrics that every side has, by name; what tells the spread of replicas is none of them."""
    measured = [{name for record in side.group.records for name in record.metrics} for side in sides]
    common = set.intersection(*measured)
    return {metric.name: metric for metric in final(sides[0].settings.metrics, 1) if metric.name in common}


def _chosen(columns: str | None, known: Mapping[str, Metric]) -> list[Metric]:
    if columns is None:
        main = [metric for metric in known.values() if metric.is_main]
        if not main:
            raise UsageError("compare", "the sides have no main metric in common", "Name others by --columns.")
        return main
    names = list(dict.fromkeys(name.strip() for name in columns.split(",")))
    selecting.require_known("--columns", names, known, "metric")
    return [known[name] for name in names]


def _require(asked: Sequence[Check], sides: Sequence[Side]) -> None:
    """Raise CheckFailed for the checks that do not hold of each side but the first."""
    others = sides[1:]
    names = {re.sub(f"({DIFFERENCE}|{RATIO})$", "", check.metric) for check in asked}
    found = {name: comparing.differences_and_ratios([side.group.values(name) for side in sides]) for name in names}
    failed = []
    for number, side in enumerate(others):
        figures = {}
        for name in names:
            figures[name + DIFFERENCE], figures[name + RATIO] = found[name][number]
        of = f" of {side.name}" if len(others) > 1 else ""
        failed += [
            f"{check}{of} does not hold, it is {figures[check.metric]}" for check in asked if not check.holds(figures)
        ]
    if failed:
        places = dict.fromkeys(str(side.path) for side in others)
        raise CheckFailed("check", "; ".join(failed), f"See {' and '.join(places)}.")


def _write(result: _Result, shape: Shape, *, show_all: bool) -> None:
    if shape == "json":
        for comparison in result.comparisons:
            print(json.dumps(finite(comparison.as_json()), allow_nan=False))
    elif shape == "csv":
        grids.write([Column("", "", [Cell(values=row) for row in _csv_rows(result)])], shape)
    elif shape == "latex":
        rows = _metric_rows(result)
        grids.write(_row_a_side(result.sides, {}, rows) if result.has_rows else _columns(result.sides, rows), shape)
    elif shape != "quiet":
        settings, metrics = _setting_rows(result, show_all=show_all), _metric_rows(result)
        fitting = shape == "table"
        if result.has_rows:
            _write_grid(_row_a_side(result.sides, settings, metrics, fitting=fitting), shape)
        else:
            _write_grid(_columns(result.sides, settings | metrics, fitting=fitting), shape)
        _write_words(result, is_markdown=shape == "markdown")


def _write_grid(columns: Sequence[Column], form: Format) -> None:
    left_out = grids.write(columns, form)
    if left_out:
        streams.note(f"no room for {', '.join(column.name for column in left_out)}: widen the terminal")


def _csv_rows(result: _Result) -> Iterable[dict[str, object]]:
    """A row for each metric and side, with :data:`CSV_COLUMNS`; that of the first side ends with ``std``."""
    for first, *others in result.by_metric.values():
        about = {"metric": first.metric, "side": first.first, "n": len(first.seeds)}
        yield {**about, "mean": first.first_mean, "std": first.first_std}
        for comparison in (first, *others):
            yield {name: value for name, value in comparison.as_json().items() if name in CSV_COLUMNS}


# Tables


def _setting_rows(result: _Result, *, show_all: bool) -> dict[str, list[Cell]]:
    """The settings that differ, or all, and the seeds: a row each. What the names of the sides tell is left out."""
    sides = result.sides
    settings = [side.settings for side in sides]
    names = type(settings[0]).model_fields
    varying = selecting.varying([side.group.records[0] for side in sides])
    differing = names if show_all else set(varying) - set(result.told)
    rows = {
        name.replace("_", " "): [Cell(printable(to_text(getattr(each, name)))) for each in settings]
        for name in names
        if name in differing and name not in SEEDS
    }
    return {**rows, "seeds": [Cell(f"{len(side.seeds)} ({in_ranges(side.seeds)})") for side in sides]}


def _metric_rows(result: _Result) -> dict[str, list[Cell]]:
    """A row a metric: mean ± standard deviation of each side. What is best by more than chance stands out."""
    rows = {}
    for metric, comparisons in result.by_metric.items():
        means = [comparisons[0].first_mean, *(each.other_mean for each in comparisons)]
        stds = [comparisons[0].first_std, *(each.other_std for each in comparisons)]
        told = [each.verdict == "more than chance" for each in comparisons]
        best = min(means) if metric.better == "lower" else max(means) if metric.better == "higher" else None
        rows[metric.title] = [
            Cell(metric.shown(mean) if std is None else metric.shown_with(mean, std), is_best=mean == best and certain)
            for mean, std, certain in zip(means, stds, [all(told), *told], strict=True)
        ]
    return rows


def _columns(sides: Sequence[Side], rows: Mapping[str, Sequence[Cell]], *, fitting: bool = False) -> list[Column]:
    """A column for the rows' names, and one a side; on a terminal, long names and settings are shortened to fit."""
    names = Column("", "", [Cell(name) for name in rows], is_text=True)
    columns = [
        Column(side.name, printable(side.name), [row[number] for row in rows.values()])
        for number, side in enumerate(sides)
    ]
    if fitting and sys.stdout.isatty():
        room = (new_console().width - names.width) // len(sides) - len(GAP)
        room = max(room, grids.SHORT)
        columns = [
            Column(column.name, grids.shortened(column.title, room), [_fitted(cell, room) for cell in column.cells])
            for column in columns
        ]
    return [names, *columns]


def _fitted(cell: Cell, width: int) -> Cell:
    # Half a number would be a wrong number.
    return cell if "±" in cell.text else Cell(grids.shortened(cell.text, width), is_best=cell.is_best)


# Sentences


def _write_words(result: _Result, *, is_markdown: bool) -> None:
    """A paragraph a comparison, or, where the sides are many, a table a metric, and how it was made."""
    escaped: Callable[[str], str] = _escaped if is_markdown else str
    console = new_console()
    print()
    for metric, comparisons in result.by_metric.items():
        if result.has_rows:
            form: Format = "markdown" if is_markdown else "table"
            _write_grid(_differences(metric, comparisons, fitting=not is_markdown), form)
            print()
            continue
        for comparison in comparisons:
            title, words = (
                escaped(metric.title),
                wording.in_words(metric, comparison, escaped(printable(comparison.other))),
            )
            if is_markdown:
                print(f"- **{title}**: {words}")
            else:
                # On a terminal a paragraph breaks between words; elsewhere it stays one line.
                console.print(Text.assemble((title, "bold"), f": {words}"), soft_wrap=not sys.stdout.isatty())
    if is_markdown and not result.has_rows:
        print()
    words = wording.method(result.comparisons, escaped(printable(result.sides[0].name)))
    console.print(words, soft_wrap=is_markdown or not sys.stdout.isatty())
    for sentence in _footnotes(result):
        console.print(escaped(printable(sentence)), soft_wrap=is_markdown or not sys.stdout.isatty())


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", text)


# Many sides


def _row_a_side(
    sides: Sequence[Side],
    settings: Mapping[str, Sequence[Cell]],
    metrics: Mapping[str, Sequence[Cell]],
    *,
    fitting: bool = False,
) -> list[Column]:
    """A column for the names of the sides, and one for each setting and metric; metrics are the last to be left out."""
    ranks = {name: rank for rank, name in enumerate([*metrics, *[*settings][::-1]], 1)}
    columns = [Column(name, name, cells, ranks[name]) for name, cells in [*settings.items(), *metrics.items()]]
    return [_names("", [side.name for side in sides], columns[len(settings) :], fitting=fitting), *columns]


def _names(title: str, names: Sequence[str], others: Sequence[Column], *, fitting: bool) -> Column:
    """A column of names; on a terminal they are shortened so that there is room for the others."""
    texts = [printable(name) for name in names]
    if fitting and sys.stdout.isatty():
        room = max(SHORTEST_NAME, new_console().width - sum(column.width + len(GAP) for column in others))
        texts = [grids.shortened(text, room) for text in texts]
    return Column(title, title, [Cell(text) for text in texts], is_text=True)


def _differences(metric: Metric, comparisons: Sequence[Comparison], *, fitting: bool) -> list[Column]:
    """A row for each side but the first: the direction and size of its difference, the interval and p."""
    rows = [wording.difference(metric, comparison) for comparison in comparisons]
    against = f"against {printable(comparisons[0].first)}"
    if fitting and sys.stdout.isatty():
        against = grids.shortened(against, max(SHORTEST_NAME, *(len(row[0]) for row in rows)))
    titles = (against, f"{comparing.CONFIDENCE * 100:.0f} % interval", "p")
    columns = [
        Column(title, title, [Cell(row[number]) for row in rows], rank, is_text=rank == 1)
        for number, (title, rank) in enumerate(zip(titles, (1, 3, 2), strict=True))
        if any(row[number] for row in rows)
    ]
    return [_names(metric.title, [each.other for each in comparisons], columns, fitting=fitting), *columns]


def _footnotes(result: _Result) -> list[str]:
    """What the tables leave to be said."""
    said = []
    if result.has_rows:
        verdicts = {comparison.verdict for comparison in result.comparisons}
        said += ["* is more than chance."] if "more than chance" in verdicts else []
        too_few = {len(each.seeds): each.fewest for each in result.comparisons if each.verdict == "too few"}
        for n, fewest in too_few.items():
            said.append(f"{'1 seed is' if n == 1 else f'{n} seeds are'} too few to tell; {fewest} are the fewest.")
    if result.told and result.sides[0].name == BASE:
        said.append(f"{BASE.capitalize()} has {in_words(result.sides[0].settings, result.told)}.")
    return said
