"""The folder of a sweep: ``sweep.toml``, and the folder of each run, laid out before the first of them starts."""

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlpx.errors import InputError, MachineError, UsageError, reason
from mlpx.files import (
    TEMPORARY,
    exists,
    remove_all,
    remove_temporaries,
    sync_folder,
    temporaries,
    temporary_for,
    write_file,
)
from mlpx.runs import folder, reading
from mlpx.runs.holding import CLAIMS, LOCK, Hold
from mlpx.settings.base import Settings
from mlpx.settings.files import to_toml
from mlpx.sweeps.designs import Design, identity
from mlpx.sweeps.request import Request

FILE = reading.SWEEP_FILE
PICTURE = "sweep.png"
MAX_NAME = 40
"""The settings in the name of a sweep's folder take no more characters than this."""


@dataclass(frozen=True)
class Sweep:
    """A sweep: the absolute path of its folder, and what was asked of it last."""

    path: Path
    request: Request

    @cached_property
    def design(self) -> Design:
        """The runs that were asked for last; the folder may hold more."""
        return self.request.design()

    @cached_property
    def _places(self) -> dict[tuple[str, ...], int]:
        return {identity(cell): number for number, cell in enumerate(self.design.cells)}

    def place(self, settings: Settings) -> int:
        """The place of a run in the order of the design, from 0; runs of earlier requests come last."""
        return self._places.get(identity(settings), len(self._places))

    def runs(self) -> list[Path]:
        """The folders of the runs in their order; one whose ``config.toml`` cannot be read comes last."""

        def place(run: Path) -> tuple[int, str]:
            try:
                return self.place(reading.settings_of(run)), run.name
            except (InputError, OSError):
                return len(self._places), run.name

        return sorted(reading.runs_in(self.path), key=place)


def find(reference: str, runs_dir: Path) -> Path | None:
    """The folder of the sweep of that name or path; ``None`` if it is no sweep's."""
    return next((path.resolve() for path in reading.places(reference, runs_dir) if reading.is_sweep(path)), None)


def read(path: Path) -> Sweep:
    """The sweep in the folder ``path``.

    Raises:
        InputError: Its ``sweep.toml`` cannot be used.
    """
    try:
        sweep = Sweep(path.absolute(), Request.read(path / FILE))
        # What stands in the file is checked here, so that an error is one of reading.
        _ = sweep.design
        return sweep
    except UsageError as error:
        raise InputError("not a sweep that can be used", error, "Correct it, or lay the sweep out anew.") from error


def name_of(design: Design) -> str:
    """The end of the name of a new sweep's folder: ``sweep-degree-seed``."""
    name = "-".join(["sweep", *design.varying])
    return name if len(name) <= MAX_NAME else f"sweep-{len(design.varying)}-settings"


def create(runs_dir: Path, name: str, request: Request, design: Design) -> Sweep:
    """Lay out a new sweep in ``runs_dir``, and point ``latest`` at it; ``name`` ends the folder's name.

    Raises:
        UsageError: ``name`` cannot be part of a folder's name.
        MachineError: The folder cannot be made.
    """
    folder.require_name(name)
    path = folder.stamped(runs_dir, request.model.experiment, name)
    try:
        made = _lay_out(path, request, design)
        try:
            made = folder.rename(made, path.absolute())
            sync_folder(runs_dir)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = f"cannot lay out a sweep there: {reason(error)}"
        raise MachineError(runs_dir, why, "Choose another --runs-dir.") from error
    folder.point_latest(runs_dir, made.name)
    return Sweep(made, request)


def create_or_extend(path: Path, request: Request, design: Design) -> Sweep:
    """Lay out a sweep in exactly the folder ``path``, or, where it holds one, add the runs that it lacks.

    An empty folder becomes a sweep too. What a killed process left of this, the same call completes.

    Raises:
        UsageError: The folder holds something else.
        InputError: The ``sweep.toml`` in it is broken.
        MachineError: The folder cannot be made or written.
    """
    path = path.absolute()
    try:
        if not os.path.lexists(path):
            hidden = _lay_out(path, request, design)
            try:
                os.rename(hidden, path)
                sync_folder(path.parent)
                return Sweep(path, request)
            except OSError:
                # Perhaps another process laid it out in the meantime.
                if not reading.is_sweep(path):
                    raise
            finally:
                shutil.rmtree(hidden, ignore_errors=True)
        _extend(path, request, design)
    except (OSError, ValueError) as error:
        raise MachineError("--into", f"cannot lay out a sweep in {path}: {reason(error)}", "Choose another.") from error
    return Sweep(path, request)


def _lay_out(path: Path, request: Request, design: Design) -> Path:
    """A complete sweep under a temporary name for ``path``, so that it appears with all its runs or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(path.parent, folder.LEFTOVER_SECONDS)
    hidden = temporary_for(path)
    hidden.mkdir()
    try:
        (hidden / FILE).write_bytes(request.to_toml().encode())
        for name, cell in zip(design.names, design.cells, strict=True):
            _make_run(hidden / name, cell)
        # One synchronization of everything takes less time than two for each run.
        os.sync()
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    return hidden


def _extend(path: Path, request: Request, design: Design) -> None:
    """Add the runs that the sweep lacks, one process at a time; an empty folder lacks all of them."""
    if not (exists(path) and stat.S_ISDIR(os.stat(path).st_mode)):
        raise _no_sweep(path)
    _require_of(request.model.experiment, path)
    text = request.to_toml()
    hidden: dict[Path, Path] = {}
    with Hold.wait_for(path) as hold, contextlib.ExitStack() as undo:
        undo.callback(lambda: remove_all(hidden))
        _require_of(request.model.experiment, path)
        # A holder that stood still, and was overtaken, must not name these any more.
        same = [each for each in temporaries(path) if each.name[1:].rsplit(".", 2)[0] in (FILE, *design.names)]
        left = [*temporaries(path, folder.LEFTOVER_SECONDS), *same]
        hold.require()
        remove_all(left)
        present = _identities(path)
        missing = [pair for pair in zip(design.names, design.cells, strict=True) if identity(pair[1]) not in present]
        for name, cell in missing:
            temporary = temporary_for(path / name)
            hidden[temporary] = path / name
            _make_run(temporary, cell)
        if missing:
            os.sync()
        # This comes before the runs, since without it the folder is no sweep, which the same call could complete.
        write_file(path / FILE, text.encode(), hold.require)
        for temporary, run in hidden.items():
            hold.require()
            folder.rename(temporary, run)
        sync_folder(path)


def _require_of(experiment: str, path: Path) -> None:
    """Check that the folder is a sweep of the experiment, or holds nothing but what a killed process left."""
    # Listed first: another process may make it a sweep just now, beginning with the file by which it is one.
    names = os.listdir(path)
    if reading.is_sweep(path):
        before = read(path).request.model.experiment
        if before != experiment:
            raise UsageError("--into", f"{path} is a sweep of {before}", f"Give a sweep of {experiment}.")
    elif not all(name in (LOCK, CLAIMS) or TEMPORARY.fullmatch(name) for name in names):
        raise _no_sweep(path)


def _no_sweep(path: Path) -> UsageError:
    return UsageError("--into", f"{path} is there already, and is no sweep", "Give a sweep, or a new name.")


def _identities(path: Path) -> set[tuple[str, ...]]:
    """What tells the runs of a sweep from one another; one whose ``config.toml`` is broken is none."""
    found = set()
    for run in reading.runs_in(path):
        with contextlib.suppress(InputError):
            found.add(identity(reading.settings_of(run)))
    return found


def _make_run(path: Path, settings: Settings) -> None:
    path.mkdir()
    (path / "config.toml").write_bytes(to_toml(settings).encode())
