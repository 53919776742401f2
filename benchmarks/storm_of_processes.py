r"""Disturb a training of several processes at random moments, go on with it, and compare it with an undisturbed one.

    unshare --net sh -c 'ip link set lo up && exec "$@"' sh \
        python benchmarks/storm_of_processes.py --by kill --times 20 -- transformer --epochs 4 --num-train 2000

torchrun's store listens on every interface; hence the network of its own. The words after ``--`` are a training of the
Transformer. Signals go to torchrun, to the first process, to another one, or to all three at once, in turns. With
``--by``:

- kill: SIGKILL;
- term, int: SIGTERM or SIGINT, after which the run must have been saved, and be ``interrupted`` or have finished.

Fifteen seconds later no process may be left. Then the same command must complete the run, and the weights must have the
same bytes, and ``metrics.csv`` the same rows but for what a clock measures. Exits 1 if anything differs.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from kill_storm_sweeps import outcome

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
VICTIMS = ("torchrun", "the first", "another", "all")
ENDS_WITHIN = 15.0


def workers(torchrun: int) -> list[int]:
    """The processes that torchrun has started, by rank."""
    found = {}
    for number in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split():
        try:
            variables = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        found.update({int(each[5:]): int(number) for each in variables if each.startswith(b"RANK=")})
    return [found[rank] for rank in sorted(found)]


def start(command: list[str], run: Path) -> "subprocess.Popen[bytes]":
    """Start a training, and wait until its run folder is there."""
    process = subprocess.Popen([*command, "--into", str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (run / "config.toml").exists():
        time.sleep(0.001)
    return process


def disturb(process: "subprocess.Popen[bytes]", victim: str, signum: int) -> str:
    """Send the signal, wait, and say what is wrong; empty where nothing is."""
    processes = workers(process.pid)
    targets = {"torchrun": [process.pid], "the first": processes[:1], "another": processes[-1:]}
    for target in targets.get(victim, [process.pid, *processes]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(target, signum)
    until = time.monotonic() + ENDS_WITHIN
    while time.monotonic() < until:
        left = [number for number in processes if Path(f"/proc/{number}").exists()]
        if process.poll() is not None and not left:
            return ""
        time.sleep(0.02)
    for number in (process.pid, *processes):
        subprocess.run(["kill", "-9", str(number)], stderr=subprocess.DEVNULL, check=False)
    process.wait()
    return f"{len(left)} processes are left, torchrun {'lives' if process.returncode is None else 'has ended'}"


def main() -> None:
    """Disturb and go on, and print how many are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--by", choices=SIGNALS, default="kill")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--checkpoint-every", default="0.2")
    parser.add_argument("arguments", nargs="+")
    options = parser.parse_args()
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={options.processes}", "-m", "mlpx"]
    command = [*torchrun, *options.arguments, "--quiet", "--checkpoint-every", options.checkpoint_every]
    moments, signum = random.Random(options.seed), SIGNALS[options.by]  # noqa: S311
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    equal = 0
    codes: dict[str, Counter[int]] = {victim: Counter() for victim in VICTIMS}
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder) / "undisturbed"
        process = start(command, undisturbed)
        began = time.monotonic()
        if process.wait() != 0:
            sys.exit(f"the undisturbed training ended with {process.returncode}")
        duration = time.monotonic() - began
        expected = outcome(undisturbed)
        print(f"undisturbed: {duration:.2f} s, {len(expected[1])} rows", flush=True)
        for number in range(options.times):
            run = Path(folder) / str(number)
            victim = VICTIMS[number % len(VICTIMS)]
            process = start(command, run)
            moment = moments.uniform(0, duration)
            status, wrong = "", ""
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                wrong = disturb(process, victim, signum)
                status = json.loads((run / "run.json").read_text())["status"] if (run / "run.json").exists() else ""
                codes[victim][process.returncode] += 1
                if options.by != "kill" and status not in ("interrupted", "finished"):
                    wrong = wrong or f"its status is {status!r}"
            again = subprocess.run([*command, "--into", str(run)], capture_output=True, text=True, check=False)
            if again.returncode != 0:
                wrong = wrong or f"going on ended with {again.returncode}: {again.stderr[-500:]}"
            elif outcome(run) != expected:
                wrong = wrong or "DIFFERENT"
            epochs = json.loads((run / "run.json").read_text())["resumed_from_epoch"]
            equal += not wrong
            print(
                f"{number:3}: {options.by} to {victim} after {moment:.2f} s: {status or 'no status'}, "
                f"resumed from epoch {epochs}: {wrong or 'equal'}",
                flush=True,
            )
    print(f"{equal} of {options.times} equal")
    for victim, counted in codes.items():
        print(f"torchrun's exit codes after a signal to {victim}: {dict(counted)}")
    sys.exit(equal != options.times)


if __name__ == "__main__":
    main()
