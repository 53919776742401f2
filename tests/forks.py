"""The program, forked from a process that has imported all of it: as a new one, but for the seconds that takes."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlpx.__main__ import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["mlpx.cli.train", "mlpx.plots.figure", "sacrebleu.metrics.bleu", "torch.optim"])


def run_forked(arguments: Sequence[str], folder: Path, env: dict[str, str], given: bytes) -> tuple[int, bytes, bytes]:
    """Exit code, standard output and error of the command line in ``folder``; ``given`` is its standard input."""
    with tempfile.TemporaryDirectory() as place:
        streams = [Path(place) / name for name in ("in", "out", "err")]
        streams[0].write_bytes(given)
        process = _FORKS.Process(target=_become_the_program, args=(list(arguments), folder, env, streams))
        process.start()
        process.join(timeout=120)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(arguments)
        return process.exitcode, streams[1].read_bytes(), streams[2].read_bytes()


def _become_the_program(arguments: list[str], folder: Path, env: dict[str, str], streams: list[Path]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate(streams):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    sys.argv = ["mlpx", *arguments]
    sys.exit(main())
