"""Names of devices, on machines with and without GPUs."""

import pytest
import torch
from torch import Tensor

from mlpx.errors import MachineError, UsageError
from mlpx.training import devices


@pytest.fixture(params=[0, 1, 2])
def count(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of CUDA devices that torch pretends to find."""
    number: int = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    return number


@pytest.mark.parametrize(
    "name", ["", "gpu", "CUDA", "cpu:0", "cuda:", "cuda:00", "cuda:01", "cuda:-1", "cuda:١", "cuda:0 "]
)
def test_what_is_no_name_of_a_device_is_a_usage_error(count: int, name: str) -> None:
    with pytest.raises(UsageError, match=r"^--device: .* Give auto, cpu, cuda or cuda:N\.$"):
        devices.choose(name)


@pytest.mark.parametrize("number", [0, 1, 2, 9, 127, 128, 200, 255, 256, 257, 9999])
def test_a_number_beyond_the_devices_is_refused_however_large(count: int, number: int) -> None:
    if number < count:
        assert devices.choose(f"cuda:{number}") == torch.device("cuda", number)
    else:
        with pytest.raises(MachineError, match=rf"^--device cuda:{number}: (no|one|2) CUDA devices? found\. "):
            devices.choose(f"cuda:{number}")


def test_cudnns_attention_is_taken_out_where_a_cuda_device_is_chosen(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", calls.append)
    devices.choose("cpu")
    assert calls == []
    devices.choose("auto")
    assert calls == [False] * (count > 0)


def test_auto_is_cuda_where_there_is_one(count: int) -> None:
    assert devices.choose("cpu") == torch.device("cpu")
    assert devices.choose("auto") == torch.device("cuda" if count else "cpu")


def test_a_tensor_is_uploaded_from_pinned_memory_and_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[dict[str, object]] = []

    def to(tensor: Tensor, device: torch.device, **more: object) -> Tensor:
        copies.append({"device": device.type, "pinned": tensor is pinned, **more})
        return tensor

    tensor, pinned = torch.zeros(2), torch.ones(2)
    monkeypatch.setattr(Tensor, "pin_memory", lambda _: pinned)
    monkeypatch.setattr(Tensor, "to", to)
    devices.uploaded(tensor, torch.device("cuda"))
    devices.uploaded(tensor, torch.device("cpu"))
    assert copies == [{"device": "cuda", "pinned": True, "non_blocking": True}, {"device": "cpu", "pinned": False}]
