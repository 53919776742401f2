import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from mlpx.errors import Diverged, InputError
from mlpx.runs import checkpoints
from mlpx.runs.checkpoints import Checkpoint, ResumePoint
from mlpx.training.loop import Position


def checkpoint(epoch: int, step: int = 0) -> Checkpoint:
    weight = torch.arange(12.0).reshape(1, 12, 1) + epoch
    point = ResumePoint(Position(epoch, step), 1.5, 99)
    return Checkpoint({"degree": 11}, point, "2.13.0", "of these data", {"weight": weight})


def weight_of(checkpoint: Checkpoint) -> torch.Tensor:
    weight = checkpoint.state["weight"]
    assert isinstance(weight, torch.Tensor)
    return weight


def put(folder: Path, data: bytes, epoch: int) -> Path:
    """A file whose name vouches for ``data``, as a hostile writer would name it."""
    path = folder / f"epoch{epoch:010d}-step{0:010d}-{checkpoints._digest(data)}.pt"
    path.write_bytes(data)
    return path


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, checkpoint(3, 7))
    loaded, broken = checkpoints.load_newest(tmp_path)
    assert loaded is not None
    assert loaded._replace(state={}) == checkpoint(3, 7)._replace(state={})
    assert torch.equal(weight_of(loaded), weight_of(checkpoint(3)))
    assert broken == []
    (path,) = tmp_path.iterdir()
    assert torch.load(path, weights_only=True)["position"] == (3, 7)


def test_no_checkpoint_at_all_is_none(tmp_path: Path) -> None:
    assert checkpoints.load_newest(tmp_path / "nowhere") == (None, [])


def test_the_last_two_are_kept_and_what_was_ahead_is_dropped(tmp_path: Path) -> None:
    for epoch in (10, 20, 30, 40):
        checkpoints.save(tmp_path, checkpoint(epoch))
    assert [path.name[5:15] for path in sorted(tmp_path.iterdir())] == ["0000000030", "0000000040"]
    checkpoints.save(tmp_path, checkpoint(35))
    assert [path.name[5:15] for path in sorted(tmp_path.iterdir())] == ["0000000030", "0000000035"]


def test_every_flipped_bit_and_every_truncation_is_noticed_and_the_one_before_serves(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, checkpoint(10))
    checkpoints.save(tmp_path, checkpoint(20))
    newest = max(tmp_path.iterdir())
    whole = newest.read_bytes()
    cases = [whole[:length] for length in range(len(whole))]
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        cases.append(bytes(damaged))
    noticed = 0
    for data in cases:
        newest.write_bytes(data)
        loaded, broken = checkpoints.load_newest(tmp_path)
        noticed += loaded is not None and loaded.point.position == (10, 0) and broken == [newest]
    print(f"\n{noticed} of {len(cases)} damaged checkpoints noticed")
    assert noticed == len(cases)


def test_none_left_is_an_input_error(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, checkpoint(10))
    next(tmp_path.iterdir()).write_bytes(b"")
    with pytest.raises(InputError, match="is broken"):
        checkpoints.load_newest(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "fifo", "link to itself"])
def test_what_is_no_file_is_passed_over_without_waiting(tmp_path: Path, kind: str) -> None:
    checkpoints.save(tmp_path, checkpoint(10))
    path = tmp_path / f"epoch{20:010d}-step{0:010d}-{'0' * 16}.pt"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name)
    loaded, broken = checkpoints.load_newest(tmp_path)
    assert loaded is not None
    assert loaded.point.position == (10, 0)
    assert broken == [path]


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_nothing_runs(tmp_path: Path, as_zip: bool) -> None:
    target = tmp_path / "owned"
    if as_zip:
        buffer = io.BytesIO()
        torch.save({"state": Hostile(target)}, buffer)
        data = buffer.getvalue()
    else:
        data = pickle.dumps(Hostile(target))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    put(folder, data, 10)
    with pytest.raises(InputError):
        checkpoints.load_newest(folder)
    assert not target.exists()


def test_a_zip_bomb_is_refused_before_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save(tmp_path, checkpoint(10))
    source = zipfile.ZipFile(next(tmp_path.iterdir()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in source.infolist():
            data = source.read(member)
            bomb.writestr(member.filename, bytes(200_000_000) if member.filename.endswith("/data/0") else data)
    bomb_path = put(tmp_path, buffer.getvalue(), 20)
    assert bomb_path.stat().st_size < 1_000_000
    parsed: list[int] = []
    load = torch.load

    def spy(file: io.BytesIO, **options: Any) -> object:
        parsed.append(len(file.getvalue()))
        return load(file, **options)

    monkeypatch.setattr(torch, "load", spy)
    loaded, broken = checkpoints.load_newest(tmp_path)
    assert parsed == [next(path for path in tmp_path.iterdir() if path != bomb_path).stat().st_size]
    assert loaded is not None
    assert broken == [bomb_path]


CONTENT = {
    "settings": {"degree": 11},
    "position": (20, 0),
    "seconds": 1.5,
    "metrics_offset": 99,
    "torch_version": "2.13.0",
    "data_digest": "",
    "state": {"weight": torch.zeros(3)},
}


@pytest.mark.parametrize(
    "change",
    [
        {"position": (20, -1)},
        {"position": (21, 0)},
        {"metrics_offset": "0"},
        {"diverged": 3},
        {"diverged": {"0": 1}},
        {"diverged": {0: -1}},
        {"seconds": "long"},
        {"settings": 3},
        {"state": {"weight": [3]}},
        {"data_digest": 1},
        {"mlpx_version": 1},
    ],
)
def test_contents_that_make_no_sense_are_passed_over(tmp_path: Path, change: dict[str, object]) -> None:
    buffer = io.BytesIO()
    torch.save({**CONTENT, **change}, buffer)
    put(tmp_path, buffer.getvalue(), 20)
    checkpoints.save(tmp_path / "other", checkpoint(1))
    with pytest.raises(InputError):
        checkpoints.load_newest(tmp_path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_never_saved(tmp_path: Path, bad: float) -> None:
    checkpoints.save(tmp_path, checkpoint(10))
    broken = checkpoint(20)
    weight_of(broken)[0, 5, 0] = bad
    with pytest.raises(Diverged, match="weight is not finite 0 steps after epoch 20"):
        checkpoints.save(tmp_path, broken)
    assert [path.name[5:15] for path in tmp_path.iterdir()] == ["0000000010"]


def test_a_state_may_hold_numbers_and_text(tmp_path: Path) -> None:
    state = {**checkpoint(10).state, "best_epoch": 7, "best_loss": 0.25, "name": "x"}
    checkpoints.save(tmp_path, checkpoint(10)._replace(state=state))
    loaded, _ = checkpoints.load_newest(tmp_path)
    assert loaded is not None
    assert {**loaded.state, "weight": None} == {**state, "weight": None}


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(13, "Permission denied"), OSError(5, "I/O error")])
def test_a_machine_that_cannot_read_says_so_and_nothing_is_called_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    checkpoints.save(tmp_path, checkpoint(10))

    def fail(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(checkpoints, "read_regular", fail)
    with pytest.raises(type(error)):
        checkpoints.load_newest(tmp_path)


def test_of_several_replicas_one_may_be_not_finite_until_the_next_row_and_what_diverged_is_kept(tmp_path: Path) -> None:
    state = {"weight": torch.zeros(3, 4), "loss_sum": torch.tensor([1.0, float("inf"), 2.0])}
    point = checkpoint(10).point._replace(diverged={2: 10, 0: 5})
    several = checkpoint(10)._replace(settings={"replicas": 3}, state={**state}, point=point)
    checkpoints.save(tmp_path, several)
    loaded, _ = checkpoints.load_newest(tmp_path)
    assert loaded is not None
    assert list(loaded.point.diverged.items()) == [(2, 10), (0, 5)]
    assert torch.equal(torch.as_tensor(loaded.state["loss_sum"]), state["loss_sum"])


def test_a_checkpoint_of_version_0_1_0_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({name: value for name, value in CONTENT.items() if name != "data_digest"}, buffer)
    put(tmp_path, buffer.getvalue(), 20)
    loaded, _ = checkpoints.load_newest(tmp_path)
    assert loaded is not None
    assert (loaded.mlpx_version, loaded.data_digest, loaded.point.position) == ("0.1.0", "", (20, 0))
