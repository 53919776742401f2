"""The device and the threads that a run computes with."""

import contextlib
import re
from collections.abc import Iterator

import torch
from torch import Tensor

from mlpx.errors import MachineError, UsageError
from mlpx.training import memory
from mlpx.training.torchrun import ALONE, Place


def choose(name: str, place: Place = ALONE) -> torch.device:
    """The device of that name, ready to compute.

    Args:
        name: ``auto`` (a CUDA device where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        place: Which of several processes it is for; each of a machine gets a CUDA device of its own.

    Raises:
        UsageError: It is not the name of a device.
        MachineError: This machine has no such device.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(0|[1-9][0-9]{0,3}))?", name)
    if match is None:
        raise UsageError("--device", f"{name!r} is not a device", "Give auto, cpu, cuda or cuda:N.")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        memory.keep_freed()
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    # torch.device keeps the number in 8 bits, so that its cuda:256 is cuda:0. Therefore the text is compared.
    if int(match[1] or place.local_rank) >= count:
        devices = {0: "no CUDA device", 1: "one CUDA device"}.get(count, f"{count} CUDA devices")
        raise MachineError(f"--device {name}", f"{devices} found", "Choose another, or --device cpu.")
    # cuDNN's attention makes a plan for each new shape of its arguments, which takes up to a second and is kept for
    # good. Sentences come in ever new shapes. PyTorch's own kernels, which are next in its order, make none.
    torch.backends.cuda.enable_cudnn_sdp(False)
    if place.size > 1 and match[1] is None:
        name = f"cuda:{place.local_rank}"
        torch.cuda.set_device(name)
    return torch.device("cuda" if name == "auto" else name)


def uploaded(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor``, which is on the CPU, on ``device``; a GPU copies it while Python goes on."""
    if device.type != "cuda":
        return tensor.to(device)
    # CUDA waits for its stream before it copies memory that is not pinned. PyTorch keeps pinned memory until its copy
    # is done.
    return tensor.pin_memory().to(device, non_blocking=True)


def is_accelerator(device: torch.device) -> bool:
    """Whether a device is a GPU or the like: each operation costs a launch there, and large ones cost little more."""
    return device.type != "cpu"


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads inside the block; ``None`` changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
