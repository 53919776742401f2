"""``metrics.csv``: one row an evaluated epoch, the truth from which all else is drawn."""

import csv
import errno
import os
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from mlpx.errors import InputError, reason
from mlpx.files import go_ahead, open_regular, read_regular, write_file

TAIL_BYTES = 64 * 1024
"""Of a long file, so much of the beginning and of the end is read to find the header and the last row."""


class Metrics:
    """The file, open for appending; each row is one write at full precision."""

    def __init__(self, path: Path, columns: Sequence[str], require_held: Callable[[], None] = go_ahead) -> None:
        """Open the file, which is made if it is missing.

        Args:
            path: The file.
            columns: Its header.
            require_held: Called when the file is replaced; it raises where another process holds the run now.

        Raises:
            InputError: Something else than a regular file is in its place.
        """
        self._path = path
        self._columns = columns
        self._require_held = require_held
        self._is_new = not os.path.lexists(path)
        self._descriptor = self._open(os.O_EXCL if self._is_new else 0)

    def _open(self, flags: int) -> int:
        # A link could empty a file elsewhere, and opening a fifo would wait for a reader.
        flags |= os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(self._path, flags, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR):
                raise InputError(self._path, "is not a regular file", "Remove it, and resume.") from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(self._path, "is not a regular file", "Remove it, and resume.")
        return descriptor

    @property
    def offset(self) -> int:
        """The file's length in bytes."""
        return os.fstat(self._descriptor).st_size

    def start(self) -> None:
        """Empty the file but for the header."""
        if not self._is_new:
            self._replace(b"")
        self._write(self._columns)

    def _replace(self, content: bytes) -> None:
        """Put a new file of this content in the old one's place, durably.

        A process that held the run before, was stopped, and goes on now, still writes rows into the old one.
        """
        write_file(self._path, content, self._require_held)
        before, self._descriptor = self._descriptor, self._open(0)
        os.close(before)
        # Had another process taken the run over and replaced the file in the meantime, this one would be its file.
        self._require_held()

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row with a value for each column, in their order.

        Raises:
            OSError: It did not fit; then the file is as it was before.
        """
        self._write([str(value) for value in row.values()])

    def _write(self, cells: Sequence[str]) -> None:
        line = (",".join(cells) + "\n").encode()
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the run folder was deleted", str(self._path))
        try:
            # This is one write, unless the disk fills up within the row: then the next write says so.
            while line:
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
            InputError: The file has lost rows that it had, or its columns are not those of this version of mlpx.
        """
        if self.offset < offset:
            raise InputError(self._path, "has lost rows since the last checkpoint", "Start the run anew.")
        header = (",".join(self._columns) + "\n").encode()
        if offset and os.pread(self._descriptor, len(header), 0) != header:
            why = "its columns are not those that this version of mlpx writes"
            raise InputError(self._path, why, "Resume it with the version that began it, or start the run anew.")
        self._replace(os.pread(self._descriptor, offset, 0))

    def rows(self) -> dict[str, list[float]]:
        """The columns by name.

        Raises:
            InputError: The file is not a table of numbers.
        """
        return read_rows(self._path)

    def last(self) -> dict[str, float]:
        """The last row; empty where there is none."""
        return {name: values[-1] for name, values in self.rows().items() if values}

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_rows(path: Path) -> dict[str, list[float]]:
    """The columns of a ``metrics.csv`` by name.

    Raises:
        InputError: It is not a table of numbers.
    """
    try:
        lines = list(csv.reader(read_regular(path).decode().splitlines()))
        return {name: [number(line[i]) for line in lines[1:]] for i, name in enumerate(lines[0])}
    except (ValueError, IndexError, csv.Error) as error:
        raise _unusable(path, error) from error


def read_columns(path: Path, names: Collection[str], most: int) -> dict[str, list[float]]:
    """Some columns of a ``metrics.csv`` that may be growing, thinned where it is long; none where there is no file.

    Args:
        path: The file.
        names: The columns; one that the file lacks is left out.
        most: Of more rows than this, the first is read, and every second, third and so on, the last among them.

    Raises:
        InputError: The file is not a table of numbers, or cannot be read.
    """
    try:
        # What follows the last line feed is a row that is just being written.
        header, *lines = read_regular(path).split(b"\n")[:-1] or [b""]
        places = {name: place for place, name in enumerate(header.decode().split(",")) if name in names}
        step = -(-len(lines) // most)
        kept = lines if step <= 1 else [lines[0], *lines[-1:0:-step][::-1]]
        rows = [line.split(b",") for line in kept]
        return {name: [float(row[place]) for row in rows] for name, place in places.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, IndexError) as error:
        raise _unusable(path, error) from error


def read_last_row(path: Path) -> dict[str, float]:
    """The last row of a ``metrics.csv`` that may be growing; empty where there is none yet.

    Raises:
        InputError: The file is not a table of numbers, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            head = file.read(TAIL_BYTES)
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read(TAIL_BYTES)
        # What follows the last line feed is a row that is just being written.
        header, *rows = head.partition(b"\n")[0], *tail.split(b"\n")[:-1]
        last = rows[-1] if rows and (size > TAIL_BYTES or len(rows) > 1) else b""
        names, cells = header.decode().split(","), last.decode().split(",") if last else []
        if last and len(names) != len(cells):
            raise ValueError(f"{len(names)} columns, but {len(cells)} cells in the last row")
        return dict(zip(names, map(number, cells), strict=False))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> InputError:
    """What an error in reading a ``metrics.csv`` means for the user."""
    if isinstance(error, OSError):
        return InputError(path, f"cannot be read ({reason(error)})", "Make it readable.")
    return InputError(path, f"is not a table of numbers ({error})", "Start the run anew.")


def number(text: str) -> float:
    """The number that a cell holds; a whole one is an ``int``.

    Raises:
        ValueError: It is no number.
    """
    return int(text) if text.isdecimal() else float(text)
