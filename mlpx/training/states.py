"""Putting saved tensors back where they came from."""

from collections.abc import Mapping

from torch import Tensor

from mlpx.errors import InputError


def restore(into: Mapping[str, Tensor], saved: Mapping[str, Tensor], source: object, remedy: str) -> None:
    """Copy each tensor of ``saved`` into the one of its name, after all were found to match.

    Raises:
        InputError: names, shapes or types differ; says which, and blames ``source``.
    """
    for name in sorted(into.keys() | saved.keys()):
        expected, found = (_described(tensors.get(name)) for tensors in (into, saved))
        if expected != found:
            raise InputError(source, f"its {name} is {found}, not {expected}", remedy)
    for name, tensor in into.items():
        tensor.copy_(saved[name])


def _described(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
