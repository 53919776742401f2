"""What a run of a sweep does before it is the run, in tests.

Each function can take the place of ``processes._become_the_run``. The runs are forked from a clean process, which knows
nothing of what a test has patched, so the function itself patches.
"""

import contextlib
import json
import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlpx.sweeps import processes

BUGGY_SEED = 13
SEEN = "seen.json"
_become_the_run = processes._become_the_run


def _first(do: Callable[[Path], None], arguments: Sequence[str], *others: Any) -> None:
    """Become the run, and do something just before it begins."""
    run_module = runpy.run_module

    def then(*args: Any, **kwargs: Any) -> Any:
        do(Path(arguments[1]))
        return run_module(*args, **kwargs)

    runpy.run_module = then
    _become_the_run(arguments, *others)


def tell(arguments: Sequence[str], environment: Mapping[str, str], cores: int, ends: Any) -> None:
    """Write to ``seen.json`` what the run was given, and wait so long that the runs of all places are there at once."""

    def do(run: Path) -> None:
        import torch

        seen = {
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "omp": os.environ["OMP_NUM_THREADS"],
            "threads": torch.get_num_threads(),
            "own_group": os.getpgid(0) == os.getpid(),
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "input_is_a_pipe": Path("/proc/self/fd/0").readlink().name.startswith("pipe:"),
            "arguments": sys.argv[1:],
            "began": time.monotonic(),
        }
        time.sleep(0.2)
        (run / SEEN).write_text(json.dumps({**seen, "ended": time.monotonic()}))

    _first(do, arguments, environment, cores, ends)


def killed_once(arguments: Sequence[str], environment: Mapping[str, str], cores: int, ends: Any) -> None:
    """Be killed at the first try."""
    if not (mark := Path(arguments[1]) / "killed").exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    _become_the_run(arguments, environment, cores, ends)


def killed(arguments: Sequence[str], environment: Mapping[str, str], cores: int, ends: Any) -> None:
    """Be killed at each try."""
    os.kill(os.getpid(), signal.SIGKILL)


def server_killed_once(arguments: Sequence[str], environment: Mapping[str, str], cores: int, ends: Any) -> None:
    """Kill the process that forks the runs, in the first run of a sweep, and go on."""

    def do(run: Path) -> None:
        with contextlib.suppress(FileExistsError):
            (run.parent / "killed").touch(exist_ok=False)
            os.kill(os.getppid(), signal.SIGKILL)

    _first(do, arguments, environment, cores, ends)


def with_little_memory_and_a_bug(
    arguments: Sequence[str], environment: Mapping[str, str], cores: int, ends: Any
) -> None:
    """Have little memory, and a bug in the training with one seed."""

    def do(run: Path) -> None:
        from mlpx.experiments.mlp.experiment import Classification

        train = Classification.train

        def buggy(self: Classification, epoch: int, step: int) -> Any:
            if self.settings.seed == BUGGY_SEED:
                raise ZeroDivisionError("planted")
            return train(self, epoch, step)

        Classification.train = buggy  # type: ignore[method-assign]
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 600 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    _first(do, arguments, environment, cores, ends)
