"""What a node of a Ray cluster does for a sweep: it tells what it is, and carries out a run.

Ray gets these functions by their code, not by their names, so they also run where there is no mlpx or another one. So
this module imports nothing of mlpx at its top.
"""

import hashlib
import importlib.util
import os
import platform
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

NOT_READY = 5
"""The exit code of :class:`mlpx.errors.InputError`."""
WAIT_SECONDS = 0.1
AGEING_SECONDS = 10.0
"""A run whose holder is gone is waited for so much longer than its lease lasts."""


def look(path: str, mlpx: str) -> tuple[str, str] | None:
    """Why this machine cannot carry out runs, and what to do about it; ``None`` if it can.

    Args:
        path: A file that it must see.
        mlpx: What :func:`own_mlpx` says where the sweep was started.
    """
    if not os.path.exists(path):
        return f"does not see {os.path.dirname(path)}", "Put runs on a disk that all nodes share, or remove this node."
    found = own_mlpx()
    if found == mlpx:
        return None
    theirs, ours = (f"mlpx {text.split()[0]}" if text else "no mlpx" for text in (found, mlpx))
    difference = "with other modules than here" if theirs == ours else f"and here is {ours}"
    return f"has {theirs}, {difference}", "Install the same mlpx on all nodes."


def own_mlpx() -> str:
    """The version of mlpx that Python finds here, with a digest of the package's modules; empty if there is none."""
    found = importlib.util.find_spec("mlpx")
    if found is None or found.origin is None:
        return ""
    import mlpx

    package, digest = Path(found.origin).parent, hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return f"{mlpx.__version__} {digest.hexdigest()}"


def carry_out(
    run: str, mlpx: str, experiment: str, options: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[int, str]:
    """Carry out a run, in a process of its own, as the task of a Ray worker.

    Args:
        run: The absolute path of the run folder.
        mlpx: What :func:`own_mlpx` says where the sweep was started.
        experiment: What the run trains.
        options: The fields of :class:`mlpx.sweeps.request.Options`.
        environment: Variables that the run shall have.

    Returns:
        The exit code, or a negative number if the run was killed; and why it could not be started, if so.
    """
    # The node may have joined after all others had been asked.
    found = look(os.path.join(run, "config.toml"), mlpx)
    if found is not None:
        why, remedy = found
        return NOT_READY, f"node {platform.node()}: {why}. {remedy}"
    from mlpx.errors import Bug, as_mlpx_error
    from mlpx.runs.holding import LEASE_SECONDS, is_held

    # Ray may have started this task again, because the worker or the node of the first one is gone. The run that it
    # left behind saves and ends soon, or its lease ends.
    until = time.monotonic() + LEASE_SECONDS + AGEING_SECONDS
    while is_held(Path(run)) and time.monotonic() < until:
        time.sleep(WAIT_SECONDS)
    try:
        return _wait_for_process(run, experiment, options, environment), ""
    except Exception as error:
        known = as_mlpx_error(error) or Bug(error, "See the logs of Ray.")
        return known.exit_code, str(known)


def _wait_for_process(run: str, experiment: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Start the process of a run and wait for its end; a cancelled task ends it before it ends itself."""
    from mlpx.sweeps.places import VISIBLE
    from mlpx.sweeps.processes import Process, prepare
    from mlpx.sweeps.request import Options

    # A forked process runs the file of its main module again, which would import Ray for nothing.
    sys.modules["__main__"].__dict__.pop("__file__", None)
    prepare(experiment)
    asked = Options(**options)
    # Ray has chosen the GPUs of this task, but hides none from a task that asked for none.
    place = os.environ.get(VISIBLE) if asked.gpus else ""
    process = Process(Path(run), asked, place, environment)
    try:
        # Ray cancels a task by a KeyboardInterrupt, for which Python must get a turn now and then.
        while not wait([process.sentinel], WAIT_SECONDS):
            pass
    except BaseException:
        process.send(signal.SIGTERM)
        process.end()
        raise
    # Nobody asked for the end of a run that died by a signal, so it counts as killed, and not as interrupted.
    code = process.end()
    return code if code >= 0 else -signal.SIGKILL
