"""The commit that is recorded is that of mlpx's own checkout, wherever mlpx is called from."""

import os
import subprocess
from pathlib import Path

import pytest

from mlpx.runs.provenance import _commit


def repository(path: Path, file: bytes) -> str:
    """Make a repository with one committed file, and return its commit."""
    path.mkdir()
    (path / os.fsdecode(file)).write_text("one")
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *arguments], cwd=path, check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=path, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A checkout, and its commit."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    return tmp_path / "own", repository(tmp_path / "own", b"own")


def test_the_commit_and_whether_files_differ_are_known(own: tuple[Path, str], tmp_path: Path) -> None:
    checkout, commit = own
    assert _commit(checkout) == {"commit": commit, "dirty": False}
    (checkout / "own").write_text("two")
    assert _commit(checkout) == {"commit": commit, "dirty": True}
    assert _commit(tmp_path) is None


def test_a_hook_of_another_repository_does_not_change_the_commit(
    own: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, commit = own
    other = tmp_path / "other"
    assert repository(other, b"other") != commit
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert _commit(checkout) == {"commit": commit, "dirty": False}


def test_file_names_that_are_not_utf_8_do_no_harm(tmp_path: Path) -> None:
    checkout, name = tmp_path / "own", b"gr\xfcn"
    commit = repository(checkout, name)
    subprocess.run(["git", "config", "core.quotePath", "false"], cwd=checkout, check=True)
    (checkout / os.fsdecode(name)).write_text("two")
    assert _commit(checkout) == {"commit": commit, "dirty": True}
