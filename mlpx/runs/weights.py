"""``weights.safetensors``: what a run learned."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from mlpx.errors import InputError
from mlpx.files import read_regular
from mlpx.settings.base import Settings

NAME = "weights.safetensors"


def to_bytes(weights: Mapping[str, Tensor], settings: Settings) -> bytes:
    """The file: the same bytes for the same weights and settings."""
    # One key: safetensors writes several in no fixed order.
    about = {"settings": json.dumps({"experiment": settings.experiment, **settings.model_dump()})}
    return safetensors.torch.save(dict(weights), about)


def read(run: Path) -> dict[str, Tensor]:
    """The weights of a run.

    Raises:
        InputError: it has none, or they are broken.
    """
    path = run / NAME
    try:
        return safetensors.torch.load(read_regular(path))
    except FileNotFoundError as error:
        raise InputError(path, "no such file: the run has not finished", "Go on with 'mlpx resume'.") from error
    except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InputError(path, f"cannot be read ({error})", "Train the run anew.") from error
