"""The verdict on a polynomial: underfitting, fitting or overfitting, by two questions fixed in advance."""

from typing import NamedTuple

import numpy as np

from mlpx.experiments.poly import data

# A ratio above this counts as underfitting or overfitting.
TOLERATED_RATIO = 2.0
# Losses below this share of the labels' variance count as zero.
NEGLIGIBLE = 1e-4


class Verdict(NamedTuple):
    """A verdict, the sentence that gives the reason, and the two numbers that decided it."""

    name: str
    reason: str
    train_to_noise: float
    generalization_to_train: float


def decide(train_loss: float, generalization_loss: float, noise_std: float) -> Verdict:
    """The verdict on a model with these losses.

    Underfitting: the training loss is more than twice the noise floor, so there is structure left to learn.
    Overfitting: it is not, but the generalization loss is more than twice the training loss (and above the floor), so
    what was learned holds for the training set alone. Fitting: neither.
    """
    floor = noise_floor(noise_std)
    to_noise = train_loss / floor
    to_train = generalization_loss / train_loss if train_loss > 0 else np.inf
    losses = f"generalization loss {generalization_loss:.4g} is {to_train:.3g} times the training loss {train_loss:.4g}"
    if to_noise > TOLERATED_RATIO:
        name = "underfitting"
        reason = f"training loss {train_loss:.4g} is {to_noise:.3g} times the noise floor {floor:.4g} (more than 2)"
    elif to_train > TOLERATED_RATIO and generalization_loss > floor:
        name, reason = "overfitting", f"{losses} (more than 2)"
    elif generalization_loss > floor:
        name = "fitting"
        reason = f"training loss is {to_noise:.3g} times the noise floor {floor:.4g}, and {losses} (both at most 2)"
    else:
        name = "fitting"
        reason = f"training loss {train_loss:.4g} and generalization loss {generalization_loss:.4g} are negligible"
    return Verdict(name, reason, to_noise, to_train)


def noise_floor(noise_std: float) -> float:
    """The noise's variance, or 1e-4 of the labels' variance where the noise is smaller than that."""
    return max(noise_std**2, NEGLIGIBLE * data.signal_variance())
