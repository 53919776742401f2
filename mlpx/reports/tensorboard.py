"""Runs as TensorBoard shows them: one event file a run, written from the run folder after the training.

Each run becomes the folder ``RUN`` or ``SWEEP/RUN`` with a single event file in it. The same run always gives the same
bytes, so a run that has not changed since an earlier export is recognized by comparing the files.

No experiment with names of hyperparameters is written: without one, TensorBoard gathers the hyperparameters of all
runs that it finds, whenever they were exported. With one, it shows those of the first run that it happens to find.
"""

import importlib
import os
import re
import stat
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlpx.errors import InputError, MachineError, UsageError, reason
from mlpx.files import open_regular, remove_temporaries, temporary_for
from mlpx.reports import contents
from mlpx.reports.contents import Contents, Outcome, clean
from mlpx.runs import reading
from mlpx.runs.records import Record
from mlpx.settings.values import to_text

NAME = re.compile(r"events\.out\.tfevents\.(\d{10})\.mlpx")
"""The name of an event file that mlpx has written; TensorBoard reads files whose names contain ``tfevents``. The number
counts how often the run was exported with other contents: a TensorBoard that is running goes on to a later name, but
does not look again at a file that it has read.
"""
LEFTOVER_SECONDS = 3600.0
"""Writing one file takes less time than this; an older one that is unfinished was given up."""
MAX_EXACT = 2**53
"""TensorBoard keeps numbers among the settings as doubles, which are exact up to this."""


def require_installed() -> None:
    """Check that TensorBoard is there.

    Raises:
        UsageError: It is not installed.
    """
    try:
        for name in ("compat.proto.event_pb2", "plugins.hparams.metadata", "summary.writer.record_writer"):
            importlib.import_module(f"tensorboard.{name}")
    except ImportError as error:
        why = f"TensorBoard is not installed ({reason(error)})"
        raise UsageError("mlpx export tensorboard", why, "Install it: pip install 'mlpx[tensorboard]'.") from error


def export(records: Sequence[Record], to: Path) -> Generator[Outcome]:
    """Write the event file of each run, in their order.

    Every file appears complete or not at all, and nothing else in the folder is touched.

    Args:
        records: Runs that have started.
        to: The folder, which is made if there is none.

    Raises:
        UsageError: The folder is a run's, or holds something else in the place of a run.
        OSError: It cannot be written.
    """
    named = contents.by_name(records)
    if reading.is_run(to):
        raise UsageError("--to", f"{to} is the folder of a run", "Give another folder.")
    if os.path.lexists(to) and not to.is_dir():
        raise UsageError("--to", f"{to} is no folder", "Give a folder.")
    for name in named:
        _require_free(to / name)
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError("--to", f"cannot make {to}: {reason(error)}", "Give another folder.") from error
    remove_temporaries(to, LEFTOVER_SECONDS)
    for name, record in named.items():
        try:
            yield _export(record, to, name)
        except InputError as error:
            yield Outcome("left out", [f"{name} is left out: {error}"])


def _require_free(folder: Path) -> None:
    """Check that there is nothing at ``folder`` but an earlier export."""
    if not os.path.lexists(folder):
        return
    is_folder = stat.S_ISDIR(folder.lstat().st_mode)
    other = [name for name in os.listdir(folder) if not NAME.fullmatch(name)] if is_folder else []
    if other or not is_folder:
        holds = f"holds {sorted(other)[0]!r}" if other else "is no folder"
        raise UsageError("--to", f"{folder} {holds}, so it is no earlier export", "Give another folder.")


def _export(record: Record, to: Path, name: str) -> Outcome:
    """Write the event file of a run, unless it is there already."""
    run, warnings = contents.read(record), list[str]()
    events = [event.SerializeToString(deterministic=True) for event in _events(run, warnings)]
    folder = to / name
    folder.mkdir(parents=True, exist_ok=True)
    earlier = {int(match[1]): folder / match[0] for match in map(NAME.fullmatch, os.listdir(folder)) if match}
    if len(earlier) == 1 and all(_holds(path, events) for path in earlier.values()):
        return Outcome("unchanged", warnings)
    # TensorBoard would read a hidden folder too. It does not read this file, in whose name "tfevents" is missing.
    temporary = temporary_for(to / "export")
    try:
        _write(temporary, events)
        os.replace(temporary, folder / f"events.out.tfevents.{max(earlier, default=0) + 1:010d}.mlpx")
    finally:
        temporary.unlink(missing_ok=True)
    for path in earlier.values():
        path.unlink(missing_ok=True)
    return Outcome("replaced" if earlier else "new", warnings)


def _write(path: Path, events: Sequence[bytes]) -> None:
    """Write an event file."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    with open(path, "xb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event)


def _holds(path: Path, events: Sequence[bytes]) -> bool:
    """Whether an event file holds these events and no others.

    An event is preceded by its length in eight bytes and their checksum in four, and followed by its own checksum in
    four. Checksums are not computed, since that takes ten times longer than all the rest.
    """
    with open_regular(path) as file:
        for event in events:
            if file.read(12)[:8] != len(event).to_bytes(8, "little") or file.read(len(event)) != event:
                return False
            file.read(4)
        return not file.read(1)


def _events(run: Contents, warnings: list[str]) -> Iterator[Any]:
    """The events of a run. Whatever cannot be read is left out, and a warning is added."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary

    def summary(step: int, time: float, values: Sequence[Any]) -> Any:
        return Event(wall_time=time, step=step, summary=Summary(value=values))

    yield Event(wall_time=run.started, file_version="brain.Event:2")
    # A TensorBoard that has read an earlier export of the run forgets its values here.
    yield Event(wall_time=run.started, session_log=SessionLog(status=SessionLog.START))
    yield summary(0, run.started, _settings(run))
    for row, (step, time) in enumerate(zip(run.steps, run.times, strict=True)):
        yield summary(step, time, _scalars({name: values[row] for name, values in run.columns.items()}))
    if run.at_end:
        yield summary(run.last_step, run.last_time, _scalars(run.at_end))
    yield summary(run.last_step, run.last_time, [_text("run", _about(run))])
    for path in contents.files(run.record.path, ".png", ".txt"):
        try:
            value = _image(path) if path.suffix == ".png" else _text(path.stem, contents.read_text(path))
        except InputError as error:
            warnings.append(f"{run.name} is exported without {path.name}: {error}")
        else:
            yield summary(run.last_step, run.last_time, [value])


def _scalars(values: Mapping[str, float]) -> list[Any]:
    """A scalar for each metric, which TensorBoard keeps as float32; one that is not finite too."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    return [Summary.Value(tag=clean(name), simple_value=value) for name, value in values.items()]


def _image(path: Path) -> Any:
    """A picture under its name without the ending."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    data, width, height = contents.read_png(path)
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=data)
    return Summary.Value(tag=clean(path.stem), image=image)


def _text(tag: str, text: str) -> Any:
    """A text, shown as it is: TensorBoard takes texts for Markdown, in which an indented line is verbatim."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    verbatim = "\n".join(f"    {line}" for line in clean(text).splitlines())
    tensor = TensorProto(dtype=DT_STRING, string_val=[verbatim.encode()])
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    return Summary.Value(tag=clean(tag), metadata=metadata, tensor=tensor)


def _about(run: Contents) -> str:
    """What a run was, in lines."""
    facts = run.facts
    lines = {
        "status": run.record.status,
        "summary": facts.summary,
        "error": facts.error,
        "verdict": facts.verdict,
        "command": facts.command,
        "folder": str(run.record.path),
        "host": facts.host,
        "device": facts.device_name or facts.device,
        "commit": facts.commit + " and changes" * facts.is_dirty,
        "versions": ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
    }
    return "\n".join(f"{name:9} {' '.join(text.split())}" for name, text in lines.items() if text)


def _settings(run: Contents) -> list[Any]:
    """The settings as hyperparameters, with the start of the run, and how it ended, or that it goes on."""
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

    start = plugin_data_pb2.SessionStartInfo(start_time_secs=run.started)
    settings = {"experiment": run.record.settings.experiment, **run.record.settings.model_dump()}
    for name, value in settings.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, int | float) and abs(value) <= MAX_EXACT:
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = clean(to_text(value))
    if run.record.status == "running":
        end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_RUNNING)
    else:
        status = api_pb2.STATUS_SUCCESS if run.record.is_finished else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=contents.ended(run.record))
    return [_hparams("session_start_info", start), _hparams("session_end_info", end)]


def _hparams(name: str, message: Any) -> Any:
    """A message of TensorBoard's plugin for hyperparameters, always in the same bytes."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **{name: message})
    content = data.SerializeToString(deterministic=True)
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=content)
    about = SummaryMetadata(plugin_data=plugin)
    return Summary.Value(tag=f"_hparams_/{name}", metadata=about, tensor=metadata.NULL_TENSOR)
