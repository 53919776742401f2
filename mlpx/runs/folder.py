"""Run folders: making one, and holding one."""

import contextlib
import fcntl
import itertools
import json
import math
import os
import platform
import re
import secrets
import shutil
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from mlpx.errors import Locked, MachineError, UsageError, as_mlpx_error
from mlpx.files import remove_temporaries, sync_folder, write_file
from mlpx.settings.base import Settings
from mlpx.settings.files import to_toml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LATEST = "latest"


class Run:
    """A run folder held by this process, by a lock that the kernel frees whatever happens to the process."""

    def __init__(self, path: Path) -> None:
        """Lock the folder.

        Raises:
            Locked: a live process holds it.
        """
        self.path = path.absolute()
        self.document: dict[str, Any] = {}
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 100, 0).decode(errors="replace").strip() or "another process"
            os.close(self._lock)
            raise Locked(path, f"is held by {holder}", "Wait for it, or stop it.") from None
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
        """Write that the run is under way, with the ``facts`` of this attempt.

        What an earlier end reported, such as a verdict, goes: it does not hold for the run as it goes on.
        """
        kept = {k: v for k, v in self.document.items() if k in ("command", "started", "resumed_from_epoch")}
        self.document = {"status": "running", "exit_code": None, "started": _now(), **kept, "ended": None}
        self.update({**facts, "metrics": {}})

    def record_end(self, status: str, exit_code: int, metrics: Mapping[str, float], **facts: Any) -> None:
        """Write how the run ended."""
        self.update({"status": status, "exit_code": exit_code, "metrics": metrics, "ended": _now(), **facts})

    def record_failure(self, error: Exception, metrics: Mapping[str, float]) -> None:
        """Write how the run failed, with the traceback in ``error.log`` where that is a bug of ours."""
        known = as_mlpx_error(error)
        if known is None:
            write_file(self.path / "error.log", "".join(traceback.format_exception(error)).encode(errors="replace"))
        self.record_end(known.status if known else "failed", known.exit_code if known else 1, metrics)

    def add_resumption(self, epoch: int) -> None:
        """Note that the run goes on from ``epoch``."""
        before = self.document.get("resumed_from_epoch")
        self.document["resumed_from_epoch"] = [*(before if isinstance(before, list) else []), epoch]

    def tidy(self) -> None:
        """Remove what a killed process left half-written, and the log of a bug that may be mended."""
        (self.path / "error.log").unlink(missing_ok=True)
        for folder in (self.path, self.checkpoints):
            remove_temporaries(folder)


def create(runs_dir: Path, settings: Settings, name: str) -> Run:
    """Make and lock a new folder ``runs_dir/YYYYMMDD-HHMMSS-experiment-name`` (UTC) with its ``config.toml``.

    ``runs_dir/latest`` then points at it.

    Raises:
        UsageError: the name has other characters than a folder's name may have.
        MachineError: the folder cannot be made.
    """
    require_name(name)
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{settings.experiment}-{name}"
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        path = _make_folder(runs_dir, stem)
        try:
            run = Run(path)
            run.write_settings(settings)
            sync_folder(runs_dir)
            _point_latest(runs_dir, path.name)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MachineError(
            runs_dir, f"cannot make a run folder there: {reason}", "Choose another --runs-dir."
        ) from error
    return run


def require_name(name: str) -> None:
    """Raise UsageError for a name that could not end a folder's name everywhere."""
    if not NAME.fullmatch(name):
        rule = "Use letters, digits, '.', '_' and '-', a letter or digit first, 64 at most."
        raise UsageError("--name", f"{name!r} is not a name", rule)


def finite(value: Any) -> Any:
    """``value`` with every number that is not finite replaced by ``None``, as JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _make_folder(runs_dir: Path, stem: str) -> Path:
    """A folder that is this process's alone: ``stem``, or ``stem-2``, ``stem-3``, … where that is taken."""
    for number in itertools.count(1):
        path = runs_dir / (stem if number == 1 else f"{stem}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError  # the count has no end


def _point_latest(runs_dir: Path, name: str) -> None:
    """Replace the link ``latest`` atomically; anything there that is no link is the user's and stays."""
    link = runs_dir / LATEST
    if link.exists() and not link.is_symlink():
        return
    temporary = runs_dir / f".{LATEST}.{secrets.token_hex(4)}.tmp"
    os.symlink(name, temporary)
    os.replace(temporary, link)
