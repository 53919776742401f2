"""Sets of 28×28 grey images of ten classes: Fashion-MNIST and MNIST from files, glyphs made here.

Files lie as torchvision lays them, in ``DATA_DIR/FashionMNIST/raw`` and ``DATA_DIR/MNIST/raw``. Those that are there
are used as they are; missing ones are downloaded. What was read from them is kept in the user's cache folder.
"""

import contextlib
import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mlpx.data import idx
from mlpx.data.downloads import provide
from mlpx.data.folders import cache_folder, data_folder
from mlpx.errors import InputError, MlpxError
from mlpx.files import write_file

SIDE = 28
DIGITS = tuple("0123456789")
CLASSES = {
    "fashion-mnist": (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "mnist": DIGITS,
    "glyphs": DIGITS,
}
PUBLISHED = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST"}  # by torchvision's names
PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
WAYS_OUT = "Put them there, name their folder by --data-dir or MLPX_DATA_DIR, or take --dataset glyphs."


class Examples(NamedTuple):
    """``images`` (N, 28, 28) and ``labels`` (N,), both uint8."""

    images: Tensor
    labels: Tensor


def load(name: str, data_dir: str) -> tuple[Examples, Examples]:
    """The training and the test set called ``name``.

    Raises:
        InputError: files are missing and cannot be had, or are broken.
        MachineError: what was downloaded cannot be written.
    """
    if name == "glyphs":
        from mlpx.data import glyphs  # with matplotlib, which no other data set needs

        train, test = glyphs.make(seed=0)
        return Examples(*train), Examples(*test)
    folder = fetch(name, data_dir)
    paths = [_find(folder, part) or folder / part for part in PARTS]
    kept = _Kept(folder, paths)
    arrays = kept.read()
    if arrays is None:
        arrays = [idx.read(path, (SIDE, SIDE) if "images" in path.name else ()) for path in paths]
        _require_pairs(paths, arrays)
        kept.write(arrays)
    return Examples(*arrays[:2]), Examples(*arrays[2:])


def fetch(name: str, data_dir: str) -> Path:
    """The folder of the files of ``name``, which are downloaded if they are missing.

    Raises:
        InputError: they cannot be had.
        MachineError: they cannot be written.
    """
    folder = data_folder(data_dir) / PUBLISHED[name] / "raw"
    missing = [f"{part}.gz" for part in PARTS if _find(folder, part) is None]
    if missing:
        mirrors, checksums = _published(name)
        files = {file: ([mirror + file for mirror in mirrors], f"md5:{checksums[file]}") for file in missing}
        provide(folder, files, WAYS_OUT)
    return folder


def _find(folder: Path, part: str) -> Path | None:
    return next((path for path in (folder / part, folder / f"{part}.gz") if path.exists()), None)


def _require_pairs(paths: list[Path], arrays: list[Tensor]) -> None:
    """As many labels as images, each from 0 to 9; raises InputError."""
    for i in (0, 2):
        images, labels = arrays[i : i + 2]
        if len(images) != len(labels):
            raise InputError(paths[i + 1], f"{len(labels)} labels for {len(images)} images", idx.REMEDY)
        if (largest := int(labels.max())) >= len(DIGITS):
            raise InputError(paths[i + 1], f"holds the label {largest}, and labels go from 0 to 9", idx.REMEDY)


def _published(name: str) -> tuple[list[str], dict[str, str]]:
    """Mirrors, and the MD5 of each file by its name, as torchvision has them."""
    published = getattr(import_torchvision().datasets, PUBLISHED[name])
    return list(published.mirrors), dict(published.resources)


def import_torchvision() -> Any:
    """Import torchvision, also where its compiled operators don't fit this build of torch.

    A CUDA build of it beside a CPU build of torch fails at import, as it describes operators that were not loaded;
    once their schemas are declared it imports, and nothing here calls them.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision")


class _Kept:
    """What was read from a folder's files, in the user's cache: good as long as their sizes and times are the same."""

    def __init__(self, folder: Path, paths: list[Path]) -> None:
        self._path: Path | None = None
        with contextlib.suppress(MlpxError, OSError):  # no cache, or no such files: then it is read anew
            digest = hashlib.sha256(str(folder.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
            states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
            self._sources = json.dumps([str(folder.absolute()), states])
            self._path = cache_folder() / "parsed" / f"{digest}.safetensors"

    def read(self) -> list[Tensor] | None:
        """The arrays, or ``None`` where there is nothing good."""
        if self._path is None:
            return None
        try:
            with safetensors.safe_open(self._path, "pt") as file:
                if file.metadata() != {"sources": self._sources}:
                    return None
                return [file.get_tensor(part) for part in PARTS]
        except (OSError, safetensors.SafetensorError):
            return None

    def write(self, arrays: list[Tensor]) -> None:
        """Keep the arrays, where that is possible."""
        if self._path is not None:
            data = safetensors.torch.save(dict(zip(PARTS, arrays, strict=True)), {"sources": self._sources})
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_file(self._path, data)
