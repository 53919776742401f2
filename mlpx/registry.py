"""The experiments by name. Each is imported on demand, and nothing else of mlpx imports one."""

import functools
import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from mlpx.settings.base import Settings

if TYPE_CHECKING:
    from mlpx.training.experiment import AnyExperiment


class Entry(NamedTuple):
    """Where an experiment lies: its package, and a class each of the package's ``settings`` and ``experiment``."""

    package: str
    settings: str
    experiment: str


# In the order in which the commands are listed.
EXPERIMENTS = {
    "poly": Entry("mlpx.experiments.poly", "PolySettings", "Polynomials"),
    "mlp": Entry("mlpx.experiments.mlp", "MlpSettings", "Classification"),
    "transformer": Entry("mlpx.experiments.transformer", "TransformerSettings", "Translation"),
}


def settings_class(name: str) -> type[Settings]:
    """The settings of the experiment ``name``. This imports nothing slow."""
    entry = EXPERIMENTS[name]
    settings: type[Settings] = _load(entry.package, "settings", entry.settings)
    return settings


def experiment_class(name: str) -> "type[AnyExperiment]":
    """The experiment ``name``. This imports torch."""
    entry = EXPERIMENTS[name]
    experiment: type[AnyExperiment] = _load(entry.package, "experiment", entry.experiment)
    return experiment


@functools.cache
def _load(package: str, module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"{package}.{module}"), name)
