"""The curves over epochs: those of a run, and those of groups of runs."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mlpx.reports import drawing
from mlpx.reports.describing import counted, course, sentence
from mlpx.reports.elements import Cell, Drawing, Table
from mlpx.runs.metrics import read_columns
from mlpx.runs.records import Record
from mlpx.runs.selecting import Group
from mlpx.settings.metrics import EPOCH, Metric, by_axis
from mlpx.sweeps.effects import short

if TYPE_CHECKING:
    from mlpx.plots.groups import GroupCurve

MOST_ROWS = 2000
"""Of a longer ``metrics.csv`` about so many rows are read."""
MOST_POINTS, MOST_GRAY_POINTS = 150, 40
"""A curve that is drawn has at most about so many points."""
MOST_NUMBERS = 25
"""A table of what curves show has at most about so many rows."""
MOST_DESCRIBED = 3
"""So many curves are described in words."""

Rows = Mapping[str, Sequence[float]]


def thinned(count: int, most: int) -> list[int]:
    """The places of at most ``most`` of ``count`` rows, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})


def of_run(record: Record, name: str) -> Drawing | None:
    """The curves of a run; ``None`` where it has no rows.

    Args:
        record: The run.
        name: Names the figure on the page.

    Raises:
        InputError: ``metrics.csv`` is broken.
    """
    from mlpx.plots.loss import Panel, loss_curves

    drawn = [metric for metric in record.settings.metrics if metric.axis]
    replicas = len(record.settings.seeds)
    bands = [f"{metric.name}_{end}" for metric in drawn for end in ("p10", "p90") if replicas > 1]
    rows = read_columns(record.path / "metrics.csv", [EPOCH.name, *(m.name for m in drawn), *bands], MOST_ROWS)
    drawn = [metric for metric in drawn if metric.name in rows]
    if not drawn or not rows.get(EPOCH.name):
        return None
    panels = [
        Panel(label, alike[0].kind, {metric.name: metric.curve for metric in alike}, alike[0].log)
        for label, alike in list(by_axis(drawn).items())[:2]
    ]
    over = f", median of {replicas} replicas and band of eight in ten" if replicas > 1 else ""
    kept = thinned(len(rows[EPOCH.name]), 2 * MOST_POINTS)
    shown = {column: [values[place] for place in kept] for column, values in rows.items()}
    title = f"{record.settings.experiment}{over}"
    description = sentence([course(metric.title, _points(rows, metric.name), metric.shown) for metric in drawn])
    image = drawing.inline(loss_curves(title, panels, shown), name, f"Curves of {record.path.name}", description)
    return Drawing(image, description, _numbers(rows, drawn))


def _points(rows: Rows, column: str) -> list[tuple[str, float]]:
    return [(f"epoch {epoch:g}", value) for epoch, value in zip(rows[EPOCH.name], rows[column], strict=True)]


def _numbers(rows: Rows, drawn: Sequence[Metric]) -> Table:
    count = len(rows[EPOCH.name])
    places = thinned(count, MOST_NUMBERS)
    cells = [
        [
            Cell(f"{rows[EPOCH.name][place]:g}", rows[EPOCH.name][place]),
            *(Cell(metric.shown(rows[metric.name][place]), rows[metric.name][place]) for metric in drawn),
        ]
        for place in places
    ]
    caption = (
        "The curves in numbers" if len(places) == count else f"The curves in numbers, {len(places)} of {count} rows"
    )
    return Table(caption, [EPOCH.name, *(metric.title for metric in drawn)], cells)


class Named(NamedTuple):
    """A group that is drawn, and its name in the legend; without one it is drawn in gray."""

    label: str
    group: Group


def of_groups(
    groups: Sequence[Named], metric: Metric, name: str, *, in_order: bool
) -> tuple[Drawing | None, list[str]]:
    """The median curve of each group with a band, and a warning for each run whose rows cannot be read.

    Args:
        groups: The groups.
        metric: The metric by which one is better than another. Where it has no curve, the main one that has is drawn.
        name: Names the figure on the page.
        in_order: Whether the groups have an order, which their colors show.
    """
    from mlpx.plots.groups import GroupPanel, curves_of_groups

    metrics = _drawn(groups[0].group.records[0].settings.metrics, metric)
    read = [(each, *_rows(each.group, metrics)) for each in groups]
    warnings = [warning for *_, found in read for warning in found]
    with_rows = [(each, rows) for each, rows, _ in read if rows]
    if not metrics or not any(each.label for each, _ in with_rows):
        return None, warnings
    panels = [
        GroupPanel(m.title, m.kind, m.log, [_curve(each, rows, m.name) for each, rows in with_rows]) for m in metrics
    ]
    description = sentence(
        [
            course(f"{m.title} with {short(curve.label)}" if len(with_rows) > 1 else m.title, _at(curve), m.shown)
            for m, panel in zip(metrics, panels, strict=True)
            for curve in [each for each in panel.curves if each.label][:MOST_DESCRIBED]
        ]
    )
    experiment = groups[0].group.records[0].settings.experiment
    titled = f"{experiment}: {' and '.join(m.title for m in metrics)}"
    named = [panel._replace(curves=[c._replace(label=short(c.label)) for c in panel.curves]) for panel in panels]
    image = drawing.inline(
        curves_of_groups(titled, _about(with_rows), named, in_order=in_order), name, titled, description
    )
    return Drawing(image, description, _numbers_of_groups(metrics[-1], panels[-1].curves)), warnings


def _about(with_rows: Sequence[tuple[Named, Sequence[Rows]]]) -> str:
    """What the curves are."""
    from mlpx.plots.effects import FEW_CURVES

    gray = sum(not each.label for each, _ in with_rows)
    band = " and band from least to greatest" if len(with_rows) - gray <= FEW_CURVES else ""
    several = any(len(rows) > 1 for _, rows in with_rows)
    words = f"median{band} over seeds" if several else "a curve for each run"
    return f"{words}; gray: {counted(gray, 'other')}" if gray else words


def _drawn(metrics: Sequence[Metric], chosen: Metric) -> list[Metric]:
    """The metric to be drawn, and before it the one of the training that shares its axis."""
    with_curve = [metric for metric in metrics if metric.axis and not metric.at_end]
    last = next((metric for metric in with_curve if metric.name == chosen.name), None) or next(
        (metric for metric in reversed(with_curve) if metric.is_main), None
    )
    if last is None:
        return with_curve[:1]
    first = next((metric for metric in with_curve if metric.axis == last.axis), last)
    return [first, last] if first != last else [last]


def _rows(group: Group, metrics: Sequence[Metric]) -> tuple[list[Rows], list[str]]:
    """The columns of each run of a group, and a warning for each that cannot be read."""
    from mlpx.errors import InputError

    found: list[Rows] = []
    warnings = []
    names = [EPOCH.name, *(metric.name for metric in metrics)]
    for record in group.records:
        try:
            rows = read_columns(record.path / "metrics.csv", names, MOST_ROWS)
        except InputError as error:
            warnings.append(f"{record.path.name} has no curve: {error}")
            continue
        if rows.get(EPOCH.name) and all(name in rows for name in names):
            found.append(rows)
    return found, warnings


def _curve(named: Named, runs: Sequence[Rows], column: str) -> "GroupCurve":
    """The median of the runs at each epoch at which any of them has a row, and the least and the greatest."""
    from mlpx.plots.groups import GroupCurve

    at: dict[float, list[float]] = {}
    for rows in runs:
        for epoch, value in zip(rows[EPOCH.name], rows[column], strict=True):
            if math.isfinite(value):
                at.setdefault(epoch, []).append(value)
    epochs = sorted(at)
    epochs = [epochs[place] for place in thinned(len(epochs), MOST_POINTS if named.label else MOST_GRAY_POINTS)]
    middle = [statistics.median(at[epoch]) for epoch in epochs]
    return GroupCurve(named.label, epochs, middle, [min(at[e]) for e in epochs], [max(at[e]) for e in epochs])


def _at(curve: "GroupCurve") -> list[tuple[str, float]]:
    return [(f"epoch {epoch:g}", value) for epoch, value in zip(curve.epochs, curve.middle, strict=True)]


def _numbers_of_groups(metric: Metric, curves: Sequence["GroupCurve"]) -> Table:
    named = [curve for curve in curves if curve.label]
    medians = [dict(zip(curve.epochs, curve.middle, strict=True)) for curve in named]
    epochs = sorted({epoch for curve in named for epoch in curve.epochs})
    rows = []
    for place in thinned(len(epochs), MOST_NUMBERS):
        epoch = epochs[place]
        cells = [Cell("") if epoch not in each else Cell(metric.shown(each[epoch]), each[epoch]) for each in medians]
        rows.append([Cell(f"{epoch:g}", epoch), *cells])
    return Table(f"Median {metric.title} by epoch", [EPOCH.name, *(curve.label for curve in named)], rows)
