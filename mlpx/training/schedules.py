"""How the learning rate rises and falls."""

import math
from typing import Literal

Schedule = Literal["linear", "inverse-sqrt"]


def rate(schedule: Schedule, lr: float, step: int, warmup_steps: int, num_steps: int) -> float:
    """The learning rate of ``step``, which counts from 1 to ``num_steps``.

    It rises by lr / W a step to lr at step W = ``warmup_steps``. Then ``inverse-sqrt`` gives lr √(W / step), Vaswani et
    al. (2017, equation 3) with their d_model^-0.5 W^-0.5 as lr; ``linear`` falls evenly, to reach zero a step after the
    last.
    """
    if step < warmup_steps:
        return lr * step / warmup_steps
    if schedule == "inverse-sqrt":
        return lr * math.sqrt(max(warmup_steps, 1) / step)
    return lr * (num_steps + 1 - step) / (num_steps + 1 - warmup_steps)
