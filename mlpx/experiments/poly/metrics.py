"""The metrics of ``mlpx poly``: three losses, and at the end the ratios that decide the verdict."""

from mlpx.settings.metrics import Metric

AXIS = "mean squared error"
LOSSES = (
    Metric("train_loss", "loss", better="lower", axis=AXIS, curve="training", log=True, is_main=True),
    Metric("test_loss", "loss", better="lower", axis=AXIS, curve="test (a sample)", log=True, is_main=True),
    Metric(
        "generalization_loss",
        "loss",
        better="lower",
        axis=AXIS,
        curve="generalization (exact)",
        log=True,
        is_main=True,
    ),
)
METRICS = (
    *LOSSES,
    Metric("noise_floor", at_end=True, shared=True),
    Metric("train_to_noise", better="lower", at_end=True),
    Metric("generalization_to_train", better="lower", at_end=True),
)
