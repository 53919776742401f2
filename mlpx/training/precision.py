"""Mixed precision: the types to which the operands of matrix products are rounded."""

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""The type by the value of the setting ``precision``; the weights themselves stay fp32."""
