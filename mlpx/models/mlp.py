"""R multilayer perceptrons for classification side by side, and their SGD step written out.

Shapes: R replicas, B examples, D features, C classes; layer l has weight Wₗ (R, out, in) and bias bₗ (R, 1, out).

    sₗ = hₗ₋₁ Wₗᵀ + bₗ;    hₗ = dropout(max(0, norm(sₗ))),  h₀ = x;    logits = h W ᵀ + b
    loss = -Σ target log softmax(logits),  target = (1 - label_smoothing) 1[label] + label_smoothing / C

Back-propagation (Rumelhart, Hinton and Williams, 1986): with gₗ the gradient by a layer's sums, hₗ₋₁ its input,

    ∂loss/∂Wₗ = gₗᵀ hₗ₋₁,  ∂loss/∂bₗ = Σ gₗ,  gₗ₋₁ = gₗ Wₗ where hₗ₋₁ > 0;  at the top g = softmax(logits) - target

so a step is a few products, the last of which adds its result to the weights; autograd would take a third longer.
Batch normalisation, where there is some, is that of Ioffe and Szegedy (2015), its backward pass their section 3:

    norm(s) = scale n + shift,  n = (s - mean) / √(var + ε) over the batch;
    gₗ = scale / √(var + ε) (g - mean(g) - n mean(g n)),  g the gradient by norm(s)
"""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

WEIGHT_STD = 0.01
NOISE_STEPS = 2**16  # dropout compares random 16-bit numbers with a threshold
NORM_EPS, NORM_MOMENTUM = 1e-5, 0.1  # as torch.nn.BatchNorm1d


class SgdRule(NamedTuple):
    """How weights follow their gradient g, as in ``torch.optim.SGD``.

    v ← momentum v + g + weight_decay w;  w ← w - lr v
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0


class _Norm:
    """Batch normalisation of a layer's sums, for one step forwards and back; all (R, 1, H)."""

    def __init__(self, replicas: int, width: int, device: torch.device | str) -> None:
        self.scale, self.var = torch.ones(2, replicas, 1, width, device=device)
        self.shift, self.mean = torch.zeros(2, replicas, 1, width, device=device)

    def parts(self) -> dict[str, Tensor]:
        """What it learns, and what it remembers of the batches so far."""
        return {"scale": self.scale, "shift": self.shift, "mean": self.mean, "var": self.var}

    def forward(self, sums: Tensor) -> Tensor:
        """Normalise sums (R, B, H) by this batch, and remember a running mean and variance."""
        count = sums.shape[1]
        mean = sums.mean(1, keepdim=True)
        centred = sums - mean
        var = centred.square().mean(1, keepdim=True)  # torch.var_mean takes three times as long on a CPU
        self.mean.lerp_(mean, NORM_MOMENTUM)
        self.var.lerp_(var * (count / max(1, count - 1)), NORM_MOMENTUM)
        self._inverse_std = (var + NORM_EPS).rsqrt_()
        self._normal = centred.mul_(self._inverse_std)
        return torch.addcmul(self.shift, self._normal, self.scale)

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient (R, B, H) by the sums, and the sums of gradients by scale and shift."""
        by_shift = gradient.sum(1, keepdim=True)
        by_scale = (gradient * self._normal).sum(1, keepdim=True)
        count = gradient.shape[1]
        by_normal = (gradient - by_shift / count).addcmul_(self._normal, by_scale, value=-1 / count)
        return by_normal.mul_(self.scale * self._inverse_std), by_scale, by_shift


class Mlp:
    """The weights, what they compute, and how they learn.

    Products take numbers of type ``products`` (the weights' own, or bfloat16); weights, loss and sums are float32.
    """

    def __init__(
        self,
        widths: Sequence[int],
        generators: Sequence[torch.Generator],
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        products: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """``widths`` are D, those of the hidden layers, and C; ``generators`` are a replica's each.

        Weights are drawn from N(0, 0.01²), biases as ``torch.nn.Linear`` draws them, U(-1/√in, 1/√in).
        """
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        for inputs, outputs in itertools.pairwise(widths):
            bound = 1 / math.sqrt(inputs)
            weight = [torch.empty(outputs, inputs).normal_(std=WEIGHT_STD, generator=g) for g in generators]
            bias = [torch.empty(1, outputs).uniform_(-bound, bound, generator=g) for g in generators]
            self.weights.append(torch.stack(weight).to(device))
            self.biases.append(torch.stack(bias).to(device))
        self.hidden = tuple(widths[1:-1])
        self._norms = [_Norm(len(generators), width, device) for width in self.hidden] if batch_norm else []
        self._velocities = [torch.zeros_like(p) for p in self._learned()]
        self._products = products
        dropped = round(dropout * NOISE_STEPS)
        self._threshold = dropped - NOISE_STEPS // 2
        self._scale = NOISE_STEPS / (NOISE_STEPS - dropped)

    @property
    def drops(self) -> bool:
        """Whether a step leaves hidden units out."""
        return self._scale > 1 and bool(self.hidden)

    def parameters(self) -> dict[str, Tensor]:
        """Weights and biases by their names in the plain ``nn.Sequential(Flatten, Linear, ReLU, Linear, …)``.

        A lone replica's have no axis R, and biases no axis of examples, so that they fit there.
        """
        layers = enumerate(zip(self.weights, self.biases, strict=True))
        alone = len(self.weights[0]) == 1
        return {
            f"{2 * i + 1}.{name}": p[0] if alone else p
            for i, (weight, bias) in layers
            for name, p in (("weight", weight), ("bias", bias.squeeze(1)))
        }

    def state(self) -> dict[str, Tensor]:
        """All that a step changes: the parameters, and what batch normalisation has learned."""
        norms = {f"norm.{i}.{name}": part for i, norm in enumerate(self._norms) for name, part in norm.parts().items()}
        return {**self.parameters(), **norms}

    def velocities(self) -> dict[str, Tensor]:
        """What momentum remembers of the steps before."""
        return {f"velocity.{i}": velocity for i, velocity in enumerate(self._velocities)}

    def folded(self) -> "Mlp":
        """The same function without batch normalisation: each norm, by its running mean and variance, is linear."""
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
        """(R, B, D) or (B, D) to (R, B, C), nothing left out."""
        model = self.folded()
        weights = [self._cast(weight) for weight in model.weights]
        return self._log_softmax(model._forward(x.expand(len(self.biases[0]), -1, -1), weights)[-1])

    def sgd_step(
        self, x: Tensor, labels: Tensor, rule: SgdRule, noise: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Learn from x (R, B, D) and labels (R, B), int64; return the log-probabilities (R, B, C) before the step.

        ``noise`` (R, B, sum of the hidden widths), int16 over its whole range, decides which hidden units are left out.
        """
        lr, momentum, weight_decay = rule
        if not momentum:
            kept = 1 - lr * weight_decay
            return self._backward(x, labels, noise, label_smoothing, self._learned(), kept, -lr)
        log_probabilities = self._backward(x, labels, noise, label_smoothing, self._velocities, momentum, 1.0)
        for parameter, velocity in zip(self._learned(), self._velocities, strict=True):
            velocity.add_(parameter, alpha=weight_decay)
            parameter.add_(velocity, alpha=-lr)
        return log_probabilities

    def _learned(self) -> list[Tensor]:
        """What a step moves: the weights, then all the rest."""
        norms = [part for norm in self._norms for part in (norm.scale, norm.shift)]
        return [*self.weights, *self.biases, *norms]

    def _backward(
        self,
        x: Tensor,
        labels: Tensor,
        noise: Tensor | None,
        label_smoothing: float,
        targets: list[Tensor],
        keep: float,
        add: float,
    ) -> Tensor:
        """Each of ``targets`` becomes ``keep`` times itself plus ``add`` times the mean gradient of its parameter."""
        weights = [self._cast(weight) for weight in self.weights]
        *inputs, logits = self._forward(x, weights, noise)
        log_probabilities = self._log_softmax(logits)
        gradient = log_probabilities.exp()
        if label_smoothing:
            gradient.sub_(label_smoothing / gradient.shape[2])
        gradient.scatter_add_(2, labels[..., None], gradient.new_full((), label_smoothing - 1).expand(*labels.shape, 1))
        gradient = gradient.to(self._products)
        add /= labels.shape[1]
        depth = len(self.weights)
        for layer in reversed(range(depth)):
            below = torch.bmm(gradient, weights[layer]) if layer else None
            _accumulate(targets[layer], gradient.mT, inputs[layer], keep, add)
            targets[depth + layer].mul_(keep).add_(gradient.sum(1, keepdim=True, dtype=self.biases[0].dtype), alpha=add)
            if below is None:
                break
            gradient = torch.ops.aten.threshold_backward(below, inputs[layer], 0)  # where the unit was active
            if self.drops:
                gradient.mul_(self._scale)
            if self._norms:
                by_sums, *by_parts = self._norms[layer - 1].backward(gradient.to(self.biases[0].dtype))
                gradient = self._cast(by_sums)
                for i, by_part in enumerate(by_parts, start=2 * (depth + layer - 1)):
                    targets[i].mul_(keep).add_(by_part, alpha=add)
        return log_probabilities

    def _forward(self, x: Tensor, weights: Sequence[Tensor], noise: Tensor | None = None) -> list[Tensor]:
        """The input of each layer, then the logits, by ``weights`` of the type of products."""
        found = [self._cast(x)]
        noises = noise.split(self.hidden, dim=2) if noise is not None else None
        for layer, (weight, bias) in enumerate(zip(weights, self.biases, strict=True)):
            sums = torch.baddbmm(self._cast(bias), found[-1], weight.mT)
            if layer < len(self.hidden):
                if self._norms:
                    sums = self._cast(self._norms[layer].forward(sums.to(bias.dtype)))
                sums.relu_()
                if noises is not None:
                    sums.masked_fill_(noises[layer] < self._threshold, 0).mul_(self._scale)
            found.append(sums)
        return found

    def _log_softmax(self, logits: Tensor) -> Tensor:
        return torch.log_softmax(logits.to(self.biases[-1].dtype), dim=2)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._products)


def _accumulate(target: Tensor, left: Tensor, right: Tensor, keep: float, add: float) -> None:
    """``target`` becomes ``keep`` times itself plus ``add`` times the product of two (R, …) matrices."""
    if left.dtype == target.dtype:
        target.baddbmm_(left, right, beta=keep, alpha=add)
    else:
        target.mul_(keep).add_(torch.bmm(left, right), alpha=add)


def score(log_probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of -log p(label), in float64, and how many labels are the likeliest, two (R,) of (R, B, C).

    ``labels`` are (R, B), or (B,) for all.
    """
    labels = labels.expand(log_probabilities.shape[:2])
    losses = -log_probabilities.gather(2, labels[..., None])
    return losses.sum((1, 2), dtype=torch.float64), (log_probabilities.argmax(dim=2) == labels).sum(1)
