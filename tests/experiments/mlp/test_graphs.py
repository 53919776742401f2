"""Recorded steps without a GPU: what is replayed are the operations alone, with the numbers that Python gave them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlpx.experiments.mlp import graphs
from mlpx.experiments.mlp.experiment import Classification
from mlpx.experiments.mlp.settings import MlpSettings

CPU = torch.device("cpu")


class Tape(TorchDispatchMode):
    """Keeps the operations of a block, as a CUDA graph does: with the same memory, and the same Python numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self._calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self._calls:
            again = func(*args, **kwargs)
            for tensor, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(tensor, Tensor):
                    tensor.copy_(new)


def capture(step: graphs.Step, argument: Tensor) -> Callable[[], None]:
    for _ in range(graphs.WARM_UPS):
        step(argument)
    tape = Tape()
    with tape:
        step(argument)
    return tape.replay


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.9, "weight_decay": 0.01, "schedule": "linear", "precision": "bf16", "jitter": 1, "flip": True},
        {"weight_decay": 0.01, "schedule": "linear", "label_smoothing": 0.1},
        {"momentum": 0.9, "schedule": "linear", "replicas": 2},
    ],
)
def test_replayed_operations_follow_rates_and_dropout_as_the_plain_step_does(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "capture", capture)
    given = {"dataset": "glyphs", "num_train": 500, "batch_size": 96, "hidden": [16, 12], "epochs": 3, "lr": 0.3}
    settings = MlpSettings.model_validate({**given, "dropout": 0.2, "batch_norm": True, **changes})
    recorded, plain = (Classification(settings, CPU) for _ in range(2))
    recorded._uses_graphs = True
    for task in (recorded, plain):
        for epoch in (1, 2, 3):
            for _ in task.train(epoch, 0):
                pass
    assert len(recorded._graphs) == 2
    for name, tensor in plain.state().items():
        torch.testing.assert_close(recorded.state()[name], tensor)
