"""Reading a run: which folder is meant, and what stands in it. Nothing here holds the run."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpx.errors import InputError, UsageError
from mlpx.files import read_regular
from mlpx.settings import MODELS
from mlpx.settings.base import Settings
from mlpx.settings.files import read_toml, resolve


def find(reference: str, runs_dir: Path) -> Path:
    """The run folder that ``reference`` means: ``latest``, a name inside ``runs_dir``, or a path.

    Raises:
        InputError: there is none, or the folder is not a run's.
    """
    if reference:
        for path in (runs_dir / reference, Path(reference)):
            if path.is_dir():
                if not (path / "config.toml").exists():
                    raise InputError(path, "is not a run: it has no config.toml", "Start the run anew.")
                return path.resolve()
    names = sorted(path.name for path in runs_dir.glob("[!.]*") if path.is_dir()) if runs_dir.is_dir() else []
    near = difflib.get_close_matches(reference, names, n=3, cutoff=0.5)
    remedy = f"The nearest: {', '.join(near)}." if near else f"{runs_dir} holds {len(names) or 'no'} runs."
    raise InputError(reference or "an empty name", "no such run", remedy)


def settings_of(run: Path) -> Settings:
    """The settings in ``config.toml``.

    Raises:
        InputError: it is missing or broken.
    """
    path = run / "config.toml"
    try:
        experiment = str(read_toml(path).get("experiment"))
        if experiment not in MODELS:
            raise InputError(path, f"names no known experiment ({experiment!r})", "Start the run anew.")
        return resolve(MODELS[experiment], {}, path)
    except UsageError as error:
        raise InputError("not a run that can be used", error, "Start the run anew.") from error


def document_of(run: Path) -> dict[str, Any]:
    """What ``run.json`` says; a run killed before it was written has none, which reads as empty.

    Raises:
        InputError: it is broken.
    """
    path = run / "run.json"
    try:
        document = json.loads(read_regular(path))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not JSON ({error})", "Remove it, and resume.") from error
    if not isinstance(document, dict):
        raise InputError(path, "is not a JSON object", "Remove it, and resume.")
    return document


def metrics_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a run that has finished, from its ``run.json``; empty for one that has not."""
    metrics = document.get("metrics")
    return metrics if document.get("status") == "finished" and isinstance(metrics, dict) else {}
