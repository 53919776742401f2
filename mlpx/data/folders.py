"""The folder of data sets, and the cache folder."""

import os
from pathlib import Path

from mlpx.errors import MachineError

VARIABLE = "MLPX_DATA_DIR"


def cache_folder() -> Path:
    """The user's cache folder for mlpx, whether it exists or not.

    Raises:
        MachineError: Neither the environment nor the user database names a home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path is to be ignored.
    if not os.path.isabs(base):
        # An empty HOME would make this /.cache, a folder of the whole machine.
        base = os.path.expanduser("~/.cache") if os.environ.get("HOME") != "" else ""
    if not os.path.isabs(base):
        raise MachineError("no home folder", "this user has none", "Set XDG_CACHE_HOME or MLPX_DATA_DIR.")
    return Path(base, "mlpx")


def data_folder(given: str) -> Path:
    """The folder of data sets: ``given``, or if that is empty ``$MLPX_DATA_DIR``, or else one in the cache folder.

    Raises:
        MachineError: Neither is given, and there is no home folder.
    """
    named = given or os.environ.get(VARIABLE, "")
    return Path(os.path.expanduser(named)) if named else cache_folder() / "data"


def for_elsewhere() -> dict[str, str]:
    """``$MLPX_DATA_DIR`` as an absolute path, for a process that works in another folder; empty where it is not set."""
    named = os.environ.get(VARIABLE, "")
    return {VARIABLE: os.path.abspath(os.path.expanduser(named))} if named else {}
