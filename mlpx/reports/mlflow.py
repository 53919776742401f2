"""Runs as MLflow keeps them: written to a server or to an SQLite file, from the run folders, after the training.

A run of MLflow carries two tags: ``mlpx.id`` tells which run it is, and ``mlpx.digest`` what was exported of it. The
digest is written last. So a run that has it is complete, and unchanged if the digest is the same.
"""

import contextlib
import hashlib
import importlib
import json
import logging
import os
import posixpath
import re
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlpx.errors import InputError, MachineError, UsageError, reason
from mlpx.files import remove_all, remove_temporaries, temporary_for
from mlpx.reports import contents
from mlpx.reports.contents import Contents, Outcome, clean
from mlpx.reports.places import SCHEME, Place
from mlpx.runs.records import Record
from mlpx.settings.values import to_text

FORMAT = "1"
"""A new number has all runs exported anew."""
ID = "mlpx.id"
DIGEST = "mlpx.digest"
ARTIFACTS = (".toml", ".json", ".csv", ".png", ".txt")
"""The endings of the files that become artifacts: settings, records, tables, pictures and texts."""
MAX_METRICS = 1000
MAX_PARAMS = 100
"""MLflow takes no more at a time."""
MAX_NAME = 250
MAX_PARAM = 6000
MAX_TAG = 5000
"""MLflow refuses longer names and texts; servers of older versions refuse tags above this."""
STATUSES = {"running": "RUNNING", "finished": "FINISHED", "interrupted": "KILLED", "dead": "KILLED"}
"""MLflow's word for a status; all others have failed."""
LEFTOVER_SECONDS = 3600.0
"""Making a database takes seconds; one that is still unfinished after this time was given up."""
INSTALL = "Install it: pip install 'mlpx[mlflow]'."
# MLflow reads these whenever it needs them, so they must be set before. Its own numbers are 7 tries of 120 s.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
SILENCE = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "_MLFLOW_TELEMETRY_PRE_WARM_DATABRICKS_SDK": "false",
}


def require_installed(place: Place) -> None:
    """Check that MLflow is there, and what it needs for that place, and keep it from talking.

    Raises:
        UsageError: It is not installed.
    """
    os.environ.update(SILENCE)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in ("mlflow.tracking", *(("sqlalchemy", "alembic", "sqlparse") if place.file else ())):
                importlib.import_module(name)
    except ImportError as error:
        raise UsageError("mlpx export mlflow", f"MLflow is not installed ({reason(error)})", INSTALL) from error
    for name in ("mlflow", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def export(records: Sequence[Record], place: Place) -> Generator[Outcome]:
    """Write each run to MLflow; the runs of a sweep are nested in a run that stands for the sweep.

    Args:
        records: Runs that have started.
        place: Where MLflow keeps them.

    Raises:
        UsageError: Two runs have the same name, or the place cannot take them.
        InputError: The server cannot be reached, or refuses.
        MachineError: The file cannot be written.
    """
    named = contents.by_name(records)
    sweeps: dict[Path | None, list[Record]] = {}
    for record in named.values():
        sweeps.setdefault(contents.sweep_of(record), []).append(record)
    with _known_errors(place):
        tracking = _Tracking(place)
        for sweep, alike in sweeps.items():
            parent = tracking.parent(sweep, alike) if sweep else ""
            for record in alike:
                try:
                    yield tracking.export(record, parent)
                except InputError as error:
                    yield Outcome("left out", [f"{contents.name_of(record)} is left out: {error}"])
            if sweep:
                tracking.end_parent(sweep, parent, alike)


@contextlib.contextmanager
def _known_errors(place: Place) -> Iterator[None]:
    """Turn what MLflow raises into errors of mlpx, and drop its warnings."""
    from mlflow.exceptions import MlflowException

    failures: tuple[type[Exception], ...] = (MlflowException,)
    if place.file:
        from sqlalchemy.exc import SQLAlchemyError

        failures = (MlflowException, SQLAlchemyError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except failures as error:
            why = " ".join(str(error).split())
            # Of an address that cannot be reached, the last cause says all.
            why = re.sub(r".*\(Caused by .*: (.+?)[\"']\)\)$", r"\1", why)
            if "out-of-date database schema" in why:
                raise UsageError(place, "is of another version of MLflow", f"mlflow db upgrade {place}") from error
            if place.file:
                raise MachineError(place, f"MLflow cannot write it: {why}", "Repeat the command.") from error
            raise InputError(place, f"MLflow does not take it: {why}", "Check the address and the server.") from error


class _Tracking:
    """MLflow at one place."""

    def __init__(self, place: Place) -> None:
        from mlflow.tracking import MlflowClient

        if place.file and not os.path.lexists(place.file):
            _create_database(place.file)
        self._place = place
        self._client = MlflowClient(tracking_uri=str(place))
        self._experiments: dict[str, str] = {}
        self._has_warned = False

    def parent(self, sweep: Path, records: Sequence[Record]) -> str:
        """The id of the run that stands for a sweep; it is made where there is none."""
        experiment = self._experiment(records[0].settings.experiment)
        identity = _digest("sweep", sweep.name, str(sweep))
        for run in self._find(experiment, identity):
            return str(run.info.run_id)
        tags = {ID: identity, "mlpx.path": str(sweep), "mlflow.source.name": "mlpx"}
        started = min(record.started.timestamp() for record in records)
        made = self._client.create_run(experiment, _ms(started), _tags(tags), clean(sweep.name))
        return str(made.info.run_id)

    def end_parent(self, sweep: Path, run_id: str, records: Sequence[Record]) -> None:
        """Bring the run that stands for a sweep up to date: its status and its files."""
        files = list(contents.files(sweep, *ARTIFACTS))
        is_running = any(record.status == "running" for record in records)
        digest = _digest(FORMAT, str(is_running), *_hashes(files, []))
        run = self._client.get_run(run_id)
        if run.data.tags.get(DIGEST) == digest:
            return
        self._log_files(run, files, [])
        if is_running:
            self._client.update_run(run_id, status="RUNNING")
        else:
            self._client.set_terminated(run_id, "FINISHED", _ms(max(map(contents.ended, records))))
        self._client.set_tag(run_id, DIGEST, digest)

    def export(self, record: Record, parent: str) -> Outcome:
        """Write a run, unless it is there already. One that has changed is written anew, and then the old one goes.

        Args:
            record: The run.
            parent: The id of the run that stands for its sweep; empty without a sweep.

        Raises:
            InputError: The run cannot be read.
        """
        warnings: list[str] = []
        name = contents.name_of(record)
        experiment = self._experiment(record.settings.experiment)
        files = list(contents.files(record.path, *ARTIFACTS))
        # The files are looked at before the metrics are read: what a training writes in between is exported next time.
        digest = _digest(FORMAT, str(record.path), record.status, parent, *_hashes(files, warnings))
        run = contents.read(record)
        identity = _digest("run", name, record.started.isoformat())
        earlier = self._find(experiment, identity)
        same = next((each for each in earlier if each.data.tags.get(DIGEST) == digest), None)
        if same is None:
            tags = _about(run, identity, parent)
            made = self._client.create_run(experiment, _ms(run.started), _tags(tags), clean(record.path.name))
            self._write(made, run, files, warnings)
            self._client.set_tag(made.info.run_id, DIGEST, digest)
        for each in earlier:
            if each is not same:
                self._client.delete_run(each.info.run_id)
        if same is not None:
            return Outcome("unchanged", warnings)
        is_complete = any(DIGEST in each.data.tags for each in earlier)
        return Outcome("replaced" if is_complete else "new", warnings)

    def _write(self, made: Any, run: Contents, files: Sequence[Path], warnings: list[str]) -> None:
        """Fill a run of MLflow that was just made."""
        from mlflow.entities import Param

        run_id = made.info.run_id
        settings = run.record.settings.model_dump().items()
        params = [Param(name, clean(_cut(to_text(value), MAX_PARAM))) for name, value in settings]
        for start in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(run_id, params=params[start : start + MAX_PARAMS])
        metrics = list(_metrics(run, warnings))
        for start in range(0, len(metrics), MAX_METRICS):
            self._client.log_batch(run_id, metrics=metrics[start : start + MAX_METRICS])
        self._log_files(made, files, warnings)
        if run.record.status != "running":
            status = STATUSES.get(run.record.status, "FAILED")
            self._client.set_terminated(run_id, status, _ms(contents.ended(run.record)))

    def _log_files(self, run: Any, files: Iterable[Path], warnings: list[str]) -> None:
        """Copy files to where MLflow keeps those of a run; a server must take them itself."""
        where = run.info.artifact_uri
        if not where.startswith(("file:", "/") if self._place.file else "mlflow-artifacts:"):
            if not self._has_warned:
                warnings.append(f"no files are exported, since this MLflow keeps them elsewhere: {where}")
            self._has_warned = True
            return
        for path in files:
            with contextlib.suppress(FileNotFoundError):
                self._client.log_artifact(run.info.run_id, str(path))

    def _experiment(self, name: str) -> str:
        """The id of MLflow's experiment for one of ours, which is made where there is none."""
        if name in self._experiments:
            return self._experiments[name]
        full = f"mlpx/{name}"
        found = self._client.get_experiment_by_name(full)
        if found is None:
            made = str(self._client.create_experiment(full, self._place.artifacts(name)))
        elif found.lifecycle_stage != "active":
            remedy = f"Restore it: mlflow experiments restore --experiment-id {found.experiment_id}"
            raise UsageError(self._place, f"the experiment {full} was deleted there", remedy)
        else:
            made = str(found.experiment_id)
        self._experiments[name] = made
        return made

    def _find(self, experiment: str, identity: str) -> list[Any]:
        """The runs of MLflow that carry this id: none or one, or several after an export that was cut off."""
        return list(self._client.search_runs([experiment], f"tags.`{ID}` = '{identity}'"))


def _create_database(path: Path) -> None:
    """Make an SQLite file with the tables of MLflow. It appears complete, since MLflow cannot use one without some."""
    from mlflow.tracking import MlflowClient

    remove_temporaries(path.parent, LEFTOVER_SECONDS)
    temporary = temporary_for(path)
    try:
        MlflowClient(tracking_uri=f"{SCHEME}{temporary}").search_experiments(max_results=1)
        os.rename(temporary, path)
    finally:
        remove_all([temporary, temporary.with_name(f"{temporary.name}-journal")])


def _about(run: Contents, identity: str, parent: str) -> dict[str, str]:
    """The tags of a run."""
    facts = run.facts
    return {
        ID: identity,
        "mlpx.path": str(run.record.path),
        "mlpx.status": run.record.status,
        "mlpx.command": facts.command,
        "mlpx.error": facts.error,
        "mlpx.verdict": facts.verdict,
        "mlpx.host": facts.host,
        "mlpx.device": facts.device_name or facts.device,
        "mlpx.versions": json.dumps(dict(facts.versions), sort_keys=True) if facts.versions else "",
        "mlpx.git.dirty": "true" if facts.is_dirty else "",
        "mlflow.source.git.commit": facts.commit,
        "mlflow.source.name": "mlpx",
        "mlflow.note.content": facts.summary,
        "mlflow.parentRunId": parent,
    }


def _tags(texts: Mapping[str, str]) -> dict[str, str]:
    """Tags that MLflow takes, without those that are empty."""
    return {name: clean(_cut(text, MAX_TAG)) for name, text in texts.items() if text}


def _metrics(run: Contents, warnings: list[str]) -> Iterator[Any]:
    """Every value of every metric, column by column, with its epoch and its time."""
    from mlflow.entities import Metric

    times = [_ms(time) for time in run.times]
    taken: dict[str, str] = {}
    for name in (*run.columns, *run.at_end):
        key = _key(name)
        if taken.setdefault(key, name) != name:
            warnings.append(f"{run.name} is exported without {name!r}, which MLflow cannot tell from {taken[key]!r}")
        elif name in run.columns:
            for value, time, step in zip(run.columns[name], times, run.steps, strict=True):
                yield Metric(key, value, time, step)
        else:
            yield Metric(key, run.at_end[name], _ms(run.last_time), run.last_step)


def _key(name: str) -> str:
    """The name of a metric with an underscore for each character that MLflow refuses."""
    key = re.sub(r"[^/\w.\- :]", "_", clean(name))[:MAX_NAME] or "_"
    # MLflow refuses what would be another path, such as a//b or ../a.
    is_path = key == posixpath.normpath(key) and key != "." and not key.startswith(("..", "/"))
    return key if is_path else re.sub(r"[/.]", "_", key)


def _hashes(files: Iterable[Path], warnings: list[str]) -> Iterator[str]:
    """The name of each file with what tells its content."""
    for path in files:
        try:
            yield f"{path.name} {hashlib.sha256(contents.read_file(path)).hexdigest()}"
        except InputError as error:
            warnings.append(str(error))


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _ms(seconds: float) -> int:
    """The time in milliseconds, as MLflow counts it."""
    return round(seconds * 1000)
