"""The cache of unpacked images: it never answers for other files."""

import gzip
import os
import struct
from pathlib import Path
from typing import get_args

import pytest

from mlpx.experiments.mlp import idx, images
from mlpx.experiments.mlp.settings import Dataset


def write(folder: Path, label: int) -> None:
    """A tiny Fashion-MNIST, uncompressed, so that its files have one size whatever the label."""
    for part in images.PARTS:
        shape = (4, 28, 28) if "images" in part else (4,)
        header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
        (folder / part).write_bytes(header + bytes([label]) * (4 * 784 if "images" in part else 4))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    write(raw, 1)
    return raw


def labels(folder: Path) -> set[int]:
    train, test = images.load("fashion-mnist", str(folder.parents[1]))
    return {*train.labels.tolist(), *test.labels.tolist()}


@pytest.mark.parametrize("replaced", [False, True], ids=["overwritten", "replaced"])
def test_other_images_of_the_same_size_and_time_are_read(folder: Path, replaced: bool) -> None:
    assert labels(folder) == {1}
    times = {part: os.stat(folder / part) for part in images.PARTS}
    if replaced:  # as rsync does
        for part in images.PARTS:
            (folder / part).unlink()
    write(folder, 2)
    for part, before in times.items():
        os.utime(folder / part, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert os.stat(folder / part).st_mtime_ns == before.st_mtime_ns
    assert labels(folder) == {2}


def test_the_same_files_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert labels(folder) == {1}
    monkeypatch.setattr(idx, "read", lambda *_: pytest.fail("was read again"))
    assert labels(folder) == {1}


def test_each_data_set_has_ten_classes() -> None:
    assert {len(names) for names in images.CLASSES.values()} == {10}
    assert set(images.PUBLISHED) < set(images.CLASSES) == set(get_args(Dataset))


def test_files_packed_and_not_are_the_same_images(folder: Path) -> None:
    before = images.load("fashion-mnist", str(folder.parents[1]))[0].images
    for part in images.PARTS:
        (folder / f"{part}.gz").write_bytes(gzip.compress((folder / part).read_bytes()))
        (folder / part).unlink()
    assert images.load("fashion-mnist", str(folder.parents[1]))[0].images.equal(before)
