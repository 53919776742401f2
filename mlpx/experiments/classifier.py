"""What a trained perceptron says of images, and pictures of it; of replicas, their mean."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mlpx.data.images import CLASSES, SIDE, Examples
from mlpx.models.mlp import Mlp
from mlpx.settings.mlp import MlpSettings
from mlpx.training.batches import generator
from mlpx.training.states import restore

PRODUCTS = {"fp32": torch.float32, "bf16": torch.bfloat16}
NORMAL_QUANTILE = 1.959964  # 97.5 % of a normal distribution lie below


def new_model(settings: MlpSettings, device: torch.device, *, batch_norm: bool) -> Mlp:
    """The untrained model."""
    return Mlp(
        [SIDE * SIDE, *settings.hidden, len(CLASSES[settings.dataset])],
        [generator(seed, "weights") for seed in settings.seeds],
        dropout=settings.dropout,
        batch_norm=batch_norm,
        products=PRODUCTS[settings.precision],
        device=device,
    )


def trained_model(settings: MlpSettings, weights: Mapping[str, Tensor], device: torch.device) -> Mlp:
    """The model of a run's weights, batch normalisation folded into them; raises InputError where they don't fit."""
    model = new_model(settings, device, batch_norm=False)
    restore(model.parameters(), weights, "weights.safetensors", "Train the run anew.")
    return model


def inputs(pixels: Tensor) -> Tensor:
    """Pixels (…, 784), uint8, as numbers in [0, 1]."""
    return pixels.float().div_(255)


def classify(settings: MlpSettings, weights: Mapping[str, Tensor], pictures: Tensor, device: torch.device) -> Tensor:
    """The probability of each class for pictures (N, 28, 28), uint8, by a run's weights: (N, 10).

    Raises:
        InputError: the weights don't fit the settings.
    """
    model = trained_model(settings, weights, device)
    return model.log_probabilities(inputs(pictures.flatten(1).to(device))).exp().mean(0).cpu()


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a probability of which ``count`` trials showed ``share``: Wilson (1927).

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z the normal distribution's 97.5 % quantile.
    """
    z = NORMAL_QUANTILE
    middle = share + z**2 / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (middle - reach) / (1 + z**2 / count), (middle + reach) / (1 + z**2 / count)


def draw_confusion(settings: MlpSettings, labels: Tensor, log_probabilities: Tensor) -> bytes:
    """How many images of each class were taken for which, by log-probabilities (R, N, 10)."""
    from mlpx.plots.confusion import confusion_matrix  # matplotlib takes half a second to import
    from mlpx.plots.figure import png

    classes = CLASSES[settings.dataset]
    pairs = labels.long() * len(classes) + log_probabilities.argmax(2)  # (R, N)
    counts = pairs.flatten().bincount(minlength=len(classes) ** 2).view(len(classes), len(classes))
    counts = counts.double().div(len(pairs)).round().long()
    what = "average guesses on the test images" if len(pairs) > 1 else "what the test images were taken for"
    return png(confusion_matrix(f"{title(settings)}: {what}", classes, counts.numpy()))


def draw_mistakes(settings: MlpSettings, examples: Examples, log_probabilities: Tensor) -> bytes:
    """The images that were mistaken with the greatest confidence, replicas by their mean probability."""
    from mlpx.plots.figure import png
    from mlpx.plots.tiles import TILES, captioned_images

    confidences, guesses = log_probabilities.exp().mean(0).max(1)
    labels = examples.labels.long()
    surest = (confidences * (guesses != labels)).argsort(descending=True, stable=True)[:TILES]
    surest = surest[guesses[surest] != labels[surest]]
    classes = CLASSES[settings.dataset]
    captions = [(classes[labels[i]], f"{classes[guesses[i]]}, {confidences[i]:.0%}") for i in surest.tolist()]
    wrong = int((guesses != labels).sum())
    heading = f"{title(settings)}: the surest of {wrong:,} mistakes (truth, guess)"
    return png(captioned_images(heading, examples.images[surest].numpy(), captions))


def draw_filters(settings: MlpSettings, weight: Tensor) -> bytes:
    """The first layer's weights (R, H, 784) as images; of replicas the first one's."""
    from mlpx.plots.figure import png
    from mlpx.plots.tiles import signed_images

    which = f", seed {settings.seed}" if settings.replicas > 1 else ""
    heading = f"MLP on {settings.dataset}{which}: weights of the first layer"
    return png(signed_images(heading, weight[0].view(-1, SIDE, SIDE).cpu().numpy()))


def title(settings: MlpSettings) -> str:
    """What a picture is of."""
    models = f"{settings.replicas} MLPs" if settings.replicas > 1 else "MLP"
    return f"{models} on {settings.dataset}"
