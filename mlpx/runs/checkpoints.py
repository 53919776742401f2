"""Checkpoints: all that resuming needs, the last two, each proof against half-writes and flipped bits.

A file is named ``epoch…-step…-DIGEST.pt``; the digest of its content stands in its name, so that one rename makes both
and plain ``torch.load(path, weights_only=True)`` reads it.
"""

import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlpx.errors import Diverged, InputError
from mlpx.files import read_regular, write_file
from mlpx.training.loop import Position

KEPT = 2
NAME = re.compile(r"epoch(\d{10})-step(\d{10})-([0-9a-f]{16})\.pt")


class Checkpoint(NamedTuple):
    """A training's state at a position; ``metrics_offset`` is the length of ``metrics.csv`` there."""

    settings: dict[str, Any]
    position: Position
    seconds: float
    metrics_offset: int
    torch_version: str
    state: dict[str, Tensor]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint durably, then drop all but it and the one before it.

    Raises:
        Diverged: a weight is not finite; nothing is written.
        OSError: the disk is full, and the like; the checkpoints before it stand.
    """
    epoch, step = checkpoint.position
    for name, tensor in checkpoint.state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            if checkpoint.settings.get("replicas", 1) > 1:  # they are the first axis of all that training changes
                name += f" of replica {int(tensor.isfinite().flatten(1).all(1).int().argmin())}"
            raise Diverged("diverged", f"{name} is not finite {step} steps after epoch {epoch}", "Try a lower --lr.")
    state = {name: tensor.cpu() for name, tensor in checkpoint.state.items()}
    buffer = io.BytesIO()  # torch.save to a file hides why it failed
    torch.save(checkpoint._replace(position=tuple(checkpoint.position), state=state)._asdict(), buffer)  # type: ignore[arg-type]
    data = buffer.getvalue()
    folder.mkdir(exist_ok=True)
    path = folder / f"epoch{epoch:010d}-step{step:010d}-{_digest(data)}.pt"
    write_file(path, data)
    others = [other for other in _newest_first(folder) if other != path]
    ahead = [other for other in others if other.name > path.name]  # broken, or of a future that was given up
    for other in ahead + others[len(ahead) + KEPT - 1 :]:
        other.unlink(missing_ok=True)


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[Path]]:
    """The newest checkpoint that is whole, and the broken ones passed over; ``None`` where none was ever written.

    Raises:
        InputError: there are checkpoints, but none that is whole.
    """
    broken: list[Path] = []
    for path in _newest_first(folder):
        try:
            return _load(path), broken
        except Exception:  # whatever a damaged file makes a parser raise, the one before it serves
            broken.append(path)
    if broken:
        raise InputError(broken[0], "is broken, as is every other checkpoint", "Start the run anew.")
    return None, broken


def _newest_first(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*.pt") if NAME.fullmatch(path.name)), reverse=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _load(path: Path) -> Checkpoint:
    data = read_regular(path)
    name = NAME.fullmatch(path.name)
    if name is None or name[3] != _digest(data):
        raise ValueError("checksum")
    members = zipfile.ZipFile(io.BytesIO(data)).infolist()
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > len(data):
        raise ValueError("a zip that grows")
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    checkpoint = Checkpoint(**content)
    position = Position(*checkpoint.position)
    numbers = (*position, checkpoint.metrics_offset)
    if position != (int(name[1]), int(name[2])) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("position")
    if not isinstance(checkpoint.seconds, float) or not isinstance(checkpoint.settings, dict):
        raise ValueError("contents")
    if not all(isinstance(tensor, Tensor) for tensor in checkpoint.state.values()):
        raise ValueError("state")
    return checkpoint._replace(position=position)
