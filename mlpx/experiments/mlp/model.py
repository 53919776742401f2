"""R multilayer perceptrons for classification side by side, and their SGD step written out.

Shapes: R replicas, B examples, D features, H units of a layer, C classes; layer l has weight Wₗ (R, out, in) and bias
bₗ (R, 1, out).

    sₗ = hₗ₋₁ Wₗᵀ + bₗ;    hₗ = dropout(max(0, norm(sₗ))),  h₀ = x;    logits = h W ᵀ + b
    loss = -Σ target log softmax(logits),  target = (1 - label_smoothing) 1[label] + label_smoothing / C

Back-propagation (Rumelhart, Hinton and Williams, 1986): with gₗ the gradient of a layer's sums sₗ, and hₗ₋₁ its input,

    ∂loss/∂Wₗ = gₗᵀ hₗ₋₁,  ∂loss/∂bₗ = Σ gₗ,  gₗ₋₁ = gₗ Wₗ where hₗ₋₁ > 0;  at the top g = softmax(logits) - target

A step is thus a few matrix products, the last of which adds its result to the weights; autograd would take a third
longer. All that is learned lies in one tensor, so that one operation changes all of it. Batch normalization is that of
Ioffe and Szegedy (2015), and its backward pass is in their section 3:

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

    A learning rate that is a tensor on the weights' device may change after a step was recorded.
    """

    lr: float | Tensor
    momentum: float = 0.0
    weight_decay: float = 0.0


class _BatchNorm:
    """Batch normalization of a layer's sums (R, B, H); all its own tensors are (R, 1, H)."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        self.scale = scale.fill_(1)
        self.shift = shift
        self.mean, self.var = torch.zeros_like(scale), torch.ones_like(scale)

    def parts(self) -> dict[str, Tensor]:
        """The learned scale and shift, and the running mean and variance."""
        return {"scale": self.scale, "shift": self.shift, "mean": self.mean, "var": self.var}

    def forward(self, sums: Tensor, dtype: torch.dtype) -> Tensor:
        """Normalize sums by this batch, scale and shift them, and round them to ``dtype``."""
        self.batch_mean = sums.mean(1, keepdim=True)
        centered = sums - self.batch_mean
        # torch.var_mean takes three times as long on a CPU.
        self.batch_var = centered.square().mean(1, keepdim=True)
        self._inverse_std = (self.batch_var + NORM_EPS).rsqrt_()
        self._normal = centered.mul_(self._inverse_std)
        # Rounding as it is written saves a pass over the result.
        normalized = torch.empty_like(sums, dtype=dtype)
        return torch.addcmul(self.shift, self._normal, self.scale, out=normalized)

    def backward(self, gradient: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of the sums, rounded to ``dtype``, of the scale and of the shift, from that of the output."""
        of_shift = gradient.sum(1, keepdim=True)
        of_scale = (gradient * self._normal).sum(1, keepdim=True)
        count = gradient.shape[1]
        of_normal = (gradient - of_shift / count).addcmul_(self._normal, of_scale, value=-1 / count)
        of_sums = of_normal if of_normal.dtype == dtype else torch.empty_like(of_normal, dtype=dtype)
        return torch.mul(of_normal, self.scale * self._inverse_std, out=of_sums), of_scale, of_shift


class _Parameters:
    """The learned parameters, or their velocities: parts of one tensor, ``flat``.

    First come the weights, then the biases, then scale and shift of each batch normalization. Each part begins at a
    multiple of 64 bytes, as a tensor of its own would, since the last bits of a product may depend on it. What lies
    between them is and stays 0.
    """

    def __init__(self, flat: Tensor, sizes: Sequence[tuple[int, ...]], layers: int) -> None:
        """``sizes`` are those of the parts; those of a prefix of ``flat`` are enough."""
        self.flat = flat
        places = itertools.accumulate((_padded(size) for size in sizes), initial=0)
        self.parts = [
            flat[place : place + math.prod(size)].view(size) for place, size in zip(places, sizes, strict=False)
        ]
        self.weights, self.biases = self.parts[:layers], self.parts[layers : 2 * layers]
        self.scales, self.shifts = self.parts[2 * layers :: 2], self.parts[2 * layers + 1 :: 2]
        end = sum(map(_padded, sizes[:layers]))
        # A product that adds to the weights multiplies them itself.
        self.flat_weights, self.flat_rest = flat[:end], flat[end:]
        self.rest = self.parts[layers:]


def _padded(size: Sequence[int]) -> int:
    """The numbers that a part takes up, those after it included that are skipped."""
    return -(-math.prod(size) // 16) * 16


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
        replicas, layers = len(generators), len(widths) - 1
        self.hidden = tuple(widths[1:-1])
        sizes: list[tuple[int, ...]] = [(replicas, outputs, inputs) for inputs, outputs in itertools.pairwise(widths)]
        sizes += [(replicas, 1, outputs) for outputs in widths[1:]]
        # The products read weights and biases, which come first.
        read = sum(map(_padded, sizes))
        sizes += [(replicas, 1, width) for width in self.hidden for _ in ("scale", "shift") if batch_norm]
        learned = torch.zeros(sum(map(_padded, sizes)), dtype=dtype, device=device)
        # Two tensors, since a checkpoint has the whole of one whose parts it has.
        self._learned, self._velocities = (
            _Parameters(flat, sizes, layers) for flat in (learned, torch.zeros_like(learned))
        )
        self.weights, self.biases = self._learned.weights, self._learned.biases
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = 1 / math.sqrt(weight.shape[2])
            drawn = [torch.empty(weight.shape[1:]).normal_(std=WEIGHT_STD, generator=g) for g in generators]
            weight.copy_(torch.stack(drawn))
            drawn = [torch.empty(bias.shape[1:]).uniform_(-bound, bound, generator=g) for g in generators]
            bias.copy_(torch.stack(drawn))
        self._norms = [_BatchNorm(*parts) for parts in zip(self._learned.scales, self._learned.shifts, strict=True)]
        # What the products read: weights and biases themselves, or rounded, in memory that all steps share.
        rounded = learned[:read] if products == dtype else torch.zeros_like(learned[:read], dtype=products)
        self._rounded = _Parameters(rounded, sizes[: 2 * layers], layers)
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
        return {f"velocity.{i}": velocity for i, velocity in enumerate(self._velocities.parts)}

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
        weights, biases = ([self._cast(part) for part in parts] for parts in (model.weights, model.biases))
        return self._log_softmax(model._forward(x.expand(len(biases[0]), -1, -1), weights, biases)[-1])

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
        learned, velocities = self._learned, self._velocities
        if not momentum and not isinstance(lr, Tensor):
            kept = 1 - lr * weight_decay
            return self._backward(x, labels, noise, label_smoothing, learned, kept, -lr)
        log_probabilities = self._backward(x, labels, noise, label_smoothing, velocities, momentum, 1.0)
        if weight_decay:
            velocities.flat.add_(learned.flat, alpha=weight_decay)
        if isinstance(lr, Tensor):
            learned.flat.addcmul_(velocities.flat, lr, value=-1)
        else:
            learned.flat.add_(velocities.flat, alpha=-lr)
        return log_probabilities

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
        read = self._rounded
        if self._products != self.biases[0].dtype:
            read.flat.copy_(self._learned.flat[: len(read.flat)])
        *inputs, logits = self._forward(x, read.weights, read.biases, noise)
        self._update_running_norms(labels.shape[1])
        log_probabilities = self._log_softmax(logits)
        gradient = log_probabilities.exp()
        if label_smoothing:
            gradient.sub_(label_smoothing / gradient.shape[2])
        gradient.scatter_add_(2, labels[..., None], gradient.new_full((), label_smoothing - 1).expand(*labels.shape, 1))
        gradient = gradient.to(self._products)
        add /= labels.shape[1]
        # Rounded weights are what the products read, so these may change before all is computed.
        is_fused = self._products == targets.flat.dtype
        if keep != 1 and not is_fused:
            targets.flat_weights.mul_(keep)
        of_biases: list[Tensor] = []
        of_norms: list[Tensor] = []
        for layer in reversed(range(len(self.weights))):
            # The weights may be a target, so the gradient of the layer's input is computed before they change.
            of_input = torch.bmm(gradient, read.weights[layer]) if layer else None
            if is_fused:
                targets.weights[layer].baddbmm_(gradient.mT, inputs[layer], beta=keep, alpha=add)
            else:
                targets.weights[layer].add_(torch.bmm(gradient.mT, inputs[layer]), alpha=add)
            of_biases.insert(0, gradient.sum(1, keepdim=True, dtype=self.biases[0].dtype))
            if of_input is None:
                break
            # The gradient passes where the unit was active.
            gradient = torch.ops.aten.threshold_backward(of_input, inputs[layer], 0)
            if self.drops:
                gradient.mul_(self._scale)
            if self._norms:
                norm = self._norms[layer - 1]
                gradient, *of_norm = norm.backward(gradient.to(self.biases[0].dtype), self._products)
                of_norms[:0] = of_norm
        if keep != 1:
            targets.flat_rest.mul_(keep)
        torch._foreach_add_(targets.rest, [*of_biases, *of_norms], alpha=add)
        return log_probabilities

    def _update_running_norms(self, count: int) -> None:
        """Move the running means and variances towards those of the last batch, of ``count`` examples."""
        if not self._norms:
            return
        norms = self._norms
        unbiased = torch._foreach_mul([norm.batch_var for norm in norms], count / max(1, count - 1))
        running = [*(norm.mean for norm in norms), *(norm.var for norm in norms)]
        torch._foreach_lerp_(running, [*(norm.batch_mean for norm in norms), *unbiased], NORM_MOMENTUM)

    def _forward(
        self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], noise: Tensor | None = None
    ) -> list[Tensor]:
        """The input of each layer, and then the logits; ``weights`` and ``biases`` have the type of the products."""
        activations = [self._cast(x)]
        dropped = (noise < self._threshold).split(self.hidden, dim=2) if noise is not None else None
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            sums = torch.baddbmm(bias, activations[-1], weight.mT)
            if layer < len(self.hidden):
                if self._norms:
                    sums = self._norms[layer].forward(sums.to(self.biases[0].dtype), self._products)
                sums.relu_()
                if dropped is not None:
                    sums.masked_fill_(dropped[layer], 0).mul_(self._scale)
            activations.append(sums)
        return activations

    def _log_softmax(self, logits: Tensor) -> Tensor:
        return torch.log_softmax(logits.to(self.biases[-1].dtype), dim=2)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._products)


def score(log_probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the losses -log p(label), in float64, and the number of correct predictions: two (R,).

    Args:
        log_probabilities: (R, B, C).
        labels: (R, B), or (B,) for all replicas.
    """
    labels = labels.expand(log_probabilities.shape[:2])
    losses = -log_probabilities.gather(2, labels[..., None])
    return losses.sum((1, 2), dtype=torch.float64), (log_probabilities.argmax(dim=2) == labels).sum(1)
