"""The largest learning rate and weight decay end in divergence and not in a bug."""

import pytest
import torch
from torch import nn

from mlpx.experiments.transformer.flat import Flat
from mlpx.experiments.transformer.optimizers import Optimizer
from mlpx.settings.base import MAX_LEARNING_RATE, MAX_WEIGHT_DECAY


@pytest.mark.parametrize("is_muon", [False, True])
def test_the_largest_numbers_diverge_and_raise_nothing(is_muon: bool) -> None:
    matrices = [nn.Parameter(torch.ones(4, 4))] * is_muon
    flat = Flat([nn.Parameter(torch.ones(3)), *matrices])
    optimizer = Optimizer(flat, matrices, MAX_WEIGHT_DECAY)
    for _ in range(5):
        flat.gradient.fill_(1)
        optimizer.step(MAX_LEARNING_RATE)
    largest = flat.weights.detach().abs().max()
    assert not bool(largest < 1e29)
