"""The device and the threads that a run computes with."""

import contextlib
import re
from collections.abc import Iterator

import torch

from mlpx.errors import MachineError, UsageError


def choose(name: str) -> torch.device:
    """The device of that name.

    Args:
        name: ``auto`` (a CUDA device where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: It is not the name of a device.
        MachineError: This machine has no such device.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(0|[1-9][0-9]{0,3}))?", name)
    if match is None:
        raise UsageError("--device", f"{name!r} is not a device", "Give auto, cpu, cuda or cuda:N.")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    # torch.device keeps the number in 8 bits, so that its cuda:256 is cuda:0. Therefore the text is compared.
    if int(match[1] or 0) >= count:
        devices = {0: "no CUDA device", 1: "one CUDA device"}.get(count, f"{count} CUDA devices")
        raise MachineError(f"--device {name}", f"{devices} found", "Choose another, or --device cpu.")
    return torch.device("cuda" if name == "auto" else name)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads inside the block; ``None`` changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
