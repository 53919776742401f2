"""The origin of a run's numbers: versions, commit, machine."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mlpx


def describe(device: torch.device) -> dict[str, Any]:
    """Device, versions, commit, host and threads, for ``run.json``."""
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {
            "mlpx": mlpx.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
        "git": _commit(Path(mlpx.__file__).parent.parent),
        "host": platform.node(),
    }


def _commit(checkout: Path) -> dict[str, Any] | None:
    """The commit of mlpx's own checkout, and whether its files differ from it; ``None`` outside a checkout."""
    if not (checkout / ".git").exists():
        return None
    # Git tells hooks by GIT_DIR and the like which repository they are called for, and ``-C`` does not override that.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # Without the option, git locks the index, and leaves the lock there if it is killed.
    command = [
        "git",
        "--no-optional-locks",
        "-C",
        str(checkout),
        "status",
        "--porcelain=v2",
        "--branch",
        "--untracked-files=no",
    ]
    try:
        output = subprocess.run(command, env=env, capture_output=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    # File names in it need not be UTF-8.
    lines = output.decode(errors="replace").splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}
