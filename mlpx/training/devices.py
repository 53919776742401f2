"""Where a run computes."""

import re

import torch

from mlpx.errors import MachineError, UsageError


def choose(name: str) -> torch.device:
    """The device called ``name``: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: no such name.
        MachineError: no such device here.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,4})?", name):
        raise UsageError("--device", f"{name!r} is not a device", "Give auto, cpu, cuda or cuda:N.")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device("cuda" if name == "auto" else name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        found = f"{count} CUDA device{'s' * (count != 1)} found" if count else "no CUDA device found"
        raise MachineError(f"--device {name}", found, "Choose another, or --device cpu.")
    return device
