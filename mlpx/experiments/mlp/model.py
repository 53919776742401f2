"""R multilayer perceptrons for classification side by side, and their SGD step written out.

Shapes: R replicas, B examples, D features, H units of a layer, C classes; layer l has weight Wₗ (R, out, in) and bias
bₗ (R, 1, out).

    sₗ = hₗ₋₁ Wₗᵀ + bₗ;    hₗ = dropout(max(0, norm(sₗ))),  h₀ = x;    logits = h W ᵀ + b
    loss = -Σ target log softmax(logits),  target = (1 - label_smoothing) 1[label] + label_smoothing / C

Back-propagation (Rumelhart, Hinton and Williams, 1986): with gₗ the gradient of a layer's sums sₗ, and hₗ₋₁ its input,

    ∂loss/∂Wₗ = gₗᵀ hₗ₋₁,  ∂loss/∂bₗ = Σ gₗ,  gₗ₋₁ = gₗ Wₗ where hₗ₋₁ > 0;  at the top g = softmax(logits) - target

A step is thus a few matrix products, the last of which adds its result to the weights; autograd would take a third
longer. Batch normalization is that of Ioffe and Szegedy (2015), and its backward pass is in their section 3:

    norm(s) = scale n + shift,  n = (s - mean) / √(var + ε) over the batch;
    gₗ = scale / √(var + ε) (g - mean(g) - n mean(g n)),  g the gradient of norm(s)
"""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

WEIGHT_STD = 0.01
# Dropout compares random 16-bit numbers with a threshold.
DROPOUT_LEVELS = 2**16
# As in torch.nn.BatchNorm1d.
NORM_EPS, NORM_MOMENTUM = 1e-5, 0.1


class SgdRule(NamedTuple):
    """How SGD changes the weights w by their gradient g, as in ``torch.optim.SGD``.

    v ← momentum v + g + weight_decay w;  w ← w - lr v
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0


class _BatchNorm:
    """Batch normalization of a layer's sums. All its tensors are (R, 1, H)."""

    def __init__(self, replicas: int, width: int, device: torch.device | str, dtype: torch.dtype) -> None:
        self.scale, self.var = torch.ones(2, replicas, 1, width, device=device, dtype=dtype)
        self.shift, self.mean = torch.zeros(2, replicas, 1, width, device=device, dtype=dtype)

    def parts(self) -> dict[str, Tensor]:
        """The learned scale and shift, and the running mean and variance."""
        return {"scale": self.scale, "shift": self.shift, "mean": self.mean, "var": self.var}

    def forward(self, sums: Tensor) -> Tensor:
        """Normalize sums (R, B, H) by this batch, and update the running mean and variance."""
        count = sums.shape[1]
        mean = sums.mean(1, keepdim=True)
        centered = sums - mean
        # torch.var_mean takes three times as long on a CPU.
        var = centered.square().mean(1, keepdim=True)
        self.mean.lerp_(mean, NORM_MOMENTUM)
        self.var.lerp_(var * (count / max(1, count - 1)), NORM_MOMENTUM)
        self._inverse_std = (var + NORM_EPS).rsqrt_()
        self._normal = centered.mul_(self._inverse_std)
        return torch.addcmul(self.shift, self._normal, self.scale)

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of the sums (R, B, H), of the scale and of the shift, from ``gradient``, that of the output."""
        of_shift = gradient.sum(1, keepdim=True)
        of_scale = (gradient * self._normal).sum(1, keepdim=True)
        count = gradient.shape[1]
        of_normal = (gradient - of_shift / count).addcmul_(self._normal, of_scale, value=-1 / count)
        return of_normal.mul_(self.scale * self._inverse_std), of_scale, of_shift


class _Parameters(NamedTuple):
    """A tensor for each learned parameter, layer by layer: the parameters themselves, or their velocities."""

    weights: list[Tensor]
    biases: list[Tensor]
    scales: list[Tensor]
    shifts: list[Tensor]

    def flat(self) -> list[Tensor]:
        """All of them: the weights, the biases, then scale and shift of each layer."""
        norms = itertools.chain.from_iterable(zip(self.scales, self.shifts, strict=True))
        return [*self.weights, *self.biases, *norms]


class Mlp:
    """The perceptrons: their weights, their predictions, and their SGD step.

    Matrix products are computed in the type ``products``, which is the weights' own or bfloat16 (mixed precision);
    weights, sums and loss have the type ``dtype``.
    """

    def __init__(
        self,
        widths: Sequence[int],
        generators: Sequence[torch.Generator],
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        products: torch.dtype = torch.float32,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Draw the initial weights.

        Weights are drawn from N(0, 0.01²), biases as ``torch.nn.Linear`` draws them, U(-1/√in, 1/√in).

        Args:
            widths: D, the number of units of each hidden layer, and C.
            generators: The random generator of each replica.
            dropout: The probability with which a hidden unit is dropped, rounded to 1 / 65,536.
            batch_norm: Whether each hidden layer has batch normalization.
            products: The type of matrix products.
            dtype: The type of everything else.
            device: Where the tensors lie.
        """
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        for inputs, outputs in itertools.pairwise(widths):
            bound = 1 / math.sqrt(inputs)
            weight = [torch.empty(outputs, inputs).normal_(std=WEIGHT_STD, generator=g) for g in generators]
            bias = [torch.empty(1, outputs).uniform_(-bound, bound, generator=g) for g in generators]
            self.weights.append(torch.stack(weight).to(device, dtype))
            self.biases.append(torch.stack(bias).to(device, dtype))
        self.hidden = tuple(widths[1:-1])
        norms = [_BatchNorm(len(generators), width, device, dtype) for width in self.hidden]
        self._norms = norms if batch_norm else []
        self._velocities = _Parameters(*([torch.zeros_like(p) for p in part] for part in self._parameters()))
        self._products = products
        dropped = round(dropout * DROPOUT_LEVELS)
        self._threshold = dropped - DROPOUT_LEVELS // 2
        self._scale = DROPOUT_LEVELS / (DROPOUT_LEVELS - dropped)

    @property
    def drops(self) -> bool:
        """Whether a step drops hidden units."""
        return self._scale > 1 and bool(self.hidden)

    def parameters(self) -> dict[str, Tensor]:
        """Weights and biases by their names in the plain ``nn.Sequential(Flatten, Linear, ReLU, Linear, …)``.

        A single replica's tensors lack the axis R, and all biases lack the axis of examples, so that they fit there.
        """
        layers = enumerate(zip(self.weights, self.biases, strict=True))
        is_single = len(self.weights[0]) == 1
        return {
            f"{2 * i + 1}.{name}": p[0] if is_single else p
            for i, (weight, bias) in layers
            for name, p in (("weight", weight), ("bias", bias.squeeze(1)))
        }

    def state(self) -> dict[str, Tensor]:
        """The parameters, and the tensors of batch normalization: all that a step changes, but for the velocities."""
        norms = {f"norm.{i}.{name}": part for i, norm in enumerate(self._norms) for name, part in norm.parts().items()}
        return {**self.parameters(), **norms}

    def velocities(self) -> dict[str, Tensor]:
        """The velocities of SGD with momentum."""
        return {f"velocity.{i}": velocity for i, velocity in enumerate(self._velocities.flat())}

    def folded(self) -> "Mlp":
        """The same function without batch normalization.

        With its running mean and variance, batch normalization is linear, so it becomes part of weights and biases.
        """
        if not self._norms:
            return self
        plain = copy.copy(self)
        plain.weights, plain.biases, plain._norms = [*self.weights], [*self.biases], []
        for i, norm in enumerate(self._norms):
            factor = norm.scale * (norm.var + NORM_EPS).rsqrt()
            plain.weights[i] = factor.mT * self.weights[i]
            plain.biases[i] = torch.addcmul(norm.shift, self.biases[i] - norm.mean, factor)
        return plain

    def log_probabilities(self, x: Tensor) -> Tensor:
        """(R, B, D) or (B, D) to (R, B, C), without dropout."""
        model = self.folded()
        weights = [self._cast(weight) for weight in model.weights]
        return self._log_softmax(model._forward(x.expand(len(self.biases[0]), -1, -1), weights)[-1])

    def sgd_step(
        self, x: Tensor, labels: Tensor, rule: SgdRule, noise: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Take a step of SGD, and return the log-probabilities (R, B, C) before it.

        Args:
            x: The batch (R, B, D).
            labels: Its classes (R, B), int64.
            rule: Learning rate, momentum and weight decay.
            noise: Random int16 numbers over the whole range, (R, B, sum of the hidden widths), which decide which
                hidden units are dropped; ``None`` drops none.
            label_smoothing: The share of a target's probability that is spread over all classes.
        """
        lr, momentum, weight_decay = rule
        if not momentum:
            kept = 1 - lr * weight_decay
            return self._backward(x, labels, noise, label_smoothing, self._parameters(), kept, -lr)
        log_probabilities = self._backward(x, labels, noise, label_smoothing, self._velocities, momentum, 1.0)
        for parameter, velocity in zip(self._parameters().flat(), self._velocities.flat(), strict=True):
            velocity.add_(parameter, alpha=weight_decay)
            parameter.add_(velocity, alpha=-lr)
        return log_probabilities

    def _parameters(self) -> _Parameters:
        norms = self._norms
        return _Parameters(self.weights, self.biases, [norm.scale for norm in norms], [norm.shift for norm in norms])

    def _backward(
        self,
        x: Tensor,
        labels: Tensor,
        noise: Tensor | None,
        label_smoothing: float,
        targets: _Parameters,
        keep: float,
        add: float,
    ) -> Tensor:
        """Multiply each of ``targets`` by ``keep``, and add ``add`` times the mean gradient of its parameter to it."""
        weights = [self._cast(weight) for weight in self.weights]
        *inputs, logits = self._forward(x, weights, noise)
        log_probabilities = self._log_softmax(logits)
        gradient = log_probabilities.exp()
        if label_smoothing:
            gradient.sub_(label_smoothing / gradient.shape[2])
        gradient.scatter_add_(2, labels[..., None], gradient.new_full((), label_smoothing - 1).expand(*labels.shape, 1))
        gradient = gradient.to(self._products)
        add /= labels.shape[1]
        for layer in reversed(range(len(self.weights))):
            # The weights may be a target, so the gradient of the layer's input is computed before they change.
            of_input = torch.bmm(gradient, weights[layer]) if layer else None
            _accumulate(targets.weights[layer], gradient.mT, inputs[layer], keep, add)
            of_bias = gradient.sum(1, keepdim=True, dtype=self.biases[0].dtype)
            targets.biases[layer].mul_(keep).add_(of_bias, alpha=add)
            if of_input is None:
                break
            # The gradient passes where the unit was active.
            gradient = torch.ops.aten.threshold_backward(of_input, inputs[layer], 0)
            if self.drops:
                gradient.mul_(self._scale)
            if self._norms:
                below = layer - 1
                of_sums, of_scale, of_shift = self._norms[below].backward(gradient.to(self.biases[0].dtype))
                gradient = self._cast(of_sums)
                targets.scales[below].mul_(keep).add_(of_scale, alpha=add)
                targets.shifts[below].mul_(keep).add_(of_shift, alpha=add)
        return log_probabilities

    def _forward(self, x: Tensor, weights: Sequence[Tensor], noise: Tensor | None = None) -> list[Tensor]:
        """The input of each layer, and then the logits; ``weights`` have the type of the products."""
        activations = [self._cast(x)]
        noises = noise.split(self.hidden, dim=2) if noise is not None else None
        for layer, (weight, bias) in enumerate(zip(weights, self.biases, strict=True)):
            sums = torch.baddbmm(self._cast(bias), activations[-1], weight.mT)
            if layer < len(self.hidden):
                if self._norms:
                    sums = self._cast(self._norms[layer].forward(sums.to(bias.dtype)))
                sums.relu_()
                if noises is not None:
                    sums.masked_fill_(noises[layer] < self._threshold, 0).mul_(self._scale)
            activations.append(sums)
        return activations

    def _log_softmax(self, logits: Tensor) -> Tensor:
        return torch.log_softmax(logits.to(self.biases[-1].dtype), dim=2)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._products)


def _accumulate(target: Tensor, left: Tensor, right: Tensor, keep: float, add: float) -> None:
    """Multiply ``target`` by ``keep``, and add ``add`` times the product of two (R, …) matrices to it."""
    if left.dtype == target.dtype:
        target.baddbmm_(left, right, beta=keep, alpha=add)
    else:
        target.mul_(keep).add_(torch.bmm(left, right), alpha=add)


def score(log_probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the losses -log p(label), in float64, and the number of correct predictions: two (R,).

    Args:
        log_probabilities: (R, B, C).
        labels: (R, B), or (B,) for all replicas.
    """
    labels = labels.expand(log_probabilities.shape[:2])
    losses = -log_probabilities.gather(2, labels[..., None])
    return losses.sum((1, 2), dtype=torch.float64), (log_probabilities.argmax(dim=2) == labels).sum(1)
