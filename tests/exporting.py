"""What the tests of the exports share: run folders with several rows and pictures, and what a folder looks like."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlpx.runs import folder
from mlpx.runs.folder import Run
from mlpx.runs.metrics import Metrics
from mlpx.settings.base import Settings
from mlpx.settings.metrics import columns

STARTED = "2026-11-23T04:15:30.250+00:00"
"""When every run of these tests started, which is so many seconds after 1970."""
SECONDS = 1795407330.25
Rows = Sequence[Mapping[str, float]]
ROWS: Rows = [
    {"epoch": 1, "train_loss": 0.1, "test_loss": 3.0, "generalization_loss": 2.9, "seconds": 0.5},
    {"epoch": 10, "train_loss": 1 / 3, "test_loss": 1e30, "generalization_loss": float("nan"), "seconds": 1.25},
    {"epoch": 20, "train_loss": 2e-9, "test_loss": float("inf"), "generalization_loss": -7.5, "seconds": 60.75},
]
AT_END = {"noise_floor": 0.01, "train_to_noise": 5.0}


def png(width: int, height: int) -> bytes:
    """A gray picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 0, 0, 0, 0))
    pixels = zlib.compress(bytes(height * (width + 1)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


FILES = {"loss.png": png(4, 3), "fit.png": png(2, 5), "translations.txt": b"<script>\n# no heading\n"}


def write(runs_dir: Path, settings: Settings, rows: Rows = ROWS, status: str = "finished") -> Path:
    """A run folder with these rows, its pictures and a text, written without a training."""
    with folder.create(runs_dir, settings, settings.label) as run:
        fill(run, settings, rows, status)
    return run.path


def fill(run: Run, settings: Settings, rows: Rows = ROWS, status: str = "finished") -> None:
    """Write into a run folder what a training leaves."""
    facts = {
        "command": "mlpx poly --name '<script>alert(1)</script>'",
        "host": "node7",
        "versions": {"mlpx": "0.1", "torch": "2.13"},
        "git": {"commit": "0123abc", "dirty": True},
        "summary": "overfitting: <b>bold</b>",
    }
    run.record_start({"experiment": settings.experiment, "seed": settings.seed, "device": "cpu", **facts})
    run.update({"started": STARTED})
    names = [column.name for column in columns(settings.metrics, len(settings.seeds))]
    file = Metrics(run.path / "metrics.csv", names)
    file.start()
    for row in rows:
        file.append({name: row.get(name, 0) for name in names})
    file.close()
    run.write(FILES)
    if status != "running":
        run.record_end(status, 0, {**rows[-1], **AT_END} if rows else {})
        run.update({"ended": "2026-11-23T04:20:00.000+00:00"})


def snapshot(path: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and folder below ``path``, with the time of its last change and its content."""
    return {
        str(each.relative_to(path)): (each.stat().st_mtime_ns, each.read_bytes() if each.is_file() else b"")
        for each in (path, *sorted(path.rglob("*")))
        if not each.is_symlink()
    }
