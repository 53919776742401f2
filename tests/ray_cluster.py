"""A Ray cluster of several nodes on this machine, in a network namespace of its own, since Ray binds to all addresses.

The tests use :class:`RayCluster`. As a script, this file runs inside the namespace and starts the nodes as it is told.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers import PROGRAM, Result, environment

START_SECONDS = 90
MEMORY = 80_000_000
"""Bytes of each node's store of objects, which no run uses."""


class Node(NamedTuple):
    """A node, and the address by which errors name it."""

    number: int
    address: str


class RayCluster:
    """A running cluster; ``folder`` holds what its nodes write, and ``env`` is the environment of its drivers."""

    def __init__(self, folder: Path) -> None:
        """Start the process that starts the nodes."""
        self.folder = folder
        for name in ("ray", "tmp"):
            (folder / name).mkdir()
        # The nodes have a folder of their own for temporary files, so that what is left there can be seen.
        variables = {"RAY_TMPDIR": str(folder / "ray"), "TMPDIR": str(folder / "tmp"), "RAY_USAGE_STATS_ENABLED": "0"}
        log = open(folder / "log", "w")  # noqa: SIM115
        self._keeper = subprocess.Popen(
            ["unshare", "--net", sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(RAY_ADDRESS=None, PYTHONPATH=os.environ.get("PYTHONPATH"), **variables),
            cwd=folder,
            text=True,
        )
        log.close()
        self.env = environment(RAY_ADDRESS=self._tell({"do": "head"}), RAY_TMPDIR=str(folder / "ray"))
        self._namespace = os.readlink(f"/proc/{self._keeper.pid}/ns/net")

    def add(
        self, cores: int = 1, gpus: int = 0, hides: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Node:
        """Start a node.

        Args:
            cores: Its cores.
            gpus: Its GPUs, which there need not be.
            hides: A folder in which it sees nothing, as it were not on a shared disk.
            env: More of its environment.
        """
        options = {"cores": cores, "gpus": gpus, "hides": hides and str(hides), "env": dict(env or {})}
        return Node(*json.loads(self._tell({"do": "add", **options})))

    def remove(self, node: Node) -> None:
        """Kill a node without a warning."""
        self._tell({"do": "remove", "number": node.number})

    @contextlib.contextmanager
    def live(self, *arguments: str, cwd: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """The program, started in the namespace; it is killed if it still runs at the end."""
        enter = ("nsenter", f"--net=/proc/{self._keeper.pid}/ns/net")
        with subprocess.Popen(
            [*enter, *PROGRAM, *arguments],
            cwd=cwd,
            env={**self.env, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def mlpx(self, *arguments: str, cwd: Path, **variables: str) -> Result:
        """Run the program in the namespace."""
        with self.live(*arguments, cwd=cwd, **variables) as process:
            return ended(process)

    def processes(self, word: str) -> list[int]:
        """The processes in the namespace whose command line holds a word."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(process / "ns" / "net") == self._namespace:
                    command = (process / "cmdline").read_text(errors="replace").replace("\0", " ")
                    found += [int(process.name)] if word in command else []
        return found

    def close(self) -> None:
        """Kill all processes in the namespace."""
        if self._keeper.poll() is None:
            while found := self.processes(""):
                for number in found:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(number, signal.SIGKILL)
                self._keeper.poll()
                time.sleep(0.05)
        self._keeper.communicate()

    def _tell(self, request: Mapping[str, Any]) -> str:
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        print(json.dumps(request), file=self._keeper.stdin, flush=True)
        answer = self._keeper.stdout.readline()
        assert answer, (self.folder / "log").read_text()
        return answer.strip()


def ended(process: subprocess.Popen[str]) -> Result:
    """How a started program ends."""
    out, err = process.communicate(timeout=200)
    return Result(process.returncode, out, err)


def wait_for(holds: Callable[[], object], seconds: float = 150) -> None:
    """Wait until something is true."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.05)


@contextlib.contextmanager
def cluster(*cores: int) -> Iterator[RayCluster]:
    """A cluster with a node of each of these numbers of cores, beside its head, which carries out nothing."""
    require_ray()
    # The path of a socket may not be long.
    folder = Path(tempfile.mkdtemp(prefix="mlpx-ray-"))
    try:
        running = RayCluster(folder)
        try:
            for number in cores:
                running.add(number)
            yield running
        finally:
            running.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_ray() -> None:
    """Skip the test where there can be no cluster."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    for word in ("unshare", "nsenter", "ip"):
        if shutil.which(word) is None:
            pytest.skip(f"there is no {word}")
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace may be made")


def _serve() -> None:
    """Start and kill nodes, as the lines of standard input say."""
    from ray.cluster_utils import Cluster

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    cluster = Cluster()
    nodes: dict[int, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        number = len(nodes) + 1
        # Each node has an address of its own, by which it is known.
        address = f"10.9.0.{number}"
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=False)
        common = {"node_ip_address": address, "object_store_memory": MEMORY}
        if request["do"] == "head":
            nodes[number] = cluster.add_node(num_cpus=0, include_dashboard=False, **common)
            answer = cluster.address
        elif request["do"] == "remove":
            cluster.remove_node(nodes[request["number"]], allow_graceful=False)
            answer = ""
        else:
            nodes[number] = _add(cluster, request, common)
            answer = json.dumps([number, address])
        print(answer, flush=True)


def _add(cluster: Any, request: Mapping[str, Any], common: Mapping[str, Any]) -> Any:
    """Start a node; one that hides a folder has its own view of the mounted file systems."""
    env = {**os.environ, **request["env"]}
    resources = {"num_cpus": request["cores"], "num_gpus": request["gpus"]}
    if request["hides"] is None:
        before = dict(os.environ)
        os.environ.update(env)
        try:
            return cluster.add_node(**resources, **common)
        finally:
            os.environ.clear()
            os.environ.update(before)
    options = {"address": cluster.address, "block": None, **resources, **common}
    words = [f"--{name.replace('_', '-')}" + ("" if value is None else f"={value}") for name, value in options.items()]
    hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', request["hides"]]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start"]
    count = len([node for node in cluster.global_state.node_table() if node["Alive"]])
    process = subprocess.Popen([*hide, *start, *words], env=env, stdout=subprocess.DEVNULL)
    until = time.monotonic() + START_SECONDS
    while len([node for node in cluster.global_state.node_table() if node["Alive"]]) == count:
        if process.poll() is not None or time.monotonic() > until:
            raise TimeoutError(process.args)
        time.sleep(0.1)
    return process


if __name__ == "__main__":
    _serve()
