"""What the tests share: ways to run the program, to read what a run left, and to break files."""

import contextlib
import csv
import fcntl
import gzip
import json
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forks import run_forked, start_fork

from mlpx.data.folders import data_folder
from mlpx.runs import folder, reading
from mlpx.runs.events import Notice
from mlpx.runs.folder import Run
from mlpx.runs.metrics import Metrics
from mlpx.settings.base import Settings
from mlpx.settings.metrics import columns
from mlpx.sweeps import folder as sweeps
from mlpx.sweeps.folder import Sweep
from mlpx.sweeps.request import Request

PROGRAM = (sys.executable, "-m", "mlpx")
ROOT = Path(__file__).parent.parent
# Found before the tests get a cache folder of their own.
DATA = data_folder("")
CLOCKED = ("seconds", "tokens_per_second")

Rows = list[dict[str, str]]
# What two equal runs have in common: the file of weights, and the rows of metrics.csv without what a clock measured.
Outcome = tuple[bytes, Rows]


class Result(NamedTuple):
    """How the program ended; a negative code is the signal that it died by."""

    code: int
    out: str
    err: str


Program = Callable[..., Result]


class Finished(NamedTuple):
    """A finished run that several tests read, and what it printed; none of them may change its folder."""

    path: Path
    result: Result

    @property
    def document(self) -> dict[str, Any]:
        """Its ``run.json``."""
        return document_of(self.path)


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


# Running the program


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment without what would change the program's behavior, then with ``changes``."""
    python = {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONWARNINGS"}
    dropped = {"MLPX_RUNS_DIR", "MLPX_DATA_DIR", "CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", *python}
    kept: dict[str, str | None] = {key: value for key, value in os.environ.items() if key not in dropped}
    return {key: value for key, value in (kept | changes).items() if value is not None}


def bare_environment(**variables: str) -> dict[str, str]:
    """An environment of ``variables`` alone, but for the number of threads: on it depend the last bits of a run."""
    return {key: value for key, value in os.environ.items() if key == "OMP_NUM_THREADS"} | variables


def run_program(
    arguments: Sequence[str], folder: Path, env: Mapping[str, str] | None = None, given: bytes = b""
) -> Result:
    """The program, forked, in ``folder``; ``given`` is its standard input."""
    code, out, err = run_forked(arguments, folder, dict(environment() if env is None else env), given)
    return Result(code, out.decode(), err.decode())


def finished(arguments: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> Finished:
    """The run of that command in ``folder``."""
    result = run_program(arguments, folder, env)
    assert result.code == 0, result
    return Finished((folder / "runs" / "latest").resolve(), result)


def mlpx(capfd: pytest.CaptureFixture[str], *arguments: str) -> Result:
    """The program in this process."""
    from mlpx.cli import app

    capfd.readouterr()
    return Result(app.run(arguments), *capfd.readouterr())


def on_terminal(arguments: Sequence[str], folder: Path, columns: int, **changes: str | None) -> str:
    """What the program writes to a terminal of ``columns`` by 24."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = environment(**{"TERM": "xterm-256color", **changes})
    with open(os.devnull) as nothing:
        process = start_fork(arguments, folder, env, [nothing.fileno(), terminal, terminal])
    os.close(terminal)
    written = b""
    with contextlib.suppress(OSError):  # the terminal has no writer left
        while part := os.read(controller, 65536):
            written += part
    os.close(controller)
    process.join(timeout=30)
    assert process.exitcode == 0
    return written.decode()


def real_data(folder: str) -> str:
    """The folder of data sets that holds ``folder``: $MLPX_DATA_DIR or the user's cache; skips where it is absent."""
    if not any(path.is_file() for path in (DATA / folder).rglob("*")):
        pytest.skip(f"no {folder} in {DATA}: set MLPX_DATA_DIR")
    return str(DATA)


def write_run(
    runs_dir: Path, settings: Settings, figures: Mapping[str, float], status: str = "finished", exit_code: int = 0
) -> Path:
    """A run folder with these figures as its last row and its final metrics, written by mlpx and without a training."""
    with folder.create(runs_dir, settings, settings.label) as run:
        _write(run, settings, figures, status, exit_code)
    return run.path


def write_sweep(runs_dir: Path, model: type[Settings], asked: Mapping[str, str], **options: Any) -> Sweep:
    """A sweep of which no run has started."""
    request = Request(model).updated(asked, options)
    design = request.design()
    return sweeps.create(runs_dir, sweeps.name_of(design), request, design)


def write_result(
    path: Path, figures: Mapping[str, float], status: str = "finished", exit_code: int = 0, error: str | None = None
) -> Settings:
    """What a training would leave in the folder of a run that waits, such as one of a sweep; its settings."""
    settings = reading.settings_of(path)
    with Run(path) as run:
        _write(run, settings, figures, status, exit_code, **({} if error is None else {"error": error}))
    return settings


def _write(
    run: Run, settings: Settings, figures: Mapping[str, float], status: str, exit_code: int, **facts: Any
) -> None:
    run.record_start({"experiment": settings.experiment, "seed": settings.seed, "device": "cpu"})
    names = [column.name for column in columns(settings.metrics, len(settings.seeds))]
    file = Metrics(run.path / "metrics.csv", names)
    file.start()
    file.append({name: figures.get(name, 0) for name in names})
    file.close()
    if status != "running":
        run.record_end(status, exit_code, figures, **facts)


def draws_nothing(*_: object) -> Generator[Notice, None, dict[str, bytes]]:
    """In place of the method that draws a run's pictures, which takes longer than a short training."""
    yield from ()
    return {}


# Reading what a run left


def table(path: Path) -> Rows:
    """The rows of a CSV file."""
    with open(path) as file:
        return list(csv.DictReader(file))


def rows_of(run: Path) -> Rows:
    """The rows of ``metrics.csv`` without what a clock measured."""
    return [{key: value for key, value in row.items() if key not in CLOCKED} for row in table(run / "metrics.csv")]


def outcome(run: Path) -> Outcome:
    """What two runs of equal settings have in common to the last bit."""
    return (run / "weights.safetensors").read_bytes(), rows_of(run)


def document_of(run: Path) -> dict[str, Any]:
    """``run.json``."""
    document = json.loads((run / "run.json").read_text())
    assert isinstance(document, dict)
    return document


def runs_of(folder: Path) -> list[Path]:
    """The runs in ``folder/runs``."""
    return [path for path in (folder / "runs").glob("*") if not path.is_symlink()]


# Breaking files


def gz(content: bytes) -> bytes:
    """Packed the same way each time."""
    return gzip.compress(content, compresslevel=1, mtime=0)


def flipped(content: bytes, at: int = -6) -> bytes:
    """With one bit changed; the sixth byte from the end of a gzip file lies in its checksum."""
    changed = bytearray(content)
    changed[at] ^= 4
    return bytes(changed)
