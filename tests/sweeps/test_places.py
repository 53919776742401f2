"""How many runs at a time, and which GPUs each of them sees. No GPU is needed: a program plays nvidia-smi."""

import os
import stat
from pathlib import Path

import pytest

from mlpx.errors import MachineError, UsageError
from mlpx.sweeps import places
from mlpx.sweeps.request import Options

VISIBLE = "CUDA_VISIBLE_DEVICES"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the variable nor a program that counts GPUs."""
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def nvidia_smi(folder: Path, lines: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def listed(gpus: int) -> str:
    return "\n".join(f"echo 'GPU {number}: NVIDIA (UUID: GPU-{number})'" for number in range(gpus))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("3,5", ["3", "5"]),
        (" 3 , 5 ", ["3", "5"]),
        ("0", ["0"]),
        ("", []),
        ("-1", []),
        # CUDA does not look further.
        ("2,-1,1", ["2"]),
        ("GPU-8932f937-d72c,MIG-41b3", ["GPU-8932f937-d72c", "MIG-41b3"]),
    ],
)
def test_the_variable_names_the_gpus(monkeypatch: pytest.MonkeyPatch, text: str, names: list[str]) -> None:
    monkeypatch.setenv(VISIBLE, text)
    assert places.gpus() == names


@pytest.mark.parametrize("number", [0, 1, 8])
def test_without_the_variable_nvidia_smi_counts_them(tmp_path: Path, number: int) -> None:
    nvidia_smi(tmp_path, listed(number) + "\necho '  MIG 1g.5gb Device 0: (UUID: MIG-41b3)'")
    assert places.gpus() == [str(each) for each in range(number)]


@pytest.mark.parametrize(
    "lines",
    ["echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9", "kill -9 $$", ""],
)
def test_where_nvidia_smi_fails_there_are_none(tmp_path: Path, lines: str) -> None:
    nvidia_smi(tmp_path, lines)
    assert places.gpus() == []


def test_an_nvidia_smi_that_cannot_be_started_counts_none(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "")
    (tmp_path / "nvidia-smi").write_bytes(b"\x7fELF nothing")
    assert places.gpus() == []


@pytest.mark.parametrize(
    ("visible", "share", "jobs", "found"),
    [
        ("3,5", 1, 2, ["3", "5"]),
        ("3,5", 1, None, ["3", "5"]),
        ("3,5", 1, 1, ["3"]),
        # No more at a time than there are GPUs.
        ("3,5", 1, 8, ["3", "5"]),
        # At most two on each, spread over both first.
        ("3,5", 0.5, None, ["3", "5", "3", "5"]),
        ("3,5", 0.5, 3, ["3", "5", "3"]),
        ("3,5", 0.3, None, ["3", "5"] * 3),
        ("3,5", 0.1, None, ["3", "5"] * 10),
        ("3,5", 2, None, ["3,5"]),
        ("0,1,2,3,4", 2, None, ["0,1", "2,3"]),
        # None is seen.
        ("3,5", 0, 2, ["", ""]),
        ("", 0, 2, [None, None]),
    ],
)
def test_which_gpus_each_run_sees(
    monkeypatch: pytest.MonkeyPatch, visible: str, share: float, jobs: int | None, found: list[str | None]
) -> None:
    monkeypatch.setenv(VISIBLE, visible)
    assert places.places(Options(gpus=share), jobs) == found


@pytest.mark.parametrize(
    ("visible", "share", "words"),
    [
        ("3,5", 3.0, "each run shall have 3, and there are 2"),
        ("3", 2.0, "there is one"),
        ("", 1.0, "there is none"),
        ("", 0.5, "there is none"),
    ],
)
def test_more_gpus_than_there_are_are_refused(
    monkeypatch: pytest.MonkeyPatch, visible: str, share: float, words: str
) -> None:
    monkeypatch.setenv(VISIBLE, visible)
    with pytest.raises(MachineError, match=words):
        places.places(Options(gpus=share), None)


@pytest.mark.parametrize("share", [1.5, 0.001, 1e-300])
def test_a_share_that_is_no_share_is_refused(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setenv(VISIBLE, "3,5")
    with pytest.raises(UsageError, match=f"--gpus: {share} cannot be used"):
        places.places(Options(gpus=share), None)


@pytest.mark.parametrize(
    ("cores", "asked", "jobs", "number"), [(8, 1, None, 8), (8, 3, None, 2), (2, 4, None, 1), (2, 1, 7, 7)]
)
def test_without_gpus_there_are_as_many_runs_at_a_time_as_cores_for_them(
    monkeypatch: pytest.MonkeyPatch, cores: int, asked: int, jobs: int | None, number: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert places.places(Options(cores=asked), jobs) == [None] * number


@pytest.mark.parametrize(
    ("visible", "device", "share"), [("3,5", "auto", 1), ("3,5", "cuda", 1), ("3,5", "cpu", 0), ("", "auto", 0)]
)
def test_by_default_a_run_has_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, visible: str, device: str, share: float
) -> None:
    monkeypatch.setenv(VISIBLE, visible)
    assert places.default_gpus(device) == share
