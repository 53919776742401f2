"""The perceptron written out, against autograd, torch.nn and torch.optim, in float64."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from mlpx.models.mlp import NOISE_STEPS, Mlp, SgdRule, score


def in_float64(model: Mlp) -> Mlp:
    model.weights = [weight.double() for weight in model.weights]
    model.biases = [bias.double() for bias in model.biases]
    model._velocities = [velocity.double() for velocity in model._velocities]
    model._products = torch.float64
    return model


def plain(model: Mlp) -> nn.Sequential:
    """The same network of torch's own layers, loaded by the names of the weights file."""
    widths = [model.weights[0].shape[1], *(weight.shape[0] for weight in model.weights)]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs, dtype=model.weights[0].dtype), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    net.load_state_dict(model.parameters())
    return net


def batch(count: int, features: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, features, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (count,), generator=generator)


@pytest.mark.parametrize("hidden", [[], [8], [8, 6, 5]])
@pytest.mark.parametrize("rule", [SgdRule(0.5), SgdRule(0.1, 0.9), SgdRule(0.3, 0.5, 0.02), SgdRule(0.5, 0, 0.1)])
def test_steps_equal_autograd_and_torch_sgd(hidden: list[int], rule: SgdRule) -> None:
    model = in_float64(Mlp([12, *hidden, 4], torch.Generator().manual_seed(1)))
    for weight in model.weights:  # weights of 0.01 hardly reach the deeper layers
        weight.mul_(50)
    net = plain(model)
    lr, momentum, weight_decay = rule
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    for step in range(20):
        x, labels = batch(7 + step % 2, 12, 4, seed=step)
        loss = nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        log_probabilities = model.sgd_step(x, labels, rule)
        optimizer.step()
        torch.testing.assert_close(score(log_probabilities, labels)[0] / len(x), loss.detach(), rtol=1e-12, atol=0)
    for name, parameter in net.state_dict().items():
        torch.testing.assert_close(model.parameters()[name], parameter, rtol=1e-11, atol=1e-13)
    x, _ = batch(9, 12, 4, seed=99)
    torch.testing.assert_close(model.log_probabilities(x), net(x).log_softmax(1).detach())


def test_dropout_equals_autograd_with_the_same_units_left_out() -> None:
    model = in_float64(Mlp([12, 8, 6, 4], torch.Generator().manual_seed(1), dropout=0.25))
    for weight in model.weights:
        weight.mul_(50)
    net = plain(model)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for step in range(5):
        x, labels = batch(7, 12, 4, seed=step)
        noise = torch.randint(-(2**15), 2**15, (7, 14), dtype=torch.int16)
        kept = (noise >= NOISE_STEPS // 4 - NOISE_STEPS // 2).double() / 0.75
        h = torch.relu(net[1](x)) * kept[:, :8]
        h = torch.relu(net[3](h)) * kept[:, 8:]
        loss = nn.functional.cross_entropy(net[5](h), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        log_probabilities = model.sgd_step(x, labels, SgdRule(0.5), noise)
        optimizer.step()
        torch.testing.assert_close(score(log_probabilities, labels)[0] / 7, loss.detach(), rtol=1e-12, atol=0)
    for name, parameter in net.state_dict().items():
        torch.testing.assert_close(model.parameters()[name], parameter, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.99])
def test_dropout_leaves_out_its_share_and_keeps_the_mean(dropout: float) -> None:
    model = Mlp([1, 10_000, 2], torch.Generator(), dropout=dropout)
    model.weights[0].fill_(1)
    model.biases[0].zero_()
    noise = torch.randint(-(2**15), 2**15, (100, 10_000), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    hidden = model._forward(torch.ones(100, 1), noise)[1]
    share = float((hidden == 0).double().mean())
    print(f"\nleft out: {share:.4f} of {hidden.numel()}, mean {float(hidden.mean()):.4f}")
    assert share == pytest.approx(dropout, abs=0.002)
    assert float(hidden.mean()) == pytest.approx(1, rel=0.02)


def test_bf16_products_stay_near_fp32() -> None:
    exact, rounded = (
        Mlp([12, 32, 4], torch.Generator().manual_seed(1), products=p) for p in (torch.float32, torch.bfloat16)
    )
    for step in range(50):
        x, labels = batch(64, 12, 4, seed=step)
        losses = [score(m.sgd_step(x.float(), labels, SgdRule(0.1)), labels)[0] / 64 for m in (exact, rounded)]
    assert losses[0] == pytest.approx(float(losses[1]), rel=0.01)
    assert not torch.equal(exact.weights[0], rounded.weights[0])
    assert all(p.dtype == torch.float32 for p in rounded.parameters().values())


def test_initial_weights_are_the_textbooks() -> None:
    model = Mlp([784, 256, 10], torch.Generator().manual_seed(3))
    for weight, bias in zip(model.weights, model.biases, strict=True):
        bound = weight.shape[1] ** -0.5
        assert float(weight.std()) == pytest.approx(0.01, rel=0.05)
        assert abs(float(weight.mean())) < 5 * 0.01 / weight.numel() ** 0.5
        assert float(bias.abs().max()) <= bound
        assert float(bias.abs().max()) > 0.7 * bound


def test_score_of_hand_worked_values() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    loss, right = score(probabilities.log(), torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(0.6931472 + 1.6094379)
    assert int(right) == 1
