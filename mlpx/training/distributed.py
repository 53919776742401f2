"""Data-parallel training: processes that torchrun has started take a share each of every step of one training.

What a step consists of follows from the settings, so every process knows it, and only gradients have to be added up.
All weights are the same in all processes, to the last bit. The first process alone has a run folder, and prints.

What happens to one process, such as a signal, is made known at places where all of them are: a process that ended alone
would leave the others waiting.
"""

import contextlib
import ctypes
import platform
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from mlpx.errors import Diverged, Interrupted, Lost, MachineError, reason
from mlpx.training import torchrun
from mlpx.training.signals import StopFlag, Stopping
from mlpx.training.torchrun import ALONE, Place

T = TypeVar("T")
S = TypeVar("S", bound="Sequence[Any] | NDArray[Any]")

PATIENCE = timedelta(days=1)
"""How long a process waits for the others: one that reads a corpus takes long, and one that ends is noticed at once."""
COMMON = (Interrupted, Diverged)
"""The failures that come to all processes at the same place."""
PR_SET_PDEATHSIG = 1  # of prctl(2)
_FAILURE, _END = "mlpx failure", "mlpx end"  # keys of the store that torchrun keeps


class Group:
    """The processes that train together; where there is only one, all of this costs nothing.

    ``stop`` is what signals to this process are noted in. ``store`` is torchrun's ``torch.distributed.Store``.
    """

    def __init__(self, place: Place = ALONE, store: Any = None) -> None:
        self.rank, self.size, self._local_rank = place
        self.stop: StopFlag | None = None
        self._store = store
        self._of_gpus: dist.ProcessGroup | None = None

    @property
    def is_first_of_machine(self) -> bool:
        """Whether this is the first process of its machine."""
        return self._local_rank == 0

    def share(self, items: S) -> S:
        """This process's share of what is to be done: every item is in one share."""
        return items[self.rank :: self.size]  # type: ignore[return-value]

    def dealt(self, parts: Sequence[S]) -> list[S]:
        """This process's share of each part: items are dealt on from part to part, so that no process gets more of all.

        A process counts at most one item more than another, whatever the lengths of the parts.
        """
        shares, dealt = [], 0
        for part in parts:
            shares.append(part[(self.rank - dealt) % self.size :: self.size])
            dealt += len(part)
        return shares  # type: ignore[return-value]

    def merged(self, shares: Sequence[Sequence[T]]) -> list[T]:
        """The items of all shares, by rank, in the order in which they were before :meth:`share`."""
        merged: list[Any] = [None] * sum(map(len, shares))
        for rank, items in enumerate(shares):
            merged[rank :: self.size] = items
        return merged

    def sum_(self, *tensors: Tensor) -> None:
        """Add up each tensor over all processes, in place, to the same bits in each of them.

        Raises:
            Lost: Another process has ended.
        """
        if self.size == 1:
            return
        with self._watched():
            for tensor in tensors:
                dist.all_reduce(tensor, group=self._of_device(tensor.device))

    def together(self, work: Callable[[], T]) -> list[T]:
        """What ``work`` returns in each process, by rank.

        Raises:
            Lost: Another process has ended.
            Stopping: ``work`` has raised it in one of them.
        """
        if self.size == 1:
            return [work()]
        done: Any
        try:
            done = work()
        except Stopping as stopping:
            done = stopping
        everyone: list[Any] = [None] * self.size
        with self._watched():
            dist.all_gather_object(everyone, done)
        for each in everyone:
            if isinstance(each, Stopping):
                raise each
        return everyone

    def from_first(self, work: Callable[[], T] | None = None) -> T:
        """What ``work`` returns in the first process; the others need none.

        Raises:
            Lost: Another process has ended.
        """
        done = [work() if self.rank == 0 and work is not None else None]
        if self.size > 1:
            with self._watched():
                dist.broadcast_object_list(done, src=0)
        return done[0]  # type: ignore[return-value]

    def wait(self) -> None:
        """Wait until all processes are here.

        Raises:
            Lost: Another process has ended.
        """
        self._most(0)

    def pause(self) -> None:
        """Between parts of what :meth:`together` does: give way to a signal.

        Raises:
            Stopping: This process has got one.
        """
        if self.stop is not None and self.stop.signum is not None:
            raise Stopping(self.stop.signum)

    def agree(self) -> None:
        """Where all processes come by: give way to a signal to any of them.

        Raises:
            Lost: Another process has ended.
            Stopping: One of them has got one.
        """
        own = self.stop.signum if self.stop is not None else None
        signum = self._most(own or 0)
        if signum:
            raise Stopping(signum)

    def _most(self, number: int) -> int:
        if self.size == 1:
            return number
        most = torch.tensor(number)
        with self._watched():
            dist.all_reduce(most, dist.ReduceOp.MAX)
        return int(most)

    def _of_device(self, device: torch.device) -> "dist.ProcessGroup | None":
        """The group that adds up tensors on a device; to agree, that of the CPU is used, so that no GPU has to wait."""
        if device.type != "cuda":
            return None
        if self._of_gpus is None:
            self._of_gpus = dist.new_group(backend="nccl")
        return self._of_gpus

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            what, why = self._told() or ("another process of this training", f"has ended: {reason(error)}")
            raise Lost(what, why, "Start it again, and it goes on from its last checkpoint.") from error

    def end(self, error: Exception | None = None) -> None:
        """Prepare for the end of this process, by an error or without one.

        It leaves word of a failure, which the others notice by its end. torchrun ends all processes as soon as one has
        failed, so where all end, the others let the first one save.
        """
        if self._store is None:
            return
        is_common = error is None or isinstance(error, COMMON)
        # The store goes with torchrun.
        with contextlib.suppress(RuntimeError):
            if not is_common and not isinstance(error, Lost):
                self._store.set(_FAILURE, f"process {self.rank} of {self.size}, on {platform.node()}\n{error}")
            if self.rank == 0:
                self._store.set(_END, "")
            elif is_common:
                self._store.wait([_END], PATIENCE)

    def _told(self) -> tuple[str, str] | None:
        """Which process failed and why, where it has left word."""
        with contextlib.suppress(RuntimeError):
            if self._store is not None and self._store.check([_FAILURE]):
                what, why = self._store.get(_FAILURE).decode(errors="replace").split("\n", 1)
                return what, why
        return None


@contextlib.contextmanager
def joined() -> Iterator[Group]:
    """Train in a group of all processes that torchrun has started, of which this is one, or else in one of its own.

    Raises:
        MachineError: The others cannot be reached.
    """
    place = torchrun.place()
    if place.size == 1:
        yield Group()
        return
    _end_with_torchrun()
    try:
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError, OSError) as error:
        raise MachineError("the other processes", f"cannot be reached: {reason(error)}", "Start all anew.") from error
    group = Group(place, store)
    try:
        yield group
    except Exception as error:
        group.end(error)
        raise
    group.end()
    dist.destroy_process_group()


def _end_with_torchrun() -> None:
    """Let the kernel send SIGTERM to this process when torchrun is killed, which could not do so itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
