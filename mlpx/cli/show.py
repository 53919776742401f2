"""``mlpx show``: a run or a sweep on one screen, in whatever state it is."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from mlpx.cli import streams, sweep_overview
from mlpx.cli.options import Shape
from mlpx.cli.overview import Overview
from mlpx.errors import InputError, UsageError, did_you_mean
from mlpx.runs import reading, records
from mlpx.runs.facts import Facts
from mlpx.runs.metrics import read_columns
from mlpx.runs.records import Record
from mlpx.settings.base import Settings
from mlpx.settings.metrics import EPOCH, Metric, columns
from mlpx.sweeps import folder

MAX_ROWS = 10_000
"""Of a longer ``metrics.csv`` about so many rows are drawn."""


def show(reference: str, curves: Sequence[str], shape: Shape, runs_dir: Path) -> None:
    """Print a run or a sweep.

    Args:
        reference: The run or the sweep, as :func:`mlpx.runs.reading.find` takes it.
        curves: The columns of ``metrics.csv`` to draw; none stands for the losses. A sweep has none.
        shape: What is printed: the screen, JSON or the path.
        runs_dir: The runs folder.

    Raises:
        InputError: There is no such run, or its ``config.toml``, ``run.json`` or ``sweep.toml`` is broken.
        UsageError: There is no such column.
    """
    sweep = folder.find(reference, runs_dir)
    if sweep is not None:
        _show_sweep(sweep, curves, shape)
        return
    path = reading.find(reference, runs_dir)
    if shape == "quiet":
        print(path)
        return
    record, problem = _read(path)
    facts = Facts.of(record.document)
    if shape == "json":
        print(json.dumps({**record.as_json(), **facts.as_json()}, allow_nan=False))
    else:
        metrics = _to_draw(record.settings, curves)
        rows: dict[str, list[float]] = {}
        try:
            rows = _rows(record, metrics)
        except InputError as error:
            problem = str(error)
        size = shutil.get_terminal_size()
        Overview(size.columns, size.lines - bool(problem)).print(record, facts, metrics, rows)
    if problem:
        streams.warn(problem)


def _show_sweep(path: Path, curves: Sequence[str], shape: Shape) -> None:
    if curves:
        raise UsageError("--curve", "a sweep has no curves", f"Give one of its runs, such as {path.name}/RUN.")
    if shape == "quiet":
        print(path)
        return
    sweep = folder.read(path)
    if shape == "json":
        sweep_overview.print_json(sweep)
    else:
        sweep_overview.show(sweep, *shutil.get_terminal_size())


def _read(path: Path) -> tuple[Record, str]:
    """The record, without the last row where ``metrics.csv`` is broken, and then what is wrong with it."""
    try:
        return records.read(path), ""
    except InputError as error:
        return records.read(path, rows=False), str(error)


def _to_draw(settings: Settings, names: Sequence[str]) -> list[Metric]:
    """The metrics of that name, or, without names, the losses that ``loss.png`` shows."""
    known = {metric.name: metric for metric in columns(settings.metrics, len(settings.seeds)) if metric != EPOCH}
    for name in names:
        if name not in known:
            remedy = did_you_mean(name, known, f"There are {', '.join(known)}.")
            raise UsageError("--curve", f"metrics.csv has no column {name!r}", remedy)
    if names:
        return [known[name] for name in dict.fromkeys(names)]
    return [metric for metric in known.values() if metric.axis and metric.kind == "loss"]


def _rows(record: Record, metrics: Sequence[Metric]) -> dict[str, list[float]]:
    """The columns of ``metrics.csv`` that are to be drawn.

    Raises:
        InputError: It is broken, or lacks a column.
    """
    path = record.path / "metrics.csv"
    names = [EPOCH.name, *(metric.name for metric in metrics)]
    rows = read_columns(path, names, MAX_ROWS)
    missing = [name for name in names if name not in rows]
    if missing and (rows or record.status in records.ENDED):
        why = f"has no column {', '.join(missing)}" if rows else "is missing or empty"
        raise InputError(path, why, "No curve is drawn.")
    return rows if not missing else {}
