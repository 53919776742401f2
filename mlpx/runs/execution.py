"""A run from its first step to its last file: the loop's records made durable, then passed on as events."""

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from mlpx.errors import Diverged, InputError, Interrupted
from mlpx.files import write_file
from mlpx.runs import checkpoints, weights
from mlpx.runs.checkpoints import Checkpoint
from mlpx.runs.checks import Check
from mlpx.runs.events import End, Event, Experiment, Notice, Row
from mlpx.runs.folder import Run
from mlpx.runs.metrics import Metrics, row
from mlpx.runs.provenance import describe
from mlpx.training import replicas
from mlpx.training.loop import START, EpochRecord, Position, Progress, fit, is_on_grid
from mlpx.training.signals import StopFlag

REDRAW_SECONDS = 30.0


class _Place(NamedTuple):
    """Where a checkpoint taken now would stand.

    The row that an epoch has for being the last is never part of it: that epoch counts as trained but not yet
    evaluated, so the run may end there or go on to more epochs, which gives that row or not.
    """

    position: Position
    seconds: float
    metrics_offset: int


class Execution:
    """Trains an experiment into a run folder; what is shown of it comes from :meth:`events`."""

    def __init__(
        self,
        run: Run,
        experiment: Experiment,
        *,
        device: torch.device,
        stop: StopFlag,
        checkpoint_every: float,
        checks: Sequence[Check] = (),
        resume_from: Checkpoint | None = None,
    ) -> None:
        """``stop`` asks it to save and stop; ``checkpoint_every`` is in seconds.

        ``experiment`` must already have the state of ``resume_from``.
        """
        self._run = run
        self._experiment = experiment
        self._device = device
        self._stop = stop
        self._checkpoint_every = checkpoint_every
        self._checks = checks
        self._resume_from = resume_from
        self._metrics = Metrics(run.path / "metrics.csv", experiment.columns)

    def events(self) -> Iterator[Event]:
        """Run to the end.

        A failure is written to ``run.json`` before it is raised, a bug's traceback to ``error.log``.
        """
        try:
            self._begin()
            yield from self._train()
            yield from self._finish()
        except Exception as error:
            if isinstance(error, Diverged):
                yield from self._draw("loss.png", self._draw_losses)
            with contextlib.suppress(OSError, InputError):  # the disk may be what failed
                self._run.record_failure(error, self._metrics.last())
            raise
        finally:
            self._metrics.close()

    def _begin(self) -> None:
        settings, resume_from = self._experiment.settings, self._resume_from
        about = {"experiment": settings.experiment, "seed": settings.seed, **describe(self._device)}
        self._run.record_start(about)
        if resume_from is None:
            self._metrics.start()
        else:
            self._metrics.go_back(resume_from.metrics_offset)

    def _train(self) -> Iterator[Event]:
        settings, begun = self._experiment.settings, self._resume_from
        place = _Place(begun.position, begun.seconds, begun.metrics_offset) if begun else _Place(START, 0.0, 0)
        saved_at = drawn_at = time.monotonic()
        for record in fit(self._experiment, settings.epochs, settings.eval_every, place.position, place.seconds):
            if isinstance(record, EpochRecord):
                self._metrics.append(record)
                yield Row(row(record))
            else:
                yield record
            if isinstance(record, Progress) or is_on_grid(record.position.epoch, settings.eval_every):
                place = _Place(record.position, record.seconds, self._metrics.offset)
            if self._stop.signum is not None:
                self._save(place)
                remedy = f"Go on with 'mlpx resume {shlex.quote(str(self._run.path))}'."
                raise Interrupted(self._stop.signum, f"saved after epoch {place.position.epoch}", remedy)
            if time.monotonic() - saved_at >= self._checkpoint_every:
                self._save(place)
                if time.monotonic() - drawn_at >= REDRAW_SECONDS:
                    yield from self._draw("loss.png", self._draw_losses)
                    drawn_at = time.monotonic()
                saved_at = time.monotonic()
        self._save(place)

    def _save(self, place: _Place) -> None:
        self._metrics.sync()
        checkpoint = Checkpoint(
            settings=self._experiment.settings.model_dump(),
            **place._asdict(),
            torch_version=str(torch.__version__),
            state=self._experiment.state(),
        )
        checkpoints.save(self._run.checkpoints, checkpoint)

    def _finish(self) -> Iterator[Event]:
        last = self._metrics.last()
        outcome = self._experiment.outcome(last)
        settings = self._experiment.settings
        files = {weights.NAME: weights.to_bytes(outcome.weights, settings), **outcome.files}
        if len(settings.seeds) > 1:
            files["replicas.csv"] = replicas.to_csv(settings.seeds, outcome.metrics)
        for name, data in files.items():
            write_file(self._run.path / name, data)
        for name, draw in {"loss.png": self._draw_losses, **outcome.pictures}.items():
            yield from self._draw(name, draw)
        metrics = {**last, **replicas.summary(outcome.metrics), **replicas.extremes(outcome.metrics)}
        failed = [check for check in self._checks if not check.holds(metrics)]
        exit_code = 128 + self._stop.signum if self._stop.signum is not None else 3 if failed else 0
        self._run.record_end("finished", exit_code, metrics, **outcome.facts)
        yield End(metrics, outcome.tables, outcome.summary, failed)

    def _draw_losses(self) -> bytes:
        return self._experiment.draw_losses(self._metrics.rows())

    def _draw(self, name: str, draw: Callable[[], bytes]) -> Iterator[Event]:
        """Draw a picture; one that fails costs a warning, never the run."""
        try:
            write_file(self._run.path / name, draw())
        except Exception as error:
            yield Notice(f"{name} could not be drawn: {error}")
