"""``metrics.csv``: one row an evaluated epoch, the truth from which all else is drawn."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlpx.errors import InputError
from mlpx.files import read_regular
from mlpx.training.loop import EpochRecord

Rows = dict[str, list[float]]


class Metrics:
    """The file, open for appending; each row is one write at full precision."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path = path
        self.columns = ("epoch", *columns, "seconds")
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    @property
    def offset(self) -> int:
        """The file's length in bytes."""
        return os.fstat(self._descriptor).st_size

    def start(self) -> None:
        """Empty but for the header."""
        os.ftruncate(self._descriptor, 0)
        self._write(self.columns)

    def append(self, record: EpochRecord) -> None:
        """Add the record's row. Raises OSError; a row that did not fit is taken back."""
        self._write([str(value) for value in row(record).values()])

    def _write(self, cells: Sequence[str]) -> None:
        line = (",".join(cells) + "\n").encode()
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0:
            raise FileNotFoundError(2, "the run folder was deleted", str(self._path))
        try:
            while line:  # one write, but for a disk that fills up within the row: then the next one says so
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            os.ftruncate(self._descriptor, status.st_size)
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def sync(self) -> None:
        """Make the rows durable."""
        os.fsync(self._descriptor)

    def go_back(self, offset: int) -> None:
        """Keep the rows up to ``offset``, durably.

        Raises:
            InputError: the file has lost rows that it had.
        """
        if self.offset < offset:
            raise InputError(self._path, "has lost rows since the last checkpoint", "Start the run anew.")
        os.ftruncate(self._descriptor, offset)
        self.sync()

    def rows(self) -> Rows:
        """The columns, each a list of numbers."""
        return read_rows(self._path)

    def last(self) -> dict[str, float]:
        """The last row; empty where there is none."""
        return {name: values[-1] for name, values in self.rows().items() if values}

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def row(record: EpochRecord) -> Mapping[str, float]:
    """A record as a row of the table: ``epoch``, its values, ``seconds``."""
    return {"epoch": record.position.epoch, **record.values, "seconds": record.seconds}


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)


def read_rows(path: Path) -> Rows:
    """The columns of a ``metrics.csv``.

    Raises:
        InputError: it is not a table of numbers.
    """
    try:
        lines = list(csv.reader(read_regular(path).decode().splitlines()))
        return {name: [_number(line[i]) for line in lines[1:]] for i, name in enumerate(lines[0])}
    except (ValueError, IndexError) as error:
        raise InputError(path, f"is not a table of numbers ({error})", "Start the run anew.") from error
