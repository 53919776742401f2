"""A Slurm of two nodes on this machine: real daemons, on the loopback interface alone, in a folder of their own.

A job that was requeued starts again 6 s later. The controller keeps what happened to a job on disk only some 5 s later:
killed and started again before, it starts the job a second time, beside the first.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import environment

NODES = ("node1", "node2")
CPUS_PER_NODE = 2
MAX_ARRAY_SIZE = 4  # so the last task that an array may have is number 3
DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
MaxArraySize={max_array_size}
ReturnToService=2
KillWait=2
SlurmdTimeout=10
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} Gres=gpu:2 State=UNKNOWN
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
"""
# Two GPUs on each node, of which Slurm asks only that their files exist.
DEVICES = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"


class Job(NamedTuple):
    """A job, or a task of an array, that waits, runs or is about to end.

    ``name`` is what users type: ``5``, or ``5_2`` for a task. ``id`` is the number of its own that a task gets when it
    starts; the last one to start has that of the whole array. ``node`` is empty while the job waits.
    """

    name: str
    id: str
    state: str
    reason: str
    node: str


class Slurm:
    """A running cluster; ``env`` is the environment for ``sbatch`` and the like, and of what tests start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = environment(SLURM_CONF=str(folder / "slurm.conf"))
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start all daemons; returns when both nodes take jobs."""
        (self.folder / "state").mkdir()
        for node in NODES:
            (self.folder / node).mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        written = CONFIGURATION.format(
            folder=self.folder,
            host=socket.gethostname().partition(".")[0],
            ports=_free_ports(3),
            cpus=CPUS_PER_NODE,
            max_array_size=MAX_ARRAY_SIZE,
        )
        (self.folder / "slurm.conf").write_text(written)
        (self.folder / "gres.conf").write_text(DEVICES)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]
        # --force: munged may run as root, and may live in a folder below /tmp.
        self._start("munged", "--foreground", "--force", "--num-threads=2", *options)
        self._wait_for("munged", (self.folder / "munge.socket").exists)
        self.start_controller()
        for node in NODES:
            self.start_slurmd(node)
        states = ("sinfo", "--noheader", "--Node", "--format=%T")
        self._wait_for("both nodes", lambda: self.run(*states).stdout.split() == ["idle"] * len(NODES))

    def run(
        self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, such as ``sbatch``, in ``env`` or else in that of the cluster; it may fail.

        Without a controller, ``sbatch`` fails after 9 s.
        """
        return subprocess.run(words, env=env or self.env, cwd=cwd, text=True, capture_output=True, timeout=60)

    def submit(self, *words: str) -> str:
        """Run ``sbatch WORDS``, which must succeed; returns the job's number."""
        done = self.run("sbatch", "--parsable", *words)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def jobs(self) -> list[Job]:
        """All jobs that have not ended, with a row for each task of an array."""
        done = self.run("squeue", "--noheader", "--array", "--format=%i|%A|%T|%r|%N")
        assert done.returncode == 0, done
        return [Job(*line.split("|")) for line in done.stdout.splitlines()]

    def wait_until(self, holds: Callable[[list[Job]], bool], seconds: float) -> list[Job]:
        """Wait until ``holds`` is true of the jobs, which it returns."""
        end = time.monotonic() + seconds
        while not holds(jobs := self.jobs()):
            assert time.monotonic() < end, f"after {seconds} s: {jobs}\n{self.logs()}"
            time.sleep(0.1)
        return jobs

    def wait_until_empty(self, seconds: float) -> None:
        """Wait until all jobs have ended."""
        self.wait_until(lambda jobs: not jobs, seconds)

    def start_slurmd(self, node: str) -> None:
        """Start the daemon of a node."""
        self._start(node, "-D", "-N", node, program="slurmd")

    def kill_slurmd(self, node: str) -> None:
        """Kill the daemon of a node; its jobs live on, and the controller misses it after 20 to 40 s."""
        self._kill(node)

    def start_controller(self) -> None:
        """Start the controller, with the jobs that it knew before; returns when it answers."""
        self._start("slurmctld", "-D")
        self._wait_for("slurmctld", lambda: self.run("scontrol", "ping").returncode == 0)

    def kill_controller(self) -> None:
        """Kill the controller; what runs goes on."""
        self._kill("slurmctld")

    def logs(self) -> str:
        """The ends of the daemons' logs, for the message of a test that fails."""
        tails = {path.name: path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.log"))}
        return "\n".join(f"--- {name}\n{tail}" for name, tail in tails.items())

    def processes(self) -> list[int]:
        """All processes of this cluster: daemons, jobs, and what jobs have left behind.

        Slurm hands the path of its configuration on to all jobs, so it is in the environment of each of them.
        """
        mark = f"SLURM_CONF={self.env['SLURM_CONF']}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            # It may have ended in the meantime.
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def close(self) -> None:
        """Kill all daemons and all jobs."""
        for name in list(self._daemons):
            self._kill(name)
        end = time.monotonic() + 10
        while found := self.processes():
            assert time.monotonic() < end, f"processes {found} cannot be killed"
            for number in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.02)

    def _start(self, name: str, *options: str, program: str | None = None) -> None:
        with open(self.folder / f"{name}.out.log", "ab") as out:
            self._daemons[name] = subprocess.Popen(
                [program or name, *options],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _kill(self, name: str) -> None:
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def _wait_for(self, what: str, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not holds():
            ended = {name: daemon.returncode for name, daemon in self._daemons.items() if daemon.poll() is not None}
            assert not ended, f"{ended}\n{self.logs()}"
            assert time.monotonic() < end, f"no {what} after 20 s\n{self.logs()}"
            time.sleep(0.02)


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback interface, below those that the system hands out: a daemon that restarts finds its own."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            port = random.SystemRandom().randrange(10_000, 30_000)
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
    return ports


@contextlib.contextmanager
def cluster() -> Iterator[Slurm]:
    """A cluster; in the end neither a process nor a file of it is left. Skips where Slurm is not installed."""
    if missing := [name for name in DAEMONS if shutil.which(name) is None]:
        pytest.skip(f"no {', '.join(missing)}: install slurmctld, slurmd, slurm-client and munge")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons must be started by root")
    # A short path: that of a socket may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
        slurm = Slurm(Path(folder))
        try:
            slurm.start()
            yield slurm
        finally:
            slurm.close()
