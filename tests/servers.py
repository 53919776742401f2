"""A web server on this machine that has some files and, asked to, fails in every way that servers do."""

import gzip
import http.server
import socket
import threading
import time
from collections.abc import Mapping

import pytest

from mlpx.data import downloads

NETWORK_FAULTS: dict[
    str, tuple[str, ...]
] = {  # ways of Served, and what the program says of each; {} is the kind of checksum
    "wrong": ("bytes have {}",),
    "flipped": ("bytes have {}",),
    "truncated": ("cut off after 30 of",),
    "truncated-unannounced": ("the 30 bytes have {}",),
    "stalling": ("timed out",),
    "silent": ("timed out",),
    "dripping": ("not done after",),
    "endless": ("more than 1 MiB",),
    "missing": ("404",),
    "failing": ("500",),
    "to-file": ("file:",),
    "in-circles": ("302",),
    "no-http": (),
    "unreachable": ("refused",),
    "not-http": ("neither http nor https",),
}


def limit_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a fault takes a second."""
    monkeypatch.setattr(downloads, "STALL_SECONDS", 0.4)
    monkeypatch.setattr(downloads, "TOTAL_SECONDS", 1.0)
    monkeypatch.setattr(downloads, "MAX_BYTES", 2**20)


class Served:
    """A web server that does what the first part of a path says."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                how, _, name = self.path[1:].partition("/")
                asked.append(f"{how}/{name}")
                getattr(self, how.replace("-", "_"))(files[name])

            def answer(self, content: bytes, announced: int | None = None) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content) if announced is None else announced))
                self.end_headers()
                self.wfile.write(content)

            def good(self, content: bytes) -> None:
                self.answer(content)

            def slow(self, content: bytes) -> None:
                time.sleep(0.3)
                self.answer(content)

            def wrong(self, content: bytes) -> None:
                self.answer(gzip.compress(b"something else"))

            def flipped(self, content: bytes) -> None:
                self.answer(content[:-1] + bytes([content[-1] ^ 4]))

            def truncated(self, content: bytes) -> None:
                self.answer(content[:30], announced=len(content))

            def truncated_unannounced(self, content: bytes) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(content[:30])

            def stalling(self, content: bytes) -> None:
                self.answer(content[:30], announced=len(content))
                self.wfile.flush()
                time.sleep(3)

            def silent(self, content: bytes) -> None:
                time.sleep(3)

            def dripping(self, content: bytes) -> None:
                self.answer(b"", announced=1000)
                for _ in range(40):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.1)

            def endless(self, content: bytes) -> None:
                self.send_response(200)
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(bytes(2**20))

            def missing(self, content: bytes) -> None:
                self.send_error(404)

            def failing(self, content: bytes) -> None:
                self.send_error(500)

            def redirect(self, where: str) -> None:
                self.send_response(302)
                self.send_header("Location", where)
                self.end_headers()

            def to_file(self, content: bytes) -> None:
                self.redirect("file:///etc/passwd")

            def in_circles(self, content: bytes) -> None:
                self.redirect(self.path)

            def no_http(self, content: bytes) -> None:
                self.wfile.write(b"\x00\x01 what is this\r\n\r\n")

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hung up
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._address = f"http://127.0.0.1:{self._server.server_port}"

    def url(self, how: str) -> str:
        """Where files are served in one of the ways of ``NETWORK_FAULTS``, or well; ends in no slash."""
        if how == "not-http":
            return "file:///tmp"
        if how == "unreachable":
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                return f"http://127.0.0.1:{probe.getsockname()[1]}"
        return f"{self._address}/{how}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
