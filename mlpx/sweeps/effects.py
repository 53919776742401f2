"""The picture ``sweep.png``: what the settings of a sweep do to the main metrics."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mlpx.errors import printable
from mlpx.runs import comparing
from mlpx.runs.records import Record
from mlpx.runs.selecting import NOT_OF_GROUP, Group, best_first
from mlpx.settings.base import Settings
from mlpx.settings.metrics import Metric, by_axis
from mlpx.settings.values import to_text
from mlpx.sweeps import results
from mlpx.sweeps.folder import Sweep
from mlpx.sweeps.results import Change

if TYPE_CHECKING:
    from mlpx.plots.effects import Curve, Lost, Panel, Picture

MAX_ROWS = 24
"""A picture of rows has no room for more."""
MAX_TITLE, MAX_TEXT = 76, 24
"""Characters of a title, and of a value of a setting."""

# For each curve, and there for each place on the horizontal axis, the groups of runs that belong there.
Table = Sequence[Sequence[Sequence[Group]]]


def picture(sweep: Sweep, records: Sequence[Record]) -> bytes:
    """The PNG file of the picture.

    Over one or two settings it has curves; for changes made one at a time, and for combinations that are no grid,
    rows; for seeds alone, strips. Runs whose replicas cannot be read are left out.
    """
    from mlpx.plots.figure import png

    groups, _ = results.grouped(sweep, records)
    return png(figure(sweep, groups))


def figure(sweep: Sweep, groups: Sequence[Group], over: Sequence[str] | None = None) -> "Picture":
    """The picture, of the sweep's runs by their settings.

    Args:
        sweep: The sweep.
        groups: Its runs.
        over: The settings over which curves are drawn, one or two; without them all that vary decide what is drawn.
    """
    names, metric = results.varying(sweep, groups), results.deciding(groups)
    if over:
        settings = [group.records[0].settings for group in groups]
        return _curves(sweep, groups, settings, over, [name for name in names if name not in over])
    if not names:
        return _strips(sweep, groups)
    if sweep.request.options.one_at_a_time and metric:
        base, changes = results.changes(sweep, groups, metric.name)
        if base and base.values(metric.name):
            return _change_rows(sweep, metric, base, changes)
    cells = [*sweep.design.cells, *(group.records[0].settings for group in groups)]
    combinations = {tuple(to_text(getattr(cell, name)) for name in names) for cell in cells}
    full = math.prod(len({each[place] for each in combinations}) for place in range(len(names)))
    if len(combinations) == full or metric is None:
        return _curves(sweep, groups, cells, names[:2], names[2:])
    return _rows(sweep, groups, names, metric)


# Curves over one or two settings


class _Swept:
    """A setting and its values: numbers from the least to the greatest, others as they were asked for."""

    def __init__(self, cells: Iterable[Settings], name: str) -> None:
        values: dict[str, Any] = {to_text(getattr(cell, name)): getattr(cell, name) for cell in cells}
        self.name = name
        self.words = _words(name)
        self.are_numbers = not any(isinstance(value, bool | str | list) for value in values.values())
        self._texts = sorted(values, key=lambda text: values[text]) if self.are_numbers else list(values)
        self.shown = [values[text] if self.are_numbers else short(text) for text in self._texts]

    @property
    def labels(self) -> list[str]:
        """The values as texts."""
        return [short(text) for text in self._texts]

    def place(self, group: Group) -> int:
        """The place of the value that the group has."""
        return self._texts.index(to_text(getattr(group.records[0].settings, self.name)))


def _curves(
    sweep: Sweep, groups: Sequence[Group], cells: Sequence[Settings], names: Sequence[str], pooled: Sequence[str]
) -> "Picture":
    """Curves over a setting: one for each metric, or, of two settings, one for each value of the other.

    Each place on a curve stands for all values of the settings that are ``pooled``.
    """
    from mlpx.plots import effects
    from mlpx.plots.figure import GRAY

    # Curves show most over the setting that has the most numbers.
    swept = [_Swept(cells, name) for name in names]
    swept.sort(key=lambda each: len(each.labels) if each.are_numbers else 0, reverse=True)
    across, other = swept[0], swept[1] if len(swept) > 1 else None
    table: list[list[list[Group]]] = [[[] for _ in across.labels] for _ in (other.labels if other else [""])]
    for group in groups:
        table[other.place(group) if other else 0][across.place(group)].append(group)
    seeds = min((sum(map(results.asked_seeds, place)) for row in table for place in row if place), default=1)
    metrics = results.main_metrics(groups)
    with_band = other is None or len(other.labels) <= effects.FEW_CURVES
    about = _about(groups, seeds, [_words(name) for name in pooled], with_band=with_band)
    if other:
        colors = effects.shades(len(other.labels), in_order=other.are_numbers)
        # Beside many curves, those of the training would only hide them.
        shown = [each if with_band else each[-1:] for each in by_axis(metrics).values()]
        panels = [_panel(each, _of_values(each, table, other.labels, colors)) for each in shown]
        about = f"{_styles(shown)}; {about}"
    else:
        colors = [GRAY]
        panels = [_panel(each, _of_metrics(each, table[0])) for each in by_axis(metrics).values()]
    title = _title(sweep, f"over {' and '.join(each.words for each in swept)}", [*names, *pooled])
    lost = _lost(groups, table, metrics[-1], colors)
    axis = effects.Across(across.words, across.shown)
    return effects.curves_over(title, about, axis, panels, lost, seeds, other.words if other else "")


def _panel(metrics: Sequence[Metric], curves: Sequence["Curve"]) -> "Panel":
    from mlpx.plots.effects import Panel

    first = metrics[0]
    return Panel(first.axis or first.title, first.kind, any(metric.log for metric in metrics), curves)


def _of_metrics(metrics: Iterable[Metric], places: Sequence[Sequence[Group]]) -> list["Curve"]:
    """A curve for each metric."""
    from mlpx.plots.effects import Curve

    return [Curve(_name(metric), [_pooled(place, metric) for place in places], _color(metric)) for metric in metrics]


def _of_values(metrics: Sequence[Metric], table: Table, labels: Sequence[str], colors: Sequence[str]) -> list["Curve"]:
    """A curve of the last metric for each value of a setting, and one in the background for the training."""
    from mlpx.plots.effects import Curve

    rows = list(zip(labels, colors, table, strict=True))
    return [
        Curve(label, [_pooled(place, metric) for place in row], color, is_background=metric != metrics[-1])
        for metric in dict.fromkeys([metrics[0], metrics[-1]])
        for label, color, row in rows
    ]


def _styles(shown: Iterable[Sequence[Metric]]) -> str:
    """Which metrics of each panel are drawn, and how."""
    shown = list(shown)
    solid = " and ".join(dict.fromkeys(_name(each[-1]) for each in shown))
    dashed = " and ".join(dict.fromkeys(_name(each[0]) for each in shown if len(each) > 1))
    return f"solid: {solid}; dashed: {dashed}" if dashed else solid


def _pooled(groups: Iterable[Group], metric: Metric) -> list[float]:
    return [value for group in groups for value in group.values(metric.name).values()]


def _lost(groups: Sequence[Group], table: Table, metric: Metric, colors: Sequence[str]) -> list["Lost"]:
    """What has no value: where, and how many seeds in all."""
    from mlpx.plots.effects import Lost

    asked = sum(map(results.asked_seeds, groups))
    total = Counter[str]()
    places: dict[tuple[int, str], list[int]] = {}
    for row, of_row in enumerate(table):
        for place, alike in enumerate(of_row):
            counts = _counted(alike, metric)
            total += counts
            for what in counts:
                places.setdefault((row, what), []).append(place)
    seeds = "runs" if asked == len(groups) else "seeds"
    return [
        Lost(f"{what}:\n{total[what]} of {asked} {seeds}", at, colors[row], number)
        for number, ((row, what), at) in enumerate(places.items())
    ]


def _counted(groups: Iterable[Group], metric: Metric) -> Counter[str]:
    counts = Counter[str]()
    for group in groups:
        for status, number in results.lost(group, metric.name).items():
            counts[status if status in ("diverged", "failed") else "not finished"] += number
    return counts


# Strips and rows


def _strips(sweep: Sweep, groups: Sequence[Group]) -> "Picture":
    """The values of all seeds, where nothing else varies."""
    from mlpx.plots import effects

    metrics = results.main_metrics(groups)
    panels = [_panel(each, _of_metrics(each, [groups])) for each in by_axis(metrics).values()]
    seeds = sum(map(results.asked_seeds, groups))
    counts = _counted(groups, metrics[-1])
    about = "; ".join([_about(groups, seeds, []), *(f"{number} {what}" for what, number in counts.items())])
    return effects.strips(_title(sweep, f": {seeds} {'seed' if seeds == 1 else 'seeds'}", []), about, panels, seeds)


def _rows(sweep: Sweep, groups: Sequence[Group], names: Sequence[str], metric: Metric) -> "Picture":
    """Combinations that are no grid, the best first."""
    from mlpx.plots import effects

    seeds = min(map(results.asked_seeds, groups))
    entries = []
    for group in groups:
        settings = group.records[0].settings
        label = ", ".join(f"{_words(name)} {short(to_text(getattr(settings, name)))}" for name in names)
        values = _pooled([group], metric)
        middle, low, high = effects.middle_and_band(values, seeds)
        entries.append(
            effects.Row(label, middle, (low, high) if len(values) > 1 else None, values, _note(group, metric))
        )
    entries = best_first(entries, lambda entry: entry.center, highest=metric.better == "higher")
    limited = f"; the best {MAX_ROWS} of {len(entries)}" if len(entries) > MAX_ROWS else ""
    title = _title(sweep, f": {metric.title}", names)
    xlabel = f"{metric.axis or metric.title}{_better(metric)}"
    about = f"{_about(groups, seeds, [])}{limited}"
    return effects.rows(title, about, xlabel, entries[:MAX_ROWS], kind=metric.kind, log=metric.log)


def _note(group: Group, metric: Metric) -> str:
    return ", ".join(f"{number} {what}" for what, number in _counted([group], metric).items())


def _change_rows(sweep: Sweep, metric: Metric, base: Group, changes: Sequence[Change]) -> "Picture":
    """What each change did to the metric, against the base."""
    from mlpx.plots import effects

    scale = 100 if metric.kind == "share" else 1
    entries = []
    for change in changes[:MAX_ROWS]:
        comparison, interval = change.comparison, change.interval
        note = "; ".join(filter(None, [change.count, _note(change.group, metric)]))
        entries.append(
            effects.Row(
                change.label,
                scale * comparison.difference if comparison else math.nan,
                (scale * interval[0], scale * interval[1]) if interval else None,
                [scale * difference for difference in change.differences],
                note,
                is_certain=comparison is not None and comparison.verdict == "more than chance",
            )
        )
    values = list(base.values(metric.name).values())
    zero = f"base: {metric.shown(math.fsum(values) / len(values))}"
    unit = ", in percentage points" if scale == 100 else ""
    xlabel = f"difference of the {metric.title}{unit}{_better(metric)}"
    about = "paired by seed: mean, each seed" + (
        f", {comparing.CONFIDENCE * 100:.0f} % interval" if any(change.interval for change in changes) else ""
    )
    compared = [change.comparison for change in changes if change.comparison]
    if compared and all(each.verdict == "too few" for each in compared):
        about += f"; too few to tell from chance, {compared[0].fewest} are the fewest"
    elif compared:
        about += f"; a full dot is more than chance (Holm, {len(compared)} comparisons)"
    if len(changes) > MAX_ROWS:
        about += f"; the first {MAX_ROWS} of {len(changes)} changes"
    title = _changes_title(sweep, base, [change.group for change in changes])
    return effects.rows(title, about, xlabel, entries, kind="number", log=False, zero=zero)


def _changes_title(sweep: Sweep, base: Group, others: Sequence[Group]) -> str:
    """The base, if there is room to say what it is."""
    names, settings = results.varying(sweep, [base, *others]), base.records[0].settings
    values = ", ".join(f"{_words(name)} {short(to_text(getattr(settings, name)))}" for name in names)
    title = f"{settings.experiment}: each change of {values}"
    return title if len(title) <= MAX_TITLE else f"{settings.experiment}: what each change does"


def _better(metric: Metric) -> str:
    return f" ({metric.better} is better)" if metric.better else ""


# Words


def _title(sweep: Sweep, what: str, varying: Sequence[str]) -> str:
    """The experiment, what is shown, and as many of the other settings that were asked for as there is room for."""
    title = f"{sweep.request.model.experiment} {what}".replace(" :", ":").strip()
    fixed = []
    for name, values in sweep.request.values.items():
        default = sweep.request.model.model_fields[name].default
        if len(values) == 1 and values[0] != default and name not in (*varying, *NOT_OF_GROUP):
            fixed.append(f"{_words(name)} {short(to_text(values[0]))}")
    while fixed and len(title) + len(", ".join(fixed)) + 3 > MAX_TITLE:
        fixed.pop()
    return f"{title} ({', '.join(fixed)})" if fixed else title


def _about(groups: Iterable[Group], seeds: int, others: Sequence[str], *, with_band: bool = True) -> str:
    """What the curves and bands are; ``seeds`` is the least number of seeds that a value stands for."""
    from mlpx.plots.effects import FEW_SEEDS

    counts = sorted({results.asked_seeds(group) for group in groups}) or [1]
    most = counts[-1]
    words = [*others, *([f"{most} seeds" if len(counts) == 1 else f"{counts[0]} to {most} seeds"] if most > 1 else [])]
    if not words:
        return "one seed"
    listed = " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    band = f" and band {'from least to greatest' if seeds < FEW_SEEDS else 'of eight in ten'}" if with_band else ""
    return f"median{band} over {listed}"


def _name(metric: Metric) -> str:
    return metric.curve or metric.title


def _color(metric: Metric) -> str:
    from mlpx.plots.figure import GREEN
    from mlpx.plots.loss import COLORS

    return COLORS.get(metric.name.partition("_")[0], GREEN)


def _words(name: str) -> str:
    return name.replace("_", " ")


def short(text: str) -> str:
    """A value that fits on an axis, in letters that the font of the pictures has."""
    legible = printable(text).encode("latin-1", "replace").decode("latin-1")
    return legible if len(legible) <= MAX_TEXT else f"...{legible[3 - MAX_TEXT :]}"
