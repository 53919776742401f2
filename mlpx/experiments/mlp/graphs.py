"""A training step as one CUDA graph, so that the GPU never waits for Python."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# As in PyTorch's "CUDA semantics", section "CUDA Graphs": libraries set themselves up outside of the graph.
WARM_UPS = 3

Step = Callable[[Tensor], None]


def record(step: Step, example: Tensor, changes: Iterable[Tensor]) -> Step:
    """``step`` recorded once, and replayed from then on for arguments like ``example``.

    ``changes`` are the tensors that a step changes in place; recording leaves them as they were.
    """
    argument = example.clone()
    saved = [(tensor, tensor.clone()) for tensor in changes]
    replay = capture(step, argument)
    for tensor, before in saved:
        tensor.copy_(before)

    def recorded(given: Tensor) -> None:
        argument.copy_(given)
        replay()

    return recorded


def capture(step: Step, argument: Tensor) -> Callable[[], None]:
    """Take ``step`` a few times, capture it as a graph on the device of ``argument``, and give what replays it."""
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
    return graph.replay
