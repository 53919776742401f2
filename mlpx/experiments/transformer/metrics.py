"""The metrics of ``mlpx transformer``: losses in nats, and how many outputs are right or how good they are."""

from collections.abc import Sequence

from mlpx.settings.metrics import Metric


def of_task(task: str) -> Sequence[Metric]:
    """Reversing is judged by the share of sequences that come out exactly right, translating by BLEU."""
    if task == "reverse":
        quality = Metric(
            "val_exactness", "share", "higher", axis="validation sequences exactly right", curve="validation"
        )
        at_end = [
            Metric("test_exactness", "share", "higher", at_end=True, is_main=True),
            Metric("longer_exactness", "share", "higher", at_end=True),
        ]
    else:
        quality = Metric("val_bleu", "score", "higher", axis="validation BLEU", curve="validation")
        at_end = [Metric("test_bleu", "score", "higher", at_end=True, is_main=True)]
    axis = "cross-entropy in nats"
    return (
        Metric("step", "count", optional=2),
        Metric("train_loss", "loss", "lower", axis=axis, curve="training, while it learns", is_main=True),
        Metric("val_loss", "loss", "lower", axis=axis, curve="validation"),
        Metric("test_loss", "loss", "lower", axis=axis, curve="test", is_main=True),
        Metric("val_perplexity", "number", "lower", optional=1),
        quality,
        Metric("tokens_per_second", "speed", "higher", optional=4),
        Metric("lr", optional=3),
        Metric("test_perplexity", "number", "lower", at_end=True),
        *at_end,
        Metric("length_penalty", at_end=True),
    )
