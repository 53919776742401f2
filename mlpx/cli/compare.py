"""``mlpx compare``: what differs between sides, their metrics side by side, and whether the differences are chance."""

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from mlpx.cli import grids, streams
from mlpx.cli.grids import Cell, Column
from mlpx.cli.options import Shape
from mlpx.cli.tables import GAP, new_console
from mlpx.errors import CheckFailed, UsageError, printable
from mlpx.runs import checks, comparing, selecting
from mlpx.runs.checks import Check
from mlpx.runs.comparing import Comparison
from mlpx.runs.folder import finite
from mlpx.runs.selecting import SEEDS
from mlpx.runs.sides import Side, read_sides
from mlpx.settings.metrics import Metric, final
from mlpx.settings.values import in_ranges, to_text

DIFFERENCE, RATIO = "_diff", "_ratio"
"""What follows the name of a metric in ``--check``."""
TESTED = ("chance", "more than chance")
"""The verdicts that follow from p."""
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
        references: Two or more, each of a run or of a folder of runs.
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
    sides, seeds, warnings, notes = read_sides(references, where, runs_dir)
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
    _write(_Result(sides, shown), shape, show_all=show_all)
    _require(asked, sides)


class _Result(NamedTuple):
    """What is shown: the sides, and for each metric the comparison of each side but the first with the first."""

    sides: Sequence[Side]
    by_metric: Mapping[Metric, Sequence[Comparison]]

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
        raise CheckFailed("check", "; ".join(failed), f"See {' and '.join(str(side.path) for side in others)}.")


def _write(result: _Result, shape: Shape, *, show_all: bool) -> None:
    if shape == "json":
        for comparison in result.comparisons:
            print(json.dumps(finite(_as_json(comparison)), allow_nan=False))
    elif shape == "csv":
        grids.write([Column("", "", [Cell(values=row) for row in _csv_rows(result)])], shape)
    elif shape == "latex":
        grids.write(_columns(result.sides, _metric_rows(result)), shape)
    elif shape != "quiet":
        rows = {**_setting_rows(result.sides, show_all=show_all), **_metric_rows(result)}
        left_out = grids.write(_columns(result.sides, rows, fitting=shape == "table"), shape)
        if left_out:
            streams.note(f"no room for {', '.join(column.name for column in left_out)}: widen the terminal")
        _write_words(result, is_markdown=shape == "markdown")


def _as_json(comparison: Comparison) -> dict[str, Any]:
    low, high = comparison.interval or (None, None)
    return {
        "metric": comparison.metric,
        "first": comparison.first,
        "side": comparison.other,
        "n": len(comparison.seeds),
        "seeds": list(comparison.seeds),
        "first_mean": comparison.first_mean,
        "first_std": comparison.first_std,
        "mean": comparison.other_mean,
        "std": comparison.other_std,
        "diff": comparison.difference,
        "ratio": comparison.ratio,
        "low": low,
        "high": high,
        "p": comparison.p,
        "p_holm": comparison.p_holm,
        "lower": comparison.lower,
        "higher": comparison.higher,
        "fewest": comparison.fewest,
        "verdict": comparison.verdict,
    }


def _csv_rows(result: _Result) -> Iterable[dict[str, object]]:
    """A row for each metric and side, with :data:`CSV_COLUMNS`; that of the first side ends with ``std``."""
    for first, *others in result.by_metric.values():
        about = {"metric": first.metric, "side": first.first, "n": len(first.seeds)}
        yield {**about, "mean": first.first_mean, "std": first.first_std}
        for comparison in (first, *others):
            yield {name: value for name, value in _as_json(comparison).items() if name in CSV_COLUMNS}


# Tables


def _setting_rows(sides: Sequence[Side], *, show_all: bool) -> dict[str, list[Cell]]:
    """The settings that differ, or all, and the seeds: a row each."""
    settings = [side.settings for side in sides]
    names = type(settings[0]).model_fields
    differing = names if show_all else selecting.varying([side.group.records[0] for side in sides])
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
    """A paragraph a comparison, and how it was made."""
    escaped: Callable[[str], str] = _escaped if is_markdown else str
    console = new_console()
    print()
    for metric, comparisons in result.by_metric.items():
        for comparison in comparisons:
            title, words = escaped(metric.title), _in_words(metric, comparison, escaped(printable(comparison.other)))
            if is_markdown:
                print(f"- **{title}**: {words}")
            else:
                # On a terminal a paragraph breaks between words; elsewhere it stays one line.
                console.print(Text.assemble((title, "bold"), f": {words}"), soft_wrap=not sys.stdout.isatty())
    if is_markdown:
        print()
    method = _method(result, escaped(printable(result.sides[0].name)))
    console.print(method, soft_wrap=is_markdown or not sys.stdout.isatty())


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", text)


def _in_words(metric: Metric, comparison: Comparison, other: str) -> str:
    """How the other side compares with the first, in one or two sentences."""
    verdict, n = comparison.verdict, len(comparison.seeds)
    if verdict == "none":
        return f"none; {other} is equal up to rounding."
    # Of too few seeds an interval would say more than they can.
    tested = verdict in TESTED
    direction = "lower" if comparison.difference < 0 else "higher"
    size, interval = _in_direction(metric, comparison.difference, comparison.interval if tested else None)
    too_few = f"too few to tell; {comparison.fewest} are the fewest."
    if n == 1:
        return f"{other} is {direction} by {size}. 1 seed: no interval, and {too_few}"
    count = comparison.lower if direction == "lower" else comparison.higher
    begun = f"{other} is {direction} in {count} of {n} seeds, by {size} on average"
    if not tested:
        return f"{begun}. {n} seeds: {too_few}"
    p = "p < 0.001" if comparison.p_holm < 0.001 else f"p = {comparison.p_holm:.2g}"
    end = "More than chance." if verdict == "more than chance" else "This may be chance."
    return f"{begun} ({interval}), {p}. {end}"


def _in_direction(metric: Metric, difference: float, interval: tuple[float, float] | None) -> tuple[str, str]:
    """The size of a difference, and its interval, in the direction of the difference.

    Both are rounded to the second digit of the standard error, which is about a quarter of the interval. Without an
    interval, the size has two digits.
    """
    sign = -1 if difference < 0 else 1
    scale, unit = (100 * sign, " percentage points") if metric.kind == "share" else (sign, "")
    size = scale * difference
    if interval is None:
        return f"{_number(size, size)}{unit}", "no interval: the differences are alike"
    low, high = sorted(scale * end for end in interval)
    error = max((high - low) / 4, size / 1000)
    words = f"{comparing.CONFIDENCE * 100:.0f} % interval {_number(low, error)} to {_number(high, error)}"
    return f"{_number(size, error)}{unit}", words


def _number(value: float, extent: float) -> str:
    """The value, rounded to the second digit of ``extent``."""
    decimals = 1 - math.floor(math.log10(extent)) if extent > 0 else 0
    return f"{value:.{max(0, decimals)}f}" if decimals <= 6 and abs(value) < 1e6 else f"{value:.3g}"


def _method(result: _Result, first: str) -> str:
    """How the comparisons were made."""
    parts = ["Paired by seed" + (f", each side with {first}" if len(result.sides) > 2 else "")]
    if any(comparison.verdict in TESTED for comparison in result.comparisons):
        count = len(result.comparisons)
        holm = f", adjusted by Holm's method for {count} comparisons" if count > 1 else ""
        parts += [f"p by flipping the signs of the differences{holm}", "intervals by bootstrap (BCa)"]
    return "; ".join(parts) + "."
