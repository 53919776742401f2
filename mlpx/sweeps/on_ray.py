"""Carrying out the runs of a sweep on a Ray cluster, each as a task, whose process is of the same kind as here.

Ray chooses the nodes and the GPUs, and starts a task again whose worker or node is gone. A task returns nothing but an
exit code: what a run measures lies in its folder, on a disk that all nodes share.
"""

import contextlib
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlpx.data.folders import for_elsewhere
from mlpx.errors import InputError, MachineError, UsageError, reason
from mlpx.files import temporary_for
from mlpx.sweeps import ray_node
from mlpx.sweeps.places import require_share, runs_on_a_gpu
from mlpx.sweeps.processes import LOG
from mlpx.sweeps.request import Options

ADDRESS = "RAY_ADDRESS"
CONNECT_SECONDS = 20.0
"""Ray itself would try for a quarter of an hour."""
ANSWER_SECONDS = 60.0
"""A node gets so much time to answer; Ray needs half of it to notice that a node is gone."""
CLOSE_SECONDS = 60.0
LOOK_SECONDS = 10.0
"""How often it is seen whether nodes have come or gone."""
RETRIES = 3
JOIN = "Start one by 'ray start --head', or join one by 'ray start --address=HOST:PORT'."


class Node(NamedTuple):
    """A machine of the cluster, and what it has in all."""

    id: str
    host: str
    address: str
    cores: float
    gpus: float

    def __str__(self) -> str:
        return f"node {self.host} ({self.address})"

    def room(self, options: Options) -> int:
        """How many runs it can carry out at a time."""
        share = options.gpus
        by_cores = int(self.cores // options.cores)
        if share == 0:
            return by_cores
        return min(by_cores, int(self.gpus // share) if share >= 1 else int(self.gpus) * runs_on_a_gpu(share))


class Ray:
    """A Ray cluster, which has room for a number of runs at a time: ``slots``."""

    def __init__(self, experiment: str, options: Options, jobs: int | None) -> None:
        """Connect to the cluster that ``$RAY_ADDRESS`` names, or else to the one that runs on this machine.

        Args:
            experiment: What the runs train.
            options: How each of them is carried out.
            jobs: The largest number of runs at a time; ``None`` for as many as there are cores or GPUs for.

        Raises:
            UsageError: Ray is not installed, or the runs cannot have such a share of GPUs.
            InputError: There is no cluster, or it cannot be reached.
            MachineError: No node has so many cores and GPUs.
        """
        require_share(options)
        self._ray = connect()
        self._experiment = experiment
        self._options = options
        self._jobs = jobs
        self._mlpx = ray_node.own_mlpx()
        self._tasks: dict[Any, Path] = {}
        self._task = self._ray.remote(max_calls=0, max_retries=RETRIES)(ray_node.carry_out)
        self._looked = time.monotonic()
        self.slots = self._room()
        if not self.slots:
            why = f"no node has {options.cores} cores and {options.gpus:g} GPUs, as each run shall have"
            raise MachineError("--on ray", why, "Give fewer by --cores and --gpus.")

    def __str__(self) -> str:
        nodes = self._nodes()
        cores, gpus = sum(node.cores for node in nodes), sum(node.gpus for node in nodes)
        counts = {"node": len(nodes), "core": cores, "GPU": gpus}
        words = [f"{count:g} {word}{'' if count == 1 else 's'}" for word, count in counts.items() if count]
        return f"Ray cluster {self._ray.get_runtime_context().gcs_address}: {', '.join(words)}"

    @property
    def running(self) -> Sequence[Path]:
        """The runs that go on, or wait in Ray's queue."""
        return list(self._tasks.values())

    def require_ready(self, folder: Path) -> None:
        """Check that each node that could carry out a run sees a folder and has the same mlpx, before runs are made.

        Args:
            folder: Where the sweep lies or will lie; where there is nothing yet, the nearest folder above is looked at.

        Raises:
            InputError: A node does not, or does not answer.
            OSError: The folder cannot be written.
        """
        folder = folder.absolute()
        while not folder.is_dir():
            folder = folder.parent
        nodes = {node.id: node for node in self._nodes() if node.room(self._options)}
        # The file is a new one, as no other machine can know its name from another disk.
        file = temporary_for(folder / "ray")
        file.touch()
        try:
            answers = self._ask(list(nodes), str(file))
        finally:
            file.unlink(missing_ok=True)
        alive = {node.id for node in self._nodes()}
        for node in (node for node in nodes.values() if node.id in alive):
            if node.id not in answers:
                raise InputError(node, f"does not answer within {ANSWER_SECONDS:.0f} s", "Look after it, or remove it.")
            if (answer := answers[node.id]) is not None:
                raise InputError(node, *answer)

    def start(self, run: Path) -> None:
        """Hand a run to Ray, for which there must be a slot."""
        task = self._task.options(num_cpus=self._options.cores, num_gpus=self._options.gpus, name=f"mlpx {run.name}")
        arguments = (self._mlpx, self._experiment, self._options.model_dump(), for_elsewhere())
        self._tasks[task.remote(str(run), *arguments)] = run

    def ended(self, seconds: float) -> list[tuple[Path, int]]:
        """The runs that have ended, each with its exit code, or the signal that it died by as a negative number.

        Args:
            seconds: The time to wait for the first of them.
        """
        if time.monotonic() > self._looked + LOOK_SECONDS:
            self._looked = time.monotonic()
            # Without a node for a moment, runs wait in Ray's queue.
            with contextlib.suppress(self._ray.exceptions.RayError):
                self.slots = self._room() or self.slots
        if not self._tasks:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._tasks), timeout=seconds)
        ready = ready and self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)[0]
        return [(self._tasks[task], self._exit_code(task, self._tasks.pop(task))) for task in ready]

    def send(self, _signum: int) -> None:
        """Ask all runs that go on to save and end, whatever the signal; those in Ray's queue do not start."""
        for task in self._tasks:
            self._ray.cancel(task)

    def close(self, *, dies: bool = False) -> None:
        """End the runs that go on, wait for them, and disconnect.

        Args:
            dies: Whether this process ends by a signal next; that makes no difference here.
        """
        self.send(signal.SIGTERM)
        if self._tasks:
            self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=CLOSE_SECONDS)
        self._tasks.clear()
        # With this process Ray ends what is left of its tasks, and a run whose worker is gone saves and ends.
        self._ray.shutdown()

    def _exit_code(self, task: Any, run: Path) -> int:
        """How a task ended; why it could not start a run is appended to the log of the run."""
        try:
            code, why = self._ray.get(task)
        except self._ray.exceptions.TaskCancelledError:
            return -signal.SIGTERM
        except self._ray.exceptions.RayError:
            # Its worker or node died, more often than Ray tries again.
            return -signal.SIGKILL
        if why:
            with contextlib.suppress(OSError), open(run / LOG, "a") as log:
                log.write(f"error: {why}\n")
        return int(code)

    def _nodes(self) -> list[Node]:
        """The nodes that Ray takes to be alive."""
        return [
            Node(
                node["NodeID"],
                node["NodeManagerHostname"],
                node["NodeManagerAddress"],
                node["Resources"].get("CPU", 0.0),
                node["Resources"].get("GPU", 0.0),
            )
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    def _room(self) -> int:
        room = sum(node.room(self._options) for node in self._nodes())
        return min(room, self._jobs or room)

    def _ask(self, nodes: Sequence[str], file: str) -> dict[str, tuple[str, str] | None]:
        """What each node answers to :func:`ray_node.look`, if it does."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = self._ray.remote(num_cpus=0)(ray_node.look)
        places = {node: NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes}
        asked = {
            look.options(scheduling_strategy=place).remote(file, self._mlpx): node for node, place in places.items()
        }
        answered, silent = self._ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
        for task in silent:
            self._ray.cancel(task)
        found = {}
        for task in answered:
            try:
                found[asked[task]] = self._ray.get(task)
            except self._ray.exceptions.RayTaskError as error:
                found[asked[task]] = f"cannot tell: {reason(error.cause)}", "Look after it, or remove it."
            except self._ray.exceptions.RayError:
                pass  # the node is gone
        return found


def default_gpus(device: str) -> float:
    """The GPUs of each run where nobody asks for a number: one if the cluster has any, and the runs may use it.

    Raises:
        UsageError: Ray is not installed.
        InputError: There is no cluster, or it cannot be reached.
    """
    return 1.0 if device != "cpu" and connect().cluster_resources().get("GPU") else 0.0


def connect() -> Any:
    """The module ``ray``, connected to the cluster that ``$RAY_ADDRESS`` names, or to the one on this machine.

    No cluster is ever started.

    Raises:
        UsageError: Ray is not installed.
        InputError: There is no cluster, or it cannot be reached.
    """
    # These must be set before the import. Ray prints what happens to workers and nodes to standard output, which holds
    # the result, unless a line matches this expression.
    os.environ.update(RAY_DEDUP_LOGS="1", RAY_DEDUP_LOGS_SKIP_REGEX=".*")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with warnings.catch_warnings(), _silent_stderr():
        warnings.simplefilter("ignore")
        try:
            import ray
        except ModuleNotFoundError as error:
            raise UsageError("--on ray", "Ray is not installed", "Install it: pip install 'mlpx[ray]'.") from error
        if not ray.is_initialized():
            _initialize(ray)
    ray.cloudpickle.register_pickle_by_value(ray_node)
    return ray


def _initialize(ray: Any) -> None:
    address = os.environ.get(ADDRESS) or "auto"
    if "://" in address or address == "local":
        raise InputError(f"{ADDRESS} {address}", "is not that of a cluster", "Give HOST:PORT of its head node.")
    failures: list[Exception] = []

    def initialize() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            failures.append(error)

    # Nothing else can end it in time. In another thread it also leaves the handlers of signals alone.
    thread = threading.Thread(target=initialize, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if thread.is_alive() or failures:
        where = "a Ray cluster on this machine" if address == "auto" else f"the Ray cluster {address}"
        error = failures[0] if failures else None
        if error is None:
            why = f"no answer within {CONNECT_SECONDS:.0f} s"
        elif address == "auto" and "find any running" in str(error):
            why = "there is none"
        else:
            why = " ".join(reason(error.__cause__ or error).split())
        raise InputError(where, why, f"Correct {ADDRESS}. {JOIN}") from error


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """What Ray's C++ code writes to the descriptor of standard error, and to no stream of Python, is dropped."""
    before = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nothing)
