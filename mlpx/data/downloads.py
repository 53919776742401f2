"""Downloads that end whole and right, or leave nothing."""

import contextlib
import fcntl
import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import mlpx
from mlpx.errors import InputError, MachineError
from mlpx.files import remove_temporaries, write_file

log = logging.getLogger(__name__)

STALL_SECONDS = 15.0
TOTAL_SECONDS = 600.0
MAX_BYTES = 256 * 2**20
CHUNK_BYTES = 2**16


def provide(folder: Path, missing: Mapping[str, tuple[Sequence[str], str]], remedy: str) -> None:
    """Download what is ``missing`` in ``folder``: by file name, URLs and checksum as :func:`download` takes them.

    Raises:
        InputError: a file cannot be had, and ``remedy`` says what to do.
        MachineError: the folder cannot be made or written.
    """
    try:
        for name, (urls, checksum) in missing.items():
            download(urls, folder / name, checksum)
    except InputError as error:
        raise InputError(folder, f"{', '.join(missing)} missing, and {error}", remedy) from error
    except ValueError as error:  # a NUL in the path
        raise InputError(folder, error, remedy) from error
    except OSError as error:
        choose = "Choose another folder by --data-dir or MLPX_DATA_DIR."
        raise MachineError(folder, f"data cannot be kept there: {error.strerror or error}", choose) from error


def download(urls: Sequence[str], path: Path, checksum: str) -> None:
    """Put the file that ``urls`` offer, tried in turn, at ``path``, unless another process already has.

    ``checksum`` is ``md5:…`` or ``sha256:…`` in hexadecimal digits. The proxies of the environment are used.

    Raises:
        InputError: no URL gives the right file in time; ``path`` is then absent.
        OSError: the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _sole_writer(path.parent):
        if path.exists():
            return
        remove_temporaries(path.parent)  # of downloads that were killed
        failures = []
        for url in urls:
            try:
                write_file(path, _get(url, checksum))
                return
            except _Failure as failure:
                failures.append(f"{url}: {failure}")
    raise InputError(path.name, f"cannot be downloaded ({'; '.join(failures)})")


class _Failure(Exception):
    """A URL does not give what it should."""


@contextlib.contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Wait for other downloads into ``folder``; where it cannot be locked, two may fetch the same file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _get(url: str, checksum: str) -> bytes:
    """What ``url`` gives, which must have this checksum; raises _Failure."""
    log.info("downloading %s", url)
    algorithm, _, expected = checksum.partition(":")
    try:
        data = _read(url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            reason = f"the server says {error.code} {error.reason}"
        else:
            cause = getattr(error, "reason", error)  # urllib wraps what a socket raised
            reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise _Failure(reason) from error
    found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if found != expected:
        raise _Failure(f"the {len(data)} bytes have {algorithm} {found}, not {expected}")
    return data


def _read(url: str) -> bytes:
    """The whole answer of ``url``; raises what urllib, http and sockets raise, and TimeoutError."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("is neither http nor https")
    request = urllib.request.Request(url, headers={"User-Agent": f"mlpx/{mlpx.__version__}"})  # noqa: S310
    deadline = time.monotonic() + TOTAL_SECONDS
    data = bytearray()
    with urllib.request.urlopen(request, timeout=STALL_SECONDS) as response:  # noqa: S310
        announced = response.headers.get("Content-Length", "")
        while chunk := response.read1(CHUNK_BYTES):
            data += chunk
            if len(data) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not done after {TOTAL_SECONDS:.0f} seconds")
    if announced.isdecimal() and len(data) < int(announced):
        raise ValueError(f"cut off after {len(data)} of {announced} bytes")
    return bytes(data)
