"""Data that is missing, broken or hostile, and servers that are: one line, the right exit code, nothing half-done."""

import contextlib
import gzip
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import assert_fails, environment, flipped, gz, mlpx
from servers import NETWORK_FAULTS, Served, limit_downloads

from mlpx.experiments.mlp import idx, images
from mlpx.experiments.mlp.images import PARTS

COUNTS = {"train": 40, "t10k": 20}


def idx_file(shape: tuple[int, ...], fill: bytes = b"\x07", magic: int | None = None) -> bytes:
    head = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape) if magic is None else magic, *shape)
    size = 1
    for side in shape:
        size *= side
    return head + fill * size


def good_files() -> dict[str, bytes]:
    """The four files of a tiny data set, gzipped the same way each time."""
    files = {}
    for part in PARTS:
        count = COUNTS[part.partition("-")[0]]
        shape = (count, 28, 28) if "images" in part else (count,)
        files[f"{part}.gz"] = gzip.compress(idx_file(shape), mtime=0)
    return files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a good tiny Fashion-MNIST; parsed data is cached apart from the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MLPX_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in good_files().items():
        (raw / name).write_bytes(content)
    return raw


TRAIN = ("mlp", "--data-dir", "data", "--epochs", "1", "--hidden", "4", "--quiet")
IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


@pytest.fixture
def server() -> Iterator[Served]:
    with contextlib.closing(Served(good_files())) as served:
        yield served


DATA_FAULTS: dict[str, tuple[str, Callable[[bytes], bytes], tuple[str, ...]]] = {
    "gzip truncated": (IMAGES, lambda c: c[: len(c) // 2], ("not whole",)),
    "gzip truncated in its end": (IMAGES, lambda c: c[:-4], ("not whole",)),
    "gzip flipped": (IMAGES, flipped, ("CRC",)),
    "not gzip": (IMAGES, lambda c: gzip.decompress(c), ("not gzip",)),
    "empty": (IMAGES, lambda c: b"", ("is empty",)),
    "empty gzip": (IMAGES, lambda c: gz(b""), ("is empty",)),
    "a bomb": (IMAGES, lambda c: gz(gzip.decompress(c) + bytes(300 * 2**20)), ("goes on after the 31360 bytes",)),
    "header alone": (IMAGES, lambda c: gz(gzip.decompress(c)[:16]), ("ends after 0 of 31360",)),
    "half a header": (IMAGES, lambda c: gz(gzip.decompress(c)[:9]), ("ends within its header",)),
    "less than a magic number": (IMAGES, lambda c: gz(b"\0\0"), ("ends within its header",)),
    "wrong magic": (IMAGES, lambda c: gz(idx_file((40, 28, 28), magic=0x0D03)), ("not an IDX file", "00000d03")),
    "labels for images": (IMAGES, lambda c: gz(idx_file((40,))), ("holds labels where images are expected",)),
    "images for labels": (LABELS, lambda c: gz(idx_file((40, 28, 28))), ("holds images where labels are expected",)),
    "no images": (IMAGES, lambda c: gz(idx_file((0, 28, 28))), ("announces 0 examples",)),
    "absurdly many": (IMAGES, lambda c: gz(struct.pack(">4I", 0x803, 2**32 - 1, 28, 28)), ("4294967295",)),
    "absurd sides": (IMAGES, lambda c: gz(struct.pack(">4I", 0x803, 40, 2**31, 2**31)), ("2147483648", "28×28")),
    "zero sides": (IMAGES, lambda c: gz(idx_file((40, 0, 28))), ("0×28", "28×28")),
    "other sides": (IMAGES, lambda c: gz(idx_file((40, 32, 32))), ("32×32", "28×28")),
    "fewer labels": (LABELS, lambda c: gz(idx_file((39,))), ("39 labels for 40 images",)),
    "label 10": (LABELS, lambda c: gz(idx_file((40,), b"\x0a")), ("label 10", "0 to 9")),
}
FILE_FAULTS: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a fifo": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}
CASES = [
    *((f"data: {name}", name) for name in (*DATA_FAULTS, *FILE_FAULTS)),
    *((f"network: {name}", name) for name in NETWORK_FAULTS),
]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[case for case, _ in CASES])
@pytest.mark.program
def test_a_fault_of_data_or_network_is_5_and_leaves_nothing(
    folder: Path,
    server: Served,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kind: str,
    name: str,
) -> None:
    words: tuple[str, ...]
    if kind.startswith("data"):
        if name in DATA_FAULTS:
            file, broken, words = DATA_FAULTS[name]
            (folder / file).write_bytes(broken((folder / file).read_bytes()))
        else:
            file, words = IMAGES, ("regular",) if name != "a folder" else ("irectory",)
            (folder / file).unlink()
            FILE_FAULTS[name](folder / file)
        words += (file, "expected" if "expected" in words[0] else "")
    else:
        limit_downloads(monkeypatch)
        mirror = f"{server.url(name)}/"
        (folder.parent / "elsewhere").mkdir()
        for path in folder.iterdir():
            path.rename(folder.parent / "elsewhere" / path.name)
        checksums = {n: hashlib.md5(c, usedforsecurity=False).hexdigest() for n, c in good_files().items()}
        monkeypatch.setattr(images, "_published", lambda _: ([mirror], checksums))
        words = (
            *(word.format("md5") for word in NETWORK_FAULTS[name]),
            f"{PARTS[0]}.gz and 3 more are missing",
            str(folder.relative_to(folder.parents[2])),
            "--data-dir",
        )

    result = mlpx(capfd, *TRAIN)
    assert_fails(result, 5, *words)
    assert result.out == ""
    assert not Path("runs").exists()
    if kind.startswith("network"):
        assert list(folder.iterdir()) == []  # neither the file nor a part of it
        monkeypatch.setattr(images, "_published", lambda _: ([mirror, f"{server.url('good')}/"], checksums))
        assert mlpx(capfd, *TRAIN).code == 0  # the next try starts clean, and a mirror that works is enough
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == good_files()


def test_good_data_trains_and_is_read_once(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert mlpx(capfd, *TRAIN)[::2] == (0, "")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (kept,) = Path("cache/mlpx/parsed").iterdir()
    monkeypatch.setattr(idx, "read", lambda *_: pytest.fail("was read again"))
    assert mlpx(capfd, *TRAIN).code == 0
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parents[2] / "cache"))
    monkeypatch.chdir(folder.parents[2])

    kept.write_bytes(kept.read_bytes()[:100])  # a broken cache is made anew
    assert mlpx(capfd, *TRAIN)[::2] == (0, "")
    assert kept.stat().st_size > 30_000

    (folder / LABELS).write_bytes(gz(idx_file((40,), b"\x03")))  # changed sources are read anew
    train, _ = images.load("fashion-mnist", "data")
    assert set(train.labels.tolist()) == {3}
    assert len(list(Path("cache/mlpx/parsed").iterdir())) == 1


def test_plain_files_serve_as_gzipped_ones_do(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    train, test = images.load("fashion-mnist", "data")
    assert (train.images.shape, test.labels.shape) == ((40, 28, 28), (20,))


@pytest.mark.parametrize("cache", ["/proc/nothing", "/dev/null"])
def test_a_cache_that_cannot_be_written_costs_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    assert mlpx(capfd, *TRAIN)[::2] == (0, "")


def test_no_home_says_which_variable_to_set(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it is for a user without a name
    assert_fails(mlpx(capfd, "mlp"), 6, "MLPX_DATA_DIR")
    assert mlpx(capfd, *TRAIN)[::2] == (0, "")


def test_a_data_folder_that_cannot_be_made_is_6(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_fails(mlpx(capfd, "mlp", "--data-dir", "/dev/null"), 6, "--data-dir")


def test_fetch_downloads_what_is_missing_and_uses_what_is_there(
    folder: Path, server: Served, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checksums = {n: hashlib.md5(c, usedforsecurity=False).hexdigest() for n, c in good_files().items()}
    monkeypatch.setattr(images, "_published", lambda _: ([f"{server.url('good')}/"], checksums))
    (folder / LABELS).unlink()
    (folder / f".{LABELS}.0123abcd.tmp").write_bytes(b"what a killed download left")
    result = mlpx(capfd, "data", "fetch", "fashion-mnist", "--data-dir", "data")
    assert result == (0, f"{folder}\n", "")
    assert {path.name for path in folder.iterdir()} == set(good_files())
    assert mlpx(capfd, "data", "fetch", "fashion-mnist", "--data-dir", "data") == (0, f"{folder}\n", "")
    assert server.asked == [f"good/{LABELS}"]
    (folder / LABELS).write_bytes(b"broken")
    assert mlpx(capfd, "data", "fetch", "fashion-mnist", "--data-dir", "data").code == 5


@pytest.mark.program
def test_four_downloads_at_once_leave_one_good_file(tmp_path: Path, server: Served) -> None:
    content = good_files()[IMAGES]
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    code = (
        "from pathlib import Path; from mlpx.data.downloads import download\n"
        f"download(['{server.url('slow')}/{IMAGES}'], Path('there/{IMAGES}'), '{checksum}')"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment()) for _ in range(4)]
    assert [process.wait(30) for process in started] == [0, 0, 0, 0]
    assert [path.name for path in (tmp_path / "there").iterdir()] == [IMAGES]
    assert (tmp_path / "there" / IMAGES).read_bytes() == content
    assert server.asked == [f"slow/{IMAGES}"]


@pytest.mark.parametrize("name", images.PUBLISHED)
def test_mirrors_and_checksums_are_torchvisions(name: str) -> None:
    mirrors, checksums = images._published(name)
    assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in mirrors)
    assert set(checksums) == {f"{part}.gz" for part in PARTS}
    assert all(len(checksum) == 32 for checksum in checksums.values())


@pytest.mark.program
def test_a_run_whose_data_is_there_never_imports_torchvision(folder: Path) -> None:
    code = (
        "import sys; from mlpx.cli.app import run\n"
        f"code = run({list(TRAIN)!r}); print(code, 'torchvision' in sys.modules)"
    )
    cwd = folder.parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment(), capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False"


def test_a_run_does_not_go_on_with_other_images(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert mlpx(capfd, *TRAIN).code == 0
    before = Path("runs/latest/metrics.csv").read_bytes()
    (folder / IMAGES).write_bytes(gz(idx_file((40, 28, 28), b"\x09")))
    assert_fails(mlpx(capfd, "resume", "latest", "--epochs", "2"), 5, "the data: is not what the run began with")
    assert Path("runs/latest/metrics.csv").read_bytes() == before
    (folder / IMAGES).write_bytes(good_files()[IMAGES])
    assert mlpx(capfd, "resume", "latest", "--epochs", "2").code == 0
