"""Checkpoints: all that resuming needs, the last two, each proof against half-writes and flipped bits.

A file is named ``epoch…-step…-DIGEST.pt``. The digest of its content stands in its name, so that one rename makes both,
and plain ``torch.load(path, weights_only=True)`` reads it.
"""

import errno
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import mlpx
from mlpx.errors import Diverged, InputError
from mlpx.files import NO_FILE, go_ahead, read_regular, sync_folder, write_file
from mlpx.training.experiment import NONE_DIVERGED, State
from mlpx.training.loop import START, Position

KEPT = 2
NAME = re.compile(r"epoch(\d{10})-step(\d{10})-([0-9a-f]{16})\.pt")


class ResumePoint(NamedTuple):
    """Where a training that is saved goes on.

    The row that a run's last epoch has only for being the last is never part of it: that epoch counts as trained, but
    not yet as evaluated. With 45 epochs and a row every 20, a finished run's checkpoint stands at epoch 44 with all
    steps of epoch 45 done, and ``metrics_offset`` is the length of ``metrics.csv`` after row 40. Resumed as it is, the
    run evaluates epoch 45 again; extended to 90 epochs, it has no row 45.

    Args:
        position: Epochs done, and steps of the next one.
        seconds: Wall time of training so far.
        metrics_offset: The length of ``metrics.csv`` in bytes.
        diverged: The replicas that have diverged by a row that ``metrics.csv`` has, and the epochs of those rows.
    """

    position: Position = START
    seconds: float = 0.0
    metrics_offset: int = 0
    diverged: Mapping[int, int] = NONE_DIVERGED


class Checkpoint(NamedTuple):
    """A training's state at a point.

    ``data_digest`` tells its data from other data, and may be empty; ``num_processes`` trained it together.
    """

    settings: dict[str, Any]
    point: ResumePoint
    torch_version: str
    data_digest: str
    state: State
    mlpx_version: str = mlpx.__version__
    num_processes: int = 1


def save(folder: Path, checkpoint: Checkpoint, require_held: Callable[[], None] = go_ahead) -> None:
    """Write a checkpoint durably, then drop all but it and the one before it.

    Args:
        folder: Where checkpoints lie.
        checkpoint: What is written.
        require_held: Called before a file gets its name or goes; it raises where another process holds the run now.

    Raises:
        Diverged: A weight of a single training is not finite; nothing is written.
        OSError: The disk is full, and the like; the checkpoints before it stand.
    """
    _require_finite(checkpoint)
    (epoch, step), seconds, metrics_offset, diverged = checkpoint.point
    content = {
        "settings": checkpoint.settings,
        "position": (epoch, step),
        "seconds": seconds,
        "metrics_offset": metrics_offset,
        "diverged": dict(diverged),
        "torch_version": checkpoint.torch_version,
        "mlpx_version": checkpoint.mlpx_version,
        "data_digest": checkpoint.data_digest,
        "num_processes": checkpoint.num_processes,
        "state": {name: part.cpu() if isinstance(part, Tensor) else part for name, part in checkpoint.state.items()},
    }
    # torch.save to a file hides why it failed, so the bytes are made in memory.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    if not folder.exists():
        folder.mkdir()
        sync_folder(folder.parent)
    path = folder / f"epoch{epoch:010d}-step{step:010d}-{_digest(data)}.pt"
    write_file(path, data, require_held)
    others = [other for other in _newest_first(folder) if other != path]
    # What was listed before this check is no checkpoint of a process that takes the run over after it.
    require_held()
    # A checkpoint with a later name is broken, or of a future that was given up.
    ahead = [other for other in others if other.name > path.name]
    for other in ahead + others[len(ahead) + KEPT - 1 :]:
        other.unlink(missing_ok=True)


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[Path]]:
    """The newest checkpoint that is whole, and the broken ones passed over; ``None`` where none was ever written.

    Raises:
        InputError: There are checkpoints, but none that is whole.
        OSError: The machine cannot read them; they may well be whole.
    """
    broken: list[Path] = []
    for path in _newest_first(folder):
        try:
            data = read_regular(path)
        except OSError as error:
            if error.errno not in NO_FILE or error.errno == errno.EACCES:
                raise
            broken.append(path)
            continue
        try:
            return _parse(path.name, data), broken
        except MemoryError:
            raise
        except Exception:  # whatever a damaged file makes a parser raise, the one before it serves
            broken.append(path)
    if broken:
        raise InputError(broken[0], "is broken, as is every other checkpoint", "Start the run anew.")
    return None, broken


def _require_finite(checkpoint: Checkpoint) -> None:
    # Several replicas are judged at the next row, at which the others go on.
    if checkpoint.settings.get("replicas", 1) > 1:
        return
    epoch, step = checkpoint.point.position
    for name, part in checkpoint.state.items():
        if isinstance(part, Tensor) and part.is_floating_point() and not bool(part.isfinite().all()):
            raise Diverged("diverged", f"{name} is not finite {step} steps after epoch {epoch}", "Try a lower --lr.")


def _newest_first(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*.pt") if NAME.fullmatch(path.name)), reverse=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _parse(file_name: str, data: bytes) -> Checkpoint:
    """The checkpoint that a file holds; raises all kinds of exceptions where it is damaged."""
    name = NAME.fullmatch(file_name)
    if name is None or name[3] != _digest(data):
        raise ValueError("checksum")
    members = zipfile.ZipFile(io.BytesIO(data)).infolist()
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > len(data):
        raise ValueError("a zip that grows")
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # Checkpoints of version 0.2.0 and older are of runs that ended where a replica diverged.
    diverged = dict(content.get("diverged", {}))
    point = ResumePoint(Position(*content["position"]), content["seconds"], content["metrics_offset"], diverged)
    processes = content.get("num_processes", 1)
    numbers = (*point.position, point.metrics_offset, *diverged, *diverged.values(), processes)
    if point.position != (int(name[1]), int(name[2])) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("position")
    # Checkpoints of version 0.1.0 have neither a digest of the data nor a version of mlpx, and those of 0.2.0 have no
    # number of processes.
    checkpoint = Checkpoint(
        content["settings"],
        point,
        content["torch_version"],
        content.get("data_digest", ""),
        content["state"],
        content.get("mlpx_version", "0.1.0"),
        processes,
    )
    if not isinstance(point.seconds, float) or not isinstance(checkpoint.settings, dict):
        raise ValueError("contents")
    if not isinstance(checkpoint.data_digest, str) or not isinstance(checkpoint.mlpx_version, str):
        raise ValueError("data_digest or version")
    if not all(isinstance(part, Tensor | int | float | str) for part in checkpoint.state.values()):
        raise ValueError("state")
    return checkpoint
