"""``mlpx sweep`` and ``mlpx resume SWEEP``: laying out a sweep, and carrying out its runs. Imports no torch."""

import contextlib
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlpx.cli import streams, sweep_views
from mlpx.cli.options import Output
from mlpx.cli.sweep_end import print_results
from mlpx.cli.sweep_options import SweepOptions
from mlpx.cli.times import duration
from mlpx.errors import CheckFailed, Diverged, Interrupted, Locked, MlpxError, UsageError, printable, reason
from mlpx.files import read_regular, write_file
from mlpx.runs import reading, records
from mlpx.runs.records import ENDED, STATUSES, Record
from mlpx.settings.base import Settings
from mlpx.settings.values import to_text
from mlpx.sweeps import folder as sweeps
from mlpx.sweeps import on_ray, on_slurm, places, plan
from mlpx.sweeps.carrying_out import Driver, Engine
from mlpx.sweeps.folder import PICTURE, Sweep
from mlpx.sweeps.local import Local
from mlpx.sweeps.request import MAX_FILE_BYTES, Request
from mlpx.training import torchrun
from mlpx.training.signals import StopFlag

MAX_CELLS_BYTES = MAX_FILE_BYTES // 2
"""The rows become a part of ``sweep.toml``, in which some characters take more room."""


class SweepEnded(MlpxError):
    """A sweep came to another end than a good one."""

    def __init__(self, exit_code: int, why: str, remedy: str) -> None:
        super().__init__("sweep", why, remedy)
        self.exit_code = exit_code


def sweep(model: type[Settings], typed: Mapping[str, str], output: SweepOptions) -> None:
    """Lay out a sweep, and carry it out.

    Args:
        model: The settings of the experiment.
        typed: The values of the settings that were typed, in that order.
        output: The other options.

    Raises:
        MlpxError: In whatever way the sweep ends.
    """
    request = _request(model, typed, output)
    design = request.design()
    if output.dry_run:
        for cell in design.cells:
            print(command_of(cell, request))
        streams.note(sweep_views.counted(len(design.cells), design.summary))
        return
    # Whether the runs can be carried out is known before a folder is made.
    near = output.runs_dir if output.into is None else output.into.absolute().parent
    carry_out = _carrier(request, output, output.jobs, output.on, output.sbatch, near)
    if output.into is not None:
        carry_out(sweeps.create_or_extend(output.into, request, design))
    else:
        name = sweeps.name_of(design) if output.name is None else output.name
        carry_out(sweeps.create(output.runs_dir, name, request, design))


def _carrier(
    request: Request, output: SweepOptions | Output, jobs: int | None, on: str, sbatch: str, near: Path
) -> Callable[[Sweep], None]:
    """A function that carries out a sweep; whether it will be able to is checked before, as far as possible.

    Args:
        request: What is asked of the sweep.
        output: How it is shown.
        jobs: The largest number of runs at a time.
        on: The value of ``--on``.
        sbatch: Options of ``sbatch``.
        near: The folder in which the sweep lies, or will lie.

    Raises:
        MlpxError: In whatever way it will not be able to.
    """
    if on == "slurm":
        on_slurm.require_slurm(sbatch)
        return lambda sweep: _submit(sweep, output, jobs, sbatch)
    if on == "ray":
        cluster = on_ray.Ray(request.model.experiment, request.options, jobs)
        streams.note(str(cluster))
        cluster.require_ready(near)
        return lambda sweep: carry_out(sweep, output, cluster)
    engine = Local(request.model.experiment, request.options, jobs)
    return lambda sweep: carry_out(sweep, output, engine)


def _submit(sweep: Sweep, output: SweepOptions | Output, jobs: int | None, sbatch: str) -> None:
    """Hand a sweep to Slurm, and say so.

    Raises:
        MlpxError: In whatever way that fails.
    """
    found, warnings = records.read_all(sweep.runs())
    for warning in warnings:
        streams.warn(warning)
    view = sweep_views.choose(quiet=output.quiet, as_json=output.json)
    to_go = sum(record.status not in plan.OVER for record in found)
    submitted = on_slurm.submit(sweep, to_go, jobs, sbatch) if to_go else None
    view.submitted(sweep, found, submitted)
    if submitted is not None and submitted.exit_code:
        why = f"job {submitted.job} ended with exit code {submitted.exit_code}"
        raise SweepEnded(submitted.exit_code, why, f"See the logs in {sweep.path}.")


def _request(model: type[Settings], typed: Mapping[str, str], output: SweepOptions) -> Request:
    request = Request(model)
    if output.config is not None:
        request = Request.read(output.config, model.experiment)
    elif output.into is not None and reading.is_sweep(output.into):
        # The runs that are there already have these numbers of cores and GPUs, so those to come have them too.
        before = sweeps.read(output.into).request.options
        request = Request(model, options=before.model_copy(update={"cells": "", "one_at_a_time": False, "check": []}))
    cells = None if output.cells is None else _text_of(output.cells)
    request = request.updated(typed, {**output.request, "cells": cells})
    if "gpus" not in request.options.model_fields_set:
        where = on_ray if output.on == "ray" and not output.dry_run else places
        request = request.updated(typed, {"gpus": where.default_gpus(request.options.device)})
    return request


def _text_of(cells: str) -> str:
    """The content of the CSV file of ``--cells``, or of standard input."""
    try:
        limit = MAX_CELLS_BYTES + 1
        data = sys.stdin.buffer.read(limit) if cells == "-" else read_regular(Path(cells), limit)
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else reason(error)
        raise UsageError("--cells", f"{cells}: {why}", "Give a CSV file of settings.") from error
    if len(data) > MAX_CELLS_BYTES:
        raise UsageError("--cells", f"{cells} is longer than {MAX_CELLS_BYTES // 1024} KiB", "Give fewer rows.")
    return text


def command_of(cell: Settings, request: Request) -> str:
    """The command that trains the run of a sweep alone."""
    defaults = {name: field.default for name, field in type(cell).model_fields.items()}
    given = [*request.asked, *(name for name in defaults if name not in request.asked)]
    words = ["mlpx", cell.experiment]
    for name in given:
        value, option = getattr(cell, name), "--" + name.replace("_", "-")
        if name not in request.asked and value == defaults[name]:
            continue
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, list):
            words += [word for each in value or ["none"] for word in (option, str(each))]
        else:
            words += [option, to_text(value)]
    return shlex.join(words)


def carry_out(sweep: Sweep, output: SweepOptions | Output, engine: Engine) -> None:
    """Carry out the runs of a sweep that are not over, and say how it ended.

    Raises:
        MlpxError: In whatever way the sweep ends.
    """
    view = sweep_views.choose(quiet=output.quiet, as_json=output.json)
    is_for_people = not (output.quiet or output.json)
    began = time.monotonic()
    with StopFlag() as stop:
        driver = Driver(sweep, engine, stop)
        for warning in driver.warnings:
            streams.warn(warning)
        had_work = driver.has_work
        view.start(sweep, list(driver.records.values()), engine.slots)
        try:
            with contextlib.closing(driver.events()) as events:
                for event in events:
                    view.show(event)
        finally:
            exit_code = driver.exit_code if stop.signum is None else 128 + stop.signum
            view.end(sweep, list(driver.records.values()), exit_code)
        found = list(driver.records.values())
        # Whoever ends the sweep shows its results.
        if exit_code != Locked.exit_code and stop.signum is None and any(record.is_finished for record in found):
            if had_work or not (sweep.path / PICTURE).exists():
                _draw(sweep, found)
            if is_for_people:
                print()
                print_results(sweep, found)
        if is_for_people:
            drawn = f"; picture in {PICTURE}" if (sweep.path / PICTURE).exists() else ""
            print(f"\n{_counts(found)} in {duration(time.monotonic() - began)}{drawn}")
            print(printable(str(sweep.path)), flush=True)
        _require_good_end(sweep, driver, stop)


def resume_sweep(reference: str, epochs: int | None, output: Output, jobs: int | None, on: str, sbatch: str) -> bool:
    """Go on with a sweep; returns whether ``reference`` is one.

    Raises:
        MlpxError: In whatever way the sweep ends.
    """
    path = sweeps.find(reference, output.runs_dir)
    if path is None:
        return False
    torchrun.require_one_process("mlpx resume of a sweep")
    sweep = sweeps.read(path)
    kept = {"--device": output.device != "auto", "--checkpoint-every": output.checkpoint_every != 30.0}
    for option in (option for option, is_given in {**kept, "--epochs": epochs is not None}.items() if is_given):
        why = f"{path.name} is a sweep, whose runs keep what they began with"
        raise UsageError(option, why, "Leave it out, or lay out a new sweep.")
    if output.checks and on == "slurm":
        why = "the workers do not know of it"
        raise UsageError("--check", why, "Leave it out, and give it to 'mlpx resume' when all runs have ended.")
    if output.checks:
        options = {"check": [*sweep.request.options.check, *map(str, output.checks)]}
        sweep = Sweep(path, sweep.request.updated({}, options))
        _ = sweep.design
    _carrier(sweep.request, output, jobs, on, sbatch, path.parent)(sweep)
    return True


def _counts(records: Sequence[Record]) -> str:
    counts = Counter(record.status for record in records)
    return ", ".join(f"{counts[status]} {status}" for status in dict.fromkeys((*ENDED, *STATUSES)) if counts[status])


def _require_good_end(sweep: Sweep, driver: Driver, stop: StopFlag) -> None:
    """Raise the error that tells how the sweep ended, if it did not end well."""
    go_on = f"'mlpx resume {shlex.quote(str(sweep.path))}'"
    found = list(driver.records.values())
    if stop.signum is not None:
        raise Interrupted(stop.signum, _counts(found), f"Go on with {go_on}.")
    code = driver.exit_code
    if code == Diverged.exit_code:
        raise SweepEnded(code, "all runs have diverged", "Lower the learning rate.")
    if code == CheckFailed.exit_code:
        failed = plan.failing(found, sweep.request.checks)
        checks = dict.fromkeys(str(check) for each in failed.values() for check in each)
        raise SweepEnded(
            code, f"{' and '.join(checks)} fails in {len(failed)} of {len(found)} runs", f"See {sweep.path}."
        )
    if code == Locked.exit_code:
        raise SweepEnded(code, f"others still work on it: {_counts(found)}", f"Wait for them, or help them by {go_on}.")
    if code:
        unread = f"{len(driver.warnings)} cannot be read" if driver.warnings else ""
        why = ", ".join(filter(None, (_counts(found), unread)))
        raise SweepEnded(code, why, f"Fix it, then go on with {go_on}.")


def _draw(sweep: Sweep, found: Sequence[Record]) -> None:
    """Draw the sweep's picture; one that fails costs a warning, never the sweep."""
    from mlpx.sweeps.effects import picture

    try:
        write_file(sweep.path / PICTURE, picture(sweep, found))
    except Exception as error:
        streams.warn(f"{PICTURE} could not be drawn: {error}")
