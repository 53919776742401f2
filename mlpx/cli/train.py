"""Carrying out a run: a new one, or one that goes on. Imports torch, so it is imported late."""

import contextlib
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mlpx import registry
from mlpx.cli import preparing, streams, views
from mlpx.cli.options import Output
from mlpx.errors import Bug, CheckFailed, Interrupted
from mlpx.runs import checks, execution, folder, reading, resuming
from mlpx.runs.checkpoints import Checkpoint
from mlpx.runs.checks import Check
from mlpx.runs.events import End, Event
from mlpx.runs.folder import Run
from mlpx.settings.base import Settings
from mlpx.settings.metrics import Metric, columns, final
from mlpx.training import devices, distributed, torchrun
from mlpx.training.distributed import Group
from mlpx.training.experiment import AnyExperiment
from mlpx.training.loop import START
from mlpx.training.signals import StopFlag


def train(settings: Settings, name: str, into: Path | None, output: Output) -> None:
    """Train an experiment in a new run folder.

    Args:
        settings: The settings.
        name: The end of the folder's name in the runs folder.
        into: Exactly this folder instead.
        output: The other options.

    Raises:
        MlpxError: In whatever way the run fails.
    """
    experiment_class = registry.experiment_class(settings.experiment)
    _require_known(output.checks, experiment_class, settings)
    with distributed.joined() as group:
        device = devices.choose(output.device, torchrun.place())
        with devices.threads(experiment_class.num_threads):
            experiment = _made(group, settings, device, _is_shown(output), "Start it again.")
            with StopFlag() as stop:
                if into is None:
                    made = folder.create(output.runs_dir, settings, name)
                else:
                    made = folder.create_at(into, settings)
                with made as run:
                    run.document = _new_document()
                    _execute(run, experiment, device, output, stop)


def resume(path: Path, epochs: int | None, output: Output) -> None:
    """Go on with the run at ``path``, perhaps to more epochs.

    Raises:
        MlpxError: In whatever way the run fails.
    """
    with distributed.joined() as group, Run(path) as run:
        run.document = reading.document_of(run.path)
        before = reading.settings_of(run.path)
        settings = resuming.extend(before, epochs)
        experiment_class = registry.experiment_class(settings.experiment)
        _require_known(output.checks, experiment_class, settings)
        metrics = reading.metrics_of(run.document)
        stopped_early = bool(metrics) and run.document.get("stopped_early") is True
        if stopped_early or metrics.get("epoch") == settings.epochs:
            group.from_first(lambda: None)
            _report_finished(run, settings, metrics, output)
            return
        # A run that was killed at once has a table without a row, and no document.
        begun = bool(run.document) or (run.path / "metrics.csv").exists()
        if not run.document:
            run.document = _new_document()
        with _recording_failure(run):
            device = devices.choose(output.device, torchrun.place())
            checkpoint, remarks = resuming.read_checkpoint(run, settings, group.size)
        for remark in remarks:
            streams.warn(remark)
        with devices.threads(experiment_class.num_threads):
            with _recording_failure(run):
                remedy = f"Go on with 'mlpx resume {shlex.quote(str(run.path))}'."
                experiment = _made(group, settings, device, _is_shown(output), remedy)
                if checkpoint is not None:
                    resuming.restore(experiment, checkpoint)
            with StopFlag() as stop:
                run.forget_failure()
                if settings != before:
                    run.write_settings(settings)
                if begun:
                    run.add_resumption(checkpoint.point.position.epoch if checkpoint else 0)
                _execute(run, experiment, device, output, stop, checkpoint)


def follow(output: Output) -> None:
    """Train what the first process trains, as one of those that torchrun has started beside it.

    Raises:
        MlpxError: In whatever way the run fails.
    """
    # What there is to tell of, the first process tells.
    warnings.simplefilter("ignore")
    with distributed.joined() as group:
        settings: Settings | None = group.from_first()
        if settings is None:
            return
        device = devices.choose(output.device, torchrun.place())
        experiment_class = registry.experiment_class(settings.experiment)
        with devices.threads(experiment_class.num_threads):
            experiment = _made(group, settings, device, False, "")
            with StopFlag() as stop:
                checkpoint: Checkpoint | None = group.from_first()
                if checkpoint is not None:
                    resuming.restore(experiment, checkpoint)
                execution.follow(experiment, checkpoint.point.position if checkpoint else START, stop)


def _is_shown(output: Output) -> bool:
    return not (output.quiet or output.json)


def _made(
    group: Group,
    settings: Settings,
    device: torch.device,
    is_shown: bool,
    remedy: str,
) -> AnyExperiment:
    """The experiment, after its data was prepared; ``remedy`` is what to do where a signal interrupts that.

    On each machine one process prepares the data, and the others then find it. The first of all tells them the
    settings, for which they wait in :func:`follow`.
    """
    if group.rank == 0:
        group.from_first(lambda: settings)
    experiment_class = registry.experiment_class(settings.experiment)
    if not group.is_first_of_machine:
        group.wait()
    preparing.wait_for(experiment_class.prepare(settings), remedy, is_shown=is_shown)
    experiment = experiment_class(settings, device)
    if group.is_first_of_machine:
        group.wait()
    experiment.group = group
    return experiment


def _new_document() -> dict[str, Any]:
    """What ``run.json`` says of a run that begins."""
    return {"command": shlex.join(["mlpx", *sys.argv[1:]]), "resumed_from_epoch": []}


@contextlib.contextmanager
def _recording_failure(run: Run) -> Iterator[None]:
    """Record why a run that has not begun to train cannot begin; what one that has says of itself stays."""
    try:
        yield
    except Exception as error:
        if run.document.get("status") in (None, "failed"):
            with contextlib.suppress(OSError):
                run.record_failure(error, {})
            raise run.failure(error) from error
        raise


def _require_known(asked: Sequence[Check], experiment_class: type[AnyExperiment], settings: Settings) -> None:
    """Raise UsageError for a check of a metric that the run will not have."""
    if asked:
        known = final(settings.metrics, len(settings.seeds))
        checks.require_known(asked, [metric.name for metric in known])


def _report_finished(run: Run, settings: Settings, metrics: Mapping[str, float], output: Output) -> None:
    """Say that the run had finished, and judge it by the checks."""
    failed = [check for check in output.checks if not check.holds(metrics)]
    run.document["exit_code"] = 3 if failed else 0
    end = End(metrics, (), f"already finished: {metrics.get('epoch')} epochs", failed)
    _require(_show(run, settings, (), [end], output), metrics, run)


def _execute(
    run: Run,
    experiment: AnyExperiment,
    device: torch.device,
    output: Output,
    stop: StopFlag,
    resume_from: Checkpoint | None = None,
) -> None:
    with _recording_failure(run):
        experiment.group.from_first(lambda: resume_from)
        training = execution.Execution(
            run,
            experiment,
            device=device,
            stop=stop,
            checkpoint_every=output.checkpoint_every,
            checks=output.checks,
            resume_from=resume_from,
        )
    settings = experiment.settings
    shown = columns(settings.metrics, len(settings.seeds))
    try:
        failed = _show(run, settings, shown, training.events(), output)
    except Exception as error:
        failure = run.failure(error)
        # A bug of the view's; the execution has recorded its own.
        if isinstance(failure, Bug) and run.document["status"] == "running":
            run.record_failure(error, {})
        raise failure from error
    if stop.signum is not None:
        raise Interrupted(stop.signum, "the run had finished")
    _require(failed, run.document["metrics"], run)


def _show(
    run: Run, settings: Settings, columns: Sequence[Metric], events: Iterable[Event], output: Output
) -> Sequence[Check]:
    """Show a run's events, and return the checks that its end fails."""
    view = views.choose(quiet=output.quiet, as_json=output.json)
    view.start(run, settings, columns)
    failed: Sequence[Check] = ()
    try:
        for event in events:
            view.show(event)
            if isinstance(event, End):
                failed = event.failed
    finally:
        view.end(run)
    return failed


def _require(failed: Sequence[Check], metrics: Mapping[str, float | None], run: Run) -> None:
    """Raise CheckFailed for the checks that do not hold."""
    if failed:
        values = "; ".join(f"{check} does not hold, it is {metrics.get(check.metric)}" for check in failed)
        raise CheckFailed("check", values, f"See {run.path}.")
