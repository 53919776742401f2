"""The one way in which tests run the whole program."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from forks import run_forked

from mlpx.data.folders import data_folder

PROGRAM = (sys.executable, "-m", "mlpx")
ROOT = Path(__file__).parent.parent


def real_data(folder: str) -> str:
    """The folder of data sets that holds ``folder``: $MLPX_DATA_DIR or the user's cache; skips where it is absent."""
    base = data_folder("")
    if not any(path.is_file() for path in (base / folder).rglob("*")):
        pytest.skip(f"no {folder} in {base}: set MLPX_DATA_DIR")
    return str(base)


class Result(NamedTuple):
    """How the program ended; a negative code is the signal that it died by."""

    code: int
    out: str
    err: str


def assert_fails(result: Result, code: int, *words: str) -> None:
    """The promise of every error: its exit code and one line, ``error: what: why. what to do``, fit for a log."""
    assert result.code == code, result
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("error: ")
    assert result.err.count(": ") >= 2
    assert result.err[:-1].isprintable()
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err


Program = Callable[..., Result]


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment without what would change the program's behaviour, then with ``changes``."""
    python = {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONWARNINGS"}
    dropped = {"MLPX_RUNS_DIR", "MLPX_DATA_DIR", "CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", *python}
    kept: dict[str, str | None] = {key: value for key, value in os.environ.items() if key not in dropped}
    return {key: value for key, value in (kept | changes).items() if value is not None}


def on_terminal(arguments: list[str], tmp_path: Path, columns: int, **changes: str | None) -> str:
    """What the program writes to a terminal of ``columns`` by 24."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = environment(**{"TERM": "xterm-256color", **changes})
    process = subprocess.Popen([*PROGRAM, *arguments], cwd=tmp_path, env=env, stdout=terminal, stderr=terminal)
    os.close(terminal)
    written = b""
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # the terminal has no writer left
            break
        if not part:
            break
        written += part
    os.close(controller)
    assert process.wait() == 0
    return written.decode()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run ``mlpx`` in ``tmp_path``, so that its runs lie in ``tmp_path/runs``; with a ``prefix`` in a new process."""

    def run(
        *arguments: str,
        env: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        cwd: Path = tmp_path,
        given: bytes = b"",
    ) -> Result:
        env = environment() if env is None else env
        if not prefix:
            code, out, err = run_forked(arguments, cwd, dict(env), given)
        else:
            line = [*prefix, *PROGRAM, *arguments]
            done = subprocess.run(line, cwd=cwd, env=env, input=given, capture_output=True, timeout=120)
            code, out, err = done.returncode, done.stdout, done.stderr
        return Result(code, out.decode(), err.decode())

    return run
