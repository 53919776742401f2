"""The loss in slices, and its gradient, against torch's cross-entropy and by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mlpx.experiments.transformer import smoothing
from mlpx.experiments.transformer.smoothing import losses, smoothed_loss

DOUBLE = torch.float64


def example(rows: int = 11, d_model: int = 6, vocab_size: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(rows, d_model, dtype=DOUBLE, generator=generator).requires_grad_()
    weight = torch.randn(vocab_size, d_model, dtype=DOUBLE, generator=generator).requires_grad_()
    return hidden, weight, torch.randint(vocab_size, (rows,), generator=generator)


def as_one_hot(logits: Tensor) -> tuple[Tensor, Tensor]:
    """What gives these logits (N, V) as a product: themselves and the identity."""
    return logits.clone().requires_grad_(), torch.eye(logits.shape[1], dtype=logits.dtype).requires_grad_()


@pytest.mark.parametrize("at_once", [1, 7, 20, 21, 35, 76, 77, 10**6])  # logits, 7 a row: from 1 row to all 11
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9])
def test_values_and_gradients_equal_torchs_cross_entropy(
    epsilon: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoothing, "SLICE", at_once)
    hidden, weight, targets = example()
    smoothed, plain = smoothed_loss(hidden, weight, targets, epsilon, DOUBLE)
    logits = hidden @ weight.t()
    expected = functional.cross_entropy(logits, targets, label_smoothing=epsilon, reduction="sum")
    without = functional.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(smoothed, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(plain, without, rtol=1e-10, atol=1e-10)
    assert not plain.requires_grad
    ours = torch.autograd.grad(smoothed / 3, (hidden, weight))
    theirs = torch.autograd.grad(expected / 3, (hidden, weight))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("at_once", [1, 20, 10**6])
def test_losses_of_rows_equal_torchs_cross_entropy(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothing, "SLICE", at_once)
    hidden, weight, targets = example()
    with torch.no_grad():
        found = losses(hidden, weight, targets, DOUBLE)
        expected = functional.cross_entropy(hidden @ weight.t(), targets, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_label_smoothing_of_a_hand_worked_example() -> None:
    # Four words with probabilities 1/2, 1/4, 1/8 and 1/8, of which the second is right, and ε = 0.4:
    # it has 0.6 + 0.1, the others 0.1, and -log of the probabilities are 1, 2, 3 and 3 times ln 2.
    hidden, weight = as_one_hot(torch.tensor([[0.5, 0.25, 0.125, 0.125]], dtype=DOUBLE).log() + 5)
    targets = torch.tensor([1])
    smoothed, plain = smoothed_loss(hidden, weight, targets, 0.4, DOUBLE)
    assert smoothed.item() == pytest.approx((0.1 * 1 + 0.7 * 2 + 0.1 * 3 + 0.1 * 3) * math.log(2), rel=1e-12)
    assert plain.item() == pytest.approx(2 * math.log(2), rel=1e-12)
    assert losses(hidden.detach(), weight.detach(), targets, DOUBLE).item() == pytest.approx(2 * math.log(2), rel=1e-12)
    (by_logits,) = torch.autograd.grad(smoothed, hidden)
    expected = torch.tensor([[0.5 - 0.1, 0.25 - 0.7, 0.125 - 0.1, 0.125 - 0.1]], dtype=DOUBLE)
    torch.testing.assert_close(by_logits, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_extreme_logits_stay_finite_and_right(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e3, -1e3, 0], [-1e3, -1e3, -1e3], [1e3, 1e3, -1e3]], dtype=dtype)
    hidden, weight = as_one_hot(logits)
    targets = torch.tensor([1, 0, 1])
    expected = torch.tensor([2000, math.log(3), math.log(2)], dtype=dtype)
    found = losses(logits, torch.eye(3, dtype=dtype), targets, dtype)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e3 * torch.finfo(dtype).eps)  # as exact as logits are
    smoothed, plain = smoothed_loss(hidden, weight, targets, 0.3, dtype)
    assert plain.item() == pytest.approx(2000 + math.log(6), rel=1e-6)
    even = 1000 + math.log(3) + (math.log(2) + 2000 / 3)  # mean -log probabilities over all words
    assert smoothed.item() == pytest.approx(0.7 * (2000 + math.log(6)) + 0.3 * even, rel=1e-6)
    (by_logits,) = torch.autograd.grad(smoothed, hidden)
    probabilities = [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]]
    expected = torch.tensor(probabilities, dtype=dtype) - 0.1 - 0.7 * functional.one_hot(targets, 3)
    torch.testing.assert_close(by_logits, expected)


def test_sums_of_many_rows_are_of_float64() -> None:
    logits = torch.zeros(100_000, 3)
    logits[0, 0] = -1e6
    smoothed, plain = smoothed_loss(logits, torch.eye(3), torch.zeros(100_000, dtype=torch.int64), 0.0, torch.float32)
    assert smoothed.dtype == plain.dtype == DOUBLE
    assert plain.item() == pytest.approx(1e6 + math.log(2) + 99_999 * math.log(3), rel=1e-7)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("at_once", [20, 10**6])
def test_bf16_products_stay_near_fp32(epsilon: float, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothing, "SLICE", at_once)
    found = []
    for products in (torch.float32, torch.bfloat16):
        hidden, weight = (tensor.detach().float().requires_grad_() for tensor in example()[:2])
        targets = example()[2]
        smoothed, plain = smoothed_loss(hidden, weight, targets, epsilon, products)
        by_hidden, by_weight = torch.autograd.grad(smoothed, (hidden, weight))
        alone = losses(hidden.detach(), weight.detach(), targets, products)
        assert {tensor.dtype for tensor in (by_hidden, by_weight, alone)} == {torch.float32}
        found.append([smoothed.detach(), plain, by_hidden, by_weight, alone])
        logits = torch.mm(hidden.to(products), weight.to(products).t()).float()  # from here on all is fp32
        expected = functional.cross_entropy(logits, targets, reduction="none").detach()
        torch.testing.assert_close(alone, expected)
        torch.testing.assert_close(plain, expected.double().sum(), rtol=1e-6, atol=0)
    for exact, rounded in zip(*found, strict=True):  # bf16 keeps 8 bits: two roundings in, one or two out
        assert 0 < float((rounded - exact).norm() / exact.norm()) < 4 / 2**9
