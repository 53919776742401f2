"""What a page is made of, before it is HTML: texts as they are, which the template escapes."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup


class Cell(NamedTuple):
    """A cell of a table.

    Args:
        text: What it says.
        value: The number by which a column of numbers is sorted; ``None`` for a text, and for what is missing.
        is_best: Whether it stands out as the best of its column.
    """

    text: str
    value: float | None = None
    is_best: bool = False


class Table(NamedTuple):
    """A table.

    Args:
        caption: What it shows.
        columns: The headings.
        rows: The rows, each with a cell for each column.
        is_sortable: Whether a reader may sort it.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    is_sortable: bool = False

    def is_number(self, column: int) -> bool:
        """Whether a column is one of numbers."""
        return any(row[column].value is not None for row in self.rows)


class Drawing(NamedTuple):
    """A figure.

    Args:
        image: The picture itself, with its title and description for who cannot see it.
        description: What it shows, written from the numbers.
        numbers: The numbers that it shows; ``None`` where the run folder has the picture alone.
    """

    image: Markup
    description: str
    numbers: Table | None = None


class Block(NamedTuple):
    """A part of a section.

    Args:
        heading: Its heading.
        words: Paragraphs.
        drawings: Figures.
        tables: Tables.
        code: Commands to copy.
        is_folded: Whether only the heading is shown until a reader opens it.
    """

    heading: str
    words: Sequence[str] = ()
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    code: Sequence[str] = ()
    is_folded: bool = False


class Section(NamedTuple):
    """What the page says of a run, or of runs that belong together.

    Args:
        heading: Its heading.
        place: The folder of the run or the sweep, or how many runs there are.
        sentence: What came out.
        figures: The most important numbers, each with its name.
        warnings: What a reader has to know of.
        blocks: The rest.
    """

    heading: str
    place: str
    sentence: str
    figures: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    blocks: Sequence[Block]
