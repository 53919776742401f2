"""Reading that never blocks, and writing that a crash cannot leave half done."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from mlpx.errors import MachineError, UsageError, reason

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""The names that :func:`temporary_for` gives, and that hardly anyone else does."""
NO_FILE = (
    *(errno.EACCES, errno.EINVAL, errno.EISDIR, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.ENXIO),
)
"""What opening a file fails with where there is none, or where a folder, a link to nowhere, a fifo or something private
is in its place. With any other error, the file may well be there.
"""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; unlike ``open``, this never waits for the writer of a named pipe.

    Raises:
        OSError: It cannot be opened, or is a folder, a named pipe or a device.
        ValueError: The path holds a NUL character.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int = -1) -> bytes:
    """The first ``limit`` bytes of a regular file, by default all of it.

    Raises:
        OSError: As in :func:`open_regular`, or it cannot be read.
        ValueError: The path holds a NUL character.
    """
    with open_regular(path) as file:
        return file.read(limit)


def exists(path: Path, *, follow: bool = True) -> bool:
    """Whether there is something of that name, which a text too long for a name, for example, is not.

    Args:
        path: The name.
        follow: Whether a link to nowhere does not count.

    Raises:
        OSError: The machine fails to tell, which must not be taken for an answer.
    """
    try:
        os.stat(path, follow_symlinks=follow)
    except ValueError:  # a NUL in the path
        return False
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        return False
    return True


def temporary_for(path: Path) -> Path:
    """A new hidden name in the same folder, for what will be renamed to ``path`` once it is complete."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def go_ahead() -> None:
    """Nothing has to be checked before a file is renamed."""


def write_file(path: Path, data: bytes, before_rename: Callable[[], None] = go_ahead) -> None:
    """Put ``data`` at ``path``, durably and in one step: a reader sees the old file or the new one, never a part.

    Args:
        path: Where the file lies.
        data: Its content.
        before_rename: As in :func:`write_files`.

    Raises:
        OSError: ``path`` cannot be written. The error names ``path``, not the temporary file.
    """
    write_files(path.parent, {path.name: data}, before_rename)


def write_files(folder: Path, files: Mapping[str, bytes], before_rename: Callable[[], None] = go_ahead) -> None:
    """Put files into a folder, each as :func:`write_file` does, and all of them in little more time than one.

    The data is written to temporary files in the same folder. Once all of it is synced, they are renamed, and the
    folder is synced.

    Args:
        folder: Where the files lie.
        files: The content of each file by its name.
        before_rename: Called before each of them gets its name; what it raises keeps the file from it.

    Raises:
        OSError: A file cannot be written. The error names it.
    """
    temporaries: dict[Path, Path] = {}
    path = folder
    try:
        with contextlib.ExitStack() as stack:
            written: dict[Path, FileIO] = {}
            for name, data in files.items():
                path = folder / name
                if os.path.isdir(path):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
                temporary = temporary_for(path)
                file = stack.enter_context(open(temporary, "xb", buffering=0))
                temporaries[temporary] = path
                _write_all(file, data)
                written[path] = file
            # The first of these syncs most of what the others would have to.
            for path in written:
                os.fsync(written[path].fileno())
        for temporary, path in temporaries.items():
            before_rename()
            os.replace(temporary, path)
        path = folder
        sync_folder(folder)
    except BaseException as error:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, reason(error), str(path)) from error
        raise


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def require_writable(path: Path, option: str) -> None:
    """Check that :func:`write_file` can be expected to write ``path``, before long work is done for it.

    Args:
        path: Where a file shall be written.
        option: The option that gave the path, for the message.

    Raises:
        UsageError: It names a folder: ``.``, ``/``, an empty text.
        MachineError: Its folder does not exist or cannot be written.
    """
    if os.path.isdir(path):
        raise UsageError(option, f"{str(path)!r} is a folder", "Give the name of a file.")
    folder = path.parent
    if not os.path.isdir(folder):
        raise MachineError(option, f"there is no folder {str(folder)!r}", "Make it, or give another name.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MachineError(option, f"the folder {str(folder)!r} cannot be written", "Give another name.")


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: The folder cannot be opened or synced.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporaries(folder: Path, min_age_seconds: float = 0.0) -> list[Path]:
    """What lies in a folder under names of :func:`temporary_for`; none where it cannot be looked into.

    Args:
        folder: Where to look; subfolders are not searched.
        min_age_seconds: Younger ones do not count, since another process may still be writing them.
    """
    newest = time.time() - min_age_seconds
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                if TEMPORARY.fullmatch(path.name) and path.lstat().st_mtime <= newest:
                    found.append(path)
    return found


def remove_all(paths: Iterable[Path]) -> None:
    """Remove files and folders; what cannot be removed stays."""
    for path in paths:
        with contextlib.suppress(OSError):
            _remove(path)


def remove_temporaries(folder: Path, min_age_seconds: float = 0.0) -> None:
    """Remove what killed processes left in a folder, as :func:`temporaries` finds it."""
    remove_all(temporaries(folder, min_age_seconds))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
