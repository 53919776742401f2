"""The pictures and texts that a run keeps beside its numbers."""

import csv
import io
import re
from collections.abc import Callable
from typing import NamedTuple

from mlpx.errors import InputError
from mlpx.files import exists
from mlpx.reports import drawing
from mlpx.reports.contents import read_png, read_text
from mlpx.reports.elements import Cell, Drawing, Table
from mlpx.runs.records import Record

MOST_BYTES = 750_000
"""The pictures of a run take no more than this together, so that the page can be mailed."""
MOST_TRANSLATIONS = 8
TRANSLATIONS = "translations.txt"


class Pictures(NamedTuple):
    """The pictures of a run.

    Args:
        drawings: Those that are shown.
        warnings: What is wrong with others that a finished run should have.
        left_out: The files that would make the page too large.
    """

    drawings: list[Drawing]
    warnings: list[str]
    left_out: list[str]

    @property
    def words(self) -> list[str]:
        """What to say of those that are left out."""
        return [f"Left out, to keep the page small: {', '.join(self.left_out)}."] if self.left_out else []


def of_run(record: Record, most: int = MOST_BYTES) -> Pictures:
    """The pictures of a run.

    Args:
        record: The run.
        most: The bytes that they may take together.
    """
    found = Pictures([], [], [])
    left = most
    for file, caption in record.settings.pictures.items():
        if not exists(record.path / file):
            if record.is_finished:
                found.warnings.append(f"{record.path.name}: {file} is missing")
            continue
        try:
            png, *_ = read_png(record.path / file)
        except InputError as error:
            found.warnings.append(str(error))
            continue
        if len(png) > left:
            found.left_out.append(file)
        else:
            left -= len(png)
            description = f"{caption}. {_in_numbers(record)}"
            found.drawings.append(Drawing(drawing.image(png, description), description, _numbers(record, file)))
    return found


def _in_numbers(record: Record) -> str:
    """The main metrics of the run, as one sentence."""
    values = [
        f"{metric.title} {metric.shown(record.metrics[metric.name])}"
        for metric in record.settings.metrics
        if metric.is_main and metric.name in record.metrics
    ]
    return f"Run {record.path.name}: {', '.join(values)}." if values else f"Run {record.path.name}."


def _numbers(record: Record, file: str) -> Table | None:
    """The numbers behind a picture, where the run folder has them."""
    if file != "fit.png":
        return None
    return _read(record, "weights.csv", _weights)


def _weights(text: str) -> Table | None:
    lines = list(csv.reader(io.StringIO(text)))
    if len(lines) < 2 or any(len(line) != len(lines[0]) for line in lines):
        return None
    return Table(
        "The weights in numbers", [name.replace("_", " ") for name in lines[0]], [_cells(x) for x in lines[1:]]
    )


def _cells(line: list[str]) -> list[Cell]:
    cells = []
    for text in line:
        try:
            value = float(text)
            cells.append(Cell(f"{value:.4g}", value))
        except ValueError:
            cells.append(Cell(text))
    return cells


def translations(record: Record) -> Table | None:
    """The first translations of a run, as a table; ``None`` where it has none."""
    return _read(record, TRANSLATIONS, _translations)


def _translations(text: str) -> Table | None:
    found = re.findall(r"^source: +(.*)\nreference: +(.*)\noutput: *(.*)$", text, re.MULTILINE)
    rows = [[Cell(each) for each in triple] for triple in found[:MOST_TRANSLATIONS]]
    caption = "Sentences of the test set, their reference translations, and the output of the model"
    return Table(caption, ["source", "reference", "output"], rows) if rows else None


def _read(record: Record, file: str, table: Callable[[str], Table | None]) -> Table | None:
    try:
        return table(read_text(record.path / file))
    except (InputError, csv.Error):
        return None
