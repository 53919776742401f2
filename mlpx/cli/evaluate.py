"""Scoring a run again from its weights. Imports torch, so it is imported late."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlpx import registry
from mlpx.cli.tables import TablePrinter, new_console
from mlpx.errors import CheckFailed, InputError, UsageError
from mlpx.runs import reading
from mlpx.runs.folder import finite
from mlpx.runs.weights import learned_of
from mlpx.settings.files import resolve
from mlpx.settings.metrics import Metric, final
from mlpx.training import devices, statistics

# By so much another machine, which adds in another order, may differ.
RELATIVE_ROUNDING = 1e-5
# Rounding can turn a prediction round: one in ten thousand.
SHARE_ROUNDING = 1.5e-4


def evaluate(run: Path, changes: Mapping[str, str], device: str, *, as_json: bool) -> None:
    """Show the final metrics of the run's weights.

    Args:
        run: The run folder.
        changes: Settings that name other data to score the weights on; then nothing is compared.
        device: Where to compute, as ``--device`` takes it.
        as_json: Whether to print JSON instead of a table.

    Raises:
        CheckFailed: On the run's own data, they differ from those recorded by more than rounding.
        InputError: The run has not finished, or data or weights cannot be had.
        UsageError: The run has no such settings.
    """
    settings = reading.settings_of(run)
    for name in changes:
        if name not in type(settings).model_fields:
            option = "--" + name.replace("_", "-")
            raise UsageError(option, f"a run of {settings.experiment} has no such setting", "Leave it out.")
    recorded = reading.metrics_of(reading.document_of(run))
    if not recorded:
        raise InputError(run, "has not finished, so it has no final figures", "Go on with 'mlpx resume'.")
    settings = resolve(type(settings), {**settings.model_dump(), **changes})
    if ("test_src" in changes) != ("test_tgt" in changes):
        raise UsageError("--test-src and --test-tgt", "only one of them is given", "Give both, or none.")
    experiment_class = registry.experiment_class(settings.experiment)
    with devices.threads(experiment_class.num_threads):
        learned = learned_of(run)
        values = experiment_class.final_metrics(settings, devices.choose(device), learned)
    metrics = statistics.summary(values, learned.diverged)
    compared = None if changes else {name: recorded.get(name) for name in metrics}
    declared = final(settings.metrics, len(settings.seeds))
    if as_json:
        about = {"event": "evaluation", "run": str(run), "metrics": metrics, "recorded": compared}
        print(json.dumps(finite(about), allow_nan=False), flush=True)
    else:
        is_as_recorded = finite(metrics) == finite(compared)
        _print(declared, metrics, "on other data than the run's" if changes else "as recorded" * is_as_recorded)
    if compared is not None:
        _require_same(declared, metrics, compared, run)


def _print(declared: Sequence[Metric], metrics: Mapping[str, float], summary: str) -> None:
    console = new_console()
    printer = TablePrinter(console)
    by_name = {metric.name: metric for metric in declared}
    printer.head([by_name[name] for name in metrics if not by_name[name].is_spread])
    printer.row(metrics)
    console.print(f"\n{summary}")


def _require_same(
    declared: Sequence[Metric], metrics: Mapping[str, float], recorded: Mapping[str, float | None], run: Path
) -> None:
    kinds = {metric.name: metric.kind for metric in declared}
    differ = [
        f"{name} is {value} and was {recorded[name]}"
        for name, value in metrics.items()
        if not _is_same(value, recorded[name], kinds[name])
    ]
    if differ:
        raise CheckFailed("evaluate", "; ".join(differ), f"See {run / 'run.json'}.")


def _is_same(value: float, recorded: float | None, kind: str) -> bool:
    """Whether two values are the same but for rounding; ``None`` is one that was not finite, or not recorded."""
    if recorded is None or not math.isfinite(value):
        return not math.isfinite(value) and (recorded is None or not math.isfinite(recorded))
    rounding = SHARE_ROUNDING if kind == "share" else 0.0
    return math.isclose(value, recorded, rel_tol=RELATIVE_ROUNDING, abs_tol=rounding)
