"""Lines that fit into a terminal, but for paths, which stay whole."""

import os
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mlpx.errors import printable

MIN_WIDTH = 20
GAP = "   "


class Layout:
    """Lays out lines for a terminal."""

    def __init__(self, console: Console, width: int) -> None:
        """Lay out for ``width`` columns, but for no fewer than :data:`MIN_WIDTH`."""
        self._console = console
        self.width = max(width, MIN_WIDTH)

    def lines(self, line: Text) -> int:
        """The lines of the terminal that ``line`` takes."""
        return max(1, -(-cell_len(line.plain) // self.width))

    def wrapped(self, text: Text, most: int) -> list[Text]:
        """``text`` in at most so many lines, broken between words; none if it is empty."""
        lines = list(text.wrap(self._console, self.width)) if text else []
        for line in lines:
            line.rstrip()
        return self._first(lines, most, "...")

    def filled(self, entries: Iterable[Text], most: int, gap: str = GAP, end: str = "") -> list[Text]:
        """The entries, none of them broken, in at most so many lines; ``end`` stands for those that are left out."""
        lines: list[Text] = []
        for entry in filter(None, entries):
            if lines and cell_len(lines[-1].plain) + len(gap) + cell_len(entry.plain) <= self.width:
                lines[-1].append(gap).append(entry)
            else:
                lines.append(entry.copy())
        return self._first(lines, most, end)

    def _first(self, lines: list[Text], most: int, end: str) -> list[Text]:
        """The first lines, none wider than the terminal; ``end`` stands for what is left out."""
        if len(lines) > most:
            lines[most - 1].truncate(self.width - len(end))
            lines[most - 1].append(end)
        for line in lines:
            line.truncate(self.width)
        return lines[:most]


def labeled(label: str, text: str) -> Text:
    """A line that begins with a faint word."""
    return Text.assemble((f"{label:<10}", "dim"), printable(text))


def titled(name: str, about: list[str]) -> list[Text]:
    """The entries of a title: a name, and what is said about it, separated by commas."""
    texts = [f"{text}," for text in about[:-1]] + about[-1:]
    return [Text.assemble((printable(name), "bold")), *(Text(printable(text)) for text in texts)]


def typed(path: Path) -> str:
    """The path as a word of a shell command, relative where it lies in the current folder."""
    text = str(path)
    with suppress(OSError, ValueError):
        text = str(path.relative_to(os.getcwd()))
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
