"""What can go wrong, once: each kind of failure with its exit code and the status it leaves in ``run.json``.

A message is one line, ``what: why. what to do``, made of the three arguments.
"""

import signal

MAX_MESSAGE = 600


class MlpxError(Exception):
    """A failure that the user or the machine can mend; ``exit_code`` and ``status`` say how the run ends."""

    exit_code = 1
    status = "failed"

    def __init__(self, what: object, why: object, remedy: str = "") -> None:
        reason = str(why).rstrip(". ")
        super().__init__(printable(f"{what}: {reason}{'' if reason.endswith('?') else '.'} {remedy}".rstrip()))


class UsageError(MlpxError):
    """A command line or a setting that cannot be used."""

    exit_code = 2


class CheckFailed(MlpxError):
    """The run finished, but a ``--check`` does not hold."""

    exit_code = 3


class Diverged(MlpxError):
    """A loss or a weight that is not finite."""

    exit_code = 4
    status = "diverged"


class InputError(MlpxError):
    """Something to be read is missing, broken or out of reach: a run, a checkpoint, data."""

    exit_code = 5


class MachineError(MlpxError):
    """The machine cannot: memory, disk, device, permissions."""

    exit_code = 6


class Locked(MlpxError):
    """The run is in use by a live process."""

    exit_code = 75


class Interrupted(MlpxError):
    """A signal asked the run to stop; the process is to die by it."""

    status = "interrupted"

    def __init__(self, signum: int, why: str, remedy: str = "") -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}", why, remedy)
        self.signum = signum
        self.exit_code = 128 + signum


def printable(text: str) -> str:
    """``text`` on one line, control characters escaped, cut to a length that a person reads."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 3] + "..."


def as_mlpx_error(error: BaseException) -> MlpxError | None:
    """What a library's exception means for the user; ``None`` for one that is a bug of ours.

    Torch is not imported here, so its exceptions are known by name and text.
    """
    if isinstance(error, MlpxError):
        return error
    text = str(error).strip()
    reason = text.splitlines()[0] if text else type(error).__name__
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, MemoryError) or "OutOfMemoryError" in names:
        return MachineError("out of memory", reason, "Free memory or make the run smaller.")
    if isinstance(error, RuntimeError) and ("t allocate memory" in text or "bad_alloc" in text):
        return MachineError("out of memory", reason, "Free memory or make the run smaller.")
    if "AcceleratorError" in names or (isinstance(error, RuntimeError) and "CUDA error" in text):
        return MachineError("the GPU failed", reason, "Check it, or continue with --device cpu.")
    if isinstance(error, ImportError) and ("failed to map segment" in text or "allocate memory" in text):
        return MachineError("out of memory", reason, "Raise the memory limit.")
    if isinstance(error, OSError):
        where = error.filename if error.filename is not None else "input/output"
        return MachineError(where, error.strerror or reason, "Mend it, then go on with 'mlpx resume'.")
    return None


class Bug(MlpxError):
    """A mistake of ours, met as an exception that nothing expected."""

    def __init__(self, error: BaseException, remedy: str) -> None:
        super().__init__("a bug in mlpx", f"{type(error).__name__}: {error}", remedy)
