"""Tables that are known as a whole, for a terminal, a spreadsheet, a web page or a paper."""

import csv
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from mlpx.cli.options import Format
from mlpx.cli.tables import BEST, GAP, new_console

SHORT = 12
"""A text is not shortened to less than this many characters, as long as there are columns to leave out."""


@dataclass(frozen=True)
class Cell:
    """A cell: its text for people, and its values, in full precision, by the name that a CSV file gives them."""

    text: str = ""
    values: Mapping[str, object] = field(default_factory=dict)
    is_best: bool = False


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        name: What ``--columns`` and a CSV file call it.
        title: Its heading for people.
        cells: A cell for each row.
        rank: A terminal too narrow for all columns leaves out those of the highest rank first.
        is_text: It is aligned to the left, and may be shortened.
    """

    name: str
    title: str
    cells: Sequence[Cell]
    rank: int = 0
    is_text: bool = False

    @property
    def width(self) -> int:
        """The width of its widest text on a terminal, where some characters are two wide."""
        return max(cell_len(self.title), *(cell_len(cell.text) for cell in self.cells), 0)


def marked(column: Column, values: Sequence[float | None], better: Literal["lower", "higher"] | None) -> Column:
    """The column with its best values marked, if lower or higher is better and the values are not all the same."""
    known = {value for value in values if value is not None and not math.isnan(value)}
    if better is None or len(known) < 2:
        return column
    best = min(known) if better == "lower" else max(known)
    pairs = zip(column.cells, values, strict=True)
    cells = [replace(cell, is_best=True) if value == best else cell for cell, value in pairs]
    return replace(column, cells=cells)


def write(columns: Sequence[Column], form: Format) -> list[Column]:
    """Print the table; returns the columns that the terminal has no room for."""
    if form == "csv":
        _write_csv(columns)
        return []
    if form == "table":
        return _write_table(columns)
    lines = _markdown(columns) if form == "markdown" else _latex(columns)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return []


def _rows(columns: Sequence[Column]) -> Iterable[tuple[Cell, ...]]:
    return zip(*(column.cells for column in columns), strict=True)


def _write_csv(columns: Sequence[Column]) -> None:
    names = list(dict.fromkeys(name for column in columns for cell in column.cells for name in cell.values))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in _rows(columns):
        values = {name: value for cell in row for name, value in cell.values.items()}
        writer.writerow([values.get(name) for name in names])


def _markdown(columns: Sequence[Column]) -> Iterable[str]:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")

    yield f"| {' | '.join(escaped(column.title) for column in columns)} |"
    yield f"| {' | '.join('---' if column.is_text else '---:' for column in columns)} |"
    for row in _rows(columns):
        yield f"| {' | '.join(_marked(cell, escaped, '**{}**') for cell in row)} |"


def _latex(columns: Sequence[Column]) -> Iterable[str]:
    """A table for the package ``booktabs``."""
    special = {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}

    def escaped(text: str) -> str:
        return "".join(special.get(character, character) for character in text)

    bold = r"\textbf{{{}}}"
    yield rf"\begin{{tabular}}{{{''.join('l' if column.is_text else 'r' for column in columns)}}}"
    yield r"\toprule"
    yield rf"{' & '.join(escaped(column.title) for column in columns)} \\"
    yield r"\midrule"
    for row in _rows(columns):
        yield rf"{' & '.join(_marked(cell, escaped, bold) for cell in row)} \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _marked(cell: Cell, escaped: Callable[[str], str], mark: str) -> str:
    return mark.format(escaped(cell.text)) if cell.is_best else escaped(cell.text)


def _write_table(columns: Sequence[Column]) -> list[Column]:
    console = new_console()
    shown = fitting(columns, console.width) if sys.stdout.isatty() else list(columns)
    widths = [column.width for column in shown]
    rule = "-" if console.options.ascii_only else "─"
    heads = [Cell(column.title) for column in shown]
    console.print(_line(shown, heads, widths), style="bold")
    console.print(GAP.join(rule * width for width in widths), style="dim")
    for row in _rows(shown):
        line = _line(shown, row, widths)
        if any(cell.is_best for cell in row) and console.color_system:
            text, start = Text(line), 0
            for column, cell, width in zip(shown, row, widths, strict=True):
                end = start + len(_padded(column, cell, width))
                if cell.is_best:
                    text.stylize(BEST, start, end)
                start = end + len(GAP)
            console.print(text)
        else:
            # Rich takes a tenth of a millisecond for a line, which is much for thousands of plain lines.
            sys.stdout.write(f"{line}\n")
    names = {column.name for column in shown}
    return [column for column in columns if column.name not in names]


def _line(columns: Sequence[Column], cells: Sequence[Cell], widths: Sequence[int]) -> str:
    return GAP.join(map(_padded, columns, cells, widths)).rstrip()


def _padded(column: Column, cell: Cell, width: int) -> str:
    space = " " * (width - cell_len(cell.text))
    return cell.text + space if column.is_text else space + cell.text


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns that fit into ``width``: some are left out, and if that is not enough, texts are shortened."""
    kept = list(columns)
    while _total(kept) > width and any(column.rank for column in kept):
        kept.remove(max(reversed(kept), key=lambda column: column.rank))
    while len(kept) > 1 and _total(kept, SHORT) > width:
        kept.pop()
    while (excess := _total(kept) - width) > 0:
        widest = max(kept, key=lambda column: (column.is_text, column.width))
        size = max(1, widest.width - excess) if len(kept) == 1 else max(SHORT, widest.width - excess)
        kept[kept.index(widest)] = _shortened(widest, size)
    return kept


def _total(columns: Sequence[Column], short: int | None = None) -> int:
    widths = (min(column.width, short) if short and column.is_text else column.width for column in columns)
    return sum(widths) + len(GAP) * (len(columns) - 1)


def _shortened(column: Column, width: int) -> Column:
    """The column with the middle of each long text left out."""
    cells = [replace(cell, text=shortened(cell.text, width)) for cell in column.cells]
    return replace(column, title=shortened(column.title, width), cells=cells)


def shortened(text: str, width: int) -> str:
    """The text, its middle left out if it is longer than ``width``."""
    if cell_len(text) <= width:
        return text
    mark = "..."[:width]
    head = (width - len(mark)) // 2
    tail = width - len(mark) - head
    return set_cell_size(text, head) + mark + set_cell_size(text[::-1], tail)[::-1]
