"""Every kind of failure: its exit code, its message, and the status that it leaves in ``run.json``.

A message is one line, ``what: why. what to do``, made of the three arguments of :class:`MlpxError`.
"""

import difflib
import signal
from collections.abc import Collection

MAX_MESSAGE = 600
MIN_REASON = 200


class MlpxError(Exception):
    """A failure that the user can do something about.

    ``exit_code`` is the program's exit code, and ``status`` the status of the run in ``run.json``.

    Args:
        what: What failed: an option, a file, a folder.
        why: The reason, without a period.
        remedy: What the user can do, as whole sentences. It is never cut, however long the reason is.
    """

    exit_code = 1
    status = "failed"

    def __init__(self, what: object, why: object, remedy: str = "") -> None:
        self.why = str(why).rstrip(". ")
        sentence = _escaped(f"{what}: {self.why}{'' if self.why.endswith('?') else '.'}")
        remedy = _escaped(remedy)
        room = max(MIN_REASON, MAX_MESSAGE - len(remedy) - 1)
        super().__init__(f"{_without_middle(sentence, room)} {remedy}".rstrip())


class UsageError(MlpxError):
    """A command line or a setting that cannot be used."""

    exit_code = 2


class CheckFailed(MlpxError):
    """The run finished, but a ``--check`` does not hold."""

    exit_code = 3


class Diverged(MlpxError):
    """A loss or a weight is not finite."""

    exit_code = 4
    status = "diverged"


class InputError(MlpxError):
    """A run, a checkpoint or data that must be read is missing, broken or out of reach."""

    exit_code = 5


class MachineError(MlpxError):
    """The machine fails: memory, disk, device, permissions."""

    exit_code = 6


class Lost(MachineError):
    """Another of several processes that train together has ended."""


class Locked(MlpxError):
    """A live process is using the run."""

    exit_code = 75


class Interrupted(MlpxError):
    """A signal asked the run to stop. The process must then end by that signal."""

    status = "interrupted"

    def __init__(self, signum: int, why: str, remedy: str = "") -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}", why, remedy)
        self.signum = signum
        self.exit_code = 128 + signum


def did_you_mean(name: str, known: Collection[str], otherwise: str) -> str:
    """The remedy for a name that is not ``known``: the nearest one that is, or ``otherwise`` if none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else otherwise


def printable(text: str) -> str:
    """``text`` on one line, control characters escaped, cut at its end where it is very long."""
    line = _escaped(text)
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 3] + "..."


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _without_middle(line: str, limit: int) -> str:
    """``line``, or its beginning and its end where it is longer than ``limit``."""
    if len(line) <= limit:
        return line
    head = (limit - 3) // 2
    return f"{line[:head]}...{line[head + 3 - limit :]}"


def reason(error: BaseException) -> str:
    """Why a library call failed, on one line: without the error number and the file name of an OSError."""
    text = str(getattr(error, "strerror", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def as_mlpx_error(error: BaseException, remedy: str = "Fix it, and try again.") -> MlpxError | None:
    """What an exception of a library means for the user; ``None`` for an exception that is a bug of mlpx.

    Torch is not imported here, so its exceptions are known by name and text.

    Args:
        error: The exception.
        remedy: What to do about a failing disk, folder or file.
    """
    if isinstance(error, MlpxError):
        return error
    text = str(error)
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, MemoryError) or "OutOfMemoryError" in names:
        return MachineError("out of memory", reason(error), "Free memory or make the run smaller.")
    if isinstance(error, RuntimeError) and ("t allocate memory" in text or "bad_alloc" in text):
        return MachineError("out of memory", reason(error), "Free memory or make the run smaller.")
    if "AcceleratorError" in names or (isinstance(error, RuntimeError) and "CUDA error" in text):
        return MachineError("the GPU failed", reason(error), "Check it, or continue with --device cpu.")
    if isinstance(error, ImportError) and ("failed to map segment" in text or "allocate memory" in text):
        return MachineError("out of memory", reason(error), "Raise the memory limit.")
    if isinstance(error, OSError):
        where = error.filename if error.filename is not None else "input/output"
        return MachineError(where, reason(error), remedy)
    return None


class Bug(MlpxError):
    """A mistake in mlpx, seen as an exception that nothing expected."""

    def __init__(self, error: BaseException, remedy: str) -> None:
        super().__init__("a bug in mlpx", f"{type(error).__name__}: {error}", remedy)
