"""Carrying out a run: a new one, or one that goes on. Imports torch, so the commands import it last."""

import gc
import importlib
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from mlpx.cli import streams, views
from mlpx.cli.options import Output
from mlpx.errors import Bug, CheckFailed, Interrupted, as_mlpx_error
from mlpx.runs import checks, folder, reading, resuming
from mlpx.runs.checkpoints import Checkpoint
from mlpx.runs.checks import Check
from mlpx.runs.events import End, Event, Experiment
from mlpx.runs.execution import Execution
from mlpx.runs.folder import Run
from mlpx.settings.base import Settings
from mlpx.training import devices
from mlpx.training.signals import StopFlag


def train(settings: Settings, name: str, output: Output) -> None:
    """Train an experiment in a new run folder; raises MlpxError."""
    collect_garbage()
    module = experiment_of(settings)
    checks.require_known(output.checks, module.metric_names(settings))
    device = devices.choose(output.device)
    experiment = module.build(settings, device)
    with StopFlag() as stop, folder.create(output.runs_dir, settings, name) as run:
        run.document = {"command": shlex.join(["mlpx", *sys.argv[1:]]), "resumed_from_epoch": []}
        _execute(run, experiment, device, output, stop)


def resume(path: Path, epochs: int | None, output: Output) -> None:
    """Go on with the run at ``path``, perhaps to more epochs; raises MlpxError."""
    collect_garbage()
    with StopFlag() as stop, Run(path) as run:
        run.document = reading.document_of(run.path)
        settings = resuming.extend(reading.settings_of(run.path), epochs)
        module = experiment_of(settings)
        checks.require_known(output.checks, module.metric_names(settings))
        metrics = reading.metrics_of(run.document)
        if metrics.get("epoch") == settings.epochs:
            failed = [check for check in output.checks if not check.holds(metrics)]
            end = End(metrics, (), f"already finished: {settings.epochs} epochs", failed)
            _require(_show(run, settings, [end], output), run)
            return
        device = devices.choose(output.device)
        checkpoint, warnings = resuming.read_checkpoint(run, settings)
        for warning in warnings:
            streams.warn(warning)
        experiment = module.build(settings, device)
        if checkpoint is not None:
            experiment.load_state(checkpoint.state)
        run.tidy()
        run.write_settings(settings)
        run.add_resumption(checkpoint.position.epoch if checkpoint else 0)
        _execute(run, experiment, device, output, stop, checkpoint)


def collect_garbage() -> None:
    """From here on; what the imports made is there to stay and need not be walked."""
    gc.freeze()
    gc.enable()


def experiment_of(settings: Settings) -> Any:
    """The module of the settings' experiment."""
    return importlib.import_module(f"mlpx.experiments.{settings.experiment}")


def _execute(
    run: Run,
    experiment: Experiment,
    device: torch.device,
    output: Output,
    stop: StopFlag,
    resume_from: Checkpoint | None = None,
) -> None:
    execution = Execution(
        run,
        experiment,
        device=device,
        stop=stop,
        checkpoint_every=output.checkpoint_every,
        checks=output.checks,
        resume_from=resume_from,
    )
    try:
        failed = _show(run, experiment.settings, execution.events(), output)
    except Exception as error:
        if as_mlpx_error(error) is not None:
            raise
        if run.document["status"] == "running":  # a bug of the view's: the execution has recorded its own
            run.record_failure(error, {})
        raise Bug(error, f"The traceback is in {run.path / 'error.log'}.") from error
    if stop.signum is not None:
        raise Interrupted(stop.signum, "the run had finished")
    _require(failed, run)


def _show(run: Run, settings: Settings, events: Iterable[Event], output: Output) -> Sequence[Check]:
    """Show a run's events, and return the checks that its end fails."""
    view = views.choose(quiet=output.quiet, as_json=output.json)
    view.start(run, settings)
    failed: Sequence[Check] = ()
    try:
        for event in events:
            view.show(event)
            if isinstance(event, End):
                failed = event.failed
    finally:
        view.end(run)
    return failed


def _require(failed: Sequence[Check], run: Run) -> None:
    if failed:
        values = "; ".join(f"{check} does not hold, it is {run.document['metrics'][check.metric]}" for check in failed)
        raise CheckFailed("check", values, f"See {run.path}.")
