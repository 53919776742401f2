"""Going on with a run from its last whole checkpoint."""

from pathlib import Path
from typing import Any

import torch

import mlpx
from mlpx.errors import InputError, UsageError
from mlpx.runs import checkpoints
from mlpx.runs.checkpoints import Checkpoint
from mlpx.runs.folder import Run
from mlpx.settings.base import Settings
from mlpx.settings.files import resolve
from mlpx.training.experiment import AnyExperiment


def extend(settings: Settings, epochs: int | None) -> Settings:
    """``settings`` with ``epochs`` raised.

    Raises:
        UsageError: The run cannot be extended, or there are fewer epochs than before, or too many.
    """
    if epochs is None or epochs == settings.epochs:
        return settings
    if reason := settings.why_not_extendable:
        why = f"this run cannot have other than {settings.epochs} epochs: {reason}"
        raise UsageError("--epochs", why, "Start a new run.")
    if epochs < settings.epochs:
        raise UsageError("--epochs", f"the run already has {settings.epochs}, and {epochs} are fewer", "Give more.")
    return resolve(type(settings), settings.model_dump() | {"epochs": epochs})


def read_checkpoint(run: Run, settings: Settings, num_processes: int = 1) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint to go on from, ``None`` where the run has none yet, and what there is to warn of.

    ``num_processes`` are to go on with it.

    Raises:
        InputError: There are checkpoints, but none that is whole.
        UsageError: It was made with other settings.
    """
    checkpoint, broken = checkpoints.load_newest(run.checkpoints)
    warnings = [f"{path.name} is broken; going on from the checkpoint before it" for path in broken]
    if checkpoint is None:
        return None, warnings
    _require_same_settings(checkpoint.settings, settings, run.path / "config.toml")
    if checkpoint.torch_version != str(torch.__version__):
        made = f"torch {checkpoint.torch_version}, and this is {torch.__version__}"
        warnings.append(f"the checkpoint was made with {made}: bits may differ")
    if checkpoint.num_processes != num_processes:
        made = f"in {_processes(checkpoint.num_processes)}, and this is {_processes(num_processes)}"
        warnings.append(f"the checkpoint was made {made}: bits will differ")
    return checkpoint, warnings


def _processes(number: int) -> str:
    return "one process" if number == 1 else f"{number} processes"


def restore(experiment: AnyExperiment, checkpoint: Checkpoint) -> None:
    """Give the experiment the checkpoint's state.

    Raises:
        InputError: The state does not fit, or the experiment's data is not what the run began with.
    """
    try:
        experiment.load_state(checkpoint.state)
        experiment.diverged = checkpoint.point.diverged
    except InputError as error:
        if checkpoint.mlpx_version == mlpx.__version__:
            raise
        why = f"mlpx {checkpoint.mlpx_version} made it, and this is {mlpx.__version__}: {error.why}"
        raise InputError("checkpoint", why, "Resume with that version, or start the run anew.") from error
    if checkpoint.data_digest not in ("", experiment.data_digest):
        raise InputError("the data", "is not what the run began with", "Put that back, or start a new run.")


def _require_same_settings(before: dict[str, Any], settings: Settings, path: Path) -> None:
    """Every setting must be as it was, but for more epochs and for where things lie."""
    defaults = {name: field.default for name, field in type(settings).model_fields.items()}
    # A setting that is newer than the run has its default.
    before = defaults | before
    after = settings.model_dump()
    keys = sorted((before.keys() | after.keys()) - settings.places)
    differ = [key for key in keys if before.get(key) != after.get(key)]
    if "epochs" in differ and isinstance(before.get("epochs"), int) and before["epochs"] < after["epochs"]:
        differ.remove("epochs")
    if differ:
        changes = ", ".join(f"{key} was {before.get(key)!r} and is {after.get(key)!r}" for key in differ)
        raise UsageError(path, f"settings cannot change on resume ({changes})", "Put them back, or start a new run.")
