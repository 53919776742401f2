"""Where data lies, and where what can be made again is kept."""

import os
from pathlib import Path

from mlpx.errors import MachineError


def cache_folder() -> Path:
    """The user's cache folder for mlpx, whether it exists or not.

    Raises:
        MachineError: neither environment nor user database says where the user's files are.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # as the XDG specification has it
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise MachineError("no home folder", "this user has none", "Set XDG_CACHE_HOME or MLPX_DATA_DIR.")
    return Path(base, "mlpx")


def data_folder(given: str) -> Path:
    """The folder of data sets: the one that was ``given``, else ``$MLPX_DATA_DIR``, else in the cache."""
    named = given or os.environ.get("MLPX_DATA_DIR", "")
    return Path(named) if named else cache_folder() / "data"
