"""The data sets: 28×28 gray images of ten classes. Fashion-MNIST and MNIST come from files, glyphs are drawn here.

Files lie where torchvision puts them, in ``DATA_DIR/FashionMNIST/raw`` and ``DATA_DIR/MNIST/raw``. Files that are there
are used as they are, and missing ones are downloaded. Their content is kept, unpacked, in the user's cache folder.
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

from mlpx.data.downloads import provide
from mlpx.data.folders import cache_folder, data_folder
from mlpx.errors import InputError, MlpxError
from mlpx.experiments.mlp import idx
from mlpx.experiments.mlp.settings import SIDE
from mlpx.files import write_file

DIGITS = tuple("0123456789")
CLASSES = {
    "fashion-mnist": (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    "mnist": DIGITS,
    "glyphs": DIGITS,
}
"""The names of the classes, by data set; there is an entry for each value of the setting ``dataset``."""
PUBLISHED = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST"}
"""The data sets that come from files, with the names that torchvision has for them."""
PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
WAYS_OUT = "Put them there, name their folder by --data-dir or MLPX_DATA_DIR, or take --dataset glyphs."


class Examples(NamedTuple):
    """``images`` (N, 28, 28) and ``labels`` (N,), both uint8."""

    images: Tensor
    labels: Tensor


def load(name: str, data_dir: str) -> tuple[Examples, Examples]:
    """The training and the test set called ``name``.

    Raises:
        InputError: Files are missing and cannot be downloaded, or are broken.
        MachineError: A download cannot be written.
    """
    if name == "glyphs":
        # Glyphs need matplotlib, which takes half a second to import.
        from mlpx.experiments.mlp import glyphs

        train, test = glyphs.make(seed=0)
        return Examples(*train), Examples(*test)
    folder = fetch(name, data_dir)
    paths = [_find(folder, part) or folder / part for part in PARTS]
    cache = _Cache(folder, paths)
    arrays = cache.read()
    if arrays is None:
        arrays = [idx.read(path, (SIDE, SIDE) if "images" in path.name else ()) for path in paths]
        _require_pairs(paths, arrays)
        cache.write(arrays)
    return Examples(*arrays[:2]), Examples(*arrays[2:])


def fetch(name: str, data_dir: str) -> Path:
    """The folder with the files of the data set ``name``; missing files are downloaded.

    Raises:
        InputError: They cannot be downloaded.
        MachineError: They cannot be written.
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
    """Check that there are as many labels as images, and that the labels go from 0 to 9.

    Raises:
        InputError: They do not.
    """
    for i in (0, 2):
        images, labels = arrays[i : i + 2]
        if len(images) != len(labels):
            raise InputError(paths[i + 1], f"{len(labels)} labels for {len(images)} images", idx.REMEDY)
        if (largest := int(labels.max())) >= len(DIGITS):
            raise InputError(paths[i + 1], f"holds the label {largest}, and labels go from 0 to 9", idx.REMEDY)


def _published(name: str) -> tuple[list[str], dict[str, str]]:
    """The mirrors, and the MD5 checksum of each file, which torchvision knows."""
    published = getattr(import_torchvision().datasets, PUBLISHED[name])
    return list(published.mirrors), dict(published.resources)


def import_torchvision() -> Any:
    """Import torchvision, even where its compiled operators do not fit this build of torch.

    A CUDA build of torchvision beside a CPU build of torch fails at import, because it describes operators that could
    not be loaded. It can be imported once these operators are declared. Nothing here calls them.
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


class _Cache:
    """The content of a folder's files, unpacked, in the user's cache folder: about 500 times quicker to load.

    It serves as long as the files are the same. Their sizes are those of any data set of this kind, and times of
    modification can be copied with a file, so inodes and times of change, which cannot, are compared too.
    """

    def __init__(self, folder: Path, paths: list[Path]) -> None:
        self._path: Path | None = None
        # Where there is no cache folder, or a file is missing, the files are simply read.
        with contextlib.suppress(MlpxError, OSError):
            name = hashlib.sha256(str(folder.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
            states = [(path.name, *_state(path)) for path in paths]
            self._sources = json.dumps([str(folder.absolute()), states])
            self._path = cache_folder() / "parsed" / f"{name}.safetensors"

    def read(self) -> list[Tensor] | None:
        """The arrays of the files, or ``None`` where the cache does not have them."""
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
        """Keep the arrays, where the cache folder can be written."""
        if self._path is not None:
            data = safetensors.torch.save(dict(zip(PARTS, arrays, strict=True)), {"sources": self._sources})
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_file(self._path, data)


def _state(path: Path) -> tuple[int, ...]:
    """What tells a file from any other that has been at its path."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
