"""The results of a sweep in the terminal: a table over seeds, the best first, or what each change did."""

import sys
from collections.abc import Sequence

from mlpx.cli import grids, streams
from mlpx.cli.grids import Cell, Column
from mlpx.cli.layout import typed
from mlpx.cli.rows import GroupRow
from mlpx.cli.tables import new_console
from mlpx.errors import printable
from mlpx.runs import comparing, selecting, wording
from mlpx.runs.comparing import Comparison
from mlpx.runs.records import Record
from mlpx.runs.selecting import Group
from mlpx.runs.sides import BASE
from mlpx.settings.metrics import Metric
from mlpx.settings.values import to_text
from mlpx.sweeps import results
from mlpx.sweeps.folder import Sweep
from mlpx.sweeps.results import Change

MAX_SINGLE = 10
"""Of runs of one seed each, which have been printed when they ended, so many are shown again."""
LINES_AROUND = 8
"""So many lines come with the rows of a table: empty ones, its caption, its head, and the sentences below it."""


def print_results(sweep: Sweep, records: Sequence[Record]) -> None:
    """Print what the runs of a sweep measured; nothing where none has finished.

    Args:
        sweep: The sweep.
        records: Its runs.
    """
    groups, warnings = results.grouped(sweep, records)
    for warning in warnings:
        streams.warn(warning)
    metric = results.deciding(groups)
    if metric is None:
        return
    if sweep.request.options.one_at_a_time:
        base, changes = results.changes(sweep, groups, metric.name)
        if base and any(change.comparison for change in changes):
            _print_changes(metric, base, changes)
            return
    print_table(sweep, groups, metric, MAX_SINGLE if _are_single(groups) else None)


# A table over seeds


def print_table(sweep: Sweep, groups: Sequence[Group], metric: Metric, most: int | None, width: int = 0) -> None:
    """Print a row for each group, the best first, and which is the best.

    Changes made one at a time keep their order, for the first row is the base of all others.

    Args:
        sweep: The sweep.
        groups: Its runs by their settings.
        metric: The metric that tells which is better.
        most: At most so many rows are printed; ``None`` for all.
        width: The columns have to fit into this, whether or not it is a terminal; 0 leaves that to the terminal.
    """
    rows = [GroupRow(group) for group in groups]
    if not sweep.request.options.one_at_a_time:
        rows = selecting.best_first(rows, lambda row: row.value(metric.name), highest=metric.better == "higher")
    columns = _columns(sweep, rows, metric)
    if most is not None:
        columns = [Column(each.name, each.title, each.cells[:most], each.rank, each.is_text) for each in columns]
    if not _are_single(groups):
        print(f"{_over(groups)}, mean ± standard deviation")
    _write(columns, width)
    if most is not None and len(rows) > most:
        print(f"and {len(rows) - most} more: mlpx runs {typed(sweep.path)}")
    best, *others = selecting.best_first(rows, lambda row: row.value(metric.name), highest=metric.better == "higher")
    if others:
        _say(f"The best by {metric.title}: {_described(sweep, groups, best)}.")
        if metric.name.startswith("test_"):
            streams.note(f"the best of {len(rows)} by {metric.name}, chosen on the test set: expect less on new data")


def _are_single(groups: Sequence[Group]) -> bool:
    return all(results.asked_seeds(group) == 1 for group in groups)


def _over(groups: Sequence[Group]) -> str:
    counts = sorted({results.asked_seeds(group) for group in groups})
    return f"over {counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''} seeds"


def _described(sweep: Sweep, groups: Sequence[Group], row: GroupRow) -> str:
    """The settings that tell a row from the others."""
    settings = row.group.records[0].settings
    if sweep.request.options.one_at_a_time:
        return results.difference(settings, sweep.design.cells[0]) or BASE
    names = results.varying(sweep, groups)
    return ", ".join(printable(f"{name.replace('_', ' ')} {to_text(getattr(settings, name))}") for name in names)


def _columns(sweep: Sweep, rows: Sequence[GroupRow], metric: Metric) -> list[Column]:
    """What varies, the number of seeds, the main metrics, and what has no value.

    A narrow terminal first leaves out the other metrics.
    """
    groups = [row.group for row in rows]
    columns = _about(sweep, groups)
    if not _are_single(groups):
        columns.append(Column("n", "n", [Cell(str(len(group.values(metric.name)))) for group in groups], rank=2))
    main = results.main_metrics(groups)
    for number, each in enumerate(main):
        rank = 0 if each == metric else 3 + len(main) - number
        column = Column(each.name, each.title, [row.cell(each) for row in rows], rank)
        columns.append(grids.marked(column, [row.value(each.name) for row in rows], each.better))
    return [*columns, *_lost(groups, metric)]


def _about(sweep: Sweep, groups: Sequence[Group]) -> list[Column]:
    settings = [group.records[0].settings for group in groups]
    if sweep.request.options.one_at_a_time:
        changes = [results.difference(each, sweep.design.cells[0]) or BASE for each in settings]
        return [Column("change", "change", [Cell(printable(change)) for change in changes], is_text=True)]
    columns = []
    for name in results.varying(sweep, groups):
        values = [getattr(each, name, None) for each in settings]
        is_text = any(isinstance(value, str | list | bool) for value in values)
        cells = [Cell(printable(to_text(value))) for value in values]
        columns.append(Column(name, name.replace("_", " "), cells, is_text=is_text))
    return columns


def _lost(groups: Sequence[Group], metric: Metric) -> list[Column]:
    """A column that says what became of seeds without a value, if there are any."""
    counts = [results.lost(group, metric.name) for group in groups]
    texts = [", ".join(f"{number} {status}" for status, number in each.items()) for each in counts]
    return [Column("lost", "no value", [Cell(text) for text in texts], rank=1, is_text=True)] if any(texts) else []


def _write(columns: Sequence[Column], width: int = 0) -> None:
    shown = grids.fitting(columns, width) if width else list(columns)
    left_out = [*grids.write(shown, "table"), *(each for each in columns if each.name not in {c.name for c in shown})]
    if left_out:
        streams.note(f"no room for {', '.join(column.title for column in left_out)}: widen the terminal")


# What each change did


def _print_changes(metric: Metric, base: Group, changes: Sequence[Change]) -> None:
    """Print the metric of the base and of each change, what lies between them, and whether that may be chance."""
    groups = [base, *(change.group for change in changes)]
    rows = [GroupRow(group) for group in groups]
    points = " (points)" if metric.kind == "share" else ""
    columns = [
        Column("change", "change", [Cell(BASE), *(Cell(printable(each.label)) for each in changes)], is_text=True),
        Column(metric.name, metric.title, [row.cell(metric) for row in rows]),
        Column("difference", f"difference{points}", [Cell(), *(Cell(_difference(metric, each)) for each in changes)]),
        Column("lower", "lower in", [Cell(), *(Cell(_lower(each)) for each in changes)], rank=1),
        *_lost(groups, metric),
    ]
    intervals = f"; differences with {comparing.CONFIDENCE * 100:.0f} % intervals"
    print(f"{_over(groups)}, mean ± standard deviation{intervals if any(each.interval for each in changes) else ''}")
    _write(columns)
    compared = [change.comparison for change in changes if change.comparison]
    _say(_chance(compared))
    _say(wording.method(compared, "the base"))


def _say(paragraph: str) -> None:
    """Print a paragraph, which on a terminal breaks between words; elsewhere it stays one line."""
    new_console().print(printable(paragraph), soft_wrap=not sys.stdout.isatty())


def _lower(change: Change) -> str:
    compared = change.comparison
    return f"{compared.lower} of {len(compared.seeds)}" if compared else ""


def _difference(metric: Metric, change: Change) -> str:
    """The difference and its interval, as ``-0.24 (-0.33 to -0.14)``."""
    if change.comparison is None:
        return ""
    scale = 100 if metric.kind == "share" else 1
    difference = scale * change.comparison.difference
    if change.interval is None:
        return _signed(difference, abs(difference))
    low, high = (scale * end for end in change.interval)
    # Both are rounded to the second digit of the standard error, which is about a quarter of the interval.
    error = max((high - low) / 4, abs(difference) / 1000)
    return f"{_signed(difference, error)} ({_signed(low, error)} to {_signed(high, error)})"


def _signed(value: float, extent: float) -> str:
    text = wording.number(value, extent)
    return text if text.startswith("-") or not value else f"+{text}"


def _chance(compared: Sequence[Comparison]) -> str:
    """Which of the differences are more than chance."""
    sentences = []
    if certain := [each for each in compared if each.verdict == "more than chance"]:
        named = ", ".join(f"{each.other} ({wording.p_in_words(each)})" for each in certain)
        sentences.append(f"More than chance: {named}.")
    if perhaps := [each.other for each in compared if each.verdict == "chance"]:
        sentences.append(f"This may be chance: {', '.join(perhaps)}.")
    if few := [each for each in compared if each.verdict == "too few"]:
        most = max(len(each.seeds) for each in few)
        seeds, changes = ("1 seed is" if most == 1 else f"{most} seeds are"), _counted(len(compared), "change")
        sentences.append(f"{seeds} too few to tell {changes} from chance; {few[0].fewest} are the fewest.")
    if alike := [each.other for each in compared if each.verdict == "none"]:
        sentences.append(f"No difference but rounding: {', '.join(alike)}.")
    return " ".join(sentences)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
