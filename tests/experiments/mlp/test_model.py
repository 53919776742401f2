"""The perceptron written out, against autograd, torch.nn and torch.optim, in float64."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from mlpx.experiments.mlp.model import DROPOUT_LEVELS, Mlp, SgdRule, score


def in_float64(
    widths: list[int], generators: list[torch.Generator], *, dropout: float = 0.0, batch_norm: bool = False
) -> Mlp:
    double = torch.float64
    return Mlp(widths, generators, dropout=dropout, batch_norm=batch_norm, products=double, dtype=double)


def plain(model: Mlp) -> nn.Sequential:
    """The same network of torch's own layers, loaded by the names of the weights file."""
    net = network(model, normalized=False)
    net.load_state_dict(model.parameters())
    return net


def network(model: Mlp, *, normalized: bool) -> nn.Sequential:
    """Torch's own layers, with batch normalization or without."""
    widths = [model.weights[0].shape[2], *(weight.shape[1] for weight in model.weights)]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] * normalized), nn.ReLU()]
    return nn.Sequential(*layers[: -1 - normalized]).to(model.weights[0].dtype)


def batch(count: int, features: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, features, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (count,), generator=generator)


@pytest.mark.parametrize("hidden", [[], [8], [8, 6, 5]])
@pytest.mark.parametrize("rule", [SgdRule(0.5), SgdRule(0.1, 0.9), SgdRule(0.3, 0.5, 0.02), SgdRule(0.5, 0, 0.1)])
def test_steps_equal_autograd_and_torch_sgd(hidden: list[int], rule: SgdRule) -> None:
    model = in_float64([12, *hidden, 4], [torch.Generator().manual_seed(1)])
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
        log_probabilities = model.sgd_step(x[None], labels[None], rule)
        optimizer.step()
        torch.testing.assert_close(
            score(log_probabilities, labels)[0] / len(x), loss.detach()[None], rtol=1e-12, atol=0
        )
    for name, parameter in net.state_dict().items():
        torch.testing.assert_close(model.parameters()[name], parameter, rtol=1e-11, atol=1e-13)
    x, _ = batch(9, 12, 4, seed=99)
    torch.testing.assert_close(model.log_probabilities(x)[0], net(x).log_softmax(1).detach())


def test_dropout_equals_autograd_with_the_same_units_left_out() -> None:
    model = in_float64([12, 8, 6, 4], [torch.Generator().manual_seed(1)], dropout=0.25)
    for weight in model.weights:
        weight.mul_(50)
    net = plain(model)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for step in range(5):
        x, labels = batch(7, 12, 4, seed=step)
        noise = torch.randint(-(2**15), 2**15, (7, 14), dtype=torch.int16)
        kept = (noise >= DROPOUT_LEVELS // 4 - DROPOUT_LEVELS // 2).double() / 0.75
        h = torch.relu(net[1](x)) * kept[:, :8]
        h = torch.relu(net[3](h)) * kept[:, 8:]
        loss = nn.functional.cross_entropy(net[5](h), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        log_probabilities = model.sgd_step(x[None], labels[None], SgdRule(0.5), noise[None])
        optimizer.step()
        torch.testing.assert_close(score(log_probabilities, labels)[0] / 7, loss.detach()[None], rtol=1e-12, atol=0)
    for name, parameter in net.state_dict().items():
        torch.testing.assert_close(model.parameters()[name], parameter, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("rule", [SgdRule(0.5), SgdRule(0.1, 0.9, 0.02)])
def test_batch_norm_and_smoothed_labels_equal_torchs(rule: SgdRule) -> None:
    model = in_float64([12, 8, 6, 4], [torch.Generator().manual_seed(1)], batch_norm=True)
    net = network(model, normalized=True)
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    for layer, weight, bias in zip(linear, model.weights, model.biases, strict=True):
        layer.load_state_dict({"weight": weight[0], "bias": bias[0, 0]})
    lr, momentum, weight_decay = rule
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    for step in range(20):
        x, labels = batch(7 + step % 2, 12, 4, seed=step)
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(net(x), labels, label_smoothing=0.1))
        model.sgd_step(x[None], labels[None], rule, label_smoothing=0.1)
        optimizer.step()
    norms = [layer for layer in net if isinstance(layer, nn.BatchNorm1d)]
    for layer, weight, bias in zip(linear, model.weights, model.biases, strict=True):
        torch.testing.assert_close(weight[0], layer.weight.detach(), rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(bias[0, 0], layer.bias.detach(), rtol=1e-9, atol=1e-13)
    for theirs, ours in zip(norms, model._norms, strict=True):
        expected = (theirs.weight.detach(), theirs.bias.detach(), theirs.running_mean, theirs.running_var)
        for part, value in zip(ours.parts().values(), expected, strict=True):
            torch.testing.assert_close(part[0, 0], value, rtol=1e-9, atol=1e-13)
    x, _ = batch(9, 12, 4, seed=99)
    expected_outputs = net.eval()(x).log_softmax(1).detach()
    torch.testing.assert_close(model.log_probabilities(x)[0], expected_outputs)
    torch.testing.assert_close(plain(model.folded())(x).log_softmax(1).detach(), expected_outputs)


@pytest.mark.parametrize("rule", [SgdRule(0.5), SgdRule(0.1, 0.9, 0.02)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_replicas_learn_apart(rule: SgdRule, batch_norm: bool) -> None:
    def model(seeds: range) -> Mlp:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return in_float64([12, 8, 6, 4], generators, dropout=0.25, batch_norm=batch_norm)

    together, alone = model(range(3)), [model(range(seed, seed + 1)) for seed in range(3)]
    for step in range(10):
        batches = [batch(7, 12, 4, seed=3 * step + replica) for replica in range(3)]
        x, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
        noise = torch.randint(-(2**15), 2**15, (3, 7, 14), dtype=torch.int16)
        together.sgd_step(x, labels, rule, noise, 0.1)
        for replica, one in enumerate(alone):
            one.sgd_step(x[replica, None], labels[replica, None], rule, noise[replica, None], 0.1)
    for name, tensor in together.state().items():
        for replica, one in enumerate(alone):
            torch.testing.assert_close(tensor[replica].squeeze(), one.state()[name].squeeze(), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.99])
def test_dropout_leaves_out_its_share_and_keeps_the_mean(dropout: float) -> None:
    model = Mlp([1, 10_000, 2], [torch.Generator()], dropout=dropout)
    model.weights[0].fill_(1)
    model.biases[0].zero_()
    noise = torch.randint(-(2**15), 2**15, (100, 10_000), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    hidden = model._forward(torch.ones(1, 100, 1), model.weights, model.biases, noise[None])[1]
    share = float((hidden == 0).double().mean())
    print(f"\nleft out: {share:.4f} of {hidden.numel()}, mean {float(hidden.mean()):.4f}")
    assert share == pytest.approx(dropout, abs=0.002)
    assert float(hidden.mean()) == pytest.approx(1, rel=0.02)


def test_bf16_products_stay_near_fp32() -> None:
    exact, rounded = (
        Mlp([12, 32, 4], [torch.Generator().manual_seed(1)], products=p) for p in (torch.float32, torch.bfloat16)
    )
    for step in range(50):
        x, labels = batch(64, 12, 4, seed=step)
        losses = [
            float(score(m.sgd_step(x[None].float(), labels[None], SgdRule(0.1)), labels)[0]) / 64
            for m in (exact, rounded)
        ]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert not torch.equal(exact.weights[0], rounded.weights[0])
    assert all(p.dtype == torch.float32 for p in rounded.parameters().values())


def test_initial_weights_are_the_textbooks() -> None:
    model = Mlp([784, 256, 10], [torch.Generator().manual_seed(3)])
    for weight, bias in zip(model.weights, model.biases, strict=True):
        bound = weight.shape[2] ** -0.5
        assert float(weight.std()) == pytest.approx(0.01, rel=0.05)
        assert abs(float(weight.mean())) < 5 * 0.01 / weight.numel() ** 0.5
        assert float(bias.abs().max()) <= bound
        assert float(bias.abs().max()) > 0.7 * bound


def test_score_of_hand_worked_values() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    loss, right = score(probabilities.log()[None], torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(0.6931472 + 1.6094379)
    assert int(right) == 1
