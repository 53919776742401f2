"""Reading that never waits, and writing that a crash cannot tear."""

import errno
import os
import secrets
import stat
from pathlib import Path

TEMPORARY = ".*.tmp"


def read_regular(path: Path, limit: int = -1) -> bytes:
    """Up to ``limit`` bytes of a regular file; OSError for anything else, and never a wait for a fifo."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        return file.read(limit)


def write_file(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, durably and all at once: a reader sees the old file or the new, never a part.

    A temporary file in the same folder is written, synced, renamed, and the folder synced. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed :func:`write_file` left behind."""
    for path in folder.glob(TEMPORARY):
        path.unlink(missing_ok=True)
