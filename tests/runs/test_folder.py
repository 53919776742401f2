"""A run folder appears complete or not at all, alone under its name, whatever happens to others or to ``latest``."""

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, tzinfo
from pathlib import Path

import pytest

from mlpx.errors import Locked, MachineError
from mlpx.experiments.poly.settings import PolySettings
from mlpx.files import temporary_for
from mlpx.runs import folder, reading
from mlpx.runs.folder import Run

SETTINGS = PolySettings()
CREATE = (
    "import os, signal, sys; from pathlib import Path\n"
    "from mlpx.experiments.poly.settings import PolySettings; from mlpx.runs import folder\n"
)


def visible(runs: Path) -> list[Path]:
    return [path for path in runs.iterdir() if not path.name.startswith(".")]


def litter(runs: Path) -> list[str]:
    return [path.name for path in runs.iterdir() if path.name.startswith(".")]


def test_a_new_run_is_locked_has_its_settings_and_is_the_latest(tmp_path: Path) -> None:
    with folder.create(tmp_path / "runs", SETTINGS, "x") as run:
        assert re.fullmatch(r"\d{8}-\d{6}-poly-x", run.path.name)
        assert reading.settings_of(run.path) == SETTINGS
        assert (tmp_path / "runs" / "latest").resolve() == run.path.resolve()
        with pytest.raises(Locked, match=f"process {os.getpid()} "):
            Run(run.path)
    Run(run.path).__exit__()
    assert litter(tmp_path / "runs") == []


CALLS = ["mkdir", "open", "ftruncate", "pwrite", "fsync", "replace", "rename", "symlink"]


@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_any_call_leaves_no_folder_without_its_settings(tmp_path: Path, call: str) -> None:
    """Killed before the first such call, before the second, and so on, until one process comes through."""
    kill = (
        f"left, call = int(sys.argv[1]), os.{call}\n"
        "def counted(*given, **more):\n"
        "    global left; left -= 1\n"
        "    if left < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return call(*given, **more)\n"
        f"os.{call} = counted; folder.create(Path('runs'), PolySettings(), 'x')"
    )
    killed = 0
    for number in range(20):
        done = subprocess.run([sys.executable, "-c", CREATE + kill, str(number)], cwd=tmp_path, stderr=subprocess.PIPE)
        for path in visible(tmp_path / "runs") if (tmp_path / "runs").exists() else []:
            assert (path / "config.toml").read_text().startswith('experiment = "poly"\n')
        if done.returncode == 0:
            break
        assert (done.returncode, done.stderr) == (-signal.SIGKILL, b"")
        killed += 1
    print(f"\n{killed} kills before a call of os.{call}")
    assert 0 < killed < 20


def test_many_processes_at_once_make_as_many_folders(tmp_path: Path) -> None:
    code = CREATE + (
        "sys.stdin.readline()\n"
        "for _ in range(10): print(folder.create(Path('runs'), PolySettings(), 'x').path.name, flush=True)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(5)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    names = [name for process in processes for name in process.communicate()[0].split()]
    assert len(names) == len(set(names)) == 50
    runs = tmp_path / "runs"
    assert {path.name for path in visible(runs)} == {*names, "latest"}
    assert all((runs / name / "config.toml").exists() for name in names)
    assert litter(runs) == []


def test_whatever_has_the_name_of_a_run_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "datetime", _Fixed)
    stem = "20261123-041530-poly-x"
    (tmp_path / stem).mkdir()  # even an empty folder
    (tmp_path / f"{stem}-2").write_text("mine")
    (tmp_path / f"{stem}-3").symlink_to("nowhere")
    with folder.create(tmp_path, SETTINGS, "x") as run:
        assert run.path.name == f"{stem}-4"
    assert list((tmp_path / stem).iterdir()) == []
    assert (tmp_path / f"{stem}-2").read_text() == "mine"
    assert (tmp_path / f"{stem}-3").is_symlink()


class _Fixed(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "_Fixed":
        return cls(2026, 11, 23, 4, 15, 30)


@pytest.mark.parametrize("call", ["symlink", "replace"])
def test_a_link_that_cannot_be_made_costs_a_warning_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "latest").symlink_to("another-users")
    real = getattr(os, call)

    def refuse(source: object, target: object) -> None:  # as over another user's link in a folder with the sticky bit
        if "latest" in str(target):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(source))
        real(source, target)

    monkeypatch.setattr(os, call, refuse)
    with pytest.warns(UserWarning, match=r"latest does not point at this run: Operation not permitted$"):
        run = folder.create(tmp_path, SETTINGS, "x")
    with run:
        assert reading.settings_of(run.path) == SETTINGS
    assert os.readlink(tmp_path / "latest") == "another-users"
    assert litter(tmp_path) == []


def test_what_killed_starts_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    young, old = temporary_for(tmp_path / "young"), temporary_for(tmp_path / "old")
    for path in (young, old):
        path.mkdir()
        (path / "lock").write_text("")
    link = temporary_for(tmp_path / "latest")
    link.symlink_to("nowhere")
    (tmp_path / ".mine.tmp").write_text("")
    for path in (old, link, tmp_path / ".mine.tmp"):
        os.utime(path, (time.time() - 3700,) * 2, follow_symlinks=False)
    folder.create(tmp_path, SETTINGS, "x").__exit__()
    assert sorted(litter(tmp_path)) == sorted([young.name, ".mine.tmp"])


@pytest.mark.parametrize("call", ["rename", "fsync", "replace"])
def test_a_folder_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(MachineError, match=r"^.*: cannot make a run folder there: Disk quota exceeded\. .*--runs-dir"):
        folder.create(tmp_path, SETTINGS, "x")
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_is_not_finite_outlives_the_run(tmp_path: Path) -> None:
    metrics = {"epoch": 5, "test_loss": 0.5, "to_train": math.inf, "slope": -math.inf, "x": math.nan}
    with folder.create(tmp_path, SETTINGS, "x") as run:
        run.record_start({})
        run.record_end("finished", 0, metrics)
    document = reading.document_of(run.path)
    assert document["metrics"] == {"epoch": 5, "test_loss": 0.5, "to_train": None, "slope": None, "x": None}
    assert document["not_finite"] == {"to_train": "inf", "slope": "-inf", "x": "nan"}
    assert repr(reading.metrics_of(document)) == repr(metrics)


def test_only_a_run_with_such_metrics_names_them(tmp_path: Path) -> None:
    with folder.create(tmp_path, SETTINGS, "x") as run:
        run.record_end("finished", 0, {"to_train": math.inf})
        assert "not_finite" in run.document
        run.record_end("finished", 0, {"to_train": 1.0})
        assert "not_finite" not in json.loads((run.path / "run.json").read_text())
        run.record_end("finished", 0, {"to_train": math.inf})
        run.record_start({})
        assert "not_finite" not in json.loads((run.path / "run.json").read_text())
