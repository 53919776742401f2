"""Train on a device that this machine does not have, to find what is left on the CPU, and what waits for the device.

    python tests/pretend.py

The device is made in Python. Its tensors have shapes and types, but no numbers (PyTorch's ``FakeTensorMode``), so a
step on it checks of each operation that all tensors lie on one device, and that Python reads no number back. Tensors on
the CPU stay real. A device can be made only once a process, so this runs in a process of its own, and prints as JSON
what was found in each case: an empty list where nothing was.
"""

import contextlib
import itertools
import json
import tomllib
import traceback
import unittest.mock
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import operations
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from mlpx.experiments.mlp import graphs, images
from mlpx.experiments.mlp.experiment import Classification
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly import experiment as poly
from mlpx.experiments.poly.settings import PolySettings
from mlpx.experiments.transformer.experiment import Translation
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.training.experiment import AnyExperiment

NAME = "pretend"
STEPS = 3
BEST = Path(__file__).parent.parent / "configs" / "mlp-best.toml"

Build = Callable[[torch.device], AnyExperiment]


class Pretend(TorchDispatchMode):
    """Operations that the device has a part in are checked, and not computed; all others run as they are."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fake = FakeTensorMode()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``."""
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        if any(isinstance(leaf, FakeTensor) or _is_the_device(leaf) for leaf in leaves):
            args, kwargs = tree_map_only(Tensor, self._without_numbers, (args, kwargs))
            with self._fake:
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _without_numbers(self, tensor: Tensor) -> Tensor:
        return tensor if isinstance(tensor, FakeTensor) else self._fake.from_tensor(tensor, static_shapes=True)


def _is_the_device(argument: object) -> bool:
    return isinstance(argument, torch.device) and argument.type == NAME


def make_device() -> torch.device:
    """Make the device.

    Raises:
        ImportError: This version of PyTorch cannot.
    """
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    return torch.device(NAME, 0)


@contextlib.contextmanager
def pretending() -> Iterator[None]:
    """Let the device do what this machine cannot: it has no random generator, and records a step by taking it."""
    make, tensor = torch.Generator, torch.tensor

    def tensor_by_way_of_the_cpu(*given: Any, device: torch.device | None = None, **more: Any) -> Tensor:
        return tensor(*given, **more).to(device or "cpu")

    class OnCpu:
        """A class, as the one that it stands for, since annotations name it."""

        def __new__(cls, device: object = "cpu") -> torch.Generator:  # type: ignore[misc]
            return make()

    def capture(step: Callable[..., None], *arguments: Tensor) -> Callable[[], None]:
        step(*arguments)
        return lambda: step(*arguments)

    with (
        unittest.mock.patch.object(torch, "Generator", OnCpu),
        unittest.mock.patch.object(torch, "tensor", tensor_by_way_of_the_cpu),
        unittest.mock.patch.object(poly, "STEPS_BETWEEN_STOPS", 4),
        unittest.mock.patch.object(graphs, "capture", capture),
        Pretend(),
    ):
        yield


def findings(build: Build, device: torch.device, steps: int = STEPS) -> list[str]:
    """What is wrong in the first steps of the experiment: an exception, and all that waits for the device.

    What an epoch does before its first step may wait.
    """
    counted = operations.Operations(device.type)
    try:
        with pretending():
            training = build(device).train(1, 0)
            next(training)
            with counted:
                list(itertools.islice(training, steps - 1))
    # Whatever an operation raises is what is looked for.
    except Exception as error:
        lines = [frame for frame in traceback.extract_tb(error.__traceback__) if "/mlpx/" in frame.filename]
        where = f"{Path(lines[-1].filename).name}:{lines[-1].lineno}: " if lines else ""
        return [f"{where}{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"]
    return list(dict.fromkeys(counted.waits))


def _mlp(**changes: Any) -> Build:
    settings = MlpSettings.model_validate({"dataset": "glyphs", "num_train": 1000, "batch_size": 300, **changes})

    def build(device: torch.device) -> Classification:
        return Classification(settings, device)

    return build


def _recorded(build: Build) -> Build:
    def recorded(device: torch.device) -> AnyExperiment:
        experiment: Any = build(device)
        experiment._uses_graphs = True
        return experiment  # type: ignore[no-any-return]

    return recorded


def _with_labels_on_the_cpu(device: torch.device) -> AnyExperiment:
    experiment: Any = _mlp()(device)
    experiment._train = experiment._train._replace(labels=torch.zeros(1000, dtype=torch.int64))
    return experiment  # type: ignore[no-any-return]


def _poly(device: torch.device) -> AnyExperiment:
    return poly.Polynomials(PolySettings(degree=19, replicas=3, num_train=100, batch_size=7), device)


def _transformer(**changes: Any) -> Build:
    small = {"num_layers": 2, "d_model": 32, "num_heads": 2, "d_ff": 64, "num_train": 1000, "batch_tokens": 500}
    settings = TransformerSettings.model_validate({"task": "reverse", **small, **changes})

    def build(device: torch.device) -> Translation:
        return Translation(settings, device)

    return build


def cases() -> Mapping[str, Build]:
    """What is tried, by name."""
    best = {name: value for name, value in tomllib.loads(BEST.read_text()).items() if name != "experiment"}
    best |= {"hidden": [32, 16], "batch_size": 300}
    return {
        "poly": _poly,
        "mlp": _mlp(),
        "mlp, dropout, no momentum": _mlp(dropout=0.2, weight_decay=0.01),
        "mlp, replicas": _mlp(replicas=2, dropout=0.2, momentum=0.9, schedule="linear"),
        "mlp-best": _mlp(**best),
        "mlp-best, recorded": _recorded(_mlp(**best)),
        "labels on the CPU": _with_labels_on_the_cpu,
        "transformer": _transformer(),
        "transformer, all options": _transformer(
            dropout=0.1, label_smoothing=0.1, optimizer="muon", precision="bf16", clip_norm=1.0, norm="post"
        ),
    }


def main() -> None:
    """Print what was found."""
    try:
        device = make_device()
    except ImportError as error:
        print(json.dumps({"unavailable": str(error)}))
        return
    load = images.load
    loaded = load("glyphs", "")
    with unittest.mock.patch.object(images, "load", return_value=loaded):
        print(json.dumps({name: findings(build, device) for name, build in cases().items()}, indent=1))


if __name__ == "__main__":
    main()
