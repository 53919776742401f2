"""Downloads that end complete and correct, or leave nothing."""

import contextlib
import fcntl
import hashlib
import http.client
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import mlpx
from mlpx.errors import InputError, MachineError, reason
from mlpx.files import remove_temporaries, write_file

log = logging.getLogger(__name__)

STALL_SECONDS = 15.0
TOTAL_SECONDS = 600.0
MAX_BYTES = 256 * 2**20
CHUNK_BYTES = 2**16


def provide(folder: Path, missing: Mapping[str, tuple[Sequence[str], str]], remedy: str) -> None:
    """Download the files that are missing in a folder.

    Args:
        folder: Where the files belong; it is made if need be.
        missing: By file name, the URLs and the checksum as :func:`download` takes them.
        remedy: What a user can do who cannot download them.

    Raises:
        InputError: A file cannot be downloaded.
        MachineError: The folder cannot be made or written.
    """
    names = list(missing)
    for number, name in enumerate(names, start=1):
        urls, checksum = missing[name]
        try:
            download(urls, folder / name, checksum)
        except InputError as error:
            others = len(names) - number
            files = f"{name} and {others} more are" if others else f"{name} is"
            raise InputError(folder, f"{files} missing, and {error.why}", remedy) from error
        except ValueError as error:  # a NUL in the path
            raise InputError(folder, error, remedy) from error
        except OSError as error:
            choose = "Choose another folder by --data-dir or MLPX_DATA_DIR."
            raise MachineError(folder, f"data cannot be kept there: {reason(error)}", choose) from error


def download(urls: Sequence[str], path: Path, checksum: str) -> None:
    """Download a file to ``path``, unless another process has put it there in the meantime.

    The proxies of the environment are used.

    Args:
        urls: Where the file is offered, tried in turn.
        path: Where to put it.
        checksum: ``md5:…`` or ``sha256:…``, followed by hexadecimal digits.

    Raises:
        InputError: No URL gives the right file in time; there is then no file at ``path``.
        OSError: The folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _sole_writer(path.parent):
        if path.exists():
            return
        remove_temporaries(path.parent)  # of downloads that were killed
        failures = []
        for url in urls:
            try:
                data = _get(url, checksum)
            except _Failure as failure:
                failures.append(f"{url}: {failure}")
            else:
                write_file(path, data)
                return
    raise InputError(path.name, f"the download failed ({'; '.join(failures)})")


class _Failure(Exception):
    """A URL does not give what it should."""


@contextlib.contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Wait until no other process downloads into ``folder``; a folder that cannot be locked is not waited for."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _get(url: str, checksum: str) -> bytes:
    """The content of ``url``.

    Raises:
        _Failure: It cannot be had, or its checksum is another.
    """
    log.info("downloading %s", url)
    algorithm, _, expected = checksum.partition(":")
    try:
        data = _read_in_time(url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            raise _Failure(f"the server says {error.code} {error.reason}") from error
        cause = getattr(error, "reason", error)  # urllib wraps the exception of the socket
        raise _Failure(reason(cause) if isinstance(cause, Exception) else str(cause)) from error
    digest = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if digest != expected:
        raise _Failure(f"the {len(data)} bytes have {algorithm} {digest}, not {expected}")
    return data


def _read_in_time(url: str) -> bytes:
    """The content of ``url``, within ``TOTAL_SECONDS``.

    The timeout of urllib is for each single read, so a server that sends its headers byte by byte, or a name server
    that never answers, could hold the program for hours. Therefore a thread reads, and is left alone when it is late.

    Raises:
        OSError: What urllib and sockets raise; TimeoutError where it takes too long.
        http.client.HTTPException: What http raises.
        ValueError: The URL or its content is not acceptable.
    """
    content: Future[bytes] = Future()
    deadline = time.monotonic() + TOTAL_SECONDS

    def read() -> None:
        try:
            content.set_result(_read(url, deadline))
        except BaseException as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the connection
            content.set_exception(error)

    threading.Thread(target=read, daemon=True).start()
    try:
        return content.result(TOTAL_SECONDS)
    except TimeoutError:
        if content.done():  # the timeout of a single read
            raise
        raise _late() from None


def _read(url: str, deadline: float) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise ValueError("is neither http nor https")
    request = urllib.request.Request(url, headers={"User-Agent": f"mlpx/{mlpx.__version__}"})  # noqa: S310
    data = bytearray()
    with urllib.request.urlopen(request, timeout=STALL_SECONDS) as response:  # noqa: S310
        announced = response.headers.get("Content-Length", "")
        while chunk := response.read1(CHUNK_BYTES):
            data += chunk
            if len(data) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
            if time.monotonic() > deadline:
                raise _late()
    if announced.isdecimal() and len(data) < int(announced):
        raise ValueError(f"cut off after {len(data)} of {announced} bytes")
    return bytes(data)


def _late() -> TimeoutError:
    return TimeoutError(f"not done after {TOTAL_SECONDS:.0f} seconds")
