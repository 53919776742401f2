"""The places where MLflow keeps runs: a server, or an SQLite file with the files of the runs beside it."""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from mlpx.errors import MachineError, UsageError, reason
from mlpx.files import require_writable

SCHEME = "sqlite:///"
ENDINGS = (".db", ".sqlite", ".sqlite3")
SPECIAL = "%?#"
"""In a tracking URI these do not stand for themselves, and MLflow does not take what stands for them everywhere."""
REMEDY = "Give an SQLite file (mlflow.db, or sqlite:///mlflow.db), or a server (http://HOST:5000)."


@dataclass(frozen=True)
class Place:
    """A place as MLflow names it, which is its text.

    Args:
        uri: The tracking URI.
        file: The absolute path of the SQLite file; ``None`` for a server.
    """

    uri: str
    file: Path | None = None

    def __str__(self) -> str:
        return self.uri

    def artifacts(self, experiment: str) -> str | None:
        """Where the files of an experiment's runs lie: beside the SQLite file; a server knows itself."""
        return (self.file.with_name(f"{self.file.stem}-artifacts") / experiment).as_uri() if self.file else None


def place_of(to: str) -> Place:
    """The place that ``--to`` names: the address of a server, ``sqlite:///PATH``, or the path of an SQLite file.

    Raises:
        UsageError: It is none of these, or the file is of something else than MLflow.
        MachineError: The file cannot be read or written.
    """
    if to.startswith(("http://", "https://")) and _host(to):
        return Place(to.rstrip("/"))
    if "://" in to and not to.startswith(SCHEME):
        raise UsageError("--to", f"{to!r} is no place for MLflow", REMEDY)
    path = Path(os.path.abspath(to.removeprefix(SCHEME)))
    if path.suffix not in ENDINGS:
        raise UsageError("--to", f"{to!r} is neither a server nor an SQLite file", REMEDY)
    if set(str(path)) & set(SPECIAL):
        why = f"MLflow cannot use the path {str(path)!r}, as it has one of {' '.join(SPECIAL)}"
        raise UsageError("--to", why, "Give another path.")
    _require_database(path)
    return Place(SCHEME + str(path), path)


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _require_database(path: Path) -> None:
    """Check that MLflow can write the file, which is not there yet or is its own. MLflow itself would try for hours."""
    require_writable(path, "--to")
    if not os.path.lexists(path):
        return
    if not os.access(path, os.R_OK | os.W_OK):
        raise MachineError("--to", f"{path} cannot be read and written", "Make it writable, or give another file.")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.OperationalError as error:
        raise MachineError("--to", f"{path} cannot be opened: {reason(error)}", "Give another file.") from error
    except sqlite3.DatabaseError as error:
        raise UsageError("--to", f"{path} is no SQLite file", REMEDY) from error
    if tables and "alembic_version" not in tables:
        raise UsageError("--to", f"{path} is a database of something else", REMEDY)
