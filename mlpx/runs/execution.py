"""A run from its first step to its last file: the loop's records are made durable, then passed on as events.

Of several processes that train together, the first has the run; the others :func:`follow` it.
"""

import contextlib
import platform
import shlex
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from mlpx.errors import Diverged, InputError, Interrupted, Locked, Lost
from mlpx.runs import checkpoints, weights
from mlpx.runs.checkpoints import Checkpoint, ResumePoint
from mlpx.runs.checks import Check
from mlpx.runs.events import End, Event, Notice
from mlpx.runs.folder import Run
from mlpx.runs.metrics import Metrics
from mlpx.runs.provenance import describe
from mlpx.settings.metrics import EPOCH, NUM_DIVERGED, SECONDS, columns
from mlpx.settings.values import in_ranges
from mlpx.training import statistics
from mlpx.training.experiment import AnyExperiment, Outcome, Rows, Values
from mlpx.training.loop import EpochRecord, Position, Progress, fit, is_on_grid
from mlpx.training.signals import StopFlag, Stopping
from mlpx.training.stopping import VAL_LOSS

REDRAW_SECONDS = 30.0


class _Kept(NamedTuple):
    """What a run keeps of its rows.

    Args:
        row: The row of the model whose weights are kept.
        duration: The epochs and the seconds that the run trained, where these are not the row's.
        facts: What ``run.json`` says of it.
        words: The end of the sentence that is shown.
    """

    row: Mapping[str, float]
    duration: Mapping[str, float] = MappingProxyType({})
    facts: Mapping[str, Any] = MappingProxyType({})
    words: str = ""


class Execution:
    """Trains an experiment into a run folder; what is shown of it comes from :meth:`events`."""

    def __init__(
        self,
        run: Run,
        experiment: AnyExperiment,
        *,
        device: torch.device,
        stop: StopFlag,
        checkpoint_every: float,
        checks: Sequence[Check] = (),
        resume_from: Checkpoint | None = None,
    ) -> None:
        """Open the run's ``metrics.csv``.

        Args:
            run: The folder, held by this process.
            experiment: What to train; it already has the state of ``resume_from``.
            device: Where it computes.
            stop: Asks to save and stop.
            checkpoint_every: Seconds between checkpoints.
            checks: What the final metrics must satisfy.
            resume_from: The checkpoint to go on from.

        Raises:
            InputError: ``metrics.csv`` is not a regular file.
        """
        self._run = run
        self._experiment = experiment
        self._group = experiment.group
        self._group.stop = stop
        self._device = device
        self._stop = stop
        self._checkpoint_every = checkpoint_every
        self._checks = checks
        self._resume_from = resume_from
        self._point = resume_from.point if resume_from else ResumePoint()
        self._seeds: Sequence[int] = experiment.settings.seeds
        names = [column.name for column in columns(experiment.settings.metrics, len(self._seeds))]
        self._metrics = Metrics(run.path / "metrics.csv", names, run.require_held)

    def events(self) -> Iterator[Event]:
        """Run to the end.

        A failure is written to ``run.json`` before it is raised, and a bug's traceback to ``error.log``.
        """
        try:
            self._begin()
            for epoch in dict.fromkeys(self._experiment.diverged.values()):
                yield from self._report_diverged(epoch)
            try:
                yield from self._train()
                yield from self._finish()
            except Stopping as stopping:
                remedy = f"Go on with 'mlpx resume {shlex.quote(str(self._run.path))}'."
                saved = f"saved after epoch {self._point.position.epoch}"
                raise Interrupted(stopping.signum, saved, remedy) from None
        except Exception as error:
            if isinstance(error, Diverged):
                yield from self._draw_again()
            # The disk may be what failed, or another process may hold the run.
            with contextlib.suppress(OSError, InputError, Locked):
                self._run.record_failure(error, self._metrics.last())
            raise
        finally:
            self._metrics.close()

    def _begin(self) -> None:
        settings, resume_from = self._experiment.settings, self._resume_from
        about: dict[str, Any] = {"experiment": settings.experiment, "seed": settings.seed, **describe(self._device)}
        hosts = hosts_of(self._experiment)
        if len(hosts) > 1:
            about |= {"processes": len(hosts), "hosts": list(dict.fromkeys(hosts))}
        self._run.record_start(about)
        if resume_from is None:
            self._metrics.start()
        else:
            self._metrics.go_back(resume_from.point.metrics_offset)

    def _train(self) -> Iterator[Event]:
        try:
            yield from self._train_and_save()
        except (Stopping, Lost):
            # Neither comes while a step changes the weights.
            self._save()
            raise
        self._save()

    def _train_and_save(self) -> Iterator[Event]:
        settings = self._experiment.settings
        saved_at = drawn_at = time.monotonic()
        for record in fit(self._experiment, self._point.position, self._point.seconds):
            if isinstance(record, EpochRecord):
                self._metrics.append(record.row)
            yield record
            if isinstance(record, EpochRecord):
                yield from self._report_diverged(record.position.epoch)
            if isinstance(record, Progress) or is_on_grid(record.position.epoch, settings.eval_every):
                diverged = self._experiment.diverged
                self._point = ResumePoint(record.position, record.seconds, self._metrics.offset, diverged)
            self._group.agree()
            if time.monotonic() - saved_at >= self._checkpoint_every:
                self._save()
                if time.monotonic() - drawn_at >= REDRAW_SECONDS:
                    yield from self._draw_again()
                    drawn_at = time.monotonic()
                saved_at = time.monotonic()

    def _report_diverged(self, epoch: int) -> Iterator[Notice]:
        """Record which replicas have diverged, and warn of those that were found to at the row of ``epoch``."""
        experiment, diverged = self._experiment, self._experiment.diverged
        new = [replica for replica, when in diverged.items() if when == epoch]
        if not new:
            return
        # Where none goes on, the error that ends the run says so.
        if experiment.going_on:
            noun, verb = ("replica", "is") if len(new) == 1 else ("replicas", "are")
            yield from self._warn(f"{noun} {in_ranges(new)} diverged by epoch {epoch} and {verb} left out")
        self._run.update({"diverged": [{"replica": r, "epoch": when} for r, when in diverged.items()]})

    def _save(self) -> None:
        self._metrics.sync()
        checkpoint = Checkpoint(
            settings=self._experiment.settings.model_dump(),
            point=self._point,
            torch_version=str(torch.__version__),
            data_digest=self._experiment.data_digest,
            state=self._experiment.state(),
            num_processes=self._group.size,
        )
        checkpoints.save(self._run.checkpoints, checkpoint, self._run.require_held)

    def _finish(self) -> Iterator[Event]:
        kept = _keep(self._experiment, self._group.from_first(self._metrics.rows))
        self._experiment.clear_diverged()
        outcome = self._experiment.outcome(kept.row)
        values = self._of_each_replica(outcome)
        pictures = yield from self._drawn({"loss.png": self._draw_losses, **outcome.pictures})
        yield from self._write(self._files(outcome, values), pictures)
        diverged = self._experiment.diverged
        metrics = {
            **kept.row,
            **kept.duration,
            **statistics.summary(values, diverged),
            **statistics.extremes(values, diverged),
        }
        failed = [check for check in self._checks if not check.holds(metrics)]
        exit_code = 128 + self._stop.signum if self._stop.signum is not None else 3 if failed else 0
        summary = "; ".join(filter(None, (outcome.summary, kept.words)))
        self._run.record_end("finished", exit_code, metrics, summary=summary, **outcome.facts, **kept.facts)
        yield End(metrics, outcome.tables, summary, failed)

    def _of_each_replica(self, outcome: Outcome) -> dict[str, Values]:
        """The outcome's metrics, and of several replicas those with a row that it lacks, and how many diverged."""
        if len(self._seeds) == 1:
            return dict(outcome.metrics)
        metrics = self._experiment.settings.metrics
        lacking = {metric.name for metric in metrics if not metric.at_end} - outcome.metrics.keys()
        anew = self._experiment.evaluate() if lacking else {}
        return {**anew, **outcome.metrics, NUM_DIVERGED.name: [len(self._experiment.diverged)]}

    def _files(self, outcome: Outcome, values: Mapping[str, Values]) -> dict[str, bytes]:
        files = {weights.NAME: weights.to_bytes(outcome.weights, self._experiment.settings), **outcome.files}
        if len(self._seeds) > 1:
            files["replicas.csv"] = statistics.to_csv(self._seeds, values, self._experiment.diverged)
        return files

    def _draw_again(self) -> Iterator[Notice]:
        pictures = yield from self._drawn({"loss.png": self._draw_losses})
        yield from self._write({}, pictures)

    def _draw_losses(self) -> bytes:
        return self._experiment.draw_losses(self._metrics.rows())

    def _drawn(self, pictures: Mapping[str, Callable[[], bytes]]) -> Generator[Notice, None, dict[str, bytes]]:
        """The pictures as files; one that fails costs a warning, never the run."""
        drawn = {}
        for name, draw in pictures.items():
            try:
                drawn[name] = draw()
            except Exception as error:
                yield from self._warn(f"{name} could not be drawn: {error}")
        return drawn

    def _write(self, files: Mapping[str, bytes], pictures: Mapping[str, bytes]) -> Iterator[Notice]:
        """Write files and pictures; a picture that cannot be written costs a warning, never the run."""
        try:
            self._run.write({**files, **pictures})
        except OSError:
            self._run.write(files)
            for name, data in pictures.items():
                try:
                    self._run.write({name: data})
                except OSError as error:
                    yield from self._warn(f"{name} could not be drawn: {error}")

    def _warn(self, text: str) -> Iterator[Notice]:
        self._run.add_warning(text)
        yield Notice(text)


def follow(experiment: AnyExperiment, position: Position, stop: StopFlag) -> None:
    """Train in a process that is not the first one: do its share from ``position`` on, and keep nothing.

    Raises:
        Diverged: As :func:`mlpx.training.loop.fit` raises it.
        InputError: The processes have different data.
        Interrupted: A signal to one of the processes asked to stop.
        Lost: One of them has ended.
    """
    group = experiment.group
    group.stop = stop
    hosts_of(experiment)
    try:
        for _ in fit(experiment, position):
            group.agree()
        rows: Rows = group.from_first()
        kept = _keep(experiment, rows)
        experiment.clear_diverged()
        experiment.outcome(kept.row)
    except Stopping as stopping:
        raise Interrupted(stopping.signum, "the first process saves") from None


def hosts_of(experiment: AnyExperiment) -> list[str]:
    """The hosts of the processes that are about to train, by rank.

    Raises:
        InputError: They have different data.
    """
    hosts, digests = zip(*experiment.group.together(lambda: (platform.node(), experiment.data_digest)), strict=True)
    for host, digest in zip(hosts, digests, strict=True):
        if digest != digests[0]:
            why = f"is not the same on {hosts[0]} and on {host}"
            raise InputError("the data", why, "Put the same files and the same sentencepiece on each.")
    return list(hosts)


def _keep(experiment: AnyExperiment, rows: Rows) -> _Kept:
    """The last row; with patience the best one, after its weights were put back into the model."""
    last = {name: values[-1] for name, values in rows.items()}
    best, epochs = experiment.best, experiment.settings.epochs
    if best is None or not best.patience:
        return _Kept(last)
    # The last row may be one that only the end of the run made, which was not offered yet.
    best.offer(int(last[EPOCH.name]), last[VAL_LOSS])
    best.put_back()
    place = rows[EPOCH.name].index(best.epoch)
    is_early = last[EPOCH.name] < epochs
    return _Kept(
        {name: values[place] for name, values in rows.items()},
        {name: last[name] for name in (EPOCH.name, SECONDS.name)},
        {"stopped_early": is_early, "best_epoch": best.epoch},
        f"stopped early after epoch {last[EPOCH.name]} of {epochs}" if is_early else "",
    )
