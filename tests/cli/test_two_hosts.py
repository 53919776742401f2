"""One training on two hosts: networks and host names of their own, and a run folder that the second cannot see."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import launching
import pytest
from helpers import document_of, outcome
from launching import ENDS_WITHIN, TRAINING, workers

pytestmark = [pytest.mark.torchrun, pytest.mark.slow]
PORT = 29_517


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces that see each other, by name; their addresses are 10.77.0.1 and 10.77.0.2."""
    launching.require_network()
    names = [f"mlpx{os.getpid()}{letter}" for letter in "ab"]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "va", "netns", names[0], "type", "veth", "peer", "name", "vb", "netns", names[1])
        for number, (name, link) in enumerate(zip(names, ("va", "vb"), strict=True), start=1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", link)
            for each in ("lo", link):
                ip("-n", name, "link", "set", each, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def start(hosts: Sequence[str], folders: Sequence[Path], into: str) -> "list[subprocess.Popen[str]]":
    """The training on both hosts, on each in a folder of its own; the processes are those of torchrun."""
    started = []
    for rank, (name, folder, link) in enumerate(zip(hosts, folders, ("va", "vb"), strict=True)):
        folder.mkdir(exist_ok=True)
        host = ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh"]
        meeting = ["--nnodes=2", f"--node-rank={rank}", "--master-addr=10.77.0.1", f"--master-port={PORT}"]
        program = ["--nproc-per-node=1", "-m", "mlpx", *TRAINING, "--into", into]
        command = [*host, *launching.TORCHRUN, *meeting, *program]
        started.append(launching.start(command, folder, {"GLOO_SOCKET_IFNAME": link}))
    return started


def codes(processes: "Sequence[subprocess.Popen[str]]", seconds: float) -> list[int]:
    """How torchrun ends on each host, within so many seconds."""
    until = time.monotonic() + seconds
    try:
        for process in processes:
            process.communicate(timeout=max(0.1, until - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes]


def test_they_train_together_and_after_a_kill_go_on_bit_for_bit(hosts: list[str], tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    assert codes(start(hosts, folders, "undisturbed"), launching.SECONDS) == [0, 0]
    undisturbed = folders[0] / "undisturbed"
    document = document_of(undisturbed)
    assert (document["status"], document["processes"], document["hosts"]) == ("finished", 2, hosts)
    assert socket.gethostname() not in hosts
    assert not list(folders[1].iterdir())

    processes = start(hosts, folders, "here")
    rows = folders[0] / "here" / "metrics.csv"
    until = time.monotonic() + launching.SECONDS
    while not rows.exists() or rows.read_text().count("\n") < 2:
        assert time.monotonic() < until
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    os.kill(workers(processes[1].pid)[1], signal.SIGKILL)
    assert 0 not in codes(processes, ENDS_WITHIN)
    assert document_of(folders[0] / "here")["status"] == "failed"

    assert codes(start(hosts, folders, "here"), launching.SECONDS) == [0, 0]
    assert document_of(folders[0] / "here")["resumed_from_epoch"] != []
    assert outcome(folders[0] / "here") == outcome(undisturbed)
