"""Finding and reading run folders, without locking them and without torch."""

import difflib
import json
import os
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlpx import registry
from mlpx.errors import InputError, UsageError, reason
from mlpx.files import NO_FILE, exists, read_regular
from mlpx.settings.base import Settings
from mlpx.settings.files import read_toml, validated

NOT_FINITE = ("inf", "-inf", "nan")
TRACES = ("config.toml", "run.json", "metrics.csv", "checkpoints", "weights.safetensors")
"""A folder with one of these is a run, or was one."""
SWEEP_FILE = "sweep.toml"
"""A folder with this is a sweep, which holds runs."""


def find(reference: str, runs_dir: Path) -> Path:
    """The folder of a run.

    Args:
        reference: A name inside ``runs_dir``, such as ``latest`` or ``SWEEP/RUN``, or a path. A name inside
            ``runs_dir`` never begins with a period, so ``.`` and ``..`` are paths.
        runs_dir: The runs folder.

    Raises:
        InputError: There is no such folder, or it is not a run.
    """
    found = places(reference, runs_dir)
    for path in found:
        if is_run(path):
            return path.resolve()
    for path in found:
        if is_sweep(path):
            raise _is_sweep(reference, path)
    for path in found:
        if os.path.isdir(path):
            _require_access(path)
            raise InputError(path, "is not a run: it has no config.toml", "Give the folder of a run.")
    raise _unknown(reference, runs_dir)


def _is_sweep(reference: str, sweep: Path) -> InputError:
    """The error of a sweep where a run is needed."""
    typed, runs = reference.rstrip("/"), runs_in(sweep)
    one = f"one of its runs, such as {shlex.quote(f'{typed}/{runs[0].name}')}" if runs else "a run"
    why = f"is a sweep of {len(runs)} {'run' if len(runs) == 1 else 'runs'}"
    return InputError(reference, why, f"Give {one}, or list them: mlpx runs {shlex.quote(typed)}.")


def _unknown(reference: str, runs_dir: Path) -> InputError:
    """The error of a name that is no run's; what is near are the runs of a sweep where the name begins with one."""
    start, _, name = reference.rpartition("/")
    sweep = next((path for path in places(start, runs_dir) if is_sweep(path)), None)
    folder = sweep or runs_dir
    runs, sweeps = inside(folder)
    names = [path.name for path in (*runs, *sweeps)]
    near = difflib.get_close_matches(name if sweep else reference, names, n=3, cutoff=0.5)
    count = {0: "no runs", 1: "one run"}.get(len(runs), f"{len(runs)} runs")
    if sweeps:
        count += " and one sweep" if len(sweeps) == 1 else f" and {len(sweeps)} sweeps"
    typed = [f"{start}/{each}" if sweep else each for each in near]
    remedy = f"The nearest: {', '.join(typed)}." if near else f"{folder} holds {count}."
    return InputError(reference or "an empty name", "no such run", remedy)


def find_inside(reference: str, runs_dir: Path) -> tuple[list[Path], list[Path]]:
    """The run of that name or path, or, where it is a folder, the runs and the sweeps in it.

    Raises:
        InputError: There is no such folder, or there is neither in it.
    """
    found = places(reference, runs_dir)
    for path in found:
        if is_run(path):
            return [path.resolve()], []
        runs, sweeps = inside(path)
        if runs or sweeps:
            return runs, sweeps
    for path in found:
        if os.path.isdir(path):
            _require_access(path)
            raise InputError(path, "is not a run, and holds no runs", "Give the folder of a run, or a folder of runs.")
    raise _unknown(reference, runs_dir)


def find_runs(reference: str, runs_dir: Path) -> list[Path]:
    """The run of that name or path, or, where it is a folder of runs, such as a sweep, the runs in it.

    Raises:
        InputError: There is no such folder, or there are no runs in it.
    """
    runs, sweeps = find_inside(reference, runs_dir)
    if not runs:
        raise InputError(reference, "holds sweeps, and no run beside them", f"Give one, such as {sweeps[0]}.")
    return runs


def runs_in(folder: Path) -> list[Path]:
    """The runs in a folder of runs, by name, and what is left of broken ones, or cannot be looked into.

    Links do not count, since ``latest`` is a link to one of the runs.
    """
    return inside(folder)[0]


def inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """The runs in a folder, as :func:`runs_in` has them, and the sweeps in it, by name.

    Raises:
        OSError: The machine fails to tell.
    """
    try:
        with os.scandir(folder) as entries:
            folders = [Path(entry) for entry in entries if entry.name[0] != "." and entry.is_dir(follow_symlinks=False)]
    except ValueError:  # a NUL in the path
        return [], []
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        return [], []
    runs, sweeps = [], []
    for path in sorted(folders):
        if exists(path / TRACES[0], follow=False):
            runs.append(path)
        elif is_sweep(path):
            sweeps.append(path)
        elif any(exists(path / name, follow=False) for name in TRACES[1:]) or not os.access(path, os.X_OK):
            runs.append(path)
    return runs, sweeps


def places(reference: str, runs_dir: Path) -> list[Path]:
    """Where a run of that name or path may lie."""
    inside = [runs_dir / reference] if reference and not reference.startswith(".") else []
    return [*inside, Path(reference)] if reference else []


def is_sweep(path: Path) -> bool:
    """Whether ``path`` is the folder of a sweep."""
    return exists(path / SWEEP_FILE)


def _require_access(path: Path) -> None:
    if not os.access(path, os.R_OK | os.X_OK):
        raise InputError(path, "cannot be read (Permission denied)", "Make it readable.")


def is_run(path: Path) -> bool:
    """Whether ``path`` is the folder of a run."""
    return exists(path / "config.toml")


def settings_of(run: Path) -> Settings:
    """The settings in ``config.toml``.

    Raises:
        InputError: It is missing or broken.
        OSError: The machine cannot read it; it may well be whole.
    """
    path = run / "config.toml"
    try:
        table = read_toml(path)
        experiment = str(table.get("experiment"))
        if experiment not in registry.EXPERIMENTS:
            raise InputError(path, f"names no known experiment ({experiment!r})", "Start the run anew.")
        return validated(registry.settings_class(experiment), {}, table, path)
    except UsageError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno not in NO_FILE:
            raise error.__cause__ from None
        raise InputError("not a run that can be used", error, "Start the run anew.") from error


def require_settings(run: Path, settings: Settings) -> None:
    """Check that a run has these settings, wherever its data lies.

    Raises:
        UsageError: It has others.
        InputError: Its ``config.toml`` is broken.
    """
    there, here = settings_of(run), settings
    before, after = there.model_dump(), here.model_dump()
    names = sorted((before.keys() | after.keys()) - here.places)
    differ = [name for name in names if before.get(name) != after.get(name)]
    if there.experiment != here.experiment:
        raise UsageError("--into", f"{run} is a run of {there.experiment}", "Give another folder.")
    if differ:
        changes = ", ".join(f"{name} is {before.get(name)!r} there, not {after.get(name)!r}" for name in differ)
        cure = "Give the same settings, or another folder."
        if differ == ["epochs"] and before["epochs"] < after["epochs"]:
            cure = f"To extend it: mlpx resume {shlex.quote(str(run))} --epochs {after['epochs']}"
        raise UsageError("--into", f"{run} has other settings: {changes}", cure)


def document_of(run: Path) -> dict[str, Any]:
    """The content of ``run.json``; empty where there is none, because the run was killed before it was written.

    Raises:
        InputError: It is broken or cannot be read.
    """
    path = run / "run.json"
    try:
        document = json.loads(read_regular(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(path, f"cannot be read ({reason(error)})", "Make it readable, or remove it.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not JSON ({error})", "Remove it, and resume.") from error
    if not isinstance(document, dict):
        raise InputError(path, "is not a JSON object", "Remove it, and resume.")
    return document


def diverged_of(document: Mapping[str, Any]) -> dict[int, int]:
    """The replicas of a run that have diverged, with the epochs at which they were found to, from its ``run.json``.

    Raises:
        InputError: It says so in another way than mlpx does.
    """
    try:
        return {int(each["replica"]): int(each["epoch"]) for each in document.get("diverged", ())}
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise InputError("run.json", "its 'diverged' is no list of replicas", "Remove it, and resume.") from error


def metrics_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a finished run, from its ``run.json``; empty for a run that has not finished.

    JSON has no numbers that are not finite, so ``run.json`` has null in their place and names them apart, under
    ``not_finite``. Here they are numbers again. In runs of older versions, which did not name them, they are ``None``.
    """
    metrics = document.get("metrics")
    if document.get("status") != "finished" or not isinstance(metrics, dict):
        return {}
    not_finite = document.get("not_finite")
    named = not_finite.items() if isinstance(not_finite, dict) else ()
    return metrics | {name: float(text) for name, text in named if name in metrics and text in NOT_FINITE}


def moment_of(text: str) -> datetime:
    """A time of ``run.json``; one without a time zone is in UTC.

    Raises:
        ValueError: It is no time.
    """
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
