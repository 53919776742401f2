"""A multilayer perceptron for classification, and its SGD step written out.

Shapes: B examples, D features, C classes; layer l has weight Wₗ (out, in) and bias bₗ (out,), as ``torch.nn.Linear``.

    hₗ = dropout(max(0, hₗ₋₁ Wₗᵀ + bₗ)),  h₀ = x;    logits = h W ᵀ + b;    loss = -log softmax(logits)[label]

Back-propagation (Rumelhart, Hinton and Williams, 1986): with gₗ the gradient by a layer's sums, hₗ₋₁ its input,

    ∂loss/∂Wₗ = gₗᵀ hₗ₋₁,  ∂loss/∂bₗ = Σ gₗ,  gₗ₋₁ = gₗ Wₗ where hₗ₋₁ > 0;  at the top g = softmax(logits) - 1[label]

so a step is a few products, the last of which adds its result to the weights; autograd would take a third longer.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

WEIGHT_STD = 0.01
NOISE_STEPS = 2**16  # dropout compares random 16-bit numbers with a threshold


class SgdRule(NamedTuple):
    """How weights follow their gradient g, as in ``torch.optim.SGD``.

    v ← momentum v + g + weight_decay w;  w ← w - lr v
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0


class Mlp:
    """The weights, what they compute, and how they learn.

    Products take numbers of type ``products`` (the weights' own, or bfloat16); weights, loss and sums are float32.
    """

    def __init__(
        self,
        widths: Sequence[int],
        generator: torch.Generator,
        *,
        dropout: float = 0.0,
        products: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """``widths`` are D, those of the hidden layers, and C.

        Weights are drawn from N(0, 0.01²), biases as ``torch.nn.Linear`` draws them, U(-1/√in, 1/√in).
        """
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        for inputs, outputs in itertools.pairwise(widths):
            bound = 1 / math.sqrt(inputs)
            weight = torch.empty(outputs, inputs).normal_(std=WEIGHT_STD, generator=generator)
            bias = torch.empty(outputs).uniform_(-bound, bound, generator=generator)
            self.weights.append(weight.to(device))
            self.biases.append(bias.to(device))
        self.hidden = tuple(widths[1:-1])
        self._velocities = [torch.zeros_like(p) for p in (*self.weights, *self.biases)]
        self._products = products
        dropped = round(dropout * NOISE_STEPS)
        self._threshold = dropped - NOISE_STEPS // 2
        self._scale = NOISE_STEPS / (NOISE_STEPS - dropped)

    @property
    def drops(self) -> bool:
        """Whether a step leaves hidden units out."""
        return self._scale > 1 and bool(self.hidden)

    def parameters(self) -> dict[str, Tensor]:
        """Weights and biases by their names in the plain ``nn.Sequential(Flatten, Linear, ReLU, Linear, …)``."""
        layers = enumerate(zip(self.weights, self.biases, strict=True))
        return {
            f"{2 * i + 1}.{name}": p for i, pair in layers for name, p in zip(("weight", "bias"), pair, strict=True)
        }

    def velocities(self) -> dict[str, Tensor]:
        """What momentum remembers of the steps before."""
        return {f"velocity.{i}": velocity for i, velocity in enumerate(self._velocities)}

    def log_probabilities(self, x: Tensor) -> Tensor:
        """(B, D) to (B, C), nothing left out."""
        return self._log_softmax(self._forward(x, None)[-1])

    def sgd_step(self, x: Tensor, labels: Tensor, rule: SgdRule, noise: Tensor | None = None) -> Tensor:
        """Learn from x (B, D) and labels (B,), int64; return the log-probabilities (B, C) before the step.

        ``noise`` (B, sum of the hidden widths), int16 over its whole range, decides which hidden units are left out.
        """
        *inputs, logits = self._forward(x, noise)
        log_probabilities = self._log_softmax(logits)
        gradient = log_probabilities.exp()
        gradient.scatter_add_(1, labels[:, None], gradient.new_full((1, 1), -1).expand(len(labels), 1))
        gradient = gradient.to(self._products)
        for layer in reversed(range(len(self.weights))):
            below = torch.mm(gradient, self._cast(self.weights[layer])) if layer else None
            self._update(layer, gradient, inputs[layer], rule)
            if below is not None:
                gradient = torch.ops.aten.threshold_backward(below, inputs[layer], 0)  # where the unit was active
                if self.drops:
                    gradient.mul_(self._scale)
        return log_probabilities

    def _forward(self, x: Tensor, noise: Tensor | None) -> list[Tensor]:
        """The input of each layer, then the logits."""
        found = [self._cast(x)]
        noises = noise.split(self.hidden, dim=1) if noise is not None else None
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            sums = torch.addmm(self._cast(bias), found[-1], self._cast(weight).t())
            if layer < len(self.hidden):
                sums.relu_()
                if noises is not None:
                    sums.masked_fill_(noises[layer] < self._threshold, 0).mul_(self._scale)
            found.append(sums)
        return found

    def _log_softmax(self, logits: Tensor) -> Tensor:
        return torch.log_softmax(logits.to(self.biases[-1].dtype), dim=1)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._products)

    def _update(self, layer: int, gradient: Tensor, inputs: Tensor, rule: SgdRule) -> None:
        """A step of the layer's weight and bias, whose mean gradients are gᵀh / B and Σg / B."""
        lr, momentum, weight_decay = rule
        count = len(inputs)
        for i, parameter in ((layer, self.weights[layer]), (layer + len(self.weights), self.biases[layer])):
            if momentum:
                target, keep, add = self._velocities[i], momentum, 1 / count
            else:
                target, keep, add = parameter, 1 - lr * weight_decay, -lr / count
            if parameter.dim() == 1:
                target.mul_(keep).add_(gradient.sum(0, dtype=target.dtype), alpha=add)
            elif gradient.dtype == target.dtype:
                target.addmm_(gradient.t(), inputs, beta=keep, alpha=add)
            else:
                target.mul_(keep).add_(torch.mm(gradient.t(), inputs), alpha=add)
            if momentum:
                target.add_(parameter, alpha=weight_decay)
                parameter.add_(target, alpha=-lr)


def score(log_probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of -log p(label), in float64, and how many labels are the likeliest: (B, C) and (B,) to two scalars."""
    losses = functional.nll_loss(log_probabilities, labels, reduction="none")
    return losses.sum(dtype=torch.float64), (log_probabilities.argmax(dim=1) == labels).sum()
