"""Learning-rate schedules: linear warm-up, then linear or inverse square root decay."""

import math
from typing import Literal

Schedule = Literal["linear", "inverse-sqrt"]


def learning_rate(schedule: Schedule, lr: float, step: int, warmup_steps: int, num_steps: int) -> float:
    """The learning rate of ``step``, which counts from 1 to ``num_steps``.

    It rises by lr / W a step to lr at step W = ``warmup_steps``. Then ``inverse-sqrt`` gives lr √(W / step), which is
    equation 3 of Vaswani et al. (2017) with their d_model^-0.5 W^-0.5 as lr; ``linear`` falls evenly, and reaches zero
    one step after the last.
    """
    if step < warmup_steps:
        return lr * step / warmup_steps
    if schedule == "inverse-sqrt":
        return lr * math.sqrt(max(warmup_steps, 1) / step)
    return lr * (num_steps + 1 - step) / (num_steps + 1 - warmup_steps)
