"""Run folders: making one, and holding one while its run goes on."""

import contextlib
import itertools
import json
import math
import os
import re
import shlex
import shutil
import traceback
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from mlpx.errors import Bug, Locked, MachineError, MlpxError, UsageError, as_mlpx_error, reason
from mlpx.files import exists, remove_all, remove_temporaries, sync_folder, temporaries, temporary_for, write_files
from mlpx.runs.holding import Hold
from mlpx.settings.base import Settings
from mlpx.settings.files import to_toml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
STAMP = re.compile(r"\d{8}-\d{6}-")
"""The time with which the name of a run folder begins."""
LATEST = "latest"
LEFTOVER_SECONDS = 3600.0
"""Making a folder takes less than a second; one that is still unfinished after this time was given up."""


class Run:
    """A run folder held by this process; ``document`` is what ``run.json`` says."""

    def __init__(self, path: Path) -> None:
        """Take the folder, and remove what a killed process left half-written in it.

        Raises:
            Locked: A live process holds it.
            OSError: It cannot be taken.
        """
        self.document: dict[str, Any] = {}
        with contextlib.ExitStack() as undo:
            self._hold = undo.enter_context(Hold(path.absolute()))
            # Removing these also keeps a holder that stood still, and was overtaken, from renaming what it had written.
            left = [*temporaries(self.path), *temporaries(self.checkpoints)]
            # What was listed before this check is not of a process that takes the run over after it.
            self.require_held()
            remove_all(left)
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object = None, error: BaseException | None = None, trace: object = None) -> None:
        """Let the folder go. Where another process has taken it over, whatever failed is reported as that."""
        self._hold.__exit__(kind, error, trace)

    @property
    def path(self) -> Path:
        """The absolute path of the folder."""
        return self._hold.path

    @path.setter
    def path(self, path: Path) -> None:
        self._hold.path = path

    def require_held(self) -> None:
        """Check that this process still holds the folder, before something durable is written.

        Raises:
            Locked: Another process has taken it over.
            OSError: That cannot be told, as when the folder was deleted.
        """
        self._hold.require()

    def write(self, files: Mapping[str, bytes]) -> None:
        """Put files into the folder, durably, each in one step.

        Raises:
            Locked: Another process has taken the folder over.
            OSError: A file cannot be written. The error names it.
        """
        write_files(self.path, files, self.require_held)

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    def write_settings(self, settings: Settings) -> None:
        """Write ``config.toml``."""
        self.write({"config.toml": to_toml(settings).encode()})

    def update(self, facts: Mapping[str, Any]) -> None:
        """Change what ``run.json`` says; a number that is not finite becomes null."""
        self.document |= facts
        text = json.dumps(finite(self.document), indent=2, allow_nan=False) + "\n"
        self.write({"run.json": text.encode()})

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
            self.write({"error.log": "".join(traceback.format_exception(error)).encode(errors="replace")})
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

    def forget_failure(self) -> None:
        """Remove the ``error.log`` of an earlier attempt.

        Raises:
            Locked: Another process has taken the folder over.
        """
        self.require_held()
        (self.path / "error.log").unlink(missing_ok=True)


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
        run = _create(path.absolute(), settings, rename)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = f"cannot make a run folder there: {reason(error)}"
        raise MachineError(runs_dir, why, "Choose another --runs-dir.") from error
    point_latest(runs_dir, run.path.name)
    return run


def create_at(path: Path, settings: Settings) -> Run:
    """Make and hold the new run folder ``path``, in whose place there may be an empty folder.

    Raises:
        UsageError: There is something else.
        Locked: Another process has made it in the meantime.
        MachineError: The folder cannot be made.
    """
    try:
        return _create(path.absolute(), settings, _rename_exactly)
    except (OSError, ValueError) as error:
        if os.path.exists(path / "config.toml"):
            raise Locked(path, "another process has made it just now", "Repeat the command.") from error
        if os.path.lexists(path):
            why = f"{path} is there already, and is no run"
            raise UsageError("--into", why, "Give a run, or a new name.") from error
        raise MachineError("--into", f"cannot make {path}: {reason(error)}", "Choose another.") from error


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


def _create(path: Path, settings: Settings, rename: Callable[[Path, Path], Path]) -> Run:
    """Make a run folder under a hidden name, and give it the name ``path``, or what ``rename`` makes of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(path.parent, LEFTOVER_SECONDS)
    made = temporary_for(path)
    made.mkdir()
    try:
        with contextlib.ExitStack() as undo:
            run = undo.enter_context(Run(made))
            run.write_settings(settings)
            made = run.path = rename(made, path)
            sync_folder(path.parent)
            undo.pop_all()
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return run


def _rename_exactly(hidden: Path, path: Path) -> Path:
    os.rename(hidden, path)
    return path


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
    temporary = temporary_for(link)
    try:
        if exists(link) and not link.is_symlink():
            return
        os.symlink(name, temporary)
        os.replace(temporary, link)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        warnings.warn(f"{link} does not point at this run: {reason(error)}", stacklevel=2)
