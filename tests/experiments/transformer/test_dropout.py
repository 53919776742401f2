"""Dropout by random bytes: its share, its scale, its gradient, and that a seed says all."""

import math
from typing import cast

import pytest
import torch
from torch import Tensor

from mlpx.experiments.transformer.dropout import Dropout


class Seeded:
    """Dropout with a generator of its own."""

    def __init__(self, p: float, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self._layer = Dropout(p)

    def __call__(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._layer(x, self.generator))

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return self._layer.add(x, y, self.generator)


def assert_share(dropped: Tensor, share: float) -> None:
    """Within five standard errors, along the first dimension."""
    found = dropped.double().mean(0)
    error = math.sqrt(share * (1 - share) / len(dropped))
    assert float((found - share).abs().max()) < 5 * error


@pytest.mark.parametrize("p", [0.002, 0.1, 0.25, 0.3, 0.5, 0.9])
def test_the_share_left_out_is_p_to_a_256th_and_the_rest_is_scaled_by_it(p: float) -> None:
    share = round(p * 256) / 256
    found = Seeded(p)(torch.ones(1_000_000))
    assert_share(found == 0, share)
    assert set(found.tolist()) == {0.0, float(torch.tensor(1 / (1 - share)))}


def test_each_byte_of_a_draw_leaves_out_its_share() -> None:
    assert_share(Seeded(0.3)(torch.ones(100_000, 8)) == 0, round(0.3 * 256) / 256)


@pytest.mark.parametrize("shape", [(1,), (7,), (9,), (3, 5), (2, 1, 11)])
def test_sizes_that_are_no_multiple_of_eight_leave_out_their_share_everywhere(shape: tuple[int, ...]) -> None:
    layer = Seeded(0.5)
    found = torch.stack([layer(torch.ones(shape)) for _ in range(2000)])
    assert found.shape == (2000, *shape)
    assert_share(found == 0, 0.5)


def test_numbers_are_left_out_independently_of_their_neighbors() -> None:
    dropped = (Seeded(0.5)(torch.ones(100_000, 8)) == 0).double()
    together = dropped.T @ dropped / len(dropped) - 0.25  # of two columns; covariance has a standard error of 1/4 √N
    together.fill_diagonal_(0)
    assert float(together.abs().max()) < 6 * math.sqrt(3) / 4 / math.sqrt(len(dropped))
    after = dropped[1:].T @ dropped[:-1] / len(dropped) - 0.25
    assert float(after.abs().max()) < 6 * math.sqrt(3) / 4 / math.sqrt(len(dropped))


def test_without_a_generator_nothing_is_left_out() -> None:
    layer = Dropout(0.5)
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    assert torch.equal(layer(x, None), x)
    assert torch.equal(layer.add(x, y, None), x + y)


@pytest.mark.parametrize("p", [0.0, 0.25])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_add_equals_adding_what_forward_gives(p: float, dtype: torch.dtype) -> None:
    x, found = torch.randn(13, 7), torch.randn(13, 7, dtype=dtype)
    one, other = Seeded(p), Seeded(p)
    tolerance = 2**-8 if dtype == torch.bfloat16 else 1e-6  # bf16 keeps 8 bits
    for _ in range(3):
        difference = one.add(x, found) - (x + other(found))
        assert bool((difference.abs() <= tolerance * (x.abs() + 2 * found.abs())).all())


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_the_gradient_is_the_mask_times_the_scale(p: float) -> None:
    mask = Seeded(p)(torch.ones(13, 7))
    assert set(mask.unique().tolist()) == ({0.0, float(torch.tensor(1 / 0.75))} if p else {1.0})
    by_result = torch.randn(13, 7)
    x, found = torch.randn(13, 7, requires_grad=True), torch.randn(13, 7, requires_grad=True)
    (by_found,) = torch.autograd.grad(Seeded(p)(found), found, by_result)
    torch.testing.assert_close(by_found, by_result * mask)
    by_x, by_found = torch.autograd.grad(Seeded(p).add(x, found), (x, found), by_result)
    assert torch.equal(by_x, by_result)
    torch.testing.assert_close(by_found, by_result * mask)


def test_a_seed_says_which_are_left_out_and_each_draw_leaves_out_others() -> None:
    x = torch.ones(1000)
    layer = Seeded(0.5, seed=1)
    first, second = layer(x), layer(x)
    again = Seeded(0.5, seed=1)
    assert torch.equal(again(x), first)
    assert torch.equal(again(x), second)
    assert not torch.equal(first, second)
    assert not torch.equal(Seeded(0.5, seed=2)(x), first)


@pytest.mark.parametrize("p", [0.0, 0.0019])  # less than half of 1/256
def test_a_share_of_nothing_draws_nothing(p: float) -> None:
    layer = Seeded(p)
    x = torch.randn(9)
    assert torch.equal(layer(x), x)
    assert torch.equal(layer.add(x, x), x + x)
    assert torch.equal(layer.generator.get_state(), torch.Generator().manual_seed(0).get_state())


def test_layers_of_one_generator_draw_one_after_the_other() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = Dropout(0.5), Dropout(0.5)
    alone = Seeded(0.5)
    x = torch.ones(100)
    assert torch.equal(torch.stack([one(x, generator), other(x, generator)]), torch.stack([alone(x), alone(x)]))
