"""The metrics of ``mlpx mlp``: losses and accuracies of each epoch, and at the end the gaps between them."""

from mlpx.settings.metrics import Metric

LOSS, ACCURACY = "cross-entropy", "accuracy"
TRAINING, TEST = "training, while it learns", "test"
TEST_ACCURACY = Metric("test_accuracy", "share", better="higher", axis=ACCURACY, curve=TEST, is_main=True)
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
