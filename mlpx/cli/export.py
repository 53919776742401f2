"""``mlpx export``: which runs, what is printed of them, and what a signal does."""

import json
import os
import shlex
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

from mlpx.cli import streams
from mlpx.cli.options import Shape
from mlpx.errors import InputError, Interrupted
from mlpx.reports import choosing, mlflow, tensorboard
from mlpx.reports.contents import Outcome
from mlpx.reports.places import place_of
from mlpx.runs.records import Record
from mlpx.training.signals import StopFlag


def to_tensorboard(references: Sequence[str], where: Sequence[str], to: Path, shape: Shape, runs_dir: Path) -> None:
    """Export runs to a folder for TensorBoard.

    Args:
        references: What to export, as :func:`mlpx.reports.choosing.read_parts` takes it.
        where: Conditions on the runs.
        to: The folder.
        shape: What is printed: the folder and a note, JSON, or the folder.
        runs_dir: The runs folder.

    Raises:
        InputError: There are no such runs.
        UsageError: TensorBoard is not installed, or something else is in the place of a run.
        OSError: The folder cannot be written.
    """
    tensorboard.require_installed()
    records = _started(references, where, runs_dir)
    place = Path(os.path.abspath(to))
    view = f"tensorboard --logdir {shlex.quote(str(to))}"
    _export(records, tensorboard.export(records, place), str(place), view, shape)


def to_mlflow(references: Sequence[str], where: Sequence[str], to: str, shape: Shape, runs_dir: Path) -> None:
    """Export runs to MLflow.

    Args:
        references: What to export, as :func:`mlpx.reports.choosing.read_parts` takes it.
        where: Conditions on the runs.
        to: Where MLflow keeps runs, as :func:`mlpx.reports.places.place_of` takes it.
        shape: What is printed: the place and a note, JSON, or the place.
        runs_dir: The runs folder.

    Raises:
        InputError: There are no such runs, or the server cannot be reached.
        UsageError: MLflow is not installed, or the place is none.
        MachineError: The file cannot be written.
    """
    place = place_of(to)
    mlflow.require_installed(place)
    records = _started(references, where, runs_dir)
    view = f"mlflow server --backend-store-uri {shlex.quote(place.uri)}" if place.file else place.uri
    _export(records, mlflow.export(records, place), place.uri, view, shape)


def _started(references: Sequence[str], where: Sequence[str], runs_dir: Path) -> list[Record]:
    """The runs that have started; warnings tell of those that cannot be read."""
    parts, warnings = choosing.read_parts(references, where, runs_dir)
    for warning in warnings:
        streams.warn(warning)
    records = [record for part in parts for record in part.records]
    started = [record for record in records if record.status != "waiting"]
    if not started:
        raise InputError("export", "none of these runs has started", "Start them: mlpx resume RUN.")
    if len(started) < len(records):
        streams.note(f"{_runs(len(records) - len(started))} not started, and left out")
    return started


def _export(records: Sequence[Record], outcomes: Generator[Outcome], place: str, view: str, shape: Shape) -> None:
    """Carry out an export and print what became of it.

    Args:
        records: The runs.
        outcomes: Exports one run after the other, and yields what became of each.
        place: Where they are exported to.
        view: How to look at them.
        shape: What is printed.

    Raises:
        Interrupted: A signal came; the run that was being exported then is complete.
    """
    counts: Counter[str] = Counter()
    with StopFlag() as flag, closing(outcomes):
        for outcome in outcomes:
            counts[outcome.change] += 1
            for warning in outcome.warnings:
                streams.warn(warning)
            done = counts.total()
            if flag.signum is not None and done < len(records):
                why = f"{done} of {_runs(len(records))} exported"
                raise Interrupted(flag.signum, why, "The same command exports the rest.")
    left_out = counts.pop("left out", 0)
    if left_out == len(records):
        raise InputError("export", "none of these runs can be exported", "Give other runs.")
    if shape == "json":
        changes = {change: counts[change] for change in ("new", "replaced", "unchanged")}
        print(json.dumps({"to": place, "runs": counts.total(), **changes}))
        return
    print(place)
    if shape != "quiet":
        unchanged = f", {counts['unchanged']} of them unchanged" if counts["unchanged"] else ""
        streams.note(f"{_runs(counts.total())}{unchanged}: {view}")


def _runs(count: int) -> str:
    return "one run" if count == 1 else f"{count} runs"
