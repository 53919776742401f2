"""Tables of numbers, printed row by row."""

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console

from mlpx.settings.metrics import Metric

MIN_WIDTH = 9
GAP = "  "


def new_console() -> Console:
    """Standard output, on which nothing is marked up, and no line is cropped where it is no terminal."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


class TablePrinter:
    """Prints tables to a console: a head, then its rows as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rule = "-" if console.options.ascii_only else "─"
        self._columns: Sequence[Metric] = ()

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
        self._console.print(GAP.join(column.title.rjust(MIN_WIDTH) for column in columns), style="bold")
        self._console.print(GAP.join(self._rule * _width(column) for column in columns), style="dim")

    def row(self, values: Mapping[str, float]) -> None:
        """Print the values of the table's columns; ``values`` may have others too."""
        cells = (column.shown(values[column.name]).rjust(_width(column)) for column in self._columns)
        self._console.print(GAP.join(cells))


def _width(column: Metric) -> int:
    return max(len(column.name), MIN_WIDTH)
