"""What a trained perceptron reports: the interval of its accuracy, and pictures of what it learned and mistook.

Shapes: R replicas, N images, C classes, H units of the first layer.
"""

import math

from torch import Tensor

from mlpx.experiments.mlp.images import CLASSES, Examples
from mlpx.experiments.mlp.settings import SIDE, MlpSettings

# The normal distribution's 97.5 % quantile.
NORMAL_QUANTILE = 1.959964


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a probability of which ``count`` trials showed ``share``: Wilson (1927).

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z the normal distribution's 97.5 % quantile.
    """
    z = NORMAL_QUANTILE
    middle = share + z**2 / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (middle - reach) / (1 + z**2 / count), (middle + reach) / (1 + z**2 / count)


def draw_confusion(title: str, dataset: str, labels: Tensor, log_probabilities: Tensor) -> bytes:
    """How many images of each class were taken for which class, as PNG.

    Args:
        title: What the picture is of.
        dataset: Its name.
        labels: The true classes (N,).
        log_probabilities: The model's, (R, N, C); the counts of several replicas are averaged.
    """
    # matplotlib takes half a second to import, so it is imported only when something is drawn.
    from mlpx.experiments.mlp.plots import confusion_matrix
    from mlpx.plots.figure import png

    classes = CLASSES[dataset]
    pairs = labels.long() * len(classes) + log_probabilities.argmax(2)  # (R, N)
    counts = pairs.flatten().bincount(minlength=len(classes) ** 2).view(len(classes), len(classes))
    counts = counts.double().div(len(pairs)).round().long()
    what = "average guesses on the test images" if len(pairs) > 1 else "what the test images were taken for"
    return png(confusion_matrix(f"{title}: {what}", classes, counts.numpy()))


def draw_mistakes(title: str, dataset: str, examples: Examples, log_probabilities: Tensor) -> bytes:
    """The images that were mistaken with the greatest confidence, as PNG.

    Args:
        title: What the picture is of.
        dataset: Its name.
        examples: The images and their true classes.
        log_probabilities: The model's, (R, N, C); the probabilities of several replicas are averaged.
    """
    from mlpx.experiments.mlp.plots import TILES, captioned_images
    from mlpx.plots.figure import png

    confidences, guesses = log_probabilities.exp().mean(0).max(1)
    labels = examples.labels.long()
    surest = (confidences * (guesses != labels)).argsort(descending=True, stable=True)[:TILES]
    surest = surest[guesses[surest] != labels[surest]]
    classes = CLASSES[dataset]
    captions = [(classes[labels[i]], f"{classes[guesses[i]]}, {confidences[i]:.0%}") for i in surest.tolist()]
    wrong = int((guesses != labels).sum())
    heading = f"{title}: the surest of {wrong:,} mistakes (truth, guess)"
    return png(captioned_images(heading, examples.images[surest].numpy(), captions))


def draw_filters(settings: MlpSettings, weight: Tensor, replica: int) -> bytes:
    """A replica's weights of the first layer as images, as PNG; ``weight`` is (R, H, 784)."""
    from mlpx.experiments.mlp.plots import signed_images
    from mlpx.plots.figure import png

    which = f", seed {settings.seeds[replica]}" if settings.replicas > 1 else ""
    heading = f"MLP on {settings.dataset}{which}: weights of the first layer"
    return png(signed_images(heading, weight[replica].view(-1, SIDE, SIDE).cpu().numpy()))
