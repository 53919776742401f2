"""Files are written as a whole, errors name the file that was meant, and nobody else's file is touched."""

import errno
import os
import time
from pathlib import Path

import pytest

from mlpx import files
from mlpx.errors import MachineError, UsageError


def test_what_is_written_is_read_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for data in (b"one", b"two"):
        files.write_file(path, data)
        assert files.read_regular(path) == data
    assert files.read_regular(path, 2) == b"tw"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_an_error_names_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(source: object, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

    path = tmp_path / "a"
    files.write_file(path, b"old")
    if call == "open":
        monkeypatch.setattr("builtins.open", fail)
    else:
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_file(path, b"new")
    monkeypatch.undo()
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_keeps_its_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        files.write_file(tmp_path / "nowhere" / "a.png", b"x")
    assert caught.value.filename == str(tmp_path / "nowhere" / "a.png")
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(NotADirectoryError):
        files.write_file(tmp_path / "file" / "a.png", b"x")


@pytest.mark.parametrize("name", [".", "", "/", "..", "folder"])
def test_a_folder_cannot_be_written_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_file(Path(name), b"x")
    with pytest.raises(UsageError, match=r"^--attention: .* is a folder\. Give the name of a file\.$"):
        files.require_writable(Path(name), "--attention")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_what_cannot_be_written_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.require_writable(tmp_path / "new.png", "--attention")
    (tmp_path / "old.png").write_bytes(b"old")
    files.require_writable(tmp_path / "old.png", "--attention")
    for place in ("nowhere", "old.png"):
        with pytest.raises(MachineError, match=r"^--attention: there is no folder "):
            files.require_writable(tmp_path / place / "a.png", "--attention")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(MachineError, match=r"^--attention: the folder '.*' cannot be written"):
        files.require_writable(tmp_path / "new.png", "--attention")


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_only_regular_files_are_read_and_none_is_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="directory" if kind == "folder" else "is not a regular file"):
        files.read_regular(path)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_only_temporary_files_of_our_own_are_removed(tmp_path: Path) -> None:
    theirs = [".backup.tmp", ".x.tmp", ".a.pt.0123ABCD.tmp", "a.0123abcd.tmp", ".0123abcd.tmp", ".a.0123abcd.tmp.keep"]
    ours = files.temporary_for(tmp_path / "weights.safetensors")
    for name in (*theirs, ours.name):
        (tmp_path / name).write_bytes(b"")
    files.temporary_for(tmp_path / "latest").symlink_to("nowhere")
    (files.temporary_for(tmp_path / "run") / "inside").mkdir(parents=True)
    files.remove_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(theirs)
    files.remove_temporaries(tmp_path / "nowhere")


def test_young_temporary_files_stay_where_that_is_asked(tmp_path: Path) -> None:
    young, old = files.temporary_for(tmp_path / "young"), files.temporary_for(tmp_path / "old")
    young.write_bytes(b"")
    old.write_bytes(b"")
    os.utime(old, (time.time() - 3700,) * 2)
    files.remove_temporaries(tmp_path, 3600)
    assert list(tmp_path.iterdir()) == [young]
