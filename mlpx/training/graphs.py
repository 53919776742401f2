"""A training step as one CUDA graph, so that the GPU never waits for Python."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

WARM_UPS = 3  # as in PyTorch's "CUDA semantics", section "CUDA Graphs": libraries set themselves up outside the graph

Step = Callable[[Tensor], None]


def record(step: Step, example: Tensor, changes: Iterable[Tensor]) -> Step:
    """``step`` recorded once and replayed from then on, for arguments like ``example``, on a CUDA device.

    ``changes`` are the tensors that a step changes in place: they are left as they were.
    """
    argument = example.clone()
    saved = [(tensor, tensor.clone()) for tensor in changes]
    with torch.cuda.device(argument.device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                step(argument)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step(argument)
    for tensor, before in saved:
        tensor.copy_(before)

    def replay(given: Tensor) -> None:
        argument.copy_(given)
        graph.replay()

    return replay
