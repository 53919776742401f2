"""``weights.safetensors``, the learned weights, and what else a finished run kept."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from mlpx.errors import InputError, as_mlpx_error, reason
from mlpx.files import read_regular
from mlpx.runs import reading
from mlpx.settings.base import Settings
from mlpx.training.experiment import Learned

NAME = "weights.safetensors"


def to_bytes(weights: Mapping[str, Tensor], settings: Settings) -> bytes:
    """The content of the file; the same weights and settings give the same bytes."""
    # There is only one key, because safetensors writes several of them in no fixed order.
    about = {"settings": json.dumps({"experiment": settings.experiment, **settings.model_dump()})}
    return safetensors.torch.save(dict(weights), about)


def read(run: Path) -> dict[str, Tensor]:
    """The weights of a run.

    Raises:
        InputError: It has none, or the file is broken.
    """
    path = run / NAME
    try:
        return safetensors.torch.load(read_regular(path))
    except FileNotFoundError as error:
        raise InputError(path, "no such file: the run has not finished", "Go on with 'mlpx resume'.") from error
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        # Torch raises TypeError or RuntimeError for shapes beyond its integers, but the latter also when memory is out.
        if isinstance(error, RuntimeError) and as_mlpx_error(error) is not None:
            raise
        raise InputError(path, f"cannot be read ({reason(error)})", "Train the run anew.") from error


def learned_of(run: Path) -> Learned:
    """What a finished run kept.

    Raises:
        InputError: It has no weights, or they or ``run.json`` are broken.
    """

    def read_file(name: str) -> bytes:
        try:
            return read_regular(run / name)
        except (OSError, ValueError) as error:
            raise InputError(run / name, reason(error), "Train the run anew.") from error

    document = reading.document_of(run)
    return Learned(read(run), reading.metrics_of(document), read_file, reading.diverged_of(document))
