"""The metrics of ``mlpx mlp``: losses and accuracies of each epoch, and at the end the gaps between them."""

from collections.abc import Sequence
from dataclasses import replace

from mlpx.settings.metrics import Metric

LOSS, ACCURACY = "cross-entropy", "accuracy"
TRAINING, TEST, VALIDATION = "training, while it learns", "test", "validation"
TEST_ACCURACY = Metric("test_accuracy", "share", better="higher", axis=ACCURACY, curve=TEST, is_main=True)
VAL_ACCURACY = Metric("val_accuracy", "share", better="higher", axis=ACCURACY, curve=VALIDATION, is_main=True)
FINAL_TRAIN_ACCURACY = Metric("final_train_accuracy", "share", better="higher", at_end=True)
METRICS = (
    Metric("train_loss", "loss", better="lower", axis=LOSS, curve=TRAINING, is_main=True),
    Metric("train_accuracy", "share", better="higher", axis=ACCURACY, curve=TRAINING),
    Metric("test_loss", "loss", better="lower", axis=LOSS, curve=TEST, is_main=True),
    TEST_ACCURACY,
    Metric("final_train_loss", "loss", better="lower", at_end=True),
    FINAL_TRAIN_ACCURACY,
    Metric("loss_gap", better="lower", at_end=True),
    Metric("accuracy_gap", "share", better="lower", at_end=True),
    Metric("test_accuracy_low", "share", better="higher", at_end=True),
    Metric("test_accuracy_high", "share", better="higher", at_end=True),
)
"""The metrics of a run without a validation set."""
# A terminal of 80 columns has no room for all columns of a run with a validation set.
OPTIONAL = {"train_accuracy": 1, "test_loss": 2}


def with_validation() -> Sequence[Metric]:
    """The metrics of a run that has a validation set.

    Runs are ranked by the main metric that is declared last, so that is the validation accuracy.
    """
    return (
        *(replace(metric, optional=OPTIONAL.get(metric.name, 0)) for metric in METRICS if not metric.at_end),
        Metric("val_loss", "loss", better="lower", axis=LOSS, curve=VALIDATION, is_main=True),
        VAL_ACCURACY,
        *(metric for metric in METRICS if metric.at_end),
    )
