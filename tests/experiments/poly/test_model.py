import pytest
import torch
from torch import nn

from mlpx.experiments.poly import model as linear


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("batch_size", [10, 7])
def test_sgd_steps_equal_torch_sgd_with_autograd(weight_decay: float, batch_size: int) -> None:
    torch.manual_seed(0)
    features, targets = torch.randn(50, 6, dtype=torch.float64), torch.randn(50, 1, dtype=torch.float64)
    model = nn.Linear(6, 1, bias=False, dtype=torch.float64)
    weight = model.weight.detach().clone().reshape(1, 6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=weight_decay)

    for x, y in zip(torch.split(features, batch_size), torch.split(targets, batch_size), strict=True):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.mse_loss(model(x), y))
        optimizer.step()
    batches = [
        (x[None], x[None].mT, y[None].clone())
        for x, y in zip(torch.split(features, batch_size), torch.split(targets, batch_size), strict=True)
    ]
    linear.sgd_steps(weight, batches, lr=0.05, weight_decay=weight_decay)

    torch.testing.assert_close(weight.reshape(-1), model.weight.detach().reshape(-1), rtol=0, atol=1e-14)


def test_replicas_train_as_they_would_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(3, 8, 4, generator=generator)
    targets = torch.randn(3, 8, 1, generator=generator)
    start = torch.randn(3, 4, 1, generator=generator)

    together = start.clone()
    linear.sgd_steps(together, [(features, features.mT, targets.clone())] * 1, lr=0.1, weight_decay=0.0)
    for r in range(3):
        alone = start[r : r + 1].clone()
        x, y = features[r : r + 1], targets[r : r + 1].clone()
        linear.sgd_steps(alone, [(x, x.mT, y)], lr=0.1, weight_decay=0.0)
        torch.testing.assert_close(together[r], alone[0], rtol=0, atol=1e-6)


def test_mean_squared_error_equals_torch() -> None:
    weight, features, targets = torch.randn(1, 5, 1), torch.randn(1, 31, 5), torch.randn(1, 31, 1)
    expected = nn.functional.mse_loss((features @ weight).double(), targets.double())
    torch.testing.assert_close(linear.mean_squared_error(weight, features, targets)[0], expected, rtol=1e-6, atol=0)


def test_initial_weights_are_drawn_as_torch_linear_draws_them() -> None:
    drawn = linear.initial_weight(4, [torch.Generator().manual_seed(s) for s in range(5000)])
    assert drawn.shape == (5000, 4, 1)
    assert drawn.abs().max() <= 0.5
    assert float(drawn.std()) == pytest.approx(0.5 / 3**0.5, rel=0.02)
