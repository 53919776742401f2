"""The largest learning rate and weight decay end in divergence and not in a bug."""

import torch

from mlpx.experiments.poly.model import sgd_steps
from mlpx.settings.base import MAX_LEARNING_RATE, MAX_WEIGHT_DECAY


def test_the_largest_numbers_diverge_and_raise_nothing() -> None:
    weight, x, y = torch.ones(1, 2, 1), torch.ones(1, 3, 2), torch.ones(1, 3, 1)
    sgd_steps(weight, [(x, x.mT, y.clone())] * 5, MAX_LEARNING_RATE, MAX_WEIGHT_DECAY)
    assert not bool(weight.isfinite().all())
