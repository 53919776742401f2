"""Weights end to end, and how they follow their gradient."""

import pytest
import torch
from torch import Tensor, nn

from mlpx.experiments.transformer import muon
from mlpx.experiments.transformer.flat import Flat
from mlpx.experiments.transformer.optimizers import BETAS, EPS, Optimizer


def network(seed: int) -> nn.Sequential:
    """With one weight used twice."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.LayerNorm(3), nn.Linear(3, 3, bias=False))
    model[3].weight = model[0].weight
    return model.double()


def loss_of(model: nn.Module, seed: int) -> Tensor:
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found: Tensor = model(x).square().sum()
    return found


def test_parameters_are_views_of_the_flat_ones_whose_gradients_are_gathered() -> None:
    model, before = network(1), network(1)
    flat = Flat(list(model.parameters()))
    assert flat.weights.shape == (9 + 3 + 3 + 3,)
    assert torch.equal(flat.weights, torch.cat([parameter.flatten() for parameter in before.parameters()]))
    loss_of(model, 0).backward()
    flat.gather_gradients()
    loss_of(before, 0).backward()
    expected = [parameter.grad for parameter in before.parameters() if parameter.grad is not None]
    assert torch.equal(flat.gradient, torch.cat([gradient.flatten() for gradient in expected]))
    assert flat.weights.grad is flat.gradient
    assert all(parameter.grad is None for parameter in model.parameters())
    flat.gradient.fill_(7)
    loss_of(model, 0).backward()
    flat.gather_gradients()
    assert torch.equal(flat.gradient, torch.cat([gradient.flatten() for gradient in expected]))
    flat.gather_gradients()
    assert not flat.gradient.any()
    flat.weights.detach().fill_(7)
    assert all(bool((parameter == 7).all()) for parameter in model.parameters())
    other = Flat(list(network(2).parameters())).weights.detach()
    flat.copy_(other)
    assert torch.equal(loss_of(model, 0), loss_of(network(2), 0))
    next(model.parameters()).data.zero_()
    assert not flat.weights[:9].any()
    assert other[:9].all()


def stepped_alike(
    model: nn.Module, flat: Flat, ours: Optimizer, separate: nn.Module, theirs: list[torch.optim.Optimizer]
) -> None:
    """Three steps at different learning rates, cut to a norm, end at the same weights."""
    for step, lr in enumerate((0.1, 0.05, 0.2)):
        loss_of(model, step).backward()
        flat.gather_gradients()
        norm = torch.nn.utils.clip_grad_norm_([flat.weights], 0.5)
        separate.zero_grad()
        loss_of(separate, step).backward()
        torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(separate.parameters(), 0.5))
        ours.step(lr)
        for optimizer in theirs:
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
        for one, other in zip(model.parameters(), separate.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_on_the_flat_weights_equal_adams_on_the_separate_ones(weight_decay: float) -> None:
    model, separate = network(1), network(1)
    flat = Flat(list(model.parameters()))
    adam = torch.optim.Adam(separate.parameters(), betas=BETAS, eps=EPS, weight_decay=weight_decay)
    stepped_alike(model, flat, Optimizer(flat, [], weight_decay), separate, [adam])


def split(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Vectors and matrices."""
    parameters = list(model.parameters())
    return [p for p in parameters if p.ndim < 2], [p for p in parameters if p.ndim == 2]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_matrices_at_the_end_are_muons_and_the_rest_is_adams(weight_decay: float) -> None:
    model, separate = network(1), network(1)
    (vectors, matrices), (their_vectors, their_matrices) = split(model), split(separate)
    flat = Flat([*vectors, *matrices])
    adam = torch.optim.Adam(their_vectors, betas=BETAS, eps=EPS, weight_decay=weight_decay)
    muon = torch.optim.Muon(their_matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    stepped_alike(model, flat, Optimizer(flat, matrices, weight_decay), separate, [adam, muon])


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_many_matrices_together_take_the_steps_that_torchs_muon_takes_one_by_one(weight_decay: float) -> None:
    source = torch.Generator().manual_seed(0)
    shapes = [(8, 8), (16, 8), (8, 16), (8, 8), (16, 8), (8, 12)]
    ours, theirs = ([nn.Parameter(torch.zeros(shape)) for shape in shapes] for _ in range(2))
    for one, other in zip(ours, theirs, strict=True):
        drawn = torch.randn(one.shape, generator=source)
        one.data, other.data = drawn.clone(), drawn
    ordered = muon.in_order(ours)
    assert sorted(map(id, ordered)) == sorted(map(id, ours))
    flat = Flat(ordered)
    optimizer = Optimizer(flat, ordered, weight_decay)
    reference = torch.optim.Muon(theirs, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    for lr in (0.1, 0.05, 0.2):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=source)
            other.grad = one.grad.clone()
        before = [matrix.detach().clone() for matrix in theirs]
        flat.gather_gradients()
        optimizer.step(lr)
        reference.param_groups[0]["lr"] = lr
        reference.step()
        for one, other, old in zip(ours, theirs, before, strict=True):
            # Newton-Schulz iterations compute in bfloat16, whose sums may be rounded in another order.
            torch.testing.assert_close(one - old, other - old, rtol=0.02, atol=0.02 * lr)


def test_a_step_of_muon_turns_the_matrix_a_fifth_as_far_as_adams_learning_rate_would() -> None:
    """By the singular value decomposition of the gradient, U S Vᵀ: along U Vᵀ, with root mean square .2 times lr."""
    matrix = nn.Parameter(torch.zeros(64, 32))
    flat = Flat([matrix])
    gradient = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    flat.gradient.copy_(gradient.flatten())
    Optimizer(flat, [matrix], weight_decay=0.0).step(lr=0.01)
    u, _, vh = torch.linalg.svd(gradient, full_matrices=False)
    moved = -matrix.detach() / (0.01 * 0.2 * 64**0.5)
    assert torch.linalg.svdvals(moved).aminmax() == pytest.approx((0.9, 0.9), abs=0.35)
    assert float((moved * (u @ vh)).sum() / moved.norm() / 32**0.5) > 0.97
    assert float(matrix.detach().square().mean().sqrt()) == pytest.approx(0.01 * 0.2, rel=0.2)
