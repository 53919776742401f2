"""Tables of numbers, printed row by row."""

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from mlpx.settings.metrics import Metric

VERDICTS = {"underfitting": "bold yellow", "fitting": "bold green", "overfitting": "bold magenta"}
"""The style of a verdict, with which a summary begins."""
MIN_WIDTH = 9
GAP = "  "
BEST = "bold green"
"""The style of the best value of a column; bold alone where there is no color."""


def new_console() -> Console:
    """Standard output, on which nothing is marked up, and no line is cropped where it is no terminal."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def in_style(summary: str) -> Text:
    """The sentence that ends a run, its verdict in the verdict's style."""
    text, verdict = Text(summary), summary.partition(":")[0]
    text.stylize(VERDICTS.get(verdict, ""), 0, len(verdict))
    return text


class TablePrinter:
    """Prints tables to a console: a head, then its rows as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rule = "-" if console.options.ascii_only else "─"
        self._columns: Sequence[Metric] = ()
        self._best: dict[str, float] = {}

    def fitting(self, columns: Iterable[Metric]) -> list[Metric]:
        """The columns that there is room for on a terminal; of replicas, the medians."""
        kept = [column for column in columns if not column.is_spread]
        if not sys.stdout.isatty():
            return kept
        for column in sorted((column for column in kept if column.optional), key=lambda column: column.optional):
            if sum(map(_width, kept)) + len(GAP) * (len(kept) - 1) > self._console.width:
                kept.remove(column)
        return kept

    def head(self, columns: Sequence[Metric]) -> None:
        """Begin a table."""
        self._columns = columns
        self._best = {}
        self._console.print(GAP.join(column.title.rjust(MIN_WIDTH) for column in columns), style="bold")
        self._console.print(GAP.join(self._rule * _width(column) for column in columns), style="dim")

    def row(self, values: Mapping[str, float]) -> None:
        """Print the values of the table's columns, in which those stand out that are better than all before.

        ``values`` may have others too.
        """
        text = Text(GAP).join(self._cell(column, values[column.name]) for column in self._columns)
        self._console.print(text)

    def _cell(self, column: Metric, value: float) -> Text:
        text = column.shown(value).rjust(_width(column))
        best = self._best.setdefault(column.name, value)
        is_better = {"lower": value < best, "higher": value > best, None: False}[column.better]
        if not is_better:
            return Text(text)
        self._best[column.name] = value
        return Text.assemble(text[: -len(text.lstrip())], (text.lstrip(), BEST))


def _width(column: Metric) -> int:
    return max(len(column.name), MIN_WIDTH)
