"""Handing a sweep to Slurm: a job array of workers, each of which carries out runs until none is left.

The workers are ``mlpx resume SWEEP``, so they need nothing but the folder: no array index, no accounting, no process
that waits on the login node. A worker whose time is up has its runs save, and queues itself again.
"""

import math
import os
import shlex
import shutil
import subprocess
import sys
from typing import NamedTuple

from mlpx.data import folders
from mlpx.errors import InputError, MachineError, UsageError
from mlpx.files import write_file
from mlpx.sweeps.folder import Sweep
from mlpx.sweeps.places import runs_on_a_gpu

SCRIPT = "slurm.sh"
MAX_WORKERS = 8
"""As many workers are submitted where nobody asks for a number."""
UNREACHABLE = ("contact slurm controller", "configuration source", "cannot stat file")
"""What ``sbatch`` says where it cannot reach Slurm."""
TEXT = """\
#!/bin/sh
# Workers of a sweep: each carries out runs that nobody works on, until none is left.
# To submit them again, in this folder: sbatch slurm.sh
{options}

# Slurm sends TERM to this shell alone, two minutes before the time limit. Then the runs save and stop.
trap 'kill -TERM "$worker" 2> /dev/null' TERM
{command} &
worker=$!
wait "$worker"
code=$?
# A signal ends the first wait before the worker has ended.
while kill -0 "$worker" 2> /dev/null; do
    wait "$worker"
    code=$?
done

case $code in
143) # The worker was stopped. It goes on later, unless the job was cancelled, or is queued again already.
    task=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
    if [ "$(squeue --noheader --jobs="$task" --format=%T)" = RUNNING ]; then
        scontrol requeue "$task"
    fi ;;
75) # Others hold the rest.
    code=0 ;;
esac
exit "$code"
"""


class Submitted(NamedTuple):
    """What Slurm has queued.

    Args:
        job: The number of the job; empty where Slurm has told none.
        workers: How many workers it has.
        exit_code: Other than 0 where the options asked to wait for the job, and it has failed.
    """

    job: str
    workers: int
    exit_code: int


def require_slurm(options: str) -> None:
    """Check that jobs can be submitted from this machine, with these options of ``sbatch``.

    Raises:
        MachineError: There is no ``sbatch``.
        UsageError: The options are not one line.
    """
    if shutil.which("sbatch") is None:
        raise MachineError("--on slurm", "there is no sbatch on this machine", "Use a login node of the cluster.")
    if not options.isprintable():
        raise UsageError("--sbatch", f"{options!r} is not one line", "Write the options as on a command line.")


def submit(sweep: Sweep, to_go: int, jobs: int | None, options: str) -> Submitted:
    """Write ``slurm.sh`` into the sweep, and submit it.

    Args:
        sweep: The sweep.
        to_go: How many runs are not over.
        jobs: The largest number of runs at a time; ``None`` for :data:`MAX_WORKERS` workers.
        options: The user's options of ``sbatch``, which win.

    Raises:
        UsageError: Slurm refuses the job.
        InputError: Slurm cannot be reached.
        OSError: The script cannot be written.
    """
    # Runs that share a GPU are carried out by the same worker.
    each = runs_on_a_gpu(sweep.request.options.gpus)
    workers = min(math.ceil(to_go / each), math.ceil(jobs / each) if jobs else MAX_WORKERS)
    write_file(sweep.path / SCRIPT, script(sweep, workers, options).encode())
    # The job works in the folder from which it is submitted.
    env = {**os.environ, **folders.for_elsewhere()}
    command = ["sbatch", "--parsable", SCRIPT]
    done = subprocess.run(command, cwd=sweep.path, env=env, capture_output=True, text=True)
    # Where there are several clusters, the name of one stands behind a semicolon.
    job = done.stdout.strip().partition(";")[0]
    if done.returncode and not job:
        why = " ".join(done.stderr.replace("sbatch: error: ", "").split()) or f"exit code {done.returncode}"
        again = f"Then: mlpx resume {shlex.quote(str(sweep.path))} --on slurm"
        if any(words in why for words in UNREACHABLE):
            raise InputError("sbatch", why, f"See that Slurm runs here. {again}")
        raise UsageError("sbatch", why, f"Correct --sbatch. {again}")
    return Submitted(job, workers, done.returncode)


def script(sweep: Sweep, workers: int, options: str) -> str:
    """The script of a job array of so many workers."""
    asked, each = sweep.request.options, runs_on_a_gpu(sweep.request.options.gpus)
    lines = [
        f"--job-name=mlpx-{sweep.request.model.experiment}",
        f"--array=1-{workers}",
        f"--cpus-per-task={asked.cores * each}",
        *([f"--gres=gpu:{math.ceil(asked.gpus)}"] if asked.gpus else []),
        "--requeue",
        "--signal=B:TERM@120",
        "--open-mode=append",
        "--output=slurm-%A_%a.log",
    ]
    # Of two options of the same name, the last one counts.
    words = [*(f"#SBATCH {line}" for line in lines), *([f"#SBATCH {options}"] if options.strip() else [])]
    command = [sys.executable, "-m", "mlpx", "resume", str(sweep.path), "--jobs", str(each)]
    return TEXT.format(options="\n".join(words), command=shlex.join(command))
