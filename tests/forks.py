"""The program in a process forked from one that has imported all of it: it starts in a tenth of a second, not in two.

Where a test is about the start itself (imports, limits of memory, another user), it starts ``PROGRAM`` instead.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import IO

from mlpx.__main__ import main

# All that a run of any experiment imports, with what is imported late because a help text must not wait for it.
PRELOADED = [
    *(f"mlpx.cli.{command}" for command in ("app", "train", "evaluate", "predict", "translate", "data")),
    *(f"mlpx.experiments.{name}.{part}" for name in ("poly", "mlp", "transformer") for part in ("experiment", "plots")),
    *("mlpx.experiments.mlp.glyphs", "mlpx.plots.loss", "matplotlib.backends.backend_agg", "PIL.Image"),
    *("PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.PpmImagePlugin"),
    *("sacrebleu.metrics.bleu", "sacrebleu.tokenizers.tokenizer_13a", "sentencepiece", "numpy.random"),
    *("numpy.ctypeslib", "pydantic.type_adapter", "typer._adapters", "torch.optim", "torch._dynamo"),
    *("torch.utils.serialization.config", "pytest"),
    *("mlpx.cli.listing", "mlpx.cli.show", "mlpx.cli.compare", "plotille", "scipy.stats"),
    *("mlpx.cli.sweep", "mlpx.sweeps.effects", "mlpx.plots.effects"),
]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(PRELOADED)


STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def start_server() -> None:
    """Start the process that forks, before a sweep in this process starts the same one with less in it.

    As a sweep starts it, it blocks the signals that stop a run, and what it forks takes them up again.
    """
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_forked(arguments: Sequence[str], folder: Path, env: dict[str, str], given: bytes) -> tuple[int, bytes, bytes]:
    """Exit code, standard output and error of the command line in ``folder``; ``given`` is its standard input."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        streams[0].write(given)
        streams[0].seek(0)
        process = start_fork(arguments, folder, env, [stream.fileno() for stream in streams])
        process.join(timeout=120)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(arguments)
        for stream in streams:
            stream.seek(0)
        return process.exitcode, streams[1].read(), streams[2].read()


class Live:
    """A forked program under way, with what tests use of ``subprocess.Popen``; ``stdout`` is a pipe."""

    def __init__(self, process: ForkServerProcess, stdout: IO[str], stderr: IO[bytes]) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.stdout = stdout
        self._process = process
        self._stderr = stderr

    @property
    def returncode(self) -> int | None:
        """The exit code, or the signal that it died by as a negative number; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("mlpx", timeout)
        return self._process.exitcode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it still writes, and all that it wrote to standard error."""
        out = self.stdout.read()
        self.wait(timeout)
        self._stderr.seek(0)
        return out, self._stderr.read().decode()


@contextlib.contextmanager
def live(arguments: Sequence[str], folder: Path, env: dict[str, str]) -> Iterator[Live]:
    """Start the program in ``folder``; it is killed if it still runs at the end."""
    readable, writable = os.pipe()
    with os.fdopen(readable) as stdout, tempfile.TemporaryFile() as stderr, open(os.devnull) as nothing:
        process = start_fork(arguments, folder, env, [nothing.fileno(), writable, stderr.fileno()])
        os.close(writable)
        try:
            yield Live(process, stdout, stderr)
        finally:
            process.kill()
            process.join()


def start_fork(
    arguments: Sequence[str], folder: Path, env: dict[str, str], streams: Sequence[int]
) -> ForkServerProcess:
    """Start the program with these descriptors as its standard input, output and error; they stay open here."""
    start_server()
    ends = [Connection(os.dup(descriptor)) for descriptor in streams]  # what multiprocessing knows how to hand on
    process = _FORKS.Process(target=_become_the_program, args=(list(arguments), folder, env, ends))
    process.start()
    for end in ends:
        end.close()
    return process


def _become_the_program(
    arguments: list[str], folder: Path, env: dict[str, str], ends: "list[Connection[object, object]]"
) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    # A program started anew does not have the folder of the tests' sockets, which a sweep would remove in the end.
    multiprocessing.current_process()._config.pop("tempdir", None)  # type: ignore[attr-defined]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for number, end in enumerate(ends):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w", buffering=1 if os.isatty(1) else -1)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    sys.argv = ["mlpx", *arguments]
    sys.exit(main())
