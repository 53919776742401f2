"""Weights that are read are those that were written, and a broken or hostile file is an input error."""

import json
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from mlpx.errors import InputError
from mlpx.experiments.poly.settings import PolySettings
from mlpx.runs import weights


def hostile(shape: list[int], offsets: tuple[int, int] = (0, 0)) -> bytes:
    """A file of one tensor that passes the checks of safetensors: no number of elements, or too many to count."""
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
    return struct.pack("<Q", len(header)) + header


def test_what_is_written_is_read_and_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    learned = {"weight": torch.randn(1, 4), "bias": torch.randn(3)}
    data = weights.to_bytes(learned, PolySettings())
    assert data == weights.to_bytes(learned, PolySettings())
    (tmp_path / weights.NAME).write_bytes(data)
    again = weights.read(tmp_path)
    assert {name: tensor.tolist() for name, tensor in again.items()} == {k: v.tolist() for k, v in learned.items()}


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 100, hostile([0, 2**62, 4]), hostile([0, 2**63]), hostile([0, 2**64 - 1]), hostile([2**62], (0, 8))],
    ids=["empty", "garbage", "strides", "signed", "unsigned", "short"],
)
def test_a_broken_or_hostile_file_is_an_input_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / weights.NAME).write_bytes(data)
    with pytest.raises(InputError, match=r"weights\.safetensors: cannot be read .* Train the run anew\.$"):
        weights.read(tmp_path)


def test_a_lack_of_memory_does_not_blame_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    (tmp_path / weights.NAME).write_bytes(b"")
    monkeypatch.setattr(safetensors.torch, "load", fail)
    with pytest.raises(RuntimeError, match="allocate memory"):
        weights.read(tmp_path)


def test_what_a_run_kept_is_read_with_its_metrics_and_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has not finished"):
        weights.learned_of(tmp_path)
    (tmp_path / weights.NAME).write_bytes(weights.to_bytes({"weight": torch.ones(1)}, PolySettings()))
    document = {"status": "finished", "metrics": {"a": 1.0, "b": None}, "not_finite": {"b": "inf"}}
    (tmp_path / "run.json").write_text(json.dumps(document))
    (tmp_path / "words").write_bytes(b"some")
    learned = weights.learned_of(tmp_path)
    assert learned.weights["weight"].tolist() == [1.0]
    assert learned.metrics == {"a": 1.0, "b": float("inf")}
    assert learned.read("words") == b"some"
    with pytest.raises(InputError, match=r"other: No such file or directory\. Train the run anew\.$"):
        learned.read("other")
