"""Where the runs of a sweep compute on this machine: cores and GPUs, and how many runs at a time."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Sequence

from mlpx.errors import MachineError, UsageError
from mlpx.sweeps.request import Options

VISIBLE = "CUDA_VISIBLE_DEVICES"
LEAST_SHARE = 0.01


def gpus() -> list[str]:
    """The GPUs that this process may use, as :data:`VISIBLE` names them. No GPU is touched."""
    if VISIBLE in os.environ:
        names = (name.strip() for name in os.environ[VISIBLE].split(","))
        # CUDA does not look beyond a name that is none.
        return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        done = subprocess.run([command, "--list-gpus"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(number) for number, _ in enumerate(line for line in done.stdout.splitlines() if line.startswith("GPU"))]


def default_gpus(device: str) -> float:
    """The GPUs of each run where nobody asks for a number: one if there is any, and the runs may use it."""
    return 1.0 if device != "cpu" and gpus() else 0.0


def places(options: Options, jobs: int | None) -> Sequence[str | None]:
    """A place for each run that may go on at the same time: what it sees as :data:`VISIBLE`.

    ``None`` leaves the variable as it is, since no run of the sweep may use a GPU that it does not ask for.

    Args:
        options: Cores and GPUs of each run.
        jobs: The largest number of runs at a time; ``None`` for as many as there are cores or GPUs for.

    Raises:
        UsageError: A run cannot have such a share of GPUs.
        MachineError: There are fewer GPUs than a run asks for.
    """
    require_share(options)
    share, found = options.gpus, gpus()
    if share == 0:
        return ["" if found else None] * (jobs or max(1, cores() // options.cores))
    if share > len(found):
        have = {0: "there is none", 1: "there is one"}.get(len(found), f"there are {len(found)}")
        raise MachineError("--gpus", f"each run shall have {share:g}, and {have}", "Give fewer, or --gpus 0.")
    groups = _groups(found, max(1, int(share)))
    # Runs that share GPUs are spread over all of them first.
    return [group for _ in range(runs_on_a_gpu(share)) for group in groups][:jobs]


def require_share(options: Options) -> None:
    """Check that runs can have such a share of GPUs.

    Raises:
        UsageError: They cannot.
    """
    share = options.gpus
    if share and (share < LEAST_SHARE or (share > 1 and share != int(share))):
        cure = f"Give a whole number, or a fraction of one GPU, at least {LEAST_SHARE}."
        raise UsageError("--gpus", f"{share} cannot be used", cure)


def runs_on_a_gpu(share: float) -> int:
    """How many runs have the same GPU at a time, each having such a share: one, unless the share is a fraction."""
    return int(1 / share) if 0 < share < 1 else 1


def _groups(names: Sequence[str], size: int) -> list[str]:
    return [",".join(names[start : start + size]) for start in range(0, len(names) - size + 1, size)]


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
