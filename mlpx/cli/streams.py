"""Standard output and error. Where one fails (closed pipe, full disk, lost terminal), output is lost, never the run."""

import codecs
import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from mlpx.errors import printable

_ERRORS = "mlpx-file-names"


def _as_in_file_names(error: UnicodeError) -> tuple[bytes, int]:
    """Encode what the stream's encoding lacks in the way of file names, so that a printed path is exact."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    try:
        return os.fsencode(text), error.end
    except UnicodeError:
        return text.encode("ascii", "backslashreplace"), error.end


codecs.register_error(_ERRORS, _as_in_file_names)


class Stream:
    """A text stream that is sent to ``/dev/null`` as soon as a write to it fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``, or drop it where the stream has failed."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self._give_up()
        return len(text)

    def flush(self) -> None:
        """Flush, or drop what cannot be written."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Notes(logging.Handler):
    """Prints log messages, such as that of a download, to a person who waits: one line each, on a terminal only."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's message."""
        if sys.stderr.isatty():
            print(printable(record.getMessage()), file=sys.stderr, flush=True)


@contextlib.contextmanager
def protected() -> Iterator[None]:
    """Inside the block, the standard streams never raise, and log messages and warnings are lines on stderr."""
    _drop_impossible_sizes()
    logger, notes = logging.getLogger("mlpx"), _Notes()
    logger.addHandler(notes)
    logger.setLevel(logging.INFO)
    before = sys.stdout, sys.stderr, warnings.showwarning
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        # Python has no stream where the caller has closed the descriptor.
        if stream is None:
            stream = open(descriptor, "w", closefd=False)  # noqa: SIM115
        stream.reconfigure(errors=_ERRORS)
        setattr(sys, name, Stream(stream))
    warnings.showwarning = lambda message, *_, **__: warn(str(message))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr, warnings.showwarning = before
        logger.removeHandler(notes)


def _drop_impossible_sizes() -> None:
    """Remove a terminal size from the environment that is not a positive number, which Rich would use as it is."""
    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch(r"[1-9][0-9]{0,5}", os.environ.get(name, "1")):
            del os.environ[name]


def is_animated() -> bool:
    """Whether a progress bar may move: only on a terminal, and not where ``TERM`` or ``CI`` speak against it."""
    return (
        sys.stdout.isatty()
        and sys.stderr.isatty()
        and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
        and not os.environ.get("CI")
    )


def note(text: str) -> None:
    """Print what is good to know, in one line on stderr."""
    print(f"note: {printable(text)}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning, in one line on stderr."""
    print(f"warning: {printable(text)}", file=sys.stderr, flush=True)
