"""Divergence: it ends a single training; of several replicas, one that diverges is left out, and the others go on.

A replica is judged where there is a row. :attr:`mlpx.training.experiment.Experiment.diverged` keeps the judgment.
"""

import math
from collections.abc import Mapping

from torch import Tensor

from mlpx.errors import Diverged
from mlpx.training.experiment import NONE_DIVERGED, AnyExperiment, Values

REMEDY = "Try a lower --lr."


def judged(experiment: AnyExperiment, values: Mapping[str, Values], epoch: int) -> Mapping[int, int]:
    """The replicas that have diverged, by a loss or a weight that is not finite, each with the epoch of the judgment.

    Those that had diverged before come first. A single training is not judged here: see :func:`require_going_on`.

    Args:
        experiment: As it stands after ``epoch``.
        values: What its ``evaluate`` gives.
        epoch: The last one trained.
    """
    if len(experiment.settings.seeds) == 1:
        return NONE_DIVERGED
    losses = [of_replicas for _, of_replicas in _losses(experiment, values)]
    found = [
        replica
        for replica, has_finite_state in enumerate(_finite_states(experiment))
        if not has_finite_state or not all(math.isfinite(of_replicas[replica]) for of_replicas in losses)
    ]
    return {**experiment.diverged, **{replica: epoch for replica in found if replica not in experiment.diverged}}


def _losses(experiment: AnyExperiment, values: Mapping[str, Values]) -> list[tuple[str, Values]]:
    names = [metric.name for metric in experiment.settings.metrics if metric.kind == "loss"]
    return [(name, values[name]) for name in names if name in values]


def _finite_states(experiment: AnyExperiment) -> list[bool]:
    """Whether all that training changes is finite, replica by replica."""
    count = len(experiment.settings.seeds)
    tensors = (part for part in experiment.state().values() if isinstance(part, Tensor))
    finite = [part.isfinite().reshape(count, -1).all(1).tolist() for part in tensors]
    return [all(of_replica) for of_replica in zip(*finite, strict=True)]


def require_going_on(experiment: AnyExperiment, values: Mapping[str, Values], epoch: int) -> None:
    """Check that a single training has finite losses, or that some of several replicas have not diverged.

    Raises:
        Diverged: It says which loss is not finite, or which replica diverged first.
    """
    diverged, count = experiment.diverged, len(experiment.settings.seeds)
    if count == 1:
        for name, (value,) in _losses(experiment, values):
            if not math.isfinite(value):
                raise Diverged("diverged", f"{name} is {value} at epoch {epoch}", REMEDY)
    elif len(diverged) == count:
        first, when = next(iter(diverged.items()))
        raise Diverged("diverged", f"all {count} replicas, the first of them replica {first} at epoch {when}", REMEDY)
