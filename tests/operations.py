"""The operations of a training step, counted as PyTorch dispatches them, and what in it would wait for the device.

Each operation costs a launch of a kernel on a GPU, and a dispatch on a CPU. How many there are depends neither on the
device nor on the sizes of tensors, so what is counted here holds for a GPU too, where the same code runs there.
"""

import itertools
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mlpx
from mlpx.training.experiment import AnyExperiment

PACKAGE, TORCH = (str(Path(module.__file__ or "").parent) for module in (mlpx, torch))
# These give numbers to Python, or a tensor whose shape depends on numbers, so Python waits until the device has them.
READ_BACK = {
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "repeat_interleave.Tensor",
    "unique_consecutive",
    "unique_dim",
    "_unique",
    "_unique2",
}
# A tensor made of Python's numbers, which lies on the CPU first.
FROM_PYTHON = "lift_fresh"
# These run no kernel: a view by another name, and memory that is only handed out.
FREE = {"_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class Operations(TorchDispatchMode):
    """Counts the operations within a block, and notes what waits for a device, or would for one.

    Views and bare allocations are not counted, because they launch no kernel.

    What waits is a number that is read back, a shape that depends on numbers, such as that of ``nonzero``, a tensor
    that is made of Python's numbers, and a copy between the CPU and another device, unless it is from pinned memory and
    ``non_blocking``.
    """

    def __init__(self, device: str = "cpu") -> None:
        """``device`` is the type of the device that steps are taken on; the CPU stands for any of them."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self.counts: Counter[str] = Counter()
        """How often each operation was dispatched, by its name, such as ``add_``."""
        self.waits: list[str] = []
        """The operations that wait, and the lines of the package that ask for them."""
        self.foreign: list[str] = []
        """The operations that are not PyTorch's own, each of which may hide any number of them."""

    @property
    def total(self) -> int:
        """The number of operations."""
        return self.counts.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count ``func``, and call it."""
        name = func._schema.name.split("::")[1]
        if func.namespace not in ("aten", "prim", "profiler"):
            self.foreign.append(str(func))
        if not func.is_view and name not in FREE and func.namespace != "profiler":
            self.counts[name] += 1
        result = func(*args, **(kwargs or {}))
        if _waits(self._device, name, func._overloadname, args, kwargs or {}, result):
            self.waits.append(f"{name} in {_asked_from()}")
        return result


def _waits(device: str, name: str, overload: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> bool:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if not any(tensor.device.type == device for tensor in tensors):
        # A copy to the device is left; what else runs on the CPU alone waits for nothing.
        return name == "_to_copy" and result.device.type == device and not _is_asynchronous(args[0], kwargs)
    if {name, name.removesuffix("_"), f"{name}.{overload}"} & READ_BACK:
        return True
    if name == FROM_PYTHON:
        return True
    if name in INDEXING:
        indices = [index for index in tree_leaves(args[1]) if isinstance(index, Tensor)]
        return any(index.dtype in (torch.bool, torch.uint8) or index.device.type != device for index in indices)
    if name == "copy_":
        into, source, *more = args
        crosses = into.device.type != source.device.type
        return crosses and not _is_asynchronous(source, {"non_blocking": any(more), **kwargs})
    return name == "_to_copy" and result.device.type != device


def _is_asynchronous(source: Tensor, kwargs: Mapping[str, Any]) -> bool:
    """Whether a copy of ``source`` to a device goes on while Python does; none to the CPU may."""
    return bool(kwargs.get("non_blocking")) and source.device.type == "cpu" and source.is_pinned()


def _asked_from() -> str:
    """The innermost line of the package that is being executed; outside of it, the innermost that is not PyTorch's."""
    frames = [frame for frame in traceback.extract_stack() if not frame.filename.startswith((TORCH, __file__))]
    own = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    where = (own or frames)[-1]
    return f"{Path(where.filename).name}:{where.lineno}"


def of_steps(experiment: AnyExperiment, steps: int = 1, *, first: int = 1, device: str = "cpu") -> Operations:
    """The operations of ``steps`` steps of the first epoch, which come after ``first`` ones that are not counted.

    What an epoch does once, before its first step, is not counted where ``first`` is 1 at least.
    """
    training = experiment.train(1, 0)
    _take(training, first)
    operations = Operations(device)
    with operations:
        _take(training, steps)
    return operations


def _take(training: Iterator[int], steps: int) -> None:
    assert len(list(itertools.islice(training, steps))) == steps, "the epoch has too few steps"
