"""What a page says of runs that belong together: those of a sweep, or others of one experiment."""

import shlex
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from mlpx.errors import InputError, UsageError
from mlpx.reports import comparison, curves, drawing, of_run, pictures
from mlpx.reports.choosing import Part, as_sweep, in_order
from mlpx.reports.describing import counted, course, listed, sentence
from mlpx.reports.elements import Block, Cell, Drawing, Section, Table
from mlpx.runs import selecting
from mlpx.runs.facts import Facts
from mlpx.runs.records import Record
from mlpx.runs.selecting import Group
from mlpx.runs.sides import BASE, in_words
from mlpx.settings.metrics import Metric
from mlpx.settings.values import to_text
from mlpx.sweeps import effects, results
from mlpx.sweeps.folder import FILE, Sweep

MOST_ROWS = 1000
"""A table has no more rows than this."""
MOST_VALUES = 4
"""A heading names so many values of a setting."""
MOST_NAMES = 10
"""So many runs that failed alike are named."""
MOST_BYTES = 350_000
"""The pictures of each of the runs that are shown take no more than this."""


class Many(NamedTuple):
    """Runs that belong together.

    Args:
        sweep: What was asked for, or, where nothing was, what the runs would be as a sweep.
        records: The runs.
        groups: The same by their settings, but for the seed.
        varying: The settings in which the groups differ.
        metric: The metric by which one is better than another; ``None`` where no run has one.
    """

    sweep: Sweep
    records: Sequence[Record]
    groups: Sequence[Group]
    varying: Sequence[str]
    metric: Metric | None

    def label(self, group: Group) -> str:
        """What tells a group from the others."""
        settings = group.records[0].settings
        if self.sweep.request.options.one_at_a_time:
            return results.difference(settings, self.sweep.design.cells[0]) or BASE
        return in_words(settings, self.varying) or "all settings alike"

    def best_first(self) -> list[Group]:
        """The groups by the mean of the metric."""
        metric = self.metric
        if metric is None:
            return list(self.groups)
        return selecting.best_first(self.groups, lambda each: _mean(each, metric), highest=metric.better == "higher")


def section(part: Part, name: str) -> Section:
    """The section of runs that belong together; ``name`` begins the names of its figures."""
    sweep = part.sweep or as_sweep(part.records)
    groups, warnings = results.grouped(sweep, part.records)
    many = Many(sweep, part.records, groups, results.varying(sweep, groups), results.deciding(groups))
    blocks = [Block("Results", tables=[_table(many)])] if groups else []
    blocks += [*_effects(many, name), *_lost(many)]
    if groups and many.metric:
        drawn, unread = curves.of_groups(_named(many), many.metric, f"{name}-curves", in_order=_are_numbers(many))
        warnings += unread
        blocks.append(Block("Curves", drawings=[drawn] if drawn else []))
    blocks.append(_compared(many))
    shown, missing = _chosen_runs(many)
    command = f"mlpx sweep {part.experiment} --config {shlex.quote(str(sweep.path / FILE))}" if part.sweep else ""
    blocks += [*shown, *of_run.settings_blocks(part.records), of_run.repeating(part.records, command)]
    varied = [_range(sweep, each) for each in sweep.design.varying]
    heading = f"{part.experiment}: {'; '.join(varied) or counted(len(part.records), 'run')}"
    place = sweep.path.name if part.sweep else counted(len(part.records), "run")
    kept = [block for block in blocks if block.words or block.drawings or block.tables or block.code]
    return Section(heading, place, _sentence(many), _figures(many), [*warnings, *missing], kept)


def _range(sweep: Sweep, name: str) -> str:
    """A setting and the values that it was given: ``degree 1, 3, 19`` or ``seed 0 to 9``."""
    texts = list(dict.fromkeys(to_text(getattr(cell, name)) for cell in sweep.design.cells))
    numbers = all(isinstance(getattr(cell, name), int | float) for cell in sweep.design.cells)
    if len(texts) <= MOST_VALUES:
        return f"{_words(name)} {', '.join(texts)}"
    return f"{_words(name)} {texts[0]} to {texts[-1]}" if numbers else f"{len(texts)} values of {_words(name)}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _mean(group: Group, metric: Metric) -> float | None:
    values = group.values(metric.name).values()
    return statistics.fmean(values) if values else None


def _shown(group: Group, metric: Metric) -> str:
    """Mean ± standard deviation over the seeds."""
    values = list(group.values(metric.name).values())
    if not values:
        return ""
    mean = statistics.fmean(values)
    return metric.shown_with(mean, statistics.stdev(values)) if len(values) > 1 else metric.shown(values[0])


def _are_numbers(many: Many) -> bool:
    values = [getattr(group.records[0].settings, name, "") for group in many.groups for name in many.varying]
    return bool(values) and not any(isinstance(value, str | bool | list) for value in values)


def _sentence(many: Many) -> str:
    """What came out: the best group, and what did not finish."""
    counts = Counter(record.status for record in many.records)
    ended = listed([f"{number} {status}" for status, number in counts.most_common() if status != "finished"] or [""])
    runs = counted(len(many.records), "run")
    how_many = f"{runs}, all finished" if not ended else f"{counts['finished']} of {runs} finished, {ended}"
    metric = many.metric
    if metric is None:
        return sentence([f"{how_many}; none of them has a result yet"])
    best, *others = many.best_first()
    value = _shown(best, metric)
    seeds = len(best.values(metric.name))
    over = f" (mean ± standard deviation over {seeds} seeds)" if seeds > 1 else ""
    if not others:
        return sentence([f"the {metric.title} is {value}{over}", how_many])
    least = "lowest" if metric.better == "lower" else "highest"
    warning = "; it was chosen on the test set: expect less on new data" if metric.name.startswith("test_") else ""
    return sentence(
        [f"{many.label(best)} has the {least} {metric.title} of {len(many.groups)}: {value}{over}{warning}", how_many]
    )


def _figures(many: Many) -> list[tuple[str, str]]:
    counts = Counter(record.status for record in many.records)
    figures = [(status, str(number)) for status, number in counts.items()]
    if many.metric and many.groups:
        figures.insert(0, (f"best {many.metric.title}", _shown(many.best_first()[0], many.metric)))
    return figures


def _table(many: Many) -> Table:
    """A row for each group: its settings, the main metrics, and what has no value."""
    metrics = results.main_metrics(many.groups)
    single = all(results.asked_seeds(group) == 1 for group in many.groups)
    lost = [results.lost(group, many.metric.name) if many.metric else Counter() for group in many.groups]
    names = [] if many.sweep.request.options.one_at_a_time else list(many.varying)
    settings = [_words(name) for name in names] or ["runs"]
    head = [*settings, *([] if single else ["n"]), *(m.title for m in metrics), *(["no value"] if any(lost) else [])]
    best = {metric.name: _best(many.groups, metric) for metric in metrics}
    rows = []
    for group, without in zip(many.groups[:MOST_ROWS], lost, strict=False):
        of_group = group.records[0].settings
        about = [_setting(getattr(of_group, name, "")) for name in names] or [Cell(many.label(group))]
        count = len(group.values(many.metric.name)) if many.metric else 0
        cells = [
            Cell(_shown(group, metric), mean, is_best=mean is not None and mean == best[metric.name])
            for metric in metrics
            for mean in [_mean(group, metric)]
        ]
        gone = [Cell(", ".join(f"{number} {status}" for status, number in without.items()))] if any(lost) else []
        rows.append([*about, *([] if single else [Cell(str(count), count)]), *cells, *gone])
    over = "" if single else ": mean ± standard deviation over n seeds"
    more = f"; the first {MOST_ROWS} of {len(many.groups)}" if len(many.groups) > MOST_ROWS else ""
    return Table(f"Results{over}{more}", head, rows, is_sortable=len(rows) > 1)


def _setting(value: object) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(to_text(value), float(value) if is_number else None)  # type: ignore[arg-type]


def _best(groups: Sequence[Group], metric: Metric) -> float | None:
    """The best mean of a metric, where there are different ones."""
    means = {mean for group in groups if (mean := _mean(group, metric)) is not None}
    if metric.better is None or len(means) < 2:
        return None
    return min(means) if metric.better == "lower" else max(means)


# Figures


def _effects(many: Many, name: str) -> list[Block]:
    """What the settings do to the main metrics: all of them together, and each beyond the first two alone."""
    if not any(group.values(metric.name) for metric in results.main_metrics(many.groups) for group in many.groups):
        return []
    drawings = []
    shown: list[Sequence[str] | None] = [None]
    if len(many.varying) > 2 and not many.sweep.request.options.one_at_a_time:
        shown += [[each] for each in many.varying]
    for number, names in enumerate(shown):
        figure = effects.figure(many.sweep, many.groups, names)
        words = _described(many, names or many.varying)
        over = listed([_words(each) for each in names or many.varying] or ["seeds"])
        title = f"{many.sweep.request.model.experiment} over {over}"
        image = drawing.inline(figure, f"{name}-effects{number}", title, words)
        drawings.append(Drawing(image, words, _numbers(many) if number == 0 else None))
    return [Block("What the settings do" if many.varying else "What the seeds do", drawings=drawings)]


def _described(many: Many, names: Sequence[str]) -> str:
    """The course of the deciding metric over a setting, or its best and its worst group."""
    metric = many.metric
    if metric is None:
        return ""
    if len(names) == 1 and not many.sweep.request.options.one_at_a_time:
        pooled: dict[str, list[float]] = {}
        for group in sorted(many.groups, key=lambda each: in_order(getattr(each.records[0].settings, names[0], ""))):
            value = to_text(getattr(group.records[0].settings, names[0], ""))
            pooled.setdefault(f"{_words(names[0])} {value}", []).extend(group.values(metric.name).values())
        points = [(where, statistics.median(values)) for where, values in pooled.items() if values]
        return sentence([course(f"the median {metric.title}", points, metric.shown)])
    ranked = [group for group in many.best_first() if group.values(metric.name)]
    if len(ranked) < 2:
        return sentence([f"{metric.title} {_shown(ranked[0], metric)}"]) if ranked else ""
    best, worst = ranked[0], ranked[-1]
    parts = [f"{metric.title} is best with {many.label(best)}, {_shown(best, metric)}"]
    return sentence([*parts, f"it is worst with {many.label(worst)}, {_shown(worst, metric)}"])


def _numbers(many: Many) -> Table:
    """The median, the least and the greatest value of each main metric in each group."""
    metrics = results.main_metrics(many.groups)
    heads = [f"{metric.title}, {what}" for metric in metrics for what in ("median", "least", "greatest")]
    rows = []
    for group in many.groups[:MOST_ROWS]:
        cells = [Cell(many.label(group))]
        for metric in metrics:
            values = list(group.values(metric.name).values())
            extent = (statistics.median(values), min(values), max(values)) if values else ()
            cells += [Cell(metric.shown(value), value) for value in extent] or [Cell("")] * 3
        rows.append(cells)
    return Table("The figure in numbers", ["runs", *heads], rows)


def _named(many: Many) -> list[curves.Named]:
    """The groups with their names, in the order of the design; of many, only the best have one."""
    from mlpx.plots.groups import MOST_GROUPS

    named = {id(group) for group in many.best_first()[:MOST_GROUPS]}
    return [curves.Named(many.label(group) if id(group) in named else "", group) for group in many.groups]


# Words


def _compared(many: Many) -> Block:
    """How each group compares with the first."""
    if many.metric is None or len(many.groups) < 2:
        return Block("")
    try:
        return comparison.block(many.sweep, [record.path for record in many.records], many.metric)
    except (InputError, UsageError) as error:
        return Block("Comparison", words=[f"The runs are not compared with one another: {error}"])


def _lost(many: Many) -> list[Block]:
    """The runs that failed or diverged, and why; those that differ in the reason alone are together."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for record in many.records:
        if record.status in ("failed", "diverged", "interrupted", "dead"):
            why = Facts.of(record.document).error or record.error or "no reason is known"
            reasons.setdefault((record.status, why), []).append(record.path.name)
        elif record.document.get("diverged"):
            reasons.setdefault(("some replicas diverged", ""), []).append(record.path.name)
    if not reasons:
        return []
    rows = [
        [
            Cell(
                ", ".join(names[:MOST_NAMES])
                + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
            ),
            Cell(what),
            Cell(why),
        ]
        for (what, why), names in reasons.items()
    ]
    table = Table("Runs that did not finish, and why", ["runs", "status", "reason"], rows)
    return [Block("Failed and diverged runs", tables=[table])]


def _chosen_runs(many: Many) -> tuple[list[Block], list[str]]:
    """The pictures of the best, the median and the worst run."""
    metric = many.metric
    if metric is None:
        return [], []
    finished = [record for record in many.records if record.is_finished and metric.name in record.metrics]
    ranked = selecting.best_first(finished, lambda r: r.metrics[metric.name], highest=metric.better == "higher")
    if not ranked:
        return [], []
    places = {"Best": 0, "Median": len(ranked) // 2, "Worst": len(ranked) - 1}
    blocks, warnings = [], []
    for what, place in places.items():
        if place in list(places.values())[: list(places).index(what)]:
            continue
        record = ranked[place]
        kept = pictures.of_run(record, MOST_BYTES)
        table = pictures.translations(record)
        warnings += kept.warnings
        words = [f"{metric.title.capitalize()} {metric.shown(record.metrics[metric.name])}.", *kept.words]
        blocks.append(Block(f"{what} run: {record.path.name}", words, kept.drawings, [table] if table else []))
    return blocks, warnings
