"""Seeing who attends to whom."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlpx.models.attention import MultiHeadAttention
from mlpx.models.transformer import Transformer


class Maps(NamedTuple):
    """The weights of each block's heads, block by block, of one pair of S source and T target words."""

    encoder: list[Tensor]  # (H, S, S)
    decoder: list[Tensor]  # (H, T, T)
    cross: list[Tensor]  # (H, T, S): a row for each target word


@torch.no_grad()
def attention_maps(model: Transformer, src: Sequence[int], tgt: Sequence[int]) -> Maps:
    """What the model attends to as it reads these words."""
    maps = Maps([], [], [])

    def keep(into: list[Tensor]) -> Any:
        return lambda module, arguments, _: into.append(module.weights(*arguments)[0].float().cpu())

    attentions: list[tuple[MultiHeadAttention, list[Tensor]]] = []
    attentions += [(block.attention, maps.encoder) for block in model.encoder]  # type: ignore[misc]
    for block in model.decoder:
        attentions += [(block.attention, maps.decoder), (block.cross_attention, maps.cross)]  # type: ignore[list-item]
    hooks = [attention.register_forward_hook(keep(into)) for attention, into in attentions]
    try:
        device = model.embedding.weight.device
        model([torch.tensor([src], device=device)], [torch.tensor([tgt], device=device)])
    finally:
        for hook in hooks:
            hook.remove()
    return maps
