"""Run folders: making one, and holding one while its run goes on."""

import contextlib
import errno
import fcntl
import itertools
import json
import math
import os
import platform
import re
import shlex
import shutil
import time
import traceback
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from mlpx.errors import Bug, Locked, MachineError, MlpxError, UsageError, as_mlpx_error, reason
from mlpx.files import remove_temporaries, sync_folder, temporary_for, write_file
from mlpx.settings.base import Settings
from mlpx.settings.files import to_toml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
STAMP = re.compile(r"\d{8}-\d{6}-")
"""The time with which the name of a run folder begins."""
LATEST = "latest"
LEFTOVER_SECONDS = 3600.0
"""Making a folder takes less than a second; one that is still unfinished after this time was given up."""


PROBE_SECONDS = 0.5
"""A lock that is taken is tried again for this long, since who only reads runs takes it for an instant."""


class Run:
    """A run folder held by this process, through a lock that the kernel releases however the process ends.

    ``path`` is the absolute path of the folder, and ``document`` what ``run.json`` says.
    """

    def __init__(self, path: Path) -> None:
        """Lock the folder.

        Raises:
            Locked: A live process holds it.
            OSError: The lock cannot be made.
        """
        self.path = path.absolute()
        self.document: dict[str, Any] = {}
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        until = time.monotonic() + PROBE_SECONDS
        while not _try_lock(self._lock, fcntl.LOCK_EX):
            if time.monotonic() >= until:
                holder = os.pread(self._lock, 100, 0).decode(errors="replace").strip() or "another process"
                os.close(self._lock)
                raise Locked(path, f"is held by {holder}", "Wait for it, or stop it.")
            time.sleep(0.01)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    def write_settings(self, settings: Settings) -> None:
        """Write ``config.toml``."""
        write_file(self.path / "config.toml", to_toml(settings).encode())

    def update(self, facts: Mapping[str, Any]) -> None:
        """Change what ``run.json`` says; a number that is not finite becomes null."""
        self.document |= facts
        text = json.dumps(finite(self.document), indent=2, allow_nan=False) + "\n"
        write_file(self.path / "run.json", text.encode())

    def record_start(self, facts: Mapping[str, Any]) -> None:
        """Write that the run is under way.

        What the end of an earlier attempt reported, such as a verdict, is dropped, since the run goes on.

        Args:
            facts: What ``run.json`` is to say of this attempt, such as the device.
        """
        kept = {k: v for k, v in self.document.items() if k in ("command", "started", "resumed_from_epoch")}
        self.document = {"status": "running", "exit_code": None, "started": _now(), **kept, "ended": None}
        self.update({**facts, "metrics": {}})

    def record_end(self, status: str, exit_code: int, metrics: Mapping[str, float], **facts: Any) -> None:
        """Write how the run ended.

        JSON has no numbers that are not finite. A metric that is none becomes null, and ``not_finite`` tells which
        number it is: "inf", "-inf" or "nan".
        """
        self.document.pop("not_finite", None)
        not_finite = {name: str(value) for name, value in metrics.items() if finite(value) is None}
        if not_finite:
            facts["not_finite"] = not_finite
        self.update({"status": status, "exit_code": exit_code, "metrics": metrics, "ended": _now(), **facts})

    def record_failure(self, error: Exception, metrics: Mapping[str, float]) -> None:
        """Write how the run failed and why, and the traceback to ``error.log`` where that is a bug of mlpx."""
        failure = self.failure(error)
        if isinstance(failure, Bug):
            write_file(self.path / "error.log", "".join(traceback.format_exception(error)).encode(errors="replace"))
        self.record_end(failure.status, failure.exit_code, metrics, error=str(failure))

    def failure(self, error: Exception) -> MlpxError:
        """What an exception means for this run, in the words that are printed and recorded."""
        remedy = f"Fix it, then go on with 'mlpx resume {shlex.quote(str(self.path))}'."
        return as_mlpx_error(error, remedy) or Bug(error, f"The traceback is in {self.path / 'error.log'}.")

    def add_warning(self, text: str) -> None:
        """Note a warning; the next change of ``run.json`` writes it."""
        noted = self.document.setdefault("warnings", [])
        if text not in noted:
            noted.append(text)

    def add_resumption(self, epoch: int) -> None:
        """Note that the run goes on from ``epoch``; the next change of ``run.json`` writes it."""
        before = self.document.get("resumed_from_epoch")
        self.document["resumed_from_epoch"] = [*(before if isinstance(before, list) else []), epoch]

    def tidy(self) -> None:
        """Remove temporary files of a killed process, and the ``error.log`` of an earlier attempt."""
        (self.path / "error.log").unlink(missing_ok=True)
        for folder in (self.path, self.checkpoints):
            remove_temporaries(folder)


def is_held(path: Path) -> bool:
    """Whether a live process holds the run folder ``path``, or, where no one can tell, might hold it.

    The lock is tried for an instant, shared, so that readers do not hinder one another; :class:`Run` tries again.
    """
    try:
        lock = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno != errno.ELOOP  # a link is not what mlpx makes
    try:
        return not _try_lock(lock, fcntl.LOCK_SH)
    except OSError:
        return True
    finally:
        os.close(lock)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def create(runs_dir: Path, settings: Settings, name: str) -> Run:
    """Make and lock a new folder ``runs_dir/YYYYMMDD-HHMMSS-experiment-name`` (UTC), and point ``latest`` at it.

    The folder is made under a hidden name and then renamed: it appears locked and with its ``config.toml``, or not at
    all.

    Raises:
        UsageError: ``name`` cannot be part of a folder's name.
        MachineError: The folder cannot be made.
    """
    require_name(name)
    path = stamped(runs_dir, settings.experiment, name)
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        remove_temporaries(runs_dir, LEFTOVER_SECONDS)
        run = _create_hidden(path, settings)
        try:
            run.path = rename(run.path, path.absolute())
            sync_folder(runs_dir)
        except BaseException:
            shutil.rmtree(run.path, ignore_errors=True)
            raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = f"cannot make a run folder there: {reason(error)}"
        raise MachineError(runs_dir, why, "Choose another --runs-dir.") from error
    point_latest(runs_dir, run.path.name)
    return run


def stamped(runs_dir: Path, experiment: str, name: str) -> Path:
    """The path of a new folder that begins now (UTC)."""
    return runs_dir / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{experiment}-{name}"


def require_name(name: str) -> None:
    """Check that ``name`` can be part of a folder's name on any system.

    Raises:
        UsageError: It cannot.
    """
    if not NAME.fullmatch(name):
        rule = "Use letters, digits, '.', '_' and '-', a letter or digit first, 64 at most."
        raise UsageError("--name", f"{name!r} is not a name", rule)


def finite(value: Any) -> Any:
    """``value`` with ``None``, as JSON needs it, in place of each number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _create_hidden(path: Path, settings: Settings) -> Run:
    """A complete run folder, under a temporary name for ``path``."""
    hidden = temporary_for(path)
    hidden.mkdir()
    try:
        run = Run(hidden)
        run.write_settings(settings)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    return run


def rename(hidden: Path, path: Path) -> Path:
    """Rename the folder to ``path``, or where that exists to ``path-2``, ``path-3``, …; the name it got."""
    for number in itertools.count(1):
        free = path if number == 1 else path.with_name(f"{path.name}-{number}")
        # The kernel would replace an empty folder.
        if not os.path.lexists(free):
            try:
                os.rename(hidden, free)
            except OSError:
                # Perhaps another process took the name in the meantime.
                if not os.path.lexists(free):
                    raise
            else:
                return free
    raise AssertionError  # the count has no end


def point_latest(runs_dir: Path, name: str) -> None:
    """Replace the link ``latest`` in one step.

    Anything of that name that is not a link belongs to the user and stays. Where no link can be made, as on some
    file systems or over the link of another user, a warning says so.
    """
    link = runs_dir / LATEST
    if link.exists() and not link.is_symlink():
        return
    temporary = temporary_for(link)
    try:
        os.symlink(name, temporary)
        os.replace(temporary, link)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        warnings.warn(f"{link} does not point at this run: {reason(error)}", stacklevel=2)
