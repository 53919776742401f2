"""What a failed download says, and that every download ends. The faults of servers are tested with the data sets."""

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from servers import Served, limit_downloads

from mlpx.data import downloads
from mlpx.errors import MAX_MESSAGE, InputError

CONTENT = b"sentences"
CHECKSUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
NAMES = [f"tok/train.lc.norm.tok.{number}" for number in range(18)]
REMEDY = "Put them there, or name their folder by --data-dir or MLPX_DATA_DIR."


@pytest.fixture
def server() -> Iterator[Served]:
    with contextlib.closing(Served(dict.fromkeys(NAMES, CONTENT))) as served:
        yield served


def wanted(server: Served, ways: Mapping[str, str]) -> dict[str, tuple[Sequence[str], str]]:
    """All files, each from its own one of the ways of ``server``, or well."""
    return {name: ([f"{server.url(ways.get(name, 'good'))}/{name}"], CHECKSUM) for name in NAMES}


def test_the_file_that_failed_is_named_with_reason_and_remedy_and_the_others_are_counted(
    tmp_path: Path, server: Served
) -> None:
    with pytest.raises(InputError) as caught:
        downloads.provide(tmp_path, wanted(server, dict.fromkeys(NAMES, "missing")), REMEDY)
    line = str(caught.value)
    url = f"{server.url('missing')}/{NAMES[0]}"
    assert line == (
        f"{tmp_path}: {NAMES[0]} and 17 more are missing, and the download failed "
        f"({url}: the server says 404 Not Found). {REMEDY}"
    )
    assert len(line) <= MAX_MESSAGE


def test_only_what_is_still_missing_counts(tmp_path: Path, server: Served) -> None:
    with pytest.raises(InputError, match=rf": {NAMES[15]} and 2 more are missing"):
        downloads.provide(tmp_path, wanted(server, {NAMES[15]: "missing"}), REMEDY)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 15
    rest = {name: file for name, file in wanted(server, {NAMES[17]: "missing"}).items() if name not in NAMES[:15]}
    with pytest.raises(InputError, match=rf": {NAMES[17]} is missing, and the download failed"):
        downloads.provide(tmp_path, rest, REMEDY)


@pytest.fixture
def dripping() -> Iterator[str]:
    """The address of a server that sends its headers byte by byte and never ends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                for _ in range(40):
                    connection.sendall(b"x")
                    time.sleep(0.1)

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/file"


def test_headers_that_drip_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dripping: str) -> None:
    limit_downloads(monkeypatch)  # to a second
    with pytest.raises(InputError, match="not done after 1 seconds"):
        downloads.download([dripping], tmp_path / "file", CHECKSUM)
    assert list(tmp_path.iterdir()) == []
