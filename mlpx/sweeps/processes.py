"""The process of a run: it is forked from a process that has imported torch and never computed, so it starts quickly.

Each run still has its own process and its own process group, so that Ctrl-C in a terminal reaches the sweep alone,
which hands it on. Its standard input is a pipe that ends when the process of the sweep does; then the run saves and
stops.
"""

import contextlib
import errno
import multiprocessing
import os
import runpy
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.connection import Connection
from pathlib import Path

from mlpx.errors import MachineError, reason
from mlpx.registry import EXPERIMENTS
from mlpx.runs import holding
from mlpx.sweeps.places import VISIBLE
from mlpx.sweeps.request import Options
from mlpx.training.signals import STOPPING

LOG = "output.log"
ORPHANED = 255
"""What multiprocessing has for the exit code of a process when the process that forked it was killed."""
ORPHAN_SECONDS = 10.0
# What a run imports late, since a help text must not wait for it, and a run of a sweep need not import again.
LATE = {
    "": [
        *(
            "mlpx.cli.app",
            "mlpx.cli.sweep",
            "mlpx.cli.train",
            "mlpx.plots.loss",
            "matplotlib.backends.backend_agg",
            "numpy.ctypeslib",
        ),
        *(f"PIL.{form}ImagePlugin" for form in ("Bmp", "Gif", "Jpeg", "Png", "Ppm")),
        *("numpy.random", "torch.utils.serialization.config", "typer._adapters"),
    ],
    "mlp": ["mlpx.experiments.mlp.glyphs"],
    "transformer": ["torch._dynamo"],
}
_CONTEXT = multiprocessing.get_context("forkserver")


def prepare(experiment: str) -> None:
    """Start the process that forks, which then imports what a run of the experiment needs.

    Raises:
        MachineError: It cannot be started, or not be reached.
    """
    package = EXPERIMENTS[experiment].package
    modules = [f"{package}.experiment", f"{package}.plots", *LATE[""], *LATE.get(experiment, ())]
    _CONTEXT.set_forkserver_preload(modules)
    # It goes when this process goes, by the end of a pipe, and not by signals, which reach it where they are sent to a
    # process group. It inherits the mask; a run's process takes the mask off again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        forkserver.ensure_running()
    except OSError as error:
        cure = "Set TMPDIR to a folder with a short path, in which there is room."
        raise MachineError("the process that starts the runs", reason(error), cure) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def clear() -> None:
    """Remove the folder of the socket through which runs are started, before this process ends by a signal.

    At any other end of this process multiprocessing does so itself.
    """
    shutil.rmtree(util.get_temp_dir(), ignore_errors=True)


class Process:
    """The process of a run, from its start to its end."""

    def __init__(
        self, run: Path, options: Options, place: str | None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it: ``mlpx resume RUN``, whose output is appended to ``RUN/output.log``.

        Args:
            run: The absolute path of the run folder.
            options: How it is carried out.
            place: What it sees as the environment variable of visible GPUs; ``None`` changes nothing.
            environment: Other variables that it gets.

        Raises:
            OSError: The log cannot be opened, or the process cannot be started.
        """
        self.run = run
        self.place = place
        arguments = ["resume", str(run), "--device", options.device]
        arguments += ["--checkpoint-every", repr(options.checkpoint_every)]
        arguments += [word for check in options.check for word in ("--check", check)]
        visible = {} if place is None else {VISIBLE: place}
        variables = {**(environment or {}), "OMP_NUM_THREADS": str(options.cores), **visible}
        log = _open_log(run / LOG)
        readable, self._alive = os.pipe()
        ends = [Connection(descriptor) for descriptor in (readable, log)]
        try:
            self._process = _CONTEXT.Process(target=_become_the_run, args=(arguments, variables, options.cores, ends))
            self._process.start()
        except BaseException as error:
            os.close(self._alive)
            if isinstance(error, EOFError):
                raise ChildProcessError(errno.ECHILD, "the process that starts the runs was killed") from error
            raise
        finally:
            for end in ends:
                end.close()

    @property
    def sentinel(self) -> int:
        """A descriptor that can be read once the process has ended."""
        return self._process.sentinel

    def send(self, signum: int) -> None:
        """Send a signal, if the process still runs."""
        if self._process.exitcode is None and self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signum)

    def end(self) -> int:
        """Wait for the end: the exit code, or the signal that it died by as a negative number."""
        self._process.join()
        os.close(self._alive)
        code = self._process.exitcode
        self._process.close()
        if code != ORPHANED:
            return 1 if code is None else code
        # The run lives, and no one learns of its end. By the end of the pipe it saves and stops, so it is waited for.
        until = time.monotonic() + ORPHAN_SECONDS
        while holding.is_held(self.run) and time.monotonic() < until:
            time.sleep(0.05)
        return -signal.SIGKILL


def _open_log(path: Path) -> int:
    """A descriptor that appends to the regular file ``path``, without waiting for the reader of a named pipe."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    log = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(log).st_mode):
        os.close(log)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return log


def _become_the_run(
    arguments: Sequence[str], environment: Mapping[str, str], cores: int, ends: "Sequence[Connection[object, object]]"
) -> None:
    os.setpgid(0, 0)
    # Until the run is begun there is nothing to save, so a signal kills the process, as it does in the main program.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    os.environ.update(environment)
    for end, numbers in zip(ends, ((0,), (1, 2)), strict=True):
        for number in numbers:
            os.dup2(end.fileno(), number)
        end.close()
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    threading.Thread(target=_stop_with_the_sweep, daemon=True).start()
    import torch

    # OpenMP has read the variable when torch was imported, before it was set here.
    torch.set_num_threads(cores)
    sys.argv = ["mlpx", *arguments]
    runpy.run_module("mlpx", run_name="__main__")


def _stop_with_the_sweep() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
