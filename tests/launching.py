"""torchrun as users start it, but in a network of its own: the store that it keeps listens on every interface."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from helpers import Result, environment

NETWORK = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
SECONDS = 120
TRAINING = (
    *("transformer", "--num-train", "400", "--num-layers", "1", "--d-model", "32", "--num-heads", "2", "--d-ff", "64"),
    *("--batch-size", "64", "--dropout", "0.1", "--epochs", "4", "--checkpoint-every", "0", "--quiet"),
)
ENDS_WITHIN = 15.0
"""Seconds after which no process may be left."""


def require_network() -> None:
    """Skip the test where no network can be made."""
    for word in ("unshare", "ip"):
        if shutil.which(word) is None:
            pytest.skip(f"there is no {word}")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace may be made")


def torchrun(num_processes: int, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """The command that starts the program with ``arguments`` in several processes; ``options`` are torchrun's."""
    return [*NETWORK, *TORCHRUN, f"--nproc-per-node={num_processes}", *options, *arguments]


def run(command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None, seconds: float = SECONDS) -> Result:
    """How a command ends in ``folder``, where its processes have one thread each."""
    with start(command, folder, env) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Result(process.returncode, out, err)


def start(command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """A command under way; its process is that of torchrun."""
    variables = environment(OMP_NUM_THREADS="1", TMPDIR=tempfile.gettempdir(), **(env or {}))
    return subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def workers(torchrun: int) -> dict[int, int]:
    """The processes that torchrun has started, by rank."""
    found = {}
    for number in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split():
        variables = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
        ranks = [int(each.removeprefix(b"RANK=")) for each in variables if each.startswith(b"RANK=")]
        found.update({rank: int(number) for rank in ranks})
    return found
