"""Scoring a run again from its weights."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from mlpx.cli import train
from mlpx.cli.views import Screen
from mlpx.errors import CheckFailed, InputError, UsageError
from mlpx.runs import reading
from mlpx.runs.events import End, Table
from mlpx.settings.files import resolve
from mlpx.training import devices
from mlpx.training.replicas import main_columns

ROUNDING = 1e-5  # by which another machine, adding in another order, may differ


def evaluate(run: Path, changes: Mapping[str, str], device: str, *, as_json: bool) -> None:
    """Show the final figures of the run's weights, on the run's data or, by ``changes`` to its settings, on other data.

    Raises:
        CheckFailed: on the run's own data, they differ from those recorded by more than rounding.
        InputError: the run has not finished, or data or weights cannot be had.
        UsageError: the run has no such settings.
    """
    train.collect_garbage()
    settings = reading.settings_of(run)
    for name in changes:
        if name not in type(settings).model_fields:
            option = "--" + name.replace("_", "-")
            raise UsageError(option, f"a run of {settings.experiment} has no such setting", "Leave it out.")
    recorded = reading.metrics_of(reading.document_of(run))
    if not recorded:
        raise InputError(run, "has not finished, so it has no final figures", "Go on with 'mlpx resume'.")
    settings = resolve(type(settings), {**settings.model_dump(), **changes})
    figures = train.experiment_of(settings).final(settings, devices.choose(device), run)
    compared = None if changes else {name: recorded.get(name) for name in figures}
    if as_json:
        print(
            json.dumps({"event": "evaluation", "run": str(run), "metrics": figures, "recorded": compared}), flush=True
        )
    else:
        summary = "on other data than the run's" if changes else "as recorded" if figures == compared else ""
        columns = main_columns(figures)
        Screen().show(End(figures, [Table(columns, [[figures[name] for name in columns]])], summary, ()))
    if compared is not None:
        _require_same(figures, compared, run)


def _require_same(figures: Mapping[str, float], recorded: Mapping[str, float | None], run: Path) -> None:
    differ = [
        f"{name} is {value} and was {recorded[name]}"
        for name, value in figures.items()
        if not math.isclose(value, recorded[name] or 0.0, rel_tol=ROUNDING)
    ]
    if differ:
        raise CheckFailed("evaluate", "; ".join(differ), f"See {run / 'run.json'}.")
