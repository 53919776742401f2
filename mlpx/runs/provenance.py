"""Where a run's numbers come from: versions, commit, machine."""

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
    """The commit that mlpx itself runs from and whether its tree differs; ``None`` outside a checkout."""
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}
