"""Finding and reading run folders, without locking them and without torch."""

import difflib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlpx import registry
from mlpx.errors import InputError, UsageError, reason
from mlpx.files import read_regular
from mlpx.settings.base import Settings
from mlpx.settings.files import read_toml, validated

NOT_FINITE = ("inf", "-inf", "nan")
TRACES = ("config.toml", "run.json", "metrics.csv", "checkpoints", "weights.safetensors")
"""A folder with one of these is a run, or was one."""


def find(reference: str, runs_dir: Path) -> Path:
    """The folder of a run.

    Args:
        reference: A name inside ``runs_dir``, such as ``latest``, or a path. A name inside ``runs_dir`` never begins
            with a period, so ``.`` and ``..`` are paths.
        runs_dir: The runs folder.

    Raises:
        InputError: There is no such folder, or it is not a run.
    """
    places = _places(reference, runs_dir)
    for path in places:
        if _is_run(path):
            return path.resolve()
    for path in places:
        if os.path.isdir(path):
            _require_access(path)
            raise InputError(path, "is not a run: it has no config.toml", "Give the folder of a run.")
    names = [run.name for run in runs_in(runs_dir)]
    near = difflib.get_close_matches(reference, names, n=3, cutoff=0.5)
    count = {0: "no runs", 1: "one run"}.get(len(names), f"{len(names)} runs")
    remedy = f"The nearest: {', '.join(near)}." if near else f"{runs_dir} holds {count}."
    raise InputError(reference or "an empty name", "no such run", remedy)


def find_runs(reference: str, runs_dir: Path) -> list[Path]:
    """The run of that name or path, or, where it is a folder of runs, the runs in it.

    Raises:
        InputError: There is no such folder, or there are no runs in it.
    """
    places = _places(reference, runs_dir)
    for path in places:
        if _is_run(path):
            return [path.resolve()]
        if inside := runs_in(path):
            return inside
    for path in places:
        if os.path.isdir(path):
            _require_access(path)
            raise InputError(path, "is not a run, and holds no runs", "Give the folder of a run, or a folder of runs.")
    return [find(reference, runs_dir)]


def runs_in(folder: Path) -> list[Path]:
    """The runs in a folder of runs, by name, and what is left of broken ones, or cannot be looked into.

    Links do not count, since ``latest`` is a link to one of the runs.
    """
    try:
        with os.scandir(folder) as entries:
            inside = [Path(entry) for entry in entries if entry.name[0] != "." and entry.is_dir(follow_symlinks=False)]
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return []
    return sorted(
        path for path in inside if any(os.path.lexists(path / name) for name in TRACES) or not os.access(path, os.X_OK)
    )


def _places(reference: str, runs_dir: Path) -> list[Path]:
    """Where a run of that name or path may lie."""
    inside = [runs_dir / reference] if reference and not reference.startswith(".") else []
    return [*inside, Path(reference)] if reference else []


def _require_access(path: Path) -> None:
    if not os.access(path, os.R_OK | os.X_OK):
        raise InputError(path, "cannot be read (Permission denied)", "Make it readable.")


def _is_run(path: Path) -> bool:
    # Unlike the methods of Path, os.path has an answer for any text, such as one too long for a name.
    return os.path.exists(path / "config.toml")


def settings_of(run: Path) -> Settings:
    """The settings in ``config.toml``.

    Raises:
        InputError: It is missing or broken.
    """
    path = run / "config.toml"
    try:
        table = read_toml(path)
        experiment = str(table.get("experiment"))
        if experiment not in registry.EXPERIMENTS:
            raise InputError(path, f"names no known experiment ({experiment!r})", "Start the run anew.")
        return validated(registry.settings_class(experiment), {}, table, path)
    except UsageError as error:
        raise InputError("not a run that can be used", error, "Start the run anew.") from error


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
