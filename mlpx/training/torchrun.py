"""What torchrun tells each process that it starts, in its environment. Torch is not imported here."""

import os
from typing import NamedTuple

from mlpx.errors import Diverged, Interrupted, Lost, MlpxError, UsageError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


class Place(NamedTuple):
    """Which process this is of those that torchrun has started.

    Args:
        rank: Its number among all of them, from 0.
        size: How many there are, on all machines.
        local_rank: Its number among those of its machine, from 0.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


ALONE = Place()


def place() -> Place:
    """The place of this process; the only one where torchrun has not started it.

    Raises:
        UsageError: The variables contradict one another.
    """
    values = [os.environ.get(name, "") for name in NAMES]
    if not (values[0] and values[1]):
        return ALONE
    try:
        found = Place(*map(int, values))
    except ValueError:
        found = Place(-1)
    if not 0 <= found.local_rank <= found.rank < found.size:
        given = ", ".join(f"{name}={value!r}" for name, value in zip(NAMES, values, strict=True))
        raise UsageError(given, "is no place among several processes", "Let torchrun set them, or unset them.")
    return found


def tells(error: MlpxError) -> bool:
    """Whether this process tells the user of an error: the first one of all, the others of what is theirs alone."""
    is_first = os.environ.get("RANK", "0") == "0"
    return is_first or not isinstance(error, UsageError | Diverged | Interrupted | Lost)


def require_one_process(what: str) -> None:
    """Refuse to do ``what`` in several processes.

    Raises:
        UsageError: There are several.
    """
    size = place().size
    if size > 1:
        raise UsageError(what, f"has no use for several processes, and torchrun started {size}", "Leave torchrun out.")
