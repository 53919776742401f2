"""Finding and reading run folders, without locking them and without torch."""

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpx import registry
from mlpx.errors import InputError, UsageError, reason
from mlpx.files import read_regular
from mlpx.settings.base import Settings
from mlpx.settings.files import read_toml, resolve

NOT_FINITE = ("inf", "-inf", "nan")


def find(reference: str, runs_dir: Path) -> Path:
    """The folder of a run.

    Args:
        reference: A name inside ``runs_dir``, such as ``latest``, or a path. A name inside ``runs_dir`` never begins
            with a period, so ``.`` and ``..`` are paths.
        runs_dir: The runs folder.

    Raises:
        InputError: There is no such folder, or it is not a run.
    """
    inside = [runs_dir / reference] if reference and not reference.startswith(".") else []
    places = [*inside, Path(reference)] if reference else []
    for path in places:
        if _is_run(path):
            return path.resolve()
    for path in places:
        if os.path.isdir(path):
            raise InputError(path, "is not a run: it has no config.toml", "Give the folder of a run.")
    names = [run.name for run in runs_in(runs_dir)]
    near = difflib.get_close_matches(reference, names, n=3, cutoff=0.5)
    count = {0: "no runs", 1: "one run"}.get(len(names), f"{len(names)} runs")
    remedy = f"The nearest: {', '.join(near)}." if near else f"{runs_dir} holds {count}."
    raise InputError(reference or "an empty name", "no such run", remedy)


def runs_in(runs_dir: Path) -> list[Path]:
    """The runs in a runs folder, by name; ``latest``, which is a link to one of them, does not count."""
    paths = sorted(runs_dir.glob("[!.]*")) if os.path.isdir(runs_dir) else []
    return [path for path in paths if _is_run(path) and not path.is_symlink()]


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
        experiment = str(read_toml(path).get("experiment"))
        if experiment not in registry.EXPERIMENTS:
            raise InputError(path, f"names no known experiment ({experiment!r})", "Start the run anew.")
        return resolve(registry.settings_class(experiment), {}, path)
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
